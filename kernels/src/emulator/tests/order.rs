//! Races: inside a block and between blocks, and the barriers, fences and atomics that order accesses.

use super::{Bench, block};
use crate::device::atomic::{Operation, Order};
use crate::device::{F16, Float16, Global, Scope, grid, shared, thread, warp};
use crate::emulator::{Access, Fault, Options};
use crate::launch::Geometry;

fn is_race(fault: &Fault) -> bool {
    matches!(fault, Fault::Race { .. })
}

#[test]
fn a_missing_barrier_is_caught() {
    let bench = Bench::new(64, 64);
    let reverse = |barrier: bool| {
        move |x: Global<u32>| {
            let (i, tile) = (thread::thread_idx_x() as usize, shared::array::<u32>(0, 64));
            tile.store(i, x.load(i));
            if barrier {
                thread::sync_threads();
            }
            x.store(i, tile.load(63 - i));
        }
    };
    let fault = bench.fault(block(64), reverse(false));
    assert!(is_race(&fault) || matches!(fault, Fault::Unwritten { .. }), "{fault}");
    bench.run(block(64), reverse(true)).expect("no report");
    assert!(bench.content().iter().rev().copied().eq(0..64));
}

#[test]
fn a_missing_second_barrier_is_caught() {
    let bench = Bench::new(64, 64);
    let shift = |barrier: bool| {
        move |x: Global<u32>| {
            let (i, tile) = (thread::thread_idx_x() as usize, shared::array::<u32>(0, 64));
            for _ in 0..2 {
                tile.store(i, x.load(i));
                thread::sync_threads();
                x.store(i, tile.load((i + 1) % 64));
                if barrier {
                    thread::sync_threads();
                }
            }
        }
    };
    match bench.fault(block(64), shift(false)) {
        Fault::Race { access: Access::Write, earlier: Access::Read, other, .. } => {
            assert!(other.location.file().ends_with("order.rs"));
        }
        other => panic!("{other}"),
    }
    let bench = Bench::new(64, 64);
    bench.run(block(64), shift(true)).expect("no report");
    assert_eq!(bench.content()[..3], [2, 3, 4]);
}

#[test]
fn threads_of_a_block_that_write_one_word_race() {
    let bench = Bench::new(2, 2);
    let report = bench.run(block(32), |x| x.store(0, 1)).expect_err("a report");
    assert_eq!(report.thread.expect("a thread").thread, [1, 0, 0]);
    match *report.fault {
        Fault::Race { access: Access::Write, earlier: Access::Write, other, size: 4, .. } => {
            assert_eq!(other.thread, [0, 0, 0]);
        }
        other => panic!("{other}"),
    }
    bench
        .run(block(32), |x| {
            x.fetch_add(1, 1, Scope::Device);
        })
        .expect("no report");
    assert_eq!(bench.content()[1], 33);
    let without = Options::WITHOUT_RACES;
    bench.run_with(without, block(32), |x| x.store(0, 1)).expect("not looked for");
}

#[test]
fn halves_of_a_word_are_apart() {
    let bench = Bench::new(16, 16);
    let store = |factor: usize| {
        move |x: Global<u32>| {
            let i = thread::thread_idx_x() as usize;
            x.cast::<F16>().store(i * factor / 2, F16::from_f32(i as f32));
        }
    };
    bench.run(block(32), store(2)).expect("no report");
    assert!(is_race(&bench.fault(block(32), store(1))));
}

#[test]
fn blocks_race_however_they_are_run() {
    let bench = Bench::new(64, 64);
    let kernel = |overlap: usize| {
        move |x: Global<u32>| {
            let i = thread::index_1d() as usize;
            if i == 32 {
                x.load(i - overlap);
            }
            x.store(i, 1);
        }
    };
    let report = bench.run(Geometry::linear(2, 32), kernel(1)).expect_err("a report");
    match *report.fault {
        Fault::Race { access: Access::Read, earlier: Access::Write, other, .. } => {
            assert_eq!((other.block, other.thread), ([0, 0, 0], [31, 0, 0]));
        }
        other => panic!("{other}"),
    }
    bench.run(Geometry::linear(2, 32), kernel(0)).expect("no report");
}

/// The last block to finish adds up what all have written.
fn last_block_sums(x: Global<u32>, order: Order, fences: bool) {
    let (i, blocks) = (thread::index_1d() as usize, grid::size());
    x.store(2 + i, 1);
    thread::sync_threads();
    let last = shared::array::<u32>(0, 1);
    if thread::thread_idx_x() == 0 {
        if fences {
            grid::fence();
        }
        let before = x.fetch(Operation::Add, 0, 1, order, Scope::Device);
        if fences {
            grid::fence();
        }
        last.store(0, u32::from(before + 1 == blocks));
    }
    thread::sync_threads();
    if last.load(0) == 1 && thread::thread_idx_x() == 0 {
        let sum = (0..(blocks * 32) as usize).map(|k| x.load(2 + k)).sum();
        x.store(1, sum);
    }
}

