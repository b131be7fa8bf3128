//! What is left of a graph once it is loaded: nodes that do nothing are gone, what constants and shapes decide is decided,
//! and names of dimensions go through.

use crate::outcome::{limited, load};
use recurve::settings::Fusion;
use recurve::{Session, Tensor};
use recurve_tests::wire::{Extent, Message, code, fixed, floats, graph, ints, model, node, untyped, value};

/// The model with every operator left by itself.
fn unfused(model: Message) -> Session {
    limited().with_fusion(Fusion::Off).load_bytes(model.into_bytes()).expect("loads")
}

/// The operators that a kernel runs for, in order, where `x` has this shape.
fn left(session: &Session, shape: &[usize]) -> Vec<String> {
    let nodes = session.nodes([("x", shape)]).expect("fits");
    nodes.into_iter().filter(|node| node.runs).map(|node| node.op).collect()
}

fn result(session: &Session, x: &Tensor) -> Vec<f32> {
    let outputs = session.run([("x", x)]).expect("runs");
    outputs.tensor("y").expect("y").to_vec::<f32>().expect("floats")
}

fn counted(shape: &[usize]) -> Tensor {
    Tensor::new(shape, (0..shape.iter().product()).map(|i| i as f32 - 2.0).collect()).expect("a tensor")
}

#[test]
fn nodes_that_undo_each_other_are_gone() {
    let turned = |from: &str, to: &str| node("Transpose", &[from], &[to]).with_ints("perm", &[1, 0]);
    let nodes = [
        node("Identity", &["x"], &["a"]),
        node("Cast", &["a"], &["b"]).with_int("to", code::F32),
        turned("b", "c"),
        turned("c", "d"),
        node("Reshape", &["d", "flat"], &["e"]),
        node("Reshape", &["e", "back"], &["f"]),
        node("Relu", &["f"], &["y"]),
    ];
    let shapes = [ints("flat", &[1], &[6]), ints("back", &[2], &[2, 3])];
    let session = unfused(model(&graph(&[fixed("x", code::F32, &[2, 3])], &[untyped("y")], &nodes, &shapes)));
    assert_eq!(left(&session, &[2, 3]), ["Relu"]);
    assert_eq!(result(&session, &counted(&[2, 3])), [0., 0., 0., 1., 2., 3.]);
}

#[test]
fn a_value_that_is_read_between_them_stays() {
    let turned = |from: &str, to: &str| node("Transpose", &[from], &[to]).with_ints("perm", &[1, 0]);
    let nodes =
        [turned("x", "t"), turned("t", "u"), node("Neg", &["u"], &["y"]), node("Relu", &["t"], &["z"])];
    let outputs = [untyped("y"), untyped("z")];
    let session = unfused(model(&graph(&[fixed("x", code::F32, &[2, 3])], &outputs, &nodes, &[])));
    let mut left = left(&session, &[2, 3]);
    left.sort();
    assert_eq!(left, ["Neg", "Relu", "Transpose"]);
    assert_eq!(result(&session, &counted(&[2, 3])), [2., 1., 0., -1., -2., -3.]);
}

#[test]
fn what_constants_decide_is_computed_at_load_and_what_nobody_reads_is_gone() {
    let nodes = [
        node("Add", &["one", "two"], &["three"]),
        node("Mul", &["x", "three"], &["y"]),
        node("Exp", &["x"], &["unread"]),
        node("Sin", &["unread"], &["neither"]),
    ];
    let constants = [floats("one", &[1], &[1.0]), floats("two", &[1], &[2.0])];
    let session = unfused(model(&graph(&[fixed("x", code::F32, &[3])], &[untyped("y")], &nodes, &constants)));
    assert_eq!(left(&session, &[3]), ["Mul"]);
    assert_eq!(result(&session, &counted(&[3])), [-6., -3., 0.]);
    assert_eq!(session.parameters().elements, 1, "the sum alone is kept");
}

