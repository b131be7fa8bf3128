//! Cells on the emulator, step by step and as whole sequences, against the ONNX specification in f64.

use super::*;
use crate::activation::tests::{ALL, reference};
use crate::activation::{Activation, Function};
use crate::testing::{DEVICE, Draw, Room, rounded};

/// An activation that is drawn, with its parameters.
#[derive(Clone, Copy, Debug)]
struct Drawn(Function, f32, f32);

impl Drawn {
    fn draw(g: &mut Draw, usual: Function) -> Self {
        // A threshold would turn roundings into steps.
        let functions = ALL.map(|of| if of == Function::ThresholdedRelu { usual } else { of });
        let function = if g.chance() { usual } else { g.pick(&functions) };
        Self(function, g.float() / 2.0, 0.5 + g.float() / 2.0)
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

impl Case {
    fn draw(g: &mut Draw, gates: u32, hidden_limit: u32) -> Self {
        let hidden = if g.chance() {
            g.pick(&[1, 7, 8, 9, 31, 32, 33, 63, 64, 65, 127, 128].map(|h: u32| h.min(hidden_limit)))
        } else {
            g.int(1, 40)
        };
        let (time, batch) = (g.int(1, 4), g.pick(&[1, 1, 2, 3, 4, 5, 9]));
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
            gates: strides(rows, g.chance()),
            y: strides(width, g.chance()),
            reverse: g.chance(),
            clip: g.chance().then(|| 0.2 + g.float().abs()),
        };
        let scale = 1.5 / (hidden as f32).sqrt();
        let r = g.floats((rows * width) as usize);
        let any = |g: &mut Draw, time: u32| g.int(0, time + 1) as i32 - 1;
        Self {
            layout,

            x: g.floats((steps * sequences * rows) as usize),
            r: r.into_iter().map(|w| rounded(element, w * scale)).collect(),
            bias: g.chance().then(|| g.floats(rows as usize)),
            // Lengths that no sequence can have are those nearest to them.
            lengths: g.chance().then(|| (0..batch).map(|_| any(g, time)).collect()),
            h: g.floats((sequences * width) as usize),
            with_y: g.chance(),
        }
    }

    fn hidden(&self) -> usize {
        self.layout.hidden as usize
    }

    fn states(&self) -> u64 {
        4 * u64::from(self.layout.batch) * u64::from(self.layout.hidden)
    }

    /// Operands with `h` before, and new memory for what is written.
    fn operands(&self, room: &Room) -> Operands {
        let of = |label: &str, values: &Option<Vec<f32>>| {
            values.as_ref().map_or(Buffer::default(), |values| room.upload(label, Element::F32, values))
        };
        Operands {
            gates: room.upload("gates", Element::F32, &self.x),
            weights: room.upload("R", self.layout.element, &self.r),
            bias: of("Rb", &self.bias),
            lengths: self.lengths.as_ref().map_or(Buffer::default(), |l| room.upload_integers("lengths", l)),
            h_before: room.upload("h", Element::F32, &self.h),
            h_after: room.empty("h after", self.states()),
            y: if self.with_y {
                room.empty("y", self.states() * u64::from(self.layout.time))
            } else {
                Buffer::default()
            },
        }
    }

    /// Runs the recurrence in f64: `cell(h, a, unit)` gives the unit's new state from the state before, where
    /// `a(gate, h)` is the gate's `(x, R·h + Rb)`. Returns h of every sequence and y.
    fn reference(
        &self,
        mut cell: impl FnMut(usize, &[f64], &dyn Fn(usize, usize, &[f64]) -> (f64, f64)) -> Vec<f64>,
    ) -> (Vec<f64>, Vec<f64>) {
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
                    let product: f64 = (0..hidden).map(|k| f64::from(self.r[row * hidden + k]) * v[k]).sum();
                    let bias = self.bias.as_ref().map_or(0.0, |bias| bias[row].into());
                    (f64::from(self.x[at as usize]), product + bias)
                };
                h = cell(b, &h, &part);
                let at = t as u64 * self.layout.y[0] + b as u64 * self.layout.y[1];
                y[at as usize..][..hidden].copy_from_slice(&h);
            }
            last.extend(h);
        }
        (last, y)
    }

    fn clipped(&self, x: f64) -> f64 {
        self.layout.clip.map_or(x, |clip| x.clamp(-f64::from(clip), clip.into()))
    }

    fn compare(&self, what: &str, got: &[f32], expected: &[f64]) {
        for (i, (&got, &expected)) in got.iter().zip(expected).enumerate() {
            let error = (f64::from(got) - expected).abs();
            assert!(
                error <= 2e-5 * expected.abs().max(1.0),
                "{what}[{i}]: {got} for {expected}, {:?}",
                self.layout
            );
        }
        assert_eq!(got.len(), expected.len());
    }

    /// Compares the last hidden state and y, where it is wanted.
    fn check(&self, room: &Room, last: Buffer, y: Buffer, (h, all): &(Vec<f64>, Vec<f64>)) {
        self.compare("h", &room.read(last, Element::F32, 0, h.len()), h);
        if self.with_y {
            self.compare("y", &room.read(y, Element::F32, 0, all.len()), all);
        }
    }

    /// Runs every step, the state going to and fro between two buffers; gives where it is at last.
    fn each_step(&self, room: &Room, operands: &Operands, mut run: impl FnMut(u32, &Operands)) -> Buffer {
        let spare = room.empty("h between", self.states());
        let (mut from, mut to) = (operands.h_before, operands.h_after);
        for step in 0..self.layout.time {
            run(step, &Operands { h_before: from, h_after: to, ..*operands });
            from = to;
            to = if to.address == spare.address { operands.h_after } else { spare };
        }
        from
    }
}

