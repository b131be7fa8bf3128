//! Programs behind sums: drawn, encoded, and computed once more in f64.
//!
//! No step makes an error more than twice as large, and none has a jump, so that what a suite allows a sum it can allow
//! what follows from it.

use super::Failure;
use super::draw::{Draw, encode};
use super::lab::Lab;
use crate::dtype::DType;
use crate::element::Element;
use crate::epilogue::Program;
use crate::launch::Buffer;
use crate::map::{Code, Layout, Source};
use crate::program::{Instruction, Kind, Opcode};

/// What becomes of a value; operands by their number.
#[derive(Clone, Copy, Debug)]
enum Step {
    Add(usize),
    AddSum,
    Scale(f32),
    Max(usize),
    Min(f32),
    Function(Opcode),
    /// A truth value, and what is taken where it is false.
    Select(usize, usize),
}

/// An operand under the axes of Y.
struct Operand {
    dtype: DType,
    strides: Vec<u64>,
    first: u64,
    values: Vec<f32>,
}

impl Operand {
    fn draw(r: &mut Draw, dtype: DType, extents: &[u64]) -> Self {
        let any = r.bits();
        let broadcast = r.pick(&[0, 0, 1, 2, 3, u64::MAX, any]);
        let (mut strides, mut count) = (vec![0; extents.len()], 1);
        for axis in (0..extents.len()).rev().filter(|axis| broadcast >> axis & 1 == 0) {
            strides[axis] = count;
            count *= extents[axis];
        }
        let first = u64::from(r.edge(&[0, 4], 0..=5));
        let values = match dtype {
            DType::Bool => (0..first + count).map(|_| f32::from(u8::from(r.bool()))).collect(),
            DType::F16 => r.floats(Element::F16, (first + count) as usize, 1.0),
            _ => r.floats(Element::F32, (first + count) as usize, 1.0),
        };
        Self { dtype, strides, first, values }
    }

    fn bytes(&self) -> Vec<u8> {
        match self.dtype {
            DType::Bool => self.values.iter().map(|&value| value as u8).collect(),
            DType::F16 => encode(Element::F16, &self.values),
            _ => encode(Element::F32, &self.values),
        }
    }

    fn at(&self, extents: &[u64], element: u64) -> f64 {
        let (mut rest, mut index) = (element, self.first);
        for (extent, stride) in extents.iter().zip(&self.strides).rev() {
            index += rest % extent * stride;
            rest /= extent;
        }
        self.values[index as usize].into()
    }
}

/// A drawn program.
pub(super) struct Behind {
    steps: Vec<Step>,
    operands: Vec<Operand>,
    extents: Vec<u64>,
    code: Code,
    /// Type of Y.
    pub(super) element: Element,
}

/// Instructions in the making.
struct Encoder {
    instructions: Vec<Instruction>,
    constants: Vec<u64>,
}

impl Encoder {
    fn push(&mut self, opcode: Opcode, kind: Kind, dtype: DType, arguments: [u32; 3]) -> u32 {
        self.instructions.push(Instruction { opcode, kind, operands: kind, dtype, arguments });
        self.instructions.len() as u32 - 1
    }

    fn float(&mut self, opcode: Opcode, arguments: [u32; 3]) -> u32 {
        self.push(opcode, Kind::F32, DType::F32, arguments)
    }

    fn input(&mut self, number: usize, dtype: DType) -> u32 {
        let kind = if dtype == DType::Bool { Kind::Bool } else { Kind::F32 };
        self.push(Opcode::Input, kind, dtype, [number as u32, 0, 0])
    }

    fn constant(&mut self, value: f32) -> u32 {
        self.constants.push(value.to_bits().into());
        self.float(Opcode::Constant, [self.constants.len() as u32 - 1, 0, 0])
    }
}

