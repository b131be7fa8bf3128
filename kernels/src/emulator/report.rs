//! What the emulator reports: which rule a kernel broke, where, and who was involved.

use std::fmt;
use std::panic::Location;

/// A kernel that did what it must not do.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("kernel {kernel}: {fault}{}", Party::shown(thread.as_ref()))]
pub struct Report {
    /// The kernel's entry.
    pub kernel: &'static str,
    /// The thread that was caught; none for copies of the host.
    pub thread: Option<Party>,
    /// What it did.
    pub fault: Box<Fault>,
}

impl Report {
    pub(super) fn new(kernel: &'static str, thread: Option<Party>, fault: Fault) -> Self {
        Self { kernel, thread, fault: Box::new(fault) }
    }
}

/// A thread and the place in the source where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Party {
    /// The block in the grid.
    pub block: [u32; 3],
    /// The thread in the block.
    pub thread: [u32; 3],
    /// Where in the kernel.
    pub location: &'static Location<'static>,
}

impl Party {
    fn shown(party: Option<&Self>) -> String {
        party.map_or_else(String::new, |party| format!(", by {party}"))
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([bx, by, bz], [x, y, z]) = (self.block, self.thread);
        write!(f, "thread ({x}, {y}, {z}) of block ({bx}, {by}, {bz}) at {}", self.location)
    }
}

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It reads.
    Read,
    /// It writes.
    Write,
    /// It reads and writes at once.
    Atomic,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Atomic => "atomic operation",
        })
    }
}

/// Where in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In or near an allocation of global memory.
    Global {
        /// The address on the device.
        address: u64,
        /// The allocation's label.
        allocation: String,
        /// Bytes from its start; negative in front of it.
        offset: i64,
        /// Its bytes.
        bytes: u64,
    },
    /// At an address of no allocation.
    Nowhere {
        /// The address on the device.
        address: u64,
    },
    /// In a block's shared memory.
    Shared {
        /// The block in the grid.
        block: [u32; 3],
        /// Bytes from the start of the block's shared memory.
        offset: u32,
        /// The bytes of the array that was accessed, from the same start.
        array: (u32, u32),
        /// All bytes of the block's shared memory.
        bytes: u32,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Global { address, allocation, offset, bytes } => {
                write!(f, "{address:#x}, byte {offset} of {allocation}, which has {bytes}")
            }
            Self::Nowhere { address } => write!(f, "{address:#x}, where nothing is allocated"),
            Self::Shared { block: [x, y, z], offset, array: (from, to), bytes } => write!(
                f,
                "byte {offset} of the shared memory of block ({x}, {y}, {z}), in the array of bytes {from}..{to} of {bytes}"
            ),
        }
    }
}

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Outside the allocation or the shared array.
    #[error("{access} of {size} bytes out of bounds: {place}")]
    OutOfBounds {
        /// What was done.
        access: Access,
        /// Bytes of the access.
        size: u32,
        /// Where.
        place: Place,
    },
    /// At an address that is no multiple of the size.
    #[error("misaligned {access} of {size} bytes: {place}")]
    Misaligned {
        /// What was done.
        access: Access,
        /// Bytes of the access.
        size: u32,
        /// Where.
        place: Place,
    },
    /// In memory that was freed.
    #[error("{access} of freed memory: {place}")]
    UseAfterFree {
        /// What was done.
        access: Access,
        /// Where.
        place: Place,
    },
    /// Of bytes that nobody wrote.
    #[error("read of {size} bytes that were never written: {place}")]
    Unwritten {
        /// Bytes of the access.
        size: u32,
        /// Where.
        place: Place,
    },
    /// Of bytes that an asynchronous copy may still be writing or reading.
    #[error("{access} of {size} bytes of an asynchronous copy that was not waited for: {place}")]
    InFlight {
        /// What was done.
        access: Access,
        /// Bytes of the access.
        size: u32,
        /// Where.
        place: Place,
    },
    /// The source of an asynchronous copy changed before the copy was waited for.
    #[error("the source of an asynchronous copy was written before the copy was waited for: {place}")]
    SourceChanged {
        /// Where.
        place: Place,
    },
    /// Without order to an access of another thread.
    #[error("data race: {access} of {size} bytes and {earlier} by {other}: {place}")]
    Race {
        /// What was done.
        access: Access,
        /// Bytes of the access.
        size: u32,
        /// What the other thread did before.
        earlier: Access,
        /// The other thread.
        other: Party,
        /// Where.
        place: Place,
    },
    /// Through the asynchronous proxy, of what was written through the generic one, without a fence between the two.
    #[error(
        "a bulk store or product reads what {other} has written, and no `fence_async` stands between: {place}"
    )]
    Unfenced {
        /// Who wrote.
        other: Party,
        /// Where.
        place: Place,
    },
    /// Threads that should meet do not.
    #[error("{kind}: {other} {instead}")]
    Divergence {
        /// What the thread is at.
        kind: Meeting,
        /// Another thread that should come there, too.
        other: Party,
        /// What that one does instead.
        instead: Instead,
    },
    /// A mask that does not name the calling lane, or lanes that the block does not have.
    #[error("{kind} with the mask {mask:#010x}, which {problem}")]
    Mask {
        /// What was called.
        kind: Meeting,
        /// The mask.
        mask: u32,
        /// What is wrong with it.
        problem: MaskProblem,
    },
    /// A value read from a lane that takes no part.
    #[error("shuffle reads from lane {lane}, which takes no part")]
    InactiveSource {
        /// The lane.
        lane: u32,
    },
    /// Every thread that is left waits.
    #[error("deadlock: all {waiting} threads that are left wait, the first of them at a {kind}")]
    Deadlock {
        /// How many.
        waiting: usize,
        /// What the reported one waits at.
        kind: Meeting,
    },
    /// A primitive was used against its rules.
    #[error("{what}")]
    Misuse {
        /// What is wrong.
        what: &'static str,
    },
    /// The kernel's code panicked.
    #[error("the kernel panicked: {message}")]
    Panic {
        /// The panic's message.
        message: String,
    },
}

