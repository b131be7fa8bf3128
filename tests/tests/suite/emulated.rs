//! Models on the emulated GPU give the CPU's answers, operators their references'; what cannot run there is refused by
//! name.

use recurve::gpu::GpuError;
use recurve::testing::gpu::TestGpu;
use recurve::{Device, Engine, Error, ErrorKind, RunOptions, Session, SessionBuilder, Tensor};
use recurve_tests::gpu::{Chosen, Guarded, ModelCase, Tally, kernels, models, operators_on, run_model};
use recurve_tests::wire::{Extent, code, graph, model, node, untyped, value};
use std::time::{Duration, Instant};

/// The model of this name, of those that run on a GPU, too.
fn named(name: &str) -> ModelCase {
    models(1).into_iter().find(|case| case.name == name).expect("a model")
}

fn perceptron() -> Vec<u8> {
    named("perceptron").bytes
}

/// 40 rows of input.
fn rows() -> Tensor {
    Tensor::new(&[40, 19], (0..40 * 19).map(|i| (i % 17) as f32 / 17.0 - 0.5).collect()).expect("a tensor")
}

/// The name of a model, and whether it has kernels for everything.
fn answers_of_the_cpu(name: &str, supported: bool) {
    let tally = run_model(&named(name), Device::Emulated, 1);
    assert_eq!(tally.failed, 0, "{:?}", tally.failures);
    assert_eq!((tally.passed > 0, tally.refused == 0), (supported, supported), "{}", tally.line());
}

#[test]
fn a_perceptron_gives_the_answers_of_the_cpu() {
    answers_of_the_cpu("perceptron", true);
}

#[test]
fn an_attention_gives_the_answers_of_the_cpu() {
    answers_of_the_cpu("attention", true);
}

#[test]
fn a_normalisation_gives_the_answers_of_the_cpu() {
    answers_of_the_cpu("layer normalisation", true);
}

#[test]
fn a_map_gives_the_answers_of_the_cpu() {
    answers_of_the_cpu("map", true);
}

#[test]
fn operators_give_the_answers_of_their_references() {
    let builder = || Session::builder().with_threads(1).with_device(Device::Emulated);
    let mut ran = Vec::new();
    let names = ["Add", "MatMul", "Sigmoid", "Softmax", "Where"].map(str::to_owned);
    let time = Duration::from_mins(10);
    let ended = operators_on(&builder, 1, 6, &names, time, &mut |tally| ran.push(tally));
    assert_eq!(ended, None);
    for tally in &ran {
        assert_eq!(tally.failed, 0, "{}: {:?}", tally.suite, tally.failures);
    }
    assert!(ran.len() >= names.len(), "{:?}", ran.iter().map(Tally::line).collect::<Vec<_>>());
}

#[test]
fn kernels_run_through_the_runtimes_device() {
    let gpu = TestGpu::open(Device::Emulated, None).expect("always there");
    let mut machine = Guarded::new(gpu);
    let chosen = Chosen { cases: Some(1), suites: Vec::new(), after: Some("lstm".into()), only: None };
    let mut ran = Vec::new();
    let ended = kernels(&mut machine, 5, &chosen, &mut |tally| ran.push(tally));
    assert_eq!(ended, None);
    assert!(ran.len() >= 8, "{}", ran.len());
    for tally in ran {
        assert_eq!(
            (tally.passed, tally.refused, tally.failed),
            (1, 0, 0),
            "{}: {:?}",
            tally.suite,
            tally.failures
        );
    }
}

