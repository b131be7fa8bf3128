//! Activation functions of gates, on slices of elements.
//!
//! `f32`: with `x = n·ln 2 + r`, `|r| ≤ ln 2 / 2`, `e^r − 1 = r + r²·p(r)` with a polynomial of degree 5, and
//! - `sigmoid(x) = 1 / (1 + e^−x)`, at most 4 ULP for `|x| ≤ 87`;
//! - `tanh(x) = m / (m + 2)`, `m = e^(2x) − 1 = 2ⁿ·(e^r − 1) + (2ⁿ − 1)` for `x ≥ 0` and odd, at most 4 ULP:
//!   the sum for `m` does not cancel, so small arguments keep their relative accuracy.
//!
//! Beyond that range sigmoid is within 10⁻³⁸ of the true value, and NaN stays NaN. `f64` uses the standard
//! library.

use crate::cpu::number::{Float, Real};
use crate::cpu::simd::{Lane, Level, Simd, Work};
use crate::ops::recurrence::{Activation, Function};

/// An element type that gates are computed in.
pub(crate) trait Gate: Float + Real + Lane {
    /// `1 / (1 + e^−x)`.
    fn logistic<S: Simd<Self>>(self, simd: S) -> Self;
    /// `tanh x`.
    fn hyperbolic<S: Simd<Self>>(self, simd: S) -> Self;
    /// `e^x − 1` for `x ≤ 0`.
    fn exp_minus_one<S: Simd<Self>>(self, simd: S) -> Self;
    /// `ln(1 + x)` for `x ≥ 0`.
    fn ln_one_plus(self) -> Self;
    /// `self · a + b`, of the precision that the vectors have.
    #[inline(always)]
    fn fma<S: Simd<Self>>(self, simd: S, a: Self, b: Self) -> Self {
        simd.scalar_mul_add(self, a, b)
    }
}

/// `2ⁿ` and `e^r − 1` for `x = n·ln 2 + r` with `|x| < 88.7`.
#[inline(always)]
fn split_exp<S: Simd<f32>>(simd: S, x: f32) -> (f32, f32) {
    /// Added to a number below 2²², leaves it rounded to an integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts, the first of few bits so that its products with `n` are exact.
    const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    const P: [f32; 6] = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    let rounded = simd.scalar_mul_add(x, std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = simd.scalar_mul_add(n, -LN2[1], simd.scalar_mul_add(n, -LN2[0], x));
    let mut p = P[0];
    for c in &P[1..] {
        p = simd.scalar_mul_add(p, r, *c);
    }
    let scale = f32::from_bits((rounded.to_bits() << 23).wrapping_add(0x3f80_0000));
    (scale, simd.scalar_mul_add(p, r * r, r))
}

impl Gate for f32 {
    #[inline(always)]
    fn logistic<S: Simd<f32>>(self, simd: S) -> f32 {
        let x = -self;
        let x = if x > 88.0 { 88.0 } else { x };
        let x = if x < -87.0 { -87.0 } else { x };
        let (scale, m) = split_exp(simd, x);
        1.0 / (1.0 + simd.scalar_mul_add(scale, m, scale))
    }

    #[inline(always)]
    fn hyperbolic<S: Simd<f32>>(self, simd: S) -> f32 {
        let x = 2.0 * f32::abs(self);
        let (scale, m) = split_exp(simd, if x > 20.0 { 20.0 } else { x });
        let m = simd.scalar_mul_add(scale, m, scale - 1.0);
        f32::copysign(m / (m + 2.0), self)
    }

    #[inline(always)]
    fn exp_minus_one<S: Simd<f32>>(self, simd: S) -> f32 {
        let (scale, m) = split_exp(simd, if self < -87.0 { -87.0 } else { self });
        simd.scalar_mul_add(scale, m, scale - 1.0)
    }

    fn ln_one_plus(self) -> f32 {
        self.ln_1p()
    }
}

impl Gate for f64 {
    #[inline(always)]
    fn logistic<S: Simd<f64>>(self, _: S) -> f64 {
        1.0 / (1.0 + f64::exp(-self))
    }

    #[inline(always)]
    fn hyperbolic<S: Simd<f64>>(self, _: S) -> f64 {
        f64::tanh(self)
    }

    #[inline(always)]
    fn exp_minus_one<S: Simd<f64>>(self, _: S) -> f64 {
        self.exp_m1()
    }

    fn ln_one_plus(self) -> f64 {
        self.ln_1p()
    }
}

/// Elements that are computed side by side.
const STRIP: usize = 16;

#[inline(always)]
fn each<F: Gate>(xs: &mut [F], f: impl Fn(F) -> F) {
    let (strips, rest) = xs.as_chunks_mut::<STRIP>();
    for strip in strips {
        for x in strip {
            *x = f(*x);
        }
    }
    for x in rest {
        *x = f(*x);
    }
}

/// The activation functions of a direction.
#[derive(Clone, Copy)]
pub(super) struct Gates<'a, F> {
    pub(super) level: Level,
    pub(super) activations: &'a [Activation],
    /// Bound on the functions' arguments.
    pub(super) clip: Option<F>,
    /// Whether the functions are sigmoid, tanh and tanh, those of an LSTM where none are named, and nothing is bounded.
    pub(super) usual: bool,
}

impl<'a, F: Gate> Gates<'a, F> {
    /// The functions `activations`, run on `level`, with arguments within `clip`.
    pub(super) fn new(level: Level, activations: &'a [Activation], clip: Option<F>) -> Self {
        let mut defaults = [Function::Sigmoid, Function::Tanh, Function::Tanh].into_iter();
        let usual = clip.is_none() && activations.iter().all(|a| defaults.next() == Some(a.function));
        Self { level, activations, clip, usual }
    }

