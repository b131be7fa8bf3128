//! Orders, scopes and operations of atomic accesses; the accesses themselves are methods of
//! [`Global`](super::Global), [`Shared`](super::Shared) and [`Distributed`](super::Distributed).
//!
//! Weak accesses of different threads to the same bytes, at least one of them a write, must be ordered by barriers or
//! by a release that an acquire reads; the emulator reports those that are not.

use super::Plain;

/// What an access orders.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// An ordinary access, which must not race.
    Weak,
    /// Neither merged nor moved; may race with its like, and orders nothing.
    Volatile,
    /// Atomic; orders nothing.
    Relaxed,
    /// An atomic load that orders what follows it behind the release that it reads from.
    Acquire,
    /// An atomic store that orders what precedes it.
    Release,
    /// Both, for operations that read and write.
    AcquireRelease,
}

/// Whose accesses an atomic access is atomic with and a fence orders.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Scope {
    /// Threads of the block.
    Block,
    /// Threads of the cluster.
    Cluster,
    /// Threads of the device.
    Device,
    /// Threads of the machine: the host's and other devices', too.
    System,
}

/// What an atomic operation makes of the value in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Their sum; integers wrap.
    Add,
    /// The smaller one.
    Min,
    /// The larger one.
    Max,
    /// Bitwise and.
    And,
    /// Bitwise or.
    Or,
    /// Bitwise exclusive or.
    Xor,
    /// The operand.
    Exchange,
}

/// Types of atomic operations.
pub trait Atomic: Plain {
    /// The suffix of the instruction: `u32`, `s32`, `u64`, `f32`.
    const SUFFIX: Suffix;
    /// What is left in memory.
    fn apply(operation: Operation, memory: Self, operand: Self) -> Self;
}

/// Types that can be compared and exchanged.
pub trait AtomicInteger: Atomic + PartialEq {}

/// The instruction's type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Suffix {
    /// Unsigned, 32 bits.
    U32,
    /// Signed, 32 bits.
    S32,
    /// Unsigned, 64 bits.
    U64,
    /// Binary32; adds and exchanges only.
    F32,
}

macro_rules! atomic_integer {
    ($($t:ty: $suffix:ident),*) => { $(
        impl AtomicInteger for $t {}
        impl Atomic for $t {
            const SUFFIX: Suffix = Suffix::$suffix;
            #[inline(always)]
            fn apply(operation: Operation, memory: Self, operand: Self) -> Self {
                match operation {
                    Operation::Add => memory.wrapping_add(operand),
                    Operation::Min => memory.min(operand),
                    Operation::Max => memory.max(operand),
                    Operation::And => memory & operand,
                    Operation::Or => memory | operand,
                    Operation::Xor => memory ^ operand,
                    Operation::Exchange => operand,
                }
            }
        }
    )* };
}

atomic_integer!(u32: U32, i32: S32, u64: U64);

impl Atomic for f32 {
    const SUFFIX: Suffix = Suffix::F32;

    /// Only [`Operation::Add`] and [`Operation::Exchange`] have instructions.
    #[inline(always)]
    fn apply(operation: Operation, memory: Self, operand: Self) -> Self {
        match operation {
            Operation::Add => memory + operand,
            _ => operand,
        }
    }
}
