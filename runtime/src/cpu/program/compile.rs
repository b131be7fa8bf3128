//! From a program to steps over places in memory.

use super::compiled::{Compiled, NOTHING, Operand, Place, Reach, Step};
use super::joined::{self, Joined, joined};
use super::routines;
use crate::cpu::simd::{Folding, Level, Routine};
use crate::error::OpError;
use crate::loops::program::{Instruction, Kind, Opcode, Program};
use smallvec::SmallVec;

/// Bytes of the register file that are to stay in L1 beside inputs and outputs.
const FILE: usize = 24 << 10;
/// Elements of a tile, at most and at least.
const TILE: (usize, usize) = (2048, 128);
/// Elements of a tile, at most, where more than inputs and outputs has to stay in L1 beside it.
pub(super) const SHORT: usize = 1024;
/// Elements of a tile are a multiple of these, so that registers begin on lines.
const GRAIN: usize = 32;
/// Bytes of a constant or of another register of one element.
const CELL: usize = 8;

fn width(kind: Kind) -> usize {
    match kind {
        Kind::F32 | Kind::I32 | Kind::Bool => 4,
        Kind::F64 | Kind::I64 | Kind::U64 => 8,
    }
}

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

/// Which registers of `program` are one element for a whole tile, its inputs read as `reaches` say.
pub(super) fn uniform(program: &Program, reaches: &[Reach]) -> Vec<bool> {
    let mut one: Vec<bool> = Vec::with_capacity(program.instructions().len());
    for instruction in program.instructions() {
        one.push(match instruction.opcode {
            Opcode::Constant => true,
            Opcode::Input => reaches.get(instruction.arguments[0] as usize) == Some(&Reach::One),
            _ => instruction.registers().all(|register| one[register]),
        });
    }
    one
}

/// The compiler's state.
struct Compiler<'p> {
    level: Level,
    program: &'p Program,
    reaches: &'p [Reach],
    slots: Slots,
    constants: Vec<(usize, usize, u64)>,
    spots: Vec<Option<Spot>>,
    one: Vec<bool>,
    /// The last instruction that reads each register; outputs read beyond the end.
    last: Vec<usize>,
    /// The output that each register's instruction writes to directly.
    direct: Vec<Option<usize>>,
    steps: Vec<Planned>,
    /// The planned step that can add up what it makes.
    folding: Option<(usize, usize, Folding)>,
}

enum Planned {
    Gather { input: usize, slot: usize, width: usize },
    Loop { routine: Routine, to: (Spot, usize, bool), from: [Option<(Spot, usize, bool)>; 3] },
}

impl Compiled {
    /// `program` for inputs that are read as `reaches` say, a tile of at most [`SHORT`] elements at a time.
    pub(crate) fn new(level: Level, program: &Program, reaches: &[Reach]) -> Result<Self, OpError> {
        Self::with_lanes(level, program, reaches, (1, SHORT))
    }

    /// The same for up to `lanes` rows at once, in tiles of at most `length` elements.
    pub(crate) fn with_lanes(
        level: Level,
        program: &Program,
        reaches: &[Reach],
        (lanes, length): (usize, usize),
    ) -> Result<Self, OpError> {
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
        let one = uniform(program, reaches);
        let joined = joined(program, &reads, &one);
        for (i, joined) in joined.iter().enumerate() {
            for &register in joined.iter().flat_map(|joined| &joined.registers) {
                last[register] = last[register].max(i);
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
            one,
            last,
            direct,
            steps: Vec::new(),
            folding: None,
        };
        for (i, instruction) in program.instructions().iter().enumerate() {
            if !joined.iter().flatten().any(|joined| joined.first == i) {
                compiler.instruction(i, instruction, joined[i].as_ref())?;
            }
        }
        for k in 0..program.outputs().len() {
            compiler.output(k)?;
        }
        Ok(compiler.placed(lanes.max(1), length))
    }
}

impl Compiler<'_> {
    fn missing(instruction: &Instruction) -> OpError {
        OpError::internal(format!("no loop for {} of {}", instruction.opcode, instruction.kind))
    }

