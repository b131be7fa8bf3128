//! Copies whose source is strided: transposes, slices, expansions, tilings.
//!
//! Element `(i₀, …, iₙ)` of a dense output is source element `offset + Σ iₐ·strideₐ`. Axes of extent 1 are
//! dropped and neighbours that step alike are merged, so that a batch of rows is a loop of `memcpy`s. Where
//! the source's contiguous axis is not the output's innermost one, these two axes are walked in square tiles,
//! so that the cache lines read for one output row are still there for the next ones.

use super::RunContext;
use super::movement::{Movement, Unit};
use super::split::{for_each_chunk, rows_per_chunk};
use crate::error::OpError;
use smallvec::SmallVec;

/// Side of a tile: 32 rows of 8-byte elements are 32 × 4 cache lines, which L1 holds.
const TILE: usize = 32;

/// A copy from a strided source to a dense output.
#[derive(Debug, Clone)]
pub(crate) struct StridedCopy {
    extents: SmallVec<[usize; 6]>,
    strides: SmallVec<[isize; 6]>,
    offset: usize,
    len: usize,
}

/// Row-major strides of a dense tensor. Beside an extent of 0 the others may be of any size; the strides then
/// saturate and are never walked.
pub(crate) fn dense_strides(shape: &[usize]) -> SmallVec<[isize; 6]> {
    let mut strides: SmallVec<[isize; 6]> = SmallVec::from_elem(0, shape.len());
    let mut step = 1isize;
    for (stride, &extent) in strides.iter_mut().zip(shape).rev() {
        *stride = step;
        step = step.saturating_mul(isize::try_from(extent).unwrap_or(isize::MAX));
    }
    strides
}

/// Elements that some axes span; saturates like [`dense_strides`].
pub(crate) fn span(extents: &[usize]) -> usize {
    extents.iter().fold(1, |n, &d| n.saturating_mul(d))
}

impl StridedCopy {
    /// For an output of shape `extents`, whose axes step through the source by `strides`.
    pub(crate) fn new(extents: &[usize], strides: &[isize], offset: usize) -> Self {
        let len = span(extents);
        let mut merged = Self { extents: SmallVec::new(), strides: SmallVec::new(), offset, len };
        for (&extent, &stride) in extents.iter().zip(strides).filter(|(e, _)| **e != 1) {
            match (merged.extents.last_mut(), merged.strides.last_mut()) {
                (Some(e), Some(s)) if stride.checked_mul(extent as isize) == Some(*s) => {
                    *e = e.saturating_mul(extent);
                    *s = stride;
                }
                _ => {
                    merged.extents.push(extent);
                    merged.strides.push(stride);
                }
            }
        }
        merged
    }

    /// Extents of the output, strides of the source, and its first element.
    pub(crate) fn parts(&self) -> (&[usize], &[isize], usize) {
        (&self.extents, &self.strides, self.offset)
    }

    /// Errs unless every source position lies in a source of `from` elements.
    fn check(&self, from: usize, to: usize) -> Result<(), OpError> {
        let (mut low, mut high) = (Some(self.offset as isize), Some(self.offset as isize));
        for (&extent, &stride) in self.extents.iter().zip(&self.strides) {
            let reach = stride.checked_mul(extent as isize - 1);
            let end = if stride < 0 { &mut low } else { &mut high };
            *end = end.zip(reach).and_then(|(e, r)| e.checked_add(r));
        }
        let inside = low.is_some_and(|l| l >= 0) && high.is_some_and(|h| (h as usize) < from);
        if to != self.len || (to > 0 && !inside) {
            return Err(OpError::internal("a strided copy leaves its source"));
        }
        Ok(())
    }
}

impl Movement for StridedCopy {
    fn run<T: Unit>(&self, context: RunContext<'_>, from: &[&[T]], to: &mut [T]) -> Result<(), OpError> {
        let from = from.first().copied().unwrap_or_default();
        self.check(from.len(), to.len())?;
        if to.is_empty() {
            return Ok(());
        }
        let (Some(&rows), Some(&step)) = (self.extents.first(), self.strides.first()) else {
            to[0] = from[self.offset].clone();
            return Ok(());
        };
        let (extents, strides, offset) = (&self.extents, &self.strides, self.offset as isize);
        let row = to.len() / rows;
        if extents.len() == 1 || rows >= 2 * context.team.threads() {
            let per = rows_per_chunk(rows, row, context.team.threads());
            for_each_chunk(context, to, per * row, |i, piece| {
                let mut extents = extents.clone();
                extents[0] = piece.len() / row;
                block(from, piece, &extents, strides, offset + (i * per) as isize * step);
            })?;
            return Ok(());
        }
        // Few outer rows: each is shared out along the next axis.
        let inner = row / extents[1];
        let per = rows_per_chunk(extents[1], inner, context.team.threads());
        for (r, to) in to.chunks_mut(row).enumerate() {
            for_each_chunk(context, to, per * inner, |i, piece| {
                let mut extents: SmallVec<[usize; 6]> = extents[1..].into();
                extents[0] = piece.len() / inner;
                let at = offset + r as isize * step + (i * per) as isize * strides[1];
                block(from, piece, &extents, &strides[1..], at);
            })?;
        }
        Ok(())
    }
}

