//! Conversions of types of eight bits and fewer, against the list of all numbers of a type.

use super::Failure;
use super::draw::Draw;
use super::lab::Lab;
use super::map::value::{Bool, DTYPES, Float, Int, Value, bytes, draw, held, near, parse};
use crate::codes::{Conversion, PowerRounding, Rounding};
use crate::dtype::DType;

const NARROW: [DType; 12] = [
    DType::F8E4M3FN,
    DType::F8E4M3FNUZ,
    DType::F8E5M2,
    DType::F8E5M2FNUZ,
    DType::F8E8M0,
    DType::F4E2M1,
    DType::F6E2M3,
    DType::F6E3M2,
    DType::U4,
    DType::I4,
    DType::U2,
    DType::I2,
];

/// The number of each code of a type, by code.
fn numbers(dtype: DType) -> Vec<f64> {
    let (exponent, mantissa, bias) = match dtype {
        DType::F8E4M3FN => (4, 3, 7),
        DType::F8E4M3FNUZ => (4, 3, 8),
        DType::F8E5M2 => (5, 2, 15),
        DType::F8E5M2FNUZ => (5, 2, 16),
        DType::F6E2M3 => (2, 3, 1),
        DType::F6E3M2 => (3, 2, 3),
        DType::F4E2M1 => (2, 1, 1),
        DType::F8E8M0 => {
            return (0..256).map(|c| if c == 255 { f64::NAN } else { 2f64.powi(c - 127) }).collect();
        }
        DType::U4 | DType::U2 => return (0..1 << dtype.bits()).map(f64::from).collect(),
        _ => {
            let half = 1 << (dtype.bits() - 1);
            return (0..half).chain(-half..0).map(f64::from).collect();
        }
    };
    let mut numbers = Vec::new();
    for sign in [1.0, -1.0] {
        for field in 0..1 << exponent {
            for rest in 0..1 << mantissa {
                let (part, scale) = if field == 0 { (0.0, 1 - bias) } else { (1.0, field - bias) };
                let size = (part + f64::from(rest) / 2f64.powi(mantissa)) * 2f64.powi(scale);
                let last = field == (1 << exponent) - 1;
                numbers.push(match dtype {
                    DType::F8E4M3FN if last && rest == 7 => f64::NAN,
                    DType::F8E5M2 if last && rest > 0 => f64::NAN,
                    DType::F8E5M2 if last => sign * f64::INFINITY,
                    DType::F8E4M3FNUZ | DType::F8E5M2FNUZ if sign < 0.0 && size == 0.0 => f64::NAN,
                    _ => sign * size,
                });
            }
        }
    }
    numbers
}

/// The codes that a number may become: of several only where it is no number.
fn codes(dtype: DType, x: f64, rounding: Rounding) -> Vec<usize> {
    let all = numbers(dtype);
    let nan: Vec<usize> = (0..all.len()).filter(|&code| all[code].is_nan()).collect();
    let signed = |code: &usize| all[*code].is_sign_negative() == x.is_sign_negative();
    let power = dtype == DType::F8E8M0;
    let has_negative_zero = all.iter().any(|v| *v == 0.0 && v.is_sign_negative());
    if x.is_nan() {
        return if nan.is_empty() { vec![all.len() / 2] } else { nan };
    }
    let x = if power { x.abs() } else { x };
    let most = all.iter().copied().filter(|v| v.is_finite()).fold(0.0, f64::max);
    let least = all.iter().copied().filter(|v| *v > 0.0).fold(f64::INFINITY, f64::min);
    let at = |of: f64| -> Vec<usize> {
        let found: Vec<usize> = (0..all.len()).filter(|&code| all[code] == of).collect();
        if of == 0.0 && has_negative_zero { found.into_iter().filter(signed).collect() } else { found }
    };
    if power && x < least {
        return if rounding.saturate { vec![0] } else { nan };
    }
    // The type's numbers go on above the largest one as they do below it.
    let below = all.iter().copied().filter(|v| v.is_finite() && *v < most).fold(0.0, f64::max);
    let next = if power { 2.0 * most } else { most + (most - below) };
    let mut sizes: Vec<f64> =
        all.iter().copied().filter(|v| v.is_finite() && *v >= 0.0).chain([next]).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    let size = x.abs().min(next);
    let upper = sizes.iter().position(|&v| v >= size).unwrap_or(sizes.len() - 1);
    let rounded = if sizes[upper] == size {
        upper
    } else {
        let (low, high) = (size - sizes[upper - 1], sizes[upper] - size);
        let up = match rounding.powers {
            PowerRounding::Up if power => true,
            PowerRounding::Down if power => false,
            _ if power => high <= low,
            // Places among the sizes are the bits of the magnitude: the even one of two.
            _ => high < low || (high == low && upper.is_multiple_of(2)),
        };
        if up { upper } else { upper - 1 }
    };
    if sizes[rounded] > most {
        let infinite = at(f64::INFINITY.copysign(x));
        return match rounding.saturate {
            true => at(most.copysign(x)),
            false if !infinite.is_empty() => infinite,
            false if nan.is_empty() => at(most.copysign(x)),
            false => nan,
        };
    }
    at(sizes[rounded].copysign(x))
}

