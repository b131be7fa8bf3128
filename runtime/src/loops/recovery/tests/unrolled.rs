//! Networks whose steps are written out.

use super::cells::{Kind, Weights};
use super::lies::{Cuts, Lies};
use super::net::{Net, Numbers, assert_close, census};
use super::spelling::{Products, Spelling};
use crate::graph::ValueId;
use crate::ops::attributes::Attribute;
use crate::tensor::Tensor;

/// How a step gets its input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Taken {
    /// `Gather` by a number, time first.
    Gather,
    /// `Gather` by a number, batch first.
    BatchFirst,
    /// `Slice`, then `Squeeze`.
    Slice,
    /// `Split`, then `Squeeze`.
    Split,
    /// Each step's is an input of the model.
    Apart,
}

/// How the outputs of all steps are put together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Put {
    TimeFirst,
    BatchFirst,
    /// One beside the other.
    Beside,
    /// Only the last step's.
    Last,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Network {
    pub(super) kind: Kind,
    pub(super) spelling: Spelling,
    pub(super) layers: usize,
    pub(super) both: bool,
    pub(super) batch: usize,
    pub(super) time: usize,
    pub(super) taken: Taken,
    pub(super) put: Put,
    /// The initial states are inputs instead of zeros.
    pub(super) given: bool,
    pub(super) seed: u64,
}

pub(super) const DEPTH: usize = 5;
pub(super) const HIDDEN: usize = 4;

impl Network {
    pub(super) fn new(kind: Kind, spelling: Spelling) -> Self {
        Self {
            kind,
            spelling,
            layers: 1,
            both: false,
            batch: if spelling.lies == Lies::Vector { 1 } else { 2 },
            time: 5,
            taken: Taken::Gather,
            put: Put::TimeFirst,
            given: false,
            seed: 1,
        }
    }

    /// The graph, and what it computes.
    pub(super) fn build(&self) -> (Net, Vec<Vec<f64>>) {
        let mut numbers = Numbers(self.seed);
        let mut net = Net::default();
        let (batch, time, lies) = (self.batch, self.time, self.spelling.lies);
        let x: Vec<f64> =
            numbers.many(time * batch * DEPTH, 1.0).into_iter().map(|v| f64::from(v as f32)).collect();
        let mut rows: Vec<Vec<f64>> = x.chunks(batch * DEPTH).map(<[f64]>::to_vec).collect();
        let mut steps = self.inputs(&mut net, &rows);
        let mut depth = DEPTH;
        let mut finals: Vec<(ValueId, Vec<f64>)> = Vec::new();
        for _ in 0..self.layers {
            let mut sides: Vec<(Vec<ValueId>, Vec<Vec<f64>>)> = Vec::new();
            for reverse in if self.both { vec![false, true] } else { vec![false] } {
                let weights = Weights::new(self.kind, depth, HIDDEN, &mut numbers);
                let state = |numbers: &mut Numbers, net: &mut Net| {
                    let values: Vec<f64> = if self.given {
                        numbers.many(batch * HIDDEN, 1.0).into_iter().map(|v| f64::from(v as f32)).collect()
                    } else {
                        vec![0.0; batch * HIDDEN]
                    };
                    let tensor = lies.tensor(batch, HIDDEN, &values);
                    (if self.given { net.input(tensor) } else { net.constant(tensor) }, values)
                };
                let ((mut h, mut h_rows), (mut c, mut c_rows)) =
                    (state(&mut numbers, &mut net), state(&mut numbers, &mut net));
                let given = if self.spelling.products == Products::Ahead {
                    self.ahead(&mut net, &weights, &steps, depth)
                } else {
                    steps.clone()
                };
                let mut constants = Spelling::constants(&weights);
                let mut ids = vec![None; time];
                let mut outputs = vec![Vec::new(); time];
                for step in 0..time {
                    let at = if reverse { time - 1 - step } else { step };
                    (h, c) = self.spelling.step(&mut net, &mut constants, given[at], h, c);
                    ids[at] = Some(h);
                    for b in 0..batch {
                        let mut row = h_rows[b * HIDDEN..(b + 1) * HIDDEN].to_vec();
                        weights.step(
                            &rows[at][b * depth..(b + 1) * depth],
                            &mut row,
                            &mut c_rows[b * HIDDEN..(b + 1) * HIDDEN],
                        );
                        h_rows[b * HIDDEN..(b + 1) * HIDDEN].copy_from_slice(&row);
                    }
                    outputs[at].clone_from(&h_rows);
                }
                finals.push((h, h_rows));
                if self.kind.gates() == 4 {
                    finals.push((c, c_rows));
                }
                sides.push((ids.into_iter().flatten().collect(), outputs));
            }
            (steps, rows, depth) = match &mut sides[..] {
                [(ids, outputs)] => (std::mem::take(ids), std::mem::take(outputs), HIDDEN),
                [(a, x), (b, y)] => {
                    let mut joined = Vec::new();
                    let mut values = Vec::new();
                    for t in 0..time {
                        joined.push(
                            net.with("Concat", vec![("axis", Attribute::Int(lies.axis()))], &[a[t], b[t]], 1)
                                [0],
                        );
                        let rows = x[t].chunks(HIDDEN).zip(y[t].chunks(HIDDEN));
                        values.push(rows.flat_map(|(a, b)| [a, b].concat()).collect());
                    }
                    (joined, values, 2 * HIDDEN)
                }
                _ => unreachable!("one or two directions"),
            };
        }
        let mut expected = Vec::new();
        match self.put {
            Put::TimeFirst | Put::BatchFirst => {
                let axis = i64::from(self.put == Put::BatchFirst);
                let at = net.integers(&[axis]);
                let each: Vec<ValueId> = steps.iter().map(|&s| net.op("Unsqueeze", &[s, at])).collect();
                let y = net.with("Concat", vec![("axis", Attribute::Int(axis))], &each, 1)[0];
                net.output(y);
            }
            Put::Beside => {
                let y = net.with("Concat", vec![("axis", Attribute::Int(1))], &steps, 1)[0];
                net.output(y);
            }
            Put::Last => net.output(*steps.last().expect("a step")),
        }
        expected.push(match self.put {
            Put::TimeFirst => rows.iter().flat_map(|r| lies.laid(depth, r)).collect(),
            Put::Last => lies.laid(depth, rows.last().expect("a step")),
            _ => (0..batch)
                .flat_map(|b| rows.iter().flat_map(move |r| r[b * depth..(b + 1) * depth].to_vec()))
                .collect(),
        });
        for (id, values) in finals {
            net.output(id);
            expected.push(lies.laid(HIDDEN, &values));
        }
        (net, expected)
    }

