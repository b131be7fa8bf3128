//! Random numbers for operators: element `i` of execution `n` of a node is a function of its seed, `n` and
//! `i`, whatever the number of threads.
//!
//! The bits are SplitMix64's at position `i` of a stream that starts at a mix of seed and `n`. A node with a
//! seed gives the same sequence of outputs in every process; one without takes a seed from the system when it
//! is read.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a stream's bits are mixed of, where another processor mixes them, too: what is added from one element to the next, and
/// the shifts and factors of [`mix`].
pub(crate) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
pub(crate) const MIXES: [(u32, u64); 2] = [(30, 0xbf58_476d_1ce4_e5b9), (27, 0x94d0_49bb_1331_11eb)];
pub(crate) const LAST_SHIFT: u32 = 31;

/// Where a node takes its random numbers from; clones share the count of executions.
#[derive(Clone, Debug)]
pub(crate) struct RandomSource {
    seed: u64,
    executions: Arc<AtomicU64>,
}

impl RandomSource {
    /// From the bits of the seed that the model gives, or from the system.
    pub(crate) fn new(seed: Option<u64>) -> Self {
        let seed = seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        Self { seed, executions: Arc::default() }
    }

    /// The stream of the next execution.
    pub(crate) fn next(&self) -> RandomStream {
        let n = self.executions.fetch_add(1, Ordering::Relaxed);
        RandomStream { start: mix(self.seed ^ mix(n.wrapping_mul(GOLDEN))) }
    }
}

/// The random numbers of one execution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RandomStream {
    start: u64,
}

impl RandomStream {
    /// What its bits are a function of, beside the element.
    pub(crate) fn start(self) -> u64 {
        self.start
    }

    /// 64 random bits.
    pub(crate) fn bits(self, i: usize) -> u64 {
        mix(self.start.wrapping_add((i as u64).wrapping_mul(GOLDEN)))
    }

    /// Uniform in [0, 1), a multiple of 2⁻⁵³.
    pub(crate) fn uniform(self, i: usize) -> f64 {
        (self.bits(i) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Of the standard normal distribution, by Box's and Muller's transform of two uniform numbers.
    pub(crate) fn normal(self, i: usize) -> f64 {
        let (radius, angle) = (1.0 - self.uniform(2 * i), self.uniform(2 * i + 1));
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }
}

fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(GOLDEN);
    for (shift, factor) in MIXES {
        z = (z ^ (z >> shift)).wrapping_mul(factor);
    }
    z ^ (z >> LAST_SHIFT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_distributions() {
        const N: usize = 200_000;
        let stream = RandomSource::new(Some(7)).next();
        let moments = |draw: &dyn Fn(usize) -> f64| {
            let mean = (0..N).map(draw).sum::<f64>() / N as f64;
            (mean, (0..N).map(|i| (draw(i) - mean).powi(2)).sum::<f64>() / N as f64)
        };
        let (mean, variance) = moments(&|i| stream.uniform(i));
        assert!((mean - 0.5).abs() < 0.005 && (variance - 1.0 / 12.0).abs() < 0.001, "{mean} {variance}");
        let (mean, variance) = moments(&|i| stream.normal(i));
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }

    #[test]
    fn a_seed_fixes_the_sequence_of_executions() {
        let (a, b) = (RandomSource::new(Some(3)), RandomSource::new(Some(3)));
        let (first, second) = (a.next(), a.next());
        assert_eq!((first.bits(0), second.bits(0)), (b.next().bits(0), b.next().bits(0)));
        assert_ne!(first.bits(0), second.bits(0));
        assert_ne!(RandomSource::new(None).next().bits(0), RandomSource::new(None).next().bits(0));
    }
}
