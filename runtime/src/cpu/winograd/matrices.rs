//! The transforms along one axis: by the points 0, ±1, ∞ for tiles of two outputs, and 0, ±[`P`], ±[`Q`], ∞ for tiles of
//! four.
//!
//! `Bᵀ` has the coefficients of `Π_{q≠p} (x − q)` for each point `p`, and those of `Π (x − q)` for ∞; `G` those of the
//! weights' polynomial at `p` over `Π_{q≠p} (p − q)`; `Aᵀ` the powers of `p`. Near 1 and apart from each other, `P` and `Q`
//! give a quarter of the errors that the usual 1 and 2 give, and all products of them are exact in f32.

use crate::cpu::simd::Simd;

/// Points of tiles of four outputs.
const P: f32 = 0.625;
const Q: f32 = 1.5;

/// `Bᵀ · d` of `A` inputs.
#[inline(always)]
pub(in crate::cpu) fn input<S: Simd<f32>, const A: usize>(simd: S, d: [S::Vector; A]) -> [S::Vector; A] {
    let add = |a, b, scale: f32| simd.mul_add(b, simd.splat(scale), a);
    let mut to = d;
    if A == 4 {
        to[0] = add(d[0], d[2], -1.0);
        to[1] = simd.add(d[1], d[2]);
        to[2] = add(d[2], d[1], -1.0);
        to[3] = add(d[1], d[3], -1.0);
    } else {
        let (even, odd) = (add(d[4], d[2], -Q * Q), add(d[3], d[1], -Q * Q));
        let (even_q, odd_q) = (add(d[4], d[2], -P * P), add(d[3], d[1], -P * P));
        to[0] = add(add(d[4], d[2], -P * P - Q * Q), d[0], P * P * Q * Q);
        to[1] = add(even, odd, P);
        to[2] = add(even, odd, -P);
        to[3] = add(even_q, odd_q, Q);
        to[4] = add(even_q, odd_q, -Q);
        to[5] = add(add(d[5], d[3], -P * P - Q * Q), d[1], P * P * Q * Q);
    }
    to
}

/// `Aᵀ · s` of `A` sums: `M` outputs.
#[inline(always)]
pub(in crate::cpu) fn output<S: Simd<f32>, const A: usize, const M: usize>(
    simd: S,
    s: [S::Vector; A],
) -> [S::Vector; M] {
    let add = |a, b, scale: f32| simd.mul_add(b, simd.splat(scale), a);
    let mut to = [s[0]; M];
    let (even, odd) = (simd.add(s[1], s[2]), add(s[1], s[2], -1.0));
    if A == 4 {
        to[0] = simd.add(s[0], even);
        to[1] = add(odd, s[3], -1.0);
    } else {
        let (even_q, odd_q) = (simd.add(s[3], s[4]), add(s[3], s[4], -1.0));
        let none = simd.splat(0.0);
        to[0] = simd.add(simd.add(s[0], even), even_q);
        to[1] = add(add(none, odd, P), odd_q, Q);
        to[2] = add(add(none, even, P * P), even_q, Q * Q);
        to[3] = add(add(s[5], odd, P * P * P), odd_q, Q * Q * Q);
    }
    to
}

/// `G · w` of the three weights along an axis, in the first of `to`.
#[inline(always)]
pub(in crate::cpu) fn weights(size: usize, w: [f64; 3]) -> [f64; 6] {
    let [a, b, c] = w;
    if size == 2 {
        return [a, 0.5 * (a + b + c), 0.5 * (a - b + c), c, 0.0, 0.0];
    }
    let (p, q) = (f64::from(P), f64::from(Q));
    let at = |point: f64, other: f64| {
        let over = 2.0 * point * point * (point * point - other * other);
        (a + point * b + point * point * c) / over
    };
    [a / (p * p * q * q), at(p, q), at(-p, q), at(q, p), at(-q, p), c]
}
