//! Element types of eight bits and fewer that no Rust type holds: floats of 8, 6 and 4 bits, powers of two in a
//! byte, and integers of 4 and 2 bits, the narrow ones packed from the low bits of each byte on: four of 6 bits
//! take three bytes, and two of them lie in two bytes each.
//!
//! A float of `e` exponent and `m` mantissa bits is, by its magnitude's bits `c` below the sign,
//! `c · 2^(1 − bias − m)` where the exponent field `c >> m` is zero, else `(2^m + c mod 2^m) · 2^(field − bias − m)`;
//! `c` grows with the magnitude, so that rounding may carry into the exponent. The host computes with the same functions.

use crate::device::math::round_f64;
use crate::dtype::DType;

/// How numbers are made to fit an 8-bit float.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Rounding {
    /// Whether what is out of range becomes the largest finite number; otherwise an infinity or NaN.
    pub saturate: bool,
    /// How powers of two round; the other floats round to the nearest, ties to even.
    pub powers: PowerRounding,
}

/// How a number rounds to a power of two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum PowerRounding {
    /// Up.
    Up,
    /// Down.
    Down,
    /// To the nearest, ties up.
    Nearest,
}

/// What a code is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum What {
    /// A float with a sign.
    Float,
    /// The exponent of a power of two.
    Power,
    Unsigned,
    Signed,
}

/// What lies beyond the finite numbers of a float.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Special {
    /// Infinity, then NaNs.
    Infinity,
    /// NaN, which is all ones below the sign.
    OnesAreNan,
    /// NaN is what would be negative zero.
    NegativeZeroIsNan,
    /// Nothing.
    None,
}

/// One of these types.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Format {
    what: What,
    special: Special,
    bits: u8,
    mantissa: u8,
    bias: u8,
    /// Bits of the largest finite magnitude.
    most: u8,
}

/// Exponent of the power of two of code 0, negated.
const POWER_BIAS: i32 = 127;
const ONE: u64 = 1.0f64.to_bits();
const MANTISSA: u32 = f64::MANTISSA_DIGITS - 1;

/// `2^n` for `−1022 ≤ n ≤ 1023`.
#[inline(always)]
fn power_of_two(n: i32) -> f64 {
    f64::from_bits(((n + 1023) as u64) << MANTISSA)
}

/// `⌊log₂ x⌋` of a normal number; −1023 of zero and subnormal numbers, 1024 of an infinity.
#[inline(always)]
fn exponent_of(x: f64) -> i32 {
    (x.to_bits() >> MANTISSA & 0x7ff) as i32 - 1023
}

impl Format {
    /// The format of a type, if it is one of these.
    pub const fn of(dtype: DType) -> Option<Self> {
        let (what, mantissa, bias, most, special) = match dtype {
            DType::F8E4M3FN => (What::Float, 3, 7, 0x7e, Special::OnesAreNan),
            DType::F8E4M3FNUZ => (What::Float, 3, 8, 0x7f, Special::NegativeZeroIsNan),
            DType::F8E5M2 => (What::Float, 2, 15, 0x7b, Special::Infinity),
            DType::F8E5M2FNUZ => (What::Float, 2, 16, 0x7f, Special::NegativeZeroIsNan),
            DType::F6E2M3 => (What::Float, 3, 1, 0x1f, Special::None),
            DType::F6E3M2 => (What::Float, 2, 3, 0x1f, Special::None),
            DType::F4E2M1 => (What::Float, 1, 1, 0x7, Special::None),
            DType::F8E8M0 => (What::Power, 0, 0, 254, Special::None),
            DType::U4 | DType::U2 => (What::Unsigned, 0, 0, 0, Special::None),
            DType::I4 | DType::I2 => (What::Signed, 0, 0, 0, Special::None),
            _ => return None,
        };
        Some(Self { what, special, bits: dtype.bits() as u8, mantissa, bias, most })
    }

