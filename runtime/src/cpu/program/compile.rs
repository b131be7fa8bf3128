//! From a program to steps over places in memory.

use super::routines::{self, OfDifference};
use crate::cpu::simd::{Level, Routine};
use crate::error::OpError;
use crate::loops::program::{Instruction, Kind, Opcode, Program};
use smallvec::SmallVec;

/// How an input is read in a tile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reach {
    /// One element for the whole tile.
    One,
    /// One element after the other, as they lie in memory.
    Run,
    /// Collected into scratch memory before the loops read them.
    Gathered,
}

/// Where something lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// At this byte of the scratch memory.
    Scratch(usize),
    /// At the front of this input's window.
    Input(usize),
    /// In this output.
    Output(usize),
    /// Nowhere: the operand is not read.
    Nowhere,
}

/// A register or element of storage.
#[derive(Clone, Copy, Debug)]
struct Operand {
    place: Place,
    /// Bytes of an element.
    width: usize,
    /// Whether there is one element for the whole tile.
    one: bool,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Collects input `input` at a place in scratch memory.
    Gather { input: usize, to: usize, width: usize },
    /// One loop.
    Loop { routine: Routine, to: Operand, from: [Operand; 3] },
}

/// A program for tiles whose inputs are read in certain ways.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// Byte offsets and bits of the constants.
    constants: Vec<(usize, u64)>,
    steps: Vec<Step>,
    /// Bytes per element of the outputs.
    pub(super) widths: Vec<usize>,
    /// Most elements of a tile.
    pub(super) tile: usize,
    /// Bytes of scratch memory.
    pub(super) scratch: usize,
}

/// What the steps read and write in one tile.
pub(super) struct Tile<'t, 'o> {
    /// Elements.
    pub(super) len: usize,
    /// Windows of the inputs; those of [`Reach::Gathered`] are not looked at.
    pub(super) inputs: &'t [&'t [u8]],
    /// The outputs, and the element of theirs at which the tile begins.
    pub(super) outputs: &'t mut [&'o mut [u8]],
    pub(super) at: usize,
    /// As many bytes as [`Compiled::scratch`] says, aligned to 64.
    pub(super) scratch: &'t mut [u8],
    /// Collects an input's elements of the tile.
    pub(super) gather: &'t dyn Fn(usize, &mut [u8]),
}

/// Bytes of the register file that are to stay in L1 beside inputs and outputs.
const FILE: usize = 24 << 10;
/// Elements of a tile, at most and at least.
const TILE: (usize, usize) = (1024, 128);
/// Bytes of a constant or of another register of one element.
const CELL: usize = 8;

fn width(kind: Kind) -> usize {
    match kind {
        Kind::F32 | Kind::I32 | Kind::Bool => 4,
        Kind::F64 | Kind::I64 | Kind::U64 => 8,
    }
}

const NOTHING: Operand = Operand { place: Place::Nowhere, width: 0, one: false };

/// Scratch slots, numbered until the size of a tile is known.
#[derive(Default)]
struct Slots {
    free: Vec<usize>,
    count: usize,
    cells: usize,
}

impl Slots {
    fn take(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.count += 1;
            self.count - 1
        })
    }

    fn cell(&mut self) -> usize {
        self.cells += 1;
        self.cells - 1
    }
}

/// A place in scratch memory before slots have offsets.
#[derive(Clone, Copy, Debug)]
enum Spot {
    Cell(usize),
    Slot(usize),
    Input(usize),
    Output(usize),
}

/// For each instruction the difference that nothing but it reads, if it is of those that one loop makes of it:
/// softmax and variances save a pass over the row by that.
fn joined(program: &Program, reads: &[usize]) -> Vec<Option<(usize, OfDifference)>> {
    let instructions = program.instructions();
    let of = |instruction: &Instruction| {
        let mut registers = instruction.registers();
        let (first, second) = (registers.next()?, registers.next());
        let (made, times) = match (instruction.opcode, second) {
            (Opcode::Exp, None) => (OfDifference::Exp, 1),
            (Opcode::Mul, Some(second)) if first == second => (OfDifference::Square, 2),
            _ => return None,
        };
        let fits = instructions[first].opcode == Opcode::Sub
            && matches!(instruction.kind, Kind::F32 | Kind::F64)
            && reads[first] == times;
        fits.then_some((first, made))
    };
    instructions.iter().map(of).collect()
}

