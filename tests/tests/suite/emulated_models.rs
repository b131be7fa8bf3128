//! Whole models on the emulated GPU, kernels checked at every access: the CPU's answers, and nothing on the host that has a
//! kernel.

use crate::silero_vad;
use recurve::gpu::GpuReject;
use recurve::settings::Fusion;
use recurve::{Device, Fallback, Session, SessionBuilder, Tensor, ValueRef};
use recurve_tests::drawn_inputs;
pub(crate) use recurve_tests::drawn_inputs::drawn;
use recurve_tests::wire::{
    Extent, Message, code, fixed, floats, graph, ints, model, node, tensor, untyped, value,
};
use std::path::PathBuf;

pub(crate) fn weights(name: &str, shape: &[i64], seed: u64) -> Message {
    drawn_inputs::constant(name, shape, seed, 0.5)
}

/// Both sessions of a model: on the CPU and on the emulated GPU.
pub(crate) fn sessions(load: impl Fn(SessionBuilder) -> Session, fallback: Fallback) -> [Session; 2] {
    let builder = || Session::builder().with_threads(2);
    [load(builder()), load(builder().with_device(Device::Emulated).with_fallback(fallback))]
}

/// Runs both on the same inputs, twice, and compares every output.
pub(crate) fn compare(sessions: &[Session; 2], inputs: &[(&str, Tensor)]) {
    let given = || inputs.iter().map(|(name, tensor)| (*name, ValueRef::from(tensor)));
    let want = sessions[0].run(given()).expect("runs on the CPU");
    for _ in 0..2 {
        let got = sessions[1].run(given()).expect("runs on the emulated GPU");
        for (name, want) in want.iter() {
            let (got, want) = (got.tensor(name).expect("there"), want.as_tensor().expect("a tensor"));
            assert_eq!(got.shape(), want.shape(), "{name}");
            match (got.as_slice::<f32>(), want.as_slice::<f32>()) {
                (Some(got), Some(want)) => {
                    for (at, (got, want)) in got.iter().zip(want).enumerate() {
                        let error = (got - want).abs();
                        assert!(error <= 2e-5 * (1.0 + want.abs()), "{name}[{at}]: {got} for {want}");
                    }
                }
                _ => assert_eq!(got.bytes(), want.bytes(), "{name}"),
            }
        }
    }
}

/// Layers of `op` over `x` `[time, batch, input]`, every one of `directions`; each layer's `[time, directions, batch, hidden]`
/// is turned into the next one's input.
fn stacked(op: &str, layers: usize, directions: i64, input: i64, hidden: i64) -> Vec<u8> {
    let gates = match op {
        "LSTM" => 4,
        "GRU" => 3,
        _ => 1,
    };
    let mut nodes = Vec::new();
    let mut constants = vec![ints("joined", &[3], &[0, 0, -1])];
    let mut from = "x".to_owned();
    let mut width = input;
    for layer in 0..layers {
        let name = |part: &str| format!("{part}{layer}");
        let seed = 10 * layer as u64 + 3;
        constants.push(weights(&name("w"), &[directions, gates * hidden, width], seed));
        constants.push(weights(&name("r"), &[directions, gates * hidden, hidden], seed + 1));
        constants.push(weights(&name("b"), &[directions, 2 * gates * hidden], seed + 2));
        let direction = if directions == 2 { "bidirectional" } else { "forward" };
        let last = name("last");
        nodes.push(
            node(op, &[&from, &name("w"), &name("r"), &name("b")], &[&name("y"), &last])
                .with_int("hidden_size", hidden)
                .with_text("direction", direction),
        );
        nodes.push(node("Transpose", &[&name("y")], &[&name("t")]).with_ints("perm", &[0, 2, 1, 3]));
        nodes.push(node("Reshape", &[&name("t"), "joined"], &[&name("x")]));
        (from, width) = (name("x"), directions * hidden);
    }
    nodes.push(node("Identity", &[&from], &["out"]));
    let inputs = [value("x", code::F32, &[Extent::Name("time"), Extent::Name("batch"), Extent::N(input)])];
    let outputs = [untyped("out"), untyped(&format!("last{}", layers - 1))];
    model(&graph(&inputs, &outputs, &nodes, &constants)).into_bytes()
}

