//! Shuffles and votes.

use super::super::warp::{Source, Vote};
use core::arch::asm;

#[inline(always)]
pub(crate) fn shuffle(mask: u32, source: Source, value: u32, argument: u32, width: u32) -> u32 {
    let segment = (32 - width) << 8;
    let clamp = if matches!(source, Source::Up) { segment } else { segment | 31 };
    let result: u32;
    // SAFETY: every lane of the mask comes here, which the emulator checks.
    unsafe {
        match source {
            Source::Xor => asm!("shfl.sync.bfly.b32 {}, {}, {}, {}, {};", out(reg32) result, in(reg32) value,
                in(reg32) argument, in(reg32) clamp, in(reg32) mask, options(nostack)),
            Source::Up => asm!("shfl.sync.up.b32 {}, {}, {}, {}, {};", out(reg32) result, in(reg32) value,
                in(reg32) argument, in(reg32) clamp, in(reg32) mask, options(nostack)),
            Source::Down => {
                asm!("shfl.sync.down.b32 {}, {}, {}, {}, {};", out(reg32) result, in(reg32) value,
                in(reg32) argument, in(reg32) clamp, in(reg32) mask, options(nostack))
            }
            Source::Lane => asm!("shfl.sync.idx.b32 {}, {}, {}, {}, {};", out(reg32) result, in(reg32) value,
                in(reg32) argument, in(reg32) clamp, in(reg32) mask, options(nostack)),
        }
    }
    result
}

#[inline(always)]
pub(crate) fn vote(mask: u32, vote: Vote, predicate: bool) -> u32 {
    let asked = u32::from(predicate);
    let ballot: u32;
    // SAFETY: every lane of the mask comes here, which the emulator checks.
    unsafe {
        asm!("{{", ".reg .pred p;", "setp.ne.u32 p, {}, 0;", "vote.sync.ballot.b32 {}, p, {};", "}}",
            in(reg32) asked, out(reg32) ballot, in(reg32) mask, options(nostack));
    }
    match vote {
        Vote::Ballot => ballot,
        Vote::Any => (ballot != 0).into(),
        Vote::All => (ballot == mask).into(),
    }
}