/// A code among packed ones.
fn code_at(of: &[u8], bits: usize, i: usize) -> usize {
    (0..bits).fold(0, |code, bit| {
        let at = i * bits + bit;
        code | usize::from(of[at / 8] >> (at % 8) & 1) << bit
    })
}

fn real(value: Value) -> f64 {
    match value {
        Float(v) => v,
        Int(v) => v as f64,
        Bool(v) => f64::from(u8::from(v)),
    }
}

/// One of these types to any, or any to one of these.
pub(super) fn shapes(number: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let narrow = NARROW[number as usize % NARROW.len()];
    let other = if r.within(0..=3) == 0 { r.pick(&NARROW) } else { r.pick(&DTYPES) };
    let (from, to) = if r.bool() { (narrow, other) } else { (other, narrow) };
    let rounding = Rounding {
        saturate: r.bool(),
        powers: r.pick(&[PowerRounding::Up, PowerRounding::Down, PowerRounding::Nearest]),
    };
    let count = r.edge(&[1, 4, 5, 256, 1030], 1..=64);
    let reach = r.pick(&[1.0, 0.01, 30.0, 1e4]);
    let x: Vec<u8> = if NARROW.contains(&from) {
        (0..(count as usize * from.bits()).div_ceil(8)).map(|_| r.bits() as u8).collect()
    } else {
        let value = |r: &mut Draw| match draw(r, from) {
            Float(v) => held(from, Float(v * reach)),
            value => value,
        };
        (0..count).flat_map(|_| bytes(from, value(r))).collect()
    };
    let shape = Conversion { from, to, count: count.into(), rounding };
    let room = (count as usize * to.bits()).div_ceil(8);
    let buffers = [lab.upload("x", &x)?, lab.room("y", room as u64)?];
    if let Some(prepared) = shape.prepare(buffers, &lab.device())? {
        lab.run(prepared)?;
    }
    let got = lab.bytes(buffers[1])?;
    let whole = |dtype: DType| matches!(dtype, DType::U4 | DType::I4 | DType::U2 | DType::I2);
    for i in 0..count as usize {
        let value = if NARROW.contains(&from) {
            let v = numbers(from)[code_at(&x, from.bits(), i)];
            if whole(from) { Int(v as i128) } else { Float(v) }
        } else {
            parse(from, &x[i * from.bits() / 8..][..from.bits() / 8])
        };
        let fits = if whole(to) {
            // The low bits of an integer, also of a truncated float.
            let bits = match value {
                Float(v) => i128::from(v as i64),
                Int(v) => v,
                Bool(v) => v.into(),
            };
            code_at(&got, to.bits(), i) as i128 == bits & ((1 << to.bits()) - 1)
        } else if NARROW.contains(&to) {
            codes(to, real(value), rounding).contains(&code_at(&got, to.bits(), i))
        } else {
            let want = match (to, value) {
                (DType::Bool, value) => Bool(real(value) != 0.0),
                (_, value) if to.is_float() => held(to, Float(real(value))),
                (_, Float(v)) => {
                    let bits = to.bits() as u32 - u32::from(to.is_signed_int());
                    let least = if to.is_signed_int() { -(1i128 << bits) } else { 0 };
                    Int((v as i128).clamp(least, (1 << bits) - 1))
                }
                (_, value) => held(to, value),
            };
            near(to, parse(to, &got[i * to.bits() / 8..][..to.bits() / 8]), want, 0.0)
        };
        if !fits {
            let code = if NARROW.contains(&to) { code_at(&got, to.bits(), i) } else { 0 };
            return Err(Failure::Wrong(format!("{shape:?}, element {i}: {value:?}, code {code}")));
        }
    }
    // Bits behind the last code are zero.
    let used = count as usize * to.bits();
    if !used.is_multiple_of(8) && got[used / 8] >> (used % 8) != 0 {
        return Err(Failure::Wrong(format!("{shape:?}: bits behind the last code")));
    }
    Ok(())
}
