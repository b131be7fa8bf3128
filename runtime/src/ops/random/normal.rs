//! The normal distribution.

use super::Distribution;
use crate::cpu::random::{RandomSource, RandomStream};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};

/// Of mean `mean` and standard deviation `scale`.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) struct Normal {
    mean: f64,
    scale: f64,
}

impl Distribution for Normal {
    const PARAMETERS: [(&'static str, f32); 2] = [("mean", 0.0), ("scale", 1.0)];

    fn new([mean, scale]: [f64; 2]) -> Self {
        Self { mean, scale }
    }

    fn draw(self, stream: RandomStream, i: usize) -> f64 {
        self.mean + self.scale * stream.normal(i)
    }

    fn gpu(self, site: &GpuSite<'_>, source: &RandomSource) -> Result<GpuKernel, GpuReject> {
        families::drawn::normal(site, source, [self.mean, self.scale])
    }
}
