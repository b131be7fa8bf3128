//! Random programs against the interpreter, on every instruction set.

use super::map_kernel::MapKernel;
use super::space::Layout;
use super::{Epilogue, Reach};
use crate::cpu::RunContext;
use crate::cpu::simd::Level;
use crate::dtype::{DType, NUMBERS_AND_BOOL};
use crate::exec::{Interrupt, Team};
use crate::loops::program::{Builder, Kind, Opcode, Program, Reg, Value, interpret, read, write};
use crate::memory::{Budget, Buffer};
use crate::testing::Gen;

/// Instructions whose results the interpreter and the loops agree on to the bit.
const EXACT: &[Opcode] = &[
    Opcode::Narrow,
    Opcode::Convert,
    Opcode::Neg,
    Opcode::Abs,
    Opcode::Sign,
    Opcode::Not,
    Opcode::Sqrt,
    Opcode::Floor,
    Opcode::Ceil,
    Opcode::Round,
    Opcode::Add,
    Opcode::Sub,
    Opcode::Mul,
    Opcode::Div,
    Opcode::Rem,
    Opcode::Min,
    Opcode::Max,
    Opcode::Pow,
    Opcode::And,
    Opcode::Or,
    Opcode::Xor,
    Opcode::Shl,
    Opcode::Shr,
    Opcode::Eq,
    Opcode::Lt,
    Opcode::Le,
    Opcode::Select,
];

const KINDS: [Kind; 6] = [Kind::F32, Kind::F64, Kind::I32, Kind::I64, Kind::U64, Kind::Bool];

fn of_kind(g: &mut Gen, builder: &Builder, registers: &[Reg], kind: Kind) -> Option<Reg> {
    let fitting: Vec<Reg> = registers.iter().copied().filter(|&r| builder.kind(r) == kind).collect();
    (!fitting.is_empty()).then(|| *g.pick(&fitting))
}

fn stored_as(g: &mut Gen, kind: Kind) -> DType {
    let fitting: Vec<DType> =
        NUMBERS_AND_BOOL.iter().copied().filter(|&d| Kind::of(d) == Some(kind)).collect();
    *g.pick(&fitting)
}

/// Adds a random instruction, if its operands are there.
fn push(g: &mut Gen, builder: &mut Builder, registers: &[Reg]) -> Option<Reg> {
    let opcode = *g.pick(EXACT);
    let a = *g.pick(registers);
    let kind = builder.kind(a);
    if !opcode.takes(kind) || (opcode == Opcode::Pow && kind.is_float()) {
        return None;
    }
    Some(match opcode {
        Opcode::Narrow => {
            let dtype = stored_as(g, kind);
            builder.narrow(a, dtype)
        }
        Opcode::Convert => builder.convert(a, *g.pick(&KINDS)),
        Opcode::Select => {
            let condition = of_kind(g, builder, registers, Kind::Bool)?;
            let b = of_kind(g, builder, registers, kind)?;
            builder.select(condition, a, b)
        }
        _ if opcode.is_binary() => {
            let b = of_kind(g, builder, registers, kind)?;
            builder.binary(opcode, a, b)
        }
        _ => builder.unary(opcode, a),
    })
}

fn program(g: &mut Gen) -> Program {
    let inputs: Vec<DType> = (0..g.size(0, 4)).map(|_| *g.pick(NUMBERS_AND_BOOL)).collect();
    let mut builder = Builder::new(&inputs);
    let mut registers: Vec<Reg> = (0..inputs.len()).map(|k| builder.input(k)).collect();
    for _ in 0..g.size(1, 3) {
        let kind = *g.pick(&KINDS);
        let value = *g.pick(&[0.0, 1.0, -1.0, 2.5, -3.0, 40.0, 1e10, f64::NAN]);
        registers.push(builder.constant(kind, value));
    }
    for _ in 0..g.size(0, 20) {
        if let Some(made) = push(g, &mut builder, &registers) {
            registers.push(made);
        }
    }
    let outputs: Vec<(Reg, DType)> = (0..g.size(1, 3))
        .map(|_| {
            let register = if g.chance(0.5) { registers[registers.len() - 1] } else { *g.pick(&registers) };
            (register, stored_as(g, builder.kind(register)))
        })
        .collect();
    builder.finish(&outputs).expect("valid")
}

