//! Graphs of as many nodes as wanted, as exporters write them: dense layers with normalisations in primitive
//! operators, residual convolutions, and LSTMs written out step by step, deep or long. Weights are small, so that
//! the time of a load is that of its nodes.

use crate::wire::Message;

/// Numbers of `TensorProto.DataType`.
const F32: i64 = 1;
const I64: i64 = 7;

/// What a graph is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Dense layers, GELU and layer normalisation in primitive operators.
    Dense,
    /// Convolutions with batch normalisation, activations and residual sums.
    Convolutions,
    /// An LSTM of 16 steps and as many layers as needed.
    DeepLstm,
    /// An LSTM of two layers and as many steps as needed.
    LongLstm,
    /// A quarter of each.
    Mixed,
}

/// An ONNX file of about `nodes` nodes.
pub fn model(kind: Kind, nodes: usize) -> Vec<u8> {
    let mut writer = Writer::default();
    match kind {
        Kind::Dense => writer.dense(nodes),
        Kind::Convolutions => writer.convolutions(nodes),
        Kind::DeepLstm => writer.deep_lstm(nodes),
        Kind::LongLstm => writer.long_lstm(nodes),
        Kind::Mixed => {
            writer.dense(nodes / 4);
            writer.convolutions(nodes / 4);
            writer.deep_lstm(nodes / 4);
            writer.long_lstm(nodes / 4);
        }
    }
    let opset = Message::default().int(2, 17);
    let graph = writer.graph.text(2, "graph");
    Message::default().int(1, 8).message(7, &graph).message(8, &opset).into_bytes()
}

/// A graph being written; values are named by their number.
#[derive(Default)]
struct Writer {
    graph: Message,
    names: usize,
    seed: u32,
}

impl Writer {
    fn name(&mut self) -> String {
        self.names += 1;
        format!("v{}", self.names)
    }

    fn input(&mut self, dims: &[i64]) -> String {
        let name = self.name();
        self.add(11, &value(&name, dims));
        name
    }

    fn output(&mut self, name: &str, dims: &[i64]) {
        self.add(12, &value(name, dims));
    }

    /// Adds a part of the graph.
    fn add(&mut self, field: u64, part: &Message) {
        self.graph = std::mem::take(&mut self.graph).message(field, part);
    }

    fn constant(&mut self, data_type: i64, dims: &[i64], raw: &[u8]) -> String {
        let name = self.name();
        let tensor = Message::default().ints(1, dims).int(2, data_type).text(8, &name).bytes(9, raw);
        self.add(5, &tensor);
        name
    }

    /// Weights that differ from all others.
    fn weight(&mut self, dims: &[i64]) -> String {
        let count: i64 = dims.iter().product();
        let mut raw = Vec::with_capacity(count as usize * 4);
        for _ in 0..count {
            self.seed = self.seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            raw.extend(((self.seed >> 8) as f32 / 16_777_216.0 - 0.5).to_le_bytes());
        }
        self.constant(F32, dims, &raw)
    }

    fn floats(&mut self, dims: &[i64], value: f32) -> String {
        let count: i64 = dims.iter().product();
        self.constant(F32, dims, &value.to_le_bytes().repeat(count as usize))
    }

    fn integers(&mut self, dims: &[i64], values: &[i64]) -> String {
        self.constant(I64, dims, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())
    }

    fn nodes(&mut self, op: &str, inputs: &[&str], outputs: usize, attributes: &[Message]) -> Vec<String> {
        let outputs: Vec<String> = (0..outputs).map(|_| self.name()).collect();
        let named = |message: Message, (field, names): (u64, Vec<&str>)| {
            names.iter().fold(message, |message, name| message.text(field, name))
        };
        let ends = [(1, inputs.to_vec()), (2, outputs.iter().map(String::as_str).collect())];
        let node = ends.into_iter().fold(Message::default(), named);
        let node = node.text(3, &format!("{op}_{}", self.names)).text(4, op);
        let node = attributes.iter().fold(node, |node, attribute| node.message(5, attribute));
        self.add(1, &node);
        outputs
    }

    fn node(&mut self, op: &str, inputs: &[&str]) -> String {
        self.node_with(op, inputs, &[])
    }

    fn node_with(&mut self, op: &str, inputs: &[&str], attributes: &[Message]) -> String {
        self.nodes(op, inputs, 1, attributes).pop().unwrap_or_default()
    }

    /// Blocks of 22 nodes: layer normalisation, a dense layer, GELU, a dense layer, a residual sum.
    fn dense(&mut self, nodes: usize) {
        const WIDTH: i64 = 32;
        let mut x = self.input(&[4, WIDTH]);
        for _ in 0..nodes.div_ceil(22) {
            let (epsilon, two) = (self.floats(&[], 1e-5), self.floats(&[], 2.0));
            let (scale, shift) = (self.weight(&[WIDTH]), self.weight(&[WIDTH]));
            let last = [ints("axes", &[-1])];
            let mean = self.node_with("ReduceMean", &[&x], &last);
            let centred = self.node("Sub", &[&x, &mean]);
            let squared = self.node("Pow", &[&centred, &two]);
            let variance = self.node_with("ReduceMean", &[&squared], &last);
            let shifted = self.node("Add", &[&variance, &epsilon]);
            let deviation = self.node("Sqrt", &[&shifted]);
            let normal = self.node("Div", &[&centred, &deviation]);
            let scaled = self.node("Mul", &[&normal, &scale]);
            let y = self.node("Add", &[&scaled, &shift]);
            let y = self.layer(&y, WIDTH);
            let (root, one, half) =
                (self.floats(&[], std::f32::consts::SQRT_2), self.floats(&[], 1.0), self.floats(&[], 0.5));
            let ratio = self.node("Div", &[&y, &root]);
            let erf = self.node("Erf", &[&ratio]);
            let raised = self.node("Add", &[&erf, &one]);
            let product = self.node("Mul", &[&y, &raised]);
            let y = self.node("Mul", &[&product, &half]);
            let y = self.layer(&y, WIDTH);
            let y = self.node("Relu", &[&y]);
            let y = self.node("Neg", &[&y]);
            let y = self.node("Tanh", &[&y]);
            x = self.node("Add", &[&x, &y]);
        }
        self.output(&x, &[4, WIDTH]);
    }

