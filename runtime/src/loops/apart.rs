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
    /// Planes are too few for all threads, or too short.
    FewPlanes,
    /// What makes an operand does not lie in its rows.
    OutOfRows,
    /// The group has a contraction already.
    SecondContraction,
    /// The contraction's result is not read point for point.
    Rearranged,
    /// The group is computed row by row, and this would not lie in its rows.
    Rows,
    /// Rows are too short, or too few for their length.
    RowLength,
    /// It would be computed too often.
    Recomputed,
    /// It would be read against the order in memory.
    AgainstTheGrain,
    /// The fused program would be too long.
    TooLong,
}

impl fmt::Display for Apart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SeveralReaders => f.write_str("its value has readers elsewhere"),
            Self::Output => f.write_str("its value is an output"),
            Self::Producer(why) => write!(f, "{why}"),
            Self::Reader(why) => write!(f, "of its reader, {why}"),
            Self::NoRewrite => f.write_str("no rewrite joins the two"),
            Self::Prologue => f.write_str("its reader takes the operand as it is"),
            Self::InPlace => f.write_str(
                "the convolution behind it reads its input where it lies, so that computing it there would save nothing",
            ),
            Self::Windows => f.write_str(
                "the convolution behind it gathers overlapping windows and would compute it again for each of them",
            ),
            Self::LargePlanes => f.write_str(
                "windows overlap and a channel is too large for a cache, so that it is computed once and stored",
            ),
            Self::FewPlanes => f.write_str("there are too few channels to share among threads, or they are too small"),
            Self::OutOfRows => f.write_str("its operands are not read in the order in which its reader needs it"),
            Self::SecondContraction => f.write_str("the group has a contraction already"),
            Self::Rearranged => f.write_str("its result is not read point for point"),
            Self::Rows => f.write_str("it does not lie in the rows of its reader"),
            Self::RowLength => f.write_str("rows are too short, or too few for their length"),
            Self::Recomputed => f.write_str("computing it again would cost more than storing it"),
            Self::AgainstTheGrain => f.write_str("it would be read against the order in memory"),
            Self::TooLong => f.write_str("the fused program would be too long"),
        }
    }
}
