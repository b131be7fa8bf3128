//! What is refused, how operands are found to lie, and the codes of what programs are made of.

use super::{Buffers, Code, Layout, Source, VARIANTS};
use crate::cases::EMULATED;
use crate::dtype::DType;
use crate::launch::{Buffer, Launch as _, Reject, Variant as _};
use crate::program::{Instruction, Kind, Opcode};

#[test]
fn codes_name_what_they_are_made_of() {
    for opcode in Opcode::ALL {
        assert_eq!(Opcode::from_code(opcode as u32), opcode);
    }
    for kind in [Kind::F32, Kind::F64, Kind::I32, Kind::I64, Kind::U64, Kind::Bool] {
        assert_eq!(Kind::from_code(kind as u32), kind);
    }
    for dtype in [DType::F32, DType::BF16, DType::I8, DType::I64, DType::U16, DType::U64, DType::Bool] {
        assert_eq!(DType::from_code(dtype as u32), dtype);
    }
}

/// A program of one instruction of its inputs, all of one type, and what it makes.
fn one(opcode: Opcode, dtype: DType, results: &[DType]) -> Parts {
    let kind = Kind::of(dtype).expect("a kind");
    let instruction = |opcode, arguments| Instruction { opcode, kind, operands: kind, dtype, arguments };
    let instructions = vec![instruction(Opcode::Input, [0; 3]), instruction(opcode, [0; 3])];
    Parts { instructions, outputs: results.iter().map(|&result| (1, result)).collect() }
}

/// Instructions and outputs of a program without constants.
struct Parts {
    instructions: Vec<Instruction>,
    outputs: Vec<(usize, DType)>,
}

impl Parts {
    fn code(&self, layout: &Layout) -> Result<Code, Reject> {
        Code::new(
            &Source { instructions: &self.instructions, constants: &[0; 40], outputs: &self.outputs },
            layout,
        )
    }
}

/// A hundred elements of one operand, one after the other.
fn line(dtype: DType) -> Layout {
    let strides: &[u64] = &[1];
    Layout::new(&[100], &[(dtype, strides, 0)]).expect("a layout")
}

#[test]
fn what_a_variant_does_not_compute_is_refused() {
    let layout = line(DType::F32);
    let program = one(Opcode::Exp, DType::F32, &[DType::F16, DType::F32]);
    let code = program.code(&layout).expect("a program that can be encoded");
    let chosen = VARIANTS.choose(&code).expect("a variant");
    assert_eq!(chosen.id, "map.narrow");
    let short = Buffer { address: 1 << 20, bytes: 8 };
    let buffers = Buffers { code: short, inputs: &[], outputs: &[] };
    let refused = chosen.prepare(&code, &buffers, &EMULATED).err();
    assert!(matches!(refused, Some(Reject::Length { operand: "code", .. })));
    let good = Buffer { address: 1 << 20, bytes: 1 << 10 };
    let (output, other) =
        (Buffer { address: (1 << 20) + 512, bytes: 512 }, Buffer { address: 1 << 22, bytes: 512 });
    let buffers = Buffers { code: good, inputs: &[good], outputs: &[other, output] };
    let refused = chosen.prepare(&code, &buffers, &EMULATED).err();
    assert_eq!(refused, Some(Reject::Unsupported { what: "an output that lies over an input" }));
    // Behind sums only the common ones, and none of f64.
    for (opcode, taken) in [(Opcode::Tanh, true), (Opcode::Sin, false), (Opcode::Pow, false)] {
        let code = one(opcode, DType::F32, &[DType::F32]).code(&layout).expect("a program");
        assert_eq!(code.accepts_sums().is_ok(), taken, "{opcode}");
    }
    let double = Reject::Function { function: Opcode::Exp, of: Kind::F64 };
    assert_eq!(double.to_string(), "exp of f64 is not computed");
    let wide = one(Opcode::Neg, DType::I64, &[DType::I64]).code(&line(DType::I64));
    let refused = VARIANTS.by_id("map.narrow").expect("a variant").accepts(&wide.expect("a program"));
    assert_eq!(refused, Err(Reject::Unsupported { what: "a 64-bit register" }));
    // A sum of many constants that are all made first needs many slots.
    let mut program = one(Opcode::Neg, DType::F32, &[]);
    let like = program.instructions[1];
    let made = |opcode, arguments| Instruction { opcode, arguments, ..like };
    program.instructions.extend((0..40).map(|i| made(Opcode::Constant, [i, 0, 0])));
    for i in 0..40 {
        let before = if i == 0 { 1 } else { 41 + i };
        program.instructions.push(made(Opcode::Add, [before, 2 + i, 0]));
    }
    program.outputs.push((program.instructions.len() - 1, DType::F32));
    let refused = VARIANTS.choose(&program.code(&layout).expect("a program")).err();
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
        [super::interpreter::Access::Dense, super::interpreter::Access::Row]
    );
    let many = Layout::new(&[1 << 20, 1 << 20], &[]);
    assert!(matches!(many, Err(Reject::Extent { name: "elements", .. })));
    let strides: &[u64] = &[0, 7, 0, 5, 0, 3, 0];
    let axes = Layout::new(&[2; 7], &[(DType::F32, strides, 0)]);
    assert_eq!(axes.err(), Some(Reject::Extent { name: "axes", got: 7, limit: 5 }));
}

#[test]
fn a_launch_takes_no_more_multiprocessors_than_it_is_given() {
    let strides: &[u64] = &[1];
    let layout = Layout::new(&[1 << 20], &[(DType::F32, strides, 0)]).expect("a layout");
    let code = one(Opcode::Exp, DType::F32, &[DType::F32]).code(&layout).expect("a program");
    let (x, y) = (Buffer { address: 1 << 24, bytes: 1 << 22 }, Buffer { address: 1 << 25, bytes: 1 << 22 });
    let memory = Buffer { address: 1 << 20, bytes: 1 << 10 };
    let buffers = Buffers { code: memory, inputs: &[x], outputs: &[y] };
    let on = |device| {
        let launch = VARIANTS.choose(&code).and_then(|variant| variant.prepare(&code, &buffers, &device));
        let launch = launch.expect("a launch");
        (launch.geometry().blocks(), launch.multiprocessors())
    };
    assert_eq!(on(EMULATED), (32 * 4, 4));
    assert_eq!(on(EMULATED.within(1)), (32, 1));
    assert_eq!(on(EMULATED.within(0)), (32, 1));
}
