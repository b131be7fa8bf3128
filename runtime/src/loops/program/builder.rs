//! Building programs: constants are folded, equal expressions shared, unused ones dropped.
//!
//! Methods never fail; what does not fit (operands of different kinds) is remembered and comes out of
//! [`Builder::finish`].

use super::interpret::{Value, evaluate, read};
use super::{Instruction, Kind, Opcode, Output, Program};
use crate::dtype::DType;
use crate::error::OpError;
use std::collections::HashMap;

/// A register of a program under construction.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Reg(u32);

/// A program under construction.
#[derive(Debug)]
pub(crate) struct Builder {
    inputs: Vec<DType>,
    instructions: Vec<Instruction>,
    constants: Vec<u64>,
    made: HashMap<Instruction, Reg>,
    fault: Option<String>,
}

/// Instructions that a program may have.
const MOST: usize = 1 << 12;

/// Methods named after the opcodes that they push.
macro_rules! unary {
    ($($name:ident $opcode:ident),*) => { $(
        pub(crate) fn $name(&mut self, x: Reg) -> Reg { self.unary(Opcode::$opcode, x) }
    )* };
}
macro_rules! binary {
    ($($name:ident $opcode:ident),*) => { $(
        pub(crate) fn $name(&mut self, a: Reg, b: Reg) -> Reg { self.binary(Opcode::$opcode, a, b) }
    )* };
}

#[allow(dead_code, reason = "the vocabulary is whole, whoever speaks it")]
impl Builder {
    /// A builder of programs with inputs of these element types.
    pub(crate) fn new(inputs: &[DType]) -> Self {
        Self {
            inputs: inputs.to_vec(),
            instructions: Vec::new(),
            constants: Vec::new(),
            made: HashMap::new(),
            fault: None,
        }
    }

    unary!(neg Neg, abs Abs, sign Sign, not Not, sqrt Sqrt, floor Floor, ceil Ceil, round Round, exp Exp,
        exp_m1 ExpM1, log Log, log1p Log1p, sigmoid Sigmoid, tanh Tanh, erf Erf, softplus Softplus, sin Sin,
        cos Cos);
    binary!(add Add, sub Sub, mul Mul, div Div, rem Rem, min Min, max Max, pow Pow, and And, or Or, xor Xor,
        shl Shl, shr Shr, eq Eq, lt Lt, le Le);

    /// The kind of `register`.
    pub(crate) fn kind(&self, register: Reg) -> Kind {
        self.instructions[register.0 as usize].kind
    }

    /// The element of input `index`.
    pub(crate) fn input(&mut self, index: usize) -> Reg {
        let dtype = self.inputs.get(index).copied().unwrap_or(DType::String);
        let kind =
            Kind::of(dtype).unwrap_or_else(|| self.fail(format!("input {index} of {dtype}"), Kind::F32));
        self.push(Instruction {
            opcode: Opcode::Input,
            kind,
            operands: kind,
            dtype,
            arguments: [index as u32, 0, 0],
        })
    }

    /// Another input.
    pub(crate) fn add_input(&mut self, dtype: DType) -> Reg {
        self.inputs.push(dtype);
        self.input(self.inputs.len() - 1)
    }

    /// A float rounded to `kind`; an integer or truth value where that is the kind.
    pub(crate) fn constant(&mut self, kind: Kind, value: f64) -> Reg {
        self.value(kind, Value::Float(value).to(kind))
    }

    /// A constant of the kind of `other`.
    pub(crate) fn constant_as(&mut self, other: Reg, value: f64) -> Reg {
        self.constant(self.kind(other), value)
    }

    /// The first element of stored `bytes`.
    pub(crate) fn stored(&mut self, kind: Kind, dtype: DType, bytes: &[u8]) -> Reg {
        self.value(kind, read(dtype, bytes, 0))
    }

    /// Whether `register` is known, and not NaN.
    pub(crate) fn is_number(&self, register: Reg) -> bool {
        self.known(register).is_some_and(|value| !matches!(value, Value::Float(v) if v.is_nan()))
    }

    /// An integer, wrapped to `kind`, or converted where that is a float.
    pub(crate) fn integer(&mut self, kind: Kind, value: i128) -> Reg {
        self.value(kind, Value::Int(value).to(kind))
    }

