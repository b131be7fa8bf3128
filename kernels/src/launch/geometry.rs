//! Grid, block, cluster and shared memory of a launch, and what a device allows.

use super::{EntryInfo, Reject};

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
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// The most shared memory of a block.
    pub shared_bytes: u32,
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

    /// Whether `entry` can be launched so on `device`.
    pub fn check(&self, entry: &EntryInfo, device: &Device) -> Result<(), Reject> {
        let threads = self.block.iter().try_fold(1u32, |n, &k| n.checked_mul(k)).unwrap_or(u32::MAX);
        if threads == 0 || threads > entry.bounds.threads {
            return Err(Reject::Threads { got: threads, limit: entry.bounds.threads });
        }
        let [x, y, z] = self.grid;
        if x == 0 || y == 0 || z == 0 || x > i32::MAX as u32 || y > 65_535 || z > 65_535 {
            return Err(Reject::Grid { got: self.grid });
        }
        if self.shared_bytes > device.shared_bytes {
            return Err(Reject::SharedMemory { needed: self.shared_bytes, limit: device.shared_bytes });
        }
        let needed = if self.cluster > 1 { entry.bounds.capability.max(90) } else { entry.bounds.capability };
        if device.capability < needed {
            return Err(Reject::Capability { needed, got: device.capability });
        }
        let fixed = entry.bounds.cluster;
        let fits = self.cluster.is_power_of_two() && self.cluster <= 16 && x % self.cluster == 0;
        if !fits || (fixed != 0 && fixed != self.cluster) {
            return Err(Reject::Cluster { got: self.cluster, blocks: x });
        }
        Ok(())
    }
}
