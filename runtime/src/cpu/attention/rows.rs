//! The softmax of a tile's rows as blocks of scores come in.
//!
//! With `m` the greatest score so far and `s` the sum of `exp(score − m)`: a block with the greatest score `b` makes
//! `m' = max(m, b)`, `s' = s · exp(m − m') + Σ exp(score − m')`.

use super::{Attention, Operands, ROWS, Tile};
use crate::cpu::number::Float;
use std::ops::Range;

/// What is known of the rows of a tile.
pub(super) struct Rows<C> {
    count: usize,
    /// The keys that each row sees: first, and one behind the last.
    visible: [(usize, usize); ROWS],
    most: [C; ROWS],
    sum: [f64; ROWS],
    wide: bool,
}

impl<C: Float> Rows<C> {
    /// Rows that have seen nothing yet.
    pub(super) fn new<T>(plan: &Attention, operands: &Operands<'_, T>, tile: &Tile) -> Self {
        let sizes = &plan.sizes;
        let length = operands.lengths.and_then(|lengths| lengths.get(tile.image).copied());
        let signed = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let offset = length.map_or(signed(sizes.past), |n| n.saturating_sub(signed(sizes.queries)));
        let limit = length.map_or(sizes.total(), |n| usize::try_from(n).unwrap_or(0).min(sizes.total()));
        let mut visible = [(0, 0); ROWS];
        for (seen, row) in visible.iter_mut().zip(tile.rows.clone()) {
            let position = offset.saturating_add(signed(row % sizes.queries.max(1)));
            let keys = plan.visible.keys(position, limit);
            *seen = (keys.start, keys.end);
        }
        Self {
            count: tile.rows.len().min(ROWS),
            visible,
            most: [C::lowest(); ROWS],
            sum: [0.0; ROWS],
            wide: plan.wide_softmax,
        }
    }

    /// The keys that row `r` sees.
    pub(super) fn visible(&self, r: usize) -> Range<usize> {
        self.visible[r].0..self.visible[r].1
    }

    /// The keys from the first to the last that any row sees.
    pub(super) fn seen(&self) -> Range<usize> {
        let rows = self.visible[..self.count].iter().filter(|(first, last)| first < last);
        let (first, last) = rows.fold((usize::MAX, 0), |(f, l), &(a, b)| (f.min(a), l.max(b)));
        if first < last { first..last } else { 0..0 }
    }

    /// Takes up a block of scores of row `r` and makes them `exp(score − m)`; returns the factor that puts what was
    /// made of earlier blocks on the same footing.
    pub(super) fn absorb(&mut self, r: usize, scores: &mut [C]) -> C {
        let old = self.most[r];
        let most = scores.iter().fold(old, |m, s| m.maximum(*s));
        if most == C::lowest() {
            scores.fill(C::zero());
            return C::one();
        }
        self.most[r] = most;
        let mut sum = 0.0;
        if self.wide {
            let most = most.to_f64();
            for s in scores {
                let e = (s.to_f64() - most).exp();
                sum += e;
                *s = C::from_f64(e);
            }
        } else {
            for s in scores.iter_mut() {
                *s = s.sub(most).exp();
            }
            sum = scores.iter().map(|s| s.to_f64()).sum();
        }
        let rescale = if old == most { C::one() } else { old.sub(most).exp() };
        self.sum[r] = self.sum[r] * rescale.to_f64() + sum;
        rescale
    }

    /// `exp(score − m) / s` of row `r` once all blocks have been seen, zeros where it sees no key.
    pub(super) fn probabilities(&self, r: usize, scores: &mut [C]) {
        let Some(factor) = self.inverse_sum(r) else { return scores.fill(C::zero()) };
        let most = self.most[r];
        for s in scores {
            *s = if self.wide {
                C::from_f64((s.to_f64() - most.to_f64()).exp() / self.sum[r])
            } else {
                s.sub(most).exp().mul(factor)
            };
        }
    }

    /// `1 / s` of row `r`, when it has seen a key.
    pub(super) fn inverse_sum(&self, r: usize) -> Option<C> {
        (self.most[r] != C::lowest()).then(|| C::from_f64(1.0 / self.sum[r]))
    }
}
