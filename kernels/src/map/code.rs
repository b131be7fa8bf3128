//! Programs as the kernel reads them: words of 16 bytes, registers in few slots.
//!
//! Each instruction is one word: opcode, kinds and type in the first quarter, then slots. A register's slot is free again
//! behind its last reader. Operands carry how they are addressed, one word more for their strides.

use super::arithmetic::is_narrow;
use super::functions::is_rare;
use super::interpreter::{Access, RESULT, STORE};
use super::operands::{Layout, Operand};
use super::{MOST_INPUTS, MOST_OUTPUTS};
use crate::device::Global;
use crate::dtype::DType;
use crate::launch::{Buffer, Reject};
use crate::program::{Instruction, Kind, Opcode};

/// A program and how its operands lie in memory, ready to be copied to the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    pub(super) words: Vec<[u32; 4]>,
    pub(super) instructions: u32,
    pub(super) slots: u32,
    pub(super) wide: bool,
    pub(super) count: u64,
    pub(super) inputs: Vec<Operand>,
    /// The input that is what was computed before.
    pub(super) result: Option<usize>,
    pub(super) outputs: Vec<DType>,
    floats: bool,
    /// A function that epilogues leave to maps.
    rare: Option<(Opcode, Kind)>,
}

/// The parts of a program.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// What is computed.
    pub instructions: &'a [Instruction],
    /// Bits of the constants.
    pub constants: &'a [u64],
    /// Register and element type of each output.
    pub outputs: &'a [(usize, DType)],
}

/// Most instructions.
const MOST_INSTRUCTIONS: usize = 512;

/// Whether something is not too much.
pub(crate) fn limit(name: &'static str, got: usize, limit: usize) -> Result<(), Reject> {
    if got > limit { Err(Reject::Extent { name, got: got as u64, limit: limit as u64 }) } else { Ok(()) }
}

impl Source<'_> {
    /// Whether kernels compute all of it.
    pub(crate) fn accepts(&self) -> Result<(), Reject> {
        limit("instructions", self.instructions.len(), MOST_INSTRUCTIONS)
    }
}

impl Code {
    /// The code of `source` over elements of a space that `layout` describes.
    pub fn new(source: &Source<'_>, layout: &Layout) -> Result<Self, Reject> {
        Self::with_result(source, layout, None)
    }

    /// The same for the epilogue of a kernel, which makes what would be input `result`, element for element.
    pub fn behind(source: &Source<'_>, layout: &Layout, result: usize) -> Result<Self, Reject> {
        let operand = layout.inputs.get(result).ok_or(Reject::Absent { operand: "result" })?;
        let own = operand.access == Access::Dense || layout.count() == 1;
        if !own || operand.first != 0 {
            return Err(Reject::Unsupported { what: "another element of the result than the one at hand" });
        }
        Self::with_result(source, layout, Some(result))
    }

    fn with_result(source: &Source<'_>, layout: &Layout, result: Option<usize>) -> Result<Self, Reject> {
        limit("inputs", layout.inputs.len(), MOST_INPUTS)?;
        limit("outputs", source.outputs.len(), MOST_OUTPUTS)?;
        source.accepts()?;
        let slots = Slots::assign(source)?;
        let mut words = vec![layout.extents_word()];
        for (register, instruction) in source.instructions.iter().enumerate() {
            let Instruction { opcode, kind, operands, dtype, arguments } = *instruction;
            let head = opcode as u32 | (kind as u32) << 8 | (operands as u32) << 16 | (dtype as u32) << 24;
            let target = slots.of[register];
            match opcode {
                Opcode::Input if result == Some(arguments[0] as usize) => {
                    if Kind::of(dtype) != Some(Kind::F32) {
                        return Err(Reject::ElementType { operand: "result" });
                    }
                    words.push([head & !0xff | RESULT, target, 0, 0]);
                }
                Opcode::Input => {
                    let number = arguments[0] as usize;
                    let Some(operand) = layout.inputs.get(number) else {
                        return Err(Reject::Absent { operand: "input" });
                    };
                    if operand.dtype != dtype || Kind::of(dtype).is_none() {
                        return Err(Reject::ElementType { operand: "input" });
                    }
                    words.push([
                        head,
                        target | (operand.access as u32) << 16,
                        number as u32,
                        operand.strides[4],
                    ]);
                    words.push([
                        operand.strides[0],
                        operand.strides[1],
                        operand.strides[2],
                        operand.strides[3],
                    ]);
                }
                Opcode::Constant => {
                    let Some(&bits) = source.constants.get(arguments[0] as usize) else {
                        return Err(Reject::Absent { operand: "constant" });
                    };
                    words.push([head, target, bits as u32, (bits >> 32) as u32]);
                }
                _ => {
                    let mut from = [0; 3];
                    for (slot, register) in from.iter_mut().zip(instruction.registers()) {
                        *slot = slots.of[register];
                    }
                    words.push([
                        head,
                        target | from[0] << 16,
                        from[1] | from[2] << 16,
                        opcode.arity() as u32,
                    ]);
                }
            }
            // A register is stored as soon as it is there, so that its slot need not be kept.
            for (output, &(stored, dtype)) in source.outputs.iter().enumerate() {
                if stored == register {
                    words.push([STORE | (dtype as u32) << 24, target, output as u32, 0]);
                }
            }
        }
        let kinds = || source.instructions.iter().flat_map(|i| [i.kind, i.operands]);
        Ok(Self {
            instructions: words.len() as u32,
            words,
            slots: slots.count,
            wide: !kinds().all(is_narrow),
            count: layout.count(),
            floats: kinds().all(|kind| matches!(kind, Kind::F32 | Kind::Bool)),
            rare: source.instructions.iter().map(|i| (i.opcode, i.operands)).find(|&(o, k)| is_rare(o, k)),
            inputs: layout.inputs.clone(),
            result,
            outputs: source.outputs.iter().map(|&(_, dtype)| dtype).collect(),
        })
    }

