//! Recurrent layers step by step, as exporters spell a cell: recovery makes each of them the operator that it is.

use crate::recurrences::{Model, Recurrence};
use crate::wire::Message;

/// How a step is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spelling {
    /// Two Gemms with a bias each, gates split; the GRU's reset gate behind the product.
    PyTorch,
    /// One product of `[x, h]`, of the GRU one for both gates and one for the new state.
    TensorFlow,
    /// Products gate by gate.
    Keras,
    /// PyTorch's cell as the body of a Scan.
    Scan,
}

/// Every one.
pub const SPELLINGS: [Spelling; 4] =
    [Spelling::PyTorch, Spelling::TensorFlow, Spelling::Keras, Spelling::Scan];

/// One layer of the cell `op`, `LSTM` or `GRU`, on `x`, `[time, batch, hidden]`, with all states as output.
pub fn spelled(op: &str, spelling: Spelling, of: Recurrence) -> Vec<u8> {
    let Recurrence { time, batch, hidden } = of;
    let mut model = Model::default();
    model.value(11, "x", &[time, batch, hidden]);
    let cell = Cell::new(&mut model, op == "LSTM", spelling, hidden);
    let (mut h, mut c) = (model.zeros(&[batch, hidden]), model.zeros(&[batch, hidden]));
    if spelling == Spelling::Scan {
        cell.scan(&mut model, [&h, &c]);
    } else {
        let zero = model.integers(&[0]);
        let mut steps = Vec::new();
        for step in 0..time {
            let at = model.constant(7, &[], &(step as i64).to_le_bytes());
            let x = model.op("Gather", &["x", &at], &[("axis", 0)]);
            (h, c) = cell.step(&mut model, &x, &h, &c);
            steps.push(model.op("Unsqueeze", &[&h, &zero], &[]));
        }
        let named: Vec<&str> = steps.iter().map(String::as_str).collect();
        model.node("Concat", &named, &[("axis", 0)], &["y"]);
    }
    model.value(12, "y", &[time, batch, hidden]);
    model.finish()
}

/// A cell's weights, by their names, in the order in which its spelling reads them.
struct Cell {
    lstm: bool,
    spelling: Spelling,
    weights: Vec<String>,
    one: String,
}

impl Cell {
    fn new(model: &mut Model, lstm: bool, spelling: Spelling, hidden: usize) -> Self {
        let gates = if lstm { 4 } else { 3 };
        let rows = gates * hidden;
        let shapes: Vec<Vec<usize>> = match spelling {
            Spelling::PyTorch | Spelling::Scan => {
                vec![vec![rows, hidden], vec![rows], vec![rows, hidden], vec![rows]]
            }
            Spelling::TensorFlow if lstm => vec![vec![2 * hidden, rows], vec![rows]],
            Spelling::TensorFlow => {
                vec![vec![2 * hidden, 2 * hidden], vec![2 * hidden], vec![2 * hidden, hidden], vec![hidden]]
            }
            Spelling::Keras => {
                (0..gates).flat_map(|_| [vec![hidden; 2], vec![hidden], vec![hidden; 2]]).collect()
            }
        };
        let weights = shapes.iter().map(|shape| model.weights(shape, hidden)).collect();
        Self { lstm, spelling, weights, one: model.constant(1, &[], &1f32.to_le_bytes()) }
    }

    /// The states behind a step.
    fn step(&self, model: &mut Model, x: &str, h: &str, c: &str) -> (String, String) {
        let w: Vec<&str> = self.weights.iter().map(String::as_str).collect();
        match self.spelling {
            Spelling::PyTorch | Spelling::Scan => {
                let from_x = model.op("Gemm", &[x, w[0], w[1]], &[("transB", 1)]);
                let from_h = model.op("Gemm", &[h, w[2], w[3]], &[("transB", 1)]);
                if self.lstm {
                    let sums = model.op("Add", &[&from_x, &from_h], &[]);
                    let gates = split(model, &sums, 4);
                    return lstm(model, &gates, c);
                }
                let (x, from_h) = (split(model, &from_x, 3), split(model, &from_h, 3));
                let [reset, z] = [0, 1].map(|gate| {
                    let sum = model.op("Add", &[&x[gate], &from_h[gate]], &[]);
                    model.op("Sigmoid", &[&sum], &[])
                });
                let inner = model.op("Mul", &[&reset, &from_h[2]], &[]);
                let sum = model.op("Add", &[&x[2], &inner], &[]);
                self.gru(model, &z, &sum, h)
            }
            Spelling::TensorFlow => {
                let sums = |model: &mut Model, h: &str, w: &str, b: &str| {
                    let both = model.op("Concat", &[x, h], &[("axis", 1)]);
                    let product = model.op("MatMul", &[&both, w], &[]);
                    model.op("Add", &[&product, b], &[])
                };
                let first = sums(model, h, w[0], w[1]);
                if self.lstm {
                    let gates = split(model, &first, 4);
                    return lstm(model, &gates, c);
                }
                let both = model.op("Sigmoid", &[&first], &[]);
                let gates = split(model, &both, 2);
                let kept = model.op("Mul", &[&gates[0], h], &[]);
                let sum = sums(model, &kept, w[2], w[3]);
                self.gru(model, &gates[1], &sum, h)
            }
            Spelling::Keras => {
                let sums = |model: &mut Model, gate: usize, h: &str| {
                    let product = model.op("MatMul", &[x, w[3 * gate]], &[]);
                    let from_x = model.op("Add", &[&product, w[3 * gate + 1]], &[]);
                    let from_h = model.op("MatMul", &[h, w[3 * gate + 2]], &[]);
                    model.op("Add", &[&from_x, &from_h], &[])
                };
                if self.lstm {
                    let gates: Vec<String> = (0..4).map(|gate| sums(model, gate, h)).collect();
                    return lstm(model, &gates, c);
                }
                let [z, reset] = [0, 1].map(|gate| {
                    let sum = sums(model, gate, h);
                    model.op("Sigmoid", &[&sum], &[])
                });
                let kept = model.op("Mul", &[&reset, h], &[]);
                let sum = sums(model, 2, &kept);
                self.gru(model, &z, &sum, h)
            }
        }
    }

