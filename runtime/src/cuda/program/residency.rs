//! Co-residency: blocks that wait for each other must all be on the device at once, or none of them ends.

use crate::cuda::{Gpu, GpuError};
use recurve_kernels::launch::{Device, Launch};

/// Whether all blocks of a launch that wait for each other, those of the grid or of a cluster, are resident at once; asked
/// of the device.
pub(super) fn fits(gpu: &dyn Gpu, launch: &dyn Launch) -> Result<(), GpuError> {
    let geometry = launch.geometry();
    let refused = |problem| Err(GpuError::Launch { kernel: launch.kernel().entry.to_owned(), problem });
    let blocks = match (geometry.cooperative, geometry.cluster) {
        (true, _) if !gpu.properties().cooperative => {
            return refused("its blocks wait for each other, and the GPU keeps no grid resident".into());
        }
        (true, _) => geometry.blocks(),
        (false, 0 | 1) => return Ok(()),
        (false, cluster) => cluster.into(),
    };
    // Of the multiprocessors that it was prepared for, which may be fewer than there are.
    let all = u64::from(gpu.properties().multiprocessors.max(1));
    let own = u64::from(launch.multiprocessors()).min(all);
    let resident = u64::from(gpu.resident_blocks(launch)?) * own / all;
    if blocks <= resident {
        return Ok(());
    }
    refused(format!("its {blocks} blocks wait for each other, and {resident} are resident at once"))
}

/// Which part of `device` the blocks of a launch take while they run, at most 1: by the threads and the shared memory of a
/// multiprocessor; registers are not known here.
pub(crate) fn share(launch: &dyn Launch, device: &Device) -> f64 {
    let geometry = launch.geometry();
    let threads = if matches!(device.capability, 80 | 90 | 100) { 2048 } else { 1536 };
    let by_threads = threads / geometry.threads().max(1);
    let by_shared = device.shared_bytes / geometry.shared_bytes.max(1);
    let resident =
        u64::from(by_threads.min(by_shared).clamp(1, 32)) * u64::from(device.multiprocessors.max(1));
    (geometry.blocks() as f64 / resident as f64).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::emulated::EmulatedGpu;
    use crate::cuda::watched::WatchedGpu;
    use recurve_kernels::emulator::Options;
    use recurve_kernels::launch::Buffer;
    use recurve_kernels::probe::{cluster, meet};

    #[test]
    fn blocks_that_wait_for_each_other_must_fit_the_multiprocessors_that_they_are_given() {
        let gpu = EmulatedGpu::new(1 << 20, Options::CHECKED);
        let whole = Device { capability: 90, multiprocessors: 4, shared_bytes: 227 << 10 };
        let buffer = |bytes| Buffer { address: 1 << 20, bytes };
        // 32 blocks are resident on one multiprocessor.
        let blocks = 64;
        let memory =
            meet::Buffers { words: buffer(4 * meet::words(blocks)), seen: buffer(4 * u64::from(blocks)) };
        let on = |device: Device| memory.barrier(blocks, 1, &device).expect("a launch");
        assert_eq!(fits(&gpu, &on(whole)), Ok(()));
        assert_eq!(fits(&gpu, &on(whole.within(2))), Ok(()));
        let refused = fits(&gpu, &on(whole.within(1)));
        assert!(
            matches!(&refused, Err(GpuError::Launch { problem, .. }) if problem.contains("32 are resident"))
        );
        let (watched, told) = WatchedGpu::new(1 << 20);
        assert_eq!(fits(&watched, &on(whole)), Ok(()));
        told.forget_grids();
        let refused = fits(&watched, &on(whole));
        assert!(
            matches!(&refused, Err(GpuError::Launch { problem, .. }) if problem.contains("no grid resident"))
        );
    }

    #[test]
    fn a_launch_takes_the_part_of_a_device_that_its_blocks_fill() {
        let buffer = |bytes| Buffer { address: 1 << 20, bytes };
        let part = |blocks: u32, multiprocessors: u32| {
            let device = Device { capability: 90, multiprocessors, shared_bytes: 227 << 10 };
            let memory =
                meet::Buffers { words: buffer(4 * meet::words(blocks)), seen: buffer(4 * u64::from(blocks)) };
            let launch = memory.barrier(blocks, 1, &device).expect("a launch");
            share(&launch, &device)
        };
        // 32 blocks are resident on one multiprocessor.
        assert_eq!((part(64, 4), part(128, 4), part(256, 4)), (0.5, 1.0, 1.0));
        assert_eq!(part(64, 8), 0.25);
    }

    #[test]
    fn blocks_of_a_cluster_must_fit_together() {
        let (watched, told) = WatchedGpu::new(1 << 20);
        let whole = Device { capability: 90, multiprocessors: 4, shared_bytes: 227 << 10 };
        let seen = Buffer { address: 1 << 20, bytes: 4 * 16 };
        let launch = cluster::prepare_barrier(seen, 16, 1, &whole).expect("a launch");
        assert_eq!(fits(&watched, &launch), Ok(()));
        told.keep_resident(8);
        let refused = fits(&watched, &launch);
        assert!(
            matches!(&refused, Err(GpuError::Launch { problem, .. }) if problem.contains("its 16 blocks")),
            "{refused:?}"
        );
        let small = Buffer { address: 1 << 20, bytes: 4 * 8 };
        assert_eq!(fits(&watched, &cluster::prepare_barrier(small, 8, 1, &whole).expect("a launch")), Ok(()));
    }
}