#[test]
fn nodes_without_a_kernel_are_refused_by_name() {
    let nodes = [node("ReduceL2", &["x"], &["y"]).named("root")];
    let inputs = [value("x", code::I64, &[Extent::N(1), Extent::N(5)])];
    let bytes = model(&graph(&inputs, &[untyped("y")], &nodes, &[])).into_bytes();
    // The shape is the model's: there is no run to wait for.
    let error = Session::builder().with_device(Device::Emulated).load_bytes(bytes).expect_err("no kernel");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("`root` (ReduceL2"), "{error}");
    let inputs = [value("x", code::I64, &[Extent::Name("n"), Extent::N(5)])];
    let bytes = model(&graph(&inputs, &[untyped("y")], &nodes, &[])).into_bytes();
    let session = Session::builder().with_device(Device::Emulated).load_bytes(bytes).expect("loads");
    let x = Tensor::new(&[1, 5], vec![1i64; 5]).expect("a tensor");
    let error = session.run([("x", &x)]).expect_err("no kernel");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("`root` (ReduceL2"), "{error}");
}

#[test]
fn limits_of_gpu_memory_and_time_hold() {
    let engine = Engine::builder().with_threads(1).with_gpu_memory_limit(4 << 10).build().expect("an engine");
    let session =
        Session::builder().with_engine(&engine).with_device(Device::Emulated).load_bytes(perceptron());
    let session = session.expect("loads");
    let x = rows();
    let error = session.run([("x", &x)]).expect_err("more than 4 KiB");
    assert_eq!(error.kind(), ErrorKind::Device);
    assert!(engine.gpu_memory_peak(Device::Emulated) <= 4 << 10);
    let session = Session::builder().with_device(Device::Emulated).load_bytes(perceptron()).expect("loads");
    session.run([("x", &x)]).expect("fits");
    let late = RunOptions::default().with_deadline(Instant::now());
    let error = session.run_with([("x", &x)], &late).expect_err("no time");
    assert_eq!(error.kind(), ErrorKind::Deadline);
    session.run([("x", &x)]).expect("the session goes on");
}

#[test]
fn a_limit_of_the_session_holds_beside_the_engines() {
    let on = |engine: &Engine, limit: Option<usize>| {
        let builder = Session::builder().with_engine(engine).with_device(Device::Emulated);
        let builder = limit.into_iter().fold(builder, SessionBuilder::with_gpu_memory_limit);
        builder.load_bytes(perceptron()).expect("loads: its shapes are not known yet")
    };
    let engine = Engine::builder().with_threads(1).build().expect("an engine");
    let bytes_for = |x: &Tensor| {
        let session = on(&engine, None);
        session.run([("x", x)]).expect("fits");
        let taken = session.gpu_use().expect("bound");
        (taken.weights + taken.activations + taken.workspace) as usize
    };
    let refused_for = |session: &Session, bound: usize| match session.run([("x", &rows())]) {
        Err(Error::Gpu { device: Device::Emulated, source: GpuError::Limit { requested, limit } }) => {
            assert!(requested > 0 && limit == bound, "{requested} of {limit} bytes");
        }
        other => panic!("{other:?}"),
    };
    let answer = |session: &Session| {
        let outputs = session.run([("x", &rows())]).expect("fits");
        outputs.iter().filter_map(|(_, y)| y.as_tensor()?.to_vec::<f32>()).flatten().collect::<Vec<f32>>()
    };
    let all = bytes_for(&rows());
    let expected = answer(&on(&engine, None));
    let tight = on(&engine, Some(all));
    assert_eq!(answer(&tight), expected);
    refused_for(&on(&engine, Some(all - 1)), all - 1);
    // The lower limit is the one that counts, whosever it is.
    let small = Engine::builder().with_threads(1).with_gpu_memory_limit(all - 1).build().expect("an engine");
    refused_for(&on(&small, Some(all)), all - 1);
    refused_for(&on(&small, Some(all - 512)), all - 512);
    // What other shapes hold makes room, and what is packed for all of them stays.
    let few = Tensor::new(&[30, 19], vec![0.25f32; 30 * 19]).expect("a tensor");
    assert!(all < 2 * bytes_for(&few), "both do not fit at once");
    for _ in 0..3 {
        tight.run([("x", &few)]).expect("by itself");
        assert_eq!(answer(&tight), expected);
    }
}
