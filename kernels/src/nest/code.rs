//! Nests as the kernel reads them: words of 16 bytes.
//!
//! First a word for each outer axis, then the stages: two words for what becomes of the values, one for each axis that the
//! stage runs over, and its program. Reads carry the affine function of their place, and one for each axis of the operand
//! that may be left. Slots of folds come before those of registers, which a stage begins anew.

use super::place::{Affine, LIMIT, too_far};
use super::{MOST_INPUTS, MOST_OUTPUTS, SKIPPED, STORE};
use crate::dtype::DType;
use crate::launch::Reject;
use crate::map::arithmetic::is_narrow;
use crate::map::{Source, limit};
use crate::program::{Instruction, Kind, Opcode};

/// A nest over dense operands.
#[derive(Clone, Copy, Debug)]
pub struct Nest<'a> {
    /// Of the axes; those over which no stage runs are the outer ones.
    pub extents: &'a [u64],
    /// What programs read.
    pub reads: &'a [Read],
    /// In order.
    pub stages: &'a [Stage<'a>],
    /// The outputs.
    pub outputs: &'a [Target],
}

/// One element of an operand.
#[derive(Clone, Debug)]
pub struct Read {
    /// Which input.
    pub input: usize,
    /// Its type.
    pub dtype: DType,
    /// Its extents.
    pub shape: Vec<u64>,
    /// Where, along each of its axes.
    pub index: Vec<Affine>,
    /// What is read outside it.
    pub outside: Outside,
}

/// What a read outside its operand gives.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Outside {
    /// It never happens.
    Never,
    /// The value, in the register's kind.
    Value(f64),
    /// The point is left out of the fold.
    Skipped,
}

/// Where an input of a program comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum From {
    /// A read, by its number.
    Read(usize),
    /// A stage before, which folds.
    Fold(usize),
}

/// How values are combined.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fold {
    /// From 0.
    Sum,
    /// From 1.
    Product,
    /// From the least value; NaN where one is.
    Max,
    /// From the largest value; NaN where one is.
    Min,
}

/// What becomes of a stage's values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Combined.
    Fold(Fold),
    /// Value `k` is written to output `k` at this index.
    Store(Vec<Affine>),
}

/// One stage.
#[derive(Clone, Debug)]
pub struct Stage<'a> {
    /// The axes that it runs over besides the outer ones.
    pub over: Vec<usize>,
    /// What is computed.
    pub program: Source<'a>,
    /// Its inputs.
    pub inputs: Vec<From>,
    /// What becomes of the values.
    pub effect: Effect,
}

/// An output.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// Its type.
    pub dtype: DType,
    /// Its extents.
    pub shape: Vec<u64>,
}

/// A nest ready to be copied to the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    pub(super) words: Vec<[u32; 4]>,
    pub(super) points: u64,
    pub(super) outer: u32,
    pub(super) stages: u32,
    pub(super) axes: u32,
    pub(super) slots: u32,
    pub(super) wide: bool,
    /// The longest loop inside.
    pub(super) inside: u64,
    /// Type and elements of each input and output.
    pub(super) inputs: Vec<Option<(DType, u64)>>,
    pub(super) outputs: Vec<(DType, u64)>,
}

/// Most words: what a nest of the sizes that fusion makes has many times over.
const MOST_WORDS: usize = 8192;
/// Most axes.
const MOST_AXES: usize = 16;

fn elements(shape: &[u64]) -> Result<u64, Reject> {
    let count = shape.iter().try_fold(1u64, |n, &extent| n.checked_mul(extent)).unwrap_or(u64::MAX);
    if i128::from(count) > LIMIT { Err(too_far(count.into())) } else { Ok(count) }
}

