//! Small models on one device against the CPU, over several shapes; weights are drawn.

use super::report::Tally;
use crate::drawn_inputs::drawn;
use crate::wire::{Extent, Message, code, floats, graph, ints, model, node, untyped, value};
use recurve::settings::Fusion;
use recurve::{Device, ErrorKind, Session, SessionBuilder, Tensor};
use std::time::Instant;

/// A model, and the extents that its inputs' symbols take.
pub struct ModelCase {
    /// Its name.
    pub name: &'static str,
    /// The file.
    pub bytes: Vec<u8>,
    /// Names and shapes of its f32 inputs, for each binding.
    pub bindings: Vec<Vec<(&'static str, Vec<usize>)>>,
    /// How far an output may be off, relative to 1 and to itself.
    pub tolerance: f32,
}

impl std::fmt::Debug for ModelCase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ModelCase({}, {} bytes)", self.name, self.bytes.len())
    }
}

/// Every model, its weights drawn from `seed`.
pub fn models(seed: u64) -> Vec<ModelCase> {
    vec![perceptron(seed), attention(seed), normalised(seed), long_map(seed), stacked(seed)]
}

fn weights(name: &str, shape: &[i64], seed: u64) -> Message {
    let count: i64 = shape.iter().product();
    let scale = 1.0 / (shape[0] as f32).sqrt();
    let values: Vec<f32> = drawn(seed, count as usize, 1.0).iter().map(|w| w * scale).collect();
    floats(name, shape, &values)
}

/// `softmax(relu(x · w₁ + b₁) · w₂)`, a mean over the rows of it, and the first product turned around.
fn perceptron(seed: u64) -> ModelCase {
    let constants =
        [weights("w1", &[19, 33], seed), weights("b1", &[33], seed + 1), weights("w2", &[33, 7], seed + 2)];
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
    // One row and a few are few vectors, more are a matrix; shapes come back.
    let bindings = [1, 3, 16, 17, 40, 1].map(|rows| vec![("x", vec![rows, 19])]).to_vec();
    let bytes = model(&graph(&inputs, &outputs, &nodes, &constants)).into_bytes();
    ModelCase { name: "perceptron", bytes, bindings, tolerance: 1e-5 }
}

/// `softmax(q · kᵀ / 4) · v`, batched.
fn attention(_: u64) -> ModelCase {
    let nodes = [
        node("Transpose", &["k"], &["turned"]).with_ints("perm", &[0, 2, 1]),
        node("MatMul", &["q", "turned"], &["scores"]),
        node("Mul", &["scores", "scale"], &["scaled"]),
        node("Softmax", &["scaled"], &["weights"]).with_int("axis", -1),
        node("MatMul", &["weights", "v"], &["y"]),
    ];
    let symbols = [Extent::Name("heads"), Extent::Name("time"), Extent::N(16)];
    let inputs = ["q", "k", "v"].map(|name| value(name, code::F32, &symbols));
    let constants = [floats("scale", &[], &[0.25])];
    let shapes = [[1, 1, 16], [2, 9, 16], [3, 33, 16]];
    let bindings = shapes.map(|s| ["q", "k", "v"].map(|name| (name, s.to_vec())).to_vec()).to_vec();
    let bytes = model(&graph(&inputs, &[untyped("y")], &nodes, &constants)).into_bytes();
    ModelCase { name: "attention", bytes, bindings, tolerance: 1e-5 }
}

/// A layer normalisation that is spelled out, behind a product.
fn normalised(seed: u64) -> ModelCase {
    let constants = [
        weights("w", &[24, 48], seed),
        weights("gain", &[48], seed + 1),
        floats("tiny", &[], &[1e-5]),
        ints("last", &[1], &[-1]),
    ];
    let nodes = [
        node("MatMul", &["x", "w"], &["a"]),
        node("ReduceMean", &["a", "last"], &["mean"]).with_int("keepdims", 1),
        node("Sub", &["a", "mean"], &["centred"]),
        node("Mul", &["centred", "centred"], &["square"]),
        node("ReduceMean", &["square", "last"], &["variance"]).with_int("keepdims", 1),
        node("Add", &["variance", "tiny"], &["safe"]),
        node("Sqrt", &["safe"], &["deviation"]),
        node("Div", &["centred", "deviation"], &["even"]),
        node("Mul", &["even", "gain"], &["y"]),
    ];
    let inputs = [value("x", code::F32, &[Extent::Name("rows"), Extent::N(24)])];
    let bindings = [1, 5, 32, 67].map(|rows| vec![("x", vec![rows, 24])]).to_vec();
    let bytes = model(&graph(&inputs, &[untyped("y")], &nodes, &constants)).into_bytes();
    ModelCase { name: "layer normalisation", bytes, bindings, tolerance: 1e-4 }
}

/// A chain of elementwise operators with broadcasting.
fn long_map(seed: u64) -> ModelCase {
    let constants = [weights("row", &[65], seed), weights("column", &[9, 1], seed + 1)];
    let nodes = [
        node("Add", &["x", "row"], &["a"]),
        node("Mul", &["a", "column"], &["b"]),
        node("Tanh", &["b"], &["c"]),
        node("Sigmoid", &["a"], &["d"]),
        node("Mul", &["c", "d"], &["e"]),
        node("Abs", &["e"], &["f"]),
        node("Sqrt", &["f"], &["g"]),
        node("Sub", &["g", "x"], &["h"]),
        node("Max", &["h", "row"], &["y"]),
    ];
    let inputs = [value("x", code::F32, &[Extent::Name("batch"), Extent::N(9), Extent::N(65)])];
    let bindings = [1, 4, 13].map(|batch| vec![("x", vec![batch, 9, 65])]).to_vec();
    let bytes = model(&graph(&inputs, &[untyped("y")], &nodes, &constants)).into_bytes();
    ModelCase { name: "map", bytes, bindings, tolerance: 1e-5 }
}

