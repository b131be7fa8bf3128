//! Formats that weights are stored in, widened as they are read: the type that is computed in, 16-bit floats, and
//! integers of 8 bits with a factor for each row of the matrix.
//!
//! A weight is rounded to the nearest of its format, halves to even, `f64` by way of `f32`. One that is finite and would not stay so is outside the
//! format's range. Integers are `round(w / s)` with `s = max |w| / 127` over the row, so that `s · q` is `w` to within `s / 2`.

#![allow(
    clippy::inline_always,
    reason = "vector code has to be inlined into the shell of its instruction set, or it runs without it"
)]

use super::number::Float;
use super::simd::Simd;
use crate::dtype::Element;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// Largest integer that stands for a weight.
const LARGEST: f64 = 127.0;

/// A format of weights that are computed with as `F`.
pub(crate) trait Weight<F: Float>: Element {
    /// Whether rows have factors.
    const SCALED: bool = false;
    /// Rounds `from`, weights of one row, to the format; `factor` is that of [`factor`] where rows have factors.
    fn round(from: &[F], factor: F, to: &mut [Self]);
    /// What it stands for, the factor left out.
    fn widen(self) -> F;
    /// The first elements of `from`, at least a vector of them, widened.
    fn load<S: Simd<F>>(simd: S, from: &[Self]) -> S::Vector;
}

/// The factor of a row of weights for integers; `None` where one of them is infinite or no number.
pub(crate) fn factor<F: Float>(row: &[F]) -> Option<F> {
    let largest = row.iter().try_fold(0f64, |largest, weight| {
        let size = weight.to_f64().abs();
        size.is_finite().then(|| largest.max(size))
    })?;
    // The quotient of the largest weight may round up to infinity only where the factor is no normal number.
    Some(F::from_f64(largest / LARGEST))
}

/// A weight of `row` that is finite and would not stay so in format `E`, or that no factor can be found for.
pub(crate) fn out_of_range<F: Float, E: Weight<F>>(row: &[F]) -> Option<f64> {
    if E::SCALED {
        return row.iter().map(|w| w.to_f64()).find(|w| !w.is_finite());
    }
    // Formats are symmetric and rounding is monotonic: the largest finite weight goes first.
    let sizes = row.iter().map(|w| w.to_f64()).filter(|w| w.is_finite());
    let largest = sizes.fold(0f64, |a, b| if b.abs() > a.abs() { b } else { a });
    let mut rounded = [E::default()];
    E::round(&[F::from_f64(largest)], F::one(), &mut rounded);
    (!rounded[0].widen().to_f64().is_finite()).then_some(largest)
}

/// `from` as elements of `U` where `F` is `U`.
pub(super) fn same<F: Element, U: Element>(from: &[F]) -> Option<&[U]> {
    if F::DTYPE == U::DTYPE { bytemuck::try_cast_slice(from).ok() } else { None }
}

/// [`same`], writable.
pub(super) fn same_mut<F: Element, U: Element>(from: &mut [F]) -> Option<&mut [U]> {
    if F::DTYPE == U::DTYPE { bytemuck::try_cast_slice_mut(from).ok() } else { None }
}

impl<F: Float> Weight<F> for F {
    fn round(from: &[F], _: F, to: &mut [F]) {
        to.copy_from_slice(from);
    }

    #[inline(always)]
    fn widen(self) -> F {
        self
    }

    #[inline(always)]
    fn load<S: Simd<F>>(simd: S, from: &[F]) -> S::Vector {
        simd.load(from)
    }
}

macro_rules! half_weight {
    ($($t:ty: $load:ident),*) => { $(
        impl<F: Float> Weight<F> for $t {
            fn round(from: &[F], _: F, to: &mut [Self]) {
                match same::<F, f32>(from) {
                    Some(from) => to.convert_from_f32_slice(from),
                    None => to.iter_mut().zip(from).for_each(|(to, w)| *to = <$t>::from_f32(w.to_f64() as f32)),
                }
            }

            #[inline(always)]
            fn widen(self) -> F {
                F::from_f64(self.to_f64())
            }

            #[inline(always)]
            fn load<S: Simd<F>>(simd: S, from: &[Self]) -> S::Vector {
                simd.$load(from)
            }
        }
    )* };
}

