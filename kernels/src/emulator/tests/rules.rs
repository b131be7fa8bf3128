//! Bounds, alignment, unwritten and freed memory, barriers and deadlock.

use super::{Bench, block};
use crate::device::{F16, Float16, Global, Scope, Vector, shared, thread, warp};
use crate::emulator::{Access, Fault, Instead, Meeting, Place};
use crate::launch::Geometry;

#[test]
fn one_index_too_far_is_caught_and_named() {
    let bench = Bench::new(40, 0);
    let kernel = |limit: usize| {
        move |y: Global<u32>| {
            let i = thread::index_1d() as usize;
            if i <= limit {
                y.store(i, 1);
            }
        }
    };
    let report = bench.run(Geometry::linear(2, 32), kernel(40)).expect_err("a report");
    let thread = report.thread.expect("a thread");
    assert_eq!((thread.block, thread.thread), ([1, 0, 0], [8, 0, 0]));
    assert!(thread.location.file().ends_with("rules.rs"));
    match *report.fault {
        Fault::OutOfBounds {
            access: Access::Write,
            size: 4,
            place: Place::Global { allocation, offset, bytes, .. },
        } => {
            assert_eq!((allocation.as_str(), offset, bytes), ("buffer", 160, 160));
        }
        other => panic!("{other}"),
    }
    bench.run(Geometry::linear(2, 32), kernel(39)).expect("no report");
    assert_eq!(bench.content(), [1; 40]);
}

#[test]
fn an_index_before_the_start_is_caught() {
    let bench = Bench::new(4, 4);
    let fault = bench.fault(block(1), |x| {
        x.load(usize::MAX);
    });
    assert!(matches!(fault, Fault::OutOfBounds { place: Place::Global { offset: -4, .. }, .. }), "{fault}");
    bench.run(block(1), |x| x.store(3, x.load(0))).expect("no report");
    assert_eq!(bench.content(), [0, 1, 2, 0]);
}

#[test]
fn shared_arrays_have_bounds_of_their_own() {
    let bench = Bench::new(1, 0);
    let fault = bench.fault(block(32), |_| {
        shared::array::<u32>(0, 32).store(thread::thread_idx_x() as usize + 1, 1);
    });
    assert!(
        matches!(fault, Fault::OutOfBounds { place: Place::Shared { offset: 128, array: (0, 128), .. }, .. }),
        "{fault}"
    );
    let fault = bench.fault(block(1), |_| shared::array::<u32>(4096, 1).store(0, 1));
    assert!(matches!(fault, Fault::OutOfBounds { .. }), "{fault}");
    let inside = |_: Global<u32>| shared::array::<u32>(0, 32).store(thread::thread_idx_x() as usize, 1);
    bench.run(block(32), inside).expect("no report");
    bench.run(block(1), |_| shared::array::<u32>(4092, 1).store(0, 1)).expect("no report");
}

#[test]
fn misaligned_vectors_are_caught() {
    let bench = Bench::new(16, 16);
    let load = |first: usize| {
        move |x: Global<u32>| {
            let value = x.offset(first).cast::<Vector<u32, 4>>().load(0);
            x.store(0, value.0[3]);
        }
    };
    let fault = bench.fault(block(1), load(2));
    assert!(matches!(fault, Fault::Misaligned { access: Access::Read, size: 16, .. }), "{fault}");
    bench.run(block(1), load(4)).expect("no report");
    assert_eq!(bench.content()[0], 7);
    let fault = bench.fault(block(1), |_| {
        shared::array::<Vector<f32, 4>>(8, 1).store(0, Vector([0.0; 4]));
    });
    assert!(matches!(fault, Fault::Misaligned { size: 16, place: Place::Shared { .. }, .. }), "{fault}");
    let aligned = |_: Global<u32>| shared::array::<Vector<f32, 4>>(16, 1).store(0, Vector([0.0; 4]));
    bench.run(block(1), aligned).expect("no report");
}

#[test]
fn unwritten_memory_is_not_read() {
    let bench = Bench::new(8, 4);
    let fault = bench.fault(block(1), |x| x.store(0, x.load(4)));
    assert!(
        matches!(fault, Fault::Unwritten { size: 4, place: Place::Global { offset: 16, .. } }),
        "{fault}"
    );
    let half = |i: usize| move |x: Global<u32>| x.cast::<F16>().store(i, F16::from_f32(1.0));
    bench.run(block(1), half(10)).expect("no report");
    let fault = bench.fault(block(1), |x| x.store(0, x.load(5)));
    assert!(matches!(fault, Fault::Unwritten { .. }), "{fault}");
    bench.run(block(1), half(11)).expect("no report");
    bench.run(block(1), |x| x.store(0, x.load(5))).expect("no report");
    assert_eq!(bench.content_of(0), 0x3c00_3c00);
    let fault = bench.fault(block(1), |x| x.store(0, shared::array::<u32>(0, 8).load(2)));
    assert!(matches!(fault, Fault::Unwritten { place: Place::Shared { offset: 8, .. }, .. }), "{fault}");
    let written = |x: Global<u32>| {
        let tile = shared::array::<u32>(0, 8);
        tile.store(2, 5);
        x.store(6, tile.load(2));
        x.fetch_add(6, 1, Scope::Device);
    };
    let fault = bench.fault(block(1), |x| {
        x.fetch_add(6, 1, Scope::Device);
    });
    assert!(matches!(fault, Fault::Unwritten { .. }), "{fault}");
    bench.run(block(1), written).expect("no report");
    assert_eq!(bench.content_of(6), 6);
}

