//! Runs into buffers of the caller allocate nothing once the shapes are bound, but in products that are neither of few
//! rows nor by constant weights in panels, for which the `gemm` crate allocates a workspace.

use crate::allocations::allocations_of;
use recurve::settings::{Pinning, Precision};
use recurve::{Engine, Session, TensorMut, TensorView};
use recurve_tests::drawn_inputs;
use recurve_tests::wire::{Message, code, fixed, graph, ints, model, node, untyped};

fn drawn(count: usize, seed: u64) -> Vec<f32> {
    drawn_inputs::drawn(seed, count, 0.2)
}

fn constant(name: &str, shape: &[i64], seed: u64) -> Message {
    drawn_inputs::constant(name, shape, seed, 0.2)
}

/// How often the calling thread allocates in 50 runs after the first few, from `x` to `y` of these shapes.
fn allocations(
    made: Message,
    [x_shape, y_shape]: [&[usize]; 2],
    precision: Precision,
    threads: usize,
) -> usize {
    let engine =
        Engine::builder().with_threads(threads).with_pinning(Pinning::None).build().expect("an engine");
    let session = Session::builder().with_engine(&engine).with_precision(precision);
    let session = session.load_bytes(made.into_bytes()).expect("loads");
    let x = drawn(x_shape.iter().product(), 9);
    let mut y = vec![0f32; y_shape.iter().product()];
    let mut run = || {
        let x = TensorView::new(x_shape, &x).expect("a view");
        let place = TensorMut::new(y_shape, &mut y).expect("a place");
        session.run_into([("x", x)], &mut [("y", place)]).expect("runs");
    };
    (0..3).for_each(|_| run());
    let ((), calls) = allocations_of(|| (0..50).for_each(|_| run()));
    assert!(y.iter().any(|v| *v != 0.0), "something was computed");
    calls
}

fn model_of(x: &[i64], nodes: &[Message], constants: &[Message]) -> Message {
    model(&graph(&[fixed("x", code::F32, x)], &[untyped("y")], nodes, constants))
}

fn recurrence(op: &str, gates: i64, batch: i64) -> Message {
    let (h, w, r) = (48, ("w", [1, gates * 48, 20]), ("r", [1, gates * 48, 48]));
    let node = node(op, &["x", "w", "r"], &["y"]).with_int("hidden_size", h);
    model_of(&[9, batch, 20], &[node], &[constant(w.0, &w.1, 1), constant(r.0, &r.1, 2)])
}

#[test]
fn recurrences_allocate_nothing() {
    for (op, gates) in [("LSTM", 4), ("GRU", 3), ("RNN", 1)] {
        for batch in [1usize, 8, 17] {
            for precision in [Precision::F32, Precision::F16, Precision::Int8] {
                let shapes: [&[usize]; 2] = [&[9, batch, 20], &[9, 1, batch, 48]];
                let made = recurrence(op, gates, batch as i64);
                assert_eq!(allocations(made, shapes, precision, 1), 0, "{op}, batch {batch}, {precision}");
            }
        }
    }
    let shapes: [&[usize]; 2] = [&[9, 8, 20], &[9, 1, 8, 48]];
    assert_eq!(allocations(recurrence("LSTM", 4, 8), shapes, Precision::F32, 2), 0, "two threads");
}

#[test]
fn layers_beside_each_other_allocate_nothing() {
    let weights =
        |at: i64| [("w", 20), ("r", 48)].map(|(name, from)| (format!("{name}{at}"), [1, 192, from]));
    let (mut nodes, mut constants) = (Vec::new(), vec![]);
    for at in 0..4 {
        let [(w, w_shape), (r, r_shape)] = weights(at);
        let w_shape = if at == 0 { w_shape } else { r_shape };
        constants.extend([constant(&w, &w_shape, at as u64), constant(&r, &r_shape, 9 + at as u64)]);
        let (x, y) = (if at == 0 { "x".to_owned() } else { format!("s{at}") }, format!("y{at}"));
        nodes.push(node("LSTM", &[&x, &w, &r], &[&y]).with_int("hidden_size", 48));
        let next = if at == 3 { "y".to_owned() } else { format!("s{}", at + 1) };
        nodes.push(node("Reshape", &[&y, "form"], &[&next]));
    }
    constants.push(ints("form", &[3], &[12, 1, 48]));
    let shapes: [&[usize]; 2] = [&[12, 1, 20], &[12, 1, 48]];
    for threads in [2, 4] {
        let made = model_of(&[12, 1, 20], &nodes, &constants);
        assert_eq!(allocations(made, shapes, Precision::F32, threads), 0, "{threads} threads");
    }
}

#[test]
fn chains_of_products_allocate_nothing() {
    for rows in [1usize, 4, 5, 16, 70] {
        let constants = [
            constant("w", &[64, 96], 1),
            constant("b", &[96], 2),
            constant("v", &[112, 96], 3),
            constant("u", &[112, 60], 4),
        ];
        let nodes = [
            node("Gemm", &["x", "w", "b"], &["p"]),
            node("Relu", &["p"], &["q"]),
            node("Gemm", &["q", "v"], &["r"]).with_int("transB", 1),
            node("Tanh", &["r"], &["s"]),
            node("MatMul", &["s", "u"], &["y"]),
        ];
        for precision in [Precision::F32, Precision::F16, Precision::Bf16, Precision::Int8] {
            // Of more rows, products in other formats are multiplied by the `gemm` crate.
            if rows > 16 && precision != Precision::F32 {
                continue;
            }
            let made = model_of(&[rows as i64, 64], &nodes, &constants);
            let shapes: [&[usize]; 2] = [&[rows, 64], &[rows, 60]];
            assert_eq!(allocations(made, shapes, precision, 1), 0, "{rows} rows, {precision}");
        }
    }
}

#[test]
fn convolutions_allocate_nothing() {
    let constants = [
        constant("f", &[16, 3, 3, 3], 1),
        constant("g", &[16, 1, 3, 3], 2),
        constant("p", &[24, 16, 3, 3], 3),
        constant("w", &[24, 10], 4),
    ];
    let padded = |op, from: &[&str], to| node(op, from, &[to]).with_ints("pads", &[1; 4]);
    let nodes = [
        padded("Conv", &["x", "f"], "a").with_ints("kernel_shape", &[3, 3]),
        node("Relu", &["a"], &["b"]),
        padded("Conv", &["b", "g"], "c").with_ints("kernel_shape", &[3, 3]).with_int("group", 16),
        padded("Conv", &["c", "p"], "d").with_ints("kernel_shape", &[3, 3]),
        node("Add", &["d", "d"], &["e"]),
        node("MaxPool", &["e"], &["m"]).with_ints("kernel_shape", &[2, 2]).with_ints("strides", &[2, 2]),
        node("GlobalAveragePool", &["m"], &["h"]),
        node("Flatten", &["h"], &["i"]),
        node("MatMul", &["i", "w"], &["y"]),
    ];
    let made = model_of(&[1, 3, 16, 16], &nodes, &constants);
    assert_eq!(allocations(made, [&[1, 3, 16, 16], &[1, 10]], Precision::F32, 1), 0);
}
