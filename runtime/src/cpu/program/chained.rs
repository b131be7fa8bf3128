//! A map's program as a chain: most values are handed from step to step in registers, and what another step than the
//! next one reads is kept in a block of scratch memory.
//!
//! Where it holds: every register and element of storage has four bytes, inputs lie as they are read or are one element
//! for a tile, and each instruction is a step of its own or a function whose loop over a block takes longer than its call.

use super::compiled::Reach;
use super::routines;
use crate::cpu::simd::Level;
use crate::cpu::simd::chain::{BLOCK_BYTES, Chain, Pair, Places, Single, Step};
use crate::loops::program::{Instruction, Kind, Opcode, Program};
use smallvec::SmallVec;

/// Blocks of scratch memory, at most: they are to stay in the first cache.
const MOST_SLOTS: usize = 32;

/// Inputs and outputs, at most, so that a run allocates nothing.
const MOST_INPUTS: usize = 8;
const MOST_OUTPUTS: usize = 4;

/// A program as a chain.
#[derive(Debug)]
pub(super) struct Chained {
    /// What is one element for a tile, computed before it on a block of equal elements.
    once: Option<Chain>,
    each: Chain,
    /// Slots and the bits that fill them.
    constants: Vec<(usize, u32)>,
    /// Inputs that are one element for a tile, and their slots.
    still: Vec<(usize, usize)>,
    /// The other inputs.
    moving: SmallVec<[usize; MOST_INPUTS]>,
    outputs: usize,
    slots: usize,
    pub(super) streamed: bool,
}

impl Chained {
    /// `program` for inputs that are read as `reaches` say; `None` where a chain does not hold or would not pay.
    pub(super) fn new(level: Level, program: &Program, reaches: &[Reach], streamed: bool) -> Option<Self> {
        let four = |kind: Kind| matches!(kind, Kind::F32 | Kind::I32 | Kind::Bool);
        let stored = |dtype| routines::is_direct(dtype) && Kind::of(dtype).is_some_and(four);
        let instructions = program.instructions();
        if !program.inputs().iter().all(|&dtype| stored(dtype))
            || !program
                .outputs()
                .iter()
                .all(|o| stored(o.dtype) && instructions[o.register].kind.dtype() == o.dtype)
            || !instructions.iter().all(|i| four(i.kind) && four(i.operands) && (is_step(i) || pays(i)))
            || !reaches.iter().all(|reach| matches!(reach, Reach::Run | Reach::One))
        {
            return None;
        }
        // One loop over tiles in the first cache is as fast.
        let computed = instructions.iter().filter(|i| !matches!(i.opcode, Opcode::Input | Opcode::Constant));
        if !streamed && computed.count() < 2 {
            return None;
        }
        let moving: SmallVec<[usize; MOST_INPUTS]> =
            (0..reaches.len()).filter(|&k| reaches[k] == Reach::Run).collect();
        if moving.len() > MOST_INPUTS || program.outputs().len() > MOST_OUTPUTS {
            return None;
        }
        let mut writer = Writer::new(level, program, reaches, &moving);
        let one = super::compile::uniform(program, reaches);
        let once = writer.steps(|i| one[i], true)?;
        if streamed {
            writer.steps.extend((0..moving.len()).map(Step::Fetch));
        }
        let mut each = writer.steps(|i| !one[i], false)?;
        // What no step of a block makes is written by itself.
        for (k, output) in program.outputs().iter().enumerate() {
            let made = &instructions[output.register];
            if one[output.register] || made.opcode == Opcode::Input {
                each.extend([Step::Load(writer.place(output.register)?), Step::Put(moving.len() + k)]);
            }
        }
        let (slots, outputs) = (writer.slots, program.outputs().len());
        if slots > MOST_SLOTS {
            return None;
        }
        let (constants, still) = (writer.constants, writer.still);
        let places = Places { inputs: moving.len(), outputs, slots };
        let each = Chain::new(level, &each, places)?;
        let once = if once.is_empty() { None } else { Some(Chain::new(level, &once, places)?) };
        Some(Self { once, each, constants, still, moving, outputs, slots, streamed })
    }

