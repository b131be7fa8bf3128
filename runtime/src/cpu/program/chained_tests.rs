//! Chains against tiles, to the bit: random programs over rows of all lengths.

use super::map_kernel::MapKernel;
use super::space::Layout;
use crate::cpu::RunContext;
use crate::cpu::simd::Level;
use crate::dtype::DType;
use crate::exec::{Interrupt, Team};
use crate::loops::program::{Builder, Kind, Opcode, Program, Reg};
use crate::memory::{Budget, Buffer};
use crate::testing::Gen;
use smallvec::smallvec;

/// What chains have steps or loops for, of `f32` and truth values.
const NUMBERS: &[Opcode] = &[
    Opcode::Neg,
    Opcode::Abs,
    Opcode::Sqrt,
    Opcode::Floor,
    Opcode::Ceil,
    Opcode::Round,
    Opcode::Exp,
    Opcode::Tanh,
    Opcode::Sigmoid,
    Opcode::Erf,
    Opcode::Add,
    Opcode::Sub,
    Opcode::Mul,
    Opcode::Div,
    Opcode::Min,
    Opcode::Max,
    Opcode::Eq,
    Opcode::Lt,
    Opcode::Le,
    Opcode::Select,
    Opcode::MulAdd,
];
const TRUTHS: &[Opcode] = &[Opcode::Not, Opcode::And, Opcode::Or, Opcode::Xor];

fn program(g: &mut Gen, inputs: usize) -> Program {
    let mut b = Builder::new(&vec![DType::F32; inputs]);
    let mut numbers: Vec<Reg> = (0..inputs).map(|k| b.input(k)).collect();
    let mut truths: Vec<Reg> = Vec::new();
    numbers.push(b.constant(Kind::F32, *g.pick(&[0.0, 1.0, -2.5, f64::NAN])));
    for _ in 0..g.size(1, 24) {
        // Mostly what was made last, as in chains.
        let pick = |g: &mut Gen, of: &[Reg]| if g.chance(0.6) { of[of.len() - 1] } else { *g.pick(of) };
        if !truths.is_empty() && g.chance(0.2) {
            let (opcode, a, c) = (*g.pick(TRUTHS), pick(g, &truths), pick(g, &truths));
            truths.push(if opcode == Opcode::Not { b.unary(opcode, a) } else { b.binary(opcode, a, c) });
            continue;
        }
        let (a, c, d) = (pick(g, &numbers), pick(g, &numbers), pick(g, &numbers));
        match *g.pick(NUMBERS) {
            Opcode::Select => {
                if let Some(&condition) = truths.last() {
                    numbers.push(b.select(condition, a, c));
                }
            }
            Opcode::MulAdd => numbers.push(b.mul_add(a, c, d)),
            opcode @ (Opcode::Eq | Opcode::Lt | Opcode::Le) => truths.push(b.binary(opcode, a, c)),
            // Of a difference, tiles have another exponential.
            Opcode::Exp => {
                let negative = b.neg(a);
                numbers.push(b.exp(negative));
            }
            opcode if opcode.is_binary() => numbers.push(b.binary(opcode, a, c)),
            opcode => numbers.push(b.unary(opcode, a)),
        }
    }
    let outputs: Vec<(Reg, DType)> = (0..g.size(1, 3))
        .map(|k| (if k == 0 { numbers[numbers.len() - 1] } else { *g.pick(&numbers) }, DType::F32))
        .collect();
    b.finish(&outputs).expect("valid")
}

fn data(g: &mut Gen, count: usize) -> Buffer {
    let mut buffer = Buffer::zeroed(4 * count, &Budget::unlimited()).expect("memory");
    for cell in buffer.bytes_mut().chunks_exact_mut(4) {
        let special = [0.0, -0.0, 1e9, -1e30, f64::INFINITY, f64::NAN];
        let value = if g.chance(0.1) { *g.pick(&special) } else { g.float(-6.0, 6.0) };
        cell.copy_from_slice(&(value as f32).to_ne_bytes());
    }
    buffer
}

