//! Maps against an interpreter of the definition.

mod definition;
pub(super) mod program;
pub(super) mod value;

use super::Failure;
use super::draw::Draw;
use super::lab::Lab;
use crate::dtype::DType;
use crate::map::{MOST_OUTPUTS, VARIANTS};
use crate::program::{Kind, Opcode};
use program::{Operand, Program, check};
use value::{DTYPES, KINDS, draw};

/// Cases of [`opcodes`] that take every opcode with every kind that it computes on.
pub(super) const OPCODES: u32 = 144;

/// How close an opcode comes: those that IEEE 754 defines are exact.
fn units(opcode: Opcode) -> f64 {
    if opcode.is_function() || opcode == Opcode::Pow { 8.0 } else { 0.0 }
}

/// Every opcode with every kind of its operands, but those that [`conversions`] and [`programs`] have.
fn computed() -> impl Iterator<Item = (Opcode, Kind)> {
    use Opcode::{Constant, Convert, Input, Narrow, Select};
    let alone = |opcode: &Opcode| !matches!(opcode, Input | Constant | Convert | Narrow | Select);
    let kinds = |opcode: Opcode| {
        let fits = move |&kind: &Kind| opcode.takes(kind);
        KINDS.into_iter().filter(fits).map(move |kind| (opcode, kind))
    };
    Opcode::ALL.into_iter().filter(alone).flat_map(kinds)
}

/// One instruction.
pub(super) fn opcodes(number: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let Some((opcode, kind)) = computed().nth(number as usize % computed().count()) else { return Ok(()) };
    let mut program = Program::default();
    let dtype = kind.dtype();
    let args: Vec<usize> = (0..opcode.arity() as u32).map(|k| program.input(k, dtype)).collect();
    let result = program.call(opcode, &args);
    if opcode == Opcode::RoundToOdd {
        let made = &mut program.instructions[result];
        (made.kind, made.dtype) = (Kind::F32, DType::F32);
    }
    let stored = program.instructions[result].kind.dtype();
    program.outputs.push((result, stored));
    let operands: Vec<Operand> = args.iter().map(|_| Operand::draw(r, dtype, &[203], 0)).collect();
    check(&program, &[203], &operands, units(opcode), None, lab)
}

/// One type of memory to one kind of register, and to all types that hold it.
pub(super) fn conversions(number: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let (from, to) = (number as usize / KINDS.len() % DTYPES.len(), number as usize % KINDS.len());
    let (from, to) = (DTYPES[from], KINDS[to]);
    let mut program = Program::default();
    let mut x = program.input(0, from);
    let kind = program.instructions[x].kind;
    if kind != to {
        x = program.push(Opcode::Convert, to, kind, to.dtype(), [x as u32, 0, 0]);
    }
    let all: Vec<DType> = DTYPES.into_iter().filter(|&dtype| Kind::of(dtype) == Some(to)).collect();
    let operands = [Operand::draw(r, from, &[61], 0)];
    // More outputs than a launch has.
    for some in all.chunks(MOST_OUTPUTS) {
        program.outputs = some.iter().map(|&dtype| (x, dtype)).collect();
        check(&program, &[61], &operands, 0.0, None, lab)?;
    }
    Ok(())
}

/// A random program of exact instructions over broadcast operands; of 32-bit registers every second time.
pub(super) fn programs(number: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let inputs = r.within(1..=5);
    let (program, dtypes) = random_program(r, inputs, number.is_multiple_of(2));
    let rank = r.within(1..=5) as usize;
    let extents: Vec<u64> = (0..rank).map(|_| r.edge(&[1, 2, 3, 4, 8], 1..=9).into()).collect();
    let operand = |&dtype: &DType| {
        let some = r.bits() as u32;
        let broadcast = r.pick(&[0, 0, u32::MAX, some, some >> 8]);
        Operand::draw(r, dtype, &extents, broadcast)
    };
    let operands: Vec<Operand> = dtypes.iter().map(operand).collect();
    check(&program, &extents, &operands, 0.0, None, lab)
}

