//! Lines along one axis of `[outer, depth, inner]`, each shared out to a warp or a block: where a warp's line is, launches,
//! and what all lanes of a warp, or all threads of a block, have as one.
//!
//! Grid `⌈lines / 8⌉` for warps, `lines` for blocks; block 256.

use crate::device::{Shared, thread, warp};
use crate::element::Element;
use crate::launch::{Entry, Geometry};

/// Threads of a block.
pub const THREADS: u32 = 256;
/// Warps of a block.
pub const WARPS: u32 = THREADS / warp::LANES;
/// Elements of a line that a lane keeps in registers, where a warp reads its line once.
pub(crate) const KEPT: usize = 32;
/// The longest line that a warp keeps.
pub(crate) const WARP_DEPTH: u32 = warp::LANES * KEPT as u32;

/// The launch of a warp for each line.
pub const fn by_warp(lines: u32) -> Geometry {
    Geometry::linear(lines.div_ceil(WARPS), THREADS)
}

/// The launch of a block for each line.
pub const fn by_block(lines: u32) -> Geometry {
    Geometry::linear(lines, THREADS)
}

/// The line of the warp at hand, which may lie behind the last one.
#[inline(always)]
pub(crate) fn of_warp() -> u32 {
    thread::block_idx_x() * WARPS + warp::warp_id()
}

/// `join` over what the lanes of a warp have, in every lane.
#[inline(always)]
#[track_caller]
pub(crate) fn over_warp<const N: usize>(
    own: [f32; N],
    join: impl Fn([f32; N], [f32; N]) -> [f32; N],
) -> [f32; N] {
    let mut total = own;
    let mut distance = warp::LANES / 2;
    while distance > 0 {
        let mut other = [0.0; N];
        for k in 0..N {
            other[k] = warp::shuffle_xor(warp::ALL, total[k], distance);
        }
        total = join(total, other);
        distance /= 2;
    }
    total
}

/// `join` over what the threads of a block have, in every thread: lanes by exchanges, warps one after the other. `partial`
/// has room for `N` numbers of each warp, and is free again when this ends.
#[inline(always)]
#[track_caller]
pub(crate) fn over_block<const N: usize>(
    partial: Shared<f32>,
    own: [f32; N],
    join: impl Fn([f32; N], [f32; N]) -> [f32; N],
) -> [f32; N] {
    let own = over_warp(own, &join);
    if warp::lane_id() == 0 {
        for k in 0..N {
            partial.store(N * warp::warp_id() as usize + k, own[k]);
        }
    }
    thread::sync_threads();
    let of = |number: usize| {
        let mut held = [0.0; N];
        for k in 0..N {
            held[k] = partial.load(N * number + k);
        }
        held
    };
    let (mut total, mut number) = (of(0), 1);
    while number < WARPS as usize {
        total = join(total, of(number));
        number += 1;
    }
    thread::sync_threads();
    total
}

/// A variant of a family whose plans have one entry for each element type.
#[derive(Debug)]
pub struct Typed<L: 'static, P: 'static> {
    /// Its stable name.
    pub id: &'static str,
    pub(crate) plan: L,
    pub(crate) element: Element,
    pub(crate) entry: &'static Entry<P>,
}

impl<L, P> Typed<L, P> {
    pub(crate) const fn new(id: &'static str, plan: L, element: Element, entry: &'static Entry<P>) -> Self {
        Self { id, plan, element, entry }
    }
}