    /// Each step's input.
    fn inputs(&self, net: &mut Net, rows: &[Vec<f64>]) -> Vec<ValueId> {
        let (batch, time) = (self.batch, self.time);
        let tensor = |shape: &[usize], values: Vec<f64>| {
            Tensor::new(shape, values.into_iter().map(|v| v as f32).collect()).expect("fits")
        };
        if self.taken == Taken::Apart {
            return rows.iter().map(|r| net.input(tensor(&[batch, DEPTH], r.clone()))).collect();
        }
        let axis = i64::from(self.taken == Taken::BatchFirst);
        let x = if axis == 1 {
            let values = (0..batch)
                .flat_map(|b| rows.iter().flat_map(move |r| r[b * DEPTH..(b + 1) * DEPTH].to_vec()));
            net.input(tensor(&[batch, time, DEPTH], values.collect()))
        } else {
            let lies = self.spelling.lies;
            let shape = [&[time], &lies.shape(batch, DEPTH)[..]].concat();
            net.input(tensor(&shape, rows.iter().flat_map(|r| lies.laid(DEPTH, r)).collect()))
        };
        let cut = |net: &mut Net, x: ValueId| -> Vec<ValueId> {
            let zero = net.integers(&[0]);
            match self.taken {
                Taken::Slice => (0..time as i64)
                    .map(|t| {
                        let mut inputs = vec![x];
                        inputs.extend([t, t + 1, 0].map(|b| net.integers(&[b])));
                        let part = net.op("Slice", &inputs);
                        net.op("Squeeze", &[part, zero])
                    })
                    .collect(),
                Taken::Split if time > 1 => {
                    let parts =
                        vec![("axis", Attribute::Int(0)), ("num_outputs", Attribute::Int(time as i64))];
                    let parts = net.with("Split", parts, &[x], time);
                    parts.into_iter().map(|p| net.op("Squeeze", &[p, zero])).collect()
                }
                _ => (0..time as i64)
                    .map(|t| {
                        let t = net.constant(Tensor::scalar(t));
                        net.with("Gather", vec![("axis", Attribute::Int(axis))], &[x, t], 1)[0]
                    })
                    .collect(),
            }
        };
        cut(net, x)
    }

