//! Padding: every output coordinate on an axis comes from one input coordinate on that axis or is constant.
//! Trailing axes that are not padded are one run; on the last padded axis, what is neither before nor after
//! the input is copied at once.

use super::RunContext;
use super::movement::{Movement, Unit, of_bits};
use super::split::{for_each_chunk, rows_per_chunk};
use crate::error::OpError;
use smallvec::SmallVec;

/// What lies outside the input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum PadMode {
    /// A value.
    Constant,
    /// The input mirrored at its outermost elements, which are not repeated.
    Reflect,
    /// The outermost elements.
    Edge,
    /// The input again.
    Wrap,
}

/// One padded axis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PadAxis {
    mode: PadMode,
    /// Input elements that are cut off in front, and those that are left.
    skip: usize,
    kept: usize,
    /// Elements put on.
    before: usize,
    after: usize,
    extent: usize,
}

impl PadAxis {
    /// An axis of `extent` with `before` and `after` elements put on, or cut off where negative; both cuts
    /// come before both extensions.
    pub(crate) fn new(extent: usize, before: i64, after: i64, mode: PadMode) -> Result<Self, OpError> {
        let positive = |v: i64| usize::try_from(v.max(0)).unwrap_or(usize::MAX);
        let skip = positive(before.saturating_neg());
        let kept = extent.checked_sub(skip).and_then(|e| e.checked_sub(positive(after.saturating_neg())));
        let (before_put, after_put) = (positive(before), positive(after));
        let axis = kept.map(|kept| Self { mode, skip, kept, before: before_put, after: after_put, extent });
        let axis = axis.filter(|a| a.len_checked().is_some_and(|n| i64::try_from(n).is_ok()));
        let axis = axis.ok_or_else(|| {
            OpError::shape(format!("pads of {before} and {after} do not fit an axis of {extent}"))
        })?;
        if axis.kept == 0 && mode != PadMode::Constant && axis.len() > 0 {
            return Err(OpError::shape("an empty axis has nothing to pad with"));
        }
        Ok(axis)
    }

    fn len_checked(&self) -> Option<usize> {
        self.kept.checked_add(self.before)?.checked_add(self.after)
    }

    /// The output's extent.
    pub(crate) fn len(&self) -> usize {
        self.len_checked().unwrap_or(usize::MAX)
    }

    /// The input coordinate of output coordinate `at`; none is constant.
    fn source(&self, at: usize) -> Option<usize> {
        let (i, n) = (at as i64 - self.before as i64, self.kept as i64);
        let from = match self.mode {
            _ if i >= 0 && i < n => i,
            PadMode::Constant => return None,
            PadMode::Edge => i.clamp(0, n - 1),
            PadMode::Wrap => i.rem_euclid(n),
            PadMode::Reflect if n == 1 => 0,
            PadMode::Reflect => {
                let period = 2 * (n - 1);
                let i = i.rem_euclid(period);
                i.min(period - i)
            }
        };
        Some(self.skip + from as usize)
    }

    /// Whether some coordinates are constant.
    pub(crate) fn has_constants(&self) -> bool {
        self.mode == PadMode::Constant && self.before + self.after > 0
    }

    /// Runs of coordinates whose sources are evenly apart, in order, without constant ones; none where more than `most`
    /// elements are put on.
    pub(crate) fn runs(&self, most: usize) -> Option<Vec<PadRun>> {
        let middle = PadRun { to: self.before, length: self.kept, from: self.skip, step: 1 };
        if self.mode == PadMode::Constant {
            return Some(vec![middle]);
        }
        if self.before.checked_add(self.after)? > most {
            return None;
        }
        let mut runs: Vec<PadRun> = Vec::new();
        let end = self.before + self.kept;
        for to in (0..self.before).chain(end..end + self.after) {
            if to == end {
                runs.push(middle);
            }
            let from = self.source(to)?;
            let step_to = |run: &PadRun| from as i64 - (run.from as i64 + run.step * (run.length as i64 - 1));
            match runs.last_mut().filter(|run| run.to + run.length == to && to != end) {
                Some(run) if run.length == 1 => (run.step, run.length) = (step_to(run), 2),
                Some(run) if step_to(run) == run.step => run.length += 1,
                _ => runs.push(PadRun { to, length: 1, from, step: 0 }),
            }
        }
        if self.after == 0 {
            runs.push(middle);
        }
        runs.retain(|run| run.length > 0);
        Some(runs)
    }

    fn is_plain(&self) -> bool {
        self.kept == self.extent && self.before == 0 && self.after == 0
    }
}

/// Coordinates of an axis in a row, and their sources.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PadRun {
    /// The first coordinate.
    pub(crate) to: usize,
    /// Coordinates.
    pub(crate) length: usize,
    /// The source of the first one.
    pub(crate) from: usize,
    /// Between the sources of neighbours.
    pub(crate) step: i64,
}

