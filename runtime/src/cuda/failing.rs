//! The emulated GPU, told to fail: what a session then says, and that it never waits for ever.

use super::emulated::EmulatedGpu;
use super::{Event, Gpu, GpuError, OpenGpu, Pinned, Properties, Replay, Stream};
use crate::device::Device;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind};
use crate::exec::Interrupt;
use crate::{RunOptions, Session, Tensor};
use recurve_kernels::emulator::Options;
use recurve_kernels::launch::Launch;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What goes wrong from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Failure {
    /// Nothing.
    None,
    /// There is no memory left.
    Memory,
    /// The driver refuses launches.
    Launch,
    /// A kernel fails while it runs: a sticky error, which every later call gives again.
    Sticky,
    /// Work never ends, and no call says so.
    Stuck,
}

#[derive(Debug)]
struct FailingGpu {
    inner: EmulatedGpu,
    told: Told,
}

#[derive(Clone, Debug)]
pub(super) struct Told(Arc<Mutex<Failure>>);

impl Told {
    fn is(&self, failure: Failure) -> bool {
        *self.0.lock().expect("no test panics inside") == failure
    }

    pub(super) fn fail(&self, failure: Failure) {
        *self.0.lock().expect("no test panics inside") = failure;
    }

    fn check(&self) -> Result<(), GpuError> {
        let lost = || GpuError::Lost { problem: "CUDA_ERROR_ILLEGAL_ADDRESS".into() };
        if self.is(Failure::Sticky) { Err(lost()) } else { Ok(()) }
    }
}

impl Gpu for FailingGpu {
    fn properties(&self) -> &Properties {
        self.inner.properties()
    }

    fn free_memory(&self) -> Result<usize, GpuError> {
        self.told.check()?;
        self.inner.free_memory()
    }

    fn allocate(&self, bytes: usize) -> Result<u64, GpuError> {
        self.told.check()?;
        if self.told.is(Failure::Memory) {
            return Err(GpuError::OutOfMemory { requested: bytes, free: 0 });
        }
        self.inner.allocate(bytes)
    }

    fn release(&self, address: u64) {
        self.inner.release(address);
    }

    fn pinned(&self, bytes: usize) -> Result<Box<dyn Pinned>, GpuError> {
        self.told.check()?;
        self.inner.pinned(bytes)
    }

    fn stream(&self) -> Result<Box<dyn Stream>, GpuError> {
        self.told.check()?;
        Ok(Box::new(FailingStream { inner: self.inner.stream()?, told: self.told.clone() }))
    }

    fn resident_blocks(&self, launch: &dyn Launch) -> Result<u32, GpuError> {
        self.inner.resident_blocks(launch)
    }
}

#[derive(Debug)]
struct FailingStream {
    inner: Box<dyn Stream>,
    told: Told,
}

impl Stream for FailingStream {
    fn copy(&mut self, to: u64, from: u64, bytes: usize) -> Result<(), GpuError> {
        self.told.check()?;
        self.inner.copy(to, from, bytes)
    }

    fn launch(&mut self, launch: &Arc<dyn Launch>) -> Result<(), GpuError> {
        if self.told.is(Failure::Launch) {
            let problem = "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES".into();
            return Err(GpuError::Launch { kernel: launch.kernel().entry.to_owned(), problem });
        }
        // A kernel that fails does so behind the call that launched it.
        self.inner.launch(launch)
    }

    fn record(&mut self) -> Result<Box<dyn Event>, GpuError> {
        self.told.check()?;
        self.inner.record()
    }

    fn wait(&mut self, event: &dyn Event) -> Result<(), GpuError> {
        self.inner.wait(event)
    }

    fn capture(
        &mut self,
        work: &mut dyn FnMut(&mut dyn Stream) -> Result<(), GpuError>,
    ) -> Result<Box<dyn Replay>, GpuError> {
        self.inner.capture(work)
    }

    fn replay(&mut self, graph: &dyn Replay) -> Result<(), GpuError> {
        self.inner.replay(graph)
    }

