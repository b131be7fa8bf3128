//! What launching and meeting cost. A time per round is the difference between launches of many and of few rounds.

use super::bench::{Bench, Fault, median};
use recurve_kernels::launch::{Buffer, Device, Launch, Prepared, Reject};
use recurve_kernels::probe::{cluster as clusters, empty, meet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the host waits for the device's flag.
const PATIENCE: Duration = Duration::from_secs(10);

/// Empty kernels: in the stream, in a graph, and waited for.
pub(super) fn launches(bench: &mut Bench) -> Result<(), Fault> {
    let limits = bench.gpu.limits();
    let launch: Arc<dyn Launch> = Arc::new(empty(1, &limits)?);
    let count = bench.size(1000_u32, 5);
    let mut host = Vec::new();
    for _ in 0..bench.size(9, 1) {
        let start = Instant::now();
        for _ in 0..count {
            bench.gpu.launch(&launch)?;
        }
        host.push(start.elapsed().as_secs_f64() / f64::from(count));
        bench.gpu.finish()?;
    }
    bench.note("launch, the host's time", median(&mut host) * 1e6, "us");
    let stream = bench.seconds(&mut |gpu| (0..count).try_for_each(|_| gpu.launch(&launch)))?;
    bench.note("kernel in a stream", stream / f64::from(count) * 1e6, "us");
    let nodes: Vec<Arc<dyn Launch>> = (0..count).map(|_| launch.clone()).collect();
    let graph = bench.gpu.capture(&nodes)?;
    let seconds = bench.seconds(&mut |gpu| gpu.replay(&graph))?;
    bench.note("kernel in a graph", seconds / f64::from(count) * 1e6, "us");
    let one = bench.gpu.capture(&nodes[..1])?;
    let (mut alone, mut waited) = (Vec::new(), Vec::new());
    for _ in 0..bench.size(200, 2) {
        let start = Instant::now();
        bench.gpu.replay(&one)?;
        alone.push(start.elapsed().as_secs_f64());
        bench.gpu.finish()?;
        let start = Instant::now();
        bench.gpu.launch(&launch)?;
        bench.gpu.finish()?;
        waited.push(start.elapsed().as_secs_f64());
    }
    bench.note("launch of a graph of one kernel, the host's time", median(&mut alone) * 1e6, "us");
    bench.note("launch until the host knows of its end", median(&mut waited) * 1e6, "us");
    Ok(())
}

/// Events: what recording takes, and what two of them are apart.
pub(super) fn events(bench: &mut Bench) -> Result<(), Fault> {
    let (mut host, mut apart) = (Vec::new(), Vec::new());
    for _ in 0..bench.size(200, 2) {
        let start = Instant::now();
        let before = bench.gpu.record()?;
        host.push(start.elapsed().as_secs_f64());
        let after = bench.gpu.record()?;
        bench.gpu.finish()?;
        apart.push(f64::from(after.milliseconds_since(&before)?) * 1e-3);
    }
    bench.note("event, made and recorded, the host's time", median(&mut host) * 1e6, "us");
    bench.note("between two events", median(&mut apart) * 1e6, "us");
    Ok(())
}

/// A flag between the host and a kernel that runs, there and back.
pub(super) fn host_flag(bench: &mut Bench) -> Result<(), Fault> {
    let rounds = bench.size(2000, 3);
    let pinned = bench.gpu.pinned(256)?;
    pinned.write(0, &[0; 256])?;
    let seen = bench.room(4)?;
    let buffers = meet::Buffers { words: Buffer { address: pinned.address(), bytes: 256 }, seen };
    let launch: Arc<dyn Launch> = Arc::new(buffers.host_flag(rounds, &bench.gpu.limits())?);
    if bench.tiny {
        // The emulator takes a kernel that polls without end for one that hangs.
        pinned.set_word(0, rounds)?;
    }
    bench.gpu.launch(&launch)?;
    let mut taken = Vec::new();
    for round in 1..=rounds {
        let start = Instant::now();
        if !bench.tiny {
            pinned.set_word(0, round)?;
        }
        while pinned.word(128)? < round {
            if start.elapsed() > PATIENCE {
                // Lets the kernel end.
                pinned.set_word(0, rounds)?;
                bench.gpu.finish()?;
                return Err(Fault::Wrong(format!("the device did not answer in round {round}")));
            }
            std::hint::spin_loop();
        }
        taken.push(start.elapsed().as_secs_f64());
    }
    bench.gpu.finish()?;
    bench.note("flag between host and device, there and back", median(&mut taken) * 1e6, "us");
    Ok(())
}

/// Seconds of one round of what `prepare` makes, with words that are zero before each launch.
fn of_round<P: Copy + Send + Sync + 'static>(
    bench: &mut Bench,
    words: Option<Buffer>,
    rounds: [u32; 2],
    prepare: &dyn Fn(u32, &Device) -> Result<Prepared<P>, Reject>,
) -> Result<f64, Fault> {
    let limits = bench.gpu.limits();
    let mut seconds = [0.0; 2];
    for (taken, count) in seconds.iter_mut().zip(rounds) {
        let launch: Arc<dyn Launch> = Arc::new(prepare(count, &limits)?);
        let resident = u64::from(bench.gpu.resident_blocks(&*launch)?);
        let blocks = launch.geometry().blocks();
        if resident < blocks {
            return Err(Fault::Wrong(format!("{resident} of {blocks} blocks are resident at once")));
        }
        let mut samples = Vec::new();
        for _ in 0..bench.size(9, 2) {
            if let Some(words) = words {
                bench.gpu.write(words.address, &vec![0; words.bytes as usize])?;
            }
            let before = bench.gpu.record()?;
            bench.gpu.launch(&launch)?;
            let after = bench.gpu.record()?;
            bench.gpu.finish()?;
            samples.push(f64::from(after.milliseconds_since(&before)?) * 1e-3);
        }
        *taken = median(&mut samples);
    }
    Ok((seconds[1] - seconds[0]) / f64::from(rounds[1] - rounds[0]))
}

