//! Between storage and registers, and between kinds of registers.

use super::functions::Single;
use crate::cpu::simd::{Isa, TileLoop};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use std::marker::PhantomData;

/// `as` from `A` to `Y`: integers wrap, floats round, truncate and saturate.
pub(super) struct As<A, Y>(PhantomData<(A, Y)>);
/// Whether `A` is not zero.
pub(super) struct Truth<A>(PhantomData<A>);
/// The values of `N`, wrapped, in the wider `T`.
pub(super) struct Wrapped<T, N>(PhantomData<(T, N)>);

macro_rules! numeric {
    ($($a:ty => $($y:ty)*;)*) => { $( $(
        impl Single for As<$a, $y> {
            type A = $a;
            type Y = $y;
            #[inline(always)]
            fn at<I: Isa>(_: I, a: $a) -> $y { a as $y }
        }
    )* )* };
}
numeric! {
    f32 => f64 i32 i64 u64;
    f64 => f32 i32 i64 u64;
    i32 => f32 f64 i64 u64 i8 u8 i16 u16;
    i64 => f32 f64 i32 u64 u32;
    u64 => f32 f64 i32 i64;
    u32 => f32 f64 i32 i64 u64 u8;
    i8 => i32;
    u8 => i32;
    i16 => i32;
    u16 => i32;
}

macro_rules! truth {
    ($($a:ty: $zero:literal),*) => { $(
        impl Single for Truth<$a> {
            type A = $a;
            type Y = u32;
            #[inline(always)]
            fn at<I: Isa>(_: I, a: $a) -> u32 { u32::from(a != $zero) }
        }
    )* };
}
truth!(f32: 0.0, f64: 0.0, i32: 0, i64: 0, u64: 0, u8: 0);

macro_rules! wrapped {
    ($($t:ty: $($n:ty)*;)*) => { $( $(
        impl Single for Wrapped<$t, $n> {
            type A = $t;
            type Y = $t;
            #[inline(always)]
            fn at<I: Isa>(_: I, a: $t) -> $t { a as $n as $t }
        }
    )* )* };
}
wrapped! {
    i32: i8 u8 i16 u16;
    i64: u32;
}

/// The nearest `bf16`, halves to even: the upper half of the bits after adding just under half a unit.
#[inline(always)]
fn bf16_bits(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000;
    if x.is_nan() { bits & 0xffff_0000 | 0x40_0000 } else { rounded }
}

/// The nearest value of `f16` to an `f32`, halves to even.
pub(super) struct RoundF16;
impl Single for RoundF16 {
    type A = f32;
    type Y = f32;
    /// Thirteen bits are dropped; below 2⁻¹⁴ the unit is 2⁻²⁴, to which adding 0.75 rounds; what rounds to 2¹⁶ or
    /// more is infinite.
    #[inline(always)]
    fn at<I: Isa>(_: I, x: f32) -> f32 {
        const SMALLEST_NORMAL: f32 = 6.103_515_6e-5;
        let magnitude = x.abs();
        let bits = magnitude.to_bits();
        let rounded = f32::from_bits(bits.wrapping_add(0xfff + (bits >> 13 & 1)) & !0x1fff);
        let normal = if rounded >= 65_536.0 { f32::INFINITY } else { rounded };
        let small = (magnitude + 0.75) - 0.75;
        let result = if magnitude < SMALLEST_NORMAL { small } else { normal };
        let result = if x.is_nan() { x } else { result };
        result.copysign(x)
    }
}

/// `f64` to `f32`, where it is not exact to the neighbour whose last bit is set.
pub(super) struct RoundToOdd;
impl Single for RoundToOdd {
    type A = f64;
    type Y = f32;
    #[inline(always)]
    fn at<I: Isa>(_: I, x: f64) -> f32 {
        let nearest = x as f32;
        let wide = f64::from(nearest);
        let cut = nearest.to_bits().wrapping_sub(u32::from(wide.abs() > x.abs()));
        let odd = f32::from_bits(cut | 1);
        if wide == x || x.is_nan() { nearest } else { odd }
    }
}

/// The nearest value of `bf16` to an `f32`, halves to even.
pub(super) struct RoundBf16;
impl Single for RoundBf16 {
    type A = f32;
    type Y = f32;
    #[inline(always)]
    fn at<I: Isa>(_: I, x: f32) -> f32 {
        f32::from_bits(bf16_bits(x))
    }
}

/// `bf16` to `f32`.
pub(super) struct LoadBf16;
impl Single for LoadBf16 {
    type A = bf16;
    type Y = f32;
    #[inline(always)]
    fn at<I: Isa>(_: I, a: bf16) -> f32 {
        f32::from_bits(u32::from(a.to_bits()) << 16)
    }
}

/// `f32` to `bf16`.
pub(super) struct StoreBf16;
impl Single for StoreBf16 {
    type A = f32;
    type Y = bf16;
    #[inline(always)]
    fn at<I: Isa>(_: I, a: f32) -> bf16 {
        bf16::from_bits((bf16_bits(a) >> 16) as u16)
    }
}

/// `f16` to `f32`, by the processor's conversion where it has one.
pub(super) struct LoadF16;
impl TileLoop for LoadF16 {
    #[inline(always)]
    fn run<I: Isa>(_: I, to: &mut [u8], [from, ..]: [&[u8]; 3]) {
        bytemuck::cast_slice::<_, f16>(from).convert_to_f32_slice(bytemuck::cast_slice_mut(to));
    }
}

/// `f32` to `f16`, by the processor's conversion where it has one.
pub(super) struct StoreF16;
impl TileLoop for StoreF16 {
    #[inline(always)]
    fn run<I: Isa>(_: I, to: &mut [u8], [from, ..]: [&[u8]; 3]) {
        bytemuck::cast_slice_mut::<_, f16>(to).convert_from_f32_slice(bytemuck::cast_slice(from));
    }
}
