//! LSTM, GRU and RNN as loop nests with a sequential axis; the operators' files have the formulas.
//!
//! The axes are time, rows, units of the new state, and those that the products fold over: features of the input, units
//! of the old state. `h` and `C` are arrays with an axis of directions, which become Y_h and Y_c; what a direction
//! stands for at a point of the time axis is its own moment. Every attribute is lowered. Lengths of rows are not: a
//! reversed row begins at its own end, which is no affine function of the axes.

use super::recurrence::{Activation, Cell, Function, Recurrence};
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts};
use crate::loops::program::{Builder, Reg};
use crate::loops::{Affine, Fold, Nest, Opaque, Outside, Source, Stages, extents, operand};

const TIME: usize = 0;
const ROW: usize = 1;
const UNIT: usize = 2;
const FEATURE: usize = 3;
const OLD_UNIT: usize = 4;

/// Inputs by their numbers.
const X: usize = 0;
const W: usize = 1;
const R: usize = 2;
const B: usize = 3;
const LENGTHS: usize = 4;
const INITIAL_H: usize = 5;
const INITIAL_C: usize = 6;
const P: usize = 7;

impl Recurrence {
    /// The nest of as many outputs as `outputs` has.
    pub(crate) fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        if inputs.has(LENGTHS) {
            return Err(Opaque::Lengths);
        }
        let (x, r) = (extents(operand(inputs, X)?)?, extents(operand(inputs, R)?)?);
        let ([first, second, features], [.., units]) = (x, r) else { return Err(Opaque::Extents) };
        let (time, rows) = if self.batch_first { (second, first) } else { (first, second) };
        let axes = [time, rows, units, features, units].map(Dim::clone).to_vec();
        let mut stages = Stages::over(inputs, outputs, axes)?;
        let hidden = units.known().and_then(|n| i64::try_from(n).ok()).ok_or(Opaque::Extents)?;
        let mut state = vec![Dim::Known(self.directions.len()), rows.clone(), units.clone()];
        if self.batch_first {
            state.swap(0, 1);
        }
        let initial = |index: usize| inputs.has(index).then_some(index);
        let h = stages.array(state.clone(), initial(INITIAL_H));
        let mut last = vec![(1, h)];
        let time = time.known().and_then(|n| i64::try_from(n).ok());
        let mut step = Step { of: self, stages, hidden, time, h };
        match self.cell {
            Cell::Lstm { input_forget } => {
                let c = step.stages.array(state, initial(INITIAL_C));
                last.push((2, c));
                for direction in 0..self.directions.len() {
                    step.lstm(direction, c, input_forget)?;
                }
            }
            Cell::Gru { linear_before_reset: true } => {
                for direction in 0..self.directions.len() {
                    let reset = step.gate(direction, 1, 0)?;
                    step.gru(direction, Candidate::Reset(reset))?;
                }
            }
            Cell::Gru { linear_before_reset: false } => {
                let kept = step.stages.array(state, None);
                for direction in 0..self.directions.len() {
                    let (reset, old) = (step.gate(direction, 1, 0)?, step.old(h, direction, UNIT));
                    let product = step.stages.scalar(&[reset, old], |b, s| b.mul(s[0], s[1]))?;
                    let at = step.state_at(direction, UNIT);
                    step.stages.carry(kept, at, product)?;
                }
                step.stages.end_pass(&[ROW, UNIT]);
                for direction in 0..self.directions.len() {
                    step.gru(direction, Candidate::Kept(kept))?;
                }
            }
            Cell::Rnn => {
                for direction in 0..self.directions.len() {
                    let new = step.gate(direction, 0, 0)?;
                    step.show(direction, new)?;
                }
            }
        }
        step.stages.end_pass(&[ROW, UNIT]);
        last.retain(|l| l.0 < outputs.len());
        Ok(step.stages.along(TIME, last))
    }
}

/// What the product of a GRU's candidate is made of.
#[derive(Clone, Copy)]
enum Candidate {
    /// `r ⊙ (R·h + b)`, with `r`.
    Reset(Source),
    /// `R·(r ⊙ h) + b`, with the array of `r ⊙ h`.
    Kept(usize),
}

/// One step under construction.
struct Step<'a> {
    of: &'a Recurrence,
    stages: Stages<'a>,
    hidden: i64,
    /// Steps, where they are known.
    time: Option<i64>,
    /// The array of the hidden state.
    h: usize,
}

