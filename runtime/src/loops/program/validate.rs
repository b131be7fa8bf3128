//! What makes a program valid: registers are made before they are read, kinds fit, inputs and constants exist.

use super::{Instruction, Kind, Opcode, Program};
use crate::dtype::DType;
use crate::error::OpError;

impl Program {
    /// A program of these parts, if it is valid.
    pub(crate) fn new(
        inputs: Vec<DType>,
        instructions: Vec<Instruction>,
        constants: Vec<u64>,
        outputs: Vec<super::Output>,
    ) -> Result<Self, OpError> {
        let program = Self { inputs, instructions, constants, outputs };
        match program.fault() {
            None => Ok(program),
            Some(fault) => Err(OpError::internal(format!("{fault}, in the program\n{program}"))),
        }
    }

    fn fault(&self) -> Option<String> {
        if let Some(dtype) = self.inputs.iter().find(|&&d| Kind::of(d).is_none()) {
            return Some(format!("an input of {dtype}"));
        }
        for (i, instruction) in self.instructions.iter().enumerate() {
            if !self.fits(i, instruction) {
                return Some(format!("instruction {i} does not fit"));
            }
        }
        let stored = |o: &super::Output| {
            self.instructions.get(o.register).is_some_and(|made| Kind::of(o.dtype) == Some(made.kind))
        };
        (!self.outputs.iter().all(stored)).then(|| "an output does not fit".to_owned())
    }

    fn fits(&self, at: usize, instruction: &Instruction) -> bool {
        let Instruction { opcode, kind, operands, dtype, arguments } = *instruction;
        let made = |argument: usize| {
            let register = arguments[argument] as usize;
            (register < at).then(|| self.instructions[register].kind)
        };
        let all = |of: Kind| (0..opcode.arity()).all(|k| made(k) == Some(of));
        let own = dtype == kind.dtype();
        match opcode {
            Opcode::Input => {
                self.inputs.get(arguments[0] as usize) == Some(&dtype) && Kind::of(dtype) == Some(kind)
            }
            Opcode::Constant => own && (arguments[0] as usize) < self.constants.len(),
            Opcode::Narrow => {
                opcode.takes(kind) && operands == kind && Kind::of(dtype) == Some(kind) && all(kind)
            }
            Opcode::Convert => own && kind != operands && all(operands),
            Opcode::RoundToOdd => own && kind == Kind::F32 && operands == Kind::F64 && all(operands),
            Opcode::Select => {
                let [condition, a, b] = [made(0), made(1), made(2)];
                own && operands == kind && condition == Some(Kind::Bool) && a == Some(kind) && b == Some(kind)
            }
            _ if opcode.is_comparison() => {
                own && kind == Kind::Bool && opcode.takes(operands) && all(operands)
            }
            _ => own && operands == kind && opcode.takes(kind) && all(kind),
        }
    }
}
