//! The functions of `f32` against f64, in units in the last place, on every instruction set.

use super::{Math, TURNS};
use crate::cpu::simd::{Isa, Level, TileLoop};
use std::marker::PhantomData;

/// A function under test, its reference, the units it may be off, and the largest magnitude of its arguments.
trait Function {
    const NAME: &'static str;
    const BOUND: f64;
    const LIMIT: f32 = f32::INFINITY;
    fn at<I: Isa>(isa: I, x: f32) -> f32;
    fn want(x: f64) -> f64;
    /// All of `from`, as kernels compute it.
    #[inline(always)]
    fn all<I: Isa>(isa: I, to: &mut [f32], from: &[f32]) {
        for (y, &x) in to.iter_mut().zip(from) {
            *y = Self::at(isa, x);
        }
    }
}

macro_rules! functions {
    ($($name:ident $method:ident, $bound:literal, $limit:expr, $x:ident => $want:expr;)*) => { $(
        struct $name;
        impl Function for $name {
            const NAME: &'static str = stringify!($method);
            const BOUND: f64 = $bound;
            const LIMIT: f32 = $limit;
            #[inline(always)]
            fn at<I: Isa>(isa: I, x: f32) -> f32 { Math::$method(x, isa) }
            fn want($x: f64) -> f64 { $want }
        }
    )* };
}

functions! {
    Exp exp, 2.0, f32::INFINITY, x => x.exp();
    ExpM1 exp_m1, 4.0, f32::INFINITY, x => x.exp_m1();
    Log log, 4.0, f32::INFINITY, x => x.ln();
    Log1p log1p, 4.0, f32::INFINITY, x => x.ln_1p();
    Sigmoid sigmoid, 4.0, f32::INFINITY, x => 1.0 / (1.0 + (-x).exp());
    Tanh tanh, 4.0, f32::INFINITY, x => x.tanh();
    Erf erf, 4.0, f32::INFINITY, x => libm::erf(x);
    Softplus softplus, 4.0, f32::INFINITY, x => if x > 0.0 { x + (-x).exp().ln_1p() } else { x.exp().ln_1p() };
    Sin sin, 4.0, TURNS, x => x.sin();
    Cos cos, 4.0, TURNS, x => x.cos();
}

struct Each<F>(PhantomData<F>);

impl<F: Function> TileLoop for Each<F> {
    #[inline(always)]
    fn run<I: Isa>(isa: I, to: &mut [u8], [from, ..]: [&[u8]; 3]) {
        let (to, from): (&mut [f32], &[f32]) = (bytemuck::cast_slice_mut(to), bytemuck::cast_slice(from));
        F::all(isa, to, from);
    }
}

/// What takes whole tiles.
macro_rules! tiles {
    ($($name:ident($each:ident) $method:ident, $neutral:literal;)*) => { $(
        struct $name;
        impl Function for $name {
            const NAME: &'static str = stringify!($method of a tile);
            const BOUND: f64 = $each::BOUND;
            fn at<I: Isa>(isa: I, x: f32) -> f32 { $each::at(isa, x) }
            fn want(x: f64) -> f64 { $each::want(x) }
            #[inline(always)]
            fn all<I: Isa>(isa: I, to: &mut [f32], from: &[f32]) { isa.$method(to, from, $neutral) }
        }
    )* };
}

tiles! {
    ExpTile(Exp) exp, 0.0;
    ErfTile(Erf) erf, 1.0;
}

/// Distance of `got` from `want` in units in the last place of an f32 near `want`.
fn ulps(got: f32, want: f64) -> f64 {
    let same_sign = got.is_sign_negative() == want.is_sign_negative();
    match want as f32 {
        rounded if rounded.is_nan() || got.is_nan() => {
            return if rounded.is_nan() && got.is_nan() { 0.0 } else { f64::INFINITY };
        }
        rounded if rounded.is_infinite() && got == rounded => return 0.0,
        rounded if rounded == 0.0 && got == 0.0 => return if same_sign { 0.0 } else { f64::INFINITY },
        _ => {}
    }
    let near = (want.abs() as f32).clamp(f32::MIN_POSITIVE, f32::MAX.next_down());
    let unit = f64::from(near.next_up()) - f64::from(near);
    let got = if got.is_infinite() { f64::from(f32::MAX).copysign(got.into()) } else { got.into() };
    (got - want).abs() / unit
}

