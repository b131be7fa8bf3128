//! Random uses of Attention and FlexAttention.

use super::bodies::BodyBuilder;
use super::case::Case;
use super::gen_case::Gen;
use crate::dtype::{DType, FLOATS};
use crate::ops::attributes::Attribute;
use crate::reference::{RefData, RefTensor};
use crate::tensor::Tensor;

/// Draws a use of any form and version.
pub(crate) fn case(g: &mut Gen) -> Case {
    let opset = g.int(23, 25);
    let (dtype, value_dtype) = (*g.pick(FLOATS), *g.pick(FLOATS));
    let value_dtype = if g.chance(0.85) { dtype } else { value_dtype };
    let (kv_heads, group) = (g.size(1, 3), g.size(1, 3));
    let heads = kv_heads * group;
    let batch = if g.chance(0.05) { 0 } else { g.size(1, 3) };
    // Now and then more queries than a tile has, and more keys than a block.
    let queries = if g.chance(0.03) { g.size(60, 140) } else { g.extent() };
    let keys = if g.chance(0.03) { g.size(200, 600) } else { g.extent() };
    let (width, value_width) = (g.positive_extent(), g.extent());
    let value_width = if g.chance(0.5) { width } else { value_width };
    let packed = g.chance(0.4);
    let operand = |g: &mut Gen, dtype, heads: usize, rows: usize, width: usize| {
        let shape = if packed { vec![batch, rows, heads * width] } else { vec![batch, heads, rows, width] };
        g.tensor_in(dtype, &shape, -1.5, 1.5)
    };
    let mut case = Case::new([
        operand(g, dtype, heads, queries, width),
        operand(g, dtype, kv_heads, keys, width),
        operand(g, value_dtype, kv_heads, keys, value_width),
    ])
    .opset(opset)
    .outputs(g.size(1, 4));
    let cached = g.chance(0.4);
    let past = if cached { g.extent() } else { 0 };
    let lengths = !cached && opset >= 24 && g.chance(0.4);
    let mask = g.chance(0.6).then(|| mask(g, opset, dtype, [batch, heads, queries, past + keys]));
    let last = if lengths {
        6
    } else if cached {
        5
    } else {
        3
    };
    case = case.optional(mask);
    if last >= 5 {
        let mut past_of =
            |dtype, width| cached.then(|| g.tensor_in(dtype, &[batch, kv_heads, past, width], -1.5, 1.5));
        case = case.optional(past_of(dtype, width)).optional(past_of(value_dtype, value_width));
    }
    if lengths {
        let valid = (0..batch).map(|_| i128::from(g.int(0, keys as i64))).collect();
        case = case.optional(RefTensor::ints(DType::I64, &[batch], valid).to_tensor().ok());
    }
    if packed || g.chance(0.2) {
        case = case.int("q_num_heads", heads as i64).int("kv_num_heads", kv_heads as i64);
    }
    attributes(g, case, opset)
}

fn attributes(g: &mut Gen, mut case: Case, opset: i64) -> Case {
    if g.chance(0.5) {
        case = case.int("is_causal", g.int(0, 1));
    }
    if g.chance(0.3) {
        case = case.float("scale", *g.pick(&[0.25, 0.7, 1.0]));
    }
    if g.chance(0.3) {
        case = case.float("softcap", *g.pick(&[0.0, 0.5, 2.0, 30.0]));
    }
    if g.chance(0.3) {
        case = case.dtype("softmax_precision", *g.pick(FLOATS));
    }
    if g.chance(0.6) {
        case = case.int("qk_matmul_output_mode", g.int(0, 3));
    }
    if opset >= 25 {
        for name in ["left_window_size", "right_window_size"] {
            if g.chance(0.4) {
                case = case.int(name, g.int(-1, 6));
            }
        }
    }
    case
}

/// A mask that broadcasts to `scores`; some rows of it are all −∞ or false.
fn mask(g: &mut Gen, opset: i64, dtype: DType, scores: [usize; 4]) -> Tensor {
    let dtype = if g.chance(0.4) {
        DType::Bool
    } else if g.chance(0.9) {
        dtype
    } else {
        *g.pick(&[DType::I32, DType::F64, DType::U8])
    };
    let rank = g.size(1, 4);
    let mut shape: Vec<usize> =
        scores[4 - rank..].iter().map(|&d| if g.chance(0.3) { 1 } else { d }).collect();
    let last = rank - 1;
    shape[last] = match opset {
        24.. if g.chance(0.3) => g.size(0, scores[3]),
        23 if g.chance(0.2) => 1,
        _ => scores[3],
    };
    let drawn = g.tensor_in(dtype, &shape, -3.0, 3.0);
    let masked = if g.chance(0.2) { 0.9 } else { 0.2 };
    let Ok(mut made) = RefTensor::from_tensor(&drawn) else { return drawn };
    if let RefData::Float(values) = &mut made.data {
        values.iter_mut().for_each(|v| {
            if g.chance(masked) {
                *v = f64::NEG_INFINITY;
            }
        });
    }
    made.to_tensor().unwrap_or(drawn)
}

/// Draws a use of FlexAttention, with and without modifiers.
pub(crate) fn flex_case(g: &mut Gen) -> Case {
    let dtype = *g.pick(FLOATS);
    let (kv_heads, group) = (g.size(1, 3), g.size(1, 3));
    let heads = kv_heads * group;
    let batch = if g.chance(0.05) { 0 } else { g.size(1, 3) };
    let (queries, keys) = (g.extent(), g.extent());
    let (width, value_width) = (g.positive_extent(), g.extent());
    let mut case = Case::new([
        g.tensor_in(dtype, &[batch, heads, queries, width], -1.0, 1.0),
        g.tensor_in(dtype, &[batch, kv_heads, keys, width], -1.0, 1.0),
        g.tensor_in(dtype, &[batch, kv_heads, keys, value_width], -1.0, 1.0),
    ])
    .opset(1);
    let mut precision = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    if g.chance(0.4) {
        // A narrower type would round more than the result's does.
        let narrow = dtype.bits() == 16;
        precision = *g.pick(if narrow { FLOATS } else { &[DType::F64] });
        case = case.dtype("softmax_precision", precision);
    }
    if g.chance(0.3) {
        case = case.float("scale", *g.pick(&[0.25, 0.7, 1.0]));
    }
    let scores = [batch, heads, queries, keys];
    for name in ["score_mod", "prob_mod"] {
        if g.chance(0.5) {
            let (body, captured) = modifier(g, precision, &scores);
            case = case.with(name, body);
            for tensor in captured {
                case = case.input(tensor);
            }
        }
    }
    case
}

/// A modifier of scores with what it captures.
fn modifier(g: &mut Gen, dtype: DType, scores: &[usize]) -> (Attribute, Vec<Tensor>) {
    let mut b = BodyBuilder::new();
    let x = b.input("scores");
    match g.size(0, 2) {
        0 => {
            let y = b.node("Tanh", &[x]);
            (b.finish(&[y]), Vec::new())
        }
        1 => {
            let factor = b.constant(g.tensor_in(dtype, &[], 0.5, 1.5));
            let y = b.node("Mul", &[x, factor]);
            (b.finish(&[y]), Vec::new())
        }
        _ => {
            let term = b.capture("term");
            let y = b.node("Add", &[x, term]);
            let shape = g.broadcastable(scores);
            (b.finish(&[y]), vec![g.tensor_in(dtype, &shape, -1.0, 1.0)])
        }
    }
}
