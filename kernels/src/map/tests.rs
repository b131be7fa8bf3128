//! Maps on the emulator, held to an interpreter of the definition: floats in f64 and rounded to the register's kind after
//! each instruction, integers in i128 and wrapped.

use super::arithmetic::is_computed;
use super::{Buffers, Code, Layout, Source, Variant, by_id, choose};
use crate::device::{BF16, F16, Float16};
use crate::dtype::DType;
use crate::lab::{DEVICE, Lab, Random};
use crate::launch::{Buffer, Reject};
use crate::program::{Instruction, Kind, Opcode};

/// A register's value.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value {
    Float(f64),
    Int(i128),
    Bool(bool),
}

use Value::{Bool, Float, Int};

const DTYPES: [DType; 13] = [
    DType::F32,
    DType::F64,
    DType::F16,
    DType::BF16,
    DType::I8,
    DType::I16,
    DType::I32,
    DType::I64,
    DType::U8,
    DType::U16,
    DType::U32,
    DType::U64,
    DType::Bool,
];

const KINDS: [Kind; 6] = [Kind::F32, Kind::F64, Kind::I32, Kind::I64, Kind::U64, Kind::Bool];

fn wrap(value: i128, bits: u32, signed: bool) -> i128 {
    let low = value & ((1 << bits) - 1);
    if signed && low >> (bits - 1) != 0 { low - (1 << bits) } else { low }
}

/// A value as an element of `dtype` holds it.
fn held(dtype: DType, value: Value) -> Value {
    match (dtype, value) {
        (DType::F32, Float(v)) => Float(f64::from(v as f32)),
        (DType::F16, Float(v)) => Float(F16::from_f32(v as f32).to_f32().into()),
        (DType::BF16, Float(v)) => Float(BF16::from_f32(v as f32).to_f32().into()),
        (_, Int(v)) => Int(wrap(v, dtype.bits() as u32, dtype.is_signed_int())),
        _ => value,
    }
}

fn rounded(kind: Kind, value: Value) -> Value {
    held(kind.dtype(), value)
}

fn bytes(dtype: DType, value: Value) -> Vec<u8> {
    match (dtype, value) {
        (DType::F32, Float(v)) => (v as f32).to_le_bytes().to_vec(),
        (DType::F64, Float(v)) => v.to_le_bytes().to_vec(),
        (DType::F16, Float(v)) => F16::from_f32(v as f32).bits16().to_le_bytes().to_vec(),
        (DType::BF16, Float(v)) => BF16::from_f32(v as f32).bits16().to_le_bytes().to_vec(),
        (_, Int(v)) => v.to_le_bytes()[..dtype.bits() / 8].to_vec(),
        (_, Bool(v)) => vec![v.into()],
        (dtype, value) => panic!("{value:?} as {dtype}"),
    }
}

fn parse(dtype: DType, bytes: &[u8]) -> Value {
    let mut all = [0; 16];
    all[..bytes.len()].copy_from_slice(bytes);
    let raw = i128::from_le_bytes(all);
    match dtype {
        DType::F32 => Float(f32::from_bits(raw as u32).into()),
        DType::F64 => Float(f64::from_bits(raw as u64)),
        DType::F16 => Float(F16::from_bits(raw as u16).to_f32().into()),
        DType::BF16 => Float(BF16::from_bits(raw as u16).to_f32().into()),
        DType::Bool => Bool(raw != 0),
        _ => Int(wrap(raw, dtype.bits() as u32, dtype.is_signed_int())),
    }
}

/// A value that `dtype` holds.
fn draw(r: &mut Random, dtype: DType) -> Value {
    let value = if dtype == DType::Bool {
        Bool(r.bool())
    } else if dtype.is_float() {
        let edge = r.pick([0.0, -0.0, 1.0, -1.0, 2.5, f64::INFINITY, f64::NEG_INFINITY, f64::NAN]);
        let scale = r.pick([1.0, 1.0, 6.0, 100.0]);
        Float(if r.within(0..=7) == 0 { edge } else { r.unit() * scale })
    } else if r.bool() {
        Int(i128::from(r.within(0..=40)) - if dtype.is_signed_int() { 20 } else { 0 })
    } else {
        Int(i128::from(r.next()))
    };
    held(dtype, value)
}