    fn finish(&mut self, interrupt: &Interrupt) -> Result<(), GpuError> {
        while self.told.is(Failure::Stuck) {
            interrupt.check().map_err(|_| GpuError::Interrupted)?;
            std::thread::sleep(Duration::from_millis(1));
        }
        self.told.check()?;
        self.inner.finish(interrupt)
    }
}

/// An emulated GPU, and what tells it to fail.
pub(super) fn failing_gpu() -> (OpenGpu, Told) {
    let told = Told(Arc::new(Mutex::new(Failure::None)));
    let inner = EmulatedGpu::new(1 << 30, Options::CHECKED);
    let gpu = OpenGpu::new(Box::new(FailingGpu { inner, told: told.clone() }), usize::MAX);
    (gpu, told)
}

/// A session on a GPU that can be told to fail.
fn session() -> (Session, Told) {
    const MODEL: &[u8] =
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/models/lstm.onnx"));
    let (gpu, told) = failing_gpu();
    let engine = Engine::builder().with_threads(1).build().expect("an engine");
    engine.use_gpu(Device::Emulated, gpu);
    let builder = Session::builder().with_engine(&engine).with_device(Device::Emulated);
    (builder.load_bytes(MODEL).expect("loads"), told)
}

fn run(session: &Session, options: &RunOptions) -> Result<(), Error> {
    let floats = |shape: &[usize]| {
        let count = shape.iter().product::<usize>();
        Tensor::new(shape, (0..count).map(|i| i as f32 / 30.0 - 0.5).collect()).expect("a tensor")
    };
    let lengths = Tensor::new(&[2], vec![3i32, 2]).expect("a tensor");
    let (x, h, c) = (floats(&[3, 2, 3]), floats(&[2, 2, 5]), floats(&[2, 2, 5]));
    session.run_with([("x", &x), ("lengths", &lengths), ("h", &h), ("c", &c)], options).map(drop)
}

/// What the GPU's error is, with its words, which say what to do.
fn gpu_error(result: Result<(), Error>) -> (GpuError, String) {
    match result {
        Err(error @ Error::Gpu { .. }) => {
            assert_eq!(error.kind(), ErrorKind::Device);
            let Error::Gpu { source, .. } = error else { unreachable!("matched") };
            let words = source.to_string();
            (source, words)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn memory_that_does_not_suffice_is_an_error_and_the_session_goes_on_where_there_is_some_again() {
    let (session, told) = session();
    told.fail(Failure::Memory);
    let (error, words) = gpu_error(run(&session, &RunOptions::default()));
    assert!(matches!(error, GpuError::OutOfMemory { free: 0, .. }), "{words}");
    told.fail(Failure::None);
    run(&session, &RunOptions::default()).expect("there is memory again");
}

#[test]
fn a_launch_that_is_refused_names_the_kernel_and_the_session_goes_on() {
    let (session, told) = session();
    told.fail(Failure::Launch);
    let (error, words) = gpu_error(run(&session, &RunOptions::default()));
    assert!(matches!(&error, GpuError::Launch { kernel, .. } if !kernel.is_empty()), "{words}");
    told.fail(Failure::None);
    run(&session, &RunOptions::default()).expect("the next launches are not refused");
}

#[test]
fn a_lost_gpu_is_an_error_of_every_run_and_nothing_waits_for_it() {
    let (session, told) = session();
    run(&session, &RunOptions::default()).expect("runs");
    told.fail(Failure::Sticky);
    let start = Instant::now();
    for _ in 0..2 {
        let (error, words) = gpu_error(run(&session, &RunOptions::default()));
        assert!(matches!(error, GpuError::Lost { .. }), "{words}");
        assert!(words.contains("start the process again, or run on the CPU"), "{words}");
    }
    drop(session);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn work_that_never_ends_ends_with_the_deadline_and_the_session_can_be_dropped() {
    let (session, told) = session();
    run(&session, &RunOptions::default()).expect("runs");
    told.fail(Failure::Stuck);
    let short = RunOptions::default().with_timeout(Duration::from_millis(50));
    for _ in 0..2 {
        let ended = run(&session, &short);
        assert!(matches!(ended, Err(Error::Deadline)), "{ended:?}");
    }
    let start = Instant::now();
    drop(session);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}
