//! Instruction sets: an algorithm is written once over [`Simd`] vectors, inlined into one thin shell per
//! instruction set, and the shell is chosen at run time.
//!
//! A token such as [`Avx2`] exists only after the processor was asked for the features ([`Level::detect`]), so
//! holding one is the proof that its vector operations may run.

pub(crate) mod chain;
mod fetch;
mod isa;
#[cfg(target_arch = "x86_64")]
#[macro_use]
mod narrow;
mod routine;
#[cfg(target_arch = "x86_64")]
#[macro_use]
mod transpose;

use super::number::Float;
use super::vector_math;
pub(crate) use fetch::{fetch, fetch_at, fetch_near, order_streams};
use half::{bf16, f16};
pub(crate) use isa::{Fold, Isa};
pub(crate) use routine::{Across, FoldLoop, Folding, Routine, Span, TileLoop};

/// A vector of `F` on one instruction set. The methods are inlined into the shell that the token comes from;
/// code generic over it is to be marked `#[inline(always)]` all the way up to [`Work::run`].
pub(crate) trait Simd<F>: Copy {
    /// [`Simd::LANES`] elements.
    type Vector: Copy;
    /// Elements of a vector.
    const LANES: usize;
    /// Vector registers of the processor.
    const REGISTERS: usize;
    /// `value` in every lane.
    fn splat(self, value: F) -> Self::Vector;
    /// The first elements of `from`, which has at least [`Simd::LANES`].
    fn load(self, from: &[F]) -> Self::Vector;
    /// The same of 16-bit floats, widened.
    #[inline(always)]
    fn load_f16(self, from: &[f16]) -> Self::Vector
    where
        F: Float,
    {
        widened(self, from, |v| F::from_f64(v.to_f64()))
    }
    /// The same of the 16-bit floats that have the range of `f32`.
    #[inline(always)]
    fn load_bf16(self, from: &[bf16]) -> Self::Vector
    where
        F: Float,
    {
        widened(self, from, |v| F::from_f64(v.to_f64()))
    }
    /// The same of integers.
    #[inline(always)]
    fn load_i8(self, from: &[i8]) -> Self::Vector
    where
        F: Float,
    {
        widened(self, from, |v| F::from_f64(f64::from(v)))
    }
    /// Writes the first elements of `to`, which has at least [`Simd::LANES`].
    fn store(self, value: Self::Vector, to: &mut [F]);
    /// `a + b`.
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// The larger of each two; `b` where they are equal or one is NaN.
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// The smaller of each two; `b` where they are equal or one is NaN.
    fn min(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a · b + c`, rounded once where the instruction set can.
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// `a · b + c` of single elements, rounded as [`Simd::mul_add`] rounds.
    fn scalar_mul_add(self, a: F, b: F, c: F) -> F;
    /// Turns `rows`: `to[lane][row] = rows[row][lane]`, for each of the [`Simd::LANES`] lanes.
    #[inline(always)]
    fn columns(self, rows: &[Self::Vector; 16], to: &mut [[F; 16]; 16])
    where
        F: Float,
    {
        let mut line = [F::zero(); 16];
        for (row, &values) in rows.iter().enumerate() {
            self.store(values, &mut line);
            for (to, value) in to.iter_mut().zip(&line[..Self::LANES]) {
                to[row] = *value;
            }
        }
    }
}

/// Most lanes of a vector.
const MOST_LANES: usize = 16;

/// A vector of the first elements of `from`, each widened by itself.
#[inline(always)]
fn widened<F: Float, S: Simd<F>, E: Copy>(simd: S, from: &[E], widen: impl Fn(E) -> F) -> S::Vector {
    let mut wide = [F::zero(); MOST_LANES];
    for (to, from) in wide.iter_mut().zip(&from[..S::LANES]) {
        *to = widen(*from);
    }
    simd.load(&wide)
}

/// Something to be run on the best instruction set.
pub(crate) trait Work {
    /// The element type that it computes on.
    type Element: Lane;
    /// What it gives.
    type Output;
    /// Does it; implementations are `#[inline(always)]`.
    fn run<S: Simd<Self::Element>>(self, simd: S) -> Self::Output;
}

/// An element type that every instruction set has vectors of.
pub(crate) trait Lane: Sized {
    /// Runs `work` on `level`.
    fn run<W: Work<Element = Self>>(level: Level, work: W) -> W::Output;
}

/// An instruction set that this processor has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Level(Kind);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

impl Level {
    /// The widest instruction set of this processor.
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if has_avx512() && has_avx2() {
                return Self(Kind::Avx512(Avx512(())));
            }
            if has_avx2() {
                return Self(Kind::Avx2(Avx2(())));
            }
        }
        Self(Kind::Portable)
    }

    /// What every processor has.
    pub(crate) const PORTABLE: Self = Self(Kind::Portable);

    /// The instruction set, this one or one that it includes, whose vectors have `lanes` elements of `f32`.
    pub(crate) fn with_lanes(self, lanes: usize) -> Option<Self> {
        match (self.0, lanes) {
            (_, PORTABLE) => Some(Self::PORTABLE),
            #[cfg(target_arch = "x86_64")]
            (Kind::Avx2(_), 8) => Some(self),
            // Where AVX-512 was found, AVX2 was asked for, too.
            #[cfg(target_arch = "x86_64")]
            (Kind::Avx512(_), 8) => Some(Self(Kind::Avx2(Avx2(())))),
            #[cfg(target_arch = "x86_64")]
            (Kind::Avx512(_), 16) => Some(self),
            _ => None,
        }
    }

    /// What people call it.
    pub(crate) fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(_) => "AVX-512",
        }
    }

    /// All instruction sets of this processor.
    #[cfg(test)]
    pub(crate) fn all() -> Vec<Self> {
        let mut all = vec![Self(Kind::Portable)];
        #[cfg(target_arch = "x86_64")]
        if has_avx2() {
            all.push(Self(Kind::Avx2(Avx2(()))));
        }
        if !all.contains(&Self::detect()) {
            all.push(Self::detect());
        }
        all
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512dq")
        && std::arch::is_x86_feature_detected!("avx512vl")
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
        && std::arch::is_x86_feature_detected!("fma")
        && std::arch::is_x86_feature_detected!("f16c")
}

