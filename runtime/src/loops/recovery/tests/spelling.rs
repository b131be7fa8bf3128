//! How exporters spell the sums and functions of one step.

use super::cells::{Kind, Weights};
use super::lies::{Cuts, Lies};
use super::net::Net;
use crate::graph::ValueId;
use crate::ops::attributes::Attribute;

/// How one step is spelled.
#[allow(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
#[derive(Clone, Copy, Debug)]
pub(super) struct Spelling {
    /// Gates in the columns of matrices.
    pub(super) order: [usize; 4],
    pub(super) products: Products,
    /// One bias for both products.
    pub(super) merged_bias: bool,
    pub(super) cuts: Cuts,
    pub(super) lies: Lies,
    /// The logistic function is applied before gates are cut, where all but one take it.
    pub(super) early: bool,
    /// `1 / (1 + e^−x)` and `2σ(2x) − 1`.
    pub(super) spelled: bool,
    /// Which of the forms of the last sum.
    pub(super) form: usize,
    /// Operands of sums and products in the other order.
    pub(super) swapped: bool,
    /// Weights are new constants in every step.
    pub(super) copies: bool,
}

/// How the two products of a step are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Products {
    MatMul,
    /// With transposed weights and a bias.
    Gemm,
    /// Of `[x, h]`.
    Joined,
    /// One for each gate.
    Separate,
    /// That of `x` for all steps at once.
    Ahead,
}

impl Default for Spelling {
    fn default() -> Self {
        Self {
            order: [0, 1, 2, 3],
            products: Products::MatMul,
            merged_bias: true,
            cuts: Cuts::Split,
            lies: Lies::Rows,
            early: false,
            spelled: false,
            form: 0,
            swapped: false,
            copies: false,
        }
    }
}

/// The constants of a cell in the form that a spelling wants.
pub(super) struct Constants {
    pub(super) weights: Weights,
    made: Vec<(Vec<usize>, ValueId)>,
}

impl Spelling {
    pub(super) fn constants(weights: &Weights) -> Constants {
        Constants { weights: weights.clone(), made: Vec::new() }
    }

    pub(super) fn add(&self, net: &mut Net, a: ValueId, b: ValueId) -> ValueId {
        net.op("Add", &if self.swapped { [b, a] } else { [a, b] })
    }

    pub(super) fn mul(&self, net: &mut Net, a: ValueId, b: ValueId) -> ValueId {
        net.op("Mul", &if self.swapped { [b, a] } else { [a, b] })
    }

    pub(super) fn logistic(&self, net: &mut Net, kind: Kind, x: ValueId) -> ValueId {
        if kind == Kind::HardLstm {
            if self.spelled {
                return net.with("HardSigmoid", vec![("alpha", Attribute::Float(0.2))], &[x], 1)[0];
            }
            let (a, b) = (net.number(0.2), net.number(0.5));
            let (zero, one) = (net.number(0.0), net.number(1.0));
            let x = self.mul(net, x, a);
            let x = self.add(net, x, b);
            return net.op("Clip", &[x, zero, one]);
        }
        if !self.spelled {
            return net.op("Sigmoid", &[x]);
        }
        let one = net.number(1.0);
        let x = net.op("Neg", &[x]);
        let x = net.op("Exp", &[x]);
        let x = self.add(net, one, x);
        if self.form == 0 { net.op("Reciprocal", &[x]) } else { net.op("Div", &[one, x]) }
    }

    pub(super) fn tanh(&self, net: &mut Net, x: ValueId) -> ValueId {
        if !self.spelled {
            return net.op("Tanh", &[x]);
        }
        let (one, two) = (net.number(1.0), net.number(2.0));
        let x = self.mul(net, two, x);
        let x = self.logistic(net, Kind::Lstm, x);
        let x = self.mul(net, x, two);
        net.op("Sub", &[x, one])
    }

    /// A constant, made once for each `key` or in every step.
    pub(super) fn held(
        &self,
        net: &mut Net,
        constants: &mut Constants,
        key: Vec<usize>,
        make: impl Fn(&Weights) -> (Vec<usize>, Vec<f64>),
    ) -> ValueId {
        if let Some((_, id)) = constants.made.iter().find(|(k, _)| *k == key && !self.copies) {
            return *id;
        }
        let (shape, values) = make(&constants.weights);
        let id = net.floats(&shape, &values);
        constants.made.push((key, id));
        id
    }

