//! Floats of eight bits and fewer and integers of fewer than eight, from their definitions: the list of all
//! values of a type, in which numbers are looked for.

use super::tensor::RefData;
use crate::dtype::DType;
use std::cmp::Ordering;

/// How numbers are made to fit a narrow float.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NarrowRounding {
    /// Whether what is out of range becomes the largest finite number.
    pub(crate) saturate: bool,
    /// For powers of two: to a neighbour that compares so with the number, or to the nearest, ties up.
    pub(crate) toward: Option<Ordering>,
}

/// Whether `dtype` is an integer of fewer than eight bits.
pub(crate) fn is_small_int(dtype: DType) -> bool {
    matches!(dtype, DType::U4 | DType::I4 | DType::U2 | DType::I2)
}

/// Whether `dtype` has neither infinities nor NaN.
fn is_finite_only(dtype: DType) -> bool {
    matches!(dtype, DType::F6E2M3 | DType::F6E3M2 | DType::F4E2M1)
}

/// The value of each code of a narrow float, by code.
pub(crate) fn float_values(dtype: DType) -> Option<Vec<f64>> {
    let (exponent, mantissa, bias) = match dtype {
        DType::F8E4M3FN => (4, 3, 7),
        DType::F8E4M3FNUZ => (4, 3, 8),
        DType::F8E5M2 => (5, 2, 15),
        DType::F8E5M2FNUZ => (5, 2, 16),
        DType::F6E2M3 => (2, 3, 1),
        DType::F6E3M2 => (3, 2, 3),
        DType::F4E2M1 => (2, 1, 1),
        DType::F8E8M0 => {
            let power = |code: i32| if code == 255 { f64::NAN } else { 2f64.powi(code - 127) };
            return Some((0..256).map(power).collect());
        }
        _ => return None,
    };
    let mut values = Vec::new();
    for sign in [1.0, -1.0] {
        for field in 0..1 << exponent {
            for rest in 0..1 << mantissa {
                let fraction = f64::from(rest) / 2f64.powi(mantissa);
                let finite = if field == 0 {
                    2f64.powi(1 - bias) * fraction
                } else {
                    2f64.powi(field - bias) * (1.0 + fraction)
                };
                let ones = field == (1 << exponent) - 1;
                values.push(match dtype {
                    DType::F8E4M3FN if ones && fraction == 0.875 => f64::NAN,
                    DType::F8E5M2 if ones => {
                        if rest == 0 {
                            sign * f64::INFINITY
                        } else {
                            f64::NAN
                        }
                    }
                    DType::F8E4M3FNUZ | DType::F8E5M2FNUZ if sign < 0.0 && finite == 0.0 => f64::NAN,
                    _ => sign * finite,
                });
            }
        }
    }
    Some(values)
}

/// `x` as a value of the narrow float `dtype`.
pub(crate) fn rounded(dtype: DType, values: &[f64], x: f64, rounding: NarrowRounding) -> f64 {
    let mut finite: Vec<f64> =
        values.iter().copied().filter(|v| v.is_finite() && v.is_sign_positive()).collect();
    finite.sort_by(f64::total_cmp);
    let (least, most) = (finite[0], finite[finite.len() - 1]);
    let (size, sign) = (x.abs(), 1f64.copysign(x));
    let beyond = match dtype {
        _ if is_finite_only(dtype) => most,
        _ if rounding.saturate => most,
        DType::F8E5M2 => f64::INFINITY,
        _ => f64::NAN,
    };
    if x.is_nan() {
        return if is_finite_only(dtype) { -0.0 } else { x };
    }
    if dtype == DType::F8E8M0 {
        if size < least {
            return if rounding.saturate { least } else { f64::NAN };
        }
        let above = finite.iter().copied().find(|&v| v >= size);
        let below = finite.iter().copied().rev().find(|&v| v <= size).unwrap_or(least);
        let chosen = match rounding.toward {
            Some(Ordering::Less) if size.is_finite() => Some(below),
            // Half way between a power and the next one, whether or not the type has that.
            None if size < 1.5 * below => Some(below),
            _ => above,
        };
        return chosen.unwrap_or(beyond);
    }
    // One value more than there is, so that what rounds to the largest and what rounds past it are told apart.
    finite.push(most + (most - finite[finite.len() - 2]));
    // Far beyond the last value all distances would round to the same.
    let bounded = size.min(4.0 * most);
    let distance = |i: usize| (finite[i] - bounded).abs();
    let nearest = (0..finite.len())
        .min_by(|&i, &j| distance(i).total_cmp(&distance(j)).then((i % 2).cmp(&(j % 2))))
        .filter(|&i| i + 1 < finite.len() && size.is_finite());
    sign * nearest.map_or(beyond, |i| finite[i])
}

/// The elements that packed codes stand for.
pub(crate) fn unpacked(dtype: DType, bytes: &[u8], len: usize) -> Option<RefData> {
    let bits = dtype.bits();
    let bit = |at: usize| usize::from(bytes[at / 8] >> (at % 8) & 1);
    let codes = (0..len).map(|i| (0..bits).fold(0, |code, k| code | bit(i * bits + k) << k));
    if let Some(values) = float_values(dtype) {
        return Some(RefData::Float(codes.map(|code| values[code]).collect()));
    }
    let signed = matches!(dtype, DType::I4 | DType::I2);
    let whole = |code: usize| code as i128 - if signed && code >= 1 << (bits - 1) { 1 << bits } else { 0 };
    is_small_int(dtype).then(|| RefData::Int(codes.map(whole).collect()))
}

/// The packed codes of elements that are values of the type.
pub(crate) fn packed(dtype: DType, data: &RefData) -> Option<Vec<u8>> {
    let bits = dtype.bits();
    let codes: Vec<usize> = match data {
        RefData::Float(v) => {
            let values = float_values(dtype)?;
            let same = |a: f64, b: f64| {
                (a == b && a.is_sign_negative() == b.is_sign_negative()) || (a.is_nan() && b.is_nan())
            };
            let code =
                |x: f64| values.iter().position(|&v| same(v, x)).or(values.iter().position(|&v| v == x));
            v.iter().map(|&x| code(x)).collect::<Option<_>>()?
        }
        RefData::Int(v) if is_small_int(dtype) => {
            v.iter().map(|&x| x.rem_euclid(1 << bits) as usize).collect()
        }
        _ => return None,
    };
    let mut bytes = vec![0u8; dtype.bytes(codes.len())?];
    for (i, code) in codes.into_iter().enumerate() {
        for (k, at) in (i * bits..(i + 1) * bits).enumerate() {
            bytes[at / 8] |= ((code >> k & 1) << (at % 8)) as u8;
        }
    }
    Some(bytes)
}
