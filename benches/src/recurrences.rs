//! Recurrent layers as the operator; `spelled` has them step by step.

use crate::branches::{ANY, Extents};
use crate::wire::Message;

/// A graph under construction.
#[derive(Default)]
pub(crate) struct Model {
    graph: Message,
    names: usize,
    /// Ahead of the names of its values.
    prefix: String,
}

impl Model {
    /// A body, whose values have names of their own.
    pub(crate) fn inside(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), ..Self::default() }
    }

    /// An input or output whose shape is not told.
    pub(crate) fn unshaped(&mut self, field: u64, name: &str) {
        let tensor = Message::default().int(1, 1);
        let info = Message::default().text(1, name).message(2, &Message::default().message(1, &tensor));
        self.graph = std::mem::take(&mut self.graph).message(field, &info);
    }

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

    pub(crate) fn name(&mut self) -> String {
        self.names += 1;
        format!("{}v{}", self.prefix, self.names)
    }

    pub(crate) fn constant(&mut self, code: i64, shape: &[usize], raw: &[u8]) -> String {
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

    pub(crate) fn zeros(&mut self, shape: &[usize]) -> String {
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

    /// The graph under this name.
    pub(crate) fn into_graph(self, name: &str) -> Message {
        self.graph.text(2, name)
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        let opset = Message::default().text(1, "").int(2, 21);
        let graph = self.into_graph("graph");
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
