//! The emulated GPU told to fail while plans use it beside the CPU: typed errors, sessions that go on, and, where that is
//! allowed, plans without it.

use super::OpenGpu;
use super::watched::{Failure, Told, WatchedGpu};
use crate::device::{Device, Fallback};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind};
use crate::gpu::GpuError;
use crate::testing::random_plan;
use crate::{Outputs, RunOptions, Session, Tensor};
use std::time::{Duration, Instant};

const REFUSED: Failure = Failure::Launch("CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES");
const MODEL: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));

/// A session that follows a plan of which some steps run on a GPU that can be told to fail.
fn session(fallback: Fallback) -> (Session, Told) {
    let (gpu, told) = WatchedGpu::new(1 << 30);
    let engine = Engine::builder().with_threads(2).build().expect("an engine");
    engine.use_gpu(Device::Emulated, OpenGpu::new(Box::new(gpu), usize::MAX));
    let devices = "cpu,emulated".parse().expect("devices");
    let builder = Session::builder().with_engine(&engine).with_devices(devices).with_fallback(fallback);
    let session = builder.load_bytes(MODEL).expect("loads");
    let shapes = [("question", &[3, 1][..]), ("h", &[1, 1, 128]), ("c", &[1, 1, 128])];
    let plans = (0..50).map(|seed| random_plan(&session, shapes, seed).expect("a plan"));
    let mixed = plans.filter(|plan| {
        plan.device.as_ref().is_some_and(|d| !d.steps.is_empty() && d.steps.len() < plan.steps.len())
    });
    let most = mixed.max_by_key(|plan| plan.device.as_ref().map(|d| d.steps.len()));
    session.follow(&most.expect("one that uses both")).expect("valid");
    (session, told)
}

fn run(session: &Session, options: &RunOptions) -> Result<Outputs, Error> {
    let question = Tensor::new(&[3, 1], vec![2i64, 10, 2]).expect("a tensor");
    let state = Tensor::new(&[1, 1, 128], vec![0f32; 128]).expect("a tensor");
    session.run_with([("question", &question), ("h", &state), ("c", &state)], options)
}

fn answer(outputs: &Outputs) -> Vec<i64> {
    outputs.tensor("answer").expect("there").to_vec::<i64>().expect("integers")
}

#[test]
fn a_failure_of_the_gpu_ends_the_run_with_its_error() {
    for (failure, goes_on) in [(REFUSED, true), (Failure::Sticky, false)] {
        let (session, told) = session(Fallback::Deny);
        // What ran once is captured, and a graph's launches are not refused one by one.
        if failure != REFUSED {
            assert_eq!(answer(&run(&session, &RunOptions::default()).expect("runs")), [4, 11, 11, 11, 11]);
        }
        told.fail(failure);
        let error = run(&session, &RunOptions::default()).expect_err("it fails");
        assert_eq!(error.kind(), ErrorKind::Device, "{error:?}");
        told.recover();
        if goes_on {
            assert_eq!(answer(&run(&session, &RunOptions::default()).expect("runs")), [4, 11, 11, 11, 11]);
        }
        assert!(session.lost_device().is_none());
    }
}

#[test]
fn whichever_launch_is_refused_the_run_ends_with_that_and_the_next_goes_on() {
    let right = [4, 11, 11, 11, 11];
    let mut refused = 0;
    loop {
        // The first run launches one by one.
        let (session, told) = session(Fallback::Deny);
        told.fail_behind(REFUSED, refused);
        match run(&session, &RunOptions::default()) {
            Ok(outputs) => {
                assert_eq!(answer(&outputs), right);
                break;
            }
            Err(error) => assert!(
                matches!(&error, Error::Gpu { source: GpuError::Launch { kernel, .. }, .. } if !kernel.is_empty()),
                "launch {refused}: {error:?}"
            ),
        }
        told.recover();
        assert_eq!(answer(&run(&session, &RunOptions::default()).expect("runs")), right, "launch {refused}");
        refused += 1;
    }
    assert!(refused >= 3, "{refused} launches");
}

#[test]
fn a_lost_gpu_is_done_without_where_that_is_allowed_and_is_reported() {
    let (session, told) = session(Fallback::Cpu);
    told.fail(Failure::Sticky);
    for _ in 0..3 {
        assert_eq!(answer(&run(&session, &RunOptions::default()).expect("runs")), [4, 11, 11, 11, 11]);
    }
    let lost = session.lost_device().expect("reported");
    assert!(lost.device == Device::Emulated && matches!(lost.error, GpuError::Lost { .. }), "{lost:?}");
}

#[test]
fn a_gpu_that_stalls_ends_with_the_deadline_and_the_session_can_be_dropped() {
    let (session, told) = session(Fallback::Deny);
    told.fail(Failure::Stuck);
    let short = RunOptions::default().with_timeout(Duration::from_millis(50));
    let ended = run(&session, &short);
    assert!(matches!(ended, Err(Error::Deadline)), "{ended:?}");
    let start = Instant::now();
    drop(session);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn memory_that_does_not_suffice_is_an_error_when_the_plan_is_first_run() {
    let (session, told) = session(Fallback::Deny);
    told.fail(Failure::Memory);
    let error = run(&session, &RunOptions::default()).expect_err("it fails");
    assert!(matches!(error, Error::Gpu { source: GpuError::OutOfMemory { .. }, .. }), "{error:?}");
    told.recover();
    assert_eq!(answer(&run(&session, &RunOptions::default()).expect("runs")), [4, 11, 11, 11, 11]);
}

#[test]
fn a_worker_that_panics_ends_the_run_for_all_and_the_session_goes_on() {
    let (session, told) = session(Fallback::Deny);
    for _ in 0..2 {
        // The first run launches one by one; what is captured is replayed, and launches no more.
        told.fail(Failure::Panic);
        let error = run(&session, &RunOptions::default()).expect_err("it fails");
        assert_eq!(error.kind(), ErrorKind::Internal, "{error:?}");
        assert!(error.to_string().contains("panicked"), "{error}");
        told.recover();
    }
    for _ in 0..2 {
        assert_eq!(answer(&run(&session, &RunOptions::default()).expect("runs")), [4, 11, 11, 11, 11]);
    }
    assert!(session.lost_device().is_none(), "the GPU is not to blame");
}
