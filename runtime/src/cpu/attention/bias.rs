//! Which keys a query sees, and what is added to its scores.

use crate::cpu::number::{Float, Number, dispatch};
use crate::dtype::{Bool, DType};
use crate::error::OpError;
use crate::tensor::TensorView;
use std::ops::Range;

/// Bounds on the position of a key relative to the query's.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Visible {
    /// No key after the query.
    pub(crate) causal: bool,
    /// At most so many positions before the query.
    pub(crate) left: Option<usize>,
    /// At most so many positions after the query.
    pub(crate) right: Option<usize>,
}

impl Visible {
    /// The keys that the query at `position` sees of the first `limit`.
    pub(super) fn keys(&self, position: i64, limit: usize) -> Range<usize> {
        let end = i64::try_from(limit).unwrap_or(i64::MAX);
        let beyond = |right: usize| {
            position.saturating_add(i64::try_from(right).unwrap_or(i64::MAX)).saturating_add(1)
        };
        let mut last = self.right.map_or(end, |right| end.min(beyond(right)));
        if self.causal {
            last = last.min(beyond(0));
        }
        let first =
            self.left.map_or(0, |left| position.saturating_sub(i64::try_from(left).unwrap_or(i64::MAX)));
        let clip = |at: i64| usize::try_from(at.clamp(0, end)).unwrap_or(limit);
        let (first, last) = (clip(first), clip(last));
        if first < last { first..last } else { 0..0 }
    }
}

/// How a mask is broadcast: the element for a key lies at the sum of strides times positions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MaskForm {
    /// Strides of image, head and query.
    pub(crate) strides: [usize; 3],
    /// Stride of keys: 1, or 0 where one element is for all of them.
    pub(crate) step: usize,
    /// Keys that the mask tells of; those behind are masked.
    pub(crate) covered: usize,
}

impl MaskForm {
    /// The mask of `shape` for scores `[images, heads, queries, keys]`. A last axis of one element is for all keys
    /// where `broadcast` is set.
    pub(crate) fn new(shape: &[usize], keys: usize, broadcast: bool) -> Self {
        let last = shape.last().copied().unwrap_or(1);
        let single = last == 1 && broadcast;
        let mut strides = [0; 3];
        let mut stride = last;
        for (place, &extent) in strides.iter_mut().rev().zip(shape.iter().rev().skip(1)) {
            *place = if extent == 1 { 0 } else { stride };
            stride = stride.saturating_mul(extent);
        }
        Self { strides, step: usize::from(!single), covered: if single { keys } else { last } }
    }

    /// Adds the mask of one query to its scores of the keys from `first` on. A key that is masked by a false or
    /// by −∞ takes no part, whatever its score.
    pub(super) fn add<C: Float>(
        &self,
        mask: TensorView<'_>,
        at: [usize; 3],
        first: usize,
        scores: &mut [C],
    ) -> Result<(), OpError> {
        let start: usize = self.strides.iter().zip(at).map(|(stride, i)| stride * i).sum();
        let told = self.covered.saturating_sub(first).min(scores.len());
        let (scores, rest) = scores.split_at_mut(told);
        rest.fill(C::lowest());
        if told == 0 {
            return Ok(());
        }
        let (start, step) = (start + first * self.step, self.step);
        if mask.dtype() == DType::Bool {
            let mask = &mask.elements::<Bool>()?[start..];
            for (j, score) in scores.iter_mut().enumerate() {
                if !mask[j * step].get() {
                    *score = C::lowest();
                }
            }
            return Ok(());
        }
        dispatch!(mask.dtype(), numbers, M => {
            let mask = &mask.elements::<M>()?[start..];
            for (j, score) in scores.iter_mut().enumerate() {
                let term = C::from_f64(mask[j * step].to_f64());
                *score = if term == C::lowest() { term } else { score.add(term) };
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_clipped_to_the_keys() {
        let all = Visible::default();
        assert_eq!(all.keys(-3, 5), 0..5);
        let causal = Visible { causal: true, ..all };
        assert_eq!(causal.keys(2, 5), 0..3);
        assert_eq!(causal.keys(-1, 5), 0..0);
        assert_eq!(causal.keys(9, 5), 0..5);
        let window = Visible { causal: false, left: Some(1), right: Some(2) };
        assert_eq!(window.keys(3, 10), 2..6);
        assert_eq!(window.keys(20, 10), 0..0);
        let far = Visible { causal: false, left: Some(usize::MAX), right: Some(usize::MAX) };
        assert_eq!(far.keys(i64::MAX, 10), 0..10);
        assert_eq!(far.keys(i64::MIN, 10), 0..0);
    }
}