    /// Bytes of one thread's scratch memory: slots, and a block of each input and output.
    pub(super) fn scratch(&self) -> usize {
        (self.slots + self.moving.len() + self.outputs) * BLOCK_BYTES
    }

    /// Writes the constants to a thread's scratch memory, before its first tile.
    pub(super) fn prepare(&self, scratch: &mut [u8]) {
        for &(slot, bits) in &self.constants {
            fill(scratch, slot, &bits.to_ne_bytes());
        }
    }

    /// Computes the `len` elements of `outputs` from `at` on, the inputs beginning at the front of `windows`.
    pub(super) fn run(
        &self,
        len: usize,
        windows: &[&[u8]],
        outputs: &mut [&mut [u8]],
        at: usize,
        scratch: &mut [u8],
    ) {
        for &(input, slot) in &self.still {
            fill(scratch, slot, &windows[input][..4]);
        }
        let (slots, ends) = scratch.split_at_mut(self.slots * BLOCK_BYTES);
        let (inputs_end, outputs_end) = ends.split_at_mut(self.moving.len() * BLOCK_BYTES);
        if let Some(once) = &self.once {
            // It reads and writes slots alone.
            let inputs: SmallVec<[&[u8]; MOST_INPUTS]> = inputs_end.chunks_exact(BLOCK_BYTES).collect();
            let mut outputs: SmallVec<[&mut [u8]; MOST_OUTPUTS]> =
                outputs_end.chunks_exact_mut(BLOCK_BYTES).collect();
            once.run(1, &inputs, &mut outputs, slots, false);
        }
        let block = self.each.block();
        let (blocks, rest) = (len / block, len % block * 4);
        let whole = blocks * block * 4;
        if blocks > 0 {
            let inputs: SmallVec<[&[u8]; MOST_INPUTS]> = self.moving.iter().map(|&k| windows[k]).collect();
            let mut outputs: SmallVec<[&mut [u8]; MOST_OUTPUTS]> =
                outputs.iter_mut().map(|output| &mut output[4 * at..]).collect();
            self.each.run(blocks, &inputs, &mut outputs, slots, self.streamed);
        }
        if rest > 0 {
            // A block that is not whole passes through one in scratch memory, of which the rest is anything.
            for (end, &k) in inputs_end.chunks_exact_mut(BLOCK_BYTES).zip(&self.moving) {
                end[..rest].copy_from_slice(&windows[k][whole..whole + rest]);
            }
            let inputs: SmallVec<[&[u8]; MOST_INPUTS]> = inputs_end.chunks_exact(BLOCK_BYTES).collect();
            let mut ends: SmallVec<[&mut [u8]; MOST_OUTPUTS]> =
                outputs_end.chunks_exact_mut(BLOCK_BYTES).collect();
            self.each.run(1, &inputs, &mut ends, slots, false);
            for (end, output) in ends.iter().zip(outputs) {
                output[4 * at + whole..][..rest].copy_from_slice(&end[..rest]);
            }
        }
    }
}

/// Fills a slot with an element.
fn fill(scratch: &mut [u8], slot: usize, element: &[u8]) {
    for cell in scratch[slot * BLOCK_BYTES..][..BLOCK_BYTES].chunks_exact_mut(4) {
        cell.copy_from_slice(element);
    }
}

/// Whether an instruction is a step, or nothing that is computed.
fn is_step(instruction: &Instruction) -> bool {
    let select = instruction.opcode == Opcode::Select;
    let multiplies = instruction.opcode == Opcode::MulAdd && instruction.kind == Kind::F32;
    matches!(instruction.opcode, Opcode::Input | Opcode::Constant)
        || select
        || multiplies
        || single(instruction).is_some()
        || pair(instruction).is_some()
}

/// Whether the loop of an instruction on a block takes longer than its call.
fn pays(instruction: &Instruction) -> bool {
    instruction.opcode.is_function() || matches!(instruction.opcode, Opcode::Pow | Opcode::Rem)
}

