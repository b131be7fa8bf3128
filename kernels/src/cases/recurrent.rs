//! Cells, step by step and as whole sequences, against the ONNX specification in f64.

use super::Failure;
use super::activation::{ALL, reference};
use super::draw::Draw;
use super::lab::Lab;
use crate::activation::{Activation, Function};
use crate::element::Element;
use crate::launch::Buffer;
use crate::recurrent::{Layout, Operands, gru, lstm, rnn};
use std::cell::Cell;

/// An activation that is drawn, with its parameters.
#[derive(Clone, Copy, Debug)]
struct Drawn(Function, f32, f32);

impl Drawn {
    fn draw(g: &mut Draw, usual: Function) -> Self {
        // A threshold would turn roundings into steps.
        let functions = ALL.map(|of| if of == Function::ThresholdedRelu { usual } else { of });
        let function = if g.bool() { usual } else { g.pick(&functions) };
        Self(function, g.unit() / 2.0, 0.5 + g.unit() / 2.0)
    }

    fn activation(self) -> Activation {
        Activation::new(self.0, self.1, self.2)
    }

    fn apply(self, x: f64) -> f64 {
        reference(self.0, self.1.into(), self.2.into(), x)
    }
}

/// A drawn recurrence: what all cells have.
struct Case {
    layout: Layout,
    x: Vec<f32>,
    r: Vec<f32>,
    bias: Option<Vec<f32>>,
    lengths: Option<Vec<i32>>,
    h: Vec<f32>,
    with_y: bool,
}

/// What a recurrence gives.
struct Expected {
    /// The last hidden state of every sequence.
    h: Vec<f64>,
    /// The hidden states of all steps.
    y: Vec<f64>,
    /// The largest sum of the sizes of what is added up, and of a cell state; at least 1.
    scale: f64,
}

impl Case {
    fn draw(g: &mut Draw, gates: u32, hidden_limit: u32) -> Self {
        let hidden = if g.bool() {
            g.pick(&[1, 7, 8, 9, 31, 32, 33, 63, 64, 65, 127, 128].map(|h: u32| h.min(hidden_limit)))
        } else {
            g.within(1..=40)
        };
        let (time, batch) = (g.within(1..=4), g.pick(&[1, 1, 2, 3, 4, 5, 9]));
        let element = g.pick(&[Element::F32, Element::F16, Element::BF16]);
        let (rows, width) = (u64::from(gates * hidden), u64::from(hidden));
        let (steps, sequences) = (u64::from(time), u64::from(batch));
        let strides = |width: u64, by_time: bool| {
            if by_time { [sequences * width, width] } else { [width, steps * width] }
        };
        let layout = Layout {
            element,
            time,
            batch,
            hidden,
            gates: strides(rows, g.bool()),
            y: strides(width, g.bool()),
            reverse: g.bool(),
            clip: g.bool().then(|| 0.2 + g.unit().abs()),
        };
        let scale = 1.5 / (hidden as f32).sqrt();
        let any = |g: &mut Draw, time: u32| g.within(0..=time + 1) as i32 - 1;
        Self {
            layout,
            x: floats(g, steps * sequences * rows),
            r: g.floats(element, (rows * width) as usize, scale),
            bias: g.bool().then(|| floats(g, rows)),
            // Lengths that no sequence can have are those nearest to them.
            lengths: g.bool().then(|| (0..batch).map(|_| any(g, time)).collect()),
            h: floats(g, sequences * width),
            with_y: g.bool(),
        }
    }

    fn hidden(&self) -> usize {
        self.layout.hidden as usize
    }

    fn states(&self) -> u64 {
        4 * u64::from(self.layout.batch) * u64::from(self.layout.hidden)
    }

    /// Operands with `h` before, and new memory for what is written.
    fn operands(&self, lab: &mut Lab<'_>) -> Result<Operands, Failure> {
        let lengths: Option<Vec<u8>> =
            self.lengths.as_ref().map(|l| l.iter().flat_map(|length| length.to_le_bytes()).collect());
        Ok(Operands {
            gates: lab.upload_floats("gates", Element::F32, &self.x)?,
            weights: lab.upload_floats("R", self.layout.element, &self.r)?,
            bias: lab.upload_optional("Rb", self.bias.as_deref())?,
            lengths: lengths.map_or(Ok(Buffer::default()), |bytes| lab.upload("lengths", &bytes))?,
            h_before: lab.upload_floats("h", Element::F32, &self.h)?,
            h_after: lab.room("h after", self.states())?,
            y: if self.with_y {
                lab.room("y", self.states() * u64::from(self.layout.time))?
            } else {
                Buffer::default()
            },
        })
    }

