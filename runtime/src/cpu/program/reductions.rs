//! Reductions of a tile to one element. Elements are dealt to a fixed number of lanes and the lanes combined in halves,
//! so that the result depends on nothing but the tile, and its rounding grows with the logarithm of the lanes.

use super::functions::{Add, Larger, Max, Min, Mul, Pair};
use crate::cpu::simd::{Fold, Isa, Level, Routine, TileLoop};
use crate::loops::rows::Combine;
use bytemuck::{Pod, cast_slice, cast_slice_mut};
use std::marker::PhantomData;

/// Lanes of a reduction: so many that loops over them stay loops.
const LANES: usize = 128;
/// The folds by their numbers.
const FOLDS: [Fold; 5] = [Fold::Sum, Fold::Product, Fold::Largest, Fold::Max, Fold::Min];
/// Elements that are combined with each other before they reach a lane.
const DEEP: usize = 4;
/// The elements of a tile combined by `F`; the target holds the value of nothing at first.
struct Reduced<F>(PhantomData<F>);

impl<T: Pod, F: Pair<A = T, Y = T>> TileLoop for Reduced<F> {
    #[inline(always)]
    fn run<I: Isa>(isa: I, to: &mut [u8], [from, ..]: [&[u8]; 3]) {
        let (to, from): (&mut [T], &[T]) = (cast_slice_mut(to), cast_slice(from));
        let mut lanes = [to[0]; LANES];
        let (deep, rest) = from.as_chunks::<{ DEEP * LANES }>();
        for chunk in deep {
            for i in 0..LANES {
                let first = F::at(isa, chunk[i], chunk[LANES + i]);
                let second = F::at(isa, chunk[2 * LANES + i], chunk[3 * LANES + i]);
                lanes[i] = F::at(isa, lanes[i], F::at(isa, first, second));
            }
        }
        let (chunks, rest) = rest.as_chunks::<LANES>();
        for chunk in chunks {
            for i in 0..LANES {
                lanes[i] = F::at(isa, lanes[i], chunk[i]);
            }
        }
        for (lane, &x) in lanes.iter_mut().zip(rest) {
            *lane = F::at(isa, *lane, x);
        }
        let mut width = LANES;
        while width > 1 {
            width /= 2;
            for i in 0..width {
                lanes[i] = F::at(isa, lanes[i], lanes[width + i]);
            }
        }
        to[0] = lanes[0];
    }
}

/// The same of `f32`, where instruction sets may have a way of their own.
struct Folded<const HOW: u8>;

impl<const HOW: u8> TileLoop for Folded<HOW> {
    #[inline(always)]
    fn run<I: Isa>(isa: I, to: &mut [u8], from: [&[u8]; 3]) {
        let fold = FOLDS[HOW as usize];
        match isa.fold(fold, cast_slice(from[0])) {
            Some(value) => {
                let to: &mut [f32] = cast_slice_mut(to);
                to[0] = value;
            }
            None => match fold {
                Fold::Sum => Reduced::<Add<f32>>::run(isa, to, from),
                Fold::Product => Reduced::<Mul<f32>>::run(isa, to, from),
                Fold::Largest => Reduced::<Larger<f32>>::run(isa, to, from),
                Fold::Max => Reduced::<Max<f32>>::run(isa, to, from),
                Fold::Min => Reduced::<Min<f32>>::run(isa, to, from),
            },
        }
    }
}

/// The loop that combines a tile of floats of `bytes` bytes.
pub(super) fn reduction(level: Level, combine: Combine, bytes: usize) -> Routine {
    match (combine, bytes) {
        (Combine::Sum, 4) => level.routine::<Folded<{ Fold::Sum as u8 }>>(),
        (Combine::Max, 4) => level.routine::<Folded<{ Fold::Max as u8 }>>(),
        (Combine::Largest, 4) => level.routine::<Folded<{ Fold::Largest as u8 }>>(),
        (Combine::Min, 4) => level.routine::<Folded<{ Fold::Min as u8 }>>(),
        (Combine::Prod, 4) => level.routine::<Folded<{ Fold::Product as u8 }>>(),
        (Combine::Sum, _) => level.routine::<Reduced<Add<f64>>>(),
        (Combine::Max, _) => level.routine::<Reduced<Max<f64>>>(),
        (Combine::Largest, _) => level.routine::<Reduced<Larger<f64>>>(),
        (Combine::Min, _) => level.routine::<Reduced<Min<f64>>>(),
        (Combine::Prod, _) => level.routine::<Reduced<Mul<f64>>>(),
    }
}

/// The value of nothing.
pub(super) fn identity(combine: Combine) -> f64 {
    match combine {
        Combine::Sum => 0.0,
        Combine::Max | Combine::Largest => f64::NEG_INFINITY,
        Combine::Min => f64::INFINITY,
        Combine::Prod => 1.0,
    }
}

/// The values of two tiles combined.
pub(super) fn combined(combine: Combine, a: f64, b: f64) -> f64 {
    match combine {
        Combine::Sum => a + b,
        Combine::Prod => a * b,
        _ if a.is_nan() || b.is_nan() => f64::NAN,
        Combine::Max | Combine::Largest => a.max(b),
        Combine::Min => a.min(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extremes_are_nan_where_an_element_is() {
        for (level, combine) in
            Level::all().into_iter().flat_map(|level| [(level, Combine::Max), (level, Combine::Min)])
        {
            let routine = reduction(level, combine, 4);
            let of = |values: &[f32]| {
                let mut cell = [identity(combine) as f32];
                routine.call(cast_slice_mut(&mut cell), [cast_slice(values), &[], &[]]);
                cell[0]
            };
            for length in [1, 15, 16, 31, 64, 130, 600] {
                let mut values: Vec<f32> = (0..length).map(|i| ((i * 37) % 101) as f32 - 50.0).collect();
                let want = values.iter().fold(identity(combine), |y, &x| combined(combine, y, x.into()));
                assert_eq!(f64::from(of(&values)), want, "{level:?} {combine:?} of {length}");
                for at in [0, length / 2, length - 1] {
                    let value = std::mem::replace(&mut values[at], f32::NAN);
                    assert!(of(&values).is_nan(), "{level:?} {combine:?} of {length}, NaN at {at}");
                    values[at] = value;
                }
            }
        }
    }
}
