//! Arithmetic: what IEEE 754 defines is the host's, approximations are the exact result rounded to nearest.

use half::{bf16, f16};

pub(crate) fn f16_to_f32(bits: u16) -> f32 {
    f16::from_bits(bits).to_f32()
}

pub(crate) fn f32_to_f16(value: f32) -> u16 {
    f16::from_f32(value).to_bits()
}

pub(crate) fn f32_to_bf16(value: f32) -> u16 {
    bf16::from_f32(value).to_bits()
}

pub(crate) fn pair_f16(low: f32, high: f32) -> u32 {
    u32::from(f32_to_f16(low)) | u32::from(f32_to_f16(high)) << 16
}

pub(crate) fn pair_bf16(low: f32, high: f32) -> u32 {
    u32::from(f32_to_bf16(low)) | u32::from(f32_to_bf16(high)) << 16
}

pub(crate) fn opaque(x: u32) -> u32 {
    x
}

pub(crate) fn sqrt_f32(x: f32) -> f32 {
    x.sqrt()
}

pub(crate) fn sqrt_f64(x: f64) -> f64 {
    x.sqrt()
}

pub(crate) fn floor_f32(x: f32) -> f32 {
    x.floor()
}

pub(crate) fn floor_f64(x: f64) -> f64 {
    x.floor()
}

pub(crate) fn ceil_f32(x: f32) -> f32 {
    x.ceil()
}

pub(crate) fn ceil_f64(x: f64) -> f64 {
    x.ceil()
}

pub(crate) fn trunc_f32(x: f32) -> f32 {
    x.trunc()
}

pub(crate) fn trunc_f64(x: f64) -> f64 {
    x.trunc()
}

pub(crate) fn round_f32(x: f32) -> f32 {
    x.round_ties_even()
}

pub(crate) fn round_f64(x: f64) -> f64 {
    x.round_ties_even()
}

pub(crate) fn fma_f32(a: f32, b: f32, c: f32) -> f32 {
    a.mul_add(b, c)
}

pub(crate) fn dot_bytes(a: u32, b: u32, c: i32) -> i32 {
    let pairs = a.to_le_bytes().into_iter().zip(b.to_le_bytes());
    pairs.fold(c, |sum, (a, b)| sum.wrapping_add(i32::from(a as i8) * i32::from(b as i8)))
}

pub(crate) fn fma_f64(a: f64, b: f64, c: f64) -> f64 {
    a.mul_add(b, c)
}

pub(crate) fn approximate_exp2(x: f32) -> f32 {
    let y = f64::from(x).exp2() as f32;
    if y.is_subnormal() { 0.0 } else { y }
}

pub(crate) fn approximate_reciprocal(x: f32) -> f32 {
    x.recip()
}

pub(crate) fn approximate_rsqrt(x: f32) -> f32 {
    f64::from(x).sqrt().recip() as f32
}

pub(crate) fn approximate_tanh(x: f32) -> f32 {
    f64::from(x).tanh() as f32
}