const CASES: u32 = 40;

#[test]
fn lstm_is_that_of_the_specification() {
    let mut g = Draw::new(11);
    for number in 0..CASES {
        let case = Case::draw(&mut g, 4, if number % 8 == 0 { 128 } else { 66 });
        let hidden = case.hidden();
        let functions =
            [Function::Sigmoid, Function::Tanh, Function::Tanh].map(|usual| Drawn::draw(&mut g, usual));
        let c = g.floats(case.h.len());
        let peepholes = g.chance().then(|| g.floats(3 * hidden));
        let input_forget = g.int(0, 3) == 0;
        let mut cells: Vec<f64> = c.iter().map(|&c| c.into()).collect();
        let expected = case.reference(|b, h, part| {
            let [of_gates, of_input, of_output] = functions;
            let mut after = Vec::new();
            for u in 0..hidden {
                let c = &mut cells[b * hidden + u];
                let gate = |gate| part(gate, u, h).0 + part(gate, u, h).1;
                let peephole = |gate| peepholes.as_ref().map_or(0.0, |p| f64::from(p[gate * hidden + u]));
                let i = of_gates.apply(case.clipped(gate(0) + peephole(0) * *c));
                let f = if input_forget {
                    1.0 - i
                } else {
                    of_gates.apply(case.clipped(gate(2) + peephole(2) * *c))
                };
                *c = f * *c + i * of_input.apply(case.clipped(gate(3)));
                let o = of_gates.apply(case.clipped(gate(1) + peephole(1) * *c));
                after.push(o * of_output.apply(*c));
            }
            after
        });
        let problem =
            lstm::Problem { layout: case.layout, functions: functions.map(Drawn::activation), input_forget };
        for whole in [false, true] {
            let room = Room::new();
            let operands = case.operands(&room);
            let mut cell = lstm::Cell {
                c_before: room.upload("c", Element::F32, &c),
                c_after: room.empty("c after", case.states()),
                peepholes: peepholes
                    .as_ref()
                    .map_or(Buffer::default(), |p| room.upload("P", Element::F32, p)),
            };
            let last = if whole {
                room.run(&problem.sequence(&operands, &cell, &DEVICE).expect("a launch"));
                operands.h_after
            } else {
                case.each_step(&room, &operands, |step, operands| {
                    room.run(&problem.step(step, operands, &cell, &DEVICE).expect("a launch"));
                    cell.c_before = cell.c_after;
                })
            };
            case.check(&room, last, operands.y, &expected);
            case.compare("c", &room.read(cell.c_after, Element::F32, 0, cells.len()), &cells);
        }
    }
}

