//! Lines: a tensor seen as `[outer, length, inner]`, and loops over its lines along the middle axis.
//!
//! Where `inner` is 1 a line is contiguous; otherwise neighbouring lines are handled together, so that memory
//! is read in order.

use super::RunContext;
use super::tiles::{Chunks, Lanes, PARALLEL_WORK, for_each_tile};
use crate::error::OpError;
use crate::exec::Looks;

/// A tensor seen as `[outer, length, inner]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lines {
    pub(crate) outer: usize,
    pub(crate) length: usize,
    pub(crate) inner: usize,
}

impl Lines {
    /// Along `axis` of `shape`.
    pub(crate) fn along(shape: &[usize], axis: usize) -> Self {
        let product = |s: &[usize]| s.iter().fold(1usize, |n, &d| n.saturating_mul(d));
        Self { outer: product(&shape[..axis]), length: shape[axis], inner: product(&shape[axis + 1..]) }
    }

    /// Along all axes from `axis` on, which may be the rank.
    pub(crate) fn from(shape: &[usize], axis: usize) -> Self {
        let product = |s: &[usize]| s.iter().fold(1usize, |n, &d| n.saturating_mul(d));
        Self { outer: product(&shape[..axis]), length: product(&shape[axis..]), inner: 1 }
    }

    /// Elements of one outer index.
    pub(crate) fn slab(&self) -> usize {
        self.length.saturating_mul(self.inner)
    }

    /// Runs `body` for every outer index with its slabs of `x` and `out`, which have the same form, and what looks at the deadline
    /// within one.
    pub(crate) fn for_each_slab<T: Sync, U: Send>(
        &self,
        context: RunContext<'_>,
        x: &[T],
        out: &mut [U],
        body: &(dyn Fn(&[T], &mut [U], &mut Looks<'_>) -> Result<(), OpError> + Sync),
    ) -> Result<(), OpError> {
        let slab = self.slab();
        if slab == 0 || out.is_empty() {
            return Ok(());
        }
        let many = (PARALLEL_WORK / slab).max(1);
        let chunk = many * slab;
        let work = out.len().saturating_mul(8);
        for_each_tile(context, work, Lanes::none(), &Chunks::new(out, chunk), &|i, out, _| {
            let x = x.get(i * chunk..).unwrap_or(&[]);
            let mut looks = Looks::new(context.interrupt);
            x.chunks(slab).zip(out.chunks_mut(slab)).try_for_each(|(x, out)| body(x, out, &mut looks))
        })
    }
}