    fn value(&mut self, kind: Kind, value: Value) -> Reg {
        let bits = value.bits(kind);
        let index = match self.constants.iter().position(|&c| c == bits) {
            Some(index) => index,
            None => {
                self.constants.push(bits);
                self.constants.len() - 1
            }
        };
        let arguments = [index as u32, 0, 0];
        self.push(Instruction {
            opcode: Opcode::Constant,
            kind,
            operands: kind,
            dtype: kind.dtype(),
            arguments,
        })
    }

    /// The value of `register`, if it is known already.
    fn known(&self, register: Reg) -> Option<Value> {
        let made = &self.instructions[register.0 as usize];
        (made.opcode == Opcode::Constant)
            .then(|| Value::from_bits(made.kind, self.constants[made.arguments[0] as usize]))
    }

    /// A function of one register.
    pub(crate) fn unary(&mut self, opcode: Opcode, x: Reg) -> Reg {
        let kind = self.kind(x);
        self.check(opcode.arity() == 1 && opcode.takes(kind), opcode, kind);
        let even = matches!(opcode, Opcode::Erf | Opcode::Tanh);
        let x = if even { self.as_product(x).unwrap_or(x) } else { x };
        self.push(Instruction { opcode, kind, operands: kind, dtype: kind.dtype(), arguments: [x.0, 0, 0] })
    }

    /// A quotient of `f32` by a constant as a product with its reciprocal, which is off by less than two units in the last
    /// place. For functions that change by no larger a part than their argument does and have units to spare.
    fn as_product(&mut self, x: Reg) -> Option<Reg> {
        let made = &self.instructions[x.0 as usize];
        if made.opcode != Opcode::Div || made.kind != Kind::F32 {
            return None;
        }
        let [a, b] = [made.arguments[0], made.arguments[1]].map(Reg);
        let Value::Float(divisor) = self.known(b)? else { return None };
        let reciprocal = (1.0 / divisor) as f32;
        reciprocal.is_normal().then(|| {
            let reciprocal = self.constant(Kind::F32, reciprocal.into());
            self.mul(a, reciprocal)
        })
    }

    /// A function of two registers of one kind.
    pub(crate) fn binary(&mut self, opcode: Opcode, a: Reg, b: Reg) -> Reg {
        let operands = self.kind(a);
        let fits = operands == self.kind(b) && opcode.is_binary() && opcode.takes(operands);
        self.check(fits, opcode, operands);
        if opcode == Opcode::Pow && fits && self.known(b) == Some(Value::Float(2.0)) {
            return self.mul(a, a);
        }
        let kind = if opcode.is_comparison() { Kind::Bool } else { operands };
        let (a, b) = if opcode.is_commutative() && b.0 < a.0 { (b, a) } else { (a, b) };
        self.push(Instruction { opcode, kind, operands, dtype: kind.dtype(), arguments: [a.0, b.0, 0] })
    }

    /// `a > b`.
    pub(crate) fn gt(&mut self, a: Reg, b: Reg) -> Reg {
        self.lt(b, a)
    }

    /// `a ≥ b`.
    pub(crate) fn ge(&mut self, a: Reg, b: Reg) -> Reg {
        self.le(b, a)
    }

    /// `1 / x`.
    pub(crate) fn recip(&mut self, x: Reg) -> Reg {
        let one = self.constant(self.kind(x), 1.0);
        self.div(one, x)
    }

    /// `a` where `condition` is true, else `b`.
    pub(crate) fn select(&mut self, condition: Reg, a: Reg, b: Reg) -> Reg {
        let kind = self.kind(a);
        self.check(self.kind(condition) == Kind::Bool && kind == self.kind(b), Opcode::Select, kind);
        if let Some(Value::Bool(known)) = self.known(condition) {
            return if known { a } else { b };
        }
        if a == b {
            return a;
        }
        let arguments = [condition.0, a.0, b.0];
        self.push(Instruction {
            opcode: Opcode::Select,
            kind,
            operands: kind,
            dtype: kind.dtype(),
            arguments,
        })
    }

