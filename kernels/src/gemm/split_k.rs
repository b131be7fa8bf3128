//! # The sum of a product's parts
//! `C = activation(α · Σ_s partial_s + β · D)`, parts in their order. One thread per element of C.
//!
//! Grid `⌈batches·m·n / 256⌉`, block 256.

use super::{Params, divided};
use crate::device::{BF16, F16, thread};
use crate::element::Real;
use crate::entry;
use crate::launch::{Geometry, Reject};

const THREADS: u32 = 256;

pub(super) fn geometry(m: u32, n: u32, batches: u64) -> Result<Geometry, Reject> {
    let elements = super::product(&[m.into(), n.into(), batches]);
    let limit = u64::from(u32::MAX / 2);
    let blocks = elements.div_ceil(THREADS.into());
    if elements > limit {
        return Err(Reject::Extent { name: "elements of C", got: elements, limit });
    }
    Ok(Geometry::linear(blocks as u32, THREADS))
}

#[inline(always)]
fn run<T: Real>(p: Params) {
    let at = thread::index_1d();
    let size = p.m * p.n;
    let (batch, element) = divided(at, size);
    let (row, column) = divided(element, p.n);
    let c_at = u64::from(batch) * p.c_batch + u64::from(row) * p.c_row + u64::from(column);
    if batch >= p.batch_count() {
        return;
    }
    let mut sum = 0.0;
    for split in 0..p.splits {
        let part = u64::from(batch * p.splits + split) * u64::from(size);
        sum += p.partials.load((part + u64::from(element)) as usize);
    }
    let [_, _, addend] = p.offsets(batch);
    p.c.cast::<T>().store(c_at as usize, T::narrow(p.finish(sum, addend, row, column)));
}

entry!(
    /// C of f32.
    GEMM_SUM_F32 = gemm_sum_f32(Params): run::<f32>, THREADS
);
entry!(
    /// C of f16.
    GEMM_SUM_F16 = gemm_sum_f16(Params): run::<F16>, THREADS
);
entry!(
    /// C of bf16.
    GEMM_SUM_BF16 = gemm_sum_bf16(Params): run::<BF16>, THREADS
);
