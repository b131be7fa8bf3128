//! Map programs over 256 MB: what interpreting costs beside a copy.

use super::bench::{Bench, Fault};
use recurve_kernels::cases::encode;
use recurve_kernels::dtype::DType;
use recurve_kernels::element::Element;
use recurve_kernels::launch::{Buffer, Launch};
use recurve_kernels::map::{Buffers, Code, Layout, Source, VARIANTS};
use recurve_kernels::program::{Instruction, Kind, Opcode};
use std::sync::Arc;

/// A program of f32 registers in the making.
#[derive(Default)]
struct Program(Vec<Instruction>);

impl Program {
    fn push(&mut self, opcode: Opcode, dtype: DType, arguments: [u32; 3]) -> u32 {
        let kind = Kind::F32;
        self.0.push(Instruction { opcode, kind, operands: kind, dtype, arguments });
        self.0.len() as u32 - 1
    }

    fn input(&mut self, number: u32, dtype: DType) -> u32 {
        self.push(Opcode::Input, dtype, [number, 0, 0])
    }

    fn call(&mut self, opcode: Opcode, arguments: &[u32]) -> u32 {
        let mut all = [0; 3];
        all.iter_mut().zip(arguments).for_each(|(slot, &register)| *slot = register);
        self.push(opcode, DType::F32, all)
    }
}

/// `|x|`, `a + b`, a row added, eight exact instructions, and three functions.
pub(super) fn maps(bench: &mut Bench) -> Result<(), Fault> {
    let bytes = bench.size(256 << 20, 64 << 10);
    one(bench, "|x|", DType::F32, bytes, &[false], |p, x| p.call(Opcode::Abs, &[x[0]]))?;
    one(bench, "|x|", DType::F16, bytes, &[false], |p, x| p.call(Opcode::Abs, &[x[0]]))?;
    one(bench, "a + b", DType::F32, bytes, &[false, false], |p, x| p.call(Opcode::Add, x))?;
    one(bench, "a + row", DType::F32, bytes, &[false, true], |p, x| p.call(Opcode::Add, x))?;
    one(bench, "eight instructions", DType::F32, bytes, &[false, true], |p, x| {
        let mut y = x[0];
        for _ in 0..4 {
            let product = p.call(Opcode::Mul, &[y, x[1]]);
            y = p.call(Opcode::Max, &[product, x[0]]);
        }
        y
    })?;
    one(bench, "sigmoid · tanh", DType::F32, bytes, &[false], |p, x| {
        let (s, t) = (p.call(Opcode::Sigmoid, x), p.call(Opcode::Tanh, x));
        p.call(Opcode::Mul, &[s, t])
    })
}

/// `broadcast`: for each input whether it is a row of 1024 elements.
fn one(
    bench: &mut Bench,
    name: &str,
    dtype: DType,
    bytes: u64,
    broadcast: &[bool],
    make: impl Fn(&mut Program, &[u32]) -> u32,
) -> Result<(), Fault> {
    let (element, width) = if dtype == DType::F16 { (Element::F16, 2) } else { (Element::F32, 4) };
    let (columns, count) = (1024, bytes / width);
    let rows = count / columns;
    let mut program = Program::default();
    let registers: Vec<u32> = (0..broadcast.len() as u32).map(|k| program.input(k, dtype)).collect();
    let y = make(&mut program, &registers);
    let (dense, row): (&[u64], &[u64]) = (&[columns, 1], &[0, 1]);
    let described: Vec<(DType, &[u64], u64)> =
        broadcast.iter().map(|&row_only| (dtype, if row_only { row } else { dense }, 0)).collect();
    let layout = Layout::new(&[rows, columns], &described)?;
    let outputs = [(y as usize, dtype)];
    let code = Code::new(&Source { instructions: &program.0, constants: &[], outputs: &outputs }, &layout)?;
    let pattern = encode(element, &[0.5, -0.25, 1.5, -2.0]);
    let mut inputs: Vec<Buffer> = Vec::new();
    let mut moved = bytes;
    for &row_only in broadcast {
        let bytes = if row_only { columns * width } else { bytes };
        moved += bytes;
        inputs.push(bench.filled(bytes, &pattern)?);
    }
    let output = [bench.room(bytes)?];
    let code_bytes = bench.upload(&code.bytes())?;
    let buffers = Buffers { code: code_bytes, inputs: &inputs, outputs: &output };
    let limits = bench.gpu.limits();
    let launch: Arc<dyn Launch> = Arc::new(VARIANTS.choose(&code)?.prepare(&code, &buffers, &limits)?);
    let seconds = bench.of_graph(&[launch], 4)?;
    bench.note_bandwidth(format!("map {name}, {element:?}, {} MB", bytes / 1_000_000), moved, seconds);
    Ok(())
}
