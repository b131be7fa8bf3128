//! Recurrent layers as an exporter writes them: step by step, and as the operator.

use crate::branches::{ANY, Extents};
use crate::wire::Message;

/// A graph under construction.
#[derive(Default)]
pub(crate) struct Model {
    graph: Message,
    names: usize,
}

impl Model {
    pub(crate) fn value(&mut self, field: u64, name: &str, shape: &[usize]) {
        let extent = |n: usize| match n {
            ANY => Message::default().text(2, "time"),
            n => Message::default().int(1, n as i64),
        };
        let dims = shape.iter().fold(Message::default(), |m, &n| m.message(1, &extent(n)));
        let tensor = Message::default().int(1, 1).message(2, &dims);
        let info = Message::default().text(1, name).message(2, &Message::default().message(1, &tensor));
        self.graph = std::mem::take(&mut self.graph).message(field, &info);
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("v{}", self.names)
    }

    fn constant(&mut self, code: i64, shape: &[usize], raw: &[u8]) -> String {
        let name = self.name();
        let m = shape.iter().fold(Message::default(), |m, &n| m.int(1, n as i64));
        let tensor = m.int(2, code).text(8, &name).bytes(9, raw);
        self.graph = std::mem::take(&mut self.graph).message(5, &tensor);
        name
    }

    /// Pseudo-random weights of about `1 / √fan`.
    pub(crate) fn weights(&mut self, shape: &[usize], fan: usize) -> String {
        let mut state = 1 + self.names as u64;
        let scale = 1.0 / (fan as f32).sqrt();
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * scale
        };
        let raw: Vec<u8> = (0..shape.iter().product()).flat_map(|_| next().to_le_bytes()).collect();
        self.constant(1, shape, &raw)
    }

    fn zeros(&mut self, shape: &[usize]) -> String {
        let raw = vec![0; 4 * shape.iter().product::<usize>()];
        self.constant(1, shape, &raw)
    }

    pub(crate) fn integers(&mut self, values: &[i64]) -> String {
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(7, &[values.len()], &raw)
    }

    pub(crate) fn node(&mut self, op: &str, inputs: &[&str], ints: &[(&str, i64)], outputs: &[&str]) {
        let attribute =
            |(name, value): &(&str, i64)| Message::default().text(1, name).int(3, *value).int(20, 2);
        self.node_with(op, inputs, &ints.iter().map(attribute).collect::<Vec<_>>(), outputs);
    }

    /// A node with attributes of any kind.
    pub(crate) fn node_with(&mut self, op: &str, inputs: &[&str], attributes: &[Message], outputs: &[&str]) {
        let m = inputs.iter().fold(Message::default(), |m, name| m.text(1, name));
        let m = outputs.iter().fold(m, |m, name| m.text(2, name)).text(4, op);
        let m = attributes.iter().fold(m, |m, attribute| m.message(5, attribute));
        self.graph = std::mem::take(&mut self.graph).message(1, &m);
    }

    pub(crate) fn op(&mut self, op: &str, inputs: &[&str], ints: &[(&str, i64)]) -> String {
        let name = self.name();
        self.node(op, inputs, ints, &[&name]);
        name
    }

    /// A recurrent layer on `x`, `[time, batch, features]`; all states as `[time, batch, hidden]`.
    pub(crate) fn layer(&mut self, op: &str, x: &str, of: Extents) -> String {
        self.layer_from(op, x, None, of)
    }

    /// The same from the state `initial`, `[1, batch, hidden]`, on.
    pub(crate) fn layer_from(&mut self, op: &str, x: &str, initial: Option<&str>, of: Extents) -> String {
        let hidden = of.hidden;
        let rows = hidden * if op == "LSTM" { 4 } else { 3 };
        let (w, r) = (self.weights(&[1, rows, hidden], hidden), self.weights(&[1, rows, hidden], hidden));
        let b = self.weights(&[1, 2 * rows], hidden);
        let states = self.name();
        let inputs = [x, &w, &r, &b, "", initial.unwrap_or_default()];
        let given = if initial.is_some() { &inputs[..] } else { &inputs[..4] };
        self.node(op, given, &[("hidden_size", hidden as i64)], &[&states]);
        let axis = self.integers(&[1]);
        self.op("Squeeze", &[&states, &axis], &[])
    }

    /// An LSTM of both directions on `x`; the states of both one behind the other, `[time, batch, 2 · hidden]`.
    pub(crate) fn both_directions(&mut self, x: &str, of: Extents) -> String {
        let Extents { time, batch, hidden } = of;
        let rows = 4 * hidden;
        let (w, r) = (self.weights(&[2, rows, hidden], hidden), self.weights(&[2, rows, hidden], hidden));
        let b = self.weights(&[2, 2 * rows], hidden);
        let states = self.name();
        let inputs = [x, &w, &r, &b].into_iter();
        let m = inputs.fold(Message::default(), |m, name| m.text(1, name)).text(2, &states).text(4, "LSTM");
        let size = Message::default().text(1, "hidden_size").int(3, hidden as i64).int(20, 2);
        let direction = Message::default().text(1, "direction").text(4, "bidirectional").int(20, 3);
        let m = m.message(5, &size).message(5, &direction);
        self.graph = std::mem::take(&mut self.graph).message(1, &m);
        let order = Message::default().text(1, "perm");
        let order = [0, 2, 1, 3].into_iter().fold(order, |m, axis| m.int(8, axis)).int(20, 7);
        let turned = self.name();
        let m = Message::default().text(1, &states).text(2, &turned).text(4, "Transpose").message(5, &order);
        self.graph = std::mem::take(&mut self.graph).message(1, &m);
        let shape = self.integers(&[time as i64, batch as i64, 2 * hidden as i64]);
        self.op("Reshape", &[&turned, &shape], &[])
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        let opset = Message::default().text(1, "").int(2, 21);
        let graph = self.graph.text(2, "graph");
        Message::default().int(1, 10).message(7, &graph).message(8, &opset).into_bytes()
    }
}