    fn layer(&mut self, x: &str, width: i64) -> String {
        let (weight, bias) = (self.weight(&[width, width]), self.weight(&[width]));
        let product = self.node("MatMul", &[x, &weight]);
        self.node("Add", &[&product, &bias])
    }

    /// Blocks of 7 nodes.
    fn convolutions(&mut self, nodes: usize) {
        const CHANNELS: i64 = 4;
        let shape = [1, CHANNELS, 16, 16];
        let mut x = self.input(&shape);
        for _ in 0..nodes.div_ceil(7) {
            let y = self.convolution(&x, CHANNELS);
            let y = self.node("Relu", &[&y]);
            let y = self.convolution(&y, CHANNELS);
            let sum = self.node("Add", &[&y, &x]);
            x = self.node("Relu", &[&sum]);
        }
        self.output(&x, &shape);
    }

    fn convolution(&mut self, x: &str, channels: i64) -> String {
        let weight = self.weight(&[channels, channels, 3, 3]);
        let sides = [ints("pads", &[1, 1, 1, 1]), ints("kernel_shape", &[3, 3])];
        let y = self.node_with("Conv", &[x, &weight], &sides);
        // A variance that keeps the values of hundreds of layers in range.
        let normal: Vec<String> = [1.0, 0.1, 0.2, 400.0].map(|v| self.floats(&[channels], v)).into();
        self.node("BatchNormalization", &[&y, &normal[0], &normal[1], &normal[2], &normal[3]])
    }

    fn deep_lstm(&mut self, nodes: usize) {
        const STEPS: usize = 16;
        self.lstm(STEPS, nodes.div_ceil(STEPS * 13));
    }

    fn long_lstm(&mut self, nodes: usize) {
        const LAYERS: usize = 2;
        self.lstm(nodes.div_ceil(LAYERS * 13 + 2), LAYERS);
    }

    /// Twelve nodes a step and layer, as exporters write a cell that they do not know, and two more a step.
    fn lstm(&mut self, steps: usize, layers: usize) {
        const WIDTH: i64 = 8;
        let x = self.input(&[steps as i64, 1, WIDTH]);
        let mut values: Vec<String> = (0..steps)
            .map(|t| {
                let at = self.integers(&[], &[t as i64]);
                self.node_with("Gather", &[&x, &at], &[int("axis", 0)])
            })
            .collect();
        let zero = self.floats(&[1, WIDTH], 0.0);
        for _ in 0..layers {
            let (w, r) = (self.weight(&[WIDTH, 4 * WIDTH]), self.weight(&[WIDTH, 4 * WIDTH]));
            let b = self.weight(&[4 * WIDTH]);
            let (mut h, mut c) = (zero.clone(), zero.clone());
            for value in &mut values {
                (h, c) = self.cell(value, &h, &c, [&w, &r, &b]);
                value.clone_from(&h);
            }
        }
        let axes = self.integers(&[1], &[0]);
        let rows: Vec<String> = values.iter().map(|v| self.node("Unsqueeze", &[v, &axes])).collect();
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        let y = self.node_with("Concat", &rows, &[int("axis", 0)]);
        self.output(&y, &[steps as i64, 1, WIDTH]);
    }

    fn cell(&mut self, x: &str, h: &str, c: &str, weights: [&str; 3]) -> (String, String) {
        let [w, r, b] = weights;
        let from_x = self.node("MatMul", &[x, w]);
        let from_h = self.node("MatMul", &[h, r]);
        let sum = self.node("Add", &[&from_x, &from_h]);
        let sum = self.node("Add", &[&sum, b]);
        let gates = self.nodes("Split", &[&sum], 4, &[int("axis", 1)]);
        let i = self.node("Sigmoid", &[&gates[0]]);
        let f = self.node("Sigmoid", &[&gates[1]]);
        let g = self.node("Tanh", &[&gates[2]]);
        let o = self.node("Sigmoid", &[&gates[3]]);
        let kept = self.node("Mul", &[&f, c]);
        let added = self.node("Mul", &[&i, &g]);
        let c = self.node("Add", &[&kept, &added]);
        let shown = self.node("Tanh", &[&c]);
        (self.node("Mul", &[&o, &shown]), c)
    }
}

fn int(name: &str, i: i64) -> Message {
    Message::default().text(1, name).int(3, i).int(20, 2)
}

fn ints(name: &str, ints: &[i64]) -> Message {
    Message::default().text(1, name).ints(8, ints).int(20, 7)
}

fn value(name: &str, dims: &[i64]) -> Message {
    let dim = |shape: Message, &n: &i64| shape.message(1, &Message::default().int(1, n));
    let tensor = Message::default().int(1, F32).message(2, &dims.iter().fold(Message::default(), dim));
    Message::default().text(1, name).message(2, &Message::default().message(1, &tensor))
}