#[test]
fn stacked_and_bidirectional_recurrences_give_the_answers_of_the_cpu() {
    for (op, layers, directions, hidden) in
        [("LSTM", 2, 1, 20), ("LSTM", 1, 2, 33), ("GRU", 2, 2, 9), ("RNN", 2, 1, 16), ("LSTM", 1, 1, 130)]
    {
        let bytes = stacked(op, layers, directions, 7, hidden);
        let load = |builder: SessionBuilder| builder.load_bytes(bytes.clone()).expect("loads");
        let both = sessions(load, Fallback::Deny);
        for (time, batch) in [(4usize, 1usize), (3, 6)] {
            let x = Tensor::new(&[time, batch, 7], drawn(5, time * batch * 7, 1.0)).expect("a tensor");
            compare(&both, &[("x", x)]);
        }
        assert!(both[1].host_trips().is_empty());
    }
}

/// An LSTM of `steps` steps over `x` `[steps, batch, 5]`, spelled out: a product with the input, one with the hidden state, a
/// split, and a cell per step.
fn unrolled(steps: i64, hidden: i64) -> Vec<u8> {
    let constants = [
        weights("w", &[5, 4 * hidden], 1),
        weights("r", &[hidden, 4 * hidden], 2),
        weights("b", &[4 * hidden], 3),
    ];
    let mut constants = constants.to_vec();
    let mut nodes = Vec::new();
    let (mut h, mut c) = ("h0".to_owned(), "c0".to_owned());
    let mut all = Vec::new();
    for step in 0..steps {
        let name = |part: &str| format!("{part}_{step}");
        constants.push(ints(&name("at"), &[], &[step]));
        let mut add = |op: &str, from: &[&str], to: &str| {
            nodes.push(node(op, from, &[to]));
        };
        add("Gather", &["x", &name("at")], &name("x"));
        add("MatMul", &[&name("x"), "w"], &name("wx"));
        add("MatMul", &[&h, "r"], &name("rh"));
        add("Add", &[&name("wx"), &name("rh")], &name("sum"));
        add("Add", &[&name("sum"), "b"], &name("gates"));
        let parts = ["gi", "gf", "gc", "go"].map(name);
        let outputs: Vec<&str> = parts.iter().map(String::as_str).collect();
        nodes.push(node("Split", &[&name("gates")], &outputs).with_int("axis", 1).with_int("num_outputs", 4));
        let mut add = |op: &str, from: &[&str], to: &str| {
            nodes.push(node(op, from, &[to]));
        };
        add("Sigmoid", &[&name("gi")], &name("i"));
        add("Sigmoid", &[&name("gf")], &name("f"));
        add("Tanh", &[&name("gc")], &name("g"));
        add("Sigmoid", &[&name("go")], &name("o"));
        add("Mul", &[&name("f"), &c], &name("kept"));
        add("Mul", &[&name("i"), &name("g")], &name("new"));
        add("Add", &[&name("kept"), &name("new")], &name("c"));
        add("Tanh", &[&name("c")], &name("th"));
        add("Mul", &[&name("o"), &name("th")], &name("h"));
        nodes.push(node("Unsqueeze", &[&name("h"), "front"], &[&name("y")]));
        (h, c) = (name("h"), name("c"));
        all.push(name("y"));
    }
    constants.push(ints("front", &[1], &[0]));
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    nodes.push(node("Concat", &all, &["out"]).with_int("axis", 0));
    let rows = Extent::Name("batch");
    let state = |name: &str| value(name, code::F32, &[Extent::Name("batch"), Extent::N(hidden)]);
    let inputs = [value("x", code::F32, &[Extent::N(steps), rows, Extent::N(5)]), state("h0"), state("c0")];
    let outputs = [untyped("out"), untyped(&h), untyped(&c)];
    model(&graph(&inputs, &outputs, &nodes, &constants)).into_bytes()
}