impl Code {
    /// The code of `nest`.
    pub fn new(nest: &Nest<'_>) -> Result<Self, Reject> {
        limit("axes", nest.extents.len(), MOST_AXES)?;
        limit("outputs", nest.outputs.len(), MOST_OUTPUTS)?;
        elements(nest.extents)?;
        let is_inner = |axis: &usize| nest.stages.iter().any(|stage| stage.over.contains(axis));
        let outer: Vec<usize> = (0..nest.extents.len()).filter(|axis| !is_inner(axis)).collect();
        let points = outer.iter().map(|&axis| nest.extents[axis]).product();
        let outputs = nest.outputs.iter().map(|t| Ok((t.dtype, elements(&t.shape)?)));
        let mut code = Self {
            words: axes(&outer, nest.extents),
            points,
            outer: outer.len() as u32,
            stages: nest.stages.len() as u32,
            axes: nest.extents.len() as u32,
            slots: 0,
            wide: false,
            inside: 1,
            inputs: Vec::new(),
            outputs: outputs.collect::<Result<_, Reject>>()?,
        };
        for (number, stage) in nest.stages.iter().enumerate() {
            code.stage(nest, number, stage)?;
        }
        limit("words", code.words.len(), MOST_WORDS)?;
        Ok(code)
    }