/// Copies one block of at least one axis.
fn block<T: Unit>(from: &[T], to: &mut [T], extents: &[usize], strides: &[isize], offset: isize) {
    let last = extents.len() - 1;
    let unit = strides.iter().position(|&s| s == 1).filter(|&k| k != last && strides[last] != 0);
    let dense = dense_strides(extents);
    // The axes that are walked one index at a time: all but the innermost and the tiled one.
    let walked: SmallVec<[usize; 6]> = (0..last).filter(|&a| Some(a) != unit).collect();
    let mut index: SmallVec<[usize; 6]> = SmallVec::from_elem(0, walked.len());
    let (mut source, mut target) = (offset, 0isize);
    loop {
        if let Some(k) = unit {
            let size = [extents[k], extents[last]];
            plane(from, source, strides[last], &mut to[target as usize..], dense[k] as usize, size);
        } else {
            line(from, &mut to[target as usize..][..extents[last]], source, strides[last]);
        }
        // The next index, innermost walked axis first.
        let mut place = walked.len();
        loop {
            let Some(p) = place.checked_sub(1) else { return };
            let a = walked[p];
            index[p] += 1;
            source += strides[a];
            target += dense[a];
            if index[p] < extents[a] {
                break;
            }
            source -= strides[a] * extents[a] as isize;
            target -= dense[a] * extents[a] as isize;
            index[p] = 0;
            place = p;
        }
    }
}

/// Copies `extents` = [rows, columns]: rows are contiguous in the source, columns in the output, whose rows
/// are `row_step` apart.
fn plane<T: Unit>(
    from: &[T],
    source: isize,
    stride: isize,
    to: &mut [T],
    row_step: usize,
    [rows, columns]: [usize; 2],
) {
    for top in (0..rows).step_by(TILE) {
        for left in (0..columns).step_by(TILE) {
            let width = TILE.min(columns - left);
            for row in top..rows.min(top + TILE) {
                let at = source + row as isize + left as isize * stride;
                line(from, &mut to[row * row_step + left..][..width], at, stride);
            }
        }
    }
}

/// Copies one line of the output.
fn line<T: Unit>(from: &[T], to: &mut [T], source: isize, stride: isize) {
    match stride {
        1 => to.clone_from_slice(&from[source as usize..][..to.len()]),
        0 => to.fill(from[source as usize].clone()),
        _ => {
            let mut at = source;
            for value in to {
                *value = from[at as usize].clone();
                at += stride;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::{Interrupt, Team};
    use crate::memory::Budget;
    use crate::testing::Gen;

    #[test]
    fn agrees_with_an_index_walk_whatever_the_threads() {
        let (interrupt, budget) = (Interrupt::default(), Budget::unlimited());
        let context = RunContext { team: Team::alone(), interrupt: &interrupt, budget: &budget, times: None };
        let mut g = Gen::new(3);
        for round in 0..400 {
            let rank = g.size(0, 5);
            let big = round % 20 == 0;
            let shape: Vec<usize> =
                (0..rank).map(|_| if big { g.size(1, 24) } else { g.size(1, 6) }).collect();
            let order = g.permutation(rank);
            let dense = dense_strides(&shape);
            let (mut extents, mut strides, mut offset) = (Vec::new(), Vec::new(), 0);
            for &a in &order {
                let step: isize = *g.pick(&[1, 1, 1, 2, -1, 0]);
                let extent = if step == 0 { g.size(1, 5) } else { shape[a].div_ceil(step.unsigned_abs()) };
                extents.push(extent);
                strides.push(dense[a] * step);
                if step < 0 {
                    offset += (shape[a] - 1) * dense[a] as usize;
                }
            }
            let from: Vec<u32> = (0..shape.iter().product::<usize>() as u32).collect();
            let copy = StridedCopy::new(&extents, &strides, offset);
            let len: usize = extents.iter().product();
            let want: Vec<u32> = (0..len)
                .map(|mut flat| {
                    let mut at = offset as isize;
                    for (&e, &s) in extents.iter().zip(&strides).rev() {
                        at += (flat % e) as isize * s;
                        flat /= e;
                    }
                    from[at as usize]
                })
                .collect();
            let mut got = vec![0; len];
            for threads in [1, 3] {
                let team = Team::new(threads, false);
                copy.run(RunContext { team: &team, ..context }, &[&from], &mut got).expect("inside");
                assert_eq!(got, want, "{extents:?} {strides:?} {offset}");
            }
        }
    }

    #[test]
    fn a_copy_that_leaves_its_source_is_refused() {
        let (interrupt, budget) = (Interrupt::default(), Budget::unlimited());
        let context = RunContext { team: Team::alone(), interrupt: &interrupt, budget: &budget, times: None };
        let copy = StridedCopy::new(&[2, 3], &[3, 1], 1);
        assert!(copy.run(context, &[&[0u8; 6]], &mut [0; 6]).is_err());
        let copy = StridedCopy::new(&[3], &[-1], 1);
        assert!(copy.run(context, &[&[0u8; 6]], &mut [0; 3]).is_err());
    }
}