#[test]
fn an_unrolled_lstm_gives_the_answers_of_the_cpu() {
    let bytes = unrolled(6, 12);
    for fusion in [Fusion::On, Fusion::Off] {
        let load =
            |builder: SessionBuilder| builder.with_fusion(fusion).load_bytes(bytes.clone()).expect("loads");
        let both = sessions(load, Fallback::Deny);
        for batch in [1usize, 3] {
            let tensor = |shape: &[usize], seed| {
                let count = shape.iter().product();
                Tensor::new(shape, drawn(seed, count, 1.0)).expect("a tensor")
            };
            let inputs = [
                ("x", tensor(&[6, batch, 5], 4)),
                ("h0", tensor(&[batch, 12], 5)),
                ("c0", tensor(&[batch, 12], 6)),
            ];
            compare(&both, &inputs);
        }
        assert!(both[1].host_trips().is_empty());
    }
}

#[test]
fn the_addition_example_gives_the_answers_of_the_cpu() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/addition/addition.onnx");
    let both = sessions(|builder| builder.load(&path).expect("loads"), Fallback::Deny);
    let question = Tensor::new(&[3, 1], vec![2i64, 10, 2]).expect("a tensor");
    let state = Tensor::new(&[1, 1, 128], vec![0f32; 128]).expect("a tensor");
    compare(&both, &[("question", question), ("h", state.clone()), ("c", state)]);
    assert!(both[1].host_trips().is_empty(), "its loop has as many steps as are known beforehand");
}

#[test]
fn silero_vad_gives_the_answers_of_the_cpu() {
    let Some(model) = silero_vad::model() else { return };
    let both = sessions(|builder| builder.load(&model).expect("loads"), Fallback::Deny);
    let window = Tensor::new(&[1, 576], drawn(8, 576, 0.5)).expect("a tensor");
    let state = Tensor::new(&[2, 1, 128], drawn(9, 256, 0.5)).expect("a tensor");
    compare(&both, &[("input", window), ("state", state), ("sr", Tensor::scalar(16_000i64))]);
    assert!(
        both[1].host_trips().is_empty(),
        "the sampling rate decides its branches before anything is launched"
    );
}

/// Products with operators between them that have no kernel: a dropout of a share that is data, here none, the places of what
/// is positive, which nobody knows the number of beforehand, and how many there are.
fn with_gaps() -> Vec<u8> {
    let constants = [weights("w", &[6, 6], 1), weights("v", &[6, 4], 2)];
    let nodes = [
        node("MatMul", &["x", "w"], &["a"]),
        node("Dropout", &["a", "share", "train"], &["sum"]).named("dropped"),
        node("MatMul", &["sum", "v"], &["y"]),
        node("NonZero", &["positive"], &["places"]).named("found"),
        node("Shape", &["places"], &["shape"]).named("counted"),
        node("Greater", &["y", "zero"], &["positive"]),
    ];
    let constants =
        [&constants[..], &[floats("zero", &[], &[0.0]), tensor("train", code::BOOL, &[], &[1])]].concat();
    let inputs =
        [value("x", code::F32, &[Extent::Name("rows"), Extent::N(6)]), value("share", code::F32, &[])];
    let outputs = [untyped("y"), untyped("places"), untyped("shape")];
    model(&graph(&inputs, &outputs, &nodes, &constants)).into_bytes()
}

