//! Many threads: launches that must stay cheap and within bounded memory.

use super::Bench;
use crate::device::{Global, grid, shared, thread, warp};
use crate::emulator::Options;
use crate::launch::Geometry;

#[test]
fn thousands_of_threads_live_together() {
    let geometry = Geometry { cooperative: true, ..Geometry::linear(32, 256) };
    let bench = Bench::new(1 + 32 * 256, 1);
    bench
        .run(geometry, |x| {
            let (i, count) = (thread::index_1d() as usize, grid::size() as usize * 256);
            x.store(1 + i, i as u32);
            grid::sync(x);
            let neighbour = x.load(1 + (i + 256) % count);
            grid::sync(x);
            x.store(1 + i, neighbour);
        })
        .expect("no report");
    assert_eq!(bench.content()[1], 256);
}

#[test]
fn blocks_run_side_by_side_where_races_are_not_looked_for() {
    let bench = Bench::new(64 * 128, 0);
    let square = |x: Global<u32>| {
        let (i, tile) = (thread::index_1d(), shared::array::<u32>(0, 128));
        tile.store(thread::thread_idx_x() as usize, i);
        thread::sync_threads();
        let other = tile.load(127 - thread::thread_idx_x() as usize);
        x.store(i as usize, other + warp::shuffle_xor(warp::ALL, 0u32, 1));
    };
    let geometry = Geometry::linear(64, 128).with_shared(512);
    bench.run_with(Options::WITHOUT_RACES, geometry, square).expect("no report");
    assert_eq!(bench.content()[..2], [127, 126]);
}
