//! Drills: a GPU that fails, at any point of a run, is an error of a type that says what to do; nothing waits for it for
//! ever, and what can go on goes on.

use super::watched::{Failure, Told, WatchedGpu};
use super::{GpuError, OpenGpu};
use crate::device::Device;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind};
use crate::{Outputs, RunOptions, Session, Tensor};
use std::time::{Duration, Instant};

/// How long a drill may take: what waits for ever takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/models/lstm.onnx"));

/// An engine with a GPU that does what it is told.
fn engine() -> (Engine, Told) {
    let (gpu, told) = WatchedGpu::new(1 << 30);
    let engine = Engine::builder().with_threads(1).build().expect("an engine");
    engine.use_gpu(Device::Emulated, OpenGpu::new(Box::new(gpu), usize::MAX));
    (engine, told)
}

fn load(engine: &Engine, device: Device) -> Result<Session, Error> {
    Session::builder().with_engine(engine).with_device(device).load_bytes(MODEL)
}

/// A session on a GPU that does what it is told.
fn session() -> (Session, Told) {
    let (engine, told) = engine();
    (load(&engine, Device::Emulated).expect("loads"), told)
}

fn run(session: &Session, options: &RunOptions) -> Result<Outputs, Error> {
    let floats = |shape: &[usize]| {
        let count = shape.iter().product::<usize>();
        Tensor::new(shape, (0..count).map(|i| i as f32 / 30.0 - 0.5).collect()).expect("a tensor")
    };
    let lengths = Tensor::new(&[2], vec![3i32, 2]).expect("a tensor");
    let (x, h, c) = (floats(&[3, 2, 3]), floats(&[2, 2, 5]), floats(&[2, 2, 5]));
    session.run_with([("x", &x), ("lengths", &lengths), ("h", &h), ("c", &c)], options)
}

/// The bytes of all outputs of a run that goes well.
fn results(session: &Session) -> Vec<Vec<u8>> {
    let outputs = run(session, &RunOptions::default()).expect("runs");
    outputs.iter().map(|(_, value)| value.as_tensor().expect("a tensor").bytes().to_vec()).collect()
}

/// What the GPU's error is, with its words, which say what to do.
fn gpu_error<T: std::fmt::Debug>(result: Result<T, Error>) -> (GpuError, String) {
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
fn memory_that_ends_at_any_allocation_is_an_error_and_the_session_goes_on_where_there_is_some_again() {
    let (session, told) = session();
    let want = results(&session);
    let all = told.allocations();
    assert!(all >= 2, "weights and an arena");
    for spared in 0..all {
        let (engine, told) = engine();
        told.fail_behind(Failure::Memory, spared);
        // Weights are uploaded when the model is loaded, the arena comes with the first run.
        let session = match load(&engine, Device::Emulated) {
            Ok(session) => {
                let (error, words) = gpu_error(run(&session, &RunOptions::default()));
                assert!(matches!(error, GpuError::OutOfMemory { free: 0, .. }), "{spared}: {words}");
                told.recover();
                session
            }
            Err(error) => {
                let (error, words) = gpu_error::<()>(Err(error));
                assert!(matches!(error, GpuError::OutOfMemory { free: 0, .. }), "{spared}: {words}");
                told.recover();
                load(&engine, Device::Emulated).expect("there is memory again")
            }
        };
        assert_eq!(results(&session), want, "{spared}");
    }
}

#[test]
fn a_refusal_of_any_launch_names_the_kernel_and_the_session_goes_on() {
    let (first, told) = session();
    let want = results(&first);
    let all = told.launches();
    assert!(all >= 3, "{all}");
    for word in ["CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "CUDA_ERROR_OUT_OF_MEMORY"] {
        for spared in 0..all {
            let (session, told) = session();
            told.fail_behind(Failure::Launch(word), spared);
            let (error, words) = gpu_error(run(&session, &RunOptions::default()));
            assert!(matches!(&error, GpuError::Launch { kernel, .. } if !kernel.is_empty()), "{words}");
            assert!(words.contains(word), "{words}");
            assert_eq!(told.launches(), spared + 1, "nothing is launched behind the refusal");
            told.recover();
            assert_eq!(results(&session), want, "{spared}");
        }
    }
    told.fail(Failure::Launch("CUDA_ERROR_OUT_OF_MEMORY"));
    assert_eq!(results(&first), want, "what was captured is replayed, and launches nothing anew");
}

#[test]
fn a_gpu_that_is_lost_at_any_launch_is_an_error_of_every_run_and_nothing_waits_for_it() {
    let (first, told) = session();
    results(&first);
    let all = told.launches();
    let start = Instant::now();
    for spared in 0..=all {
        let (engine, told) = engine();
        let session = load(&engine, Device::Emulated).expect("loads");
        told.fail_behind(Failure::Sticky, spared);
        for _ in 0..2 {
            let (error, words) = gpu_error(run(&session, &RunOptions::default()));
            assert!(matches!(error, GpuError::Lost { .. }), "{words}");
            assert!(words.contains("start the process again, or run on the CPU"), "{words}");
        }
        let (error, words) = gpu_error(load(&engine, Device::Emulated));
        assert!(matches!(error, GpuError::Lost { .. }), "{words}");
        // The engine's other sessions do not know.
        results(&load(&engine, Device::Cpu).expect("loads on the CPU"));
        drop(session);
    }
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
}

#[test]
fn work_that_stalls_ends_with_the_deadline_and_the_session_can_be_dropped() {
    let (session, told) = session();
    let want = results(&session);
    told.fail(Failure::Stuck);
    let short = RunOptions::default().with_timeout(Duration::from_millis(50));
    for _ in 0..2 {
        let ended = run(&session, &short);
        assert!(matches!(ended, Err(Error::Deadline)), "{ended:?}");
    }
    told.recover();
    assert_eq!(results(&session), want, "what stalled has ended");
    told.fail(Failure::Stuck);
    run(&session, &short).expect_err("stalled again");
    let start = Instant::now();
    drop(session);
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
}