/// The largest error over every `step`th value, and where, on each level: at least half a unit, which rounding takes.
/// Blocks of values are dealt out to threads.
fn worst<F: Function>(step: usize) -> Vec<(Level, f64, f32)> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut all: Vec<(Level, f64, f32)> = Level::all().into_iter().map(|level| (level, 0.5, 0.0)).collect();
    let parts: Vec<Vec<(Level, f64, f32)>> = std::thread::scope(|scope| {
        let start = |thread| scope.spawn(move || worst_of::<F>(step, thread, threads));
        let running: Vec<_> = (0..threads).map(start).collect();
        running.into_iter().map(|part| part.join().expect("no panic")).collect()
    });
    for part in parts {
        for (all, part) in all.iter_mut().zip(part) {
            if part.1 > all.1 {
                *all = part;
            }
        }
    }
    all
}

/// The same over every `threads`th block of values, from block `thread` on.
fn worst_of<F: Function>(step: usize, thread: usize, threads: usize) -> Vec<(Level, f64, f32)> {
    const BLOCK: usize = 4096;
    let mut worst: Vec<(Level, f64, f32)> = Level::all().into_iter().map(|level| (level, 0.5, 0.0)).collect();
    let (mut xs, mut wants, mut ys) =
        (Vec::with_capacity(BLOCK), Vec::with_capacity(BLOCK), vec![0f32; BLOCK]);
    let count = (1usize << 32).div_ceil(step);
    for block in (thread..count.div_ceil(BLOCK)).step_by(threads) {
        let values = block * BLOCK..count.min((block + 1) * BLOCK);
        xs.clear();
        xs.extend(
            values.map(|i| f32::from_bits((i * step) as u32)).filter(|x| x.is_nan() || x.abs() <= F::LIMIT),
        );
        wants.clear();
        wants.extend(xs.iter().map(|&x| F::want(x.into())));
        for (level, most, place) in &mut worst {
            let to = bytemuck::cast_slice_mut(&mut ys[..xs.len()]);
            level.routine::<Each<F>>().call(to, [bytemuck::cast_slice(&xs), &[], &[]]);
            for ((&x, &want), &y) in xs.iter().zip(&wants).zip(&ys) {
                if y.to_bits() == (want as f32).to_bits() {
                    continue;
                }
                let off = ulps(y, want);
                if off > *most {
                    (*most, *place) = (off, x);
                }
            }
        }
    }
    worst
}

fn hold<F: Function>(step: usize) {
    for (level, off, x) in worst::<F>(step) {
        eprintln!("{} on {level:?}: {off:.3} ULP at {x:e}", F::NAME);
        assert!(off <= F::BOUND, "{} on {level:?}: {off} ULP at {x:e}", F::NAME);
    }
}

/// Odd, so that all low bits occur.
const STEP: usize = 257;

#[test]
fn exponentials_are_within_their_bounds() {
    hold::<Exp>(STEP);
    hold::<ExpTile>(STEP);
    hold::<ExpM1>(STEP);
}

#[test]
fn sigmoid_and_tanh_are_within_their_bounds() {
    hold::<Sigmoid>(STEP);
    hold::<Tanh>(STEP);
}

#[test]
fn logarithms_are_within_their_bounds() {
    hold::<Log>(STEP);
    hold::<Log1p>(STEP);
    hold::<Softplus>(STEP);
}

#[test]
fn the_error_function_is_within_its_bound() {
    hold::<Erf>(STEP);
    hold::<ErfTile>(STEP);
}

#[test]
fn sine_and_cosine_are_within_their_bounds() {
    hold::<Sin>(STEP);
    hold::<Cos>(STEP);
}

