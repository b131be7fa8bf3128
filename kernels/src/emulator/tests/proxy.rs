//! Fences between what is written and what is read asynchronously: taken out, too early, and by whoever may make them.

use super::{Bench, block};
use crate::device::{Global, async_copy, barrier, shared, thread, wgmma};
use crate::emulator::Fault;

/// Who makes a fence, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fence {
    Missing,
    /// Each writer, before it writes.
    TooEarly,
    /// Each writer, behind its writes.
    OfWriters,
    /// Each reader, behind the barrier.
    OfReaders,
    /// A thread that neither wrote what is read nor reads it, between two barriers.
    OfAnother,
    /// The same, with no barrier behind it.
    OfAnotherUnordered,
}

const RIGHT: [Fence; 3] = [Fence::OfWriters, Fence::OfReaders, Fence::OfAnother];
const WRONG: [Fence; 3] = [Fence::Missing, Fence::TooEarly, Fence::OfAnotherUnordered];

impl Fence {
    /// Writes, with the fence and barriers between it and what `reads` is true for; thread 100 is another.
    fn between(self, reads: bool, write: impl FnOnce()) {
        let another = thread::thread_idx_x() == 100;
        let when = |is: Fence, who: bool| {
            if self == is && who {
                barrier::fence_async();
            }
        };
        when(Self::TooEarly, true);
        write();
        when(Self::OfWriters, true);
        thread::sync_threads();
        when(Self::OfReaders, reads);
        when(Self::OfAnother, another);
        if self == Self::OfAnother {
            thread::sync_threads();
        }
        when(Self::OfAnotherUnordered, another);
    }
}

/// Thread 0 stores what the first 64 have written, by themselves or by `cp.async`.
fn bulk_store(x: Global<u32>, fence: Fence, copies: bool) {
    let (own, tile) = (thread::thread_idx_x() as usize, shared::array::<u32>(0, 64));
    fence.between(own == 0, || {
        if own < 64 && copies {
            async_copy::copy(tile, own, x, own);
            async_copy::commit();
            async_copy::wait::<0>();
        } else if own < 64 {
            tile.store(own, own as u32);
        }
    });
    if own == 0 {
        async_copy::bulk_store(x.offset(64), tile, 256);
        async_copy::bulk_commit();
        async_copy::bulk_wait::<0>();
    }
}

/// All threads multiply what the first 64 have written.
fn product(x: Global<u32>, fence: Fence) {
    let (own, memory) = (thread::thread_idx_x() as usize, shared::array::<u16>(0, 3 * 64 * 64));
    fence.between(true, || {
        for at in (own..3 * 64 * 64).step_by(64).filter(|_| own < 64) {
            memory.store(at, 0);
        }
    });
    let mut sums = [2.0; wgmma::SUMS];
    let (a, b) = (wgmma::Operand::at(memory), wgmma::Operand::at(memory.offset(64 * 64)));
    wgmma::wgmma_f16::<false, false>(&mut sums, a, b);
    x.store(own, sums[own % wgmma::SUMS] as u32);
}

fn is_unfenced(fault: &Fault, by: &[u32]) -> bool {
    matches!(fault, Fault::Unfenced { other, .. } if by.contains(&other.thread[0]))
}

#[test]
fn a_bulk_store_without_a_fence_is_caught() {
    let writers: Vec<u32> = (0..64).collect();
    for copies in [false, true] {
        let bench = Bench::new(128, 64);
        for fence in RIGHT {
            bench.run(block(128), move |x| bulk_store(x, fence, copies)).expect("no report");
            assert_eq!(bench.content()[64..], *writers, "{fence:?}");
        }
        for fence in WRONG {
            let fault = bench.fault(block(128), move |x| bulk_store(x, fence, copies));
            assert!(is_unfenced(&fault, &writers), "{fence:?}: {fault}");
            assert!(fault.to_string().contains("fence_async"), "{fault}");
        }
    }
}

#[test]
fn a_product_of_a_warpgroup_without_a_fence_is_caught() {
    let (bench, geometry) = (Bench::new(128, 0), block(128).with_shared(3 * 64 * 128));
    let writers: Vec<u32> = (0..64).collect();
    for fence in RIGHT {
        // A reader's own fence is enough for what it reads itself, another's for all.
        bench.run(geometry, move |x| product(x, fence)).expect("no report");
        assert_eq!(bench.content(), [2; 128], "{fence:?}");
    }
    for fence in WRONG {
        let fault = bench.fault(geometry, move |x| product(x, fence));
        assert!(is_unfenced(&fault, &writers), "{fence:?}: {fault}");
    }
}

#[test]
fn what_came_asynchronously_needs_no_fence() {
    let bench = Bench::new(128, 64);
    bench
        .run(block(32), |x| {
            let (tile, arrivals) = (shared::array::<u32>(128, 64), shared::array::<barrier::Arrivals>(0, 1));
            if thread::thread_idx_x() == 0 {
                arrivals.initialise(1);
                barrier::publish_initialised();
                arrivals.arrive_expecting(256);
                async_copy::bulk_load(tile, x, 256, arrivals);
                arrivals.wait(0);
                async_copy::bulk_store(x.offset(64), tile, 256);
                async_copy::bulk_commit();
                async_copy::bulk_wait::<0>();
            }
        })
        .expect("no report");
    assert_eq!(bench.content()[64..], bench.content()[..64]);
}