impl Behind {
    /// A program over a space of `extents` behind sums whose result is an operand of type `element`, or none.
    pub(super) fn draw(r: &mut Draw, element: Element, extents: &[u64]) -> Result<Option<Self>, Failure> {
        if r.within(0..=3) == 0 {
            return Ok(None);
        }
        let mut operands: Vec<Operand> = Vec::new();
        let mut operand = |r: &mut Draw, dtypes: &[DType]| {
            let dtype = r.pick(dtypes);
            operands.push(Operand::draw(r, dtype, extents));
            operands.len() - 1
        };
        let floats = [DType::F32, DType::F32, DType::F16];
        let functions =
            [Opcode::Sigmoid, Opcode::Tanh, Opcode::Erf, Opcode::Softplus, Opcode::Abs, Opcode::Neg];
        let mut steps = Vec::new();
        for _ in 0..r.within(1..=4) {
            steps.push(match r.within(0..=8) {
                0 | 1 => Step::Add(operand(r, &floats)),
                2 => Step::AddSum,
                3 => Step::Scale(r.unit()),
                4 => Step::Max(operand(r, &floats)),
                5 => Step::Min(r.unit()),
                6 => Step::Select(operand(r, &[DType::Bool]), operand(r, &floats)),
                _ => Step::Function(r.pick(&functions)),
            });
        }
        let result = r.index(operands.len() + 1);
        // Operands behind the result have a number more than they have here.
        let number = |operand: usize| operand + usize::from(operand >= result);
        let mut encoder = Encoder { instructions: Vec::new(), constants: Vec::new() };
        let sum = encoder.input(result, element.into());
        let mut y = sum;
        for &step in &steps {
            let given = |at: usize, e: &mut Encoder| e.input(number(at), operands[at].dtype);
            y = match step {
                Step::Add(at) => {
                    let x = given(at, &mut encoder);
                    encoder.float(Opcode::Add, [y, x, 0])
                }
                Step::AddSum => encoder.float(Opcode::Add, [y, sum, 0]),
                Step::Scale(by) => {
                    let x = encoder.constant(by);
                    encoder.float(Opcode::Mul, [y, x, 0])
                }
                Step::Max(at) => {
                    let x = given(at, &mut encoder);
                    encoder.float(Opcode::Max, [y, x, 0])
                }
                Step::Min(least) => {
                    let x = encoder.constant(least);
                    encoder.float(Opcode::Min, [y, x, 0])
                }
                Step::Function(opcode) => encoder.float(opcode, [y, 0, 0]),
                Step::Select(condition, otherwise) => {
                    let (a, b) = (given(condition, &mut encoder), given(otherwise, &mut encoder));
                    encoder.float(Opcode::Select, [a, y, b])
                }
            };
        }
        let of_y = r.pick(&[element, Element::F32, Element::BF16]);
        let mut dense = vec![1; extents.len()];
        for axis in (1..extents.len()).rev() {
            dense[axis - 1] = dense[axis] * extents[axis];
        }
        let mut layout: Vec<(DType, &[u64], u64)> =
            operands.iter().map(|o| (o.dtype, o.strides.as_slice(), o.first)).collect();
        layout.insert(result, (element.into(), &dense, 0));
        let outputs = [(y as usize, of_y.into())];
        let source =
            Source { instructions: &encoder.instructions, constants: &encoder.constants, outputs: &outputs };
        let code = Code::behind(&source, &Layout::new(extents, &layout)?, result)?;
        operands.insert(result, Operand { dtype: DType::Bool, strides: dense, first: 0, values: Vec::new() });
        for step in &mut steps {
            match step {
                Step::Add(at) | Step::Max(at) => *at = number(*at),
                Step::Select(a, b) => (*a, *b) = (number(*a), number(*b)),
                _ => {}
            }
        }
        Ok(Some(Self { steps, operands, extents: extents.to_vec(), code, element: of_y }))
    }

    /// As a launch takes it, its code and operands on the device.
    pub(super) fn upload(&self, lab: &mut Lab<'_>) -> Result<Program, Failure> {
        let mut inputs = Vec::new();
        for operand in &self.operands {
            let there = !operand.values.is_empty();
            inputs.push(if there { lab.upload("input", &operand.bytes())? } else { Buffer::default() });
        }
        let memory = lab.upload("code", &self.code.bytes())?;
        Ok(self.code.behind_sums(memory, &inputs)?)
    }

    /// Element `element` of Y, of this sum.
    pub(super) fn of(&self, sum: f64, element: u64) -> f64 {
        let operand = |at: usize| self.operands[at].at(&self.extents, element);
        self.steps.iter().fold(sum, |y, &step| match step {
            Step::Add(at) => y + operand(at),
            Step::AddSum => y + sum,
            Step::Scale(by) => y * f64::from(by),
            Step::Max(at) => y.max(operand(at)),
            Step::Min(least) => y.min(least.into()),
            Step::Function(Opcode::Sigmoid) => 1.0 / (1.0 + (-y).exp()),
            Step::Function(Opcode::Tanh) => y.tanh(),
            Step::Function(Opcode::Erf) => libm::erf(y),
            Step::Function(Opcode::Softplus) => y.max(0.0) + (-y.abs()).exp().ln_1p(),
            Step::Function(Opcode::Abs) => y.abs(),
            Step::Function(_) => -y,
            Step::Select(condition, otherwise) => {
                if operand(condition) == 0.0 {
                    operand(otherwise)
                } else {
                    y
                }
            }
        })
    }

    /// What it does, for reports.
    pub(super) fn steps(&self) -> String {
        format!("{:?} to {:?}", self.steps, self.element)
    }
}
