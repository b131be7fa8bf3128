//! Cells in f64, straight from their formulas, and how exporters spell one step of them.

use super::net::{Net, Numbers};
use crate::graph::ValueId;
use crate::ops::attributes::Attribute;

/// Which cell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Lstm,
    /// With peepholes.
    Peephole,
    /// `f = 1 − i`.
    Coupled,
    /// With `0.2 x + 0.5` cut to [0, 1] for the logistic function.
    HardLstm,
    /// The reset gate on the state.
    Gru,
    /// The reset gate on the product.
    ResetAfter,
    Rnn,
    ReluRnn,
}

impl Kind {
    pub(super) fn gates(self) -> usize {
        match self {
            Self::Lstm | Self::Peephole | Self::Coupled | Self::HardLstm => 4,
            Self::Gru | Self::ResetAfter => 3,
            Self::Rnn | Self::ReluRnn => 1,
        }
    }

    pub(super) fn operator(self) -> &'static str {
        match self.gates() {
            4 => "LSTM",
            3 => "GRU",
            _ => "RNN",
        }
    }

    fn logistic(self, x: f64) -> f64 {
        if self == Self::HardLstm { (0.2 * x + 0.5).clamp(0.0, 1.0) } else { 1.0 / (1.0 + (-x).exp()) }
    }
}

/// Weights of one direction of one layer. Gates of LSTM: i, f, g, o; of GRU: r, z, n. Row `k`, column
/// `gate · hidden + unit`.
#[derive(Clone)]
pub(super) struct Weights {
    pub(super) kind: Kind,
    pub(super) depth: usize,
    pub(super) hidden: usize,
    pub(super) w: Vec<f64>,
    pub(super) r: Vec<f64>,
    pub(super) b: Vec<f64>,
    /// The bias beside the recurrent product.
    pub(super) rb: Vec<f64>,
    /// Peepholes of i, f, o.
    pub(super) p: Vec<f64>,
}

impl Weights {
    pub(super) fn new(kind: Kind, depth: usize, hidden: usize, numbers: &mut Numbers) -> Self {
        let columns = kind.gates() * hidden;
        let mut rounded = |count, scale| -> Vec<f64> {
            numbers.many(count, scale).into_iter().map(|v| f64::from(v as f32)).collect()
        };
        Self {
            kind,
            depth,
            hidden,
            w: rounded(depth * columns, 0.7),
            r: rounded(hidden * columns, 0.7),
            b: rounded(columns, 0.5),
            rb: rounded(columns, 0.5),
            p: rounded(3 * hidden, 0.5),
        }
    }

    fn columns(&self) -> usize {
        self.kind.gates() * self.hidden
    }

    /// One step of one row: `h` and `c` become the next.
    pub(super) fn step(&self, x: &[f64], h: &mut [f64], c: &mut [f64]) {
        let (n, columns) = (self.hidden, self.columns());
        let product = |m: &[f64], v: &[f64], at: usize| -> f64 {
            v.iter().enumerate().map(|(k, v)| v * m[k * columns + at]).sum()
        };
        let s = |x| self.kind.logistic(x);
        let before = h.to_vec();
        let from_x = |g: usize, u: usize| product(&self.w, x, g * n + u) + self.b[g * n + u];
        let from_h = |g: usize, u: usize| product(&self.r, &before, g * n + u) + self.rb[g * n + u];
        let peep = |g: usize, u: usize, c: f64| {
            if self.kind == Kind::Peephole { self.p[g * n + u] * c } else { 0.0 }
        };
        match self.kind.gates() {
            4 => {
                for u in 0..n {
                    let gate = |g: usize| from_x(g, u) + from_h(g, u);
                    let i = s(gate(0) + peep(0, u, c[u]));
                    let f = if self.kind == Kind::Coupled { 1.0 - i } else { s(gate(1) + peep(1, u, c[u])) };
                    c[u] = f * c[u] + i * gate(2).tanh();
                    h[u] = s(gate(3) + peep(2, u, c[u])) * c[u].tanh();
                }
            }
            3 => {
                let r: Vec<f64> = (0..n).map(|u| s(from_x(0, u) + from_h(0, u))).collect();
                let reset: Vec<f64> = r.iter().zip(&before).map(|(r, h)| r * h).collect();
                for u in 0..n {
                    let z = s(from_x(1, u) + from_h(1, u));
                    let inner = if self.kind == Kind::ResetAfter {
                        r[u] * from_h(2, u)
                    } else {
                        product(&self.r, &reset, 2 * n + u) + self.rb[2 * n + u]
                    };
                    h[u] = (1.0 - z) * (from_x(2, u) + inner).tanh() + z * before[u];
                }
            }
            _ => {
                for u in 0..n {
                    let sum = from_x(0, u) + from_h(0, u);
                    h[u] = if self.kind == Kind::ReluRnn { sum.max(0.0) } else { sum.tanh() };
                }
            }
        }
    }

