//! Reductions over any set of axes.
//!
//! Neighbouring axes of one kind are merged, so that kept and reduced axes alternate. Where the innermost
//! axis is reduced, each output folds contiguous runs in eight partial accumulators; where it is kept, a strip
//! of outputs is folded at once. The order of folding depends on the shape alone. Floats accumulate in f64.

use super::RunContext;
use super::number::Number;
use super::tiles::{Chunks, Lanes, PARALLEL_WORK, for_each_tile};
use crate::error::OpError;
use crate::exec::Looks;
use crate::tensor::Shape;
use smallvec::SmallVec;

/// What a reduction does with its elements.
pub(crate) trait Fold<T: Number>: Send + Sync + 'static {
    /// Accumulator.
    type State: Copy + Send + Sync;
    /// Of no elements.
    fn empty() -> Self::State;
    /// With one element more.
    fn add(state: Self::State, x: T) -> Self::State;
    /// Of two groups of elements, the first before the second.
    fn join(a: Self::State, b: Self::State) -> Self::State;
    /// The result over `count` elements.
    fn finish(state: Self::State, count: usize) -> T;
}

/// An integer type, widened for exact sums.
pub(crate) trait Whole: Number {
    fn widen(self) -> i128;
    /// Modulo the type's range.
    fn narrow(value: i128) -> Self;
}

macro_rules! whole {
    ($($t:ty),*) => { $(
        impl Whole for $t {
            fn widen(self) -> i128 { self.into() }
            fn narrow(value: i128) -> Self { value as $t }
        }
    )* };
}

whole!(i8, i16, i32, i64, u8, u16, u32, u64);

/// A merged axis.
#[derive(Clone, Copy, Debug)]
struct Axis {
    extent: usize,
    stride: usize,
}

/// A reduction with its shapes known.
#[derive(Clone, Debug)]
pub(crate) struct ReducePlan {
    /// Shape of the output.
    pub(crate) out: Shape,
    kept: SmallVec<[Axis; 4]>,
    reduced: SmallVec<[Axis; 4]>,
    /// Whether the innermost merged axis is reduced.
    inner_reduced: bool,
    count: usize,
}

impl ReducePlan {
    /// The reduction of `shape` over the axes for which `reduced` holds.
    pub(crate) fn new(shape: &[usize], reduced: &[bool], keep: bool) -> Self {
        let mut out = Shape::new();
        for (&extent, &reduced) in shape.iter().zip(reduced) {
            match (reduced, keep) {
                (false, _) => out.push(extent),
                (true, true) => out.push(1),
                (true, false) => {}
            }
        }
        let mut plan =
            Self { out, kept: SmallVec::new(), reduced: SmallVec::new(), inner_reduced: false, count: 1 };
        // From the innermost axis outwards; `last` is the kind of the axis pushed before.
        let mut last = None;
        let mut stride = 1usize;
        for (&extent, &is_reduced) in shape.iter().zip(reduced).rev() {
            if is_reduced {
                plan.count = plan.count.saturating_mul(extent);
            }
            if extent != 1 {
                let list = if is_reduced { &mut plan.reduced } else { &mut plan.kept };
                match list.last_mut() {
                    Some(axis) if last == Some(is_reduced) => {
                        axis.extent = axis.extent.saturating_mul(extent);
                    }
                    _ => list.push(Axis { extent, stride }),
                }
                if last.is_none() {
                    plan.inner_reduced = is_reduced;
                }
                last = Some(is_reduced);
            }
            stride = stride.saturating_mul(extent);
        }
        plan
    }