/// Random bytes of `count` elements, mostly small numbers.
fn data(g: &mut Gen, dtype: DType, count: usize) -> Buffer {
    let width = dtype.bits() / 8;
    let mut buffer = Buffer::zeroed(count * width, &Budget::unlimited()).expect("memory");
    for i in 0..count {
        let value = match Kind::of(dtype).expect("computable") {
            Kind::Bool => Value::Bool(g.chance(0.5)),
            kind if kind.is_float() => {
                let special =
                    [0.0, -0.0, 1.0, -1.0, 0.5, 1e9, -1e30, f64::INFINITY, -f64::INFINITY, f64::NAN];
                Value::Float(if g.chance(0.2) { *g.pick(&special) } else { g.float(-10.0, 10.0) }).to(kind)
            }
            _ if g.chance(0.5) => Value::Int(g.int(-5, 70).into()),
            _ => Value::Int(g.bits().into()),
        };
        write(dtype, buffer.bytes_mut(), i, value);
    }
    buffer
}

/// A shape, and how one input may lie under it.
fn layout(g: &mut Gen, shape: &[usize]) -> Layout {
    let mut strides = smallvec::SmallVec::from_elem(0, shape.len());
    let order: Vec<usize> =
        if g.chance(0.7) { (0..shape.len()).collect() } else { g.permutation(shape.len()) };
    let mut reach = if g.chance(0.8) { 1 } else { 2 };
    for &axis in order.iter().rev() {
        if g.chance(0.75) {
            strides[axis] = reach;
            reach *= shape[axis].max(1);
        }
    }
    Layout { offset: if g.chance(0.8) { 0 } else { g.size(1, 5) }, strides }
}

fn shape(g: &mut Gen) -> Vec<usize> {
    if g.chance(0.3) {
        let edge =
            *g.pick(&[0, 1, 2, 63, 64, 65, 127, 128, 129, 255, 256, 257, 511, 512, 513, 1023, 1024, 1025]);
        return if g.chance(0.5) { vec![edge] } else { vec![g.size(1, 3), edge] };
    }
    if g.chance(0.03) {
        return vec![3, 16_411];
    }
    let rank = g.size(0, 4);
    (0..rank).map(|_| *g.pick(&[1, 2, 3, 5, 8, 17])).collect()
}