    /// `a · b + c`, for floats.
    pub(crate) fn mul_add(&mut self, a: Reg, b: Reg, c: Reg) -> Reg {
        let kind = self.kind(a);
        let fits = kind == self.kind(b) && kind == self.kind(c) && Opcode::MulAdd.takes(kind);
        self.check(fits, Opcode::MulAdd, kind);
        let (a, b) = if b.0 < a.0 { (b, a) } else { (a, b) };
        let arguments = [a.0, b.0, c.0];
        self.push(Instruction {
            opcode: Opcode::MulAdd,
            kind,
            operands: kind,
            dtype: kind.dtype(),
            arguments,
        })
    }

    /// `x` in `kind`.
    pub(crate) fn convert(&mut self, x: Reg, kind: Kind) -> Reg {
        let operands = self.kind(x);
        if operands == kind {
            return x;
        }
        let (opcode, dtype) = (Opcode::Convert, kind.dtype());
        self.push(Instruction { opcode, kind, operands, dtype, arguments: [x.0, 0, 0] })
    }

    /// `x` rounded or wrapped to the values that `dtype`, of the same kind, holds.
    pub(crate) fn narrow(&mut self, x: Reg, dtype: DType) -> Reg {
        let kind = self.kind(x);
        self.check(Kind::of(dtype) == Some(kind), Opcode::Narrow, kind);
        let made = &self.instructions[x.0 as usize];
        let holds = matches!(made.opcode, Opcode::Input | Opcode::Narrow) && made.dtype == dtype;
        if kind.dtype() == dtype || holds {
            return x;
        }
        self.push(Instruction { opcode: Opcode::Narrow, kind, operands: kind, dtype, arguments: [x.0, 0, 0] })
    }

    /// The registers that `program` would store, before they are narrowed, where its inputs are `given`.
    pub(crate) fn inline(&mut self, program: &Program, given: &[Reg]) -> Vec<Reg> {
        let made = self.inline_but(program, given, |_, _| None);
        program.outputs().iter().map(|o| made[o.register]).collect()
    }

    /// The registers that stand for all of `program`'s where its inputs are `given`, those aside that `instead` has
    /// another for.
    pub(crate) fn inline_but(
        &mut self,
        program: &Program,
        given: &[Reg],
        mut instead: impl FnMut(&mut Self, usize) -> Option<Reg>,
    ) -> Vec<Reg> {
        let mut made: Vec<Reg> = Vec::with_capacity(program.instructions().len());
        for (at, instruction) in program.instructions().iter().enumerate() {
            if let Some(register) = instead(self, at) {
                made.push(register);
                continue;
            }
            let first = instruction.arguments[0] as usize;
            let register = match instruction.opcode {
                Opcode::Input => match given.get(first) {
                    Some(&register) if self.kind(register) == instruction.kind => register,
                    _ => {
                        let fault = format!("input {first} of an inlined program");
                        let kind = instruction.kind;
                        self.fail(fault, ());
                        self.constant(kind, 0.0)
                    }
                },
                Opcode::Constant => {
                    self.value(instruction.kind, Value::from_bits(instruction.kind, program.constant(first)))
                }
                opcode => {
                    let mut copy = *instruction;
                    for argument in &mut copy.arguments[..opcode.arity()] {
                        *argument = made[*argument as usize].0;
                    }
                    if opcode.is_commutative() {
                        copy.arguments[..2].sort_unstable();
                    }
                    self.push(copy)
                }
            };
            made.push(register);
        }
        made
    }

    /// `x`, of element type `from`, as the operator Cast makes it one of `to`: floats round once, to integers they
    /// truncate and saturate, and integers wrap.
    pub(crate) fn cast(&mut self, x: Reg, from: DType, to: DType) -> Reg {
        let Some(kind) = Kind::of(to) else {
            return self.fail(format!("a cast to {to}"), x);
        };
        let operands = self.kind(x);
        if kind == Kind::F32 && to != DType::F32 && operands != Kind::F32 && operands != Kind::Bool {
            let wide = self.convert(x, Kind::F64);
            let odd = Instruction {
                opcode: Opcode::RoundToOdd,
                kind,
                operands: Kind::F64,
                dtype: DType::F32,
                arguments: [wide.0, 0, 0],
            };
            return self.push(odd);
        }
        let converted = self.convert(x, kind);
        if !from.is_float() || kind.dtype() == to || !kind.is_int() {
            return converted;
        }
        // Saturated to the register's kind already, now to the narrower type.
        let unsigned = !to.is_signed_int();
        let bits = to.bits() as u32 - u32::from(!unsigned);
        let high = (1i128 << bits) - 1;
        let (low, high) =
            (self.integer(kind, if unsigned { 0 } else { -high - 1 }), self.integer(kind, high));
        let above = self.max(converted, low);
        self.min(above, high)
    }

