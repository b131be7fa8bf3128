//! Bandwidth: between host and device by size, and of the device's memory and L2.

use super::bench::{Bench, Fault};
use recurve_kernels::launch::Launch;
use recurve_kernels::probe::stream::{Buffers, prepare_copy, prepare_read};
use std::sync::Arc;

/// Pinned memory to the device and back.
pub(super) fn host(bench: &mut Bench) -> Result<(), Fault> {
    let sizes: &[usize] = bench.size(&[4, 4 << 10, 64 << 10, 1 << 20, 16 << 20, 256 << 20], &[4, 4 << 10]);
    let most = sizes.iter().copied().max().unwrap_or(0);
    let pinned = bench.gpu.pinned(most)?;
    pinned.write(0, &vec![1; most])?;
    let device = bench.room(most as u64)?;
    for &bytes in sizes {
        // Of small ones many, so that the events' own time does not count.
        let many = bench.size((4 << 20) / bytes.clamp(4 << 10, 4 << 20), 1);
        let ways = [
            ("to the device", device.address, pinned.address()),
            ("to the host", pinned.address(), device.address),
        ];
        for (way, to, from) in ways {
            let mut copy = |gpu: &mut recurve::testing::gpu::TestGpu| {
                (0..many).try_for_each(|_| gpu.copy(to, from, bytes))
            };
            let seconds = bench.seconds(&mut copy)? / many as f64;
            bench.note(format!("copy of {bytes} bytes {way}"), seconds * 1e6, "us");
            if bytes >= 1 << 20 {
                bench.note(
                    format!("copy of {} MiB {way}", bytes >> 20),
                    bytes as f64 / seconds / 1e9,
                    "GB/s",
                );
            }
        }
    }
    Ok(())
}

/// The device's memory, L2, and the driver's own copy.
pub(super) fn device(bench: &mut Bench) -> Result<(), Fault> {
    let large = bench.size(1 << 30, 64 << 10);
    let (x, y) = (bench.filled(large, &[1, 2, 3, 4])?, bench.room(large)?);
    let (to, from) = (y.address, x.address);
    let seconds = bench.seconds(&mut |gpu| gpu.copy(to, from, large as usize))?;
    bench.note("HBM, the driver's copy, both ways", 2.0 * large as f64 / seconds / 1e9, "GB/s");
    kernels(bench, Buffers { x, y }, 1, "HBM")?;
    for bytes in bench.size(vec![4 << 20, 16 << 20, 32 << 20], vec![16 << 10]) {
        let part = |buffer| recurve_kernels::launch::Buffer { bytes, ..buffer };
        // A copy holds two of them in L2.
        let half = |buffer| recurve_kernels::launch::Buffer { bytes: bytes / 2, ..buffer };
        let rounds = bench.size(32, 2);
        let name = format!("L2, {} MiB", bytes >> 20);
        let limits = bench.gpu.limits();
        let read: Arc<dyn Launch> = Arc::new(prepare_read(&Buffers { x: part(x), y }, rounds, &limits)?);
        let seconds = bench.of_graph(&[read], 4)?;
        bench.note(format!("{name}, read"), (u64::from(rounds) * bytes) as f64 / seconds / 1e9, "GB/s");
        let copy: Arc<dyn Launch> =
            Arc::new(prepare_copy(&Buffers { x: half(x), y: half(y) }, rounds, &limits)?);
        let seconds = bench.of_graph(&[copy], 4)?;
        bench.note(
            format!("{name}, copy, both ways"),
            (u64::from(rounds) * bytes) as f64 / seconds / 1e9,
            "GB/s",
        );
    }
    Ok(())
}

fn kernels(bench: &mut Bench, buffers: Buffers, rounds: u32, name: &str) -> Result<(), Fault> {
    let limits = bench.gpu.limits();
    let bytes = buffers.x.bytes;
    let read: Arc<dyn Launch> = Arc::new(prepare_read(&buffers, rounds, &limits)?);
    let seconds = bench.of_graph(&[read], 4)?;
    bench.note(format!("{name}, read"), bytes as f64 / seconds / 1e9, "GB/s");
    let copy: Arc<dyn Launch> = Arc::new(prepare_copy(&buffers, rounds, &limits)?);
    let seconds = bench.of_graph(&[copy], 4)?;
    bench.copy = Some(2.0 * bytes as f64 / seconds);
    bench.note(format!("{name}, copy, both ways"), 2.0 * bytes as f64 / seconds / 1e9, "GB/s");
    Ok(())
}

/// The copy that other kernels are held to.
pub(super) fn reference(bench: &mut Bench) -> Result<(), Fault> {
    let large = bench.size(1 << 30, 64 << 10);
    let (x, y) = (bench.filled(large, &[1, 2, 3, 4])?, bench.room(large)?);
    kernels(bench, Buffers { x, y }, 1, "HBM")
}