/// Extents of a recurrent layer.
#[derive(Clone, Copy, Debug)]
pub struct Recurrence {
    /// Steps.
    pub time: usize,
    /// Rows.
    pub batch: usize,
    /// Features of the input and of the state.
    pub hidden: usize,
}

/// One layer as the `LSTM` or `GRU` operator on `x`, `[time, batch, hidden]`, with all states as output.
pub fn operator(op: &str, of: Recurrence) -> Vec<u8> {
    let Recurrence { time, batch, hidden } = of;
    let rows = hidden * if op == "LSTM" { 4 } else { 3 };
    let mut model = Model::default();
    model.value(11, "x", &[time, batch, hidden]);
    let (w, r) = (model.weights(&[1, rows, hidden], hidden), model.weights(&[1, rows, hidden], hidden));
    let b = model.weights(&[1, 2 * rows], hidden);
    let attributes: &[(&str, i64)] = &[("hidden_size", hidden as i64), ("linear_before_reset", 1)];
    let attributes = &attributes[..if op == "LSTM" { 1 } else { 2 }];
    model.node(op, &["x", &w, &r, &b], attributes, &["states"]);
    let axis = model.integers(&[1]);
    model.node("Squeeze", &["states", &axis], &[], &["y"]);
    model.value(12, "y", &[time, batch, hidden]);
    model.finish()
}

/// The same layer written out step by step as PyTorch's cells are exported: two Gemms with biases, then gates.
pub fn written_out(op: &str, of: Recurrence) -> Vec<u8> {
    let Recurrence { time, batch, hidden } = of;
    let gates = if op == "LSTM" { 4 } else { 3 };
    let rows = hidden * gates;
    let mut model = Model::default();
    model.value(11, "x", &[time, batch, hidden]);
    let (w, r) = (model.weights(&[rows, hidden], hidden), model.weights(&[rows, hidden], hidden));
    let (b, rb) = (model.weights(&[rows], hidden), model.weights(&[rows], hidden));
    let (mut h, mut c) = (model.zeros(&[batch, hidden]), model.zeros(&[batch, hidden]));
    let (zero, one) = (model.integers(&[0]), model.constant(1, &[], &1f32.to_le_bytes()));
    let mut steps = Vec::new();
    for step in 0..time {
        let at = model.constant(7, &[], &(step as i64).to_le_bytes());
        let x = model.op("Gather", &["x", &at], &[("axis", 0)]);
        let from_x = model.op("Gemm", &[&x, &w, &b], &[("transB", 1)]);
        let from_h = model.op("Gemm", &[&h, &r, &rb], &[("transB", 1)]);
        let split = |model: &mut Model, sums: &str| {
            let parts: Vec<String> = (0..gates).map(|_| model.name()).collect();
            let named: Vec<&str> = parts.iter().map(String::as_str).collect();
            model.node("Split", &[sums], &[("axis", 1), ("num_outputs", gates as i64)], &named);
            parts
        };
        h = if op == "LSTM" {
            let sums = model.op("Add", &[&from_x, &from_h], &[]);
            let parts = split(&mut model, &sums);
            let [i, f, o] = [0, 1, 3].map(|g| model.op("Sigmoid", &[&parts[g]], &[]));
            let g = model.op("Tanh", &[&parts[2]], &[]);
            let (kept, new) = (model.op("Mul", &[&f, &c], &[]), model.op("Mul", &[&i, &g], &[]));
            c = model.op("Add", &[&kept, &new], &[]);
            let shown = model.op("Tanh", &[&c], &[]);
            model.op("Mul", &[&o, &shown], &[])
        } else {
            let (x, h_parts) = (split(&mut model, &from_x), split(&mut model, &from_h));
            let gate = |model: &mut Model, g: usize| {
                let sum = model.op("Add", &[&x[g], &h_parts[g]], &[]);
                model.op("Sigmoid", &[&sum], &[])
            };
            let (r, z) = (gate(&mut model, 0), gate(&mut model, 1));
            let inner = model.op("Mul", &[&r, &h_parts[2]], &[]);
            let sum = model.op("Add", &[&x[2], &inner], &[]);
            let n = model.op("Tanh", &[&sum], &[]);
            let rest = model.op("Sub", &[&one, &z], &[]);
            let (new, kept) = (model.op("Mul", &[&rest, &n], &[]), model.op("Mul", &[&z, &h], &[]));
            model.op("Add", &[&new, &kept], &[])
        };
        steps.push(model.op("Unsqueeze", &[&h, &zero], &[]));
    }
    let named: Vec<&str> = steps.iter().map(String::as_str).collect();
    model.node("Concat", &named, &[("axis", 0)], &["y"]);
    model.value(12, "y", &[time, batch, hidden]);
    model.finish()
}