    /// Columns of the gates in `order`, from `m` of `rows` rows.
    fn picked(&self, m: &[f64], rows: usize, order: &[usize]) -> Vec<f64> {
        let (n, columns) = (self.hidden, self.columns());
        let mut out = Vec::new();
        for row in 0..rows {
            for &g in order {
                out.extend_from_slice(&m[row * columns + g * n..row * columns + (g + 1) * n]);
            }
        }
        out
    }
}

/// How one step is spelled.
#[allow(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
#[derive(Clone, Copy, Debug)]
pub(super) struct Spelling {
    /// Gates in the columns of matrices.
    pub(super) order: [usize; 4],
    pub(super) products: Products,
    /// One bias for both products.
    pub(super) merged_bias: bool,
    /// Gates are cut by Slice instead of Split.
    pub(super) slices: bool,
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
            slices: false,
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
    weights: Weights,
    made: Vec<(Vec<usize>, ValueId)>,
}

impl Spelling {
    pub(super) fn constants(weights: &Weights) -> Constants {
        Constants { weights: weights.clone(), made: Vec::new() }
    }

    fn add(&self, net: &mut Net, a: ValueId, b: ValueId) -> ValueId {
        net.op("Add", &if self.swapped { [b, a] } else { [a, b] })
    }

    fn mul(&self, net: &mut Net, a: ValueId, b: ValueId) -> ValueId {
        net.op("Mul", &if self.swapped { [b, a] } else { [a, b] })
    }