    /// Each step's product, made for all of them at once where the steps are slices of one tensor.
    fn ahead(&self, net: &mut Net, weights: &Weights, steps: &[ValueId], depth: usize) -> Vec<ValueId> {
        assert_eq!(depth, weights.depth);
        let zero = net.integers(&[0]);
        let each: Vec<ValueId> = steps.iter().map(|&s| net.op("Unsqueeze", &[s, zero])).collect();
        let x = net.with("Concat", vec![("axis", Attribute::Int(0))], &each, 1)[0];
        let y = self.spelling.ahead(net, weights, x);
        (0..steps.len() as i64)
            .map(|t| {
                let t = net.constant(Tensor::scalar(t));
                net.with("Gather", vec![("axis", Attribute::Int(0))], &[y, t], 1)[0]
            })
            .collect()
    }

    /// Recovered as one operator per layer and direction, and right with and without that.
    pub(super) fn check(&self) {
        let what = format!("{self:?}");
        let (net, expected) = self.build();
        assert_close(&net.run(net.simplified(false)), &expected, 2e-5, &format!("written out: {what}"));
        let graph = net.simplified(true);
        let counts = census(&graph);
        assert_close(&net.run(graph), &expected, 2e-5, &what);
        let wanted = self.layers * if self.both { 2 } else { 1 };
        assert_eq!(counts.get(self.kind.operator()), Some(&wanted), "{counts:?} for {what}");
        for op in ["Scan", "MatMul", "Gemm", "Sigmoid", "Tanh"] {
            assert_eq!(counts.get(op), None, "{counts:?} for {what}");
        }
    }
}

/// Spellings by name, with the cell.
pub(super) fn spellings() -> Vec<(&'static str, Kind, Spelling)> {
    let base = Spelling::default();
    vec![
        ("products, then one bias", Kind::Lstm, base),
        (
            "PyTorch's LSTM cell",
            Kind::Lstm,
            Spelling { products: Products::Gemm, merged_bias: false, ..base },
        ),
        (
            "TensorFlow's LSTM cell",
            Kind::Lstm,
            Spelling { products: Products::Joined, order: [0, 2, 1, 3], swapped: true, ..base },
        ),
        ("Keras' LSTM, gate by gate", Kind::Lstm, Spelling { products: Products::Separate, ..base }),
        ("Keras' hard LSTM", Kind::HardLstm, Spelling { products: Products::Separate, ..base }),
        (
            "hard LSTM by its operator",
            Kind::HardLstm,
            Spelling { spelled: false, products: Products::Gemm, ..base },
        ),
        (
            "logistic functions at once",
            Kind::Lstm,
            Spelling { early: true, cuts: Cuts::Slice, order: [0, 1, 3, 2], ..base },
        ),
        ("functions spelled out", Kind::Lstm, Spelling { spelled: true, form: 1, ..base }),
        (
            "ONNX order by slices",
            Kind::Lstm,
            Spelling { order: [0, 3, 1, 2], cuts: Cuts::Slice, form: 2, ..base },
        ),
        ("input product ahead", Kind::Lstm, Spelling { products: Products::Ahead, ..base }),
        ("constants in every step", Kind::Lstm, Spelling { copies: true, ..base }),
        ("peepholes", Kind::Peephole, base),
        ("coupled gates", Kind::Coupled, base),
        (
            "PyTorch's GRU cell",
            Kind::ResetAfter,
            Spelling { products: Products::Gemm, merged_bias: false, ..base },
        ),
        (
            "GRU with h − n",
            Kind::ResetAfter,
            Spelling { products: Products::MatMul, merged_bias: false, form: 1, order: [1, 0, 2, 3], ..base },
        ),
        (
            "GRU with its product ahead",
            Kind::ResetAfter,
            Spelling { products: Products::Ahead, merged_bias: false, ..base },
        ),
        ("TensorFlow's GRU cell", Kind::Gru, Spelling { products: Products::Joined, ..base }),
        ("Keras' GRU, gate by gate", Kind::Gru, Spelling { products: Products::Separate, form: 1, ..base }),
        (
            "GRU with n − z n",
            Kind::Gru,
            Spelling { products: Products::Gemm, form: 2, swapped: true, ..base },
        ),
        ("gates by lists of columns", Kind::Lstm, Spelling { cuts: Cuts::Gather, ..base }),
        (
            "gates along an axis of their own",
            Kind::ResetAfter,
            Spelling { cuts: Cuts::Stacked, merged_bias: false, ..base },
        ),
        ("columns", Kind::Lstm, Spelling { lies: Lies::Columns, ..base }),
        (
            "columns by Gemm, stacked",
            Kind::ResetAfter,
            Spelling {
                lies: Lies::Columns,
                products: Products::Gemm,
                merged_bias: false,
                cuts: Cuts::Stacked,
                ..base
            },
        ),
        (
            "columns of [x, h], in JAX's order",
            Kind::Lstm,
            Spelling { lies: Lies::Columns, products: Products::Joined, order: [0, 2, 1, 3], ..base },
        ),
        (
            "states of three axes",
            Kind::Gru,
            Spelling { lies: Lies::Cube, products: Products::Separate, ..base },
        ),
        (
            "LSTM of three axes, stacked",
            Kind::Lstm,
            Spelling { lies: Lies::Cube, cuts: Cuts::Stacked, ..base },
        ),
        (
            "LSTM without a batch",
            Kind::Lstm,
            Spelling { lies: Lies::Vector, products: Products::Joined, ..base },
        ),
        (
            "GRU without a batch",
            Kind::ResetAfter,
            Spelling { lies: Lies::Vector, cuts: Cuts::Stacked, ..base },
        ),
        ("plain cell", Kind::Rnn, Spelling { products: Products::Gemm, merged_bias: false, ..base }),
        ("plain cell of [x, h]", Kind::ReluRnn, Spelling { products: Products::Joined, ..base }),
    ]
}