fn power(base: i128, exponent: i128, kind: Kind) -> i128 {
    if exponent < 0 {
        return match base {
            1 => 1,
            -1 => 1 - 2 * (exponent & 1),
            _ => 0,
        };
    }
    let (bits, signed) = (kind.dtype().bits() as u32, kind.dtype().is_signed_int());
    let (mut square, mut product) = (base, 1);
    for bit in 0..64 {
        if exponent >> bit & 1 != 0 {
            product = wrap(wrap(product, bits, signed).wrapping_mul(square), bits, signed);
        }
        square = wrap(square.wrapping_mul(square), bits, signed);
    }
    product
}

fn float(opcode: Opcode, a: f64, b: f64, c: f64, kind: Kind) -> f64 {
    match opcode {
        Opcode::Neg => -a,
        Opcode::Abs => a.abs(),
        Opcode::Sign => {
            if a == 0.0 || a.is_nan() {
                a
            } else {
                a.signum()
            }
        }
        Opcode::Sqrt => a.sqrt(),
        Opcode::Floor => a.floor(),
        Opcode::Ceil => a.ceil(),
        Opcode::Round => a.round_ties_even(),
        Opcode::Exp => a.exp(),
        Opcode::ExpM1 => a.exp_m1(),
        Opcode::Log => a.ln(),
        Opcode::Log1p => a.ln_1p(),
        Opcode::Sigmoid => 1.0 / (1.0 + (-a).exp()),
        Opcode::Tanh => a.tanh(),
        Opcode::Erf => libm::erf(a),
        Opcode::Softplus => {
            if a > 0.0 {
                a + (-a).exp().ln_1p()
            } else {
                a.exp().ln_1p()
            }
        }
        Opcode::Sin => a.sin(),
        Opcode::Cos => a.cos(),
        Opcode::Tan => a.tan(),
        Opcode::Asin => a.asin(),
        Opcode::Acos => a.acos(),
        Opcode::Atan => a.atan(),
        Opcode::Sinh => a.sinh(),
        Opcode::Cosh => a.cosh(),
        Opcode::Asinh => a.abs().asinh().copysign(a),
        Opcode::Acosh => a.acosh(),
        Opcode::Atanh => a.abs().atanh().copysign(a),
        Opcode::Add => a + b,
        Opcode::Sub => a - b,
        Opcode::Mul => a * b,
        Opcode::Div => a / b,
        Opcode::Rem => a % b,
        Opcode::Min | Opcode::Max if a.is_nan() || b.is_nan() => f64::NAN,
        Opcode::Min => {
            if a < b {
                a
            } else {
                b
            }
        }
        Opcode::Max => {
            if a > b {
                a
            } else {
                b
            }
        }
        Opcode::Pow => a.powf(b),
        Opcode::MulAdd if kind == Kind::F32 => (a as f32).mul_add(b as f32, c as f32).into(),
        Opcode::MulAdd => a.mul_add(b, c),
        other => panic!("{other} of floats"),
    }
}

fn int(opcode: Opcode, a: i128, b: i128, kind: Kind) -> i128 {
    let inside = (0..kind.dtype().bits() as i128).contains(&b);
    match opcode {
        Opcode::Neg => -a,
        Opcode::Abs => a.abs(),
        Opcode::Sign => a.signum(),
        Opcode::Not => !a,
        Opcode::Add => a + b,
        Opcode::Sub => a - b,
        Opcode::Mul => a.wrapping_mul(b),
        Opcode::Div => {
            if b == 0 {
                0
            } else {
                a / b
            }
        }
        Opcode::Rem => {
            if b == 0 {
                0
            } else {
                a % b
            }
        }
        Opcode::Min => a.min(b),
        Opcode::Max => a.max(b),
        Opcode::Pow => power(a, b, kind),
        Opcode::And => a & b,
        Opcode::Or => a | b,
        Opcode::Xor => a ^ b,
        Opcode::Shl => {
            if inside {
                a << b
            } else {
                0
            }
        }
        Opcode::Shr => {
            if inside {
                a >> b
            } else {
                0
            }
        }
        other => panic!("{other} of integers"),
    }
}

fn convert(value: Value, to: Kind) -> Value {
    match (value, to) {
        (Float(v), Kind::F32) => Float((v as f32).into()),
        (Float(v), Kind::F64) => Float(v),
        (Float(v), Kind::I32) => Int((v as i32).into()),
        (Float(v), Kind::I64) => Int((v as i64).into()),
        (Float(v), Kind::U64) => Int((v as u64).into()),
        (Float(v), Kind::Bool) => Bool(v != 0.0),
        (Int(v), Kind::F32) => Float((v as f32).into()),
        (Int(v), Kind::F64) => Float(v as f64),
        (Int(v), Kind::Bool) => Bool(v != 0),
        (Int(v), _) => rounded(to, Int(v)),
        (Bool(v), Kind::F32 | Kind::F64) => Float(v.into()),
        (Bool(v), Kind::Bool) => Bool(v),
        (Bool(v), _) => Int(v.into()),
    }
}