    fn logistic(&self, net: &mut Net, kind: Kind, x: ValueId) -> ValueId {
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

    fn tanh(&self, net: &mut Net, x: ValueId) -> ValueId {
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
    fn held(
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
    fn sums(
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
        let bias = move |w: &Weights, both: bool| {
            let (b, rb) = (w.picked(&w.b, 1, gates), w.picked(&w.rb, 1, gates));
            (vec![b.len()], if both { b.iter().zip(&rb).map(|(a, b)| a + b).collect() } else { b })
        };
        let both = self.merged_bias && x.is_some() && h.is_some();
        let transposed = |m: Vec<f64>, rows: usize| -> Vec<f64> {
            let columns = m.len() / rows;
            (0..m.len()).map(|i| m[(i % rows) * columns + i / rows]).collect()
        };
        if let (Products::Joined, Some(x), Some(h)) = (self.products, x, h) {
            let v = net.with("Concat", vec![("axis", Attribute::Int(-1))], &[x, h], 1)[0];
            let m = self.held(net, constants, key(0), |w| {
                (
                    vec![depth + hidden, width],
                    [w.picked(&w.w, depth, gates), w.picked(&w.r, hidden, gates)].concat(),
                )
            });
            let b = self.held(net, constants, key(1), |w| bias(w, true));
            let y = net.op("MatMul", &[v, m]);
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
                    if recurrent { (vec![width], w.picked(&w.rb, 1, gates)) } else { bias(w, both) }
                })
            });
            let y = if self.products == Products::Gemm {
                let m = self
                    .held(net, constants, key(tag + 1), |w| (vec![width, rows], transposed(matrix(w), rows)));
                let inputs: Vec<ValueId> = [Some(v), Some(m), b].into_iter().flatten().collect();
                net.with("Gemm", vec![("transB", Attribute::Int(1))], &inputs, 1)[0]
            } else {
                let m = self.held(net, constants, key(tag + 1), |w| (vec![rows, width], matrix(w)));
                let y = net.op("MatMul", &[v, m]);
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
    fn cut(&self, net: &mut Net, x: ValueId, count: usize, hidden: usize) -> Vec<ValueId> {
        if count == 1 {
            return vec![x];
        }
        if !self.slices {
            let parts = vec![("axis", Attribute::Int(1)), ("num_outputs", Attribute::Int(count as i64))];
            return net.with("Split", parts, &[x], count);
        }
        (0..count)
            .map(|g| {
                let bounds = [(g * hidden) as i64, ((g + 1) * hidden) as i64, 1];
                let mut inputs = vec![x];
                inputs.extend(bounds.map(|b| net.integers(&[b])));
                net.op("Slice", &inputs)
            })
            .collect()
    }

    /// Sums of all gates by gate.
    fn gates(
        &self,
        net: &mut Net,
        constants: &mut Constants,
        x: Option<ValueId>,
        h: Option<ValueId>,
        which: &[usize],
    ) -> Vec<ValueId> {
        let hidden = constants.weights.hidden;
        let order: Vec<usize> = self.order.iter().copied().filter(|g| which.contains(g)).collect();
        let cut = match self.products {
            Products::Separate => {
                order.iter().map(|&g| self.sums(net, constants, &[g], x, h)).collect::<Vec<_>>()
            }
            _ => {
                let all = self.sums(net, constants, &order, x, h);
                self.cut(net, all, order.len(), hidden)
            }
        };
        which.iter().map(|g| cut[order.iter().position(|o| o == g).expect("a gate of the order")]).collect()
    }

    /// Writes one step; the states become the next.
    pub(super) fn step(
        &self,
        net: &mut Net,
        constants: &mut Constants,
        x: ValueId,
        h: ValueId,
        c: ValueId,
    ) -> (ValueId, ValueId) {
        let kind = constants.weights.kind;
        match kind.gates() {
            4 => self.lstm(net, constants, kind, x, h, c),
            3 => (self.gru(net, constants, kind, x, h), c),
            _ => {
                let sum = self.sums(net, constants, &[0], Some(x), Some(h));
                let next = if kind == Kind::ReluRnn { net.op("Relu", &[sum]) } else { self.tanh(net, sum) };
                (next, c)
            }
        }
    }

    fn lstm(
        &self,
        net: &mut Net,
        constants: &mut Constants,
        kind: Kind,
        x: ValueId,
        h: ValueId,
        c: ValueId,
    ) -> (ValueId, ValueId) {
        let hidden = constants.weights.hidden;
        let plain = kind == Kind::Lstm || kind == Kind::HardLstm;
        let [i, f, g, o];
        if self.early && plain && self.products != Products::Separate {
            // σ of i, f and o at once, which stand side by side.
            let order: Vec<usize> = self.order.iter().copied().filter(|g| *g != 2).chain([2]).collect();
            let sums = self.sums(net, constants, &order, Some(x), Some(h));
            let mut cut = |from: usize, to: usize| {
                let mut inputs = vec![sums];
                inputs.extend([(from * hidden) as i64, (to * hidden) as i64, 1].map(|b| net.integers(&[b])));
                net.op("Slice", &inputs)
            };
            let (three, last) = (cut(0, 3), cut(3, 4));
            let three = self.logistic(net, kind, three);
            let parts = self.cut(net, three, 3, hidden);
            let part = |g: usize| parts[order.iter().position(|o| *o == g).expect("a gate of the order")];
            [i, f, o] = [part(0), part(1), part(3)];
            g = self.tanh(net, last);
        } else {
            let which: &[usize] = if kind == Kind::Coupled { &[0, 2, 3] } else { &[0, 1, 2, 3] };
            let sums = self.gates(net, constants, Some(x), Some(h), which);
            let sum = |g: usize| sums[which.iter().position(|w| *w == g).expect("a gate")];
            let mut gate = |net: &mut Net, g: usize, peephole: usize, c: ValueId| {
                let mut sum = sum(g);
                if kind == Kind::Peephole {
                    let p = self.held(net, constants, vec![99, peephole], |w| {
                        (vec![hidden], w.p[peephole * hidden..(peephole + 1) * hidden].to_vec())
                    });
                    let peeped = self.mul(net, p, c);
                    sum = self.add(net, sum, peeped);
                }
                self.logistic(net, kind, sum)
            };
            i = gate(net, 0, 0, c);
            f = if kind == Kind::Coupled {
                let one = net.number(1.0);
                net.op("Sub", &[one, i])
            } else {
                gate(net, 1, 1, c)
            };
            g = self.tanh(net, sum(2));
            let (a, b) = (self.mul(net, f, c), self.mul(net, i, g));
            let next = self.add(net, a, b);
            o = gate(net, 3, 2, next);
            let shown = self.tanh(net, next);
            return (self.mul(net, o, shown), next);
        }
        let (a, b) = (self.mul(net, f, c), self.mul(net, i, g));
        let next = if self.form == 2 { net.op("Sum", &[b, a]) } else { self.add(net, a, b) };
        let shown = self.tanh(net, next);
        (self.mul(net, o, shown), next)
    }

    fn gru(&self, net: &mut Net, constants: &mut Constants, kind: Kind, x: ValueId, h: ValueId) -> ValueId {
        let hidden = constants.weights.hidden;
        let (r, z, n);
        if kind == Kind::ResetAfter {
            let apart = Spelling { merged_bias: false, ..*self };
            let (from_x, from_h);
            if self.products == Products::Ahead {
                let order: Vec<usize> = self.order.iter().copied().filter(|g| *g < 3).collect();
                let cut = self.cut(net, x, 3, hidden);
                from_x = (0..3)
                    .map(|g| cut[order.iter().position(|o| *o == g).expect("a gate")])
                    .collect::<Vec<_>>();
            } else {
                from_x = apart.gates(net, constants, Some(x), None, &[0, 1, 2]);
            }
            from_h = apart.gates(net, constants, None, Some(h), &[0, 1, 2]);
            let mut gate = |g: usize| {
                let sum = self.add(net, from_x[g], from_h[g]);
                self.logistic(net, kind, sum)
            };
            (r, z) = (gate(0), gate(1));
            let inner = self.mul(net, r, from_h[2]);
            let sum = self.add(net, from_x[2], inner);
            n = self.tanh(net, sum);
        } else {
            let (x_gates, x_new) = if self.products == Products::Ahead {
                let order: Vec<usize> = self.order.iter().copied().filter(|g| *g < 3).collect();
                assert_eq!(order[2], 2, "the product made ahead ends with the candidate");
                let mut cut = |from: usize, to: usize| {
                    let mut inputs = vec![x];
                    inputs.extend(
                        [(from * hidden) as i64, (to * hidden) as i64, 1].map(|b| net.integers(&[b])),
                    );
                    net.op("Slice", &inputs)
                };
                (cut(0, 2), cut(2, 3))
            } else {
                (x, x)
            };
            let sums = self.gates(net, constants, Some(x_gates), Some(h), &[0, 1]);
            r = self.logistic(net, kind, sums[0]);
            z = self.logistic(net, kind, sums[1]);
            let reset = self.mul(net, r, h);
            let sum = self.sums(net, constants, &[2], Some(x_new), Some(reset));
            n = self.tanh(net, sum);
        }
        match self.form {
            0 => {
                let one = net.number(1.0);
                let rest = net.op("Sub", &[one, z]);
                let (a, b) = (self.mul(net, rest, n), self.mul(net, z, h));
                self.add(net, a, b)
            }
            1 => {
                let difference = net.op("Sub", &[h, n]);
                let scaled = self.mul(net, z, difference);
                self.add(net, n, scaled)
            }
            _ => {
                let (kept, gone) = (self.mul(net, z, h), self.mul(net, z, n));
                let new = net.op("Sub", &[n, gone]);
                self.add(net, kept, new)
            }
        }
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
