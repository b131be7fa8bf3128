//! The functions against those of f64: on even steps, on random bits, and at their edges.

use super::*;
use crate::cases::Draw;

/// Distance of `got` from `expected` in units of the last place of an f32 of that size.
fn units(got: f32, expected: f64) -> f64 {
    if f64::from(got) == expected || (got.is_nan() && expected.is_nan()) {
        return 0.0;
    }
    // Beyond the largest number by less than its unit, either is near.
    let expected = if expected.abs() < 3.402_823_8e38 { expected } else { f64::from(expected as f32) };
    if expected.is_infinite() {
        return if got == expected as f32 { 0.0 } else { f64::INFINITY };
    }
    let place = f64::from((expected as f32).abs().max(f32::MIN_POSITIVE));
    let unit = 2f64.powi(place.log2().floor() as i32 - 23);
    (f64::from(got) - expected).abs() / unit
}

fn worst(of: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64, from: f32, to: f32) -> f64 {
    let steps = 200_000;
    (0..=steps)
        .map(|i| from + (to - from) * (i as f32 / steps as f32))
        .map(|x| units(of(x), exact(f64::from(x))))
        .fold(0.0, f64::max)
}

#[test]
fn errors_are_within_the_stated_units() {
    assert!(worst(exp, f64::exp, -87.0, 88.7) < 2.0);
    assert!(worst(tanh, f64::tanh, -10.0, 10.0) < 2.0);
    assert!(worst(sigmoid, |x| 1.0 / (1.0 + (-x).exp()), -80.0, 80.0) < 3.0);
    assert!(worst(log, f64::ln, 1.5, 1e6) < 3.0);
    assert!(worst(log, f64::ln, 1e-6, 0.6) < 3.0);
    assert!(worst(erf, libm::erf, -6.0, 6.0) < 3.0);
    assert!(worst(softplus, |x| x.max(0.0) + (-x.abs()).exp().ln_1p(), -80.0, 80.0) < 4.0);
    for i in 0..100_000 {
        let x = 0.5 + i as f32 * 1e-5;
        assert!((f64::from(log(x)) - f64::from(x).ln()).abs() < 2f64.powi(-23), "{x}");
    }
}

#[test]
fn limits_are_kept() {
    assert_eq!(exp(-200.0), 0.0);
    assert_eq!(exp(100.0), f32::INFINITY);
    assert_eq!(exp(0.0), 1.0);
    assert!(exp(-100.0) > 0.0, "subnormal results stay");
    assert_eq!(log(0.0), f32::NEG_INFINITY);
    assert_eq!(log(1.0), 0.0);
    assert!(log(-1.0).is_nan());
    assert!(units(log(1e-42), f64::from(1e-42f32).ln()) < 3.0);
    assert_eq!(log(f32::INFINITY), f32::INFINITY);
    assert_eq!(tanh(50.0), 1.0);
    assert_eq!(tanh(f32::NEG_INFINITY), -1.0);
    assert_eq!(sigmoid(f32::NEG_INFINITY), 0.0);
    assert_eq!(sigmoid(f32::INFINITY), 1.0);
    assert_eq!(softplus(f32::INFINITY), f32::INFINITY);
    assert_eq!(erf(f32::NEG_INFINITY), -1.0);
    for function in [exp, log, tanh, sigmoid, softplus, erf] {
        assert!(function(f32::NAN).is_nan());
    }
}

/// Numbers of any size: random bits.
fn any(r: &mut Draw) -> f32 {
    f32::from_bits(r.bits() as u32)
}

/// The worst of `count` drawn arguments, and where it is.
fn worst_drawn(
    of: impl Fn(f32) -> f32,
    exact: impl Fn(f64) -> f64,
    draw: impl Fn(&mut Draw) -> f32,
) -> (f64, f32) {
    let mut r = Draw::new(7);
    let mut worst = (0.0, 0.0);
    for _ in 0..400_000 {
        let x = draw(&mut r);
        let got = units(of(x), exact(f64::from(x)));
        if got > worst.0 || got.is_nan() {
            worst = (got, x);
        }
    }
    worst
}

