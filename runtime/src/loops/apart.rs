//! Why operators stay apart.

use super::nest::Opaque;
use std::fmt;

/// Why a node did not join the group of a reader.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Apart {
    /// It is not the only reader.
    SeveralReaders,
    /// The value is an output of the model.
    Output,
    /// The producer has no nest.
    Producer(Opaque),
    /// The reader has no nest.
    Reader(Opaque),
    /// Neither side is a map, or the kernel takes no epilogue.
    NoRewrite,
    /// The reader is itself a contraction, which reads the operand as it is.
    Prologue,
    /// The reader, a convolution, reads its input in place.
    InPlace,
    /// The reader gathers windows that overlap, and would make the value again for each.
    Windows,
    /// Planes are too large to stay in a cache between being made and read.
    LargePlanes,
    /// Planes are too few for all threads.
    FewPlanes,
    /// Planes are too short for a call each.
    ShortPlanes,
    /// What makes an operand does not lie in its rows.
    OutOfRows,
    /// The group has a contraction already.
    SecondContraction,
    /// The contraction's result is not read point for point.
    Rearranged,
    /// The group is computed row by row, and this would not lie in its rows.
    Rows,
    /// Rows are too short for a call each.
    ShortRows,
    /// Factors and summands of a row's parts are for parts that are too short.
    ShortRuns,
    /// Rows are too few for their length.
    FewRows,
    /// It would be computed too often.
    Recomputed,
    /// It would be read against the order in memory.
    AgainstTheGrain,
    /// The fused program would be too long.
    TooLong,
    /// The producer makes a view.
    View,
    /// The reader makes a view.
    ReadByView,
}

impl Apart {
    /// The same of a pair of which one makes a view, as the others know it: what keeps a kernel from joining another matters
    /// only where there are two.
    pub(super) fn of_views(self, [producer, reader]: [bool; 2]) -> Self {
        match self {
            Self::NoRewrite | Self::Producer(_) | Self::Reader(_) if producer => Self::View,
            Self::NoRewrite | Self::Reader(_) if reader => Self::ReadByView,
            why => why,
        }
    }
}

impl fmt::Display for Apart {
    /// A sentence about the node that makes the value, for those who use the engine.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Producer(why) => return write!(f, "{why}"),
            Self::Reader(why) => return write!(f, "the operator that reads it stays by itself: {why}"),
            Self::SeveralReaders => "other operators read its value, too, so that it is stored in any case",
            Self::Output => "its value is an output of the model, so that it is stored in any case",
            Self::NoRewrite => "neither of the two operators can be computed inside the other",
            Self::Prologue => "the operator that reads it needs this input in memory",
            Self::InPlace => {
                "the convolution that reads it takes each element where it lies: computing it there would save nothing"
            }
            Self::Windows => {
                "the convolution that reads it gathers overlapping windows and would compute it again for each of them"
            }
            Self::LargePlanes => {
                "windows overlap and a channel is too large for a cache: it is computed once and stored"
            }
            Self::FewPlanes => "its channels are too few to share them among threads",
            Self::ShortPlanes => "its channels are too small for a call each",
            Self::OutOfRows => "it reads something in another order than the operator behind it needs its rows in",
            Self::SecondContraction => {
                "the fused operator has its one operator that sums (a product, a convolution, a pool) already"
            }
            Self::Rearranged => "the operator behind it uses its elements in another order than they are made in",
            Self::Rows => "the operator behind it is computed row by row, and this one does not have the same rows",
            Self::ShortRows => "rows are too short for a call each",
            Self::ShortRuns => "channels have too few elements for what is one for each to be spread over them",
            Self::FewRows => "rows are too long for one thread and too few to share among threads",
            Self::Recomputed => "computing it again wherever it is needed would cost more than storing it",
            Self::AgainstTheGrain => "reading it out of the order in which it lies in memory would cost more than a copy",
            Self::TooLong => "the fused operator would become too large",
            Self::View => "nothing runs for it: its result is its input in another shape",
            Self::ReadByView => "nothing runs for the operator that reads it, whose result is this one in another shape",
        })
    }
}
