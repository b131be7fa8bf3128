//! The first elements of sorted lines, against a sort.

use super::Failure;
use super::draw::Draw;
use super::lab::Lab;
use super::map::value::{Bool, Float, Int, Value, bytes, draw, parse};
use crate::dtype::DType;
use crate::launch::Buffer;
use crate::top_k::Shape;
use std::cmp::Ordering;

const DTYPES: [DType; 9] = [
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::F64,
    DType::I8,
    DType::I32,
    DType::I64,
    DType::U16,
    DType::U64,
];

/// By value, NaN above all numbers.
fn order(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Float(a), Float(b)) => a.partial_cmp(b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan())),
        (Int(a), Int(b)) => a.cmp(b),
        (Bool(a), Bool(b)) => a.cmp(b),
        _ => Ordering::Equal,
    }
}

/// Lines at the edges of warps and of what is sorted, with equal elements, infinities and NaN among them.
pub(super) fn shapes(number: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let depth = if number.is_multiple_of(9) {
        r.edge(&[512, 513], 400..=600)
    } else {
        r.edge(&[1, 8, 31, 32, 33, 64], 1..=80)
    };
    let shape = Shape {
        dtype: r.pick(&DTYPES),
        outer: r.edge(&[1, 8], 1..=5),
        depth,
        inner: if depth > 100 { 1 } else { r.within(1..=3) },
        k: r.edge(&[1, 8, 9, depth], 1..=depth).min(depth),
        smallest: r.bool(),
    };
    let (depth, inner, k) = (shape.depth as usize, shape.inner as usize, shape.k as usize);
    let lines = shape.outer as usize * inner;
    let values: Vec<Value> = (0..lines * depth).map(|_| draw(r, shape.dtype)).collect();
    let given: Vec<u8> = values.iter().flat_map(|&v| bytes(shape.dtype, v)).collect();
    let size = shape.dtype.bits() / 8;
    let none = Buffer::default();
    let wanted = r.pick(&[(true, true), (true, true), (true, false), (false, true)]);
    let found = (lines * k) as u64;
    let to = [
        if wanted.0 { lab.room("values", found * size as u64)? } else { none },
        if wanted.1 { lab.room("places", found * 8)? } else { none },
    ];
    if let Some(prepared) = shape.prepare([lab.upload("x", &given)?, to[0], to[1]], &lab.device())? {
        lab.run(prepared)?;
    }
    let mut got: Vec<Vec<u8>> = Vec::new();
    for buffer in to {
        got.push(if buffer.is_some() { lab.bytes(buffer)? } else { Vec::new() });
    }
    for line in 0..lines {
        let first = line / inner * depth * inner + line % inner;
        let mut sorted: Vec<usize> = (0..depth).collect();
        sorted.sort_by(|&a, &b| {
            let order = order(&values[first + a * inner], &values[first + b * inner]);
            if shape.smallest { order } else { order.reverse() }
        });
        for (rank, &at) in sorted.iter().take(k).enumerate() {
            let to = line / inner * k * inner + line % inner + rank * inner;
            let what = || format!("{shape:?}, line {line}, rank {rank}");
            if wanted.1 {
                let place = parse(DType::U64, &got[1][8 * to..][..8]);
                if place != Int(at as i128) {
                    return Err(Failure::Wrong(format!("{}: place {place:?} instead of {at}", what())));
                }
            }
            if wanted.0 && got[0][size * to..][..size] != given[(first + at * inner) * size..][..size] {
                return Err(Failure::Wrong(format!("{}: another value", what())));
            }
        }
    }
    Ok(())
}
