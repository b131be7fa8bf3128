//! # Meeting inside a cluster
//! - *Barrier*: in each round a block writes the round's number to its shared memory, the cluster waits for all
//!   ([`cluster::sync`]), and the block reads its neighbour's. Even and odd rounds have places of their own. A block
//!   counts the rounds in which its neighbour had written.
//! - *Ring*: a number goes round the blocks by `st.async`, one more at each of them; who waits for it waits for its bytes
//!   at an mbarrier. A block keeps the last that it got: of block `b`, `(rounds − 1) · blocks + b`, of block 0
//!   `rounds · blocks`.
//!
//! Grid: one cluster of 2 to 16 blocks; block 32; shared memory 32 bytes. Compute capability 9.0.

use crate::device::barrier::{Arrivals, publish_initialised};
use crate::device::{Global, Shared, cluster, shared, thread};
use crate::entry;
use crate::launch::{Buffer, Device, Geometry, Prepared, Reject};

/// What both kernels take.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    /// What each block has seen.
    seen: Global<u32>,
    rounds: u32,
    blocks: u32,
}

const _: () = assert!(size_of::<Params>() == 16);

/// Threads of a block.
pub const THREADS: u32 = 32;
const SHARED: u32 = 32;

/// The launch of one cluster.
pub const fn geometry(blocks: u32) -> Geometry {
    Geometry { cluster: blocks, ..Geometry::linear(blocks, THREADS).with_shared(SHARED) }
}

/// The next block of the ring.
#[inline(always)]
fn next(rank: u32, blocks: u32) -> u32 {
    if rank + 1 < blocks { rank + 1 } else { 0 }
}

#[inline(always)]
fn barrier(p: Params) {
    let rank = cluster::rank();
    let own: Shared<u32> = shared::array(0, 2);
    let neighbour = own.in_block(next(rank, p.blocks));
    let first = thread::thread_idx_x() == 0;
    let mut met = 0;
    for round in 1..=p.rounds {
        if first {
            own.store((round & 1) as usize, round);
        }
        cluster::sync();
        if first && neighbour.load((round & 1) as usize) == round {
            met += 1;
        }
    }
    if first {
        p.seen.store(rank as usize, met);
    }
    // A neighbour may still read.
    cluster::sync();
}

#[inline(always)]
fn ring(p: Params) {
    let rank = cluster::rank();
    let arrivals: Shared<Arrivals> = shared::array(0, 1);
    let token: Shared<u32> = shared::array(16, 1);
    let first = thread::thread_idx_x() == 0;
    if first {
        arrivals.initialise(1);
        publish_initialised();
    }
    cluster::sync();
    if first {
        let to = next(rank, p.blocks);
        let (target, there) = (token.in_block(to), arrivals.in_block(to));
        let mut last = 0;
        for round in 0..p.rounds {
            if rank == 0 {
                target.store_async(0, last + 1, there);
            }
            arrivals.arrive_expecting(4);
            arrivals.wait(round & 1);
            last = token.load(0);
            if rank != 0 {
                target.store_async(0, last + 1, there);
            }
        }
        p.seen.store(rank as usize, last);
    }
    // A store may still be under way to a block.
    cluster::sync();
}

entry!(
    /// A barrier of the cluster in every round.
    BARRIER = probe_cluster_barrier(Params): barrier, THREADS, with_shared(SHARED), with_capability(90)
);
entry!(
    /// A number that goes round by `st.async`.
    RING = probe_cluster_ring(Params): ring, THREADS, with_shared(SHARED), with_capability(90)
);

fn params(seen: Buffer, blocks: u32, rounds: u32) -> Result<Params, Reject> {
    if !(2..=16).contains(&blocks) {
        return Err(Reject::Cluster { got: blocks, blocks });
    }
    seen.holds("seen", 4 * u64::from(blocks), 4)?;
    Ok(Params { seen: Global::from_address(seen.address), rounds, blocks })
}

/// `rounds` barriers of a cluster of `blocks` blocks; `seen` has a word for each.
pub fn prepare_barrier(
    seen: Buffer,
    blocks: u32,
    rounds: u32,
    device: &Device,
) -> Result<Prepared<Params>, Reject> {
    Prepared::new(&BARRIER, geometry(blocks), params(seen, blocks, rounds)?, device)
}

/// `rounds` times round a cluster of `blocks` blocks; `seen` has a word for each.
pub fn prepare_ring(
    seen: Buffer,
    blocks: u32,
    rounds: u32,
    device: &Device,
) -> Result<Prepared<Params>, Reject> {
    Prepared::new(&RING, geometry(blocks), params(seen, blocks, rounds)?, device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::EMULATED;

    #[test]
    fn clusters_that_there_are_not_are_refused() {
        let seen = Buffer { address: 1 << 20, bytes: 64 };
        assert!(prepare_ring(seen, 16, 1, &EMULATED).is_ok());
        for blocks in [0, 1, 3, 17, 32] {
            let refused = prepare_barrier(seen, blocks, 1, &EMULATED).err();
            assert!(matches!(refused, Some(Reject::Cluster { .. })), "{blocks}: {refused:?}");
        }
        let ampere = Device { capability: 80, ..EMULATED };
        let refused = prepare_ring(seen, 8, 1, &ampere).err();
        assert_eq!(refused, Some(Reject::Capability { needed: 90, got: 80 }));
    }
}