half_weight!(f16: load_f16, bf16: load_bf16);

impl<F: Float> Weight<F> for i8 {
    const SCALED: bool = true;

    fn round(from: &[F], factor: F, to: &mut [Self]) {
        let factor = factor.to_f64();
        for (to, weight) in to.iter_mut().zip(from) {
            let steps = if factor > 0.0 { weight.to_f64() / factor } else { 0.0 };
            *to = steps.round_ties_even().clamp(-LARGEST, LARGEST) as i8;
        }
    }

    #[inline(always)]
    fn widen(self) -> F {
        F::from_f64(f64::from(self))
    }

    #[inline(always)]
    fn load<S: Simd<F>>(simd: S, from: &[Self]) -> S::Vector {
        simd.load_i8(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::simd::{Lane, Level, Work};
    use crate::testing::Gen;

    struct Widen<'a, E>(&'a [E]);

    impl<E: Weight<f32>> Work for Widen<'_, E> {
        type Element = f32;
        type Output = Vec<f32>;

        #[inline(always)]
        fn run<S: Simd<f32>>(self, simd: S) -> Vec<f32> {
            let mut out = vec![0f32; self.0.len()];
            for at in (0..self.0.len()).step_by(S::LANES) {
                simd.store(E::load(simd, &self.0[at..]), &mut out[at..]);
            }
            out
        }
    }

    /// Every instruction set widens every value of a format to the same number as the format's own conversion.
    #[test]
    fn all_values_widen_alike_on_all_instruction_sets() {
        let halves: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        let brains: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).collect();
        let bytes: Vec<i8> = (i8::MIN..=i8::MAX).collect();
        let alike = |got: Vec<f32>, want: Vec<f32>, level: Level| {
            for (at, (got, want)) in got.iter().zip(&want).enumerate() {
                let same = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
                assert!(same, "{level:?} {at}: {got} instead of {want}");
            }
        };
        for level in Level::all() {
            alike(f32::run(level, Widen(&halves)), halves.iter().map(|v| v.to_f32()).collect(), level);
            alike(f32::run(level, Widen(&brains)), brains.iter().map(|v| v.to_f32()).collect(), level);
            alike(f32::run(level, Widen(&bytes)), bytes.iter().map(|v| f32::from(*v)).collect(), level);
        }
    }

    #[test]
    fn integers_are_within_half_a_step() {
        let mut g = Gen::new(5);
        for _ in 0..200 {
            let size = 10f64.powf(g.float(-30.0, 30.0));
            let row: Vec<f32> = (0..g.size(1, 40)).map(|_| (g.float(-1.0, 1.0) * size) as f32).collect();
            let factor = factor(&row).expect("finite");
            let mut rounded = vec![0i8; row.len()];
            Weight::<f32>::round(&row, factor, &mut rounded);
            for (w, q) in row.iter().zip(&rounded) {
                let error = (f64::from(*w) - f64::from(*q) * f64::from(factor)).abs();
                assert!(error <= 0.5001 * f64::from(factor), "{w} as {q} · {factor}");
            }
        }
        assert_eq!(factor(&[0f32, -0.0]), Some(0.0));
        assert_eq!(factor(&[1f32, f32::INFINITY]), None);
    }

    #[test]
    fn what_a_format_cannot_hold_is_found() {
        assert_eq!(out_of_range::<f32, f16>(&[1.0, -65504.0, 65519.9]), None);
        assert_eq!(out_of_range::<f32, f16>(&[1.0, -65520.0]), Some(-65520.0));
        assert_eq!(out_of_range::<f32, f16>(&[f32::INFINITY, f32::NAN]), None);
        assert_eq!(out_of_range::<f32, bf16>(&[1e38]), None);
        assert!(out_of_range::<f32, bf16>(&[f32::MAX]).is_some());
        assert_eq!(out_of_range::<f32, i8>(&[f32::MAX]), None);
        assert!(out_of_range::<f32, i8>(&[f32::NEG_INFINITY]).is_some());
        assert!(out_of_range::<f64, f16>(&[1e300]).is_some());
    }
}