/// What every processor of the target has. Vectors are short arrays that the compiler maps to registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Portable;

/// AVX2 with FMA and F16C: 16 registers of 32 bytes.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Avx2(());

/// AVX-512 F, BW, DQ and VL: 32 registers of 64 bytes.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Avx512(());

/// Elements of a portable vector: 16 bytes of `f32`.
const PORTABLE: usize = 4;

impl<F: Float> Simd<F> for Portable {
    type Vector = [F; PORTABLE];
    const LANES: usize = PORTABLE;
    const REGISTERS: usize = if cfg!(target_arch = "aarch64") { 32 } else { 16 };

    #[inline(always)]
    fn splat(self, value: F) -> Self::Vector {
        [value; PORTABLE]
    }

    #[inline(always)]
    fn load(self, from: &[F]) -> Self::Vector {
        std::array::from_fn(|i| from[..PORTABLE][i])
    }

    #[inline(always)]
    fn store(self, value: Self::Vector, to: &mut [F]) {
        to[..PORTABLE].copy_from_slice(&value);
    }

    #[inline(always)]
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        std::array::from_fn(|i| a[i].add(b[i]))
    }

    #[inline(always)]
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn min(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        std::array::from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        std::array::from_fn(|i| a[i].mul(b[i]).add(c[i]))
    }

    #[inline(always)]
    fn scalar_mul_add(self, a: F, b: F, c: F) -> F {
        a.mul(b).add(c)
    }
}

