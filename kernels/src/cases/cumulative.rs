//! Running sums and products against their definition: floats in f64, integers exactly.

use super::Failure;
use super::draw::Draw;
use super::lab::Lab;
use super::map::value::{Float, Int, Value, bytes, held, parse, rounded};
use crate::cumulative::Shape;
use crate::dtype::DType;
use crate::program::Kind;

const DTYPES: [DType; 8] =
    [DType::F32, DType::F16, DType::BF16, DType::F64, DType::I32, DType::I64, DType::U32, DType::U64];

/// Lines at the edges of a warp, side by side or not.
pub(super) fn shapes(_: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let inner = r.edge(&[1, 1, 31, 32, 33], 1..=5);
    let shape = Shape {
        dtype: r.pick(&DTYPES),
        outer: r.edge(&[1, 8, 9], 1..=4),
        depth: r.edge(&[1, 31, 32, 33, 64, 65], 1..=20),
        inner,
        product: r.bool(),
        reverse: r.bool(),
        exclusive: r.bool(),
    };
    let kind = Kind::of(shape.dtype).unwrap_or(Kind::F32);
    let (depth, inner) = (shape.depth as usize, inner as usize);
    let value = |r: &mut Draw| {
        let value = match (kind.is_float(), shape.product) {
            // Factors whose products stay near 1.
            (true, true) => Float(1.0 + f64::from(r.unit()) / 16.0),
            (true, false) => Float(r.unit().into()),
            _ => Int(i128::from(r.within(0..=5))),
        };
        held(shape.dtype, value)
    };
    let values: Vec<Value> = (0..shape.outer as usize * depth * inner).map(|_| value(r)).collect();
    let given: Vec<u8> = values.iter().flat_map(|&v| bytes(shape.dtype, v)).collect();
    let (x, y) = (lab.upload("x", &given)?, lab.room("y", given.len() as u64)?);
    if let Some(prepared) = shape.prepare(x, y, &lab.device())? {
        lab.run(prepared)?;
    }
    let got = lab.bytes(y)?;
    let size = shape.dtype.bits() / 8;
    for line in 0..shape.outer as usize * inner {
        let first = line / inner * depth * inner + line % inner;
        let start = i128::from(shape.product);
        let mut total = if kind.is_float() { Float(start as f64) } else { Int(start) };
        for k in 0..depth {
            let k = if shape.reverse { depth - 1 - k } else { k };
            let at = first + k * inner;
            let with = match (total, values[at], shape.product) {
                (Float(a), Float(b), true) => Float(a * b),
                (Float(a), Float(b), false) => Float(a + b),
                (Int(a), Int(b), true) => rounded(kind, Int(a * b)),
                (Int(a), Int(b), _) => rounded(kind, Int(a + b)),
                other => panic!("{other:?}"),
            };
            let want = held(shape.dtype, if shape.exclusive { total } else { with });
            let got = parse(shape.dtype, &got[at * size..][..size]);
            let close = match (got, want) {
                (Float(got), Float(want)) => {
                    let ulp = match shape.dtype {
                        DType::F64 => f64::EPSILON,
                        DType::F16 => 1.0 / 1024.0,
                        DType::BF16 => 1.0 / 128.0,
                        _ => f32::EPSILON.into(),
                    };
                    (got - want).abs() <= 64.0 * ulp * (1.0 + want.abs())
                }
                (got, want) => got == want,
            };
            if !close {
                let what = format!("{shape:?}, line {line}, element {k}: {got:?} instead of {want:?}");
                return Err(Failure::Wrong(what));
            }
            total = with;
        }
    }
    Ok(())
}