    /// The loop of instruction `i`, which may take in another one.
    fn instruction(
        &mut self,
        i: usize,
        instruction: &Instruction,
        joined: Option<&Joined>,
    ) -> Result<(), OpError> {
        let first = instruction.arguments[0] as usize;
        match instruction.opcode {
            Opcode::Constant => {
                let cell = self.slots.cell();
                self.constants.push((cell, width(instruction.kind), self.program.constant(first)));
                self.spots[i] = Some(Spot::Cell(cell));
                return Ok(());
            }
            Opcode::Input => return self.input(i, first, instruction),
            Opcode::Mul if instruction.registers().any(|register| self.is_there(register)) => {
                return self.scaled(i, instruction);
            }
            _ => {}
        }
        let mut registers: SmallVec<[usize; 3]> = match joined {
            Some(joined) => joined.registers.clone(),
            None => instruction.registers().collect(),
        };
        let one = self.one[i];
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
            Some(joined) => joined::routine(self.level, instruction.kind, joined.made, uniform),
            None => routines::compute(self.level, instruction, uniform),
        };
        let routine = routine.ok_or_else(|| Self::missing(instruction))?;
        let spot = match self.direct[i] {
            _ if one => Spot::Cell(self.slots.cell()),
            Some(output) => Spot::Output(output),
            None => Spot::Slot(self.slots.take()),
        };
        if let (Spot::Output(output), Some(joined)) = (spot, joined)
            && let Some(folding) = joined::folding(self.level, instruction.kind, joined.made, uniform)
        {
            self.folding = Some((self.steps.len(), output, folding));
        }
        self.spots[i] = Some(spot);
        self.steps.push(Planned::Loop { routine, to: (spot, width(instruction.kind), one), from });
        self.slots.free.extend(passing);
        self.release(i, &registers);
        Ok(())
    }

    /// Whether a register is what lies in an output already.
    fn is_there(&self, register: usize) -> bool {
        let made = &self.program.instructions()[register];
        let reach = self.reaches.get(made.arguments[0] as usize);
        made.opcode == Opcode::Input && reach == Some(&Reach::There)
    }

    /// The loop of instruction `i`, a product of what lies where it writes and one element.
    fn scaled(&mut self, i: usize, instruction: &Instruction) -> Result<(), OpError> {
        let factor = instruction.registers().find(|&register| self.one[register]);
        let placed = factor.and_then(|factor| Some((factor, self.spots[factor]?, self.direct[i]?)));
        let routine = routines::scale(self.level, instruction.kind);
        let ((factor, from, output), routine) =
            placed.zip(routine).ok_or_else(|| Self::missing(instruction))?;
        let (width, to) = (width(instruction.kind), Spot::Output(output));
        self.steps.push(Planned::Loop {
            routine,
            to: (to, width, false),
            from: [Some((from, width, true)), None, None],
        });
        self.spots[i] = Some(to);
        self.release(i, &[factor]);
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
        if reach == Reach::There {
            return Ok(());
        }
        let one = self.one[i];
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
    fn placed(self, lanes: usize, length: usize) -> Compiled {
        let element = self.program.instructions().iter().map(|i| width(i.kind)).max().unwrap_or(CELL);
        let mut tile = TILE.0;
        while tile > TILE.1 && tile.min(length) * lanes * element * self.slots.count > FILE {
            tile /= 2;
        }
        // A short row has no more of a register than its elements.
        tile = tile.min(length.next_multiple_of(GRAIN).max(GRAIN));
        let slots = (self.slots.cells * CELL * lanes).next_multiple_of(64);
        let slot = |index: usize| slots + index * lanes * tile * element;
        let place = |spot| match spot {
            Spot::Cell(index) => Place::Scratch(index * CELL * lanes),
            Spot::Slot(index) => Place::Scratch(slot(index)),
            Spot::Input(k) => Place::Input(k),
            Spot::Output(k) => Place::Output(k),
        };
        let operand = |(spot, width, one): (Spot, usize, bool)| Operand { place: place(spot), width, one };
        let step = |step: &Planned| match *step {
            Planned::Gather { input, slot: at, width } => Step::Gather { input, to: slot(at), width },
            Planned::Loop { routine, to, from } => {
                let from = from.map(|f| f.map_or(NOTHING, operand));
                Step::Loop { routine, to: operand(to), from }
            }
        };
        let is_uniform = |step: &&Planned| matches!(step, Planned::Loop { to: (_, _, true), .. });
        let folding = self.folding.map(|(at, output, folding)| {
            (at - self.steps[..at].iter().filter(is_uniform).count(), output, folding)
        });
        let place_of = |&(cell, width, bits): &(usize, usize, u64)| (cell * CELL * lanes, width, bits);
        Compiled {
            constants: self.constants.iter().map(place_of).collect(),
            lanes,
            uniform: self.steps.iter().filter(is_uniform).map(step).collect(),
            steps: self.steps.iter().filter(|planned| !is_uniform(planned)).map(step).collect(),
            folding,
            widths: self.program.outputs().iter().map(|o| o.dtype.bits() / 8).collect(),
            tile,
            scratch: slot(self.slots.count),
        }
    }
}
