//! The order in which recurrent weights lie in memory: the order in which a step reads them.
//!
//! Gates that are computed from the same operand form a *group*. A group is cut into *panels* of `units`
//! hidden units; a panel of depth `K` is `[K, gates · units]`: for each `k` the weights of all gates of all
//! its units, gate by gate. One pass over a panel with the operand's elements broadcast gives all gates of its
//! units in registers. Units past the hidden size are zero.
//!
//! LSTM, RNN and GRU with `linear_before_reset` have one group; plain GRU has two, since its hidden gate is
//! computed from `r ⊙ h`, which needs the first two. W and R have the same form, so that the W·x of many steps
//! starts the accumulators of R·h as it lies.

use crate::cpu::panels::Stored;
use crate::error::OpError;
use crate::ops::recurrence::Cell;
use std::ops::Range;

/// Gates computed together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    /// The first gate, in the order of the specification.
    pub(super) first: usize,
    pub(super) gates: usize,
    /// Units of a panel.
    pub(super) units: usize,
}

impl Group {
    /// Elements of a panel's row.
    pub(super) fn width(self) -> usize {
        self.gates * self.units
    }
}

/// Sizes of one recurrence, and where its weights lie.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) cell: Cell,
    pub(super) input: usize,
    pub(super) hidden: usize,
    /// Hidden units rounded up to whole panels of every group: the stride of state vectors.
    pub(super) padded: usize,
    /// Units by which threads may be split.
    pub(super) grain: usize,
    groups: [Group; 2],
    count: usize,
}

impl Layout {
    /// The layout for `hidden` units and `input` features; refuses sizes that do not fit in memory.
    pub(super) fn new(cell: Cell, input: usize, hidden: usize) -> Result<Self, OpError> {
        // Panels of about 64 elements hide the latency of a multiply–add.
        let group = |first, gates, units| Group { first, gates, units };
        let none = group(0, 0, 16);
        let (groups, count) = match cell {
            Cell::Lstm { .. } => ([group(0, 4, 16), none], 1),
            Cell::Gru { linear_before_reset: true } => ([group(0, 3, 16), none], 1),
            Cell::Gru { .. } => ([group(0, 2, 32), group(2, 1, 64)], 2),
            Cell::Rnn => ([group(0, 1, 64), none], 1),
        };
        let grain = groups[..count].iter().map(|g| g.units).max().unwrap_or(16);
        let too_large = || OpError::shape(format!("{hidden} hidden units of {input} inputs are too many"));
        let padded = hidden.checked_next_multiple_of(grain).ok_or_else(too_large)?;
        let layout = Self { cell, input, hidden, padded, grain, groups, count };
        // Every size below is at most this product, so none of them overflows.
        padded
            .checked_mul(cell.gates() + 3)
            .and_then(|n| n.checked_mul(input.max(hidden).max(1)))
            .and_then(|n| n.checked_mul(16))
            .ok_or_else(too_large)?;
        Ok(layout)
    }

    pub(super) fn groups(&self) -> &[Group] {
        &self.groups[..self.count]
    }

    /// Elements of one direction's panels of depth `depth`.
    pub(super) fn panels(&self, depth: usize) -> usize {
        self.padded * self.cell.gates() * depth
    }

    /// The part of one direction's panels of depth `depth` that holds the panels of `group` for `units`.
    pub(super) fn panels_of(&self, group: usize, depth: usize, units: Range<usize>) -> Range<usize> {
        let before: usize = self.groups()[..group].iter().map(|g| g.gates).sum();
        let start = before * self.padded * depth;
        let gates = self.groups[group].gates;
        start + units.start * gates * depth..start + units.end * gates * depth
    }

    /// The panels of direction `plane` among those of all directions.
    pub(super) fn plane_in<'a, F>(&self, all: Stored<'a, F>, plane: usize, depth: usize) -> Stored<'a, F> {
        let of = |per: usize| plane * per..(plane + 1) * per;
        all.part(of(self.panels(depth)), of(self.panels(1)))
    }

    /// The panels of `group` for `units` among one direction's.
    pub(super) fn panels_in<'a, F>(
        &self,
        all: Stored<'a, F>,
        group: usize,
        depth: usize,
        units: Range<usize>,
    ) -> Stored<'a, F> {
        all.part(self.panels_of(group, depth, units.clone()), self.panels_of(group, 1, units))
    }

    /// Rows of per-unit values beside the biases: peepholes i, o, f, or the recurrent bias of the hidden gate.
    pub(super) fn extras(&self) -> usize {
        match self.cell {
            Cell::Lstm { .. } => 3,
            Cell::Gru { linear_before_reset: true } => 1,
            _ => 0,
        }
    }

    /// Elements of one direction's biases (panels of depth 1) and extras.
    pub(super) fn vectors(&self) -> usize {
        self.panels(1) + self.extras() * self.padded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_tile_the_buffer() {
        for cell in [
            Cell::Lstm { input_forget: false },
            Cell::Gru { linear_before_reset: false },
            Cell::Gru { linear_before_reset: true },
            Cell::Rnn,
        ] {
            for hidden in [0, 1, 15, 16, 17, 47, 48, 65, 130] {
                let layout = Layout::new(cell, 3, hidden).expect("small");
                let mut at = 0;
                for (index, group) in layout.groups().iter().enumerate() {
                    assert!([48, 64].contains(&group.width()) && layout.padded.is_multiple_of(group.units));
                    let range = layout.panels_of(index, 3, 0..layout.padded);
                    assert_eq!(range.start, at);
                    at = range.end;
                }
                assert_eq!(at, layout.panels(3));
            }
            assert!(Layout::new(cell, usize::MAX / 8, usize::MAX / 8).is_err());
            assert!(Layout::new(cell, 0, usize::MAX).is_err());
        }
    }
}
