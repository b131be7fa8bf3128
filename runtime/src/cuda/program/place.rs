//! Where values are on the device, and where on the host.

use crate::cuda::Block;
use crate::cuda::site::UNREAD;
use crate::tensor::Tensor;
use recurve_kernels::launch::Buffer;

/// Where a value's bytes are on the device.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// At this offset of the arena.
    Arena { offset: usize, bytes: usize },
    /// In memory that stays.
    Resident { address: u64, bytes: usize },
    /// An operand that is not there, or a value that no kernel reads.
    Nowhere,
}

impl Place {
    /// An operand that is there, and that no launch reads.
    pub(super) const UNREAD: Self = Self::Resident { address: UNREAD.address, bytes: 0 };

    /// In this block, which stays.
    pub(super) fn in_block(block: &Block) -> Self {
        Self::Resident { address: block.address(), bytes: block.bytes() }
    }

    /// Address and bytes, when it is on the device.
    pub(super) fn address(&self, arena: &Block) -> Option<(u64, usize)> {
        match self {
            Self::Arena { offset, bytes } => Some((arena.address() + *offset as u64, *bytes)),
            Self::Resident { address, bytes } => Some((*address, *bytes)),
            Self::Nowhere => None,
        }
    }

    pub(super) fn buffer(&self, arena: &Block) -> Buffer {
        self.address(arena)
            .map_or(Buffer::default(), |(address, bytes)| Buffer { address, bytes: bytes as u64 })
    }
}

/// Where the host finds a value.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// In the caller's input `.0`.
    Input(usize),
    /// Here.
    Constant(Tensor),
    /// In slot `.0` of what operators made on the host, or of what was copied down before.
    Slot(usize),
    /// On the device: it is copied down through `staging` bytes into pinned memory.
    Device { place: Place, staging: usize },
}
