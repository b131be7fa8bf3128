//! What a session may take of a GPU that it shares with others.

use super::memory::rounded;
use super::{Block, Gpu, GpuError, OpenGpu};
use crate::memory::Budget;
use std::sync::Arc;

/// A GPU, and where the session has a limit beside the engine's, what it may hold of the GPU's memory. Both hold, so that
/// the lower one decides; what the engine keeps for the next who asks counts for the engine alone.
#[derive(Debug)]
pub(crate) struct Allowance {
    gpu: Arc<OpenGpu>,
    own: Option<Budget>,
}

impl Allowance {
    /// At most `limit` bytes of `gpu`.
    pub(crate) fn new(gpu: Arc<OpenGpu>, limit: Option<usize>) -> Self {
        Self { gpu, own: limit.map(Budget::new) }
    }

    /// Whose memory it is.
    pub(crate) fn open(&self) -> &Arc<OpenGpu> {
        &self.gpu
    }

    /// The GPU.
    pub(crate) fn gpu(&self) -> &dyn Gpu {
        self.gpu.gpu()
    }

    /// Whether `bytes` more could be given, in whole blocks.
    pub(crate) fn check(&self, bytes: usize) -> Result<(), GpuError> {
        if let Some(own) = &self.own {
            let limit = own.limit();
            let size = rounded(bytes).unwrap_or(usize::MAX);
            if size > limit.saturating_sub(own.used()) {
                return Err(GpuError::Limit { requested: bytes, limit });
            }
        }
        self.gpu.check(bytes)
    }

    /// A block of `bytes`.
    pub(crate) fn allocate(&self, bytes: usize) -> Result<Block, GpuError> {
        self.gpu.allocate_for(bytes, self.own.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::emulated::EmulatedGpu;
    use recurve_kernels::emulator::Options;

    #[test]
    fn both_limits_hold_and_what_is_given_back_counts_for_the_engine_alone() {
        let gpu = EmulatedGpu::new(1 << 20, Options::default());
        let open = Arc::new(OpenGpu::new(Box::new(gpu), 8192));
        let (one, other) = (Allowance::new(open.clone(), Some(4096)), Allowance::new(open.clone(), None));
        let held = one.allocate(3000).expect("fits");
        assert_eq!(one.check(1024), Ok(()));
        assert_eq!(one.check(1025), Err(GpuError::Limit { requested: 1025, limit: 4096 }));
        assert_eq!(one.allocate(1025).err(), Some(GpuError::Limit { requested: 1536, limit: 4096 }));
        // The other has the engine's limit alone.
        assert_eq!(other.check(5120), Ok(()));
        assert_eq!(other.check(5121), Err(GpuError::Limit { requested: 5121, limit: 8192 }));
        let rest = other.allocate(5120).expect("fits beside it");
        assert_eq!(one.check(1024), Err(GpuError::Limit { requested: 1024, limit: 8192 }));
        drop((held, rest));
        assert_eq!(open.held(), 8192, "cached");
        // A cached block that is larger than what was asked for is not for who is limited.
        assert_eq!(one.allocate(2560).map(|block| block.held()), Ok(2560));
        assert_eq!(other.allocate(2560).map(|block| block.held()), Ok(2560));
        let whole = one.allocate(4096).expect("nothing of it is in use");
        assert_eq!(whole.held(), 4096);
        let freed = other.allocate(4096).expect("what is cached is given up");
        assert_eq!((freed.held(), open.held()), (4096, 8192));
    }
}
