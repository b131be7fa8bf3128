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
