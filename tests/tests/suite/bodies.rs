//! Control flow over every element type: what goes into bodies, from step to step and out of them keeps its values.

use crate::outcome::load;
use recurve::Tensor;
use recurve::values::Bool;
use recurve_tests::wire::{Message, code, fixed, graph, ints, model, node, tensor, untyped};

/// Codes of the types that bodies may take: floats, integers and truth values.
const TYPES: [i64; 13] = [code::F32, code::F64, 10, 16, 3, 5, code::I32, code::I64, 2, 4, 12, 13, code::BOOL];

/// `y` of a model that casts `x` to the type, hands it as `a` to `nodes`, and casts what they call `b` back.
fn through(of: i64, nodes: &[Message], constants: &[Message], go: bool) -> Vec<f32> {
    let all: Vec<Message> = std::iter::once(node("Cast", &["x"], &["a"]).with_int("to", of))
        .chain(nodes.iter().cloned())
        .chain([node("Cast", &["b"], &["y"]).with_int("to", code::F32)])
        .collect();
    let inputs = [fixed("x", code::F32, &[3]), fixed("go", code::BOOL, &[])];
    let session = load(model(&graph(&inputs, &[untyped("y")], &all, constants))).expect("loads");
    let x = Tensor::new(&[3], vec![1f32, 0.0, 2.0]).expect("a tensor");
    let go = Tensor::scalar(Bool::new(go));
    let outputs = session.run([("x", &x), ("go", &go)]).expect("runs");
    outputs.tensor("y").expect("y").to_vec::<f32>().expect("floats")
}

/// 1, 0 and 2 as the type has them.
fn cast(of: i64) -> [f32; 3] {
    if of == code::BOOL { [1., 0., 1.] } else { [1., 0., 2.] }
}

#[test]
fn branches() {
    for of in TYPES {
        let then = graph(&[], &[untyped("t")], &[node("Identity", &["a"], &["t"])], &[]);
        let other =
            graph(&[], &[untyped("e")], &[node("Concat", &["a", "a"], &["e"]).with_int("axis", 0)], &[]);
        let branch =
            node("If", &["go"], &["b"]).with_graph("then_branch", &then).with_graph("else_branch", &other);
        assert_eq!(through(of, std::slice::from_ref(&branch), &[], true), cast(of), "type {of}");
        assert_eq!(through(of, &[branch], &[], false), cast(of).repeat(2), "type {of}");
    }
}

#[test]
fn loops() {
    for of in TYPES {
        // The state is handed on twice; each round gives it, too.
        let nodes = [
            node("Identity", &["running"], &["on"]),
            node("Identity", &["state"], &["next"]),
            node("Identity", &["state"], &["given"]),
        ];
        let inputs = [untyped("round"), untyped("running"), untyped("state")];
        let body = graph(&inputs, &[untyped("on"), untyped("next"), untyped("given")], &nodes, &[]);
        let rounds = [
            node("Loop", &["count", "truth", "a"], &["last", "all"]).with_graph("body", &body),
            node("Reshape", &["all", "flat"], &["rows"]),
            node("Concat", &["last", "rows"], &["b"]).with_int("axis", 0),
        ];
        let constants =
            [ints("count", &[], &[2]), ints("flat", &[1], &[-1]), tensor("truth", code::BOOL, &[], &[1])];
        assert_eq!(through(of, &rounds, &constants, true), cast(of).repeat(3), "type {of}");
    }
}

#[test]
fn scans() {
    for of in TYPES {
        let nodes = [node("Identity", &["e"], &["state"]), node("Identity", &["s"], &["given"])];
        let body = graph(&[untyped("s"), untyped("e")], &[untyped("state"), untyped("given")], &nodes, &[]);
        let steps = [
            node("Slice", &["a", "at", "end"], &["first"]),
            node("Reshape", &["first", "none"], &["start"]),
            node("Scan", &["start", "a"], &["last", "b"])
                .with_int("num_scan_inputs", 1)
                .with_graph("body", &body),
        ];
        let constants = [ints("at", &[1], &[1]), ints("end", &[1], &[2]), ints("none", &[0], &[])];
        // Each step gives what the one before it read; the first begins with the second element, 0.
        let [first, second, _] = cast(of);
        assert_eq!(through(of, &steps, &constants, true), [0., first, second], "type {of}");
    }
}
