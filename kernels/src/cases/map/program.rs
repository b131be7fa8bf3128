//! Programs in the making, their operands in memory, and one run held to the definition.

use super::definition::evaluate;
use super::value::{Value, bits, bytes, draw, held, near, parse};
use crate::cases::Failure;
use crate::cases::draw::Draw;
use crate::cases::lab::Lab;
use crate::dtype::DType;
use crate::launch::Reject;
use crate::map::{Buffers, Code, Layout, Source, VARIANTS, Variant};
use crate::program::{Instruction, Kind, Opcode};

/// A program in the making.
#[derive(Default)]
pub(in crate::cases) struct Program {
    pub(in crate::cases) instructions: Vec<Instruction>,
    pub(in crate::cases) constants: Vec<(Kind, Value)>,
    pub(in crate::cases) outputs: Vec<(usize, DType)>,
}

impl Program {
    pub(in crate::cases) fn push(
        &mut self,
        opcode: Opcode,
        kind: Kind,
        operands: Kind,
        dtype: DType,
        arguments: [u32; 3],
    ) -> usize {
        self.instructions.push(Instruction { opcode, kind, operands, dtype, arguments });
        self.instructions.len() - 1
    }

    pub(in crate::cases) fn input(&mut self, number: u32, dtype: DType) -> usize {
        let kind = Kind::of(dtype).unwrap_or(Kind::Bool);
        self.push(Opcode::Input, kind, kind, dtype, [number, 0, 0])
    }

    pub(in crate::cases) fn constant(&mut self, kind: Kind, value: Value) -> usize {
        self.constants.push((kind, value));
        self.push(Opcode::Constant, kind, kind, kind.dtype(), [self.constants.len() as u32 - 1, 0, 0])
    }

    /// An instruction of the kinds that its opcode has for these operands.
    pub(in crate::cases) fn call(&mut self, opcode: Opcode, args: &[usize]) -> usize {
        let operands = self.instructions[args[args.len() - 1]].kind;
        let kind = if opcode.is_comparison() { Kind::Bool } else { operands };
        let mut arguments = [0; 3];
        arguments.iter_mut().zip(args).for_each(|(slot, &register)| *slot = register as u32);
        self.push(opcode, kind, operands, kind.dtype(), arguments)
    }

    pub(in crate::cases) fn run(&self, inputs: &[Value]) -> Vec<Value> {
        let mut registers: Vec<Value> = Vec::new();
        for instruction in &self.instructions {
            let first = instruction.arguments[0] as usize;
            registers.push(match instruction.opcode {
                Opcode::Input => inputs[first],
                Opcode::Constant => self.constants[first].1,
                _ => {
                    let args: Vec<Value> = instruction.registers().map(|r| registers[r]).collect();
                    evaluate(instruction, &args)
                }
            });
        }
        self.outputs.iter().map(|&(register, dtype)| held(dtype, registers[register])).collect()
    }

    pub(in crate::cases) fn code(&self, layout: &Layout) -> Result<Code, Reject> {
        let constants: Vec<u64> = self.constants.iter().map(|&(kind, value)| bits(kind, value)).collect();
        let source =
            Source { instructions: &self.instructions, constants: &constants, outputs: &self.outputs };
        Code::new(&source, layout)
    }
}

/// One input in memory.
pub(in crate::cases) struct Operand {
    pub(in crate::cases) dtype: DType,
    pub(in crate::cases) strides: Vec<u64>,
    /// The first element that is read.
    pub(in crate::cases) first: u64,
    pub(in crate::cases) values: Vec<Value>,
}

impl Operand {
    /// Values for a space of `extents`, of which the axes in `broadcast` are not the operand's own, behind a few that
    /// are not read.
    pub(in crate::cases) fn draw(r: &mut Draw, dtype: DType, extents: &[u64], broadcast: u32) -> Self {
        let mut strides = vec![0; extents.len()];
        let mut count = 1;
        for axis in (0..extents.len()).rev() {
            if broadcast >> axis & 1 == 0 {
                strides[axis] = count;
                count *= extents[axis];
            }
        }
        let first = u64::from(r.edge(&[0, 4], 0..=9));
        let values = (0..first + count).map(|_| draw(r, dtype)).collect();
        Self { dtype, strides, first, values }
    }

    pub(in crate::cases) fn at(&self, extents: &[u64], element: u64) -> Value {
        let (mut rest, mut index) = (element, self.first);
        for axis in (0..extents.len()).rev() {
            index += rest % extents[axis] * self.strides[axis];
            rest /= extents[axis];
        }
        self.values[index as usize]
    }
}

/// Runs a program and compares every output; functions within `units` of the kind's ε.
pub(in crate::cases) fn check(
    program: &Program,
    extents: &[u64],
    operands: &[Operand],
    units: f64,
    forced: Option<&Variant>,
    lab: &mut Lab<'_>,
) -> Result<(), Failure> {
    let described: Vec<(DType, &[u64], u64)> =
        operands.iter().map(|o| (o.dtype, o.strides.as_slice(), o.first)).collect();
    let code = program.code(&Layout::new(extents, &described)?)?;
    let mut inputs = Vec::new();
    for operand in operands {
        let all: Vec<u8> = operand.values.iter().flat_map(|&value| bytes(operand.dtype, value)).collect();
        inputs.push(lab.upload("input", &all)?);
    }
    let count: u64 = extents.iter().product();
    let width = |dtype: DType| dtype.bits() as u64 / 8;
    let mut outputs = Vec::new();
    for &(_, dtype) in &program.outputs {
        outputs.push(lab.room("output", count * width(dtype))?);
    }
    let buffers = Buffers { code: lab.upload("code", &code.bytes())?, inputs: &inputs, outputs: &outputs };
    let variant = forced.map_or_else(|| VARIANTS.choose(&code), Ok)?;
    lab.run(variant.prepare(&code, &buffers, &lab.device())?)?;
    let mut got = Vec::new();
    for &output in &outputs {
        got.push(lab.bytes(output)?);
    }
    for element in 0..count {
        let values: Vec<Value> = operands.iter().map(|operand| operand.at(extents, element)).collect();
        for (k, want) in program.run(&values).into_iter().enumerate() {
            let dtype = program.outputs[k].1;
            let size = width(dtype) as usize;
            let got = parse(dtype, &got[k][element as usize * size..][..size]);
            if !near(dtype, got, want, units) {
                let (id, instructions) = (variant.id, &program.instructions);
                let what = format!("{id} {instructions:?} of {values:?}: {got:?} instead of {want:?}");
                return Err(Failure::Wrong(what));
            }
        }
    }
    Ok(())
}