#[test]
fn what_has_no_kernel_runs_on_the_host_where_that_is_allowed_and_is_counted() {
    let load = |builder: SessionBuilder| builder.load_bytes(with_gaps()).expect("loads");
    let both = sessions(load, Fallback::Cpu);
    for (runs, rows) in [(1u64, 3usize), (2, 5)] {
        let x = Tensor::new(&[rows, 6], drawn(3, rows * 6, 1.0)).expect("a tensor");
        compare(&both, &[("x", x), ("share", Tensor::scalar(0f32))]);
        let trips = both[1].host_trips();
        let seen: Vec<(&str, &str)> = trips.iter().map(|t| (t.node.as_str(), t.op.as_str())).collect();
        assert_eq!(seen, [("dropped", "Dropout"), ("found", "NonZero"), ("counted", "Shape")]);
        assert!(trips.iter().all(|trip| trip.calls == 2 * runs && trip.members.is_empty()), "{trips:?}");
        // Both ways 6 floats a row, and the truth values of 4 a row down; what is found stays on the host.
        let rows_so_far = 2 * if runs == 1 { 3 } else { 8 };
        let bytes: Vec<(u64, u64)> = trips.iter().map(|t| (t.bytes_down, t.bytes_up)).collect();
        assert_eq!(bytes, [(24 * rows_so_far, 24 * rows_so_far), (4 * rows_so_far, 0), (0, 0)]);
        assert!(matches!(trips[0].reason, GpuReject::Form(_)), "{:?}", trips[0].reason);
        assert_eq!(trips[1].reason, GpuReject::DataDependent);
    }
    let refusing = load(Session::builder().with_device(Device::Emulated));
    let x = Tensor::new(&[3, 6], drawn(3, 18, 1.0)).expect("a tensor");
    let none = Tensor::scalar(0f32);
    let error = refusing.run([("x", &x), ("share", &none)]).expect_err("no leave").to_string();
    assert!(error.contains("`dropped` (Dropout") && error.contains("`found` (NonZero"), "{error}");
}

#[test]
fn a_fused_node_on_the_host_is_told_by_the_models_nodes() {
    // A sum over more axes than a kernel takes.
    let nodes = [
        node("Add", &["x", "k"], &["a"]).named("sum"),
        node("Sigmoid", &["a"], &["b"]).named("gate"),
        node("Neg", &["b"], &["y"]).named("turned"),
    ];
    let [mut along, mut across] = [[1usize; 17]; 2];
    for axis in [2, 4, 6] {
        (along[axis], across[axis - 1]) = (2, 2);
    }
    along[0] = 3;
    let of_rows = |axis: usize, extent: usize| {
        if axis == 0 { Extent::Name("rows") } else { Extent::N(extent as i64) }
    };
    let along_rows: Vec<Extent<'_>> =
        along.iter().enumerate().map(|(axis, &extent)| of_rows(axis, extent)).collect();
    let inputs =
        [value("x", code::F32, &along_rows), fixed("k", code::F32, &across.map(|extent| extent as i64))];
    let made = model(&graph(&inputs, &[untyped("y")], &nodes, &[])).into_bytes();
    let both = sessions(|builder| builder.load_bytes(made.clone()).expect("loads"), Fallback::Cpu);
    let tensor = |seed: u64, shape: &[usize]| {
        Tensor::new(shape, drawn(seed, shape.iter().product(), 1.0)).expect("a tensor")
    };
    compare(&both, &[("x", tensor(1, &along)), ("k", tensor(2, &across))]);
    let trips = both[1].host_trips();
    let [trip] = &trips[..] else { panic!("{trips:?}") };
    let members: Vec<(&str, &str)> = trip.members.iter().map(|m| (&*m.name, m.op.as_str())).collect();
    assert_eq!(members, [("sum", "Add"), ("gate", "Sigmoid"), ("turned", "Neg")]);
    assert!(trip.op.as_str().starts_with("recurve:Fused"), "{trip:?}");
}

#[test]
fn functions_of_doubles_between_products_stay_on_the_device() {
    let nodes = [
        node("MatMul", &["x", "w"], &["a"]),
        node("Cast", &["a"], &["wide"]).with_int("to", 11),
        node("Sin", &["wide"], &["b"]),
        node("Cos", &["b"], &["of_b"]),
        node("Cast", &["of_b"], &["c"]).with_int("to", 1),
        node("MatMul", &["c", "v"], &["y"]),
    ];
    let constants = [weights("w", &[6, 5], 1), weights("v", &[5, 4], 2)];
    let inputs = [value("x", code::F32, &[Extent::Name("rows"), Extent::N(6)])];
    let made = model(&graph(&inputs, &[untyped("y")], &nodes, &constants)).into_bytes();
    let both = sessions(|builder| builder.load_bytes(made.clone()).expect("loads"), Fallback::Deny);
    compare(&both, &[("x", Tensor::new(&[3, 6], drawn(3, 18, 1.0)).expect("a tensor"))]);
}

