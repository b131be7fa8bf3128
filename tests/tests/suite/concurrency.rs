//! One session from many threads, many sessions on one engine, and runs that allocate nothing.

use crate::allocations::allocations_of;
use crate::hostile::endless;
use recurve::settings::Pinning;
use recurve::values::Bool;
use recurve::{Engine, RunOptions, Session, Tensor, TensorMut, TensorView};
use recurve_tests::wire::{Extent, Message, code, fixed, floats, graph, ints, model, node, untyped, value};
use std::time::Duration;

/// Two products with a nonlinearity between, of `rows` rows.
fn perceptron(rows: Extent<'_>) -> Vec<u8> {
    let weight = |name: &str, seed: usize| {
        let data: Vec<f32> = (0..64 * 64).map(|i| ((i * 37 + seed) % 19) as f32 / 19.0 - 0.5).collect();
        floats(name, &[64, 64], &data)
    };
    let nodes = [
        node("MatMul", &["x", "w1"], &["a"]),
        node("Tanh", &["a"], &["b"]),
        node("MatMul", &["b", "w2"], &["c"]),
        node("Add", &["c", "x"], &["y"]),
    ];
    let inputs = [value("x", code::F32, &[rows, Extent::N(64)])];
    model(&graph(&inputs, &[untyped("y")], &nodes, &[weight("w1", 1), weight("w2", 2)])).into_bytes()
}

fn input(rows: usize, seed: usize) -> Tensor {
    let data = (0..rows * 64).map(|i| ((i * 31 + seed * 7) % 23) as f32 / 23.0).collect();
    Tensor::new(&[rows, 64], data).expect("a tensor")
}

fn output(session: &Session, x: &Tensor) -> Vec<f32> {
    let y = session.run([("x", x)]).expect("runs");
    y.tensor("y").expect("y").to_vec::<f32>().expect("floats")
}

#[test]
fn four_threads_on_one_session() {
    let session =
        Session::builder().with_threads(2).load_bytes(perceptron(Extent::Name("rows"))).expect("loads");
    // Shapes come and go, so that bindings are made, found and dropped at the same time.
    let inputs: Vec<Tensor> = (0..40).map(|i| input(1 + i % 13, i)).collect();
    let wanted: Vec<Vec<f32>> = inputs.iter().map(|x| output(&session, x)).collect();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (session, inputs, wanted) = (&session, &inputs, &wanted);
            scope.spawn(move || {
                for round in 0..25 {
                    let at = (round * 7 + thread * 3) % inputs.len();
                    assert_eq!(output(session, &inputs[at]), wanted[at]);
                }
            });
        }
    });
}

#[test]
fn two_sessions_on_one_engine() {
    let engine = Engine::builder().with_threads(2).with_pinning(Pinning::None).build().expect("an engine");
    let load = |bytes: Vec<u8>| Session::builder().with_engine(&engine).load_bytes(bytes).expect("loads");
    let (first, second) = (load(perceptron(Extent::Name("rows"))), load(perceptron(Extent::N(3))));
    let (x, y) = (input(5, 1), input(3, 2));
    let wanted = (output(&first, &x), output(&second, &y));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..50).for_each(|_| assert_eq!(output(&first, &x), wanted.0)));
            scope.spawn(|| (0..50).for_each(|_| assert_eq!(output(&second, &y), wanted.1)));
        }
    });
}

#[test]
fn a_run_that_is_cut_off_leaves_the_others_alone() {
    let engine = Engine::builder().with_threads(2).with_pinning(Pinning::None).build().expect("an engine");
    let load = |bytes: Vec<u8>| Session::builder().with_engine(&engine).load_bytes(bytes).expect("loads");
    let (steady, forever) = (load(perceptron(Extent::N(8))), load(endless().into_bytes()));
    let x = input(8, 3);
    let wanted = output(&steady, &x);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (h, go) =
                (Tensor::new(&[2], vec![0f32; 2]).expect("a tensor"), Tensor::scalar(Bool::new(true)));
            for _ in 0..5 {
                let options = RunOptions::default().with_timeout(Duration::from_millis(5));
                assert!(forever.run_with([("x", &h), ("go", &go)], &options).is_err());
            }
        });
        (0..100).for_each(|_| assert_eq!(output(&steady, &x), wanted));
    });
}

/// How often 100 runs of `bytes` into bound buffers allocate, after the first few.
fn allocations_in_steady_state(bytes: Vec<u8>, rows: usize) -> usize {
    let engine = Engine::builder().with_threads(1).with_pinning(Pinning::None).build().expect("an engine");
    let session = Session::builder().with_engine(&engine).load_bytes(bytes).expect("loads");
    let x = input(rows, 4);
    let wanted = output(&session, &x);
    let data = x.to_vec::<f32>().expect("floats");
    let (shape, mut y) = ([rows, 64], vec![0f32; rows * 64]);
    let mut run = || {
        y.fill(0.0);
        let x = TensorView::new(&shape, &data).expect("a view");
        let place = TensorMut::new(&shape, &mut y).expect("a place");
        session.run_into([("x", x)], &mut [("y", place)]).expect("runs");
        assert_eq!(y, wanted);
    };
    (0..3).for_each(|_| run());
    allocations_of(|| (0..100).for_each(|_| run())).1
}