impl Step<'_> {
    /// The moment that direction `d` is at.
    fn moment(&self, d: usize) -> Result<Affine, Opaque> {
        if !self.of.directions[d].reverse {
            return Ok(Affine::axis(TIME));
        }
        let last = self.time.ok_or(Opaque::Extents)? - 1;
        Affine::constant(last).plus(TIME, -1).ok_or(Opaque::Extents)
    }

    /// Where a state of direction `d` lies, its units along `units`.
    fn state_at(&self, d: usize, units: usize) -> Vec<Affine> {
        let (d, row, unit) = (Affine::constant(d as i64), Affine::axis(ROW), Affine::axis(units));
        if self.of.batch_first { vec![row, d, unit] } else { vec![d, row, unit] }
    }

    /// A state as the step before left it.
    fn old(&mut self, array: usize, d: usize, units: usize) -> Source {
        let at = self.state_at(d, units);
        self.stages.recall(array, at)
    }

    /// Element `part · hidden + unit` of direction `d` of input `index`, followed by `behind`.
    fn parameter(
        &mut self,
        index: usize,
        d: usize,
        part: usize,
        behind: Option<usize>,
    ) -> Result<Source, Opaque> {
        let first = self.hidden.checked_mul(part as i64).ok_or(Opaque::Extents)?;
        let row = Affine::axis(UNIT).shifted(first).ok_or(Opaque::Extents)?;
        let mut at = vec![Affine::constant(d as i64), row];
        at.extend(behind.map(Affine::axis));
        self.stages.read(index, at, Outside::Never)
    }

    /// `W·x` of a gate.
    fn input(&mut self, d: usize, gate: usize) -> Result<Source, Opaque> {
        let (moment, row, feature) = (self.moment(d)?, Affine::axis(ROW), Affine::axis(FEATURE));
        let at = if self.of.batch_first { vec![row, moment, feature] } else { vec![moment, row, feature] };
        let x = self.stages.read(X, at, Outside::Never)?;
        let w = self.parameter(W, d, gate, Some(FEATURE))?;
        self.stages.fold(Fold::Sum, &[FEATURE], &[x, w], |b, s| b.mul(s[0], s[1]))
    }

    /// `R·array` of a gate.
    fn recurrent(&mut self, d: usize, gate: usize, array: usize) -> Result<Source, Opaque> {
        let old = self.old(array, d, OLD_UNIT);
        let r = self.parameter(R, d, gate, Some(OLD_UNIT))?;
        self.stages.fold(Fold::Sum, &[OLD_UNIT], &[old, r], |b, s| b.mul(s[0], s[1]))
    }

    /// The bias of W (`of = 0`) or R (`of = 1`) for a gate.
    fn bias(&mut self, of: usize, d: usize, gate: usize) -> Result<Option<Source>, Opaque> {
        if !self.of.has_bias {
            return Ok(None);
        }
        self.parameter(B, d, of * self.of.cell.gates() + gate, None).map(Some)
    }

    /// The terms of a gate's sum.
    fn terms(&mut self, d: usize, gate: usize) -> Result<Vec<Source>, Opaque> {
        let mut terms = vec![self.input(d, gate)?, self.recurrent(d, gate, self.h)?];
        for of in [0, 1] {
            terms.extend(self.bias(of, d, gate)?);
        }
        Ok(terms)
    }

    /// Activation `function` of the sum of `terms`, which is clipped.
    fn activated(&mut self, d: usize, function: usize, terms: &[Source]) -> Result<Source, Opaque> {
        let activation = self.of.directions[d].activations[function];
        let clip = self.of.clip;
        self.stages.scalar(terms, |b, s| {
            let sum = s[1..].iter().fold(s[0], |sum, term| b.add(sum, *term));
            let sum = clip.map_or(sum, |clip| {
                let (low, high) = (b.constant_as(sum, -f64::from(clip)), b.constant_as(sum, clip.into()));
                let below = b.min(sum, high);
                b.max(below, low)
            });
            activated(b, activation, sum)
        })
    }

    /// A gate without peepholes.
    fn gate(&mut self, d: usize, gate: usize, function: usize) -> Result<Source, Opaque> {
        let terms = self.terms(d, gate)?;
        self.activated(d, function, &terms)
    }

    /// Gate `gate` of an LSTM, which looks at `cell` through peephole `which`.
    fn peeping(&mut self, d: usize, gate: usize, which: usize, cell: Source) -> Result<Source, Opaque> {
        let mut terms = self.terms(d, gate)?;
        if self.of.has_peephole {
            let peephole = self.parameter(P, d, which, None)?;
            terms.push(self.stages.scalar(&[peephole, cell], |b, s| b.mul(s[0], s[1]))?);
        }
        self.activated(d, 0, &terms)
    }

    /// The new hidden state.
    fn show(&mut self, d: usize, h: Source) -> Result<(), Opaque> {
        let at = self.state_at(d, UNIT);
        self.stages.carry(self.h, at, h)?;
        let (moment, row) = (self.moment(d)?, Affine::axis(ROW));
        let (direction, unit) = (Affine::constant(d as i64), Affine::axis(UNIT));
        self.stages.put(
            if self.of.batch_first {
                vec![row, moment, direction, unit]
            } else {
                vec![moment, direction, row, unit]
            },
            h,
        )
    }

    fn lstm(&mut self, d: usize, c: usize, coupled: bool) -> Result<(), Opaque> {
        let old = self.old(c, d, UNIT);
        let input = self.peeping(d, 0, 0, old)?;
        let forget = if coupled {
            self.stages.scalar(&[input], |b, s| {
                let one = b.constant_as(s[0], 1.0);
                b.sub(one, s[0])
            })?
        } else {
            self.peeping(d, 2, 2, old)?
        };
        let candidate = self.gate(d, 3, 1)?;
        let cell = self.stages.scalar(&[forget, old, input, candidate], |b, s| {
            let (kept, added) = (b.mul(s[0], s[1]), b.mul(s[2], s[3]));
            b.add(kept, added)
        })?;
        let output = self.peeping(d, 1, 1, cell)?;
        let shown = self.of.directions[d].activations[2];
        let h = self.stages.scalar(&[output, cell], |b, s| {
            let shown = activated(b, shown, s[1]);
            b.mul(s[0], shown)
        })?;
        let at = self.state_at(d, UNIT);
        self.stages.carry(c, at, cell)?;
        self.show(d, h)
    }

    fn gru(&mut self, d: usize, candidate: Candidate) -> Result<(), Opaque> {
        let update = self.gate(d, 0, 0)?;
        let (input, bias) = (self.input(d, 2)?, self.bias(0, d, 2)?);
        let array = if let Candidate::Kept(kept) = candidate { kept } else { self.h };
        let mut terms = vec![self.recurrent(d, 2, array)?];
        terms.extend(self.bias(1, d, 2)?);
        let reset = if let Candidate::Reset(reset) = candidate { Some(reset) } else { None };
        let terms: Vec<Source> = match reset {
            Some(reset) => {
                terms.insert(0, reset);
                vec![self.stages.scalar(&terms, |b, s| {
                    let sum = s[2..].iter().fold(s[1], |sum, term| b.add(sum, *term));
                    b.mul(s[0], sum)
                })?]
            }
            None => terms,
        };
        let terms: Vec<Source> = [input].into_iter().chain(terms).chain(bias).collect();
        let new = self.activated(d, 1, &terms)?;
        let old = self.old(self.h, d, UNIT);
        let h = self.stages.scalar(&[update, new, old], |b, s| {
            let one = b.constant_as(s[0], 1.0);
            let rest = b.sub(one, s[0]);
            let (added, kept) = (b.mul(rest, s[1]), b.mul(s[0], s[2]));
            b.add(added, kept)
        })?;
        self.show(d, h)
    }
}