#[test]
fn shape_arithmetic_is_decided_by_names_and_names_go_through() {
    // [batch, 2, 3] to [batch, 6] and through a product, its shape put together from that of x.
    let nodes = [
        node("Shape", &["x"], &["shape"]),
        node("Gather", &["shape", "first"], &["batch"]),
        node("Concat", &["batch", "rest"], &["to"]).with_int("axis", 0),
        node("Reshape", &["x", "to"], &["rows"]),
        node("MatMul", &["rows", "w"], &["y"]),
    ];
    let constants = [ints("first", &[1], &[0]), ints("rest", &[1], &[6]), floats("w", &[6, 1], &[1.0; 6])];
    let shape = [Extent::Name("batch"), Extent::N(2), Extent::N(3)];
    let session = load(model(&graph(&[value("x", code::F32, &shape)], &[untyped("y")], &nodes, &constants)));
    let session = session.expect("loads");
    let y = session.outputs()[0].fact.tensor().and_then(|fact| fact.shape.clone()).expect("a shape");
    assert_eq!(y.iter().map(ToString::to_string).collect::<Vec<_>>(), ["batch", "1"]);
    for batch in [1, 4, 0] {
        assert_eq!(left(&session, &[batch, 2, 3]), ["MatMul"], "nothing else runs");
        let x = counted(&[batch, 2, 3]);
        let want: Vec<f32> = (0..batch).map(|row| (0..6).map(|i| (row * 6 + i) as f32 - 2.0).sum()).collect();
        assert_eq!(result(&session, &x), want);
    }
}

#[test]
fn a_batch_normalisation_goes_into_the_convolution_before_it() {
    let nodes = [
        node("Conv", &["x", "w", "b"], &["c"]),
        node("BatchNormalization", &["c", "scale", "shift", "mean", "variance"], &["y"]),
    ];
    let constants = [
        floats("w", &[2, 1, 1, 1], &[2.0, -1.0]),
        floats("b", &[2], &[0.5, 0.0]),
        floats("scale", &[2], &[3.0, 1.0]),
        floats("shift", &[2], &[1.0, -1.0]),
        floats("mean", &[2], &[0.5, 4.0]),
        floats("variance", &[2], &[4.0, 0.25]),
    ];
    let x = fixed("x", code::F32, &[1, 1, 2, 2]);
    let session = unfused(model(&graph(&[x], &[untyped("y")], &nodes, &constants)));
    assert_eq!(left(&session, &[1, 1, 2, 2]), ["Conv"]);
    let normal = |c: f32, [scale, shift, mean, variance]: [f32; 4]| {
        (c - mean) / (variance + 1e-5).sqrt() * scale + shift
    };
    let data = [-2f32, -1.0, 0.0, 1.0];
    let first = data.map(|v| normal(2.0 * v + 0.5, [3.0, 1.0, 0.5, 4.0]));
    let second = data.map(|v| normal(-v, [1.0, -1.0, 4.0, 0.25]));
    for (got, want) in result(&session, &counted(&[1, 1, 2, 2])).iter().zip(first.iter().chain(&second)) {
        assert!((got - want).abs() <= 1e-5 * (1.0 + want.abs()), "{got} instead of {want}");
    }
}

#[test]
fn an_extent_that_depends_on_data_is_known_as_such() {
    let nodes =
        [node("NonZero", &["x"], &["found"]), node("Cast", &["found"], &["y"]).with_int("to", code::F32)];
    let session = unfused(model(&graph(&[fixed("x", code::F32, &[4])], &[untyped("y")], &nodes, &[])));
    let y = session.outputs()[0].fact.tensor().and_then(|fact| fact.shape.clone()).expect("a rank");
    assert_eq!(y[0].known(), Some(1));
    assert_eq!(y[1].known(), None);
    assert_eq!(result(&session, &counted(&[4])), [0., 1., 3.]);
}