    /// Bits of a code.
    #[inline(always)]
    pub const fn bits(&self) -> u32 {
        self.bits as u32
    }

    /// Whether codes are integers.
    #[inline(always)]
    pub fn holds_integers(&self) -> bool {
        matches!(self.what, What::Unsigned | What::Signed)
    }

    /// The number that `code` is.
    #[inline(always)]
    pub fn decode(&self, code: u32) -> f64 {
        match self.what {
            What::Float => self.decode_float(code),
            What::Power if code == 255 => f64::NAN,
            What::Power => power_of_two(code as i32 - POWER_BIAS),
            What::Unsigned => code.into(),
            What::Signed => {
                // The sign bit moves to the top and back.
                let above = 32 - self.bits();
                f64::from(((code << above) as i32) >> above)
            }
        }
    }

    /// The code of a number given as a real one and as an integer, truncated toward zero where it is a real one.
    /// Integers keep their low bits.
    #[inline(always)]
    pub fn encode(&self, (real, whole): (f64, i64), rounding: Rounding) -> u32 {
        match self.what {
            What::Float => self.encode_float(real, rounding.saturate),
            What::Power => power_code(real, rounding),
            _ => whole as u32 & ((1 << self.bits()) - 1),
        }
    }

    #[inline(always)]
    fn decode_float(&self, code: u32) -> f64 {
        let below = self.bits() - 1;
        let (sign, magnitude, most) = (code >> below, code & ((1 << below) - 1), u32::from(self.most));
        let nan = match self.special {
            Special::Infinity => magnitude > most + 1,
            Special::OnesAreNan => magnitude > most,
            Special::NegativeZeroIsNan => sign == 1 && magnitude == 0,
            Special::None => false,
        };
        let mantissa = u32::from(self.mantissa);
        let (field, rest) = (magnitude >> mantissa, magnitude & ((1 << mantissa) - 1));
        let (implied, field) = if field == 0 { (0, 1) } else { (1 << mantissa, field) };
        let size = if nan {
            f64::NAN
        } else if self.special == Special::Infinity && magnitude > most {
            f64::INFINITY
        } else {
            f64::from(implied + rest) * power_of_two(field as i32 - i32::from(self.bias) - mantissa as i32)
        };
        if sign == 1 { -size } else { size }
    }

    #[inline(always)]
    fn encode_float(&self, x: f64, saturate: bool) -> u32 {
        let (negative_zero, most) = (1 << (self.bits() - 1), u32::from(self.most));
        let sign = if x.is_sign_negative() { negative_zero } else { 0 };
        let ones = negative_zero - 1;
        if x.is_nan() {
            return match self.special {
                Special::Infinity => sign | (most + 1) | 1 << (self.mantissa - 1),
                Special::OnesAreNan => sign | ones,
                // Where there is no NaN, a zero that is at least unusual.
                Special::NegativeZeroIsNan | Special::None => negative_zero,
            };
        }
        let magnitude = self.magnitude(x.abs());
        if magnitude > most {
            return match self.special {
                _ if saturate => sign | most,
                Special::Infinity => sign | (most + 1),
                Special::OnesAreNan => sign | ones,
                Special::NegativeZeroIsNan => negative_zero,
                Special::None => sign | most,
            };
        }
        if magnitude == 0 && self.special == Special::NegativeZeroIsNan { 0 } else { sign | magnitude }
    }

    /// The bits of `x ≥ 0` rounded to the nearest, ties to even, as if exponents had no end up to 2⁶³.
    #[inline(always)]
    fn magnitude(&self, x: f64) -> u32 {
        let mantissa = i32::from(self.mantissa);
        let (exponent, least) = (exponent_of(x), 1 - i32::from(self.bias));
        let exponent = if exponent > least { exponent } else { least };
        if exponent > 63 {
            return u32::MAX;
        }
        let quanta = round_f64(x * power_of_two(mantissa - exponent));
        (((exponent - least) as u32) << mantissa) + quanta as u32
    }
}

