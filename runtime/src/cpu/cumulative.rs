//! Running sums and products along one axis.
//!
//! The accumulators of neighbouring columns live side by side in registers, in the compute type, so that
//! `f16` is rounded once per element and not once per step; memory is read and written in order.

use super::RunContext;
use super::number::Number;
use super::split::rows_per_chunk;
use super::tiles::{Chunks, Lanes, for_each_tile};
use crate::error::OpError;
use crate::exec::Looks;

/// Columns that are accumulated together.
const COLUMNS: usize = 16;

/// A running fold over the middle axis of `[outer, length, inner]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cumulative {
    pub(crate) length: usize,
    pub(crate) inner: usize,
    /// From the end to the start.
    pub(crate) reverse: bool,
    /// An element leaves itself out.
    pub(crate) exclusive: bool,
}

impl Cumulative {
    /// `out` from `x` of the same shape; `first` is the fold of nothing.
    pub(crate) fn run<T: Number>(
        &self,
        context: RunContext<'_>,
        x: &[T],
        out: &mut [T],
        first: T::Compute,
        fold: impl Fn(T::Compute, T::Compute) -> T::Compute + Sync,
    ) -> Result<(), OpError> {
        let slab = self.length * self.inner;
        if out.is_empty() {
            return Ok(());
        }
        let per = rows_per_chunk(out.len() / slab, slab, context.team.threads());
        let (work, pieces) = (out.len(), Chunks::new(out, per * slab));
        for_each_tile(context, work, Lanes::none(), &pieces, &|chunk, piece, _| {
            let x = &x[chunk * per * slab..][..piece.len()];
            let mut looks = Looks::new(context.interrupt);
            for (x, out) in x.chunks_exact(slab).zip(piece.chunks_exact_mut(slab)) {
                for left in (0..self.inner).step_by(COLUMNS) {
                    self.columns(x, out, left, first, &fold, &mut looks)?;
                }
            }
            Ok(())
        })
    }

    fn columns<T: Number>(
        &self,
        x: &[T],
        out: &mut [T],
        left: usize,
        first: T::Compute,
        fold: &impl Fn(T::Compute, T::Compute) -> T::Compute,
        looks: &mut Looks<'_>,
    ) -> Result<(), OpError> {
        let width = COLUMNS.min(self.inner - left);
        let mut sums = [first; COLUMNS];
        for steps in Looks::steps(self.length, width) {
            looks.past(steps.len() * width)?;
            for step in steps {
                let row = if self.reverse { self.length - 1 - step } else { step };
                let at = row * self.inner + left;
                let (x, out) = (&x[at..at + width], &mut out[at..at + width]);
                for ((y, x), sum) in out.iter_mut().zip(x).zip(&mut sums) {
                    let next = fold(*sum, x.load());
                    *y = T::store(if self.exclusive { *sum } else { next });
                    *sum = next;
                }
            }
        }
        Ok(())
    }
}
