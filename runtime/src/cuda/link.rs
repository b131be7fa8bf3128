//! Bytes between the caller's tensors and the host: one stream and one piece of pinned memory for each GPU, used by one
//! transfer at a time. Each is over when its call returns, so that nothing has to be ordered with the streams of runs. One
//! that is interrupted ends between two pieces.

use super::{GpuError, OpenGpu, Pinned, Stream};
use crate::error::OpError;
use crate::exec::Interrupt;
use crate::memory::{Budget, Charge};

/// Most bytes that pass at once.
pub(super) const PIECE: usize = 1 << 20;
/// Pieces are multiples of this, what the host pins at once.
const PAGE: usize = 4 << 10;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Link {
    stream: Option<Box<dyn Stream>>,
    piece: Option<Piece>,
}

#[derive(Debug)]
struct Piece {
    pinned: Box<dyn Pinned>,
    bytes: usize,
    _charge: Charge,
}

/// Why bytes do not pass.
#[derive(Debug)]
pub(super) enum LinkError {
    /// The memory limit of the host, or the interruption of the run that it is for.
    Host(OpError),
    /// The device.
    Gpu(GpuError),
}

impl From<OpError> for LinkError {
    fn from(error: OpError) -> Self {
        Self::Host(error)
    }
}

impl From<GpuError> for LinkError {
    fn from(error: GpuError) -> Self {
        Self::Gpu(error)
    }
}

impl Link {
    /// Fills `bytes` bytes at `to`, piece by piece: `fill` writes those from an offset on.
    pub(super) fn up(
        &mut self,
        gpu: &OpenGpu,
        budget: &Budget,
        (to, bytes): (u64, usize),
        interrupt: &Interrupt,
        fill: impl Fn(usize, usize, &dyn Pinned) -> Result<(), GpuError>,
    ) -> Result<(), LinkError> {
        self.pieces((gpu, budget), bytes, interrupt, |stream, pinned, offset, count| {
            fill(offset, count, pinned)?;
            stream.copy(to + offset as u64, pinned.address(), count)?;
            stream.finish(&Interrupt::default())
        })
    }

    /// Reads what lies at `from`.
    pub(super) fn down(
        &mut self,
        gpu: &OpenGpu,
        budget: &Budget,
        from: u64,
        to: &mut [u8],
        interrupt: &Interrupt,
    ) -> Result<(), LinkError> {
        self.pieces((gpu, budget), to.len(), interrupt, |stream, pinned, offset, count| {
            stream.copy(pinned.address(), from + offset as u64, count)?;
            stream.finish(&Interrupt::default())?;
            pinned.read(0, &mut to[offset..offset + count])
        })
    }

    /// Copies within what the device reaches.
    pub(super) fn across(&mut self, gpu: &OpenGpu, to: u64, from: u64, bytes: usize) -> Result<(), GpuError> {
        let stream = self.stream(gpu)?;
        stream.copy(to, from, bytes)?;
        stream.finish(&Interrupt::default())
    }

    fn stream(&mut self, gpu: &OpenGpu) -> Result<&mut dyn Stream, GpuError> {
        Ok(match &mut self.stream {
            Some(stream) => &mut **stream,
            none => &mut **none.insert(gpu.gpu().stream()?),
        })
    }

    fn pieces(
        &mut self,
        (gpu, budget): (&OpenGpu, &Budget),
        bytes: usize,
        interrupt: &Interrupt,
        mut pass: impl FnMut(&mut dyn Stream, &dyn Pinned, usize, usize) -> Result<(), GpuError>,
    ) -> Result<(), LinkError> {
        let wanted = bytes.clamp(1, PIECE).next_multiple_of(PAGE);
        if self.piece.as_ref().is_none_or(|piece| piece.bytes < wanted) {
            // The smaller one is given back first.
            self.piece = None;
            let charge = budget.charge(wanted)?;
            self.piece = Some(Piece { pinned: gpu.gpu().pinned(wanted)?, bytes: wanted, _charge: charge });
        }
        self.stream(gpu)?;
        let Self { stream: Some(stream), piece: Some(piece) } = self else { return Ok(()) };
        for offset in (0..bytes).step_by(piece.bytes) {
            interrupt.check()?;
            pass(&mut **stream, &*piece.pinned, offset, piece.bytes.min(bytes - offset))?;
        }
        Ok(())
    }
}