#[test]
fn a_release_that_is_acquired_orders_blocks() {
    let geometry = Geometry::linear(5, 32).with_shared(64);
    let run = |order: Order, fences: bool| {
        let bench = Bench::new(2 + 160, 1);
        bench.run(geometry, move |x| last_block_sums(x, order, fences)).map(|()| bench.content()[1])
    };
    assert_eq!(run(Order::AcquireRelease, false), Ok(160));
    assert_eq!(run(Order::Relaxed, true), Ok(160));
    assert!(is_race(&run(Order::Relaxed, false).expect_err("a report").fault));
    assert!(is_race(&run(Order::Release, false).expect_err("a report").fault));
}

#[test]
fn flags_order_what_is_handed_over() {
    let geometry = Geometry { cooperative: true, ..Geometry::linear(2, 32) };
    let run = |release: bool, acquire: bool| {
        let bench = Bench::new(3, 1);
        let result = bench.run(geometry, move |x| {
            if thread::thread_idx_x() != 0 {
                return;
            }
            if thread::block_idx_x() == 1 {
                x.store(1, 42);
                if release {
                    x.store_release(0, 1, Scope::Device);
                } else {
                    x.store_relaxed(0, 1, Scope::Device);
                }
            } else {
                while (if acquire {
                    x.load_acquire(0, Scope::Device)
                } else {
                    x.load_relaxed(0, Scope::Device)
                }) == 0
                {}
                x.store(2, x.load(1));
            }
        });
        result.map(|()| bench.content()[2])
    };
    assert_eq!(run(true, true), Ok(42));
    assert!(is_race(&run(false, true).expect_err("a report").fault));
    assert!(is_race(&run(true, false).expect_err("a report").fault));
}

#[test]
fn warps_order_what_they_synchronise() {
    let bench = Bench::new(32, 32);
    let rotate = |synchronises: bool| {
        move |x: Global<u32>| {
            let (i, tile) = (thread::thread_idx_x() as usize, shared::array::<u32>(0, 32));
            tile.store(i, x.load(i));
            // A shuffle makes lanes meet, but orders no memory.
            warp::shuffle_xor(warp::ALL, 1u32, 1);
            if synchronises {
                warp::sync(warp::ALL);
            }
            x.store(i, tile.load(i ^ 1));
        }
    };
    assert!(is_race(&bench.fault(block(32), rotate(false))));
    bench.run(block(32), rotate(true)).expect("no report");
    assert_eq!(bench.content()[..4], [1, 0, 3, 2]);
    // Another warp is not ordered by it.
    let bench = Bench::new(64, 64);
    let fault = bench.fault(block(64), |x| {
        let (i, tile) = (thread::thread_idx_x() as usize, shared::array::<u32>(0, 64));
        tile.store(i, 1);
        warp::sync(warp::ALL);
        x.store(i, tile.load(i ^ 32));
    });
    assert!(is_race(&fault) || matches!(fault, Fault::Unwritten { .. }), "{fault}");
}

#[test]
fn a_grid_barrier_orders_blocks_and_needs_a_cooperative_launch() {
    let cooperative = Geometry { cooperative: true, ..Geometry::linear(4, 64) };
    let bench = Bench::new(257, 1);
    let exchange = |barrier: bool| {
        move |x: Global<u32>| {
            let i = thread::index_1d() as usize;
            x.store(1 + i, i as u32);
            for _ in 0..3 {
                if barrier {
                    grid::sync(x);
                }
                let value = x.load(1 + (i + 64) % 256);
                if barrier {
                    grid::sync(x);
                }
                x.store(1 + i, value + 1);
            }
        }
    };
    bench.run(cooperative, exchange(true)).expect("no report");
    assert_eq!(bench.content()[1], 192 + 3);
    let fault = bench.fault(Geometry::linear(4, 64), exchange(true));
    assert!(matches!(fault, Fault::Misuse { .. }), "{fault}");
    let bench = Bench::new(257, 257);
    assert!(is_race(&bench.fault(cooperative, exchange(false))));
}

#[test]
fn what_the_read_only_path_reads_is_not_written() {
    let bench = Bench::new(64, 64);
    let fault = bench.fault(block(32), |x| {
        let i = thread::thread_idx_x() as usize;
        let value = x.load_read_only(i);
        thread::sync_threads();
        x.store(31 - i, value);
    });
    assert!(is_race(&fault), "{fault}");
    bench
        .run(block(32), |x| {
            let i = thread::thread_idx_x() as usize;
            x.store(32 + i, x.load_read_only(i));
        })
        .expect("no report");
}
