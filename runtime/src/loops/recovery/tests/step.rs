//! One step of a cell in a spelling.

use super::cells::Kind;
use super::net::Net;
use super::spelling::{Constants, Products, Spelling};
use crate::graph::ValueId;

impl Spelling {
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
                inputs.extend(
                    [(from * hidden) as i64, (to * hidden) as i64, self.lies.axis()]
                        .map(|b| net.integers(&[b])),
                );
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
                        (self.lies.shared(hidden), w.p[peephole * hidden..(peephole + 1) * hidden].to_vec())
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
                        [(from * hidden) as i64, (to * hidden) as i64, self.lies.axis()]
                            .map(|b| net.integers(&[b])),
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
}
