//! Co-residency: blocks that wait for each other must all be on the device at once, or none of them ends.

use crate::cuda::{Gpu, GpuError};
use recurve_kernels::launch::Launch;

/// Whether all blocks of a launch that waits for all of them are resident at once; asked of the device.
pub(super) fn fits(gpu: &dyn Gpu, launch: &dyn Launch) -> Result<(), GpuError> {
    let blocks = launch.geometry().blocks();
    if !launch.geometry().cooperative {
        return Ok(());
    }
    // Of the multiprocessors that it was prepared for, which may be fewer than there are.
    let all = gpu.properties().multiprocessors.max(1);
    let resident = gpu.resident_blocks(launch)? / all * launch.multiprocessors().min(all);
    if blocks <= u64::from(resident) {
        return Ok(());
    }
    let problem = format!("its {blocks} blocks wait for each other, and {resident} are resident at once");
    Err(GpuError::Launch { kernel: launch.kernel().entry.to_owned(), problem })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::emulated::EmulatedGpu;
    use recurve_kernels::emulator::Options;
    use recurve_kernels::launch::{Buffer, Device};
    use recurve_kernels::probe::meet;

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
    }
}
