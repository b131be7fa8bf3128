//! Models of operator sets 1 to 6, which are translated when they are read.

use crate::outcome::{load, refused};
use recurve::{ErrorKind, Session, Tensor};
use recurve_tests::wire::{Extent, Message, code, floats, graph, model_of, node, untyped, value};

/// A model of operator set `opset` with an input `x` of extents `a` and `b` and one of 3.
fn early(opset: i64, nodes: &[Message], initializers: &[Message]) -> Message {
    let x = value("x", code::F32, &[Extent::Name("a"), Extent::N(3), Extent::Name("b")]);
    model_of(3, &[("", opset)], &graph(&[x], &[untyped("y")], nodes, initializers))
}

/// What `session` makes of `x`, of shape [2, 3, 2] with elements from 0 on.
fn run(session: &Session) -> (Vec<usize>, Vec<f32>) {
    let x: Vec<f32> = (0u8..12).map(f32::from).collect();
    let x = Tensor::new(&[2, 3, 2], x).expect("a tensor");
    let outputs = session.run([("x", &x)]).expect("runs");
    let y = outputs.tensor("y").expect("y");
    (y.shape().to_vec(), y.to_vec::<f32>().expect("floats"))
}

#[test]
fn the_right_operand_begins_at_an_axis() {
    let c = floats("c", &[3], &[100.0, 200.0, 300.0]);
    let want: Vec<f32> =
        (0u8..12).map(|i| f32::from(i) + [100.0, 200.0, 300.0][usize::from(i) / 2 % 3]).collect();
    for axis in [1, -2] {
        let add = node("Add", &["x", "c"], &["y"]).with_int("broadcast", 1).with_int("axis", axis);
        for opset in [1, 6] {
            let session = load(early(opset, &[add.clone()], &[c.clone()])).expect("loads");
            assert_eq!(run(&session), (vec![2, 3, 2], want.clone()), "axis {axis} of set {opset}");
        }
    }
    // A right operand that is computed, of a rank that is known from its operator.
    let nodes = [
        node("Neg", &["c"], &["d"]),
        node("Sub", &["x", "d"], &["y"]).with_int("broadcast", 1).with_int("axis", 1),
    ];
    let session = load(early(6, &nodes, &[c])).expect("loads");
    assert_eq!(run(&session).1, want);
}

#[test]
fn without_an_axis_the_last_ones_meet() {
    let c = floats("c", &[2], &[10.0, 20.0]);
    let mul = node("Mul", &["x", "c"], &["y"]).with_int("broadcast", 1);
    let session = load(early(6, &[mul], &[c])).expect("loads");
    let want = (0u8..12).map(|i| f32::from(i) * if i % 2 == 0 { 10.0 } else { 20.0 }).collect();
    assert_eq!(run(&session), (vec![2, 3, 2], want));
}

#[test]
fn slopes_belong_to_channels() {
    let nodes = [node("Neg", &["x"], &["n"]), node("PRelu", &["n", "c"], &["y"])];
    let session = load(early(6, &nodes, &[floats("c", &[3], &[1.0, 2.0, 3.0])])).expect("loads");
    let want = (0u8..12).map(|i| -f32::from(i) * [1.0, 2.0, 3.0][usize::from(i) / 2 % 3]).collect();
    assert_eq!(run(&session), (vec![2, 3, 2], want));
}

#[test]
fn shapes_are_attributes_and_hints_are_ignored() {
    let nodes = [
        node("Relu", &["x"], &["r"]).with_ints("consumed_inputs", &[0]),
        node("Dropout", &["r"], &["d"]).with_int("is_test", 1),
        node("Reshape", &["d"], &["y"]).with_ints("shape", &[0, -1]),
    ];
    let session = load(early(1, &nodes, &[])).expect("loads");
    assert_eq!(run(&session), (vec![2, 6], (0u8..12).map(f32::from).collect()));
}

#[test]
fn training_and_forms_without_a_translation_are_refused_by_name() {
    let dropout = node("Dropout", &["x"], &["y"]).named("drop");
    refused(early(6, &[dropout], &[]), ErrorKind::Unsupported, &["`drop`", "training"]);
    let tile = node("Tile", &["x", "x", "x"], &["y"]).named("tile");
    refused(early(1, &[tile], &[]), ErrorKind::Unsupported, &["`tile`", "operator sets before 6"]);
    // An attribute that set 6 has no longer.
    let relu = node("Relu", &["x"], &["y"]).named("relu").with_ints("consumed_inputs", &[0]);
    refused(early(6, &[relu], &[]), ErrorKind::Unsupported, &["`relu`", "`consumed_inputs`"]);
}