#[test]
fn a_branch_is_that_of_the_flag_that_is_given_each_time() {
    let branch = |op: &str| graph(&[], &[untyped("out")], &[node(op, &["x"], &["out"])], &[]);
    let nodes = [
        node("Greater", &["level", "limit"], &["high"]),
        node("If", &["high"], &["picked"])
            .with_graph("then_branch", &branch("Neg"))
            .with_graph("else_branch", &branch("Relu")),
        node("Abs", &["picked"], &["y"]),
        node("Identity", &["picked"], &["z"]),
    ];
    let inputs = [value("x", code::F32, &[Extent::N(4)]), value("level", code::I64, &[])];
    let outputs = [untyped("y"), untyped("z")];
    let bytes = model(&graph(&inputs, &outputs, &nodes, &[ints("limit", &[], &[5])])).into_bytes();
    let load = |builder: SessionBuilder| builder.load_bytes(bytes.clone()).expect("loads");
    let both = sessions(load, Fallback::Deny);
    let x = Tensor::new(&[4], vec![1.0f32, -2.0, 3.0, -4.0]).expect("a tensor");
    for level in [9i64, 1, 9, 5, 6] {
        compare(&both, &[("x", x.clone()), ("level", Tensor::scalar(level))]);
    }
}

#[test]
fn a_loop_that_data_ends_runs_on_the_host_where_its_body_has_no_kernel() {
    let body = graph(
        &[
            value("i", code::I64, &[]),
            value("go", code::BOOL, &[]),
            value("held", code::F32, &[Extent::N(3)]),
        ],
        &[untyped("goes"), untyped("next")],
        &[
            node("Add", &["held", "held"], &["next"]),
            node("Cast", &["next"], &["whole"]).with_int("to", code::I64),
            node("ReduceL2", &["whole"], &["length"]).with_int("keepdims", 0),
            node("Cast", &["length"], &["level"]).with_int("to", code::F32),
            node("Less", &["level", "enough"], &["goes"]),
        ],
        &[floats("enough", &[], &[100.0])],
    );
    let nodes = [
        node("Relu", &["x"], &["start"]),
        node("Loop", &["", "", "start"], &["end"]).named("doubling").with_graph("body", &body),
        node("Neg", &["end"], &["y"]),
    ];
    let inputs = [value("x", code::F32, &[Extent::N(3)])];
    let bytes = model(&graph(&inputs, &[untyped("y")], &nodes, &[])).into_bytes();
    let load = |builder: SessionBuilder| builder.load_bytes(bytes.clone()).expect("loads");
    let both = sessions(load, Fallback::Cpu);
    let x = Tensor::new(&[3], vec![1.5f32, -2.0, 0.25]).expect("a tensor");
    compare(&both, &[("x", x)]);
    let trips = both[1].host_trips();
    assert_eq!(trips.len(), 1, "{trips:?}");
    assert_eq!(trips[0].node.as_str(), "doubling");
    assert!(matches!(trips[0].reason, GpuReject::Form(_)), "{:?}", trips[0].reason);
    assert_eq!((trips[0].calls, trips[0].bytes_down, trips[0].bytes_up), (2, 24, 24));
}

#[test]
fn an_index_outside_its_axis_is_an_error_and_not_an_access() {
    let nodes = [node("Gather", &["table", "at"], &["y"]).named("embedding")];
    let inputs = [value("at", code::I64, &[Extent::Name("count")])];
    let bytes = model(&graph(&inputs, &[untyped("y")], &nodes, &[weights("table", &[5, 3], 1)])).into_bytes();
    let session = Session::builder().with_device(Device::Emulated).load_bytes(bytes).expect("loads");
    let at = |index: i64| Tensor::new(&[2], vec![1, index]).expect("a tensor");
    session.run([("at", &at(-5))]).expect("the first row");
    let error = session.run([("at", &at(5))]).expect_err("there is no sixth row");
    assert!(format!("{error:?}").contains("outside its axis"), "{error:?}");
    session.run([("at", &at(4))]).expect("the session goes on");
}