    /// Runs the recurrence in f64: `cell(h, a, unit)` gives the unit's new state from the state before, where
    /// `a(gate, h)` is the gate's `(x, R·h + Rb)`.
    fn reference(
        &self,
        mut cell: impl FnMut(usize, &[f64], &dyn Fn(usize, usize, &[f64]) -> (f64, f64)) -> Vec<f64>,
    ) -> Expected {
        // Functions without a bound let states grow, and their errors with the terms of the sums.
        let scale = Cell::new(1.0f64);
        let (hidden, Layout { time, batch, .. }) = (self.hidden(), self.layout);
        let mut last = Vec::new();
        let mut y = vec![0.0; hidden * (time * batch) as usize];
        for b in 0..batch as usize {
            let length = self.lengths.as_ref().map_or(time, |l| l[b].clamp(0, time as i32) as u32) as usize;
            let mut h: Vec<f64> = self.h[b * hidden..(b + 1) * hidden].iter().map(|&h| h.into()).collect();
            for step in 0..length {
                let t = if self.layout.reverse { length - 1 - step } else { step };
                let part = |gate: usize, unit: usize, v: &[f64]| {
                    let row = gate * hidden + unit;
                    let at = t as u64 * self.layout.gates[0] + b as u64 * self.layout.gates[1] + row as u64;
                    let term = |k: usize| f64::from(self.r[row * hidden + k]) * v[k];
                    let product: f64 = (0..hidden).map(term).sum();
                    scale.set(scale.get().max((0..hidden).map(|k| term(k).abs()).sum()));
                    let bias = self.bias.as_ref().map_or(0.0, |bias| bias[row].into());
                    (f64::from(self.x[at as usize]), product + bias)
                };
                h = cell(b, &h, &part);
                let at = t as u64 * self.layout.y[0] + b as u64 * self.layout.y[1];
                y[at as usize..][..hidden].copy_from_slice(&h);
            }
            last.extend(h);
        }
        Expected { h: last, y, scale: scale.get() }
    }

    fn clipped(&self, x: f64) -> f64 {
        self.layout.clip.map_or(x, |clip| x.clamp(-f64::from(clip), clip.into()))
    }

    fn compare(
        &self,
        what: &str,
        lab: &mut Lab<'_>,
        buffer: Buffer,
        expected: &[f64],
        scale: f64,
    ) -> Result<(), Failure> {
        let got = lab.floats(buffer, Element::F32, 0, expected.len())?;
        for (i, (&got, &expected)) in got.iter().zip(expected).enumerate() {
            let error = (f64::from(got) - expected).abs();
            if error > 2e-5 * expected.abs().max(scale) || error.is_nan() {
                let layout = self.layout;
                return Err(Failure::Wrong(format!("{what}[{i}]: {got} for {expected}, {layout:?}")));
            }
        }
        Ok(())
    }

    /// Compares the last hidden state and y, where it is wanted.
    fn check(&self, lab: &mut Lab<'_>, last: Buffer, y: Buffer, expected: &Expected) -> Result<(), Failure> {
        self.compare("h", lab, last, &expected.h, expected.scale)?;
        if self.with_y { self.compare("y", lab, y, &expected.y, expected.scale) } else { Ok(()) }
    }