/// Two bidirectional LSTM layers and a product.
fn stacked(seed: u64) -> ModelCase {
    let (features, hidden) = (12, 20);
    let gates = 4 * hidden;
    let constants = [
        weights("w1", &[2, gates, features], seed),
        weights("r1", &[2, gates, hidden], seed + 1),
        weights("b1", &[2, 2 * gates], seed + 2),
        weights("w2", &[2, gates, 2 * hidden], seed + 3),
        weights("r2", &[2, gates, hidden], seed + 4),
        weights("out", &[2 * hidden, 5], seed + 5),
        ints("joined", &[3], &[0, 0, -1]),
    ];
    let lstm = |inputs: &[&str], outputs: &[&str]| {
        let direction = Message::new().text(1, "direction").text(4, "bidirectional").int(20, 3);
        node("LSTM", inputs, outputs).with_int("hidden_size", hidden).message(5, &direction)
    };
    let nodes = [
        lstm(&["x", "w1", "r1", "b1"], &["y1", "h1", "c1"]),
        node("Transpose", &["y1"], &["t1"]).with_ints("perm", &[0, 2, 1, 3]),
        node("Reshape", &["t1", "joined"], &["x2"]),
        lstm(&["x2", "w2", "r2"], &["y2", "h2", "c2"]),
        node("Transpose", &["y2"], &["t2"]).with_ints("perm", &[0, 2, 1, 3]),
        node("Reshape", &["t2", "joined"], &["x3"]),
        node("MatMul", &["x3", "out"], &["y"]),
    ];
    let inputs = [value("x", code::F32, &[Extent::Name("time"), Extent::Name("batch"), Extent::N(features)])];
    let shapes = [[1, 1], [7, 1], [5, 3]];
    let bindings = shapes.map(|[t, b]| vec![("x", vec![t, b, features as usize])]).to_vec();
    let outputs = [untyped("y"), untyped("h2"), untyped("c2")];
    let bytes = model(&graph(&inputs, &outputs, &nodes, &constants)).into_bytes();
    ModelCase { name: "stacked bidirectional LSTM", bytes, bindings, tolerance: 1e-4 }
}

/// Runs a model on `device` in all its bindings, twice each, and holds it to the CPU's answers.
pub fn run_model(case: &ModelCase, device: Device, seed: u64) -> Tally {
    let start = Instant::now();
    let mut tally = Tally { suite: case.name.to_owned(), ..Tally::default() };
    for fusion in [Fusion::On, Fusion::Off] {
        let builder = |device| Session::builder().with_fusion(fusion).with_device(device);
        for binding in 0..case.bindings.len() {
            let what = |problem: String| format!("fusion {fusion:?}, binding {binding}: {problem}");
            match compare(case, &builder, binding, device, seed) {
                Ok(true) => tally.passed += 1,
                Ok(false) => tally.refused += 1,
                Err(problem) => tally.fail(what(problem)),
            }
        }
    }
    tally.seconds = start.elapsed().as_secs_f64();
    tally
}

/// Whether the device has kernels for all of the model; an error where its answers are not the CPU's.
fn compare(
    case: &ModelCase,
    builder: &dyn Fn(Device) -> SessionBuilder,
    binding: usize,
    device: Device,
    seed: u64,
) -> Result<bool, String> {
    let said = |error: recurve::Error| error.to_string();
    let load = |device| builder(device).load_bytes(case.bytes.clone());
    let cpu = load(Device::Cpu).map_err(said)?;
    let gpu = match load(device) {
        Ok(gpu) => gpu,
        Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(false),
        Err(error) => return Err(error.to_string()),
    };
    let mut inputs = Vec::new();
    for (number, (name, shape)) in case.bindings[binding].iter().enumerate() {
        let values = drawn(seed + 100 * binding as u64 + number as u64, shape.iter().product(), 1.0);
        inputs.push((*name, Tensor::new(shape, values).map_err(said)?));
    }
    let given = || inputs.iter().map(|(name, tensor)| (*name, tensor));
    let want = cpu.run(given()).map_err(said)?;
    for _ in 0..2 {
        let got = match gpu.run(given()) {
            Ok(got) => got,
            Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(false),
            Err(error) => return Err(error.to_string()),
        };
        for ((name, got), (_, want)) in got.iter().zip(want.iter()) {
            let both = got.as_tensor().zip(want.as_tensor()).ok_or("an output that is no tensor")?;
            let differ = off(both.0, both.1, case.tolerance);
            if let Some(problem) = differ {
                return Err(format!("output `{name}`: {problem}"));
            }
        }
    }
    Ok(true)
}

/// Where two tensors differ by more than the tolerance.
fn off(got: &Tensor, want: &Tensor, tolerance: f32) -> Option<String> {
    if got.shape() != want.shape() {
        return Some(format!("shape {:?} instead of {:?}", got.shape(), want.shape()));
    }
    let (Some(got), Some(want)) = (got.to_vec::<f32>(), want.to_vec::<f32>()) else {
        return Some("not f32".to_owned());
    };
    let near = |got: f32, want: f32| (got - want).abs() <= tolerance * (1.0 + want.abs());
    let (at, (got, want)) =
        got.iter().zip(&want).enumerate().find(|(_, (got, want))| !near(**got, **want))?;
    Some(format!("[{at}] is {got} instead of {want}"))
}