    /// The program that stores these registers.
    pub(crate) fn finish(self, outputs: &[(Reg, DType)]) -> Result<Program, OpError> {
        if let Some(fault) = self.fault {
            return Err(OpError::internal(fault));
        }
        let mut kept = Kept { from: &self.instructions, order: Vec::new(), place: HashMap::new() };
        let mut stored = Vec::new();
        for &(register, dtype) in outputs {
            // Storing narrows by itself.
            let made = &self.instructions[register.0 as usize];
            let bare = made.opcode == Opcode::Narrow && made.dtype == dtype;
            let register = if bare { made.arguments[0] } else { register.0 };
            stored.push(Output { register: kept.place(register), dtype });
        }
        Program::new(self.inputs, kept.order, self.constants, stored)
    }

    /// The same without the inputs that it does not read, and the numbers of those that it does.
    pub(crate) fn finish_read(self, outputs: &[(Reg, DType)]) -> Result<(Program, Vec<usize>), OpError> {
        let whole = self.finish(outputs)?;
        let reads = |k: &usize| {
            let is_it = |i: &Instruction| i.opcode == Opcode::Input && i.arguments[0] as usize == *k;
            whole.instructions().iter().any(is_it)
        };
        let read: Vec<usize> = (0..whole.inputs.len()).filter(reads).collect();
        let Program { inputs, mut instructions, constants, outputs } = whole;
        for instruction in instructions.iter_mut().filter(|i| i.opcode == Opcode::Input) {
            let place = read.iter().position(|&k| k == instruction.arguments[0] as usize);
            instruction.arguments[0] = place.unwrap_or(0) as u32;
        }
        let kept = read.iter().map(|&k| inputs[k]).collect();
        Ok((Program::new(kept, instructions, constants, outputs)?, read))
    }

    fn check(&mut self, fits: bool, opcode: Opcode, kind: Kind) {
        if !fits {
            self.fail(format!("{opcode} does not take these operands, the first of which is {kind}"), ());
        }
    }

    fn fail<T>(&mut self, fault: String, otherwise: T) -> T {
        self.fault.get_or_insert(fault);
        otherwise
    }

    fn push(&mut self, instruction: Instruction) -> Reg {
        if self.fault.is_none() && instruction.opcode.arity() > 0 {
            let known: Option<Vec<Value>> =
                instruction.registers().map(|r| self.known(Reg(r as u32))).collect();
            if let Some(value) = known.and_then(|values| evaluate(&instruction, &values)) {
                return self.value(instruction.kind, value);
            }
        }
        if let Some(&register) = self.made.get(&instruction) {
            return register;
        }
        if self.instructions.len() == MOST {
            self.fail(format!("more than {MOST} instructions"), ());
        }
        let register = Reg(self.instructions.len() as u32);
        self.instructions.push(instruction);
        self.made.insert(instruction, register);
        register
    }
}

/// The instructions that outputs need, each as late as its first reader allows, so that few are held at a time.
struct Kept<'a> {
    from: &'a [Instruction],
    order: Vec<Instruction>,
    place: HashMap<u32, usize>,
}

impl Kept<'_> {
    /// The new place of `register`, whose operands are placed before it.
    fn place(&mut self, register: u32) -> usize {
        let mut pending = vec![register];
        while let Some(&next) = pending.last() {
            if self.place.contains_key(&next) {
                pending.pop();
                continue;
            }
            let mut instruction = self.from[next as usize];
            let arity = instruction.opcode.arity();
            let missing = instruction.arguments[..arity].iter().rev().filter(|r| !self.place.contains_key(r));
            let before = pending.len();
            pending.extend(missing);
            if pending.len() > before {
                continue;
            }
            for argument in &mut instruction.arguments[..arity] {
                *argument = self.place[argument] as u32;
            }
            pending.pop();
            self.place.insert(next, self.order.len());
            self.order.push(instruction);
        }
        self.place[&register]
    }
}
