//! Grid, block, cluster and shared memory of a launch, and what a device allows.

use super::Reject;
use crate::kernel::Kernel;

/// Shared memory that every launch may have; more must be asked for.
pub const DEFAULT_SHARED_BYTES: u32 = 48 * 1024;

/// How many threads run a kernel, and how they are grouped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Geometry {
    /// Blocks along x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y and z.
    pub block: [u32; 3],
    /// Blocks of a cluster along x; 1 where there are no clusters.
    pub cluster: u32,
    /// Shared memory of a block.
    pub shared_bytes: u32,
    /// Whether all blocks must be resident at once, as [`grid::sync`](crate::device::grid::sync) needs.
    pub cooperative: bool,
}

/// What the host knows of a device before it launches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Device {
    /// Compute capability, ten times the major number plus the minor one.
    pub capability: u32,
    /// Multiprocessors that launches may take.
    pub multiprocessors: u32,
    /// The most shared memory of a block.
    pub shared_bytes: u32,
}

impl Device {
    /// The same device of which launches are to take at most so many multiprocessors; at least one.
    pub fn within(self, multiprocessors: u32) -> Self {
        Self { multiprocessors: multiprocessors.clamp(1, self.multiprocessors), ..self }
    }
}

impl Geometry {
    /// A one-dimensional grid of one-dimensional blocks.
    pub const fn linear(blocks: u32, threads: u32) -> Self {
        Self { grid: [blocks, 1, 1], block: [threads, 1, 1], cluster: 1, shared_bytes: 0, cooperative: false }
    }

    /// With so much shared memory per block.
    pub const fn with_shared(self, shared_bytes: u32) -> Self {
        Self { shared_bytes, ..self }
    }

    /// Blocks of the grid.
    pub const fn blocks(&self) -> u64 {
        self.grid[0] as u64 * self.grid[1] as u64 * self.grid[2] as u64
    }

    /// Threads of a block.
    pub const fn threads(&self) -> u32 {
        self.block[0] * self.block[1] * self.block[2]
    }

    /// Whether `kernel` can be launched so on `device`.
    pub fn check(&self, kernel: &Kernel, device: &Device) -> Result<(), Reject> {
        let threads = self.block.iter().try_fold(1u32, |n, &k| n.checked_mul(k)).unwrap_or(u32::MAX);
        if threads == 0 || threads > kernel.max_threads {
            return Err(Reject::Threads { got: threads, limit: kernel.max_threads });
        }
        let [x, y, z] = self.grid;
        if x == 0 || y == 0 || z == 0 || x > i32::MAX as u32 || y > 65_535 || z > 65_535 {
            return Err(Reject::Grid { got: self.grid });
        }
        let limit = kernel.shared.min(device.shared_bytes);
        if self.shared_bytes > limit {
            return Err(Reject::SharedMemory { needed: self.shared_bytes, limit });
        }
        let needed = if self.cluster > 1 { kernel.capability.max(90) } else { kernel.capability };
        if device.capability < needed {
            return Err(Reject::Capability { needed, got: device.capability });
        }
        if !self.cluster.is_power_of_two() || self.cluster > 16 || x % self.cluster != 0 {
            return Err(Reject::Cluster { got: self.cluster, blocks: x });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kernel_or_device_does_not_allow_is_refused() {
        let kernel = Kernel::new::<u64>("k", 256).with_shared(1 << 16).with_capability(80);
        let device = Device { capability: 80, multiprocessors: 108, shared_bytes: 163 * 1024 };
        let fits = Geometry::linear(8, 256).with_shared(1 << 16);
        assert_eq!(fits.check(&kernel, &device), Ok(()));
        let refused = |geometry: Geometry| geometry.check(&kernel, &device).err();
        assert_eq!(refused(Geometry::linear(8, 257)), Some(Reject::Threads { got: 257, limit: 256 }));
        assert_eq!(refused(Geometry::linear(0, 256)), Some(Reject::Grid { got: [0, 1, 1] }));
        let needed = (1 << 16) + 1;
        assert_eq!(refused(fits.with_shared(needed)), Some(Reject::SharedMemory { needed, limit: 1 << 16 }));
        assert_eq!(
            refused(Geometry { cluster: 8, ..fits }),
            Some(Reject::Capability { needed: 90, got: 80 })
        );
        let hopper = Device { capability: 90, ..device };
        assert_eq!(Geometry { cluster: 8, ..fits }.check(&kernel, &hopper), Ok(()));
        let odd = Geometry { cluster: 3, ..fits };
        assert_eq!(odd.check(&kernel, &hopper), Err(Reject::Cluster { got: 3, blocks: 8 }));
        let old = Device { capability: 75, ..device };
        assert_eq!(fits.check(&kernel, &old), Err(Reject::Capability { needed: 80, got: 75 }));
    }
}
