//! Programs of scalar expressions: what is computed for each element of a loop nest.
//!
//! A program is a list of instructions, each of which makes one register from registers before it (static single
//! assignment), and a list of outputs. It has no control flow: conditions are selections. Registers hold one of a few
//! [`Kind`]s; 16-bit floats are `f32` registers and narrow integers wider ones, and [`Opcode::Narrow`] gives a
//! register the values of its narrower type where that matters. Instructions and constants are plain data, so that
//! the same program can be handed to a device.
//!
//! Arithmetic: integers wrap, division and remainder by zero are zero, shifts by the width or more give zero.
//! Minimum and maximum of floats are NaN where either operand is, and
//! the second operand where both are equal. Comparisons with NaN are false.

mod builder;
mod interpret;
pub(crate) mod quantised;
mod validate;

pub(crate) use builder::{Builder, Reg};
#[cfg(test)]
pub(crate) use interpret::{Value, interpret, read, write};
pub(crate) use recurve_kernels::program::{Instruction, Kind, Opcode};

use crate::dtype::DType;
use std::fmt;

/// A validated program.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Program {
    inputs: Vec<DType>,
    instructions: Vec<Instruction>,
    constants: Vec<u64>,
    outputs: Vec<Output>,
}

/// What one output stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Output {
    /// The register, a position in the list of instructions.
    pub(crate) register: usize,
    /// The element type it is stored as.
    pub(crate) dtype: DType,
}

impl Program {
    /// Element types of the inputs.
    pub(crate) fn inputs(&self) -> &[DType] {
        &self.inputs
    }

    /// What is computed; register `i` is made by instruction `i`.
    pub(crate) fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// Whether its one output is its one input, of the same type.
    pub(crate) fn is_copy(&self) -> bool {
        let [output] = self.outputs.as_slice() else { return false };
        matches!(self.instructions.as_slice(), [only] if only.opcode == Opcode::Input && only.dtype == output.dtype)
    }

    /// What is stored.
    pub(crate) fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// Bits of all constants.
    pub(crate) fn constants(&self) -> &[u64] {
        &self.constants
    }

    /// Bits of constant `index`: of the register's kind, in the low bits.
    pub(crate) fn constant(&self, index: usize) -> u64 {
        self.constants[index]
    }
}

/// A constant's bits as text.
fn show(kind: Kind, bits: u64) -> String {
    match kind {
        Kind::F32 => f32::from_bits(bits as u32).to_string(),
        Kind::F64 => f64::from_bits(bits).to_string(),
        Kind::I32 => (bits as i32).to_string(),
        Kind::I64 => (bits as i64).to_string(),
        Kind::U64 => bits.to_string(),
        Kind::Bool => (bits != 0).to_string(),
    }
}

/// One line for each instruction and output: `%2 = add %0 %1 : f32`.
impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, instruction) in self.instructions.iter().enumerate() {
            write!(f, "%{i} = {}", instruction.opcode)?;
            match instruction.opcode {
                Opcode::Input => {
                    write!(f, " {} {}", instruction.arguments[0], instruction.dtype)?;
                }
                Opcode::Constant => {
                    let bits = self.constants[instruction.arguments[0] as usize];
                    write!(f, " {}", show(instruction.kind, bits))?;
                }
                _ => {
                    for register in instruction.registers() {
                        write!(f, " %{register}")?;
                    }
                    if instruction.opcode == Opcode::Narrow {
                        write!(f, " {}", instruction.dtype)?;
                    }
                }
            }
            writeln!(f, " : {}", instruction.kind)?;
        }
        for (k, output) in self.outputs.iter().enumerate() {
            writeln!(f, "output {k} = %{} : {}", output.register, output.dtype)?;
        }
        Ok(())
    }
}