fn evaluate(instruction: &Instruction, args: &[Value]) -> Value {
    let Instruction { opcode, kind, dtype, .. } = *instruction;
    if opcode.is_comparison() {
        let order = match (args[0], args[1]) {
            (Float(a), Float(b)) => a.partial_cmp(&b),
            (Int(a), Int(b)) => Some(a.cmp(&b)),
            (Bool(a), Bool(b)) => Some(a.cmp(&b)),
            other => panic!("{other:?}"),
        };
        return Bool(order.is_some_and(|order| match opcode {
            Opcode::Eq => order.is_eq(),
            Opcode::Lt => order.is_lt(),
            _ => order.is_le(),
        }));
    }
    let result = match (opcode, args) {
        (Opcode::Select, [Bool(condition), a, b]) => {
            if *condition {
                *a
            } else {
                *b
            }
        }
        (Opcode::Convert, [x]) => convert(*x, kind),
        (Opcode::Narrow, [x]) => held(dtype, *x),
        (Opcode::RoundToOdd, [Float(x)]) => {
            let nearest = *x as f32;
            let exact = f64::from(nearest) == *x || !x.is_finite();
            let down = f32::from_bits(nearest.to_bits() - u32::from(f64::from(nearest).abs() > x.abs()));
            Float(if exact { nearest.into() } else { f32::from_bits(down.to_bits() | 1).into() })
        }
        (Opcode::Not, [Bool(x)]) => Bool(!x),
        (Opcode::And, [Bool(a), Bool(b)]) => Bool(*a && *b),
        (Opcode::Or, [Bool(a), Bool(b)]) => Bool(*a || *b),
        (Opcode::Xor, [Bool(a), Bool(b)]) => Bool(a != b),
        (_, [Float(a)]) => Float(float(opcode, *a, 0.0, 0.0, kind)),
        (_, [Float(a), Float(b)]) => Float(float(opcode, *a, *b, 0.0, kind)),
        (_, [Float(a), Float(b), Float(c)]) => Float(float(opcode, *a, *b, *c, kind)),
        (_, [Int(a)]) => Int(int(opcode, *a, 0, kind)),
        (_, [Int(a), Int(b)]) => Int(int(opcode, *a, *b, kind)),
        other => panic!("{other:?}"),
    };
    rounded(kind, result)
}

/// A program in the making.
#[derive(Default)]
struct Program {
    instructions: Vec<Instruction>,
    constants: Vec<(Kind, Value)>,
    outputs: Vec<(usize, DType)>,
}

