//! Bytes that are no model, and models that contradict themselves.

use crate::outcome::{LIMIT, assert_error, bounded, limited, load, load_bytes, refused};
use recurve::{Error, ErrorKind};
use recurve_tests::wire::{
    Extent, Message, code, fixed, floats, graph, ints, model, model_of, node, tensor, untyped, value,
};

/// A small model with most kinds of message in it.
pub(crate) fn valid() -> Message {
    let body =
        |op: &str| graph(&[], &[untyped("branch")], &[node(op, &["sum"], &["branch"]).named("inner")], &[]);
    let nodes = [
        node("Add", &["x", "w"], &["sum"]).named("add"),
        node("If", &["flag"], &["y"])
            .named("if")
            .with_graph("then_branch", &body("Relu"))
            .with_graph("else_branch", &body("Neg")),
    ];
    let inputs =
        [value("x", code::F32, &[Extent::Name("batch"), Extent::N(4)]), fixed("flag", code::BOOL, &[])];
    let weights = [floats("w", &[4], &[1.0, 2.0, 3.0, 4.0])];
    model(&graph(&inputs, &[untyped("y")], &nodes, &weights)).with_metadata("key", "value")
}

/// `y = op(x)` with `x` of shape [2].
fn unary(nodes: &[Message]) -> Message {
    model(&graph(&[fixed("x", code::F32, &[2])], &[untyped("y")], nodes, &[]))
}

#[test]
fn the_model_that_is_mutilated_below_loads() {
    load(valid()).expect("a valid model");
}

#[test]
fn truncated_at_every_length() {
    let bytes = valid().into_bytes();
    for length in 0..bytes.len() {
        match load_bytes(bytes[..length].to_vec()) {
            // Cut between two fields, the rest can be a model, if one without operator sets or metadata.
            Ok(_) => assert!(length > bytes.len() - 40, "{length} of {} bytes load", bytes.len()),
            Err(error) => assert_ne!(error.kind(), ErrorKind::Internal, "{length}: {error}"),
        }
    }
}

#[test]
fn bits_flipped() {
    let bytes = valid().into_bytes();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Err(error) = load_bytes(flipped) {
            assert_ne!(error.kind(), ErrorKind::Internal, "bit {bit}: {error}");
        }
    }
}

#[test]
fn bytes_that_are_no_model() {
    for bytes in [&b""[..], b"\0", b"hello, world", &[0xff; 64], b"\x08\x0a", b"\x3a\xff\xff\xff\xff\x0f"] {
        let error = load_bytes(bytes.to_vec()).expect_err("not a model");
        assert_error(&error, ErrorKind::InvalidModel, &[]);
    }
}

#[test]
fn cycles() {
    let two = [node("Relu", &["b"], &["a"]).named("first"), node("Relu", &["a"], &["b"])];
    refused(
        unary(&[&two[..], &[node("Add", &["x", "a"], &["y"])]].concat()),
        ErrorKind::InvalidModel,
        &["cycle"],
    );
    refused(unary(&[node("Relu", &["y"], &["y"])]), ErrorKind::InvalidModel, &["cycle", "y"]);
    // Through a body: the loop's own output, captured inside it.
    let body = graph(&[], &[untyped("o")], &[node("Relu", &["y"], &["o"])], &[]);
    let conditional =
        node("If", &["flag"], &["y"]).with_graph("then_branch", &body).with_graph("else_branch", &body);
    let inputs = [fixed("flag", code::BOOL, &[])];
    refused(
        model(&graph(&inputs, &[untyped("y")], &[conditional], &[])),
        ErrorKind::InvalidModel,
        &["cycle", "y"],
    );
}

#[test]
fn names_given_twice() {
    let relu = || node("Relu", &["x"], &["y"]);
    refused(unary(&[relu(), relu()]), ErrorKind::InvalidModel, &["`y`", "twice"]);
    refused(unary(&[node("Relu", &["x"], &["x"]), relu()]), ErrorKind::InvalidModel, &["`x`", "twice"]);
    let x = || fixed("x", code::F32, &[2]);
    refused(
        model(&graph(&[x(), x()], &[untyped("y")], &[relu()], &[])),
        ErrorKind::InvalidModel,
        &["`x`", "twice"],
    );
    let w = || floats("w", &[1], &[1.0]);
    refused(
        model(&graph(&[x()], &[untyped("y")], &[relu()], &[w(), w()])),
        ErrorKind::InvalidModel,
        &["`w`", "twice"],
    );
    let twice = relu().with_int("axis", 1).with_int("axis", 2).named("softmax");
    refused(unary(&[twice]), ErrorKind::InvalidModel, &["`axis`", "`softmax`", "twice"]);
}