    /// The bytes that the device must hold.
    pub fn bytes(&self) -> Vec<u8> {
        self.words.iter().flatten().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Whether nothing is written.
    pub fn is_empty(&self) -> bool {
        self.points == 0 || self.outputs.iter().all(|&(_, elements)| elements == 0)
    }

    fn stage(&mut self, nest: &Nest<'_>, number: usize, stage: &Stage<'_>) -> Result<(), Reject> {
        if stage.over.iter().any(|&axis| axis >= nest.extents.len()) {
            return Err(Reject::Unsupported { what: "an axis that is not there" });
        }
        let count = elements(&stage.over.iter().map(|&axis| nest.extents[axis]).collect::<Vec<_>>())?;
        self.inside = self.inside.max(count);
        let Source { instructions, constants, outputs } = stage.program;
        stage.program.accepts()?;
        self.wide |= !instructions.iter().all(|i| is_narrow(i.kind) && is_narrow(i.operands));
        let slots = Slots::assign(nest, stage)?;
        self.slots = self.slots.max(slots.count);
        let (what, identity) = match &stage.effect {
            Effect::Store(_) => (STORE, 0),
            Effect::Fold(fold) => {
                let made = outputs.first().and_then(|&(register, _)| instructions.get(register));
                let kind = made.ok_or(Reject::Absent { operand: "a value to fold" })?.kind;
                if outputs.len() != 1 || outputs[0].1 != kind.dtype() || kind == Kind::Bool {
                    return Err(Reject::ElementType { operand: "a fold" });
                }
                let opcode = match fold {
                    Fold::Sum => Opcode::Add,
                    Fold::Product => Opcode::Mul,
                    Fold::Max => Opcode::Max,
                    Fold::Min => Opcode::Min,
                };
                let head = opcode as u32 | (kind as u32) << 8 | (kind as u32) << 16;
                (head | (kind.dtype() as u32) << 24, identity(*fold, kind))
            }
        };
        let mut body: Vec<[u32; 4]> = Vec::new();
        // What the program does not read still decides whether a point counts.
        let is_read = |number: usize| {
            let reads = |i: &Instruction| i.opcode == Opcode::Input && i.arguments[0] as usize == number;
            instructions.iter().any(reads)
        };
        for (number, from) in stage.inputs.iter().enumerate() {
            let From::Read(read) = from else { continue };
            let read = nest.reads.get(*read).ok_or(Reject::Absent { operand: "read" })?;
            if read.outside == Outside::Skipped && !is_read(number) {
                let kind = Kind::of(read.dtype).ok_or(Reject::ElementType { operand: "input" })?;
                let head = (kind as u32) << 8 | (kind as u32) << 16 | (read.dtype as u32) << 24;
                self.read(read, nest.extents, kind, (Opcode::Input as u32 | head, slots.count), &mut body)?;
                self.slots = self.slots.max(slots.count + 1);
                self.wide |= !is_narrow(kind);
            }
        }
        for (register, instruction) in instructions.iter().enumerate() {
            let head = instruction.opcode as u32
                | (instruction.kind as u32) << 8
                | (instruction.operands as u32) << 16
                | (instruction.dtype as u32) << 24;
            let target = slots.of[register];
            match instruction.opcode {
                Opcode::Input => {
                    let from = stage.inputs.get(instruction.arguments[0] as usize);
                    match from.ok_or(Reject::Absent { operand: "input" })? {
                        From::Fold(_) if instruction.dtype == instruction.kind.dtype() => {}
                        From::Fold(_) => return Err(Reject::ElementType { operand: "a fold" }),
                        From::Read(read) => {
                            let read = nest.reads.get(*read).ok_or(Reject::Absent { operand: "read" })?;
                            if read.dtype != instruction.dtype || Kind::of(read.dtype).is_none() {
                                return Err(Reject::ElementType { operand: "input" });
                            }
                            self.read(read, nest.extents, instruction.kind, (head, target), &mut body)?;
                        }
                    }
                }
                Opcode::Constant => {
                    let bits = constants.get(instruction.arguments[0] as usize);
                    let bits = *bits.ok_or(Reject::Absent { operand: "constant" })?;
                    body.push([head, target, bits as u32, (bits >> 32) as u32]);
                }
                _ => {
                    let mut from = [0; 3];
                    for (slot, register) in from.iter_mut().zip(instruction.registers()) {
                        *slot = slots.of[register];
                    }
                    let arity = instruction.opcode.arity() as u32;
                    body.push([head, target | from[0] << 16, from[1] | from[2] << 16, arity]);
                }
            }
        }
        match &stage.effect {
            Effect::Store(index) => {
                for (output, (&(register, dtype), target)) in outputs.iter().zip(nest.outputs).enumerate() {
                    if dtype != target.dtype {
                        return Err(Reject::ElementType { operand: "output" });
                    }
                    let place = Affine::dense(index, &target.shape)?;
                    let empty = points_of(nest, stage)? == 0;
                    if !empty && !is_inside(index, &target.shape, nest.extents)? {
                        return Err(Reject::Unsupported { what: "a store outside its output" });
                    }
                    body.push([STORE | (dtype as u32) << 24, slots.of[register], output as u32, 0]);
                    place.words(0, &mut body);
                }
            }
            // The value that is combined is the last one made.
            Effect::Fold(_) => {
                let value = slots.of[outputs[0].0];
                let made = &instructions[outputs[0].0];
                let head = (made.kind as u32) << 8 | (made.kind as u32) << 16;
                let narrow = Opcode::Narrow as u32 | head | (made.kind.dtype() as u32) << 24;
                body.push([narrow, value | value << 16, 0, 1]);
            }
        }
        let result = number as u32;
        self.words.push([what, stage.over.len() as u32, body.len() as u32, count as u32]);
        self.words.push([identity as u32, (identity >> 32) as u32, result, 0]);
        self.words.extend(axes(&stage.over, nest.extents));
        self.words.extend(body);
        Ok(())
    }

    fn read(
        &mut self,
        read: &Read,
        extents: &[u64],
        kind: Kind,
        (head, target): (u32, u32),
        body: &mut Vec<[u32; 4]>,
    ) -> Result<(), Reject> {
        limit("inputs", read.input + 1, MOST_INPUTS)?;
        let place = Affine::dense(&read.index, &read.shape)?;
        let mut checks: Vec<(&Affine, u64)> = Vec::new();
        if !extents.contains(&0) {
            for (index, &extent) in read.index.iter().zip(&read.shape) {
                let (low, high) = index.range(extents)?;
                if low < 0 || high >= i128::from(extent) {
                    checks.push((index, extent));
                }
            }
            if checks.is_empty() {
                place.range(extents)?;
            }
        }
        let (outside, value) = match read.outside {
            Outside::Never if !checks.is_empty() => {
                return Err(Reject::Unsupported { what: "a read outside its operand" });
            }
            Outside::Never => (0, 0),
            Outside::Value(value) => (1, bits(kind, value)),
            Outside::Skipped => (SKIPPED, 0),
        };
        body.push([head, target | (checks.len() as u32) << 16, read.input as u32, outside]);
        body.push([value as u32, (value >> 32) as u32, 0, 0]);
        place.words(0, body);
        checks.iter().for_each(|(index, extent)| index.words(*extent, body));
        if self.inputs.len() <= read.input {
            self.inputs.resize(read.input + 1, None);
        }
        let form = (read.dtype, elements(&read.shape)?);
        match &self.inputs[read.input] {
            Some(known) if *known != form => Err(Reject::ElementType { operand: "input" }),
            _ => {
                self.inputs[read.input] = Some(form);
                Ok(())
            }
        }
    }
}

/// Points at which a stage's program runs.
fn points_of(nest: &Nest<'_>, stage: &Stage<'_>) -> Result<u64, Reject> {
    let is_inner = |axis: usize| nest.stages.iter().any(|stage| stage.over.contains(&axis));
    let all = (0..nest.extents.len()).filter(|&axis| stage.over.contains(&axis) || !is_inner(axis));
    elements(&all.map(|axis| nest.extents[axis]).collect::<Vec<_>>())
}

/// Whether `index` stays inside `shape`.
fn is_inside(index: &[Affine], shape: &[u64], extents: &[u64]) -> Result<bool, Reject> {
    for (index, &extent) in index.iter().zip(shape) {
        let (low, high) = index.range(extents)?;
        if low < 0 || high >= i128::from(extent) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Words of axes, the last one first.
fn axes(of: &[usize], extents: &[u64]) -> Vec<[u32; 4]> {
    of.iter().rev().map(|&axis| [axis as u32, extents[axis] as u32, 0, 0]).collect()
}

/// Bits of a value in a register of `kind`.
fn bits(kind: Kind, value: f64) -> u64 {
    match kind {
        Kind::F32 => u64::from((value as f32).to_bits()),
        Kind::F64 => value.to_bits(),
        Kind::I32 => u64::from(value as i32 as u32),
        Kind::I64 => value as i64 as u64,
        Kind::U64 => value as u64,
        Kind::Bool => u64::from(value != 0.0),
    }
}

/// What a fold begins with.
fn identity(fold: Fold, kind: Kind) -> u64 {
    match (fold, kind) {
        (Fold::Sum, _) => 0,
        (Fold::Product, _) => bits(kind, 1.0),
        (Fold::Max, Kind::I32) => u64::from(i32::MIN as u32),
        (Fold::Max, Kind::I64) => i64::MIN as u64,
        (Fold::Max, Kind::U64 | Kind::Bool) => 0,
        (Fold::Max, _) => bits(kind, f64::NEG_INFINITY),
        (Fold::Min, Kind::I32) => i32::MAX as u64,
        (Fold::Min, Kind::I64) => i64::MAX as u64,
        (Fold::Min, Kind::U64 | Kind::Bool) => u64::MAX,
        (Fold::Min, _) => bits(kind, f64::INFINITY),
    }
}

/// The slot of each register of a stage.
struct Slots {
    of: Vec<u32>,
    count: u32,
}

impl Slots {
    fn assign(nest: &Nest<'_>, stage: &Stage<'_>) -> Result<Self, Reject> {
        let Source { instructions, outputs, .. } = stage.program;
        let stages = nest.stages.len() as u32;
        let mut last: Vec<usize> = (0..instructions.len()).collect();
        for (at, instruction) in instructions.iter().enumerate() {
            for register in instruction.registers() {
                if register >= at {
                    return Err(Reject::Unsupported { what: "a register that is read before it is made" });
                }
                last[register] = at;
            }
        }
        for &(register, _) in outputs {
            *last.get_mut(register).ok_or(Reject::Unsupported { what: "an output of no register" })? =
                instructions.len();
        }
        let (mut of, mut count) = (vec![0; instructions.len()], stages);
        let mut free: Vec<u32> = Vec::new();
        for (at, instruction) in instructions.iter().enumerate() {
            let mut ending: Vec<usize> = instruction.registers().filter(|&r| last[r] == at).collect();
            ending.sort_unstable();
            ending.dedup();
            // Slots of folds are kept.
            free.extend(ending.into_iter().map(|register| of[register]).filter(|&slot| slot >= stages));
            let given = stage.inputs.get(instruction.arguments[0] as usize);
            of[at] = match given {
                Some(&From::Fold(fold)) if instruction.opcode == Opcode::Input => {
                    let is_fold = nest.stages.get(fold).is_some_and(|s| matches!(s.effect, Effect::Fold(_)));
                    if !is_fold {
                        return Err(Reject::Absent { operand: "a fold" });
                    }
                    fold as u32
                }
                _ => free.pop().unwrap_or_else(|| {
                    count += 1;
                    count - 1
                }),
            };
            if last[at] == at && of[at] >= stages {
                free.push(of[at]);
            }
        }
        Ok(Self { of, count })
    }
}
