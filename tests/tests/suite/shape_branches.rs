//! Branches that the shapes of inputs decide, inside one that data decides: what exporters write around recurrences and
//! squeezes. The network behind them is simplified and fused when shapes are known.

use crate::allocations::allocations_of;
use recurve::settings::Fusion;
use recurve::{Session, Tensor};
use recurve_tests::drawn_inputs;
use recurve_tests::wire::{Extent, Message, code, graph, ints, model, node, untyped, value};

fn drawn(count: usize, seed: u64) -> Vec<f32> {
    drawn_inputs::drawn(seed, count, 0.5)
}

fn constant(name: &str, shape: &[i64], seed: u64) -> Message {
    drawn_inputs::constant(name, shape, seed, 0.5)
}

fn branch(node: Message) -> Message {
    graph(&[], &[untyped("out")], &[node], &[])
}

/// A convolution, whose result loses its last axis where that is 1, and a product for either rank.
fn network() -> Message {
    let product = |nodes: &[Message]| graph(&[], &[untyped("out")], nodes, &[constant("m", &[16, 5], 3)]);
    let of_two = product(&[node("MatMul", &["p", "m"], &["q"]), node("Tanh", &["q"], &["out"])]);
    let of_three = product(&[
        node("Transpose", &["p"], &["turned"]).with_ints("perm", &[0, 2, 1]),
        node("MatMul", &["turned", "m"], &["out"]),
    ]);
    let nodes = [
        node("Conv", &["x", "w", "b"], &["c"]).with_ints("strides", &[2]).with_ints("pads", &[1, 1]),
        node("Relu", &["c"], &["y"]),
        node("Shape", &["y"], &["extents"]),
        node("Gather", &["extents", "last"], &["length"]).with_int("axis", 0),
        node("Equal", &["length", "one"], &["single"]),
        node("If", &["single"], &["p"])
            .with_graph("then_branch", &branch(node("Squeeze", &["y", "axes"], &["out"])))
            .with_graph("else_branch", &branch(node("Identity", &["y"], &["out"]))),
        node("Shape", &["p"], &["of_p"]),
        node("Size", &["of_p"], &["rank"]),
        node("Equal", &["rank", "two"], &["flat"]),
        node("If", &["flat"], &["made"])
            .with_graph("then_branch", &of_two)
            .with_graph("else_branch", &of_three),
        node("Exp", &["made"], &["exponential"]),
        node("Add", &["exponential", "made"], &["out"]),
    ];
    let constants = [
        constant("w", &[16, 8, 3], 1),
        constant("b", &[16], 2),
        ints("last", &[], &[-1]),
        ints("one", &[], &[1]),
        ints("two", &[], &[2]),
        ints("axes", &[1], &[-1]),
    ];
    graph(&[], &[untyped("out")], &nodes, &constants)
}

fn wrapped() -> Vec<u8> {
    let nodes = [
        node("Equal", &["rate", "sixteen"], &["fast"]),
        node("If", &["fast"], &["z"])
            .with_graph("then_branch", &network())
            .with_graph("else_branch", &branch(node("Relu", &["x"], &["out"]))),
    ];
    let inputs = [
        value("x", code::F32, &[Extent::Name("batch"), Extent::N(8), Extent::Name("time")]),
        value("rate", code::I64, &[]),
    ];
    model(&graph(&inputs, &[untyped("z")], &nodes, &[ints("sixteen", &[], &[16])])).into_bytes()
}

fn run(session: &Session, (x, rate): (&Tensor, i64)) -> Tensor {
    let rate = Tensor::new(&[], vec![rate]).expect("a tensor");
    let outputs = session.run([("x", x), ("rate", &rate)]).expect("runs");
    outputs.tensor("z").expect("a tensor").clone()
}

#[test]
fn every_shape_takes_its_branches() {
    let bytes = wrapped();
    for threads in [1, 2] {
        let load = |fusion| {
            let builder = Session::builder().with_threads(threads).with_fusion(fusion);
            builder.load_bytes(bytes.clone()).expect("loads")
        };
        let (ours, plain) = (load(Fusion::On), load(Fusion::Off));
        let cases = [(1, 1, 16), (1, 2, 16), (1, 9, 16), (3, 2, 16), (1, 2, 8), (2, 31, 16), (1, 1, 16)];
        // The second round finds what the first one made.
        for (seed, (batch, time, rate)) in cases.into_iter().chain(cases).enumerate() {
            let x = Tensor::new(&[batch, 8, time], drawn(batch * 8 * time, seed as u64)).expect("a tensor");
            let [got, want] = [&ours, &plain].map(|session| run(session, (&x, rate)));
            assert_eq!(got.shape(), want.shape(), "{batch} {time} {rate}");
            let [got, want] = [&got, &want].map(|t| t.to_vec::<f32>().expect("floats"));
            for (got, want) in got.iter().zip(&want) {
                assert!((got - want).abs() <= 1e-5 * want.abs().max(1.0), "{got} {want}");
            }
        }
    }
}

#[test]
fn nothing_is_computed_of_empty_inputs() {
    let load = |fusion| Session::builder().with_fusion(fusion).load_bytes(wrapped()).expect("loads");
    let sessions = [load(Fusion::On), load(Fusion::Off)];
    for (shape, made) in [([1usize, 8, 0], [1usize, 0, 5]), ([0, 8, 3], [0, 2, 5])] {
        let x = Tensor::new(&shape, Vec::<f32>::new()).expect("a tensor");
        for session in &sessions {
            assert_eq!(run(session, (&x, 16)).shape(), made);
        }
    }
}

/// Behind branches that shapes decide kernels are prepared once for some shapes, which the bound tells: the first run of
/// others exceeds it.
#[test]
fn runs_of_one_shape_prepare_nothing() {
    let session = Session::builder().with_threads(1).load_bytes(wrapped()).expect("loads");
    let of_time = |time: usize| Tensor::new(&[1, 8, time], drawn(8 * time, 7)).expect("a tensor");
    let x = of_time(2);
    (0..3).for_each(|_| drop(run(&session, (&x, 16))));
    // The rate, the output, and the names they go by.
    let few = 20;
    let ((), calls) = allocations_of(|| (0..50).for_each(|_| drop(run(&session, (&x, 16)))));
    assert!(calls <= 50 * few, "{} allocations in a run", calls / 50);
    for time in 20..24 {
        let x = of_time(time);
        let ((), calls) = allocations_of(|| drop(run(&session, (&x, 16))));
        assert!(calls > few, "{calls} allocations in the first run of {time} steps");
    }
}