impl Program {
    fn push(
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

    fn input(&mut self, number: u32, dtype: DType) -> usize {
        let kind = Kind::of(dtype).expect("a kind");
        self.push(Opcode::Input, kind, kind, dtype, [number, 0, 0])
    }

    fn constant(&mut self, kind: Kind, value: Value) -> usize {
        self.constants.push((kind, value));
        self.push(Opcode::Constant, kind, kind, kind.dtype(), [self.constants.len() as u32 - 1, 0, 0])
    }

    /// An instruction of the kinds that its opcode has for these operands.
    fn call(&mut self, opcode: Opcode, args: &[usize]) -> usize {
        let operands = self.instructions[args[args.len() - 1]].kind;
        let kind = if opcode.is_comparison() { Kind::Bool } else { operands };
        let mut arguments = [0; 3];
        arguments.iter_mut().zip(args).for_each(|(slot, &register)| *slot = register as u32);
        self.push(opcode, kind, operands, kind.dtype(), arguments)
    }

    fn run(&self, inputs: &[Value]) -> Vec<Value> {
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

    fn code(&self, layout: &Layout) -> Code {
        let constants: Vec<u64> = self.constants.iter().map(|&(kind, value)| bits(kind, value)).collect();
        let source =
            Source { instructions: &self.instructions, constants: &constants, outputs: &self.outputs };
        Code::new(&source, layout).expect("a program that can be encoded")
    }
}

fn bits(kind: Kind, value: Value) -> u64 {
    let mut all = [0; 8];
    let bytes = bytes(kind.dtype(), value);
    all[..bytes.len()].copy_from_slice(&bytes);
    u64::from_le_bytes(all)
}

/// One input in memory.
struct Operand {
    dtype: DType,
    strides: Vec<u64>,
    /// The first element that is read.
    first: u64,
    values: Vec<Value>,
}

impl Operand {
    /// Values for a space of `extents`, of which the axes in `broadcast` are not the operand's own, behind a few that
    /// are not read.
    fn draw(r: &mut Random, dtype: DType, extents: &[u64], broadcast: u32) -> Self {
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

    fn at(&self, extents: &[u64], element: u64) -> Value {
        let (mut rest, mut index) = (element, self.first);
        for axis in (0..extents.len()).rev() {
            index += rest % extents[axis] * self.strides[axis];
            rest /= extents[axis];
        }
        self.values[index as usize]
    }
}

/// Runs a program on the emulator and compares every output; functions within `units` of the kind's ε.
fn check(program: &Program, extents: &[u64], operands: &[Operand], units: f64, forced: Option<&Variant>) {
    let mut lab = Lab::new();
    let described: Vec<(DType, &[u64], u64)> =
        operands.iter().map(|o| (o.dtype, o.strides.as_slice(), o.first)).collect();
    let code = program.code(&Layout::new(extents, &described).expect("a layout"));
    let upload = |lab: &mut Lab, operand: &Operand| {
        let all: Vec<u8> = operand.values.iter().flat_map(|&value| bytes(operand.dtype, value)).collect();
        lab.upload("input", &all)
    };
    let inputs: Vec<Buffer> = operands.iter().map(|operand| upload(&mut lab, operand)).collect();
    let count: u64 = extents.iter().product();
    let width = |dtype: DType| dtype.bits() as u64 / 8;
    let outputs: Vec<Buffer> =
        program.outputs.iter().map(|&(_, dtype)| lab.room("output", count * width(dtype))).collect();
    let buffers = Buffers { code: lab.upload("code", &code.bytes()), inputs: &inputs, outputs: &outputs };
    let variant = forced.unwrap_or_else(|| choose(&code).expect("a variant"));
    lab.run(&variant.prepare(&code, &buffers, &DEVICE).expect("a launch"));
    let got: Vec<Vec<u8>> = outputs.iter().map(|&output| lab.bytes(output)).collect();
    for element in 0..count {
        let values: Vec<Value> = operands.iter().map(|operand| operand.at(extents, element)).collect();
        for (k, want) in program.run(&values).into_iter().enumerate() {
            let dtype = program.outputs[k].1;
            let size = width(dtype) as usize;
            let got = parse(dtype, &got[k][element as usize * size..][..size]);
            assert!(
                near(dtype, got, want, units),
                "{} {:?} of {values:?}: {got:?} instead of {want:?}",
                variant.id,
                program.instructions
            );
        }
    }
}

fn near(dtype: DType, got: Value, want: Value, units: f64) -> bool {
    let (Float(got), Float(want)) = (got, want) else { return got == want };
    let ulp = match dtype {
        DType::F64 => f64::EPSILON,
        DType::F16 => 1.0 / 1024.0,
        DType::BF16 => 1.0 / 128.0,
        _ => f32::EPSILON.into(),
    };
    if got == want || (got.is_nan() && want.is_nan()) {
        return got != 0.0 || units > 0.0 || got.is_sign_negative() == want.is_sign_negative();
    }
    (got - want).abs() <= units * ulp * want.abs() + units / 4.0 * ulp * f64::from(u8::from(units > 0.0))
}

/// How close an opcode comes: those that IEEE 754 defines are exact.
fn units(opcode: Opcode) -> f64 {
    if opcode.is_function() || opcode == Opcode::Pow { 8.0 } else { 0.0 }
}

#[test]
fn codes_name_what_they_are_made_of() {
    for opcode in Opcode::ALL {
        assert_eq!(Opcode::from_code(opcode as u32), opcode);
    }
    for kind in KINDS {
        assert_eq!(Kind::from_code(kind as u32), kind);
    }
    for dtype in DTYPES {
        assert_eq!(DType::from_code(dtype as u32), dtype);
    }
}

#[test]
fn every_opcode_is_that_of_the_definition() {
    let mut r = Random::new(3);
    for opcode in Opcode::ALL {
        if matches!(
            opcode,
            Opcode::Input | Opcode::Constant | Opcode::Convert | Opcode::Narrow | Opcode::Select
        ) {
            continue;
        }
        let computed = |&kind: &Kind| opcode.takes(kind) && is_computed(opcode, kind);
        for kind in KINDS.into_iter().filter(computed) {
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
            let operands: Vec<Operand> =
                args.iter().map(|_| Operand::draw(&mut r, dtype, &[203], 0)).collect();
            check(&program, &[203], &operands, units(opcode), None);
        }
    }
}

#[test]
fn kinds_and_types_convert_as_defined() {
    let mut r = Random::new(4);
    for from in DTYPES {
        for to in KINDS {
            let mut program = Program::default();
            let mut x = program.input(0, from);
            let kind = program.instructions[x].kind;
            if kind != to {
                x = program.push(Opcode::Convert, to, kind, to.dtype(), [x as u32, 0, 0]);
            }
            for dtype in DTYPES.into_iter().filter(|&dtype| Kind::of(dtype) == Some(to)) {
                program.outputs.push((x, dtype));
            }
            // Four at a time: more outputs than a launch has.
            let all = std::mem::take(&mut program.outputs);
            let operands = [Operand::draw(&mut r, from, &[61], 0)];
            for some in all.chunks(super::MOST_OUTPUTS) {
                program.outputs = some.to_vec();
                check(&program, &[61], &operands, 0.0, None);
            }
        }
    }
}

/// A random program of instructions that are exact, over inputs of random types.
fn random_program(r: &mut Random, inputs: u32, narrow: bool) -> (Program, Vec<DType>) {
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
            r.pick([DType::F32, DType::F16, DType::BF16, DType::I8, DType::I32, DType::U16, DType::Bool])
        } else {
            r.pick(DTYPES)
        };
        dtypes.push(dtype);
        program.input(number, dtype);
    }
    for _ in 0..r.within(1..=24) {
        let x = r.next() as usize % program.instructions.len();
        let kind = program.instructions[x].kind;
        let like: Vec<usize> =
            (0..program.instructions.len()).filter(|&i| program.instructions[i].kind == kind).collect();
        let other = |r: &mut Random| like[r.next() as usize % like.len()];
        let opcode = r.pick(OPCODES);
        let choice = r.within(0..=9);
        if choice < 2 {
            let dtype = kind.dtype();
            let value = draw(r, dtype);
            program.constant(kind, value);
        } else if choice < 4 {
            let to = if narrow { r.pick([Kind::F32, Kind::I32, Kind::Bool]) } else { r.pick(KINDS) };
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
        let register = program.instructions.len() - 1 - r.next() as usize % program.instructions.len().min(4);
        let kind = program.instructions[register].kind;
        let fitting: Vec<DType> = DTYPES.into_iter().filter(|&d| Kind::of(d) == Some(kind)).collect();
        program.outputs.push((register, fitting[r.next() as usize % fitting.len()]));
    }
    (program, dtypes)
}

#[test]
fn random_programs_over_broadcast_operands_are_exact() {
    let mut r = Random::new(7);
    for case in 0..80 {
        let inputs = r.within(1..=5);
        let (program, dtypes) = random_program(&mut r, inputs, case % 2 == 0);
        let rank = r.within(1..=5) as usize;
        let extents: Vec<u64> = (0..rank).map(|_| r.edge(&[1, 2, 3, 4, 8], 1..=9).into()).collect();
        let operands: Vec<Operand> = dtypes
            .iter()
            .map(|&dtype| {
                let some = r.next() as u32;
                let broadcast = r.pick([0, 0, u32::MAX, some, some >> 8]);
                Operand::draw(&mut r, dtype, &extents, broadcast)
            })
            .collect();
        check(&program, &extents, &operands, 0.0, None);
    }
}

#[test]
fn more_elements_than_threads_are_taken_in_turns() {
    let mut program = Program::default();
    let x = program.input(0, DType::F32);
    let y = program.call(Opcode::Add, &[x, x]);
    program.outputs.push((y, DType::F32));
    let mut r = Random::new(8);
    // 4 multiprocessors have 32 blocks of 512 elements each.
    let count = 4 * 32 * 512 + 777;
    let operands = [Operand::draw(&mut r, DType::F32, &[count], 0)];
    check(&program, &[count], &operands, 0.0, None);
}

#[test]
fn variants_can_be_forced_and_refuse_what_they_do_not_compute() {
    let mut program = Program::default();
    let x = program.input(0, DType::F32);
    let y = program.call(Opcode::Exp, &[x]);
    program.outputs.push((y, DType::F16));
    program.outputs.push((x, DType::F32));
    let operands = [Operand::draw(&mut Random::new(9), DType::F32, &[100], 0)];
    for id in ["map.narrow", "map.wide"] {
        check(&program, &[100], &operands, 8.0, Some(by_id(id).expect("a variant")));
    }
    let strides: &[u64] = &[1];
    let layout = Layout::new(&[100], &[(DType::F32, strides, 0)]).expect("a layout");
    let code = program.code(&layout);
    assert_eq!(choose(&code).expect("a variant").id, "map.narrow");
    let short = Buffer { address: 1 << 20, bytes: 8 };
    let buffers = Buffers { code: short, inputs: &[], outputs: &[] };
    let refused = choose(&code).expect("a variant").prepare(&code, &buffers, &DEVICE).err();
    assert!(matches!(refused, Some(Reject::Length { operand: "code", .. })));
    let good = Buffer { address: 1 << 20, bytes: 1 << 10 };
    let (output, other) =
        (Buffer { address: (1 << 20) + 512, bytes: 512 }, Buffer { address: 1 << 22, bytes: 512 });
    let buffers = Buffers { code: good, inputs: &[good], outputs: &[other, output] };
    let refused = choose(&code).expect("a variant").prepare(&code, &buffers, &DEVICE).err();
    assert_eq!(refused, Some(Reject::Unsupported { what: "an output that lies over an input" }));
    for (opcode, dtype) in [(Opcode::Sin, DType::F32), (Opcode::Pow, DType::F32), (Opcode::Exp, DType::F64)] {
        let mut program = Program::default();
        let x = program.input(0, dtype);
        let args = vec![x; opcode.arity()];
        let y = program.call(opcode, &args);
        program.outputs.push((y, dtype));
        let source =
            Source { instructions: &program.instructions, constants: &[], outputs: &program.outputs };
        let layout = Layout::new(&[100], &[(dtype, strides, 0)]).expect("a layout");
        let what = "a function that is not elementary";
        assert_eq!(Code::new(&source, &layout).err(), Some(Reject::Unsupported { what }));
    }
    let mut wide = Program::default();
    let x = wide.input(0, DType::I64);
    wide.outputs.push((x, DType::I64));
    let code = wide.code(&Layout::new(&[100], &[(DType::I64, strides, 0)]).expect("a layout"));
    let refused = by_id("map.narrow").expect("a variant").accepts(&code);
    assert_eq!(refused, Err(Reject::Unsupported { what: "a 64-bit register" }));
    // A sum of many inputs that are all read first needs many slots.
    let mut program = Program::default();
    let constants: Vec<usize> = (0..40).map(|i| program.constant(Kind::F32, Float(f64::from(i)))).collect();
    let x = program.input(0, DType::F32);
    let sum = constants.iter().fold(x, |sum, &k| program.call(Opcode::Add, &[sum, k]));
    program.outputs.push((sum, DType::F32));
    let refused = choose(&program.code(&layout)).err();
    assert!(matches!(refused, Some(Reject::Extent { name: "live registers", .. })), "{refused:?}");
}

#[test]
fn layouts_merge_axes_and_find_how_operands_lie() {
    let dense: &[u64] = &[12, 4, 1];
    let bias: &[u64] = &[0, 1, 0];
    let layout =
        Layout::new(&[2, 3, 4], &[(DType::F32, dense, 0), (DType::F32, dense, 0)]).expect("a layout");
    assert_eq!(layout.count(), 24);
    assert_eq!(layout.extents_word(), [24, 1, 1, 1]);
    let layout = Layout::new(&[2, 3, 4], &[(DType::F32, dense, 0), (DType::F32, bias, 0)]).expect("a layout");
    assert_eq!(
        layout.inputs.iter().map(|o| o.access).collect::<Vec<_>>(),
        [super::Access::Dense, super::Access::Row]
    );
    let many = Layout::new(&[1 << 20, 1 << 20], &[]);
    assert!(matches!(many, Err(Reject::Extent { name: "elements", .. })));
    let strides: &[u64] = &[0, 7, 0, 5, 0, 3, 0];
    let axes = Layout::new(&[2; 7], &[(DType::F32, strides, 0)]);
    assert_eq!(axes.err(), Some(Reject::Extent { name: "axes", got: 7, limit: 5 }));
}