#[test]
fn freed_and_foreign_memory_is_not_touched() {
    let bench = Bench::new(4, 4);
    let other = bench.memory.allocate("other", 64).expect("room");
    let store = move |_: Global<u32>| Global::<u32>::from_address(other + 8).store(0, 1);
    bench.run(block(1), store).expect("no report");
    bench.memory.free(other).expect("allocated");
    let fault = bench.fault(block(1), store);
    assert!(matches!(fault, Fault::UseAfterFree { access: Access::Write, .. }), "{fault}");
    let fault = bench.fault(block(1), |_| Global::<u32>::from_address(64).store(0, 1));
    assert!(matches!(fault, Fault::OutOfBounds { place: Place::Nowhere { address: 64 }, .. }), "{fault}");
}

#[test]
fn barriers_that_some_threads_do_not_reach_are_caught() {
    let bench = Bench::new(1, 1);
    let leaves = |limit: u32| {
        move |_: Global<u32>| {
            if thread::thread_idx_x() >= limit {
                return;
            }
            thread::sync_threads();
        }
    };
    let report = bench.run(block(64), leaves(63)).expect_err("a report");
    match *report.fault {
        Fault::Divergence { kind: Meeting::BlockBarrier, other, instead: Instead::Left } => {
            assert_eq!(other.thread, [63, 0, 0]);
        }
        other => panic!("{other}"),
    }
    bench.run(block(64), leaves(64)).expect("no report");
    // The thread that leaves comes first.
    let fault = bench.fault(block(64), |_| {
        if thread::thread_idx_x() > 0 {
            thread::sync_threads();
        }
    });
    assert!(matches!(fault, Fault::Divergence { instead: Instead::Left, .. }), "{fault}");
    let fault = bench.fault(block(64), |_| {
        if thread::thread_idx_x() < 32 {
            thread::sync_threads();
        } else {
            warp::sync(warp::ALL);
            thread::sync_threads();
        }
    });
    let elsewhere =
        Fault::Divergence { kind: Meeting::BlockBarrier, other: party(&fault), instead: Instead::Elsewhere };
    assert_eq!(fault, elsewhere);
    let fault = bench.fault(block(64), |_| {
        if thread::thread_idx_x() == 40 {
            warp::any(warp::ALL, true);
        }
        thread::sync_threads();
    });
    assert!(
        matches!(
            fault,
            Fault::Divergence { instead: Instead::Waits(Meeting::Vote | Meeting::BlockBarrier), .. }
        ),
        "{fault}"
    );
}

/// The other thread of a divergence.
fn party(fault: &Fault) -> crate::emulator::Party {
    match fault {
        Fault::Divergence { other, .. } => *other,
        other => panic!("{other}"),
    }
}

#[test]
fn lanes_that_wait_for_each_other_in_a_ring_are_caught() {
    let bench = Bench::new(1, 1);
    let meet = |of_others: u32| {
        move |_: Global<u32>| {
            let id = if thread::thread_idx_x() < 32 { 1 } else { of_others };
            crate::device::barrier::sync(id, 64);
        }
    };
    let fault = bench.fault(block(64), meet(2));
    assert_eq!(fault, Fault::Deadlock { waiting: 64, kind: Meeting::NamedBarrier(1) });
    bench.run(block(64), meet(1)).expect("no report");
    let poll = |x: Global<u32>| while x.load_acquire(0, Scope::Device) == 0 {};
    let fault = bench.fault(block(32), poll);
    assert!(matches!(fault, Fault::Deadlock { waiting: 32, kind: Meeting::Polling }), "{fault}");
    bench.run(block(1), |x| x.store(0, 1)).expect("no report");
    bench.run(block(32), poll).expect("no report");
}

#[test]
fn a_kernel_that_panics_is_reported() {
    let bench = Bench::new(4, 4);
    let fault = bench.fault(block(1), |x| {
        let values = [1u32, 2];
        x.store(0, values[x.load(3) as usize]);
    });
    match fault {
        Fault::Panic { message } => assert!(message.contains("out of bounds"), "{message}"),
        other => panic!("{other}"),
    }
}

#[test]
#[should_panic(expected = "for kernels that the emulator runs")]
fn the_device_library_needs_a_launch() {
    thread::thread_idx_x();
}
