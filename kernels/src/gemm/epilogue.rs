//! What happens to the sums of a tile: they pass through shared memory by slabs of rows, so that C is written in whole
//! lines and the arithmetic behind the product stands in the code once, not once per sum.

use super::Params;
use crate::device::math::fma_f32;
use crate::device::{Shared, thread};
use crate::element::Real;

/// Where a block's tile lies.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) batch: u32,
    pub(super) split: u32,
    pub(super) row: u32,
    pub(super) column: u32,
    /// Element offset of the batch in D.
    pub(super) addend: usize,
}

impl Params {
    /// `activation(α · sum + β · d)` of one element.
    #[inline(always)]
    pub(super) fn finish(&self, sum: f32, addend: usize, row: u32, column: u32) -> f32 {
        let mut y = self.alpha * sum;
        if !self.addend.is_null() {
            let at = u64::from(row) * self.addend_step[0] + u64::from(column) * self.addend_step[1];
            y = fma_f32(self.beta, self.addend.load(addend + at as usize), y);
        }
        self.activation.apply(y)
    }

    /// Writes one finished or partial sum.
    #[inline(always)]
    pub(super) fn write<T: Real>(&self, place: Place, row: u32, column: u32, sum: f32) {
        if self.splits > 1 {
            let part = u64::from(place.batch * self.splits + place.split);
            let at = (part * u64::from(self.m) + u64::from(row)) * u64::from(self.n) + u64::from(column);
            self.partials.store(at as usize, sum);
        } else {
            let at = u64::from(place.batch) * self.c_batch + u64::from(row) * self.c_row + u64::from(column);
            let y = self.finish(sum, place.addend, row, column);
            self.c.cast::<T>().store(at as usize, T::narrow(y));
        }
    }
}

/// Writes `rows` staged rows of `width` sums; `row_of` gives a staged row's number in the tile. All threads come here,
/// behind a barrier that follows the staging.
#[inline(always)]
pub(super) fn write_slab<T: Real>(
    p: &Params,
    place: Place,
    stage: Shared<f32>,
    [rows, width, pitch]: [u32; 3],
    row_of: impl Fn(u32) -> u32,
) {
    let mut at = thread::thread_idx_x();
    while at < rows * width {
        let (staged, x) = (at / width, at % width);
        let (row, column) = (place.row + row_of(staged), place.column + x);
        if row < p.m && column < p.n {
            p.write::<T>(place, row, column, stage.load((staged * pitch + x) as usize));
        }
        at += thread::block_dim_x();
    }
}
