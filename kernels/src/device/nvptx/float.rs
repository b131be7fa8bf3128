//! Arithmetic instructions.

use core::arch::asm;

/// A function of one register by one instruction.
macro_rules! instruction {
    ($($name:ident $t:ty, $register:ident, $text:literal;)*) => { $(
        #[inline(always)]
        pub(crate) fn $name(x: $t) -> $t {
            let y: $t;
            // SAFETY: the instruction reads and writes registers.
            unsafe { asm!(concat!($text, " {}, {};"), out($register) y, in($register) x, options(pure, nomem, nostack)) };
            y
        }
    )* };
}

instruction! {
    sqrt_f32 f32, reg32, "sqrt.rn.f32";
    sqrt_f64 f64, reg64, "sqrt.rn.f64";
    floor_f32 f32, reg32, "cvt.rmi.f32.f32";
    floor_f64 f64, reg64, "cvt.rmi.f64.f64";
    ceil_f32 f32, reg32, "cvt.rpi.f32.f32";
    ceil_f64 f64, reg64, "cvt.rpi.f64.f64";
    trunc_f32 f32, reg32, "cvt.rzi.f32.f32";
    trunc_f64 f64, reg64, "cvt.rzi.f64.f64";
    round_f32 f32, reg32, "cvt.rni.f32.f32";
    round_f64 f64, reg64, "cvt.rni.f64.f64";
    opaque u32, reg32, "mov.b32";
    approximate_exp2 f32, reg32, "ex2.approx.ftz.f32";
    approximate_reciprocal f32, reg32, "rcp.approx.f32";
    approximate_rsqrt f32, reg32, "rsqrt.approx.f32";
    approximate_tanh f32, reg32, "tanh.approx.f32";
}

/// Two floats rounded into one register by one instruction; it names the upper half first.
macro_rules! pair {
    ($($name:ident $text:literal;)*) => { $(
        #[inline(always)]
        pub(crate) fn $name(low: f32, high: f32) -> u32 {
            let y: u32;
            // SAFETY: the instruction reads and writes registers.
            unsafe {
                asm!(concat!($text, " {}, {}, {};"), out(reg32) y, in(reg32) high, in(reg32) low,
                    options(pure, nomem, nostack));
            }
            y
        }
    )* };
}

pair! {
    pair_f16 "cvt.rn.f16x2.f32";
    pair_bf16 "cvt.rn.bf16x2.f32";
}

#[inline(always)]
pub(crate) fn fma_f32(a: f32, b: f32, c: f32) -> f32 {
    let d: f32;
    // SAFETY: the instruction reads and writes registers.
    unsafe {
        asm!("fma.rn.f32 {}, {}, {}, {};", out(reg32) d, in(reg32) a, in(reg32) b, in(reg32) c,
            options(pure, nomem, nostack));
    }
    d
}

#[inline(always)]
pub(crate) fn dot_bytes(a: u32, b: u32, c: i32) -> i32 {
    let d: i32;
    // SAFETY: the instruction reads and writes registers.
    unsafe {
        asm!("dp4a.s32.s32 {}, {}, {}, {};", out(reg32) d, in(reg32) a, in(reg32) b, in(reg32) c,
            options(pure, nomem, nostack));
    }
    d
}

#[inline(always)]
pub(crate) fn fma_f64(a: f64, b: f64, c: f64) -> f64 {
    let d: f64;
    // SAFETY: the instruction reads and writes registers.
    unsafe {
        asm!("fma.rn.f64 {}, {}, {}, {};", out(reg64) d, in(reg64) a, in(reg64) b, in(reg64) c,
            options(pure, nomem, nostack));
    }
    d
}

#[inline(always)]
pub(crate) fn f16_to_f32(bits: u16) -> f32 {
    let y: f32;
    // SAFETY: the instruction reads and writes registers.
    unsafe { asm!("cvt.f32.f16 {}, {};", out(reg32) y, in(reg16) bits, options(pure, nomem, nostack)) };
    y
}

#[inline(always)]
pub(crate) fn f32_to_f16(value: f32) -> u16 {
    let y: u16;
    // SAFETY: the instruction reads and writes registers.
    unsafe { asm!("cvt.rn.f16.f32 {}, {};", out(reg16) y, in(reg32) value, options(pure, nomem, nostack)) };
    y
}

/// Rounds the upper half to nearest, ties to even; a NaN keeps a bit set.
#[inline(always)]
pub(crate) fn f32_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}
