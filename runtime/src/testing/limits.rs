//! What a processor can do at most, measured: multiply–adds in registers, and bytes read from where so many of them lie.
//! Floors of operators are made of these two.
//!
//! Bandwidth depends on the order of the reads, and on no order everywhere: each [`Order`] is tried and the best counts.
//! Every thread reads its own part of the set, as threads that share a matrix do.

use crate::cpu::simd::{Lane, Level, Simd, Work};
use crate::error::OpError;
use crate::exec::Team;
use crate::memory::{Budget, Buffer};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// The processor's limits on some threads.
#[derive(Debug)]
pub struct Limits {
    team: Team,
}

/// The order in which a set is read, time and again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Order {
    Forward,
    /// Forwards, then backwards, so that what was read last is read first.
    Turning,
    /// Four streams side by side.
    Streams,
}

const ORDERS: [Order; 3] = [Order::Forward, Order::Turning, Order::Streams];
/// Vectors that are summed side by side: more than an addition takes cycles.
const SUMS: usize = 8;
/// Most lanes of a vector.
const MOST_LANES: usize = 16;
/// Elements of a piece: every loop over one is whole vectors, and short beside what it costs to begin it.
const PIECE: usize = 4 * SUMS * MOST_LANES;
/// Chains of multiply–adds side by side: two a cycle, of at most five cycles each.
const CHAINS: usize = 12;
/// What one measurement takes at least, so that handing it to threads does not count.
const LEAST: Duration = Duration::from_micros(500);
/// Measurements of which the median counts.
const REPEATS: usize = 5;

impl Limits {
    /// Of `threads` threads, each on a core of its own where there are so many.
    pub fn new(threads: usize) -> Self {
        Self { team: Team::new(threads, true) }
    }

    /// Floating-point operations a second: multiply–adds of `f32` in registers, two operations each.
    pub fn flops(&self) -> f64 {
        const ROUNDS: usize = 1 << 16;
        let lanes = f32::run(Level::detect(), Lanes);
        let work = (2 * CHAINS * lanes * ROUNDS * self.team.threads()) as f64;
        self.rate(work, &|_, passes| {
            for _ in 0..passes {
                black_box(f32::run(Level::detect(), Chains { rounds: black_box(ROUNDS) }));
            }
        })
    }

    /// Bytes a second that a set of about `bytes` is read with, again and again.
    pub fn bandwidth(&self, bytes: usize) -> Result<f64, OpError> {
        let threads = self.team.threads();
        let pieces = (bytes / size_of::<f32>()).div_ceil(PIECE * threads).max(1);
        let mut buffer = Buffer::zeroed_for::<f32>(pieces * PIECE * threads, &Budget::unlimited())?;
        // Pages that were never written are all the same one.
        buffer.elements_mut::<f32>().fill(1.0);
        let data = buffer.elements::<f32>();
        let work = size_of_val(data) as f64;
        let of = |order| {
            self.rate(work, &|thread, passes| {
                let part = &data[thread * pieces * PIECE..][..pieces * PIECE];
                black_box(f32::run(Level::detect(), Sum { part: black_box(part), passes, order }));
            })
        };
        Ok(ORDERS.iter().map(|&order| of(order)).fold(0.0, f64::max))
    }

    /// Units of work a second, where `pass` does `work` units with all threads for each of its passes.
    fn rate(&self, work: f64, pass: &(dyn Fn(usize, usize) + Sync)) -> f64 {
        let time = |passes: usize| {
            let start = Instant::now();
            self.team.for_each_own(self.team.threads(), &|thread| pass(thread, passes));
            start.elapsed().as_secs_f64()
        };
        let mut passes = 1;
        time(passes);
        while time(passes) < LEAST.as_secs_f64() {
            passes *= 2;
        }
        let mut rates: Vec<f64> = (0..REPEATS).map(|_| work * passes as f64 / time(passes)).collect();
        rates.sort_by(f64::total_cmp);
        rates[REPEATS / 2]
    }
}

/// Lanes of a vector.
struct Lanes;

impl Work for Lanes {
    type Element = f32;
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd<f32>>(self, _simd: S) -> usize {
        S::LANES
    }
}

/// Chains of multiply–adds, each of which needs the one before it.
struct Chains {
    rounds: usize,
}

impl Work for Chains {
    type Element = f32;
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd<f32>>(self, simd: S) -> f32 {
        let (factor, shift) = (simd.splat(black_box(0.5)), simd.splat(black_box(0.25)));
        let mut sums = [simd.splat(1.0); CHAINS];
        for _ in 0..self.rounds {
            for sum in &mut sums {
                *sum = simd.mul_add(*sum, factor, shift);
            }
        }
        total(simd, &sums)
    }
}

/// The sum of a part, once for each pass.
struct Sum<'d> {
    /// Whole pieces.
    part: &'d [f32],
    passes: usize,
    order: Order,
}

impl Work for Sum<'_> {
    type Element = f32;
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd<f32>>(self, simd: S) -> f32 {
        let Self { part, passes, order } = self;
        let mut sums = [simd.splat(0.0); SUMS];
        let count = part.len() / PIECE;
        let quarter = count / 4;
        for pass in 0..passes {
            for index in 0..count {
                let piece = match order {
                    Order::Forward => index,
                    Order::Turning if pass % 2 == 1 => count - 1 - index,
                    // What is left over by four streams of one length is read behind them.
                    Order::Streams if index < 4 * quarter => index % 4 * quarter + index / 4,
                    Order::Turning | Order::Streams => index,
                };
                let piece = &part[piece * PIECE..][..PIECE];
                let mut at = 0;
                while at < PIECE {
                    for (k, sum) in sums.iter_mut().enumerate() {
                        *sum = simd.add(*sum, simd.load(&piece[at + k * S::LANES..]));
                    }
                    at += SUMS * S::LANES;
                }
            }
        }
        total(simd, &sums)
    }
}

/// The first lane of the sum of `vectors`: what keeps them from being left out.
#[inline(always)]
fn total<S: Simd<f32>>(simd: S, vectors: &[S::Vector]) -> f32 {
    let mut all = simd.splat(0.0);
    for &vector in vectors {
        all = simd.add(all, vector);
    }
    let mut line = [0.0; MOST_LANES];
    simd.store(all, &mut line);
    line[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_reads_every_piece_once_a_pass() {
        // Each piece has a value of its own, so that a piece read twice or left out changes the sum.
        for count in [1, 3, 4, 7, 8] {
            let part: Vec<f32> = (0..count * PIECE).map(|i| (1 << (i / PIECE)) as f32).collect();
            for level in Level::all() {
                for order in ORDERS {
                    let lanes = f32::run(level, Lanes);
                    let sum = f32::run(level, Sum { part: &part, passes: 3, order });
                    let want = 3 * ((1 << count) - 1) * (PIECE / lanes);
                    assert_eq!(sum, want as f32, "{order:?} on {} of {count} pieces", level.name());
                }
            }
        }
    }

    #[test]
    fn chains_end_where_they_converge() {
        // s ↦ s/2 + 1/4 has the fixed point 1/2.
        for level in Level::all() {
            let sum = f32::run(level, Chains { rounds: 100 });
            assert_eq!(sum, CHAINS as f32 / 2.0, "{}", level.name());
        }
    }

    #[test]
    fn limits_are_measured_on_every_number_of_threads() {
        for threads in [1, 2] {
            let limits = Limits::new(threads);
            assert!(limits.flops() > 1e6);
            assert!(limits.bandwidth(1 << 16).expect("memory") > 1e6);
        }
    }
}
