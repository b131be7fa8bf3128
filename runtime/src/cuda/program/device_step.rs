//! A node's launches, what they work on, and the words by which they and the host tell each other what each run differs in.

use super::place::Place;
use crate::cuda::site::{GpuKernel, Launches, Operands, STARTS};
use crate::cuda::{Block, GpuError, Pinned};
use recurve_kernels::launch::{Buffer, Reject};

/// Offsets in pinned memory.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Words {
    /// The word that says that data asks for what is not there.
    pub(super) fault: Option<usize>,
    /// Flags, where data decides between parts of the launches.
    pub(super) flags: Option<usize>,
    /// The words that a run's random numbers begin with.
    pub(super) starts: Option<usize>,
}

impl Words {
    /// Those that `kernel` asks for; `take` gives out so many bytes.
    pub(super) fn of<E>(
        kernel: &GpuKernel,
        mut take: impl FnMut(usize) -> Result<usize, E>,
    ) -> Result<Self, E> {
        let mut words = |bytes: Option<usize>| bytes.map(&mut take).transpose();
        Ok(Self {
            fault: words(kernel.fault().map(|_| 4))?,
            flags: words(kernel.flow().map(|flow| flow.flags))?,
            starts: words((!kernel.sources().is_empty()).then(|| starts_of(kernel)))?,
        })
    }
}

/// Bytes of the words of its sources.
fn starts_of(kernel: &GpuKernel) -> usize {
    STARTS as usize * kernel.sources().len()
}

/// A node's launches.
#[derive(Debug)]
pub(super) struct DeviceStep {
    pub(super) kernel: GpuKernel,
    pub(super) inputs: Vec<Place>,
    pub(super) outputs: Vec<Place>,
    pub(super) weights: Vec<Place>,
    pub(super) data: Vec<Buffer>,
    pub(super) workspace: Place,
    pub(super) words: Words,
    /// The slots of the outputs that come to be on the host.
    pub(super) made: Vec<Option<usize>>,
}

impl DeviceStep {
    /// Sets its words for a run: no fault was found, and random numbers begin where the next ones of their source do.
    pub(super) fn begin(&self, pinned: &dyn Pinned) -> Result<(), GpuError> {
        if let Some(offset) = self.words.fault {
            pinned.set_word(offset, 0)?;
        }
        match self.words.starts {
            // What data decides about is drawn where it is decided.
            Some(offset) if self.kernel.flow().is_none() => {
                let starts = self.kernel.sources().iter().flat_map(|s| s.next().start().to_le_bytes());
                pinned.write(offset, &starts.collect::<Vec<u8>>())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn launches(&self, arena: &Block, pinned: &dyn Pinned) -> Result<Launches, Reject> {
        self.prepared(arena, pinned, |operands| self.kernel.prepare(operands))
    }

    /// The launches of each part.
    pub(super) fn parts(&self, arena: &Block, pinned: &dyn Pinned) -> Result<Vec<Launches>, Reject> {
        self.prepared(arena, pinned, |operands| self.kernel.prepare_parts(operands))
    }

    /// What `prepare` makes of its operands.
    pub(super) fn prepared<T>(
        &self,
        arena: &Block,
        pinned: &dyn Pinned,
        prepare: impl FnOnce(&Operands<'_>) -> Result<T, Reject>,
    ) -> Result<T, Reject> {
        let at = |place: &Place| place.buffer(arena);
        let (inputs, outputs): (Vec<_>, Vec<_>) =
            (self.inputs.iter().map(at).collect(), self.outputs.iter().map(at).collect());
        let weights: Vec<Buffer> = self.weights.iter().map(at).collect();
        let words = |offset: Option<usize>, bytes: u64| {
            offset.map_or(Buffer::default(), |offset| Buffer {
                address: pinned.address() + offset as u64,
                bytes,
            })
        };
        prepare(&Operands {
            inputs: &inputs,
            outputs: &outputs,
            weights: &weights,
            data: &self.data,
            workspace: at(&self.workspace),
            fault: words(self.words.fault, 4),
            flags: words(self.words.flags, self.kernel.flags() as u64),
            starts: words(self.words.starts, starts_of(&self.kernel) as u64),
        })
    }
}
