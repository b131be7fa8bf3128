//! Element types of eight bits and fewer that no Rust type holds: floats of 8, 6 and 4 bits, powers of two in a
//! byte, and integers of 4 and 2 bits, the narrow ones packed from the low bits of each byte on: four of 6 bits
//! take three bytes, and two of them lie in two bytes each.
//!
//! A float of `e` exponent and `m` mantissa bits is, by its magnitude's bits `c` below the sign,
//! `c · 2^(1 − bias − m)` where the exponent field `c >> m` is zero, else `(2^m + c mod 2^m) · 2^(field − bias − m)`;
//! `c` grows with the magnitude, so that rounding may carry into the exponent.

use crate::dtype::DType;

/// How numbers are made to fit an 8-bit float.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rounding {
    /// Whether what is out of range becomes the largest finite number; otherwise an infinity or NaN.
    pub(crate) saturate: bool,
    /// How powers of two round; the other floats round to the nearest, ties to even.
    pub(crate) powers: PowerRounding,
}

/// How a number rounds to a power of two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum PowerRounding {
    Up,
    Down,
    /// Ties up.
    Nearest,
}

/// One of the float formats with a sign.
struct Format {
    exponent: u32,
    mantissa: u32,
    bias: i32,
    /// Bits of the largest finite magnitude.
    most: u32,
    special: Special,
}

/// What lies beyond the finite numbers.
#[derive(Clone, Copy, PartialEq)]
enum Special {
    /// The bits of infinity; NaNs above.
    Infinity(u32),
    /// NaN is all ones below the sign.
    OnesAreNan,
    /// NaN is what would be negative zero.
    NegativeZeroIsNan,
    /// Nothing.
    None,
}

fn format(dtype: DType) -> Option<Format> {
    let (exponent, mantissa, bias, most, special) = match dtype {
        DType::F8E4M3FN => (4, 3, 7, 0x7e, Special::OnesAreNan),
        DType::F8E4M3FNUZ => (4, 3, 8, 0x7f, Special::NegativeZeroIsNan),
        DType::F8E5M2 => (5, 2, 15, 0x7b, Special::Infinity(0x7c)),
        DType::F8E5M2FNUZ => (5, 2, 16, 0x7f, Special::NegativeZeroIsNan),
        DType::F6E2M3 => (2, 3, 1, 0x1f, Special::None),
        DType::F6E3M2 => (3, 2, 3, 0x1f, Special::None),
        DType::F4E2M1 => (2, 1, 1, 0x7, Special::None),
        _ => return None,
    };
    Some(Format { exponent, mantissa, bias, most, special })
}

/// Whether `dtype` is one of the types of this module.
pub(crate) fn is_narrow(dtype: DType) -> bool {
    format(dtype).is_some() || dtype == DType::F8E8M0 || holds_integers(dtype)
}

/// Whether `dtype` is one of the integers of this module.
pub(crate) fn holds_integers(dtype: DType) -> bool {
    matches!(dtype, DType::U4 | DType::I4 | DType::U2 | DType::I2)
}

/// The number that `code` is.
pub(crate) fn decode(dtype: DType, code: u8) -> f64 {
    let bits = dtype.bits() as u32;
    match (dtype, format(dtype)) {
        (_, Some(format)) => format.decode(code.into()),
        (DType::F8E8M0, _) if code == u8::MAX => f64::NAN,
        (DType::F8E8M0, _) => 2f64.powi(i32::from(code) - POWER_BIAS),
        // The sign bit moves to the top and back.
        (DType::I4 | DType::I2, _) => (((code << (8 - bits)) as i8) >> (8 - bits)).into(),
        _ => code.into(),
    }
}

/// The code of a number given as a real one and as an integer, truncated toward zero where it is a real one.
/// Integers keep their low bits.
pub(crate) fn encode(dtype: DType, (real, whole): (f64, i64), rounding: Rounding) -> u8 {
    match (dtype, format(dtype)) {
        (_, Some(format)) => format.encode(real, rounding.saturate) as u8,
        (DType::F8E8M0, _) => power_code(real, rounding),
        _ => whole as u8 & ((1 << dtype.bits()) - 1),
    }
}

/// Code `i` of packed codes of `bits` bits.
pub(crate) fn unpack(bytes: &[u8], bits: usize, i: usize) -> u8 {
    let (at, shift) = (i * bits / 8, i * bits % 8);
    let beyond = if shift + bits > 8 { u32::from(bytes[at + 1]) << (8 - shift) } else { 0 };
    ((u32::from(bytes[at]) >> shift | beyond) & ((1 << bits) - 1)) as u8
}

/// Byte `at` of `len` packed codes of `bits` bits.
pub(crate) fn packed_byte(bits: usize, len: usize, at: usize, code: impl Fn(usize) -> u8) -> u8 {
    let start = at * 8;
    let codes = start / bits..len.min((start + 8).div_ceil(bits));
    codes.fold(0, |byte, i| {
        let (code, from) = (u32::from(code(i)), i * bits);
        byte | if from < start { code >> (start - from) } else { code << (from - start) } as u8
    })
}