#[test]
fn names_that_nothing_writes() {
    let add = node("Add", &["x", "ghost"], &["y"]).named("adder");
    refused(unary(&[add]), ErrorKind::InvalidModel, &["`adder`", "`ghost`"]);
    refused(unary(&[node("Relu", &["x"], &["z"])]), ErrorKind::InvalidModel, &["`y`", "never written"]);
    let body = graph(&[], &[untyped("o")], &[node("Relu", &["ghost"], &["o"]).named("inner")], &[]);
    let conditional =
        node("If", &["flag"], &["y"]).with_graph("then_branch", &body).with_graph("else_branch", &body);
    let inputs = [fixed("flag", code::BOOL, &[])];
    refused(
        model(&graph(&inputs, &[untyped("y")], &[conditional], &[])),
        ErrorKind::InvalidModel,
        &["`inner`", "`ghost`"],
    );
}

#[test]
fn attributes_that_no_operator_has() {
    let softmax = node("Softmax", &["x"], &["y"]).named("soft");
    refused(
        unary(&[softmax.clone().with_int("colour", 1)]),
        ErrorKind::Unsupported,
        &["`soft`", "Softmax", "`colour`"],
    );
    refused(unary(&[softmax.with_ints("axis", &[0, 1])]), ErrorKind::Unsupported, &["`soft`", "`axis`"]);
}

#[test]
fn operators_that_do_not_exist() {
    let error =
        refusals(unary(&[node("Frobnicate", &["x"], &["a"]).named("frob"), node("Relu", &["a"], &["y"])]));
    assert_eq!(error.len(), 1);
    assert_eq!((error[0].0.as_str(), error[0].1.as_str(), error[0].2), ("frob", "Frobnicate", 21));
    let error = refusals(unary(&[node("Relu", &["x"], &["y"]).in_domain("com.example").named("other")]));
    assert_eq!((error[0].0.as_str(), error[0].1.as_str()), ("other", "com.example:Relu"));
    // All of them are named, not the first.
    let many: Vec<Message> =
        (0..5).map(|i| node("Frobnicate", &["x"], &[&format!("v{i}")]).named(&format!("n{i}"))).collect();
    let relu = node("Relu", &["x"], &["y"]);
    assert_eq!(refusals(unary(&[&many[..], &[relu]].concat())).len(), 5);
}