#[test]
fn every_spelling_becomes_its_operator() {
    for (_, kind, spelling) in spellings() {
        Network::new(kind, spelling).check();
    }
}

#[test]
fn layers_and_directions_each_become_one() {
    for (at, (_, kind, spelling)) in spellings().into_iter().enumerate() {
        for layers in 1..=3 {
            for both in [false, true] {
                let given = (at + layers) % 2 == 0;
                for time in [1, 4] {
                    Network { layers, both, time, given, ..Network::new(kind, spelling) }.check();
                }
            }
        }
    }
}

#[test]
fn any_length_and_batch() {
    for (_, kind, spelling) in spellings() {
        for (batch, time) in [(1, 1), (8, 1), (1, 2), (8, 2), (1, 16), (8, 16), (1, 64), (8, 64)] {
            if batch > 1 && spelling.lies == Lies::Vector {
                continue;
            }
            Network { batch, time, ..Network::new(kind, spelling) }.check();
        }
    }
}

#[test]
fn inputs_and_outputs_in_any_form() {
    let base = Network::new(Kind::Lstm, Spelling::default());
    for taken in [Taken::Gather, Taken::BatchFirst, Taken::Slice, Taken::Split, Taken::Apart] {
        for put in [Put::TimeFirst, Put::BatchFirst, Put::Beside, Put::Last] {
            for given in [false, true] {
                Network { taken, put, given, ..base }.check();
            }
        }
    }
}

#[test]
fn any_order_of_gates_in_any_spelling() {
    let mut numbers = Numbers(11);
    let kinds = [
        Kind::Lstm,
        Kind::Peephole,
        Kind::Coupled,
        Kind::HardLstm,
        Kind::Gru,
        Kind::ResetAfter,
        Kind::Rnn,
        Kind::ReluRnn,
    ];
    let products = [Products::MatMul, Products::Gemm, Products::Joined, Products::Separate, Products::Ahead];
    for seed in 0..150 {
        let kind = kinds[numbers.below(kinds.len())];
        let mut order = [0, 1, 2, 3];
        for at in (1..4).rev() {
            order.swap(at, numbers.below(at + 1));
        }
        let mut coin = || numbers.below(2) == 0;
        let mut spelling = Spelling {
            order,
            merged_bias: coin(),
            cuts: if coin() { Cuts::Slice } else { Cuts::Split },
            early: coin(),
            spelled: coin(),
            swapped: coin(),
            copies: coin(),
            ..Spelling::default()
        };
        let both = coin();
        let given = coin();
        spelling.form = numbers.below(3);
        spelling.products = products[numbers.below(products.len())];
        match (kind, spelling.products) {
            // The reset gate multiplies the product with the state, which then has to be one of its own.
            (Kind::ResetAfter, Products::Joined) => spelling.products = Products::MatMul,
            (Kind::Coupled | Kind::Gru, Products::Ahead) => spelling.products = Products::Gemm,
            // The product made ahead has the gates in the order of the spelling.
            (_, Products::Ahead) => spelling.early = false,
            _ => {}
        }
        let takes = [Taken::Gather, Taken::BatchFirst, Taken::Slice, Taken::Split, Taken::Apart];
        let puts = [Put::TimeFirst, Put::BatchFirst, Put::Beside, Put::Last];
        Network {
            kind,
            spelling,
            layers: 1 + numbers.below(2),
            both,
            given,
            batch: 1 + numbers.below(3),
            time: 2 + numbers.below(5),
            taken: takes[numbers.below(takes.len())],
            put: puts[numbers.below(puts.len())],
            seed,
        }
        .check();
    }
}