impl Format {
    fn decode(&self, code: u32) -> f64 {
        let sign = code >> (self.exponent + self.mantissa);
        let magnitude = code & ((1 << (self.exponent + self.mantissa)) - 1);
        let nan = match self.special {
            Special::Infinity(infinity) => magnitude > infinity,
            Special::OnesAreNan => magnitude > self.most,
            Special::NegativeZeroIsNan => sign == 1 && magnitude == 0,
            Special::None => false,
        };
        let (field, rest) = (magnitude >> self.mantissa, magnitude & ((1 << self.mantissa) - 1));
        let implied = if field == 0 { 0 } else { 1 << self.mantissa };
        let scale = 2f64.powi(field.max(1) as i32 - self.bias - self.mantissa as i32);
        let size = match self.special {
            _ if nan => f64::NAN,
            Special::Infinity(infinity) if magnitude == infinity => f64::INFINITY,
            _ => f64::from(implied + rest) * scale,
        };
        if sign == 1 { -size } else { size }
    }

    fn encode(&self, x: f64, saturate: bool) -> u32 {
        let sign = u32::from(x.is_sign_negative()) << (self.exponent + self.mantissa);
        let negative_zero = 1 << (self.exponent + self.mantissa);
        let ones = negative_zero - 1;
        if x.is_nan() {
            return match self.special {
                Special::Infinity(infinity) => sign | infinity | 1 << (self.mantissa - 1),
                Special::OnesAreNan => sign | ones,
                // Where there is no NaN, a zero that is at least unusual.
                Special::NegativeZeroIsNan | Special::None => negative_zero,
            };
        }
        let magnitude = self.magnitude(x.abs());
        if magnitude > self.most {
            return match self.special {
                _ if saturate => sign | self.most,
                Special::Infinity(infinity) => sign | infinity,
                Special::OnesAreNan => sign | ones,
                Special::NegativeZeroIsNan => negative_zero,
                Special::None => sign | self.most,
            };
        }
        if magnitude == 0 && self.special == Special::NegativeZeroIsNan { 0 } else { sign | magnitude }
    }

    /// The bits of `x ≥ 0` rounded to the nearest, ties to even, as if exponents had no end.
    fn magnitude(&self, x: f64) -> u32 {
        if x.is_infinite() {
            return u32::MAX;
        }
        let least = 1 - self.bias;
        let exponent = exponent_of(x).max(least);
        let quanta = (x / 2f64.powi(exponent - self.mantissa as i32)).round_ties_even();
        (((exponent - least) as u32) << self.mantissa) + quanta as u32
    }
}

/// `⌊log₂ x⌋` of a normal number; a small one of zero and subnormal numbers.
fn exponent_of(x: f64) -> i32 {
    (x.to_bits() >> 52 & 0x7ff) as i32 - 1023
}

/// Exponent of the power of two of code 0, negated.
const POWER_BIAS: i32 = 127;

/// Of the magnitude of `x`: powers of two have no sign.
fn power_code(x: f64, rounding: Rounding) -> u8 {
    const NAN: u8 = 255;
    const MOST: i32 = 254;
    let x = x.abs();
    if x.is_nan() {
        return NAN;
    }
    if x < 2f64.powi(-POWER_BIAS) {
        return if rounding.saturate { 0 } else { NAN };
    }
    let exponent = exponent_of(x);
    let part = x / 2f64.powi(exponent.min(1023));
    let up = match rounding.powers {
        PowerRounding::Up => part > 1.0,
        PowerRounding::Down => false,
        PowerRounding::Nearest => part >= 1.5,
    };
    match exponent + POWER_BIAS + i32::from(up) {
        code @ ..=MOST => code as u8,
        _ if rounding.saturate => MOST as u8,
        _ => NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_a_number_is_the_code_of_its_number() {
        let rounding = Rounding { saturate: false, powers: PowerRounding::Nearest };
        let floats = [DType::F8E4M3FN, DType::F8E4M3FNUZ, DType::F8E5M2, DType::F8E5M2FNUZ, DType::F8E8M0];
        let small = [DType::F6E2M3, DType::F6E3M2, DType::F4E2M1, DType::U4, DType::I4, DType::U2, DType::I2];
        for dtype in floats.into_iter().chain(small) {
            for code in 0..=(u32::from(u8::MAX) >> (8 - dtype.bits())) as u8 {
                let x = decode(dtype, code);
                if !x.is_nan() {
                    assert_eq!(encode(dtype, (x, x as i64), rounding), code, "{dtype} {x}");
                }
            }
        }
        assert_eq!(decode(DType::F8E4M3FN, 0x7e), 448.0);
        assert_eq!(decode(DType::F8E5M2FNUZ, 0x7f), 57_344.0);
        assert_eq!(decode(DType::F4E2M1, 0xf), -6.0);
        assert_eq!((decode(DType::F6E2M3, 0x1f), decode(DType::F6E3M2, 0x3f)), (7.5, -28.0));
    }

    #[test]
    fn packed_codes_are_found_where_they_were_put() {
        for bits in [2, 4, 6, 8] {
            for len in 0..13usize {
                let code = |i: usize| (i * 37 + 11) as u8 & ((1u32 << bits) - 1) as u8;
                let bytes: Vec<u8> =
                    (0..(len * bits).div_ceil(8)).map(|at| packed_byte(bits, len, at, code)).collect();
                let found: Vec<u8> = (0..len).map(|i| unpack(&bytes, bits, i)).collect();
                assert_eq!(found, (0..len).map(code).collect::<Vec<_>>(), "{len} of {bits} bits");
            }
        }
        // As the format's specification spells it.
        let x = [0x21, 0x17, 0x3a, 0x05];
        let bytes = [0, 1, 2].map(|at| packed_byte(6, 4, at, |i| x[i]));
        assert_eq!(bytes, [x[0] | (x[1] & 0x3) << 6, x[1] >> 2 | (x[2] & 0xf) << 4, x[2] >> 4 | x[3] << 2]);
    }
}
