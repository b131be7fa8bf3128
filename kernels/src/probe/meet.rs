//! # Meeting through global memory
//! - *Barrier*: in each round a block writes its number of the round, all wait for each other ([`grid::sync`]), and the
//!   block reads its neighbour's. Numbers of even and odd rounds have places of their own, so that one barrier a round is
//!   enough. A block counts the rounds in which its neighbour had written.
//! - *Flag*: block 0 writes the number of the round to one word, the last block, which polls it, to another, which block 0
//!   polls; blocks between them poll the second word, as they do where all wait for one. Two ways per round.
//! - *Host flag*: the same between the host and one thread, through memory that both reach.
//!
//! A word has 128 bytes to itself. Grid: cooperative, any number of blocks; block 32; no shared memory. The time of a
//! round is a difference between launches of many and of few rounds.

use crate::device::{Global, Scope, grid, thread};
use crate::entry;
use crate::launch::{Buffer, Device, Geometry, Prepared, Reject};

/// What the kernels take.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    /// Words that are written and polled, [`APART`] words apart; zero before a launch.
    words: Global<u32>,
    /// What each block has seen.
    seen: Global<u32>,
    rounds: u32,
    blocks: u32,
}

const _: () = assert!(size_of::<Params>() == 24);

/// Threads of a block.
pub const THREADS: u32 = 32;
/// Elements between two words.
const APART: usize = 32;

/// The launch of so many blocks.
pub const fn geometry(blocks: u32) -> Geometry {
    Geometry { cooperative: true, ..Geometry::linear(blocks, THREADS) }
}

/// Words of memory for so many blocks: the barrier's own and two for each.
pub const fn words(blocks: u32) -> u64 {
    APART as u64 * (1 + 2 * blocks as u64)
}

/// Where block `block` writes its number of round `round`.
#[inline(always)]
fn place(round: u32, block: u32) -> usize {
    APART * (1 + 2 * block as usize + (round & 1) as usize)
}

#[inline(always)]
fn barrier(p: Params) {
    let block = thread::block_idx_x();
    let neighbour = if block + 1 < p.blocks { block + 1 } else { 0 };
    let mut met = 0;
    for round in 1..=p.rounds {
        if thread::thread_idx_x() == 0 {
            p.words.store(place(round, block), round);
        }
        grid::sync(p.words);
        if thread::thread_idx_x() == 0 && p.words.load(place(round, neighbour)) == round {
            met += 1;
        }
    }
    if thread::thread_idx_x() == 0 {
        p.seen.store(block as usize, met);
    }
}

/// Waits until the word is `round`.
#[inline(always)]
fn until(word: Global<u32>, round: u32, scope: Scope) {
    while word.load_relaxed(0, scope) != round {}
}

#[inline(always)]
fn flag(p: Params) {
    if thread::thread_idx_x() != 0 {
        return;
    }
    let (block, last) = (thread::block_idx_x(), p.blocks - 1);
    let (there, back) = (p.words, p.words.offset(APART));
    let mut met = 0;
    if block == 0 {
        for round in 1..=p.rounds {
            there.store_relaxed(0, round, Scope::Device);
            until(back, round, Scope::Device);
            met += 1;
        }
    } else if block == last {
        for round in 1..=p.rounds {
            until(there, round, Scope::Device);
            back.store_relaxed(0, round, Scope::Device);
            met += 1;
        }
    } else {
        until(back, p.rounds, Scope::Device);
        met = p.rounds;
    }
    p.seen.store(block as usize, met);
}

#[inline(always)]
fn host_flag(p: Params) {
    if thread::thread_idx_x() != 0 {
        return;
    }
    let (there, back) = (p.words, p.words.offset(APART));
    for round in 1..=p.rounds {
        while there.load_acquire(0, Scope::System) < round {}
        back.store_release(0, round, Scope::System);
    }
    p.seen.store(0, p.rounds);
}

entry!(
    /// A barrier of the grid in every round.
    BARRIER = probe_barrier(Params): barrier, THREADS
);
entry!(
    /// A flag between the first and the last block.
    FLAG = probe_flag(Params): flag, THREADS
);
entry!(
    /// A flag between the host and the device.
    HOST_FLAG = probe_host_flag(Params): host_flag, THREADS
);

/// The memory of a launch.
#[derive(Clone, Copy, Debug)]
pub struct Buffers {
    /// [`words`] words, all zero.
    pub words: Buffer,
    /// A word for each block.
    pub seen: Buffer,
}

impl Buffers {
    fn params(&self, needed: u64, blocks: u32, rounds: u32) -> Result<Params, Reject> {
        let limit = 1 << 16;
        if blocks == 0 || u64::from(blocks) > limit {
            return Err(Reject::Extent { name: "blocks", got: blocks.into(), limit });
        }
        self.words.holds("words", 4 * needed, 4)?;
        self.seen.holds("seen", 4 * u64::from(blocks), 4)?;
        let (words, seen) = (self.words.address, self.seen.address);
        Ok(Params { words: Global::from_address(words), seen: Global::from_address(seen), rounds, blocks })
    }

    /// `rounds` barriers of `blocks` blocks; leaves the words as they may be used again by another number of rounds.
    pub fn barrier(&self, blocks: u32, rounds: u32, device: &Device) -> Result<Prepared<Params>, Reject> {
        let params = self.params(words(blocks), blocks, rounds)?;
        Prepared::new(&BARRIER, geometry(blocks), params, device)
    }

    /// `rounds` rounds of a flag between two of `blocks` blocks.
    pub fn flag(&self, blocks: u32, rounds: u32, device: &Device) -> Result<Prepared<Params>, Reject> {
        if blocks < 2 {
            return Err(Reject::Unsupported { what: "a flag of one block" });
        }
        let params = self.params(2 * APART as u64, blocks, rounds)?;
        Prepared::new(&FLAG, geometry(blocks), params, device)
    }

    /// `rounds` rounds of a flag: the host raises word 0 to the round's number, the device word 32.
    pub fn host_flag(&self, rounds: u32, device: &Device) -> Result<Prepared<Params>, Reject> {
        let params = self.params(2 * APART as u64, 1, rounds)?;
        Prepared::new(&HOST_FLAG, geometry(1), params, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::EMULATED;

    #[test]
    fn words_and_blocks_are_checked() {
        let buffer = |bytes| Buffer { address: 1 << 20, bytes };
        let good = Buffers { words: buffer(4 * words(8)), seen: buffer(32) };
        assert!(good.barrier(8, 3, &EMULATED).is_ok());
        let short = good.barrier(9, 3, &EMULATED).err();
        assert!(matches!(short, Some(Reject::Length { operand: "words", .. })), "{short:?}");
        let alone = good.flag(1, 3, &EMULATED).err();
        assert!(matches!(alone, Some(Reject::Unsupported { .. })), "{alone:?}");
        let many = good.flag(u32::MAX, 3, &EMULATED).err();
        assert!(matches!(many, Some(Reject::Extent { name: "blocks", .. })), "{many:?}");
    }
}