/// What threads meet at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meeting {
    /// The barrier of the block.
    BlockBarrier,
    /// A numbered barrier of the block.
    NamedBarrier(u32),
    /// The barrier of the cluster.
    ClusterBarrier,
    /// The barrier of the grid.
    GridBarrier,
    /// The barrier of a warp.
    WarpBarrier,
    /// A shuffle.
    Shuffle,
    /// A vote.
    Vote,
    /// A matrix product or load of a warp.
    Matrix,
    /// A barrier of arrivals and bytes.
    Arrivals,
    /// A loop that polls memory.
    Polling,
}

impl fmt::Display for Meeting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BlockBarrier => f.write_str("block barrier"),
            Self::NamedBarrier(id) => write!(f, "barrier {id}"),
            Self::ClusterBarrier => f.write_str("cluster barrier"),
            Self::GridBarrier => f.write_str("grid barrier"),
            Self::WarpBarrier => f.write_str("warp barrier"),
            Self::Shuffle => f.write_str("shuffle"),
            Self::Vote => f.write_str("vote"),
            Self::Matrix => f.write_str("matrix operation"),
            Self::Arrivals => f.write_str("mbarrier"),
            Self::Polling => f.write_str("polling loop"),
        }
    }
}

/// What a thread does instead of coming to a meeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instead {
    /// It has left the kernel.
    Left,
    /// It is at another meeting.
    Waits(Meeting),
    /// It is at a meeting of the same kind elsewhere in the source, or with another mask or count.
    Elsewhere,
}

impl fmt::Display for Instead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Left => f.write_str("has left the kernel"),
            Self::Waits(meeting) => write!(f, "waits at a {meeting}"),
            Self::Elsewhere => f.write_str("waits elsewhere or for others"),
        }
    }
}

/// What is wrong with a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskProblem {
    /// The calling lane is not in it.
    CallerMissing,
    /// It names lanes that the block does not have.
    NoSuchLane,
    /// The operation needs all 32.
    NotAll,
}

impl fmt::Display for MaskProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CallerMissing => "does not name the calling lane",
            Self::NoSuchLane => "names lanes that the block does not have",
            Self::NotAll => "does not name all lanes",
        })
    }
}