#[test]
fn gru_is_that_of_the_specification() {
    let mut g = Draw::new(12);
    for number in 0..CASES {
        let case = Case::draw(&mut g, 3, if number % 8 == 0 { 128 } else { 66 });
        let hidden = case.hidden();
        let functions = [Function::Sigmoid, Function::Tanh].map(|usual| Drawn::draw(&mut g, usual));
        let linear = g.chance();
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
            let room = Room::new();
            let operands = case.operands(&room);
            let last = if whole {
                room.run(&problem.sequence(&operands, &DEVICE).expect("a launch"));
                operands.h_after
            } else {
                let workspace = if linear {
                    Buffer::default()
                } else {
                    room.empty("workspace", problem.workspace_bytes())
                };
                case.each_step(&room, &operands, |step, operands| {
                    let (first, second) = problem.step(step, operands, workspace, &DEVICE).expect("launches");
                    room.run(&first);
                    if let Some(second) = &second {
                        room.run(second);
                    }
                })
            };
            case.check(&room, last, operands.y, &expected);
        }
    }
}

#[test]
fn rnn_is_that_of_the_specification() {
    let mut g = Draw::new(13);
    for _ in 0..CASES {
        let case = Case::draw(&mut g, 1, 128);
        let function = Drawn::draw(&mut g, Function::Tanh);
        let expected = case.reference(|_, h, part| {
            let unit = |u| part(0, u, h).0 + part(0, u, h).1;
            (0..case.hidden()).map(|u| function.apply(case.clipped(unit(u)))).collect()
        });
        let problem = rnn::Problem { layout: case.layout, function: function.activation() };
        for whole in [false, true] {
            let room = Room::new();
            let operands = case.operands(&room);
            let last = if whole {
                room.run(&problem.sequence(&operands, &DEVICE).expect("a launch"));
                operands.h_after
            } else {
                case.each_step(&room, &operands, |step, operands| {
                    room.run(&problem.step(step, operands, &DEVICE).expect("a launch"));
                })
            };
            case.check(&room, last, operands.y, &expected);
        }
    }
}

#[test]
fn what_a_kernel_does_not_hold_is_refused() {
    let buffer = |address: u64| Buffer { address: address << 24, bytes: 1 << 24 };
    let operands = Operands {
        gates: buffer(1),
        weights: buffer(2),
        h_before: buffer(3),
        h_after: buffer(4),
        ..Operands::default()
    };
    let layout = Layout {
        element: Element::F32,
        time: 4,
        batch: 2,
        hidden: 128,
        gates: [1024, 512],
        y: [256, 128],
        reverse: false,
        clip: None,
    };
    let with = |layout: Layout| rnn::Problem { layout, function: Activation::IDENTITY };
    assert!(with(layout).sequence(&operands, &DEVICE).is_ok());
    let wide = with(Layout { hidden: 129, ..layout });
    let refused = Some(Reject::Extent { name: "hidden units", got: 129, limit: 128 });
    assert_eq!(wide.sequence(&operands, &DEVICE).err(), refused);
    assert!(wide.step(0, &operands, &DEVICE).is_ok());
    assert!(matches!(
        with(layout).step(4, &operands, &DEVICE).err(),
        Some(Reject::Extent { name: "step", .. })
    ));
    let clipped = with(Layout { clip: Some(f32::NAN), ..layout });
    assert!(matches!(clipped.step(0, &operands, &DEVICE).err(), Some(Reject::Unsupported { .. })));
    let same = Operands { h_after: operands.h_before, ..operands };
    assert!(matches!(with(layout).step(0, &same, &DEVICE).err(), Some(Reject::Unsupported { .. })));
    let short =
        Operands { gates: Buffer { address: 1 << 24, bytes: 4 * (3 * 1024 + 512 + 128 - 1) }, ..operands };
    assert!(matches!(
        with(layout).step(0, &short, &DEVICE).err(),
        Some(Reject::Length { operand: "gates", needed: 14848, .. })
    ));
    let far = with(Layout { gates: [u64::MAX, u64::MAX], ..layout });
    assert!(far.step(0, &operands, &DEVICE).is_err());
    let turing = crate::launch::Device { capability: 75, shared_bytes: 64 * 1024, ..DEVICE };
    let large = lstm::Problem { layout, functions: [Activation::IDENTITY; 3], input_forget: false };
    let cell = lstm::Cell { c_before: buffer(5), c_after: buffer(6), ..lstm::Cell::default() };
    let needed = sequence_shared(512, 128, 64);
    assert!(large.sequence(&operands, &cell, &DEVICE).is_ok());
    assert_eq!(
        large.sequence(&operands, &cell, &turing).err(),
        Some(Reject::SharedMemory { needed, limit: 64 * 1024 })
    );
}