/// Of the magnitude of `x`: powers of two have no sign.
#[inline(always)]
fn power_code(x: f64, rounding: Rounding) -> u32 {
    const NAN: u32 = 255;
    const MOST: i32 = 254;
    let x = x.abs();
    if x.is_nan() {
        return NAN;
    }
    if x < power_of_two(-POWER_BIAS) {
        return if rounding.saturate { 0 } else { NAN };
    }
    let part = f64::from_bits(x.to_bits() & ((1 << MANTISSA) - 1) | ONE);
    let up = match rounding.powers {
        PowerRounding::Up => part > 1.0,
        PowerRounding::Down => false,
        PowerRounding::Nearest => part >= 1.5,
    };
    let code = exponent_of(x) + POWER_BIAS + i32::from(up);
    if code <= MOST {
        code as u32
    } else if rounding.saturate {
        MOST as u32
    } else {
        NAN
    }
}

/// Code `i` of packed codes of `bits` bits.
#[inline(always)]
pub fn unpack(byte: impl Fn(usize) -> u8, bits: u32, i: usize) -> u32 {
    let (at, shift) = (i * bits as usize / 8, (i * bits as usize % 8) as u32);
    let beyond = if shift + bits > 8 { u32::from(byte(at + 1)) << (8 - shift) } else { 0 };
    (u32::from(byte(at)) >> shift | beyond) & ((1 << bits) - 1)
}

/// Byte `at` of `len` packed codes of `bits` bits.
#[inline(always)]
pub fn packed_byte(bits: u32, len: usize, at: usize, code: impl Fn(usize) -> u32) -> u8 {
    let (start, bits) = (at * 8, bits as usize);
    let (mut i, mut byte) = (start.checked_div(bits).unwrap_or(0), 0);
    while i < len && i * bits < start + 8 {
        let (code, from) = (code(i), i * bits);
        byte |= if from < start { code >> (start - from) } else { code << (from - start) } as u8;
        i += 1;
    }
    byte
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_a_number_is_the_code_of_its_number() {
        let rounding = Rounding { saturate: false, powers: PowerRounding::Nearest };
        let floats = [DType::F8E4M3FN, DType::F8E4M3FNUZ, DType::F8E5M2, DType::F8E5M2FNUZ, DType::F8E8M0];
        let small = [DType::F6E2M3, DType::F6E3M2, DType::F4E2M1, DType::U4, DType::I4, DType::U2, DType::I2];
        let decode = |dtype, code| Format::of(dtype).map_or(f64::NAN, |format| format.decode(code));
        for dtype in floats.into_iter().chain(small) {
            let format = Format::of(dtype).expect("a format");
            for code in 0..1 << dtype.bits() {
                let x = format.decode(code);
                if !x.is_nan() {
                    assert_eq!(format.encode((x, x as i64), rounding), code, "{dtype} {x}");
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
                let code = |i: usize| (i * 37 + 11) as u32 & ((1 << bits) - 1);
                let bytes: Vec<u8> = (0..(len * bits as usize).div_ceil(8))
                    .map(|at| packed_byte(bits, len, at, code))
                    .collect();
                let found: Vec<u32> = (0..len).map(|i| unpack(|at| bytes[at], bits, i)).collect();
                assert_eq!(found, (0..len).map(code).collect::<Vec<_>>(), "{len} of {bits} bits");
            }
        }
        // As the format's specification spells it.
        let x = [0x21, 0x17, 0x3a, 0x05];
        let bytes = [0, 1, 2].map(|at| packed_byte(6, 4, at, |i| x[i]));
        let want = [x[0] | (x[1] & 0x3) << 6, x[1] >> 2 | (x[2] & 0xf) << 4, x[2] >> 4 | x[3] << 2];
        assert_eq!(bytes.map(u32::from), want.map(|word: u32| word & 0xff));
    }
}