#[test]
fn the_exponential_turns_infinite_where_it_should() {
    for level in Level::all() {
        let xs =
            [88.722_83f32, 88.722_84, f32::MAX, f32::INFINITY, -103.97, -104.5, f32::NEG_INFINITY, f32::NAN];
        let mut ys = [0f32; 8];
        let routine = level.routine::<Each<ExpTile>>();
        routine.call(bytemuck::cast_slice_mut(&mut ys), [bytemuck::cast_slice(&xs), &[], &[]]);
        assert!(ys[0] > 3.402e38 && ys[0] < f32::INFINITY, "{level:?}: {}", ys[0]);
        assert!(ys[1..4].iter().all(|&y| y == f32::INFINITY), "{level:?}: {ys:?}");
        assert!(
            ys[4] == f32::from_bits(1) && ys[5] == 0.0 && ys[6] == 0.0 && ys[7].is_nan(),
            "{level:?}: {ys:?}"
        );
    }
}

/// Zeros, the smallest and largest numbers, and none, which steps over the others leave out.
fn hold_at_the_ends<F: Function>() {
    let ends =
        [0.0, f32::from_bits(1), f32::MIN_POSITIVE, f32::EPSILON, 1.0, F::LIMIT.min(f32::MAX), f32::INFINITY];
    let ends = ends.into_iter().filter(|x| *x <= F::LIMIT);
    let xs: Vec<f32> = ends.flat_map(|x| [x, -x]).chain([f32::NAN]).collect();
    for level in Level::all() {
        let mut ys = vec![0f32; xs.len()];
        let to = bytemuck::cast_slice_mut(&mut ys);
        level.routine::<Each<F>>().call(to, [bytemuck::cast_slice(&xs), &[], &[]]);
        for (&x, &y) in xs.iter().zip(&ys) {
            let off = ulps(y, F::want(x.into()));
            assert!(off <= F::BOUND, "{} on {level:?}: {off} ULP at {x:e}", F::NAME);
        }
    }
}

#[test]
fn zeros_keep_their_signs_and_ends_their_values() {
    hold_at_the_ends::<Exp>();
    hold_at_the_ends::<ExpTile>();
    hold_at_the_ends::<ExpM1>();
    hold_at_the_ends::<Sigmoid>();
    hold_at_the_ends::<Tanh>();
    hold_at_the_ends::<Log>();
    hold_at_the_ends::<Log1p>();
    hold_at_the_ends::<Softplus>();
    hold_at_the_ends::<Erf>();
    hold_at_the_ends::<ErfTile>();
    hold_at_the_ends::<Sin>();
    hold_at_the_ends::<Cos>();
}

/// Every value is held, or every `RECURVE_STRIDE`th.
fn stride() -> usize {
    std::env::var("RECURVE_STRIDE").map_or(1, |s| s.parse().expect("a number of values"))
}

#[test]
#[ignore = "minutes: the soak job vector-math"]
fn every_exponential_is_within_its_bound() {
    hold::<Exp>(stride());
    hold::<ExpTile>(stride());
    hold::<ExpM1>(stride());
}

#[test]
#[ignore = "minutes: the soak job vector-math"]
fn every_sigmoid_and_tanh_is_within_its_bound() {
    hold::<Sigmoid>(stride());
    hold::<Tanh>(stride());
}

#[test]
#[ignore = "minutes: the soak job vector-math"]
fn every_logarithm_is_within_its_bound() {
    hold::<Log>(stride());
    hold::<Log1p>(stride());
    hold::<Softplus>(stride());
}

#[test]
#[ignore = "minutes: the soak job vector-math"]
fn every_error_function_is_within_its_bound() {
    hold::<Erf>(stride());
    hold::<ErfTile>(stride());
}

#[test]
#[ignore = "minutes: the soak job vector-math"]
fn every_sine_and_cosine_is_within_its_bound() {
    hold::<Sin>(stride());
    hold::<Cos>(stride());
}