    /// Elements.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Words.
    pub(crate) fn length(&self) -> u32 {
        self.instructions
    }

    /// Registers that are alive at once.
    pub(crate) fn slots(&self) -> u32 {
        self.slots
    }

    /// Element types of the outputs.
    pub(crate) fn outputs(&self) -> &[DType] {
        &self.outputs
    }

    /// Whether registers hold floats and truth values alone.
    pub(crate) fn is_of_floats(&self) -> bool {
        self.floats
    }

    /// A function that epilogues do not compute, if there is one.
    pub(crate) fn rare(&self) -> Option<(Opcode, Kind)> {
        self.rare
    }

    /// Where the inputs begin, once each is found to hold what is read of it. That of the result may be any.
    pub(crate) fn bind(&self, buffers: &[Buffer]) -> Result<[Global<u8>; MOST_INPUTS], Reject> {
        if buffers.len() != self.inputs.len() {
            return Err(Reject::Unsupported { what: "another number of inputs than the program has" });
        }
        let mut inputs = [Global::from_address(0); MOST_INPUTS];
        for (number, (buffer, operand)) in buffers.iter().zip(&self.inputs).enumerate() {
            if self.result != Some(number) {
                let size = operand.dtype.bits() as u64 / 8;
                let alignment = if operand.is_vector() { (4 * size).min(16) } else { size };
                buffer.holds("input", operand.reach * size, alignment)?;
                inputs[number] = Global::from_address(buffer.address + operand.first * size);
            }
        }
        Ok(inputs)
    }

    /// The bytes that the device must hold.
    pub fn bytes(&self) -> Vec<u8> {
        self.words.iter().flatten().flat_map(|word| word.to_le_bytes()).collect()
    }
}

/// Which slot each register is kept in.
struct Slots {
    of: Vec<u32>,
    count: u32,
}

impl Slots {
    fn assign(source: &Source<'_>) -> Result<Self, Reject> {
        let instructions = source.instructions;
        let mut last: Vec<usize> = (0..instructions.len()).collect();
        for (at, instruction) in instructions.iter().enumerate() {
            for register in instruction.registers() {
                if register >= at {
                    return Err(Reject::Unsupported { what: "a register that is read before it is made" });
                }
                last[register] = at;
            }
        }
        if source.outputs.iter().any(|&(register, _)| register >= instructions.len()) {
            return Err(Reject::Unsupported { what: "an output of no register" });
        }
        let mut free: Vec<u32> = Vec::new();
        let mut slots = Self { of: vec![0; instructions.len()], count: 0 };
        for at in 0..instructions.len() {
            // Operands are read before the result is written, so that it may take the slot of one of them.
            let mut ending: Vec<usize> = instructions[at].registers().filter(|&r| last[r] == at).collect();
            ending.sort_unstable();
            ending.dedup();
            free.extend(ending.into_iter().map(|register| slots.of[register]));
            slots.of[at] = free.pop().unwrap_or_else(|| {
                slots.count += 1;
                slots.count - 1
            });
            if last[at] == at {
                free.push(slots.of[at]);
            }
        }
        Ok(slots)
    }
}