/// A copy through padded axes.
#[derive(Debug)]
pub(crate) struct PadCopy {
    /// All axes but the last padded one, each with the input's stride.
    outer: SmallVec<[(PadAxis, usize); 6]>,
    last: PadAxis,
    /// Elements of a run, which moves as one.
    inner: usize,
    from: usize,
    /// Bits of the constant where no input gives it.
    constant: u64,
}

impl PadCopy {
    /// A copy through `axes`; `constant` holds the bits of the constant.
    pub(crate) fn new(axes: &[PadAxis], constant: u64) -> Self {
        let from = axes.iter().fold(1usize, |n, a| n.saturating_mul(a.extent));
        let padded = axes.iter().rposition(|a| !a.is_plain()).unwrap_or(0);
        let whole = PadAxis { mode: PadMode::Constant, skip: 0, kept: 1, before: 0, after: 0, extent: 1 };
        let last = axes.get(padded).copied().unwrap_or(whole);
        let inner = axes.iter().skip(padded + 1).fold(1usize, |n, a| n.saturating_mul(a.extent));
        let mut stride = inner.saturating_mul(last.extent);
        let mut outer = SmallVec::new();
        for &axis in axes[..padded.min(axes.len())].iter().rev() {
            outer.push((axis, stride));
            stride = stride.saturating_mul(axis.extent);
        }
        Self { outer, last, inner, from, constant }
    }

    /// Where row `row` of the output starts in the input; none when all of it is constant.
    fn row_source(&self, mut row: usize) -> Option<usize> {
        let mut start = 0;
        // Innermost axis first.
        for (axis, stride) in &self.outer {
            start += axis.source(row % axis.len())? * stride;
            row /= axis.len();
        }
        Some(start)
    }

    fn fill_row<T: Unit>(&self, from: &[T], constant: &T, row: &mut [T]) {
        let (last, inner) = (&self.last, self.inner);
        let (before, rest) = row.split_at_mut(last.before * inner);
        let (middle, after) = rest.split_at_mut(last.kept * inner);
        middle.clone_from_slice(&from[last.skip * inner..][..middle.len()]);
        for (first, part) in [(0, before), (last.before + last.kept, after)] {
            if last.mode == PadMode::Constant {
                part.fill(constant.clone());
                continue;
            }
            for (i, run) in part.chunks_exact_mut(inner).enumerate() {
                if let Some(source) = last.source(first + i) {
                    run.clone_from_slice(&from[source * inner..][..inner]);
                }
            }
        }
    }
}

impl Movement for PadCopy {
    fn run<T: Unit>(&self, context: RunContext<'_>, from: &[&[T]], to: &mut [T]) -> Result<(), OpError> {
        if to.is_empty() {
            return Ok(());
        }
        let given = from.get(1).and_then(|v| v.first()).cloned();
        let constant = given.unwrap_or_else(|| of_bits(self.constant));
        let from = from.first().copied().unwrap_or_default();
        let rows: usize = self.outer.iter().map(|(axis, _)| axis.len()).product();
        let row = self.last.len() * self.inner;
        if from.len() != self.from || rows * row != to.len() {
            return Err(OpError::internal("a padding of other sizes than prepared for"));
        }
        let per = rows_per_chunk(rows, row, context.team.threads());
        for_each_chunk(context, to, per * row, |chunk, piece| {
            for (i, row) in piece.chunks_exact_mut(row).enumerate() {
                match self.row_source(chunk * per + i) {
                    Some(start) => self.fill_row(&from[start..], &constant, row),
                    None => row.fill(constant.clone()),
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_the_sources_of_an_axis() {
        for mode in [PadMode::Constant, PadMode::Reflect, PadMode::Edge, PadMode::Wrap] {
            for extent in [1usize, 2, 3, 7] {
                for (before, after) in [(0, 0), (3, 0), (0, 5), (9, 4), (-1, 6), (2, -1)] {
                    let axis = PadAxis::new(extent, before, after, mode);
                    let Some(axis) = axis.ok().filter(|axis| axis.kept > 0) else { continue };
                    let runs = axis.runs(100).expect("few elements");
                    let mut sources = vec![None; axis.len()];
                    for run in &runs {
                        for i in 0..run.length {
                            let from = run.from as i64 + run.step * i as i64;
                            assert_eq!(sources[run.to + i].replace(from as usize), None, "{runs:?}");
                        }
                    }
                    let expected: Vec<Option<usize>> = (0..axis.len()).map(|at| axis.source(at)).collect();
                    assert_eq!(sources, expected, "{axis:?}");
                    let turns = 3 + 2 * (before.max(0) + after.max(0)) as usize / extent;
                    assert!(runs.len() <= turns.max(3), "{runs:?}");
                }
            }
        }
        let long = PadAxis::new(3, 60, 60, PadMode::Wrap).expect("an axis");
        assert_eq!(long.runs(100), None);
    }
}
