//! A sequential axis: a loop around the stages of a nest whose points come one after the other, and what they leave
//! behind for each other.
//!
//! ```text
//! arrays = their initial content
//! for each point of the sequential axis, in order
//!   for each pass, in order
//!     for each point of the pass's axes: its stages
//!     what its stages carried into arrays is there
//! last outputs = arrays
//! ```
//!
//! A plain recurrent cell, an LSTM and a GRU that applies its reset gate behind the product are one pass: every element
//! of the new state is a function of the whole old one. A GRU whose reset gate stands before the product is two, of
//! which the first carries `r ⊙ h` to the second. The directions of a recurrence are stages and arrays of their own in
//! one nest: the same point of the axis is one moment for the one and another for the other.
//!
//! Such a nest is the recurrence's definition in the language of nests, which the interpreter carries out. No rewrite
//! takes it for a map, a reduction or a contraction: the stages are kept together by the arrays.

use crate::dtype::DType;
use crate::graph::Dim;

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sequential {
    /// Which axis of the nest; no pass has it.
    pub(crate) axis: usize,
    /// What outlives a point.
    pub(crate) arrays: Vec<Array>,
    /// The stages, in order, fall into these.
    pub(crate) passes: Vec<Pass>,
    /// Outputs that are what an array holds in the end.
    pub(crate) last: Vec<(usize, usize)>,
}

impl Sequential {
    /// A read with this operand number or a higher one is of an array.
    pub(crate) const FIRST_ARRAY: usize = 1 << 16;
}

/// Stages that are carried out together at every point.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pass {
    /// How many.
    pub(crate) stages: usize,
    /// The points: all of these axes. Stages may run over others besides.
    pub(crate) axes: Vec<usize>,
}

/// Values that are carried from pass to pass, and from one point of the axis to the next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Array {
    pub(crate) extents: Vec<Dim>,
    pub(crate) dtype: DType,
    /// The operand that it starts as, of the same extents; zeros without one.
    pub(crate) initial: Option<usize>,
}