    /// The state behind a step, as both of the pair, from the update gate and the sum of the new state.
    fn gru(&self, model: &mut Model, z: &str, sum: &str, h: &str) -> (String, String) {
        let n = model.op("Tanh", &[sum], &[]);
        let rest = model.op("Sub", &[&self.one, z], &[]);
        let (new, kept) = (model.op("Mul", &[&rest, &n], &[]), model.op("Mul", &[z, h], &[]));
        let state = model.op("Add", &[&new, &kept], &[]);
        (state.clone(), state)
    }

    /// All steps from the states `initial` on as one Scan, whose states the model's output `y` are.
    fn scan(&self, model: &mut Model, initial: [&str; 2]) {
        let states = if self.lstm { 2 } else { 1 };
        let mut body = Model::inside("body");
        for name in ["h", "c"].into_iter().take(states).chain(["step"]) {
            body.unshaped(11, name);
        }
        let (h, c) = self.step(&mut body, "step", "h", "c");
        let made = [("new_h", &h), ("new_c", &c), ("seen", &h)];
        for (name, from) in made.into_iter().filter(|made| self.lstm || made.0 != "new_c") {
            body.node("Identity", &[from], &[], &[name]);
            body.unshaped(12, name);
        }
        let given: Vec<&str> = initial.into_iter().take(states).chain(["x"]).collect();
        let count = Message::default().text(1, "num_scan_inputs").int(3, 1).int(20, 2);
        let graph = Message::default().text(1, "body").message(6, &body.into_graph("body")).int(20, 5);
        let last = ["last_h", "last_c"].into_iter().take(states).chain(["y"]);
        model.node_with("Scan", &given, &[count, graph], &last.collect::<Vec<_>>());
    }
}

/// State and cell state behind a step from the sums of input, forget, new and output gate.
fn lstm(model: &mut Model, sums: &[String], c: &str) -> (String, String) {
    let [i, f, o] = [0, 1, 3].map(|gate| model.op("Sigmoid", &[&sums[gate]], &[]));
    let g = model.op("Tanh", &[&sums[2]], &[]);
    let (kept, new) = (model.op("Mul", &[&f, c], &[]), model.op("Mul", &[&i, &g], &[]));
    let c = model.op("Add", &[&kept, &new], &[]);
    let shown = model.op("Tanh", &[&c], &[]);
    (model.op("Mul", &[&o, &shown], &[]), c)
}

fn split(model: &mut Model, sums: &str, parts: usize) -> Vec<String> {
    let made: Vec<String> = (0..parts).map(|_| model.name()).collect();
    let named: Vec<&str> = made.iter().map(String::as_str).collect();
    model.node("Split", &[sums], &[("axis", 1), ("num_outputs", parts as i64)], &named);
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use recurve::Session;

    /// Otherwise what is measured is not the recurrence.
    #[test]
    fn every_spelling_becomes_the_operator() {
        for op in ["LSTM", "GRU"] {
            for spelling in SPELLINGS {
                let of = Recurrence { time: 3, batch: 2, hidden: 8 };
                let session = Session::builder().load_bytes(spelled(op, spelling, of)).expect("a model");
                let nodes = session.nodes([("x", vec![3usize, 2, 8])]).expect("shapes that fit");
                let ops: Vec<&str> = nodes.iter().map(|node| node.op.as_str()).collect();
                assert_eq!(ops.iter().filter(|name| **name == op).count(), 1, "{op}, {spelling:?}: {ops:?}");
                assert!(!ops.contains(&"Scan") && !ops.contains(&"MatMul"), "{op}, {spelling:?}: {ops:?}");
            }
        }
    }
}
