//! Why a variant does not apply or a launch is refused.

use crate::program::{Kind, Opcode};
use core::fmt;

/// Memory that the caller hands to a launch as an operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Buffer {
    /// The address on the device; 0 for an operand that is not there.
    pub address: u64,
    /// Its bytes.
    pub bytes: u64,
}

impl Buffer {
    /// Whether it is there.
    pub const fn is_some(&self) -> bool {
        self.address != 0
    }

    /// Whether it shares a byte with `other`.
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.address < other.address + other.bytes && other.address < self.address + self.bytes
    }

    /// Checks that it holds `needed` bytes from an address aligned to `alignment`.
    pub fn holds(&self, operand: &'static str, needed: u64, alignment: u64) -> Result<(), Reject> {
        if needed > 0 && !self.is_some() {
            return Err(Reject::Absent { operand });
        }
        if self.bytes < needed {
            return Err(Reject::Length { operand, needed, got: self.bytes });
        }
        if !self.address.is_multiple_of(alignment) {
            return Err(Reject::Alignment { operand, needed: alignment, address: self.address });
        }
        Ok(())
    }
}

/// Why a variant of a kernel does not apply, or a launch is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Reject {
    /// The family has no variant of this id.
    UnknownVariant,
    /// A variant for another element type.
    ElementType {
        /// Which operand.
        operand: &'static str,
    },
    /// An extent outside the range of the variant.
    Extent {
        /// Which extent.
        name: &'static str,
        /// What it is.
        got: u64,
        /// The most that it may be.
        limit: u64,
    },
    /// An extent that is not a multiple of what the variant needs.
    Multiple {
        /// Which extent.
        name: &'static str,
        /// What it is.
        got: u64,
        /// What it must be a multiple of.
        of: u64,
    },
    /// An operand is missing.
    Absent {
        /// Which operand.
        operand: &'static str,
    },
    /// An operand has too few bytes.
    Length {
        /// Which operand.
        operand: &'static str,
        /// Bytes that it must have.
        needed: u64,
        /// Bytes that it has.
        got: u64,
    },
    /// An operand's address is not aligned.
    Alignment {
        /// Which operand.
        operand: &'static str,
        /// What it must be a multiple of.
        needed: u64,
        /// The address.
        address: u64,
    },
    /// Too many threads in a block, or none.
    Threads {
        /// Threads of a block.
        got: u32,
        /// The most that the entry was compiled for.
        limit: u32,
    },
    /// A grid without blocks, or with too many.
    Grid {
        /// Blocks along x, y and z.
        got: [u32; 3],
    },
    /// A cluster size that is none, or does not divide the grid.
    Cluster {
        /// Blocks of a cluster.
        got: u32,
        /// Blocks of the grid along x.
        blocks: u32,
    },
    /// Too much shared memory.
    SharedMemory {
        /// Bytes that a block needs.
        needed: u32,
        /// Bytes that the device gives it.
        limit: u32,
    },
    /// The device is too old.
    Capability {
        /// The least compute capability, times ten.
        needed: u32,
        /// The device's.
        got: u32,
    },
    /// A function that no kernel computes for this kind of register.
    Function {
        /// The function.
        function: Opcode,
        /// What it is of.
        of: Kind,
    },
    /// What the kernel does not compute.
    Unsupported {
        /// What that is.
        what: &'static str,
    },
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::UnknownVariant => f.write_str("the family has no variant of this id"),
            Self::ElementType { operand } => {
                write!(f, "the variant is for another element type of {operand}")
            }
            Self::Extent { name, got, limit } => write!(f, "{name} is {got}, at most {limit} is possible"),
            Self::Multiple { name, got, of } => write!(f, "{name} is {got}, no multiple of {of}"),
            Self::Absent { operand } => write!(f, "operand {operand} is missing"),
            Self::Length { operand, needed, got } => {
                write!(f, "operand {operand} has {got} bytes instead of {needed}")
            }
            Self::Alignment { operand, needed, address } => {
                write!(f, "operand {operand} at {address:#x} is not aligned to {needed} bytes")
            }
            Self::Threads { got, limit } => {
                write!(f, "{got} threads in a block, at most {limit} are possible")
            }
            Self::Grid { got: [x, y, z] } => write!(f, "a grid of {x} × {y} × {z} blocks"),
            Self::Cluster { got, blocks } => write!(f, "clusters of {got} in a grid of {blocks} blocks"),
            Self::SharedMemory { needed, limit } => {
                write!(f, "{needed} bytes of shared memory, at most {limit} are possible")
            }
            Self::Capability { needed, got } => {
                write!(f, "compute capability {got} of the device is below {needed} (both times ten)")
            }
            Self::Function { function, of } => write!(f, "{function} of {of} is not computed"),
            Self::Unsupported { what } => write!(f, "{what} is not computed"),
        }
    }
}

impl core::error::Error for Reject {}