fn single(instruction: &Instruction) -> Option<Single> {
    Some(match (instruction.opcode, instruction.operands) {
        (Opcode::Neg, Kind::F32) => Single::Neg,
        (Opcode::Abs, Kind::F32) => Single::Abs,
        (Opcode::Sqrt, Kind::F32) => Single::Sqrt,
        (Opcode::Floor, Kind::F32) => Single::Floor,
        (Opcode::Ceil, Kind::F32) => Single::Ceil,
        (Opcode::Round, Kind::F32) => Single::Round,
        (Opcode::Exp, Kind::F32) => Single::Exp,
        (Opcode::Erf, Kind::F32) => Single::Erf,
        (Opcode::Not, Kind::Bool) => Single::Not,
        _ => return None,
    })
}

fn pair(instruction: &Instruction) -> Option<Pair> {
    Some(match (instruction.opcode, instruction.operands) {
        (Opcode::Add, Kind::F32) => Pair::Add,
        (Opcode::Sub, Kind::F32) => Pair::Sub,
        (Opcode::Mul, Kind::F32) => Pair::Mul,
        (Opcode::Div, Kind::F32) => Pair::Div,
        (Opcode::Min, Kind::F32) => Pair::Min,
        (Opcode::Max, Kind::F32) => Pair::Max,
        (Opcode::Eq, Kind::F32) => Pair::Equal,
        (Opcode::Lt, Kind::F32) => Pair::Less,
        (Opcode::Le, Kind::F32) => Pair::LessOrEqual,
        (Opcode::And, Kind::I32 | Kind::Bool) => Pair::And,
        (Opcode::Or, Kind::I32 | Kind::Bool) => Pair::Or,
        (Opcode::Xor, Kind::I32 | Kind::Bool) => Pair::Xor,
        _ => return None,
    })
}

/// Writes the steps of a program.
struct Writer<'p> {
    level: Level,
    program: &'p Program,
    /// Where registers are in memory.
    places: Vec<Option<usize>>,
    /// The last instruction that reads each register; outputs read beyond the end.
    last: Vec<usize>,
    reads: Vec<usize>,
    constants: Vec<(usize, u32)>,
    still: Vec<(usize, usize)>,
    /// Places before slots.
    before: usize,
    slots: usize,
    free: Vec<usize>,
    steps: Vec<Step>,
}

impl<'p> Writer<'p> {
    fn new(level: Level, program: &'p Program, reaches: &[Reach], moving: &[usize]) -> Self {
        let instructions = program.instructions();
        let (mut last, mut reads) = (vec![0; instructions.len()], vec![0; instructions.len()]);
        for (i, instruction) in instructions.iter().enumerate() {
            for register in instruction.registers() {
                last[register] = i;
                reads[register] += 1;
            }
        }
        let before = moving.len() + program.outputs().len();
        let (places, steps) = (vec![None; instructions.len()], Vec::new());
        let (constants, still, free) = (Vec::new(), Vec::new(), Vec::new());
        let mut writer =
            Self { level, program, places, last, reads, constants, still, before, slots: 0, free, steps };
        for (i, instruction) in instructions.iter().enumerate() {
            let first = instruction.arguments[0] as usize;
            match instruction.opcode {
                Opcode::Constant => {
                    let slot = writer.slot();
                    writer.constants.push((slot - before, program.constant(first) as u32));
                    writer.places[i] = Some(slot);
                }
                Opcode::Input if reaches[first] == Reach::One => {
                    let slot = writer.slot();
                    writer.still.push((first, slot - before));
                    writer.places[i] = Some(slot);
                }
                Opcode::Input => writer.places[i] = moving.iter().position(|&k| k == first),
                _ => {}
            }
        }
        writer
    }