fn refusals(model: Message) -> Vec<(String, String, i64)> {
    match load(model) {
        Err(Error::Unsupported { refusals }) => {
            refusals.into_iter().map(|r| (r.node, r.op, r.opset)).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn versions_outside_the_known_ones() {
    let g = graph(
        &[fixed("x", code::F32, &[2])],
        &[untyped("y")],
        &[node("Relu", &["x"], &["y"]).named("relu")],
        &[],
    );
    for ir in [-1, 0, 2, 99, i64::MAX] {
        refused(model_of(ir, &[("", 21)], &g), ErrorKind::InvalidModel, &["IR version", &ir.to_string()]);
    }
    for opset in [99, 0, -1, i64::MIN] {
        let what = format!("operator set {opset}, which is none of 1 to ");
        refused(model_of(10, &[("", opset)], &g), ErrorKind::Unsupported, &["`relu`", &what]);
    }
    refused(model_of(10, &[], &g), ErrorKind::Unsupported, &["`relu`", "the standard domain"]);
    for (ir, opset) in [(3, 1), (3, 6), (3, 7), (4, 9), (7, 13), (10, 21)] {
        load(model_of(ir, &[("", opset)], &g)).expect("a known version");
        load(model_of(ir, &[("ai.onnx", opset)], &g)).expect("the long name of the standard domain");
    }
}

#[test]
fn an_output_of_another_type_than_the_model_declares() {
    let of = |output| {
        let nodes = [node("Relu", &["x"], &["y"]).named("relu")];
        model(&graph(&[fixed("x", code::F32, &[2])], &[output], &nodes, &[]))
    };
    let declared = fixed("y", code::I64, &[2]);
    refused(of(declared), ErrorKind::InvalidModel, &["`relu`", "`y` is float32; the model declares int64"]);
    // Shapes are hints: what is inferred counts.
    let session = load(of(fixed("y", code::F32, &[3]))).expect("loads");
    let fact = &session.outputs()[0].fact;
    assert!(format!("{fact:?}").contains("[2]"), "{fact:?}");
}

/// A model that adds `initializer`, named `w`, to an input.
fn with_initializer(initializer: Message) -> Message {
    let nodes = [node("Add", &["x", "w"], &["y"]).named("add")];
    model(&graph(&[fixed("x", code::F32, &[2])], &[untyped("y")], &nodes, &[initializer]))
}

#[test]
fn tensors_whose_shape_lies() {
    let lies: [(&[i64], usize, &str); 8] = [
        (&[4], 8, "8 raw bytes"),
        (&[1], 8, "8 raw bytes"),
        (&[-1], 8, "extent -1"),
        (&[i64::MIN], 0, "extent"),
        (&[1 << 40], 8, "raw bytes"),
        (&[1 << 40, 1 << 40], 8, "no memory holds"),
        (&[i64::MAX, 2], 8, "no memory holds"),
        (&[3, 0], 4, "4 raw bytes"),
    ];
    for (shape, bytes, part) in lies {
        let lie = tensor("w", code::F32, shape, &vec![0; bytes]);
        refused(with_initializer(lie), ErrorKind::InvalidModel, &["`w`", part]);
    }
    // Typed data instead of raw bytes, too few of it.
    let typed = Message::new().int(1, 3).int(2, code::F32).text(8, "w").float(4, 1.0);
    refused(with_initializer(typed), ErrorKind::InvalidModel, &["`w`", "number of elements"]);
    let untold = tensor("w", 77, &[2], &[0; 8]);
    refused(with_initializer(untold), ErrorKind::InvalidModel, &["`w`", "element type 77"]);
}

#[test]
fn shapes_that_do_not_fit() {
    let error = load(with_initializer(floats("w", &[3], &[0.0; 3]))).expect_err("2 and 3 do not broadcast");
    assert_error(&error, ErrorKind::InvalidModel, &["`add`", "Add", "2", "3"]);
    let mixed = load(with_initializer(ints("w", &[2], &[0, 0]))).expect_err("f32 + i64");
    assert!(matches!(mixed.kind(), ErrorKind::InvalidModel | ErrorKind::Unsupported), "{mixed}");
    assert_error(&mixed, mixed.kind(), &["`add`", "Add"]);
}

#[test]
fn declared_outputs_that_lie() {
    // What the model declares of an output is not what it computes: refused, or corrected, but never believed.
    let nodes = [node("Relu", &["x"], &["y"]).named("relu")];
    for declared in [fixed("y", code::F32, &[7]), fixed("y", code::I64, &[2]), fixed("y", code::F32, &[2, 2])]
    {
        match load(model(&graph(&[fixed("x", code::F32, &[2])], &[declared], &nodes, &[]))) {
            Err(error) => assert_error(&error, ErrorKind::InvalidModel, &["y"]),
            Ok(session) => {
                let fact = session.outputs()[0].fact.tensor().expect("a tensor").clone();
                assert_eq!(fact.dtype, recurve::DType::F32);
                let x = recurve::Tensor::new(&[2], vec![1f32, -1.0]).expect("a tensor");
                let y = session.run([("x", &x)]).expect("runs");
                assert_eq!(y.tensor("y").expect("y").to_vec::<f32>(), Some(vec![1.0, 0.0]));
            }
        }
    }
}

#[test]
fn inputs_of_huge_or_negative_extent() {
    for extent in [1 << 40, i64::MAX, -1, i64::MIN] {
        let inputs = [fixed("x", code::F32, &[extent, extent])];
        let nodes = [node("Relu", &["x"], &["y"])];
        // Declaring is free; no caller can give such an input.
        if let Err(error) = load(model(&graph(&inputs, &[untyped("y")], &nodes, &[]))) {
            assert!(matches!(error.kind(), ErrorKind::InvalidModel | ErrorKind::MemoryLimit), "{error}");
        }
    }
}

#[test]
fn types_that_are_not_run() {
    for code in [code::STRING, code::COMPLEX64, code::F8] {
        let inputs = [fixed("x", code, &[2])];
        let nodes = [node("Relu", &["x"], &["y"]).named("relu")];
        refused(
            model(&graph(&inputs, &[untyped("y")], &nodes, &[])),
            ErrorKind::Unsupported,
            &["`relu`", "Relu"],
        );
    }
    let map = Message::new().text(1, "x").message(2, &Message::new().message(5, &Message::new().int(1, 7)));
    let nodes = [node("Relu", &["x"], &["y"])];
    let error = load(model(&graph(&[map], &[untyped("y")], &nodes, &[]))).expect_err("a map");
    assert!(matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::InvalidModel), "{error}");
    assert_error(&error, error.kind(), &["`x`", "map"]);
}

/// A message nested in others, built from the inside out and back to front, so that each level costs its own
/// bytes only.
struct Nested(Vec<u8>);

impl Nested {
    /// Makes what is there field `field` of a message that starts with `prefix`.
    fn inside(&mut self, field: u64, prefix: &Message) {
        // An integer and a message differ in the tag's wire type; both have one varint next.
        let mut header = Message::new().int(field, self.0.len() as i64).into_bytes();
        header[0] |= 2;
        self.0.extend(header.iter().rev());
        self.0.extend(prefix.clone().into_bytes().iter().rev());
    }

    fn into_bytes(mut self) -> Vec<u8> {
        self.0.reverse();
        self.0
    }
}

#[test]
fn ten_thousand_nested_bodies() {
    let innermost = graph(&[], &[untyped("o")], &[node("Identity", &["x"], &["o"])], &[]);
    let mut nested = Nested(innermost.into_bytes().into_iter().rev().collect());
    for _ in 0..10_000 {
        nested.inside(6, &Message::new().text(1, "then_branch").int(20, 5));
        nested.inside(5, &node("If", &["flag"], &["o"]));
        nested.inside(1, &Message::new().message(12, &untyped("o")));
    }
    nested.inside(7, &Message::new().int(1, 10));
    let error = load_bytes(nested.into_bytes()).expect_err("ten thousand bodies deep");
    assert_error(&error, ErrorKind::InvalidModel, &["nest"]);
}

#[test]
fn nested_sequence_types() {
    let tensor = Message::new().message(1, &Message::new().int(1, code::F32));
    let mut nested = Nested(tensor.into_bytes().into_iter().rev().collect());
    for _ in 0..10_000 {
        nested.inside(1, &Message::new());
        nested.inside(4, &Message::new());
    }
    nested.inside(2, &Message::new().text(1, "x"));
    nested.inside(11, &Message::new().message(12, &untyped("x")));
    nested.inside(7, &Message::new().int(1, 10));
    let error = load_bytes(nested.into_bytes()).expect_err("ten thousand sequences deep");
    assert_error(&error, ErrorKind::InvalidModel, &["nest"]);
}

#[test]
fn bodies_nested_as_deep_as_is_read() {
    let mut nested = graph(&[], &[untyped("o")], &[node("Relu", &["x"], &["o"])], &[]);
    for _ in 0..20 {
        let both = node("If", &["flag"], &["o"]).with_graph("then_branch", &nested);
        let other = graph(&[], &[untyped("p")], &[node("Neg", &["x"], &["p"])], &[]);
        nested = graph(&[], &[untyped("o")], &[both.with_graph("else_branch", &other)], &[]);
    }
    let inputs = [fixed("x", code::F32, &[2]), fixed("flag", code::BOOL, &[])];
    let other = graph(&[], &[untyped("p")], &[node("Neg", &["x"], &["p"])], &[]);
    let outer =
        node("If", &["flag"], &["y"]).with_graph("then_branch", &nested).with_graph("else_branch", &other);
    let session = load(model(&graph(&inputs, &[untyped("y")], &[outer], &[]))).expect("twenty bodies deep");
    let x = recurve::Tensor::new(&[2], vec![1f32, -1.0]).expect("a tensor");
    for (flag, want) in [(true, [1.0, 0.0]), (false, [-1.0, 1.0])] {
        let flag = recurve::Tensor::scalar(recurve::values::Bool::new(flag));
        let y = session.run([("x", &x), ("flag", &flag)]).expect("runs");
        assert_eq!(y.tensor("y").expect("y").to_vec::<f32>(), Some(want.to_vec()));
    }
}

#[test]
fn a_file_of_many_empty_messages() {
    // Two bytes each in the file, hundreds each in memory: charged before it is decoded.
    let empty = graph(&[], &[], &vec![Message::new(); 1_000_000], &[]);
    refused(model(&empty), ErrorKind::MemoryLimit, &[&LIMIT.to_string()]);
    let bytes = valid().into_bytes();
    let error =
        bounded("loading", || limited().with_memory_limit(100).load_bytes(bytes)).expect_err("100 bytes");
    assert_error(&error, ErrorKind::MemoryLimit, &["100"]);
}