#[cfg(target_arch = "x86_64")]
macro_rules! x86 {
    ($token:ty, $t:ty, $vector:ident, $lanes:literal, $regs:literal, $splat:ident, $load:ident, $store:ident,
     $add:ident, $max:ident, $min:ident, $fma:ident $(, $more:ident)*) => {
        impl Simd<$t> for $token {
            type Vector = std::arch::x86_64::$vector;
            const LANES: usize = $lanes;
            const REGISTERS: usize = $regs;
            x86!(@ splat(value: $t) -> Self::Vector { $splat(value) });
            x86!(@ load(from: &[$t]) -> Self::Vector { $load(from[..$lanes].as_ptr()) });
            x86!(@ store(value: Self::Vector, to: &mut [$t]) -> () { $store(to[..$lanes].as_mut_ptr(), value) });
            x86!(@ add(a: Self::Vector, b: Self::Vector) -> Self::Vector { $add(a, b) });
            x86!(@ max(a: Self::Vector, b: Self::Vector) -> Self::Vector { $max(a, b) });
            x86!(@ min(a: Self::Vector, b: Self::Vector) -> Self::Vector { $min(a, b) });
            x86!(@ mul_add(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector { $fma(a, b, c) });
            #[inline(always)]
            fn scalar_mul_add(self, a: $t, b: $t, c: $t) -> $t {
                a.mul_add(b, c)
            }
            $($more!($lanes);)*
        }
    };
    (@ $name:ident($($arg:ident: $type:ty),*) -> $out:ty { $intrinsic:ident($($value:expr),*) }) => {
        #[inline(always)]
        fn $name(self, $($arg: $type),*) -> $out {
            // SAFETY: the token exists only where `Level` found the features; pointers come from slices whose
            // length was checked to be a whole vector.
            unsafe { std::arch::x86_64::$intrinsic($($value),*) }
        }
    };
}

#[cfg(target_arch = "x86_64")]
x86!(
    Avx2,
    f32,
    __m256,
    8,
    16,
    _mm256_set1_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_add_ps,
    _mm256_max_ps,
    _mm256_min_ps,
    _mm256_fmadd_ps,
    narrow_avx2
);
#[cfg(target_arch = "x86_64")]
x86!(
    Avx2,
    f64,
    __m256d,
    4,
    16,
    _mm256_set1_pd,
    _mm256_loadu_pd,
    _mm256_storeu_pd,
    _mm256_add_pd,
    _mm256_max_pd,
    _mm256_min_pd,
    _mm256_fmadd_pd
);
#[cfg(target_arch = "x86_64")]
x86!(
    Avx512,
    f32,
    __m512,
    16,
    32,
    _mm512_set1_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_add_ps,
    _mm512_max_ps,
    _mm512_min_ps,
    _mm512_fmadd_ps,
    narrow_avx512,
    columns_avx512
);
#[cfg(target_arch = "x86_64")]
x86!(
    Avx512,
    f64,
    __m512d,
    8,
    32,
    _mm512_set1_pd,
    _mm512_loadu_pd,
    _mm512_storeu_pd,
    _mm512_add_pd,
    _mm512_max_pd,
    _mm512_min_pd,
    _mm512_fmadd_pd
);

macro_rules! lane {
    ($($t:ty),*) => { $(
        impl Lane for $t {
            fn run<W: Work<Element = $t>>(level: Level, work: W) -> W::Output {
                match level.0 {
                    Kind::Portable => work.run(Portable),
                    // SAFETY: the token exists only where `Level` found the features.
                    #[cfg(target_arch = "x86_64")]
                    Kind::Avx2(token) => unsafe { avx2(token, work) },
                    // SAFETY: the token exists only where `Level` found the features.
                    #[cfg(target_arch = "x86_64")]
                    Kind::Avx512(token) => unsafe { avx512(token, work) },
                }
            }
        }
    )* };
}

lane!(f32, f64);

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn avx2<W: Work>(token: Avx2, work: W) -> W::Output
where
    Avx2: Simd<W::Element>,
{
    work.run(token)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
fn avx512<W: Work>(token: Avx512, work: W) -> W::Output
where
    Avx512: Simd<W::Element>,
{
    work.run(token)
}

impl Isa for Portable {
    #[inline(always)]
    fn mul_add_f32(self, a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }

    #[inline(always)]
    fn mul_add_f64(self, a: f64, b: f64, c: f64) -> f64 {
        a * b + c
    }

    #[inline(always)]
    fn stream(self, to: &mut [u8], from: &[u8]) {
        to.copy_from_slice(from);
    }
}

#[cfg(target_arch = "x86_64")]
macro_rules! stream {
    ($bytes:literal, $load:ident, $store:ident) => {
        #[inline(always)]
        fn stream(self, to: &mut [u8], from: &[u8]) {
            assert!(to.as_ptr().addr().is_multiple_of(64) && to.len() == from.len());
            for (to, from) in to.chunks_exact_mut($bytes).zip(from.chunks_exact($bytes)) {
                // SAFETY: the token exists only where `Level` found the features; both slices hold a vector, and
                // the one that is written is aligned to it, since it lies whole vectors behind an aligned start.
                unsafe {
                    let value = std::arch::x86_64::$load(from.as_ptr().cast());
                    std::arch::x86_64::$store(to.as_mut_ptr().cast(), value);
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
impl Isa for Avx2 {
    stream!(32, _mm256_loadu_si256, _mm256_stream_si256);

    #[inline(always)]
    fn mul_add_f32(self, a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn mul_add_f64(self, a: f64, b: f64, c: f64) -> f64 {
        a.mul_add(b, c)
    }
}

#[cfg(target_arch = "x86_64")]
impl Isa for Avx512 {
    stream!(64, _mm512_loadu_si512, _mm512_stream_si512);

    #[inline(always)]
    fn exp(self, to: &mut [f32], from: &[f32], less: f32) {
        // SAFETY: the token exists only where `Level` found the features.
        unsafe { vector_math::wide::exp(to, from, less) }
    }

    #[inline(always)]
    fn exp_sum(self, to: &mut [f32], from: &[f32], less: f32) -> f32 {
        // SAFETY: the token exists only where `Level` found the features.
        unsafe { vector_math::wide::exp_sum(to, from, less) }
    }

    #[inline(always)]
    fn fold(self, fold: Fold, from: &[f32]) -> Option<f32> {
        // SAFETY: the token exists only where `Level` found the features.
        Some(unsafe { vector_math::wide::folded(fold, from) })
    }

    #[inline(always)]
    fn erf(self, to: &mut [f32], from: &[f32], scale: f32) {
        // SAFETY: the token exists only where `Level` found the features.
        unsafe { vector_math::wide::erf(to, from, scale) }
    }

    #[inline(always)]
    fn mul_add_f32(self, a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn mul_add_f64(self, a: f64, b: f64, c: f64) -> f64 {
        a.mul_add(b, c)
    }
}
