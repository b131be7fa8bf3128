//! Models on the emulated GPU give the CPU's answers; what cannot run there is refused by name.

use recurve::{Device, Engine, ErrorKind, Fusion, RunOptions, Session, Tensor};
use recurve_tests::wire::{Extent, code, floats, graph, model, node, untyped, value};
use std::time::Instant;

/// Values from −1 to 1 that `seed` determines.
fn drawn(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// `softmax(relu(x · w₁ + b₁) · w₂)`, a mean over the rows of it, and the first matrix turned around.
fn perceptron() -> Vec<u8> {
    let constants = [
        floats("w1", &[19, 33], &drawn(1, 19 * 33)),
        floats("b1", &[33], &drawn(2, 33)),
        floats("w2", &[33, 7], &drawn(3, 33 * 7)),
    ];
    let nodes = [
        node("MatMul", &["x", "w1"], &["a"]),
        node("Add", &["a", "b1"], &["b"]),
        node("Relu", &["b"], &["c"]),
        node("MatMul", &["c", "w2"], &["d"]),
        node("Softmax", &["d"], &["y"]).with_int("axis", -1),
        node("ReduceSum", &["y"], &["sum"]).with_int("keepdims", 0),
        node("Transpose", &["a"], &["turned"]),
    ];
    let inputs = [value("x", code::F32, &[Extent::Name("rows"), Extent::N(19)])];
    let outputs = [untyped("y"), untyped("sum"), untyped("turned")];
    model(&graph(&inputs, &outputs, &nodes, &constants)).into_bytes()
}

#[test]
fn a_perceptron_gives_the_answers_of_the_cpu() {
    for fusion in [Fusion::On, Fusion::Off] {
        let load = |device| {
            let builder = Session::builder().with_fusion(fusion).with_device(device);
            builder.load_bytes(perceptron()).expect("loads")
        };
        let (cpu, gpu) = (load(Device::Cpu), load(Device::Emulated));
        // One row and a few are few vectors, more are a matrix; shapes come back.
        for rows in [1, 3, 16, 17, 40, 1] {
            let x = Tensor::new(&[rows, 19], drawn(rows as u64 + 7, rows * 19)).expect("a tensor");
            let want = cpu.run([("x", &x)]).expect("runs on the CPU");
            for _ in 0..2 {
                let got = gpu.run([("x", &x)]).expect("runs on the emulated GPU");
                for name in ["y", "sum", "turned"] {
                    let (got, want) = (got.tensor(name).expect("there"), want.tensor(name).expect("there"));
                    assert_eq!(got.shape(), want.shape());
                    let pairs =
                        got.as_slice::<f32>().expect("f32").iter().zip(want.as_slice::<f32>().expect("f32"));
                    for (got, want) in pairs {
                        assert!((got - want).abs() <= 1e-5 * (1.0 + want.abs()), "{name}: {got} for {want}");
                    }
                }
            }
        }
        assert!(gpu.engine().gpu_memory_used(Device::Emulated) > 0);
    }
}

#[test]
fn nodes_without_a_kernel_are_refused_by_name() {
    let nodes = [node("TopK", &["x", "k"], &["values", "places"]).named("best")];
    let k = recurve_tests::wire::ints("k", &[1], &[2]);
    let inputs = [value("x", code::F32, &[Extent::N(5)])];
    let bytes = model(&graph(&inputs, &[untyped("values")], &nodes, &[k])).into_bytes();
    let session = Session::builder().with_device(Device::Emulated).load_bytes(bytes).expect("loads");
    let x = Tensor::new(&[5], vec![1f32; 5]).expect("a tensor");
    let error = session.run([("x", &x)]).expect_err("no kernel");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("`best` (TopK"), "{error}");
}

#[test]
fn limits_of_gpu_memory_and_time_hold() {
    let engine = Engine::builder().with_threads(1).with_gpu_memory_limit(4 << 10).build().expect("an engine");
    let session =
        Session::builder().with_engine(&engine).with_device(Device::Emulated).load_bytes(perceptron());
    let session = session.expect("loads");
    let x = Tensor::new(&[40, 19], drawn(1, 40 * 19)).expect("a tensor");
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