type Function = (&'static str, fn(f32) -> f32, fn(f64) -> f64, f64);

const ONE: [Function; 13] = [
    ("sin", sin, f64::sin, 2.0),
    ("cos", cos, f64::cos, 2.0),
    ("tan", tan, f64::tan, 4.0),
    ("asin", asin, f64::asin, 3.0),
    ("acos", acos, f64::acos, 3.0),
    ("atan", atan, f64::atan, 3.0),
    ("expm1", expm1, f64::exp_m1, 4.0),
    ("log1p", log1p, f64::ln_1p, 4.0),
    ("sinh", sinh, f64::sinh, 4.0),
    ("cosh", cosh, f64::cosh, 4.0),
    ("asinh", asinh, |x| x.abs().asinh().copysign(x), 4.0),
    ("acosh", acosh, f64::acosh, 4.0),
    ("atanh", atanh, libm::atanh, 4.0),
];

#[test]
fn functions_of_maps_are_within_their_units_wherever_they_are() {
    for (name, of, exact, limit) in ONE {
        for scale in [1.0, 3.0, 20.0, 100.0, 1e5] {
            let (got, x) = worst_drawn(of, exact, |r| r.unit() * scale);
            assert!(got <= limit, "{name}({x:e}): {got} units");
        }
        let (got, x) = worst_drawn(of, exact, any);
        assert!(got <= limit, "{name}({x:e}): {got} units");
        for x in [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1.0, -1.0, f32::MAX, 1e-45] {
            let want = exact(f64::from(x));
            assert!(units(of(x), want) <= limit, "{name}({x}): {} instead of {want}", of(x));
            let signed = want != 0.0 || of(x).is_sign_negative() == want.is_sign_negative();
            assert!(signed, "{name}({x}) has another sign");
        }
    }
}

#[test]
fn multiples_of_a_quarter_turn_keep_their_sine() {
    // The f32 nearest to multiples of π/2, of which those beyond 2¹⁶ are reduced in integers.
    for n in (1..200_000).step_by(7) {
        let x = (f64::from(n) * std::f64::consts::FRAC_PI_2) as f32;
        for (name, of, exact, limit) in &ONE[..3] {
            let got = units(of(x), exact(f64::from(x)));
            assert!(got <= *limit, "{name}({x}): {got} units");
        }
    }
}

#[test]
fn powers_are_within_four_units() {
    let mut r = Draw::new(3);
    for number in 0..1_000_000 {
        let (x, y) = match number % 4 {
            0 => (any(&mut r), any(&mut r)),
            1 => (r.unit().abs() * 10.0, r.unit() * 40.0),
            2 => (1.0 + r.unit() * 1e-3, r.unit() * 1e5),
            _ => (any(&mut r), r.within(0..=24) as f32 - 12.0),
        };
        let want = f64::from(x).powf(f64::from(y));
        let got = pow(x, y);
        assert!(units(got, want) <= 4.0, "{x:e}^{y:e}: {got:e} instead of {want:e}");
    }
}

#[test]
fn powers_and_remainders_have_their_edges() {
    let edges = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        2.0,
        -2.0,
        3.0,
        -3.0,
        0.5,
        -0.5,
        16_777_215.0,
        -16_777_215.0,
        16_777_216.0,
        1e-45,
        -1e-45,
        f32::MAX,
        f32::MIN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
    ];
    for x in edges {
        for y in edges {
            let (want, got) = (f64::from(x).powf(f64::from(y)), pow(x, y));
            assert!(units(got, want) <= 4.0, "{x}^{y}: {got} instead of {want}");
            let same = want.is_nan() || got.is_sign_negative() == want.is_sign_negative();
            assert!(same, "{x}^{y}: {got} instead of {want}");
            let (want, got) = (x % y, rem(x, y));
            assert!(got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()), "{x} % {y}: {got}");
        }
    }
}

#[test]
fn remainders_are_exact() {
    let mut r = Draw::new(5);
    for number in 0..1_000_000 {
        let (x, y) = match number % 3 {
            0 => (any(&mut r), any(&mut r)),
            1 => (r.unit() * 1e4, r.unit()),
            _ => (any(&mut r), f32::from_bits(r.bits() as u32 & 0x80ff_ffff)),
        };
        let (want, got) = (x % y, rem(x, y));
        assert!(got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()), "{x:e} % {y:e}: {got:e}");
    }
}