#[test]
fn random_programs_are_what_the_interpreter_says() {
    let seeds: u64 = std::env::var("RECURVE_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(400);
    let (team, interrupt, budget) = (Team::new(3, false), Interrupt::default(), Budget::unlimited());
    let context = RunContext { team: &team, interrupt: &interrupt, budget: &budget, times: None };
    for seed in 0..seeds {
        let mut g = Gen::new(seed);
        let (program, shape) = (program(&mut g), shape(&mut g));
        let count: usize = shape.iter().product();
        let layouts: Vec<Layout> = program.inputs().iter().map(|_| layout(&mut g, &shape)).collect();
        let reach = |l: &Layout| {
            l.offset + shape.iter().zip(&l.strides).map(|(d, s)| d.max(&1).abs_diff(1) * s).sum::<usize>() + 1
        };
        let inputs: Vec<Buffer> =
            program.inputs().iter().zip(&layouts).map(|(&dtype, l)| data(&mut g, dtype, reach(l))).collect();
        let inputs: Vec<&[u8]> = inputs.iter().map(Buffer::bytes).collect();
        let mut want: Vec<Buffer> = program
            .outputs()
            .iter()
            .map(|o| Buffer::zeroed(count * o.dtype.bits() / 8, &budget).expect("memory"))
            .collect();
        for position in 0..count {
            let mut rest = position;
            let index: Vec<usize> = shape.iter().rev().map(|d| (rest % d, rest /= d).0).collect();
            let at =
                |l: &Layout| l.offset + index.iter().rev().zip(&l.strides).map(|(i, s)| i * s).sum::<usize>();
            let elements: Vec<Value> = inputs
                .iter()
                .zip(program.inputs().iter().zip(&layouts))
                .map(|(bytes, (&dtype, l))| read(dtype, bytes, at(l)))
                .collect();
            for ((value, output), bytes) in
                interpret(&program, &elements).into_iter().zip(program.outputs()).zip(&mut want)
            {
                write(output.dtype, bytes.bytes_mut(), position, value);
            }
        }
        for level in Level::all() {
            let kernel = MapKernel::on(level, &program, &shape, &layouts, 3).expect("compiles");
            let kernel = kernel.streamed(seed % 4 == 0);
            let mut got: Vec<Buffer> =
                want.iter().map(|b| Buffer::zeroed(b.bytes().len(), &budget).expect("memory")).collect();
            let mut scratch = Buffer::zeroed(kernel.scratch(), &budget).expect("memory");
            let outputs = got.iter_mut().map(Buffer::bytes_mut).collect();
            kernel.run(&inputs, outputs, scratch.bytes_mut(), context).expect("runs");
            for (k, (got, want)) in got.iter().zip(&want).enumerate() {
                let dtype = program.outputs()[k].dtype;
                for i in 0..count {
                    let (got, want) = (read(dtype, got.bytes(), i), read(dtype, want.bytes(), i));
                    let both_nan =
                        matches!((got, want), (Value::Float(a), Value::Float(b)) if a.is_nan() && b.is_nan());
                    assert!(
                        got == want || both_nan,
                        "seed {seed}, {level:?}: output {k} at {i} of {shape:?} is {got:?} instead of {want:?}\n{program}{layouts:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn programs_are_simplified_and_shown() {
    let mut b = Builder::new(&[DType::F32, DType::F16]);
    let (x, y) = (b.input(0), b.input(1));
    let two = b.constant(Kind::F32, 2.0);
    let half = b.recip(two);
    let unused = b.exp(y);
    let _ = b.log(unused);
    let (first, second) = (b.mul(x, half), b.mul(half, x));
    assert_eq!(first, second);
    let rounded = b.narrow(first, DType::F16);
    let sum = b.add(rounded, y);
    let sum = b.narrow(sum, DType::F16);
    let program = b.finish(&[(sum, DType::F16)]).expect("valid");
    let want = "%0 = input 1 float16 : f32\n%1 = input 0 float32 : f32\n%2 = constant 0.5 : f32\n\
                %3 = mul %1 %2 : f32\n%4 = narrow %3 float16 : f32\n%5 = add %0 %4 : f32\n\
                output 0 = %5 : float16\n";
    assert_eq!(program.to_string(), want);
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let mut b = Builder::new(&[DType::F32, DType::I64]);
    let (x, n) = (b.input(0), b.input(1));
    let sum = b.add(x, n);
    assert!(b.finish(&[(sum, DType::F32)]).is_err());
    let mut b = Builder::new(&[DType::Bool]);
    let x = b.input(0);
    let y = b.exp(x);
    assert!(b.finish(&[(y, DType::Bool)]).is_err());
    let mut b = Builder::new(&[DType::I8]);
    let x = b.input(0);
    assert!(b.finish(&[(x, DType::F32)]).is_err());
    assert!(Builder::new(&[DType::String]).finish(&[]).is_err());
}

#[test]
fn epilogues_read_rows_and_columns() {
    let mut b = Builder::new(&[DType::F32, DType::F32, DType::BF16]);
    let (x, row, column) = (b.input(0), b.input(1), b.input(2));
    let scaled = b.mul(x, row);
    let sum = b.add(scaled, column);
    let zero = b.constant(Kind::F32, 0.0);
    let y = b.max(sum, zero);
    let program = b.finish(&[(y, DType::F32)]).expect("valid");
    let epilogue = Epilogue::new(&program, &[Reach::Run, Reach::One, Reach::Run]).expect("compiles");
    let mut scratch = Buffer::zeroed(epilogue.scratch(), &Budget::unlimited()).expect("memory");
    epilogue.prepare(scratch.bytes_mut());
    let mut g = Gen::new(1);
    for len in [0, 1, 5, 1024, 2500] {
        let (x, row) = (data(&mut g, DType::F32, len), data(&mut g, DType::F32, 1));
        let column = data(&mut g, DType::BF16, len);
        let inputs = [x.bytes(), row.bytes(), column.bytes()];
        let mut y = Buffer::zeroed(len * 4, &Budget::unlimited()).expect("memory");
        epilogue.apply_tile(len, &inputs, &mut [y.bytes_mut()], scratch.bytes_mut()).expect("runs");
        for i in 0..len {
            let elements = [
                read(DType::F32, inputs[0], i),
                read(DType::F32, inputs[1], 0),
                read(DType::BF16, inputs[2], i),
            ];
            let (Value::Float(got), Value::Float(want)) =
                (read(DType::F32, y.bytes(), i), interpret(&program, &elements)[0])
            else {
                panic!("floats")
            };
            assert!(got == want || (got.is_nan() && want.is_nan()), "{i}: {got} {want}");
        }
        assert!(epilogue.apply_tile(len + 1, &inputs, &mut [y.bytes_mut()], scratch.bytes_mut()).is_err());
    }
}