    /// Applies function `index` to `xs`, bounded. In a shell of the instruction set, the usual functions are inlined.
    #[inline(always)]
    pub(super) fn activate<S: Simd<F>>(&self, simd: S, index: usize, xs: &mut [F]) {
        if self.clip.is_some() {
            self.activate_any(index, self.clip, xs);
        } else {
            self.activate_unbounded(simd, index, xs);
        }
    }

    /// The same of arguments that are not bounded.
    #[inline(always)]
    pub(super) fn activate_unbounded<S: Simd<F>>(&self, simd: S, index: usize, xs: &mut [F]) {
        match self.activations[index].function {
            Function::Sigmoid => each(xs, |x| x.logistic(simd)),
            Function::Tanh => each(xs, |x| x.hyperbolic(simd)),
            _ => self.activate_any(index, None, xs),
        }
    }

    /// Applies function `index` to `xs`, bounded.
    pub(super) fn activate_all(&self, index: usize, xs: &mut [F]) {
        self.activate_any(index, self.clip, xs);
    }

    #[inline(never)]
    fn activate_any(&self, index: usize, clip: Option<F>, xs: &mut [F]) {
        F::run(self.level, Activate { activation: self.activations[index], clip, xs });
    }
}

struct Activate<'s, F> {
    activation: Activation,
    clip: Option<F>,
    xs: &'s mut [F],
}

impl<F: Gate> Work for Activate<'_, F> {
    type Element = F;
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<F>>(self, simd: S) {
        if let Some(limit) = self.clip {
            let low = limit.neg();
            each(self.xs, |x| {
                if x > limit {
                    limit
                } else if x < low {
                    low
                } else {
                    x
                }
            });
        }
        apply(simd, self.activation, self.xs);
    }
}

#[inline(always)]
fn apply<F: Gate, S: Simd<F>>(simd: S, activation: Activation, xs: &mut [F]) {
    let (zero, one) = (F::zero(), F::one());
    let (alpha, beta) = (F::from_f64(activation.alpha.into()), F::from_f64(activation.beta.into()));
    match activation.function {
        Function::Sigmoid => each(xs, |x| x.logistic(simd)),
        Function::Tanh => each(xs, |x| x.hyperbolic(simd)),
        Function::Relu => each(xs, |x| if x < zero { zero } else { x }),
        Function::Affine => each(xs, |x| x.mul(alpha).add(beta)),
        Function::LeakyRelu => each(xs, |x| if x < zero { x.mul(alpha) } else { x }),
        Function::ThresholdedRelu => each(xs, |x| if x >= alpha { x } else { zero }),
        Function::ScaledTanh => each(xs, |x| x.mul(beta).hyperbolic(simd).mul(alpha)),
        Function::HardSigmoid => each(xs, |x| {
            let y = x.mul(alpha).add(beta);
            if y < zero {
                zero
            } else if y > one {
                one
            } else {
                y
            }
        }),
        Function::Elu => each(xs, |x| if x < zero { x.exp_minus_one(simd).mul(alpha) } else { x }),
        Function::Softsign => each(xs, |x| x.div(one.add(x.abs()))),
        // ln(1 + e^x) = max(x, 0) + ln(1 + e^−|x|), which does not overflow.
        Function::Softplus => each(xs, |x| {
            let tail = x.abs().neg().exp().ln_one_plus();
            if x > zero { x.add(tail) } else { tail }
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Both(Vec<f32>);

    impl Work for Both {
        type Element = f32;
        type Output = Vec<(f32, f32, f32)>;
        #[inline(always)]
        fn run<S: Simd<f32>>(self, simd: S) -> Self::Output {
            self.0.iter().map(|&x| (x, x.logistic(simd), x.hyperbolic(simd))).collect()
        }
    }

    fn ulps(got: f32, want: f64) -> f64 {
        let near = (want as f32).abs().max(f32::MIN_POSITIVE);
        let ulp = f64::from(f32::from_bits(near.to_bits() + 1)) - f64::from(near);
        (f64::from(got) - want).abs() / ulp
    }

    #[test]
    fn sigmoid_and_tanh_are_within_four_ulps() {
        for level in Level::all() {
            let mut points: Vec<f32> = (0..200_000).map(|i| (i as f32 - 100_000.0) * 87.0e-5).collect();
            points.extend(
                (0..40_000).map(|i| (f32::powi(1.001, -i % 30_000)) * if i % 2 == 0 { 9.0 } else { -9.0 }),
            );
            for (x, sigmoid, tanh) in f32::run(level, Both(points)) {
                let wide = f64::from(x);
                assert!(
                    ulps(sigmoid, 1.0 / (1.0 + (-wide).exp())) <= 4.0,
                    "{level:?} sigmoid({x}) = {sigmoid}"
                );
                assert!(ulps(tanh, wide.tanh()) <= 4.0, "{level:?} tanh({x}) = {tanh}");
            }
        }
    }

    #[test]
    fn extremes_are_what_they_should_be() {
        let inf = f32::INFINITY;
        for level in Level::all() {
            let got = f32::run(level, Both(vec![inf, -inf, 200.0, -200.0, 0.0, -0.0, f32::NAN]));
            let close = |(a, b): (f32, f32)| (a - b).abs() < 1e-37;
            let want = [(1.0, 1.0), (0.0, -1.0), (1.0, 1.0), (0.0, -1.0), (0.5, 0.0), (0.5, 0.0)];
            for ((x, s, t), (ws, wt)) in got.iter().zip(want) {
                assert!(close((*s, ws)) && close((*t, wt)), "{level:?} {x}: {s} {t}");
            }
            assert!(got[5].2.is_sign_negative() && got[6].1.is_nan() && got[6].2.is_nan());
        }
    }
}