/// Elements, a reduction, and shapes.
fn normalised(rows: Extent<'_>) -> Vec<u8> {
    let nodes = [
        node("Tanh", &["x"], &["a"]),
        node("ReduceMean", &["a", "axis"], &["mean"]),
        node("Sub", &["a", "mean"], &["b"]),
        node("Softmax", &["b"], &["c"]),
        node("Reshape", &["c", "flat"], &["d"]),
        node("Shape", &["x"], &["form"]),
        node("Reshape", &["d", "form"], &["e"]),
        node("Concat", &["e", "e"], &["f"]).with_int("axis", 1),
        node("Slice", &["f", "from", "to", "axis"], &["y"]),
    ];
    let constant = |name: &str, value: i64| ints(name, &[1], &[value]);
    let constants = [constant("axis", 1), constant("flat", -1), constant("from", 32), constant("to", 96)];
    let inputs = [value("x", code::F32, &[rows, Extent::N(64)])];
    model(&graph(&inputs, &[untyped("y")], &nodes, &constants)).into_bytes()
}

#[test]
fn bound_runs_allocate_nothing() {
    assert_eq!(allocations_in_steady_state(normalised(Extent::N(8)), 8), 0);
    assert_eq!(allocations_in_steady_state(normalised(Extent::Name("rows")), 5), 0);
}

/// Steps over the slices of `x` along `axis`, whose states are collected along it.
fn scanned(axis: i64) -> Vec<u8> {
    let width = if axis == 0 { 64 } else { 8 };
    let element = |name: &str| fixed(name, code::F32, &[width]);
    let nodes = [
        node("Add", &["h", "e"], &["s"]),
        node("Tanh", &["s"], &["next"]),
        node("Mul", &["next", "s"], &["seen"]),
    ];
    let body = graph(&[element("h"), element("e")], &[untyped("next"), untyped("seen")], &nodes, &[]);
    let scan = node("Scan", &["zeros", "x"], &["last", "y"])
        .with_int("num_scan_inputs", 1)
        .with_ints("scan_input_axes", &[axis])
        .with_ints("scan_input_directions", &[1])
        .with_ints("scan_output_axes", &[axis])
        .with_graph("body", &body);
    let zeros = floats("zeros", &[width], &vec![0.0; width as usize]);
    let inputs = [fixed("x", code::F32, &[8, 64])];
    model(&graph(&inputs, &[untyped("y")], &[scan], &[zeros])).into_bytes()
}

/// Up to ten iterations, of which the body's condition lets five run.
fn looped() -> Vec<u8> {
    let nodes = [
        node("Add", &["h", "x"], &["s"]),
        node("Tanh", &["s"], &["next"]),
        node("Less", &["i", "four"], &["go"]),
    ];
    let given =
        [fixed("i", code::I64, &[]), fixed("before", code::BOOL, &[]), fixed("h", code::F32, &[8, 64])];
    let body = graph(&given, &[untyped("go"), untyped("next")], &nodes, &[ints("four", &[], &[4])]);
    let nodes = [node("Loop", &["ten", "", "x"], &["y"]).with_graph("body", &body)];
    let inputs = [fixed("x", code::F32, &[8, 64])];
    model(&graph(&inputs, &[untyped("y")], &nodes, &[ints("ten", &[], &[10])])).into_bytes()
}

#[test]
fn steps_of_loops_allocate_nothing() {
    assert_eq!(allocations_in_steady_state(scanned(0), 8), 0);
    assert_eq!(allocations_in_steady_state(scanned(1), 8), 0);
    assert_eq!(allocations_in_steady_state(looped(), 8), 0);
}

#[test]
fn a_matrix_product_allocates_its_workspace_at_most() {
    // The `gemm` crate takes the panels of a product from the heap, once per call.
    let calls = allocations_in_steady_state(perceptron(Extent::N(8)), 8);
    assert!(calls <= 200, "{calls} allocations in 100 runs of two products");
}

/// An LSTM over 6 steps of a batch of 1, with 64 inputs and 64 units.
fn recurrent() -> Message {
    let weight = |name: &str, shape: &[i64]| {
        let n = shape.iter().product::<i64>() as usize;
        let data: Vec<f32> = (0..n).map(|i| ((i * 29) % 17) as f32 / 170.0 - 0.05).collect();
        floats(name, shape, &data)
    };
    let nodes = [
        node("Unsqueeze", &["x", "axis"], &["sequence"]),
        node("LSTM", &["sequence", "w", "r", "b"], &["", "h"]).with_int("hidden_size", 64),
        node("Squeeze", &["h", "first"], &["y"]),
    ];
    let constants = [
        weight("w", &[1, 256, 64]),
        weight("r", &[1, 256, 64]),
        weight("b", &[1, 512]),
        ints("axis", &[1], &[1]),
        ints("first", &[1], &[0]),
    ];
    model(&graph(&[fixed("x", code::F32, &[6, 64])], &[untyped("y")], &nodes, &constants))
}

#[test]
fn bound_runs_of_a_recurrence_allocate_nothing() {
    let engine = Engine::builder().with_threads(1).with_pinning(Pinning::None).build().expect("an engine");
    let session =
        Session::builder().with_engine(&engine).load_bytes(recurrent().into_bytes()).expect("loads");
    let x = input(6, 5);
    let wanted = output(&session, &x);
    let data = x.to_vec::<f32>().expect("floats");
    let mut y = vec![0f32; 64];
    let mut run = || {
        let x = TensorView::new(&[6, 64], &data).expect("a view");
        let place = TensorMut::new(&[1, 64], &mut y).expect("a place");
        session.run_into([("x", x)], &mut [("y", place)]).expect("runs");
    };
    (0..3).for_each(|_| run());
    let ((), calls) = allocations_of(|| (0..100).for_each(|_| run()));
    assert_eq!(y, wanted);
    assert_eq!(calls, 0, "allocations in 100 runs");
}