    /// Folds `x` into `out`.
    pub(crate) fn run<T: Number, F: Fold<T>>(
        &self,
        context: RunContext<'_>,
        x: &[T],
        out: &mut [T],
    ) -> Result<(), OpError> {
        if self.count == 0 {
            out.fill(F::finish(F::empty(), 0));
            return Ok(());
        }
        if out.is_empty() {
            return Ok(());
        }
        let work = x.len();
        if self.inner_reduced {
            let chunk = (PARALLEL_WORK / self.count).max(1);
            return for_each_tile(context, work, Lanes::none(), &Chunks::new(out, chunk), &|i, out, _| {
                let mut looks = Looks::new(context.interrupt);
                for (j, y) in out.iter_mut().enumerate() {
                    let start = offset(&self.kept, i * chunk + j);
                    *y = F::finish(self.fold_runs::<T, F>(x, start, &mut looks)?, self.count);
                }
                Ok(())
            });
        }
        let width = self.kept.first().map_or(1, |axis| axis.extent);
        let chunk = (PARALLEL_WORK / self.count).clamp(STRIP.min(width), width.max(1));
        // Chunks must not straddle the rows of the innermost kept axis.
        let per_row = width.div_ceil(chunk);
        let chunk = width.div_ceil(per_row);
        if width.is_multiple_of(chunk) {
            return for_each_tile(context, work, Lanes::none(), &Chunks::new(out, chunk), &|i, out, _| {
                self.fold_strips::<T, F>(x, i * chunk, out, &mut Looks::new(context.interrupt))
            });
        }
        for_each_tile(context, work, Lanes::none(), &Chunks::new(out, width), &|i, out, _| {
            self.fold_strips::<T, F>(x, i * width, out, &mut Looks::new(context.interrupt))
        })
    }

    /// Folds the elements of the output whose first element is at `start`.
    fn fold_runs<T: Number, F: Fold<T>>(
        &self,
        x: &[T],
        start: usize,
        looks: &mut Looks<'_>,
    ) -> Result<F::State, OpError> {
        const LANES: usize = 8;
        let run = self.reduced.first().map_or(1, |axis| axis.extent);
        let outer = &self.reduced[self.reduced.len().min(1)..];
        let mut total = F::empty();
        let mut lanes = [F::empty(); LANES];
        for at in 0..self.count / run {
            let from = start + offset(outer, at);
            // Parts of whole chunks, so that only the last one has a remainder.
            for part in x[from..from + run].chunks(Looks::EVERY) {
                looks.past(part.len())?;
                let chunks = part.chunks_exact(LANES);
                total = chunks.remainder().iter().fold(total, |state, &x| F::add(state, x));
                for chunk in chunks {
                    for (lane, &x) in lanes.iter_mut().zip(chunk) {
                        *lane = F::add(*lane, x);
                    }
                }
            }
        }
        Ok(lanes.into_iter().fold(total, F::join))
    }

    /// Folds the outputs from `first` on, which lie in one row of the innermost kept axis.
    fn fold_strips<T: Number, F: Fold<T>>(
        &self,
        x: &[T],
        first: usize,
        out: &mut [T],
        looks: &mut Looks<'_>,
    ) -> Result<(), OpError> {
        for (strip, out) in out.chunks_mut(STRIP).enumerate() {
            let start = offset(&self.kept, first + strip * STRIP);
            let mut states = [F::empty(); STRIP];
            for at in 0..self.count {
                looks.past(out.len())?;
                let from = start + offset(&self.reduced, at);
                for (state, &x) in states.iter_mut().zip(&x[from..from + out.len()]) {
                    *state = F::add(*state, x);
                }
            }
            for (y, state) in out.iter_mut().zip(states) {
                *y = F::finish(state, self.count);
            }
        }
        Ok(())
    }
}

/// Outputs folded at once where the innermost axis is kept.
const STRIP: usize = 64;

/// Offset of element `index` over `axes`, the innermost of which comes first.
fn offset(axes: &[Axis], mut index: usize) -> usize {
    if let [axis] = axes {
        return index * axis.stride;
    }
    let mut at = 0;
    for axis in axes {
        at += index % axis.extent * axis.stride;
        index /= axis.extent;
    }
    at
}