    /// Runs every step, the state going to and fro between two buffers; gives where it is at last.
    fn each_step(
        &self,
        lab: &mut Lab<'_>,
        operands: &Operands,
        mut run: impl FnMut(&mut Lab<'_>, u32, &Operands) -> Result<(), Failure>,
    ) -> Result<Buffer, Failure> {
        let spare = lab.room("h between", self.states())?;
        let (mut from, mut to) = (operands.h_before, operands.h_after);
        for step in 0..self.layout.time {
            run(lab, step, &Operands { h_before: from, h_after: to, ..*operands })?;
            from = to;
            to = if to.address == spare.address { operands.h_after } else { spare };
        }
        Ok(from)
    }
}

/// Drawn f32 from −1 to 1.
fn floats(g: &mut Draw, count: u64) -> Vec<f32> {
    g.floats(Element::F32, count as usize, 1.0)
}

/// An LSTM, step by step and in one launch.
pub(super) fn lstm(number: u32, g: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let case = Case::draw(g, 4, if number.is_multiple_of(8) { 128 } else { 66 });
    let hidden = case.hidden();
    let functions = [Function::Sigmoid, Function::Tanh, Function::Tanh].map(|usual| Drawn::draw(g, usual));
    let c = floats(g, case.h.len() as u64);
    let peepholes = g.bool().then(|| floats(g, 3 * hidden as u64));
    let input_forget = g.within(0..=3) == 0;
    let mut cells: Vec<f64> = c.iter().map(|&c| c.into()).collect();
    let mut largest = 1.0f64;
    let mut expected = case.reference(|b, h, part| {
        let [of_gates, of_input, of_output] = functions;
        let mut after = Vec::new();
        for u in 0..hidden {
            let c = &mut cells[b * hidden + u];
            let gate = |gate| part(gate, u, h).0 + part(gate, u, h).1;
            let peephole = |gate| peepholes.as_ref().map_or(0.0, |p| f64::from(p[gate * hidden + u]));
            let i = of_gates.apply(case.clipped(gate(0) + peephole(0) * *c));
            let f =
                if input_forget { 1.0 - i } else { of_gates.apply(case.clipped(gate(2) + peephole(2) * *c)) };
            *c = f * *c + i * of_input.apply(case.clipped(gate(3)));
            largest = largest.max(c.abs());
            let o = of_gates.apply(case.clipped(gate(1) + peephole(1) * *c));
            after.push(o * of_output.apply(*c));
        }
        after
    });
    expected.scale = expected.scale.max(largest);
    let problem =
        lstm::Problem { layout: case.layout, functions: functions.map(Drawn::activation), input_forget };
    for whole in [false, true] {
        let operands = case.operands(lab)?;
        let mut cell = lstm::Cell {
            c_before: lab.upload_floats("c", Element::F32, &c)?,
            c_after: lab.room("c after", case.states())?,
            peepholes: lab.upload_optional("P", peepholes.as_deref())?,
        };
        let device = lab.device();
        let last = if whole {
            lab.run(problem.sequence(&operands, &cell, &device)?)?;
            operands.h_after
        } else {
            case.each_step(lab, &operands, |lab, step, operands| {
                lab.run(problem.step(step, operands, &cell, &device)?)?;
                cell.c_before = cell.c_after;
                Ok(())
            })?
        };
        case.check(lab, last, operands.y, &expected)?;
        case.compare("c", lab, cell.c_after, &cells, expected.scale)?;
    }
    Ok(())
}

/// A GRU, step by step and in one launch.
pub(super) fn gru(number: u32, g: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let case = Case::draw(g, 3, if number.is_multiple_of(8) { 128 } else { 66 });
    let hidden = case.hidden();
    let functions = [Function::Sigmoid, Function::Tanh].map(|usual| Drawn::draw(g, usual));
    let linear = g.bool();
    let expected = case.reference(|_, h, part| {
        let gate = |gate, u| functions[0].apply(case.clipped(part(gate, u, h).0 + part(gate, u, h).1));
        let reset: Vec<f64> = (0..hidden).map(|u| gate(1, u)).collect();
        let kept: Vec<f64> = reset.iter().zip(h).map(|(r, h)| r * h).collect();
        let after = |u: usize| {
            let recurrent = if linear { reset[u] * part(2, u, h).1 } else { part(2, u, &kept).1 };
            let n = functions[1].apply(case.clipped(part(2, u, h).0 + recurrent));
            let z = gate(0, u);
            (1.0 - z) * n + z * h[u]
        };
        (0..hidden).map(after).collect()
    });
    let problem = gru::Problem {
        layout: case.layout,
        functions: functions.map(Drawn::activation),
        linear_before_reset: linear,
    };
    for whole in [false, true] {
        let operands = case.operands(lab)?;
        let device = lab.device();
        let last = if whole {
            lab.run(problem.sequence(&operands, &device)?)?;
            operands.h_after
        } else {
            let bytes = problem.workspace_bytes();
            let workspace = if linear { Buffer::default() } else { lab.room("workspace", bytes)? };
            case.each_step(lab, &operands, |lab, step, operands| {
                let (first, second) = problem.step(step, operands, workspace, &device)?;
                lab.run(first)?;
                second.map_or(Ok(()), |second| lab.run(second))
            })?
        };
        case.check(lab, last, operands.y, &expected)?;
    }
    Ok(())
}

/// An RNN, step by step and in one launch.
pub(super) fn rnn(_: u32, g: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let case = Case::draw(g, 1, 128);
    let function = Drawn::draw(g, Function::Tanh);
    let expected = case.reference(|_, h, part| {
        let unit = |u| part(0, u, h).0 + part(0, u, h).1;
        (0..case.hidden()).map(|u| function.apply(case.clipped(unit(u)))).collect()
    });
    let problem = rnn::Problem { layout: case.layout, function: function.activation() };
    for whole in [false, true] {
        let operands = case.operands(lab)?;
        let device = lab.device();
        let last = if whole {
            lab.run(problem.sequence(&operands, &device)?)?;
            operands.h_after
        } else {
            case.each_step(lab, &operands, |lab, step, operands| {
                lab.run(problem.step(step, operands, &device)?)
            })?
        };
        case.check(lab, last, operands.y, &expected)?;
    }
    Ok(())
}
