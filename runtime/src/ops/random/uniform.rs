//! The uniform distribution.

use super::Distribution;
use crate::cpu::random::{RandomSource, RandomStream};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};

/// From `low` to `high`.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) struct Uniform {
    low: f64,
    high: f64,
}

impl Distribution for Uniform {
    const PARAMETERS: [(&'static str, f32); 2] = [("low", 0.0), ("high", 1.0)];

    fn new([low, high]: [f64; 2]) -> Self {
        Self { low, high }
    }

    fn draw(self, stream: RandomStream, i: usize) -> f64 {
        self.low + (self.high - self.low) * stream.uniform(i)
    }

    fn gpu(self, site: &GpuSite<'_>, source: &RandomSource) -> Result<GpuKernel, GpuReject> {
        families::drawn::uniform(site, source, [self.low, self.high - self.low])
    }
}
