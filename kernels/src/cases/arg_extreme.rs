//! The place of an extreme against a search from the front.

use super::Failure;
use super::draw::Draw;
use super::lab::Lab;
use crate::arg_extreme::Shape;
use crate::device::{BF16, F16};
use crate::dtype::DType;
use crate::element::Real;

const TYPES: [DType; 12] = [
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
];

/// The bytes of an element, and its value.
fn stored(dtype: DType, value: f64) -> (Vec<u8>, f64) {
    match dtype {
        DType::F32 => ((value as f32).to_le_bytes().to_vec(), value),
        DType::F64 => (value.to_le_bytes().to_vec(), value),
        DType::F16 => (F16::narrow(value as f32).to_bits().to_le_bytes().to_vec(), value),
        DType::BF16 => (BF16::narrow(value as f32).to_bits().to_le_bytes().to_vec(), value),
        DType::I8 => ((value as i8).to_le_bytes().to_vec(), (value as i8).into()),
        DType::I16 => ((value as i16).to_le_bytes().to_vec(), (value as i16).into()),
        DType::I32 => ((value as i32).to_le_bytes().to_vec(), (value as i32).into()),
        DType::I64 => ((value as i64).to_le_bytes().to_vec(), value as i64 as f64),
        DType::U8 => ((value as u8).to_le_bytes().to_vec(), (value as u8).into()),
        DType::U16 => ((value as u16).to_le_bytes().to_vec(), (value as u16).into()),
        DType::U32 => ((value as u32).to_le_bytes().to_vec(), (value as u32).into()),
        _ => ((value as u64).to_le_bytes().to_vec(), value as u64 as f64),
    }
}

/// Lines at the edges of warps, of few values, so that many are equal, and some that are none.
pub(super) fn shapes(_: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let shape = Shape {
        outer: r.edge(&[1, 7, 8, 9], 1..=12),
        depth: r.edge(&[1, 31, 32, 33, 64, 65], 1..=100),
        inner: if r.bool() { 1 } else { r.within(2..=9) },
        element: r.pick(&TYPES),
        smallest: r.bool(),
        last: r.bool(),
    };
    let (outer, depth, inner) = (shape.outer as usize, shape.depth as usize, shape.inner as usize);
    let mut x: Vec<f64> = (0..outer * depth * inner).map(|_| f64::from((r.unit() * 4.0).round())).collect();
    let extremes: &[f64] = match shape.element {
        DType::F32 | DType::F64 | DType::F16 | DType::BF16 => {
            &[f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0]
        }
        // Those of every type, as far as f64 has them.
        _ => &[f64::NEG_INFINITY, 127.0, f64::INFINITY],
    };
    for _ in 0..r.within(0..=3) {
        let at = r.index(x.len());
        x[at] = r.pick(extremes);
    }
    let (bytes, x): (Vec<Vec<u8>>, Vec<f64>) = x.iter().map(|&value| stored(shape.element, value)).unzip();
    let from = lab.upload("x", &bytes.concat())?;
    let y = lab.room("y", 8 * (outer * inner) as u64)?;
    lab.run(shape.prepare(from, y, &lab.device())?)?;
    let got = lab.bytes(y)?;
    for (line, got) in got.chunks_exact(8).enumerate() {
        let got = u64::from_le_bytes([got[0], got[1], got[2], got[3], got[4], got[5], got[6], got[7]]);
        let (a, b) = (line / inner, line % inner);
        let value = |k: usize| x[(a * depth + k) * inner + b];
        let nans: Vec<usize> = (0..depth).filter(|&k| value(k).is_nan()).collect();
        let better = |best: f64, v: f64| if (v > best) != shape.smallest && v != best { v } else { best };
        let extreme = (0..depth).map(value).fold(value(0), better);
        let equal: Vec<usize> = (0..depth).filter(|&k| value(k) == extreme).collect();
        let places = if nans.is_empty() { equal } else { nans };
        let want = if shape.last { places.last() } else { places.first() };
        if want != Some(&(got as usize)) {
            return Err(Failure::Wrong(format!("{shape:?} [{a}, {b}]: {got} instead of {want:?}")));
        }
    }
    Ok(())
}
