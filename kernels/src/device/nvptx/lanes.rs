//! Shuffles and votes.
//!
//! LLVM's own functions, not `asm!`: they are marked convergent, so that the compiler neither copies them into the
//! branches of a condition nor moves them under one, where not all lanes would come to the same instruction.

use super::super::warp::{Source, Vote};

#[allow(improper_ctypes)]
unsafe extern "unadjusted" {
    #[link_name = "llvm.nvvm.shfl.sync.bfly.i32"]
    safe fn shuffle_bfly(mask: u32, value: u32, argument: u32, clamp: u32) -> u32;
    #[link_name = "llvm.nvvm.shfl.sync.up.i32"]
    safe fn shuffle_up(mask: u32, value: u32, argument: u32, clamp: u32) -> u32;
    #[link_name = "llvm.nvvm.shfl.sync.down.i32"]
    safe fn shuffle_down(mask: u32, value: u32, argument: u32, clamp: u32) -> u32;
    #[link_name = "llvm.nvvm.shfl.sync.idx.i32"]
    safe fn shuffle_idx(mask: u32, value: u32, argument: u32, clamp: u32) -> u32;
    #[link_name = "llvm.nvvm.vote.any.sync"]
    safe fn vote_any(mask: u32, predicate: bool) -> bool;
    #[link_name = "llvm.nvvm.vote.all.sync"]
    safe fn vote_all(mask: u32, predicate: bool) -> bool;
    #[link_name = "llvm.nvvm.vote.ballot.sync"]
    safe fn vote_ballot(mask: u32, predicate: bool) -> u32;
}

#[inline(always)]
pub(crate) fn shuffle(mask: u32, source: Source, value: u32, argument: u32, width: u32) -> u32 {
    let segment = (32 - width) << 8;
    match source {
        Source::Xor => shuffle_bfly(mask, value, argument, segment | 31),
        Source::Up => shuffle_up(mask, value, argument, segment),
        Source::Down => shuffle_down(mask, value, argument, segment | 31),
        Source::Lane => shuffle_idx(mask, value, argument, segment | 31),
    }
}

#[inline(always)]
pub(crate) fn vote(mask: u32, vote: Vote, predicate: bool) -> u32 {
    match vote {
        Vote::Any => vote_any(mask, predicate).into(),
        Vote::All => vote_all(mask, predicate).into(),
        Vote::Ballot => vote_ballot(mask, predicate),
    }
}
