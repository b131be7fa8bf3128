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
