//! Asynchronous copies: bytes are there behind the wait and not before.

use super::{Bench, block};
use crate::device::barrier::{Arrivals, publish_initialised};
use crate::device::{Global, Vector, async_copy, shared, thread};
use crate::emulator::{Access, Fault, Meeting};

#[derive(Clone, Copy, PartialEq)]
enum Waits {
    Never,
    TooFew,
    WithoutBarrier,
    Rightly,
}

fn double_buffered(x: Global<u32>, waits: Waits) {
    let (i, tile) = (thread::thread_idx_x() as usize, shared::array::<u32>(0, 128));
    async_copy::copy(tile, i, x, i);
    async_copy::commit();
    async_copy::copy_or_zero(tile, 64 + i, x, 64 + i, if i < 60 { 4 } else { 0 });
    async_copy::commit();
    match waits {
        Waits::Never => {}
        Waits::TooFew => async_copy::wait::<2>(),
        _ => async_copy::wait::<1>(),
    }
    if waits != Waits::WithoutBarrier {
        thread::sync_threads();
    }
    let first = tile.load(63 - i);
    async_copy::wait::<0>();
    thread::sync_threads();
    x.store(128 + i, 1000 * first + tile.load(64 + (63 - i)));
}

#[test]
fn copies_that_are_read_too_early_are_caught() {
    // The last four of the second tile have nothing to be copied from.
    let bench = Bench::new(192, 124);
    let run = |waits: Waits| bench.run(block(64), move |x| double_buffered(x, waits));
    run(Waits::Rightly).expect("no report");
    assert_eq!(bench.content_of(128), 63_000);
    assert_eq!(bench.content_of(128 + 4), 59_000 + 64 + 59);
    for waits in [Waits::Never, Waits::TooFew] {
        let fault = *run(waits).expect_err("a report").fault;
        assert!(matches!(fault, Fault::InFlight { access: Access::Read, .. }), "{fault}");
    }
    // The first thread looks for bytes that another has not even asked for.
    let fault = *run(Waits::WithoutBarrier).expect_err("a report").fault;
    assert!(matches!(fault, Fault::Unwritten { .. }), "{fault}");
}

#[test]
fn a_source_that_changes_under_a_copy_is_caught() {
    let bench = Bench::new(8, 8);
    let fault = bench.fault(block(1), |x| {
        async_copy::copy(shared::array::<u32>(0, 4), 0, x, 0);
        async_copy::commit();
        x.store(0, 9);
        async_copy::wait::<0>();
    });
    assert!(matches!(fault, Fault::SourceChanged { .. }), "{fault}");
}

fn bulk(x: Global<u32>, waits: bool, publishes: bool, announced: u32) {
    let (i, tile) = (thread::thread_idx_x() as usize, shared::array::<u32>(128, 64));
    let arrivals = shared::array::<Arrivals>(0, 1);
    if i == 0 {
        arrivals.initialise(1);
        publish_initialised();
    }
    if publishes {
        thread::sync_threads();
    }
    for round in 0..2 {
        if i == 0 {
            arrivals.arrive_expecting(announced);
            async_copy::bulk_load(tile, x.offset(64 * round), 256, arrivals);
        }
        if waits {
            arrivals.wait(round as u32 & 1);
        }
        let value = tile.load(63 - i);
        thread::sync_threads();
        x.store(128 + 64 * round + i, value);
    }
}

#[test]
fn bulk_copies_arrive_at_their_barrier() {
    let bench = Bench::new(256, 128);
    bench.run(block(64), |x| bulk(x, true, true, 256)).expect("no report");
    assert_eq!(bench.content()[128..131], [63, 62, 61]);
    assert_eq!(bench.content()[192..195], [127, 126, 125]);
    let fault = bench.fault(block(1), |x| bulk(x, false, true, 256));
    assert!(matches!(fault, Fault::InFlight { access: Access::Read, .. }), "{fault}");
    let fault = bench.fault(block(64), |x| bulk(x, true, true, 512));
    assert!(matches!(fault, Fault::Deadlock { kind: Meeting::Arrivals, .. }), "{fault}");
    let fault = bench.fault(block(64), |x| bulk(x, true, false, 256));
    assert!(matches!(fault, Fault::Race { .. } | Fault::Misuse { .. }), "{fault}");
}

#[test]
fn bulk_stores_are_waited_for_and_their_source_is_kept() {
    let bench = Bench::new(64, 0);
    let store = |overwrites: bool, waits: bool| {
        move |x: Global<u32>| {
            let (i, tile) = (thread::thread_idx_x() as usize, shared::array::<u32>(0, 64));
            tile.store(i, 5);
            crate::device::barrier::fence_async();
            thread::sync_threads();
            if i == 0 {
                async_copy::bulk_store(x, tile, 256);
                async_copy::bulk_commit();
                if overwrites {
                    tile.store(0, 6);
                }
                if waits {
                    async_copy::bulk_wait::<0>();
                }
            }
        }
    };
    bench.run(block(64), store(false, true)).expect("no report");
    assert_eq!(bench.content(), [5; 64]);
    assert!(matches!(bench.fault(block(64), store(true, true)), Fault::SourceChanged { .. }));
    assert!(matches!(bench.fault(block(64), store(false, false)), Fault::Misuse { .. }));
}

#[test]
fn copies_of_16_bytes_are_aligned() {
    let bench = Bench::new(8, 8);
    let copy = |first: usize| {
        move |x: Global<u32>| {
            let tile = shared::array::<Vector<u32, 4>>(0, 1);
            async_copy::copy(tile, 0, x.offset(first).cast(), 0);
            async_copy::commit();
            async_copy::wait::<0>();
            x.store(0, tile.load(0).0[1]);
        }
    };
    assert!(matches!(bench.fault(block(1), copy(1)), Fault::Misaligned { size: 16, .. }));
    bench.run(block(1), copy(4)).expect("no report");
    assert_eq!(bench.content_of(0), 5);
}