/// The compiler's state.
struct Compiler<'p> {
    level: Level,
    program: &'p Program,
    reaches: &'p [Reach],
    slots: Slots,
    constants: Vec<(usize, u64)>,
    spots: Vec<Option<Spot>>,
    one: Vec<bool>,
    /// The last instruction that reads each register; outputs read beyond the end.
    last: Vec<usize>,
    /// The output that each register's instruction writes to directly.
    direct: Vec<Option<usize>>,
    steps: Vec<Planned>,
}

enum Planned {
    Gather { input: usize, slot: usize, width: usize },
    Loop { routine: Routine, to: (Spot, usize, bool), from: [Option<(Spot, usize, bool)>; 3] },
}

impl Compiled {
    /// `program` for inputs that are read as `reaches` say.
    pub(crate) fn new(level: Level, program: &Program, reaches: &[Reach]) -> Result<Self, OpError> {
        let count = program.instructions().len();
        let mut last = vec![0; count];
        let mut reads = vec![0usize; count];
        for (i, instruction) in program.instructions().iter().enumerate() {
            for register in instruction.registers() {
                last[register] = i;
                reads[register] += 1;
            }
        }
        for output in program.outputs() {
            last[output.register] = usize::MAX;
            reads[output.register] += 1;
        }
        let joined = joined(program, &reads);
        for (i, taken) in joined.iter().enumerate() {
            if let Some((difference, _)) = *taken {
                for register in program.instructions()[difference].registers() {
                    last[register] = last[register].max(i);
                }
            }
        }
        let mut direct = vec![None; count];
        for (k, output) in program.outputs().iter().enumerate() {
            let made = &program.instructions()[output.register];
            let computed = !matches!(made.opcode, Opcode::Input | Opcode::Constant);
            if computed
                && reads[output.register] == 1
                && routines::is_direct(output.dtype)
                && made.kind.dtype() == output.dtype
            {
                direct[output.register] = Some(k);
            }
        }
        let mut compiler = Compiler {
            level,
            program,
            reaches,
            slots: Slots::default(),
            constants: Vec::new(),
            spots: vec![None; count],
            one: vec![false; count],
            last,
            direct,
            steps: Vec::new(),
        };
        for (i, instruction) in program.instructions().iter().enumerate() {
            if !joined.iter().flatten().any(|(difference, _)| *difference == i) {
                compiler.instruction(i, instruction, joined[i])?;
            }
        }
        for k in 0..program.outputs().len() {
            compiler.output(k)?;
        }
        Ok(compiler.placed())
    }

    /// Writes the constants to a thread's scratch memory, before its first tile.
    pub(super) fn prepare(&self, scratch: &mut [u8]) {
        for &(offset, bits) in &self.constants {
            scratch[offset..offset + CELL].copy_from_slice(&bits.to_ne_bytes());
        }
    }

    /// Runs all steps on one tile.
    pub(super) fn run(&self, tile: &mut Tile<'_, '_>) {
        let (len, inputs) = (tile.len, tile.inputs);
        for step in &self.steps {
            let (routine, to, from) = match step {
                Step::Gather { input, to, width } => {
                    (tile.gather)(*input, &mut tile.scratch[*to..to + len * width]);
                    continue;
                }
                Step::Loop { routine, to, from } => (routine, to, from),
            };
            let bytes = |operand: &Operand| operand.width * if operand.one { 1 } else { len };
            if let Place::Scratch(start) = to.place {
                // A register never lies where an operand of its instruction does.
                let (before, rest) = tile.scratch.split_at_mut(start);
                let (target, after) = rest.split_at_mut(bytes(to));
                let beyond = start + target.len();
                let fetch = |operand: &Operand| match operand.place {
                    Place::Scratch(at) if at < start => &before[at..at + bytes(operand)],
                    Place::Scratch(at) => &after[at - beyond..at - beyond + bytes(operand)],
                    Place::Input(k) => &inputs[k][..bytes(operand)],
                    Place::Output(_) | Place::Nowhere => &[][..],
                };
                routine.call(target, [fetch(&from[0]), fetch(&from[1]), fetch(&from[2])]);
            } else if let Place::Output(k) = to.place {
                let target = &mut tile.outputs[k][tile.at * to.width..(tile.at + len) * to.width];
                let scratch = &*tile.scratch;
                let fetch = |operand: &Operand| match operand.place {
                    Place::Scratch(at) => &scratch[at..at + bytes(operand)],
                    Place::Input(k) => &inputs[k][..bytes(operand)],
                    Place::Output(_) | Place::Nowhere => &[][..],
                };
                routine.call(target, [fetch(&from[0]), fetch(&from[1]), fetch(&from[2])]);
            }
        }
    }
}

