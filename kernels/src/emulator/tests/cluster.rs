//! Clusters: shared memory of other blocks, the cluster's barrier, asynchronous stores.

use super::Bench;
use crate::device::barrier::{Arrivals, publish_initialised};
use crate::device::{Global, cluster, shared, thread};
use crate::emulator::Fault;
use crate::launch::Geometry;

const FOUR: Geometry = Geometry { cluster: 4, ..Geometry::linear(8, 32).with_shared(1024) };

fn rotate(x: Global<u32>, first: bool, second: bool) {
    let (i, tile) = (thread::thread_idx_x() as usize, shared::array::<u32>(0, 32));
    tile.store(i, thread::index_1d());
    if first {
        cluster::sync();
    }
    let next = tile.in_block((cluster::rank() + 1) % cluster::size());
    x.store(thread::index_1d() as usize, next.load(31 - i));
    if second {
        cluster::sync();
    }
}

#[test]
fn blocks_of_a_cluster_read_each_others_memory() {
    let bench = Bench::new(256, 0);
    bench.run(FOUR, |x| rotate(x, true, true)).expect("no report");
    let y = bench.content();
    for i in 0..256 {
        let (block, lane) = (i / 32, i % 32);
        let next = block / 4 * 4 + (block + 1) % 4;
        assert_eq!(y[i], (32 * next + 31 - lane) as u32);
    }
    let fault = bench.fault(FOUR, |x| rotate(x, false, true));
    assert!(matches!(fault, Fault::Misuse { .. }), "{fault}");
    let fault = bench.fault(FOUR, |x| rotate(x, true, false));
    assert!(matches!(fault, Fault::Misuse { .. } | Fault::Race { .. }), "{fault}");
    let fault = bench.fault(FOUR, |_| {
        shared::array::<u32>(0, 1).in_block(4).load(0);
    });
    assert!(matches!(fault, Fault::Misuse { .. }), "{fault}");
}

#[test]
fn blocks_of_a_cluster_race() {
    let bench = Bench::new(256, 0);
    let fault = bench.fault(FOUR, |_| {
        cluster::sync();
        shared::array::<u32>(0, 1).in_block(0).store(0, 1);
        cluster::sync();
    });
    assert!(matches!(fault, Fault::Race { .. }), "{fault}");
    bench
        .run(FOUR, |x| {
            let counter = shared::array::<u32>(0, 1);
            if thread::thread_idx_x() == 0 {
                counter.store(0, 0);
            }
            cluster::sync();
            counter.in_block(0).fetch(crate::device::atomic::Operation::Add, 0, 1);
            cluster::sync();
            x.store(thread::index_1d() as usize, counter.in_block(0).load(0));
            cluster::sync();
        })
        .expect("no report");
    assert_eq!(bench.content(), [128; 256]);
}

/// Every block sends a word of each thread to the next one, many times, without a barrier in between.
fn send(x: Global<u32>, rounds: u32, waits: bool) {
    let (i, lane) = (thread::index_1d() as usize, thread::thread_idx_x() as usize);
    let (inbox, arrivals) = (shared::array::<u32>(64, 64), shared::array::<Arrivals>(0, 2));
    if lane == 0 {
        arrivals.initialise(1);
        arrivals.offset(1).initialise(1);
        publish_initialised();
    }
    cluster::sync();
    let next = (cluster::rank() + 1) % cluster::size();
    let mut value = i as u32;
    for round in 0..rounds {
        let half = round as usize % 2;
        let here = arrivals.offset(half);
        if lane == 0 {
            here.arrive_expecting(128);
        }
        inbox.offset(32 * half).in_block(next).store_async(lane, value, here.in_block(next));
        if waits {
            here.wait(round / 2 % 2);
        }
        value = inbox.offset(32 * half).load(lane) + 1;
        // Nobody sends into the half that others still read.
        cluster::sync();
    }
    x.store(i, value);
}

#[test]
fn asynchronous_stores_arrive_with_their_bytes() {
    let bench = Bench::new(256, 0);
    bench.run(FOUR, |x| send(x, 5, true)).expect("no report");
    let y = bench.content();
    for i in 0..256 {
        let (block, lane) = (i / 32, i % 32);
        // Five rounds around a ring of four are one step.
        let from = block / 4 * 4 + (block + 3) % 4;
        assert_eq!(y[i], (32 * from + lane) as u32 + 5);
    }
    let fault = bench.fault(FOUR, |x| send(x, 1, false));
    assert!(matches!(fault, Fault::InFlight { .. } | Fault::Unwritten { .. }), "{fault}");
}