    fn slot(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.slots += 1;
            self.before + self.slots - 1
        })
    }

    fn place(&self, register: usize) -> Option<usize> {
        self.places[register]
    }

    /// The steps of the instructions that are `chosen`, in order, behind those that there are; where they `stay`, all
    /// values are kept for good.
    fn steps(&mut self, chosen: impl Fn(usize) -> bool, stay: bool) -> Option<Vec<Step>> {
        let program = self.program;
        let computed = |&i: &usize| {
            chosen(i) && !matches!(program.instructions()[i].opcode, Opcode::Input | Opcode::Constant)
        };
        let order: Vec<usize> = (0..program.instructions().len()).filter(computed).collect();
        let mut held = None;
        for (n, &i) in order.iter().enumerate() {
            let instruction = &program.instructions()[i];
            let kept = stay || !order.get(n + 1).is_some_and(|&next| self.passes(i, next));
            let kept = kept && (stay || self.reads[i] > 0);
            let loops = !is_step(instruction);
            let slot = if kept || loops { Some(self.slot()) } else { None };
            match slot {
                Some(slot) if loops => self.looped(instruction, slot)?,
                _ => self.step(instruction, held)?,
            }
            if let (Some(slot), true) = (slot, kept) {
                if !loops {
                    self.steps.push(Step::Keep(slot));
                }
                self.places[i] = Some(slot);
            }
            held = Some(i);
            if stay {
                continue;
            }
            for (k, _) in program.outputs().iter().enumerate().filter(|(_, output)| output.register == i) {
                self.steps.push(Step::Put(self.before - program.outputs().len() + k));
            }
            if let (Some(slot), false) = (slot, kept) {
                self.free.push(slot);
            }
            self.release(i, instruction, &order);
        }
        Some(std::mem::take(&mut self.steps))
    }

    /// Gives back the slots of values that instruction `i` is the last to read, one of `order`'s.
    fn release(&mut self, i: usize, instruction: &Instruction, order: &[usize]) {
        let registers: SmallVec<[usize; 3]> = instruction.registers().collect();
        for (k, &register) in registers.iter().enumerate() {
            let own = order.binary_search(&register).is_ok() && !registers[..k].contains(&register);
            if let (true, Some(slot)) = (own && self.last[register] == i, self.places[register]) {
                self.free.push(slot);
            }
        }
    }

    /// Whether instruction `next` reads all of `i` that is ever read, and takes it from registers.
    fn passes(&self, i: usize, next: usize) -> bool {
        let instruction = &self.program.instructions()[next];
        let times = instruction.registers().filter(|&register| register == i).count();
        let first = instruction.registers().next() == Some(i);
        let squared = instruction.opcode == Opcode::Mul && times == 2;
        times == self.reads[i]
            && is_step(instruction)
            && (times == 1 || squared && instruction.kind == Kind::F32)
            && (instruction.opcode != Opcode::Select || first)
    }

    fn looped(&mut self, instruction: &Instruction, to: usize) -> Option<()> {
        let routine = routines::compute(self.level, instruction, [false; 3])?;
        let mut from = [None; 3];
        for (place, register) in from.iter_mut().zip(instruction.registers()) {
            *place = Some(self.places[register]?);
        }
        self.steps.push(Step::Loop { routine, to, from });
        Some(())
    }

    /// The step of an instruction, `held` being in registers.
    fn step(&mut self, instruction: &Instruction, held: Option<usize>) -> Option<()> {
        let registers: SmallVec<[usize; 3]> = instruction.registers().collect();
        let is_held = |register: usize| held == Some(register);
        let place = |register: usize| self.places[register];
        let mut load = None;
        let step = match (instruction.opcode, registers.as_slice()) {
            (Opcode::Mul, &[a, b]) if a == b && instruction.kind == Kind::F32 => {
                load = Some(a);
                Step::Single(Single::Square)
            }
            (Opcode::Select, &[condition, a, b]) => {
                load = Some(condition);
                Step::Select(place(a)?, place(b)?)
            }
            (Opcode::MulAdd, &[a, b, c]) if is_held(b) && !is_held(a) => Step::MulAdd(place(a)?, place(c)?),
            (Opcode::MulAdd, &[a, b, c]) if is_held(c) && !is_held(a) => {
                Step::AddProduct(place(a)?, place(b)?)
            }
            (Opcode::MulAdd, &[a, b, c]) => {
                load = Some(a);
                Step::MulAdd(place(b)?, place(c)?)
            }
            (_, &[a]) => {
                load = Some(a);
                Step::Single(single(instruction)?)
            }
            (_, &[a, b]) if is_held(b) && !is_held(a) => Step::Turned(pair(instruction)?, place(a)?),
            (_, &[a, b]) => {
                load = Some(a);
                Step::Pair(pair(instruction)?, place(b)?)
            }
            _ => return None,
        };
        if let Some(register) = load.filter(|&register| !is_held(register)) {
            self.steps.push(Step::Load(place(register)?));
        }
        self.steps.push(step);
        Some(())
    }
}