impl Compiler<'_> {
    fn missing(instruction: &Instruction) -> OpError {
        OpError::internal(format!("no loop for {} of {}", instruction.opcode, instruction.kind))
    }

    /// The loop of instruction `i`, which may take in the difference that it is made of.
    fn instruction(
        &mut self,
        i: usize,
        instruction: &Instruction,
        joined: Option<(usize, OfDifference)>,
    ) -> Result<(), OpError> {
        let first = instruction.arguments[0] as usize;
        match instruction.opcode {
            Opcode::Constant => {
                let cell = self.slots.cell();
                self.constants.push((cell, self.program.constant(first)));
                (self.one[i], self.spots[i]) = (true, Some(Spot::Cell(cell)));
                return Ok(());
            }
            Opcode::Input => return self.input(i, first, instruction),
            _ => {}
        }
        let read = joined.map_or(instruction, |(difference, _)| &self.program.instructions()[difference]);
        let mut registers: SmallVec<[usize; 3]> = read.registers().collect();
        let one = registers.iter().all(|&r| self.one[r]);
        self.one[i] = one;
        // Products of one element and a tile have the element second.
        if instruction.opcode == Opcode::MulAdd && self.one[registers[0]] && !one {
            registers.swap(0, 1);
        }
        let mut from = [None; 3];
        let mut uniform = [false; 3];
        for (k, &register) in registers.iter().enumerate() {
            let spot = self.spots[register].ok_or_else(|| OpError::internal("a register without a place"))?;
            from[k] = Some((spot, width(self.program.instructions()[register].kind), self.one[register]));
            uniform[k] = self.one[register] && !one;
        }
        let mut passing = None;
        let leads = matches!(instruction.opcode, Opcode::MulAdd | Opcode::Select);
        if let (true, Some((spot, width, _))) = (leads && uniform[0], from[0]) {
            // These loops have a tile first.
            let slot = self.slots.take();
            let routine = routines::spread(width).ok_or_else(|| Self::missing(instruction))?;
            let (to, source) = ((Spot::Slot(slot), width, false), [Some((spot, width, true)), None, None]);
            self.steps.push(Planned::Loop { routine, to, from: source });
            (from[0], uniform[0], passing) = (Some(to), false, Some(slot));
        }
        let routine = match joined {
            Some((_, made)) => routines::of_difference(self.level, instruction.kind, made, uniform),
            None => routines::compute(self.level, instruction, uniform),
        };
        let routine = routine.ok_or_else(|| Self::missing(instruction))?;
        let spot = match self.direct[i] {
            _ if one => Spot::Cell(self.slots.cell()),
            Some(output) => Spot::Output(output),
            None => Spot::Slot(self.slots.take()),
        };
        self.spots[i] = Some(spot);
        self.steps.push(Planned::Loop { routine, to: (spot, width(instruction.kind), one), from });
        self.slots.free.extend(passing);
        self.release(i, &registers);
        Ok(())
    }

    /// Gives back the slots of registers that instruction `i` is the last to read.
    fn release(&mut self, i: usize, registers: &[usize]) {
        for (k, &register) in registers.iter().enumerate() {
            if let (true, Some(Spot::Slot(slot))) = (self.last[register] == i, self.spots[register])
                && !registers[..k].contains(&register)
            {
                self.slots.free.push(slot);
            }
        }
    }

    fn input(&mut self, i: usize, input: usize, instruction: &Instruction) -> Result<(), OpError> {
        let (dtype, stored) = (instruction.dtype, instruction.dtype.bits() / 8);
        let reach = *self.reaches.get(input).ok_or_else(|| OpError::internal("an input without a reach"))?;
        let one = reach == Reach::One;
        self.one[i] = one;
        let source = if reach == Reach::Gathered {
            let slot = self.slots.take();
            self.steps.push(Planned::Gather { input, slot, width: stored });
            Spot::Slot(slot)
        } else {
            Spot::Input(input)
        };
        if routines::is_direct(dtype) {
            self.spots[i] = Some(source);
            return Ok(());
        }
        let routine = routines::load(self.level, dtype).ok_or_else(|| Self::missing(instruction))?;
        let spot = if one { Spot::Cell(self.slots.cell()) } else { Spot::Slot(self.slots.take()) };
        let to = (spot, width(instruction.kind), one);
        self.steps.push(Planned::Loop { routine, to, from: [Some((source, stored, one)), None, None] });
        if let Spot::Slot(slot) = source {
            self.slots.free.push(slot);
        }
        self.spots[i] = Some(spot);
        Ok(())
    }

    fn output(&mut self, k: usize) -> Result<(), OpError> {
        let output = self.program.outputs()[k];
        let (register, dtype) = (output.register, output.dtype);
        let instruction = &self.program.instructions()[register];
        if self.direct[register].is_some() && !self.one[register] {
            return Ok(());
        }
        let missing = || Self::missing(instruction);
        let spot = self.spots[register].ok_or_else(missing)?;
        let (held, stored) = (width(instruction.kind), dtype.bits() / 8);
        let store = routines::store(self.level, dtype).ok_or_else(missing)?;
        let to = (Spot::Output(k), stored, false);
        if !self.one[register] {
            self.steps.push(Planned::Loop {
                routine: store,
                to,
                from: [Some((spot, held, false)), None, None],
            });
            return Ok(());
        }
        let cell = (Spot::Cell(self.slots.cell()), stored, true);
        self.steps.push(Planned::Loop {
            routine: store,
            to: cell,
            from: [Some((spot, held, true)), None, None],
        });
        let routine = routines::spread(stored).ok_or_else(missing)?;
        self.steps.push(Planned::Loop { routine, to, from: [Some(cell), None, None] });
        Ok(())
    }

    /// Offsets for all places, now that the number of slots is known.
    fn placed(self) -> Compiled {
        let element = self.program.instructions().iter().map(|i| width(i.kind)).max().unwrap_or(CELL);
        let mut tile = TILE.0;
        while tile > TILE.1 && tile * element * self.slots.count > FILE {
            tile /= 2;
        }
        let slots = (self.slots.cells * CELL).next_multiple_of(64);
        let slot = |index: usize| slots + index * tile * element;
        let place = |spot| match spot {
            Spot::Cell(index) => Place::Scratch(index * CELL),
            Spot::Slot(index) => Place::Scratch(slot(index)),
            Spot::Input(k) => Place::Input(k),
            Spot::Output(k) => Place::Output(k),
        };
        let operand = |(spot, width, one): (Spot, usize, bool)| Operand { place: place(spot), width, one };
        let steps = self.steps.iter().map(|step| match *step {
            Planned::Gather { input, slot: at, width } => Step::Gather { input, to: slot(at), width },
            Planned::Loop { routine, to, from } => {
                let from = from.map(|f| f.map_or(NOTHING, operand));
                Step::Loop { routine, to: operand(to), from }
            }
        });
        Compiled {
            constants: self.constants.iter().map(|&(cell, bits)| (cell * CELL, bits)).collect(),
            steps: steps.collect(),
            widths: self.program.outputs().iter().map(|o| o.dtype.bits() / 8).collect(),
            tile,
            scratch: slot(self.slots.count),
        }
    }
}