    /// Sums of `gates`: the product with `x`, where wanted, plus that with `h`, where wanted.
    pub(super) fn sums(
        &self,
        net: &mut Net,
        constants: &mut Constants,
        gates: &[usize],
        x: Option<ValueId>,
        h: Option<ValueId>,
    ) -> ValueId {
        let (depth, hidden) = (constants.weights.depth, constants.weights.hidden);
        let width = gates.len() * hidden;
        let key = |tag: usize| [&[tag], gates].concat();
        let lies = self.lies;
        let shared = move |v: Vec<f64>| (lies.shared(v.len()), v);
        let bias = move |w: &Weights, both: bool| {
            let (b, rb) = (w.picked(&w.b, 1, gates), w.picked(&w.rb, 1, gates));
            shared(if both { b.iter().zip(&rb).map(|(a, b)| a + b).collect() } else { b })
        };
        let both = self.merged_bias && x.is_some() && h.is_some();
        let transposed = |m: Vec<f64>, rows: usize| -> Vec<f64> {
            let columns = m.len() / rows;
            (0..m.len()).map(|i| m[(i % rows) * columns + i / rows]).collect()
        };
        // A matrix of `rows` rows on the side where it stands.
        let standing = move |m: Vec<f64>, rows: usize| match lies {
            Lies::Columns => (vec![width, rows], transposed(m, rows)),
            _ => (vec![rows, width], m),
        };
        let times = |net: &mut Net, v: ValueId, m: ValueId| {
            net.op("MatMul", &if lies == Lies::Columns { [m, v] } else { [v, m] })
        };
        if let (Products::Joined, Some(x), Some(h)) = (self.products, x, h) {
            let v = net.with("Concat", vec![("axis", Attribute::Int(self.lies.axis()))], &[x, h], 1)[0];
            let m = self.held(net, constants, key(0), |w| {
                let both = [w.picked(&w.w, depth, gates), w.picked(&w.r, hidden, gates)].concat();
                standing(both, depth + hidden)
            });
            let b = self.held(net, constants, key(1), |w| bias(w, true));
            let y = times(net, v, m);
            return self.add(net, y, b);
        }
        let mut terms = Vec::new();
        for (v, rows, recurrent) in [(x, depth, false), (h, hidden, true)] {
            let Some(v) = v else { continue };
            if self.products == Products::Ahead && !recurrent {
                // The product is there already, with its bias.
                terms.push(v);
                continue;
            }
            let matrix = move |w: &Weights| w.picked(if recurrent { &w.r } else { &w.w }, rows, gates);
            let tag = 2 + usize::from(recurrent) * 4;
            let b = (!both || !recurrent).then(|| {
                self.held(net, constants, key(tag + usize::from(both) * 2), |w| {
                    if recurrent { shared(w.picked(&w.rb, 1, gates)) } else { bias(w, both) }
                })
            });
            let y = if self.products == Products::Gemm {
                // Whatever side it stands on, transposed.
                let flat = |w: &Weights| {
                    let (shape, values) = standing(matrix(w), rows);
                    (vec![shape[1], shape[0]], transposed(values, shape[0]))
                };
                let m = self.held(net, constants, key(tag + 1), flat);
                let ([first, second], flag) =
                    if lies == Lies::Columns { ([m, v], "transA") } else { ([v, m], "transB") };
                let inputs: Vec<ValueId> = [Some(first), Some(second), b].into_iter().flatten().collect();
                net.with("Gemm", vec![(flag, Attribute::Int(1))], &inputs, 1)[0]
            } else {
                let m = self.held(net, constants, key(tag + 1), |w| standing(matrix(w), rows));
                let y = times(net, v, m);
                match b {
                    Some(b) => self.add(net, y, b),
                    None => y,
                }
            };
            terms.push(y);
        }
        match terms[..] {
            [a, b] => self.add(net, a, b),
            _ => terms[0],
        }
    }

    /// `x` cut into `count` gates.
    pub(super) fn cut(&self, net: &mut Net, x: ValueId, count: usize, hidden: usize) -> Vec<ValueId> {
        self.cuts.of(net, x, count, hidden, self.lies)
    }

    /// What a product made for all steps takes from the sequence `x`, `[time, batch, depth]`.
    pub(super) fn ahead(&self, net: &mut Net, weights: &Weights, x: ValueId) -> ValueId {
        let order: Vec<usize> = self.order.iter().copied().filter(|g| *g < weights.kind.gates()).collect();
        let m = net.floats(
            &[weights.depth, order.len() * weights.hidden],
            &weights.picked(&weights.w, weights.depth, &order),
        );
        let mut bias = weights.picked(&weights.b, 1, &order);
        if weights.kind != Kind::ResetAfter && self.merged_bias {
            bias = bias.iter().zip(weights.picked(&weights.rb, 1, &order)).map(|(a, b)| a + b).collect();
        }
        let b = net.floats(&[bias.len()], &bias);
        let y = net.op("MatMul", &[x, m]);
        self.add(net, y, b)
    }
}