fn run(
    kernel: &MapKernel,
    inputs: &[&[u8]],
    outputs: usize,
    count: usize,
    context: RunContext<'_>,
) -> Vec<Buffer> {
    let memory = |bytes| Buffer::zeroed(bytes, &Budget::unlimited()).expect("memory");
    let mut got: Vec<Buffer> = (0..outputs).map(|_| memory(4 * count)).collect();
    let mut scratch = memory(kernel.scratch());
    let places = got.iter_mut().map(Buffer::bytes_mut).collect();
    kernel.run(inputs, places, scratch.bytes_mut(), context).expect("runs");
    got
}

#[test]
fn chains_are_what_tiles_are() {
    let seeds: u64 = std::env::var("RECURVE_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(400);
    let (team, interrupt, budget) = (Team::new(2, false), Interrupt::default(), Budget::unlimited());
    let context = RunContext { team: &team, interrupt: &interrupt, budget: &budget, times: None };
    let level = Level::detect();
    let mut chained = 0;
    for seed in 0..seeds {
        let mut g = Gen::new(seed);
        let inputs = g.size(1, 4);
        let program = program(&mut g, inputs);
        let [rows, inner] = [g.size(1, 4), *g.pick(&[512, 513, 639, 640, 700, 1023, 1024, 4096 + 17])];
        // Whole, a row for all rows, an element for each row, or one for all.
        let layouts: Vec<Layout> = (0..inputs)
            .map(|_| Layout {
                offset: g.size(0, 3),
                strides: g
                    .pick(&[
                        smallvec![inner, 1],
                        smallvec![inner, 1],
                        smallvec![0, 1],
                        smallvec![1, 0],
                        smallvec![0, 0],
                    ])
                    .clone(),
            })
            .collect();
        let inputs: Vec<Buffer> = (0..inputs).map(|_| data(&mut g, rows * inner + 4)).collect();
        let inputs: Vec<&[u8]> = inputs.iter().map(Buffer::bytes).collect();
        let make = || MapKernel::on(level, &program, &[rows, inner], &layouts, 2).expect("compiles");
        let outputs = program.outputs().len();
        let kernel = make().streamed(seed % 3 == 0);
        chained += u64::from(kernel.is_chained());
        let got = run(&kernel, &inputs, outputs, rows * inner, context);
        let want = run(&make().on_tiles(), &inputs, outputs, rows * inner, context);
        for (k, (got, want)) in got.iter().zip(&want).enumerate() {
            let (got, want): (&[f32], &[f32]) =
                (bytemuck::cast_slice(got.bytes()), bytemuck::cast_slice(want.bytes()));
            for (i, (got, want)) in got.iter().zip(want).enumerate() {
                let same = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
                assert!(
                    same,
                    "seed {seed}: output {k} at {i} of {rows}×{inner} is {got}, not {want}\n{program}{layouts:?}"
                );
            }
        }
    }
    // Not those that only move elements, are one step, or need too many places.
    assert!(level.name() != "AVX-512" || chained * 2 > seeds, "{chained} of {seeds} are chains");
}

/// A loop that could take in another one is itself taken in.
#[test]
fn an_error_function_of_a_scaled_difference_has_all_its_operands() {
    let mut b = Builder::new(&[DType::F32]);
    let x = b.input(0);
    let (mean, scale) = (b.constant(Kind::F32, 0.5), b.constant(Kind::F32, 0.25));
    let away = b.sub(x, mean);
    let scaled = b.mul(away, scale);
    let y = b.erf(scaled);
    let program = b.finish(&[(y, DType::F32)]).expect("valid");
    let (team, interrupt, budget) = (Team::new(1, false), Interrupt::default(), Budget::unlimited());
    let context = RunContext { team: &team, interrupt: &interrupt, budget: &budget, times: None };
    let layout = [Layout { offset: 0, strides: smallvec![1] }];
    let x = data(&mut Gen::new(5), 100);
    for level in Level::all() {
        let kernel = MapKernel::on(level, &program, &[100], &layout, 1).expect("compiles");
        let got = run(&kernel, &[x.bytes()], 1, 100, context);
        let (got, x): (&[f32], &[f32]) =
            (bytemuck::cast_slice(got[0].bytes()), bytemuck::cast_slice(x.bytes()));
        for (got, x) in got.iter().zip(x) {
            let want = libm::erf((f64::from(*x) - 0.5) * 0.25);
            assert!(
                (f64::from(*got) - want).abs() < 1e-6 || x.is_nan() && got.is_nan(),
                "{level:?}: {x}: {got}"
            );
        }
    }
}