/// An activation function as an expression.
pub(crate) fn activated(b: &mut Builder, activation: Activation, x: Reg) -> Reg {
    let alpha = b.constant_as(x, activation.alpha.into());
    let beta = b.constant_as(x, activation.beta.into());
    let (zero, one) = (b.constant_as(x, 0.0), b.constant_as(x, 1.0));
    match activation.function {
        Function::Relu => b.max(x, zero),
        Function::Tanh => b.tanh(x),
        Function::Sigmoid => b.sigmoid(x),
        Function::Affine => {
            let scaled = b.mul(alpha, x);
            b.add(scaled, beta)
        }
        Function::LeakyRelu => {
            let (positive, scaled) = (b.ge(x, zero), b.mul(alpha, x));
            b.select(positive, x, scaled)
        }
        Function::ThresholdedRelu => {
            let above = b.ge(x, alpha);
            b.select(above, x, zero)
        }
        Function::ScaledTanh => {
            let scaled = b.mul(beta, x);
            let tanh = b.tanh(scaled);
            b.mul(alpha, tanh)
        }
        Function::HardSigmoid => {
            let scaled = b.mul(alpha, x);
            let line = b.add(scaled, beta);
            let below = b.min(line, one);
            b.max(below, zero)
        }
        Function::Elu => {
            let (positive, below) = (b.ge(x, zero), b.exp_m1(x));
            let scaled = b.mul(alpha, below);
            b.select(positive, x, scaled)
        }
        Function::Softsign => {
            let size = b.abs(x);
            let divisor = b.add(one, size);
            b.div(x, divisor)
        }
        Function::Softplus => b.softplus(x),
    }
}