/// Distance of `got` from `expected` in units of the last place of an f64 of that size.
fn units_of_double(got: f64, expected: f64) -> f64 {
    if got == expected || (got.is_nan() && expected.is_nan()) {
        return 0.0;
    }
    if !got.is_finite() || !expected.is_finite() {
        return f64::INFINITY;
    }
    let exponent = (expected.abs().max(f64::MIN_POSITIVE).to_bits() >> 52) as i32;
    (got - expected).abs() / 2f64.powi(exponent - 1075)
}

/// The host's functions are below 1 unit themselves: a limit is one above what the function states.
#[test]
fn functions_of_double_are_within_their_units_wherever_they_are() {
    type Double = (&'static str, fn(f64) -> f64, fn(f64) -> f64, f64);
    let functions: [Double; 4] = [
        ("sin", |x| double::sin_cos(double::reduced(x)).0, f64::sin, 2.0),
        ("cos", |x| double::sin_cos(double::reduced(x)).1, f64::cos, 2.0),
        (
            "sin / cos",
            |x| {
                let (s, c) = double::sin_cos(double::reduced(x));
                s / c
            },
            f64::tan,
            3.0,
        ),
        ("erf", double::erf, libm::erf, 0.0),
    ];
    let mut r = Draw::new(11);
    for (name, of, exact, limit) in functions {
        for scale in [1.0, 4.0, 100.0, 1e6, 1e15] {
            for _ in 0..100_000 {
                let x = f64::from(r.unit()) * scale + f64::from(r.unit()) * 1e-8;
                let got = units_of_double(of(x), exact(x));
                assert!(got <= limit, "{name}({x:e}): {got} units");
            }
        }
        for _ in 0..200_000 {
            let x = f64::from_bits(r.bits());
            let got = units_of_double(of(x), exact(x));
            assert!(got <= limit, "{name}({x:e}): {got} units");
        }
        for n in 1..100_000 {
            let x = f64::from(n) * std::f64::consts::FRAC_PI_2;
            let got = units_of_double(of(x), exact(x));
            assert!(got <= limit, "{name}({x:e}): {got} units");
        }
        for x in [0.0, -0.0, f64::INFINITY, f64::NAN, f64::MAX, f64::MIN_POSITIVE, 5e-324, -5e-324] {
            let (got, want) = (of(x), exact(x));
            assert!(units_of_double(got, want) <= limit, "{name}({x:e}): {got} instead of {want}");
            let same = want.is_nan() || got.is_sign_negative() == want.is_sign_negative();
            assert!(same, "{name}({x:e}) has another sign");
        }
    }
}

/// The f64 that is nearest to a multiple of π/2 beside its size, 2⁻⁶¹ of one away (Kahan).
#[test]
fn the_hardest_argument_keeps_its_sine() {
    let x = 6_381_956_970_095_103.0 * 2f64.powi(797);
    let (sine, cosine) = double::sin_cos(double::reduced(x));
    assert!(units_of_double(cosine, -4.687_165_924_254_628e-19) <= 2.0, "{cosine:e}");
    assert_eq!(sine, 1.0);
}

#[test]
fn remainders_of_double_are_exact() {
    let mut r = Draw::new(5);
    let edges = [0.0, -0.0, 1.0, -3.0, 5e-324, f64::MAX, f64::INFINITY, f64::NAN, 2f64.powi(53) - 1.0];
    let drawn = (0..300_000).map(|number| match number % 3 {
        0 => (f64::from_bits(r.bits()), f64::from_bits(r.bits())),
        1 => (f64::from(r.unit()) * 1e9, f64::from(r.unit())),
        _ => (f64::from_bits(r.bits()), f64::from_bits(r.bits() & 0x800f_ffff_ffff_ffff)),
    });
    let all: Vec<(f64, f64)> = edges.iter().flat_map(|&x| edges.map(|y| (x, y))).chain(drawn).collect();
    for (x, y) in all {
        let (want, got) = (x % y, double::rem(x, y));
        assert!(got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()), "{x:e} % {y:e}: {got:e}");
    }
}
