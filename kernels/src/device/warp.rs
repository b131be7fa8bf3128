//! The 32 threads that run together.
//!
//! Masks name lanes, bit `i` lane `i`. Every lane of a mask makes the same call with the same mask. Shuffles and votes
//! order no memory; [`sync`] does.

use super::implementation as imp;
use super::{block, plain::Plain};

/// Lanes of a warp.
pub const LANES: u32 = 32;
/// The mask of all lanes.
pub const ALL: u32 = u32::MAX;

/// Which lane a shuffle reads from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The own number, exclusive or the argument.
    Xor,
    /// The own number minus the argument; the own value where that lane is below the segment.
    Up,
    /// The own number plus the argument; the own value where that lane is above the segment.
    Down,
    /// The argument, modulo the segment's width.
    Lane,
}

/// What a vote asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Vote {
    /// Whether any lane's predicate holds.
    Any,
    /// Whether all do.
    All,
    /// The mask of those that do.
    Ballot,
}

/// The thread's lane.
#[inline(always)]
pub fn lane_id() -> u32 {
    imp::index::lane()
}

/// The warp's number in its block.
#[inline(always)]
pub fn warp_id() -> u32 {
    block::rank() / LANES
}

/// Waits for the lanes of `mask`, and makes what they wrote visible to each other.
#[inline(always)]
#[track_caller]
pub fn sync(mask: u32) {
    imp::sync::sync_warp(mask);
}

/// The 32 bits of `value` of another lane. `width`, a power of two, cuts the warp into segments.
#[inline(always)]
#[track_caller]
pub fn shuffle<T: Plain>(mask: u32, source: Source, value: T, argument: u32, width: u32) -> T {
    const { assert!(size_of::<T>() == 4) };
    let bits = imp::lanes::shuffle(mask, source, value.to_bits() as u32, argument, width);
    T::from_bits(bits.into())
}

/// The 64 bits of `value` of another lane of the whole warp.
#[inline(always)]
#[track_caller]
pub fn shuffle_wide(mask: u32, source: Source, value: u64, argument: u32) -> u64 {
    let half = |bits: u64| u64::from(shuffle(mask, source, bits as u32, argument, LANES));
    half(value) | half(value >> 32) << 32
}

/// `value` of the lane whose number differs in the bits of `lanes`.
#[inline(always)]
#[track_caller]
pub fn shuffle_xor<T: Plain>(mask: u32, value: T, lanes: u32) -> T {
    shuffle(mask, Source::Xor, value, lanes, LANES)
}

/// `value` of the lane `delta` below.
#[inline(always)]
#[track_caller]
pub fn shuffle_up<T: Plain>(mask: u32, value: T, delta: u32) -> T {
    shuffle(mask, Source::Up, value, delta, LANES)
}

/// `value` of the lane `delta` above.
#[inline(always)]
#[track_caller]
pub fn shuffle_down<T: Plain>(mask: u32, value: T, delta: u32) -> T {
    shuffle(mask, Source::Down, value, delta, LANES)
}

/// `value` of `lane`.
#[inline(always)]
#[track_caller]
pub fn shuffle_idx<T: Plain>(mask: u32, value: T, lane: u32) -> T {
    shuffle(mask, Source::Lane, value, lane, LANES)
}

/// Whether `predicate` holds in any lane of `mask`.
#[inline(always)]
#[track_caller]
pub fn any(mask: u32, predicate: bool) -> bool {
    imp::lanes::vote(mask, Vote::Any, predicate) != 0
}

/// Whether `predicate` holds in all lanes of `mask`.
#[inline(always)]
#[track_caller]
pub fn all(mask: u32, predicate: bool) -> bool {
    imp::lanes::vote(mask, Vote::All, predicate) != 0
}

/// The lanes of `mask` in which `predicate` holds.
#[inline(always)]
#[track_caller]
pub fn ballot(mask: u32, predicate: bool) -> u32 {
    imp::lanes::vote(mask, Vote::Ballot, predicate)
}

/// `combine` over the values of all 32 lanes, in every lane: a butterfly of five exchanges, whose order is the same in
/// every lane where `combine` is commutative.
#[inline(always)]
#[track_caller]
pub fn reduce<T: Plain>(value: T, combine: impl Fn(T, T) -> T) -> T {
    let mut total = value;
    let mut distance = LANES / 2;
    while distance > 0 {
        total = combine(total, shuffle_xor(ALL, total, distance));
        distance /= 2;
    }
    total
}
