//! A node on the host between launches: what it reads is copied down, the CPU's kernel runs, and what kernels read of its
//! outputs is copied up.

use super::StepFailure;
use super::place::{Place, Source};
use crate::cpu::RunContext;
use crate::cuda::{Block, GpuReject, Pinned, Stream};
use crate::dtype::DType;
use crate::error::OpError;
use crate::exec::evaluate;
use crate::memory::Buffer;
use crate::ops::{Op, Packed};
use crate::tensor::{Shape, Tensor, Value, ValueRef};
use std::sync::Arc;

/// One input.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) source: Source,
    /// Dtype, shape, and the slot that keeps it, of what is copied down.
    pub(super) form: Option<(DType, Shape, usize)>,
}

/// One output.
#[derive(Clone, Debug)]
pub(super) struct Made {
    /// The slot that keeps it.
    pub(super) slot: usize,
    /// Where kernels read it, and where it passes through pinned memory.
    pub(super) upload: Option<(Place, usize)>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct HostStep {
    pub(super) given: Vec<Option<Given>>,
    /// The outputs; none where nobody reads one.
    pub(super) made: Vec<Option<Made>>,
    pub(super) packed: Arc<Option<Packed>>,
    pub(super) reason: GpuReject,
}

/// What a step works on.
pub(super) struct Memory<'a> {
    pub(super) stream: &'a mut dyn Stream,
    pub(super) pinned: &'a dyn Pinned,
    pub(super) arena: &'a Block,
    pub(super) slots: &'a mut [Option<Value>],
}

impl HostStep {
    /// Runs `op`; gives the bytes that were copied down and up.
    pub(super) fn run(
        &self,
        op: &dyn Op,
        inputs: &[ValueRef<'_>],
        memory: &mut Memory<'_>,
        context: RunContext<'_>,
    ) -> Result<[u64; 2], StepFailure> {
        let down = self.copy_down(memory, context)?;
        let made = {
            let slots = &*memory.slots;
            let missing = || OpError::internal("a value is read on the host before it is there");
            let mut given: Vec<Option<ValueRef<'_>>> = Vec::with_capacity(self.given.len());
            for operand in &self.given {
                given.push(match operand {
                    None => None,
                    Some(Given { source, form }) => Some(match (source, form) {
                        (Source::Input(at), _) => *inputs.get(*at).ok_or_else(missing)?,
                        (Source::Constant(tensor), _) => ValueRef::Tensor(tensor.view()),
                        (Source::Slot(slot), _) | (Source::Device { .. }, Some((_, _, slot))) => {
                            slots[*slot].as_ref().ok_or_else(missing)?.as_ref()
                        }
                        (Source::Device { .. }, None) => return Err(missing().into()),
                    }),
                });
            }
            let wanted: Vec<bool> = self.made.iter().map(Option::is_some).collect();
            evaluate(op, self.packed.as_ref().as_ref(), &given, &wanted, context)?
        };
        let mut up = 0;
        for (made, value) in self.made.iter().zip(made) {
            let (Some(Made { slot, upload }), Some(value)) = (made, value) else { continue };
            if let Some((place, staging)) = upload {
                let tensor = value.as_tensor().ok_or_else(|| OpError::internal("no tensor goes up"))?;
                let (address, bytes) =
                    place.address(memory.arena).ok_or_else(|| OpError::internal("a place that is none"))?;
                if tensor.bytes().len() != bytes {
                    return Err(OpError::internal("a value has another size than was inferred").into());
                }
                memory.pinned.write(*staging, tensor.bytes())?;
                memory.stream.copy(address, memory.pinned.address() + *staging as u64, bytes)?;
                up += bytes as u64;
            }
            memory.slots[*slot] = Some(value);
        }
        Ok([down, up])
    }

    /// Brings what is on the device into slots; gives the bytes.
    fn copy_down(&self, memory: &mut Memory<'_>, context: RunContext<'_>) -> Result<u64, StepFailure> {
        let mut down = 0;
        for given in self.given.iter().flatten() {
            if let Source::Device { place, staging } = &given.source
                && let Some((address, bytes)) = place.address(memory.arena)
            {
                memory.stream.copy(memory.pinned.address() + *staging as u64, address, bytes)?;
                down += bytes as u64;
            }
        }
        if down > 0 {
            memory.stream.finish(context.interrupt)?;
        }
        for given in self.given.iter().flatten() {
            if let (Source::Device { staging, .. }, Some((dtype, shape, slot))) = (&given.source, &given.form)
            {
                let bytes = crate::tensor::element_count(shape).and_then(|n| dtype.bytes(n));
                let bytes = bytes.ok_or_else(|| context.budget.overflow())?;
                let mut buffer = Buffer::zeroed(bytes, context.budget)?;
                memory.pinned.read(*staging, buffer.bytes_mut())?;
                memory.slots[*slot] = Some(Tensor::from_buffer(*dtype, shape, buffer)?.into());
            }
        }
        Ok(down)
    }
}