/// All blocks of a cooperative launch.
pub(super) fn grid_barrier(bench: &mut Bench) -> Result<(), Fault> {
    let all = bench.gpu.limits().multiprocessors;
    for blocks in bench.size(vec![2, 16, all, 2 * all], vec![2, 4]) {
        let words = bench.room(4 * meet::words(blocks))?;
        let buffers = meet::Buffers { words, seen: bench.room(4 * u64::from(blocks))? };
        let rounds = bench.size([100, 2100], [1, 3]);
        let seconds =
            of_round(bench, Some(words), rounds, &|rounds, limits| buffers.barrier(blocks, rounds, limits))?;
        bench.note(format!("barrier of {blocks} blocks"), seconds * 1e6, "us");
    }
    Ok(())
}

/// Two blocks, and two of as many as there are multiprocessors, all of which poll.
pub(super) fn flag(bench: &mut Bench) -> Result<(), Fault> {
    let all = bench.gpu.limits().multiprocessors;
    for blocks in bench.size(vec![2, all], vec![2, 4]) {
        let words = bench.room(256)?;
        let buffers = meet::Buffers { words, seen: bench.room(4 * u64::from(blocks))? };
        let rounds = bench.size([100, 2100], [1, 3]);
        let seconds =
            of_round(bench, Some(words), rounds, &|rounds, limits| buffers.flag(blocks, rounds, limits))?;
        bench.note(format!("flag through L2, one way, {blocks} blocks poll"), seconds / 2.0 * 1e6, "us");
    }
    Ok(())
}

/// Clusters: their barrier, and `st.async` from block to block.
pub(super) fn cluster(bench: &mut Bench) -> Result<(), Fault> {
    let mut refused = None;
    for blocks in bench.size(vec![2, 4, 8, 16], vec![2, 4]) {
        let seen = bench.room(4 * u64::from(blocks))?;
        let rounds = bench.size([100, 2100], [1, 3]);
        let barrier = of_round(bench, None, rounds, &|rounds, limits| {
            clusters::prepare_barrier(seen, blocks, rounds, limits)
        });
        let ring = of_round(bench, None, rounds, &|rounds, limits| {
            clusters::prepare_ring(seen, blocks, rounds, limits)
        });
        match (barrier, ring) {
            (Ok(barrier), Ok(ring)) => {
                bench.note(format!("barrier of a cluster of {blocks}"), barrier * 1e6, "us");
                let hop = ring / f64::from(blocks);
                bench.note(format!("st.async, one way, cluster of {blocks}"), hop * 1e6, "us");
            }
            // Clusters of 16 are not on every device: the others count.
            (Err(fault), _) | (_, Err(fault)) => refused = Some(fault),
        }
    }
    refused.map_or(Ok(()), Err)
}
