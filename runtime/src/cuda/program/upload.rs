//! Bytes of the host onto the device, through one piece of pinned memory.

use crate::cuda::{Block, GpuError, OpenGpu, Pinned, Stream};
use crate::exec::Interrupt;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of the piece: large enough that a copy's start costs little.
const PIECE: usize = 4 << 20;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Uploader(Mutex<(Box<dyn Stream>, Box<dyn Pinned>)>);

impl Uploader {
    pub(super) fn new(gpu: &OpenGpu) -> Result<Self, GpuError> {
        Ok(Self(Mutex::new((gpu.gpu().stream()?, gpu.gpu().pinned(PIECE)?))))
    }

    /// A block of `gpu` that holds `bytes`.
    pub(super) fn upload(
        &self,
        gpu: &Arc<OpenGpu>,
        bytes: &[u8],
        interrupt: &Interrupt,
    ) -> Result<Block, GpuError> {
        let block = gpu.allocate(bytes.len())?;
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (stream, pinned) = &mut *held;
        for (index, piece) in bytes.chunks(PIECE).enumerate() {
            pinned.write(0, piece)?;
            stream.copy(block.address() + (index * PIECE) as u64, pinned.address(), piece.len())?;
            // The piece is written again: the copy must have read it. An interrupted one has not.
            if let Err(error) = stream.finish(interrupt) {
                stream.finish(&Interrupt::default())?;
                return Err(error);
            }
        }
        Ok(block)
    }
}