/// More elements than threads, which take them in turns.
pub(super) fn turns(_: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let mut program = Program::default();
    let x = program.input(0, DType::F32);
    let y = program.call(Opcode::Add, &[x, x]);
    program.outputs.push((y, DType::F32));
    // A multiprocessor has 32 blocks of 512 elements each.
    let count = u64::from(lab.device().multiprocessors) * 32 * 512 + u64::from(r.within(1..=900));
    let operands = [Operand::draw(r, DType::F32, &[count], 0)];
    check(&program, &[count], &operands, 0.0, None, lab)
}

/// Each variant with a program that both compute.
pub(super) fn variants(number: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let mut program = Program::default();
    let x = program.input(0, DType::F32);
    let y = program.call(Opcode::Exp, &[x]);
    program.outputs.push((y, DType::F16));
    program.outputs.push((x, DType::F32));
    let operands = [Operand::draw(r, DType::F32, &[100], 0)];
    let variant = &VARIANTS.0[number as usize % VARIANTS.0.len()];
    check(&program, &[100], &operands, 8.0, Some(VARIANTS.by_id(variant.id)?), lab)
}

/// A random program of instructions that are exact, over inputs of random types.
fn random_program(r: &mut Draw, inputs: u32, narrow: bool) -> (Program, Vec<DType>) {
    const OPCODES: [Opcode; 17] = [
        Opcode::Add,
        Opcode::Sub,
        Opcode::Mul,
        Opcode::Div,
        Opcode::Min,
        Opcode::Max,
        Opcode::Neg,
        Opcode::Abs,
        Opcode::Sign,
        Opcode::And,
        Opcode::Xor,
        Opcode::Shl,
        Opcode::Shr,
        Opcode::Lt,
        Opcode::Eq,
        Opcode::MulAdd,
        Opcode::Round,
    ];
    let mut program = Program::default();
    let mut dtypes = Vec::new();
    for number in 0..inputs {
        let dtype = if narrow {
            r.pick(&[DType::F32, DType::F16, DType::BF16, DType::I8, DType::I32, DType::U16, DType::Bool])
        } else {
            r.pick(&DTYPES)
        };
        dtypes.push(dtype);
        program.input(number, dtype);
    }
    for _ in 0..r.within(1..=24) {
        let x = r.index(program.instructions.len());
        let kind = program.instructions[x].kind;
        let like: Vec<usize> =
            (0..program.instructions.len()).filter(|&i| program.instructions[i].kind == kind).collect();
        let other = |r: &mut Draw| r.pick(&like);
        let opcode = r.pick(&OPCODES);
        let choice = r.within(0..=9);
        if choice < 2 {
            let dtype = kind.dtype();
            let value = draw(r, dtype);
            program.constant(kind, value);
        } else if choice < 4 {
            let to = if narrow { r.pick(&[Kind::F32, Kind::I32, Kind::Bool]) } else { r.pick(&KINDS) };
            if to != kind {
                program.push(Opcode::Convert, to, kind, to.dtype(), [x as u32, 0, 0]);
            }
        } else if choice == 4
            && let Some(condition) = program.instructions.iter().position(|i| i.kind == Kind::Bool)
        {
            let y = other(r);
            program.call(Opcode::Select, &[condition, x, y]);
        } else if opcode.takes(kind) {
            let args: Vec<usize> = (0..opcode.arity()).map(|k| if k == 0 { x } else { other(r) }).collect();
            program.call(opcode, &args);
        }
    }
    for _ in 0..r.within(1..=3) {
        let register = program.instructions.len() - 1 - r.index(program.instructions.len().min(4));
        let kind = program.instructions[register].kind;
        let fitting: Vec<DType> = DTYPES.into_iter().filter(|&d| Kind::of(d) == Some(kind)).collect();
        program.outputs.push((register, r.pick(&fitting)));
    }
    (program, dtypes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_opcodes_have_their_case() {
        assert_eq!(computed().count(), OPCODES as usize);
    }
}
