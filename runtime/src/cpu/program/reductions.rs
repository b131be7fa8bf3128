//! Reductions of a tile to one element. Elements are dealt to a fixed number of lanes and the lanes combined in halves,
//! so that the result depends on nothing but the tile, and its rounding grows with the logarithm of the lanes.

use super::functions::{Add, Larger, Max, Min, Mul, Pair};
use crate::cpu::simd::{Isa, Level, Routine, TileLoop};
use crate::loops::rows::Combine;
use bytemuck::{Pod, cast_slice, cast_slice_mut};
use std::marker::PhantomData;

/// Lanes of a reduction: so many that loops over them stay loops.
const LANES: usize = 128;
/// Elements that are combined with each other before they reach a lane.
const DEEP: usize = 4;
/// Each lane of the first half with its fellow of the second.
#[inline(always)]
fn halved<T: Pod, F: Pair<A = T, Y = T>, I: Isa, const N: usize, const HALF: usize>(
    isa: I,
    lanes: &[T; N],
) -> [T; HALF] {
    std::array::from_fn(|i| F::at(isa, lanes[i], lanes[HALF + i]))
}

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
        let lanes: [T; 64] = halved::<T, F, I, LANES, 64>(isa, &lanes);
        let lanes: [T; 32] = halved::<T, F, I, 64, 32>(isa, &lanes);
        let lanes: [T; 16] = halved::<T, F, I, 32, 16>(isa, &lanes);
        let lanes: [T; 8] = halved::<T, F, I, 16, 8>(isa, &lanes);
        let lanes: [T; 4] = halved::<T, F, I, 8, 4>(isa, &lanes);
        to[0] = F::at(isa, F::at(isa, lanes[0], lanes[2]), F::at(isa, lanes[1], lanes[3]));
    }
}

/// The loop that combines a tile of floats of `bytes` bytes.
pub(super) fn reduction(level: Level, combine: Combine, bytes: usize) -> Routine {
    match (combine, bytes) {
        (Combine::Sum, 4) => level.routine::<Reduced<Add<f32>>>(),
        (Combine::Max, 4) => level.routine::<Reduced<Max<f32>>>(),
        (Combine::Largest, 4) => level.routine::<Reduced<Larger<f32>>>(),
        (Combine::Min, 4) => level.routine::<Reduced<Min<f32>>>(),
        (Combine::Prod, 4) => level.routine::<Reduced<Mul<f32>>>(),
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
