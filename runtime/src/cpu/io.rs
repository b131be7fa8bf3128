//! What a running kernel reads and writes.

use super::alongside::Alongside;
use super::wavefront::Link;
use crate::dtype::{DType, Element};
use crate::error::OpError;
use crate::exec::{Interrupt, NodeTimes, Program, Team};
use crate::graph::NodeError;
use crate::memory::{Budget, Buffer};
use crate::tensor::{Tensor, TensorView, Value, ValueRef, element_count};
use smallvec::SmallVec;

/// What a run shares with all its kernels.
#[derive(Clone, Copy)]
pub(crate) struct RunContext<'a> {
    /// The worker threads.
    pub(crate) team: &'a Team,
    /// Deadline and cancellation; long kernels ask it now and then.
    pub(crate) interrupt: &'a Interrupt,
    /// Where outputs of data-dependent shape are charged.
    pub(crate) budget: &'a Budget,
    /// Where the time of each node is noted, if anywhere.
    pub(crate) times: Option<&'a NodeTimes>,
}

/// The place of one output.
pub(crate) enum Slot<'a> {
    /// Nobody wants it.
    Absent,
    /// A tensor of a shape known beforehand; its bytes at the start are arbitrary.
    Fixed {
        /// Element type.
        dtype: DType,
        /// Extents.
        shape: &'a [usize],
        /// Its bytes, aligned to 64 unless they are the caller's.
        bytes: &'a mut [u8],
    },
    /// A value that the kernel makes.
    Made(&'a mut Option<Value>),
}

/// Inputs, outputs and surroundings of one kernel run.
pub(crate) struct Io<'a, 'b> {
    inputs: &'b [Option<ValueRef<'a>>],
    outputs: &'b mut [Slot<'a>],
    scratch: &'b mut [u8],
    pending: Vec<(usize, DType, Vec<usize>, Buffer)>,
    link: Link<'b>,
    /// Threads, interruption and memory.
    pub(crate) context: RunContext<'b>,
}

impl<'a, 'b> Io<'a, 'b> {
    pub(crate) fn new(
        inputs: &'b [Option<ValueRef<'a>>],
        outputs: &'b mut [Slot<'a>],
        scratch: &'b mut [u8],
        context: RunContext<'b>,
    ) -> Self {
        Self { inputs, outputs, scratch, pending: Vec::new(), link: Link::default(), context }
    }

    /// The same for a layer of a wavefront.
    pub(crate) fn with_link(self, link: Link<'b>) -> Self {
        Self { link, ..self }
    }

    /// Where input 0 comes from and output 0 is handed to, for a kernel that takes it so.
    pub(crate) fn take_link(&mut self) -> Link<'b> {
        std::mem::take(&mut self.link)
    }

    /// Number of inputs, absent ones included.
    pub(crate) fn input_count(&self) -> usize {
        self.inputs.len()
    }

    /// Input `index` of any kind.
    pub(crate) fn value(&self, index: usize) -> Result<ValueRef<'a>, OpError> {
        self.inputs.get(index).copied().flatten().ok_or_else(|| OpError::input(index, "is missing"))
    }

    /// All inputs.
    pub(crate) fn values(&self) -> &'b [Option<ValueRef<'a>>] {
        self.inputs
    }

    /// Input `index`, a tensor.
    pub(crate) fn tensor(&self, index: usize) -> Result<TensorView<'a>, OpError> {
        self.value(index)?.tensor().ok_or_else(|| OpError::input(index, "is not a tensor"))
    }

    /// Input `index`, a tensor, when it is there.
    pub(crate) fn optional(&self, index: usize) -> Option<TensorView<'a>> {
        self.inputs.get(index).copied().flatten()?.tensor()
    }

    /// Elements of input `index`.
    pub(crate) fn input<T: Element>(&self, index: usize) -> Result<&'a [T], OpError> {
        self.tensor(index)?.elements()
    }

    /// Elements of input `index`, a tensor of text.
    pub(crate) fn text(&self, index: usize) -> Result<&'a [String], OpError> {
        let view = self.tensor(index)?;
        view.as_strings().ok_or_else(|| OpError::internal(format!("input {index} is no text")))
    }

    /// Elements of input `index`, when it is there.
    pub(crate) fn optional_input<T: Element>(&self, index: usize) -> Result<Option<&'a [T]>, OpError> {
        self.optional(index).map(|t| t.elements()).transpose()
    }

    /// Whether output `index` is wanted.
    pub(crate) fn wants(&self, index: usize) -> bool {
        !matches!(self.outputs.get(index), None | Some(Slot::Absent))
    }

    /// Elements of output `index`, whose shape was known beforehand; empty when it is not wanted.
    pub(crate) fn output<T: Element>(&mut self, index: usize) -> Result<&mut [T], OpError> {
        slot_elements(self.outputs.get_mut(index))
    }

    /// Elements of output `index` together with the scratch memory.
    pub(crate) fn output_and_scratch<T: Element>(
        &mut self,
        index: usize,
    ) -> Result<(&mut [T], &mut [u8]), OpError> {
        Ok((slot_elements(self.outputs.get_mut(index))?, self.scratch))
    }

    /// Elements of the first `N` outputs of one type together with the scratch memory; empty where not
    /// wanted or not there.
    pub(crate) fn outputs_and_scratch<T: Element, const N: usize>(
        &mut self,
    ) -> Result<([&mut [T]; N], &mut [u8]), OpError> {
        let mut slots = self.outputs.iter_mut();
        let mut out = [const { None }; N];
        for place in &mut out {
            *place = Some(slot_elements(slots.next())?);
        }
        Ok((out.map(Option::unwrap_or_default), self.scratch))
    }

    /// Elements of the first two outputs, of two types; empty where not wanted.
    pub(crate) fn two_outputs<T: Element, U: Element>(&mut self) -> Result<(&mut [T], &mut [U]), OpError> {
        let mut slots = self.outputs.iter_mut();
        Ok((slot_elements(slots.next())?, slot_elements(slots.next())?))
    }

    /// Elements of output 0, raw bytes of output 1, and the scratch memory; empty where not wanted.
    #[allow(clippy::type_complexity, reason = "three slices")]
    pub(crate) fn output_bytes_and_scratch<T: Element>(
        &mut self,
    ) -> Result<(&mut [T], &mut [u8], &mut [u8]), OpError> {
        let mut slots = self.outputs.iter_mut();
        let first = slot_elements(slots.next())?;
        let second: &mut [u8] = match slots.next() {
            Some(Slot::Fixed { bytes, .. }) => bytes,
            Some(Slot::Made(_)) => return Err(OpError::internal("output 1 has no place")),
            None | Some(Slot::Absent) => &mut [],
        };
        Ok((first, second, self.scratch))
    }

    /// Elements of the first three outputs, each of its type; empty where not wanted.
    #[allow(clippy::type_complexity, reason = "three slices")]
    pub(crate) fn three_outputs<T: Element, U: Element, V: Element>(
        &mut self,
    ) -> Result<(&mut [T], &mut [U], &mut [V]), OpError> {
        let mut slots = self.outputs.iter_mut();
        Ok((slot_elements(slots.next())?, slot_elements(slots.next())?, slot_elements(slots.next())?))
    }

    /// Raw bytes of output `index`, whose shape was known beforehand, together with the scratch memory.
    pub(crate) fn bytes_and_scratch(&mut self, index: usize) -> Result<(&mut [u8], &mut [u8]), OpError> {
        match self.outputs.get_mut(index) {
            Some(Slot::Fixed { bytes, .. }) => Ok((bytes, self.scratch)),
            Some(Slot::Made(_)) => Err(OpError::internal(format!("output {index} has no place"))),
            None | Some(Slot::Absent) => Ok((&mut [], self.scratch)),
        }
    }

    /// Raw bytes of the first `count` outputs, all of shapes known beforehand, together with the scratch memory;
    /// empty where not wanted or not there.
    pub(crate) fn all_bytes_and_scratch(
        &mut self,
        count: usize,
    ) -> Result<(SmallVec<[&mut [u8]; 4]>, &mut [u8]), OpError> {
        let mut all: SmallVec<[&mut [u8]; 4]> = SmallVec::new();
        let mut slots = self.outputs.iter_mut();
        for index in 0..count {
            all.push(match slots.next() {
                Some(Slot::Fixed { bytes, .. }) => &mut **bytes,
                Some(Slot::Made(_)) => return Err(OpError::internal(format!("output {index} has no place"))),
                None | Some(Slot::Absent) => &mut [],
            });
        }
        Ok((all, self.scratch))
    }

    /// Raw bytes of output `index`, whose shape was known beforehand.
    pub(crate) fn output_bytes(&mut self, index: usize) -> Result<&mut [u8], OpError> {
        match self.outputs.get_mut(index) {
            Some(Slot::Fixed { bytes, .. }) => Ok(bytes),
            Some(Slot::Made(_)) => Err(OpError::internal(format!("output {index} has no place"))),
            None | Some(Slot::Absent) => Ok(&mut []),
        }
    }

    /// Raw bytes of output `index` for a tensor of `dtype` and `shape`, which may have been unknown until
    /// now.
    pub(crate) fn shaped_bytes(
        &mut self,
        index: usize,
        dtype: DType,
        shape: &[usize],
    ) -> Result<&mut [u8], OpError> {
        match self.outputs.get_mut(index) {
            Some(Slot::Fixed { dtype: d, shape: s, bytes }) => {
                if *d != dtype || *s != shape {
                    return Err(OpError::internal(format!(
                        "output {index} was inferred as {d} {s:?} and is {dtype} {shape:?}"
                    )));
                }
                Ok(bytes)
            }
            Some(Slot::Made(_)) => {
                let budget = self.context.budget;
                let bytes =
                    element_count(shape).and_then(|n| dtype.bytes(n)).ok_or_else(|| budget.overflow())?;
                let buffer = Buffer::zeroed(bytes, budget)?;
                self.pending.retain(|p| p.0 != index);
                self.pending.push((index, dtype, shape.to_vec(), buffer));
                match self.pending.last_mut() {
                    Some(p) => Ok(p.3.bytes_mut()),
                    None => Ok(&mut []),
                }
            }
            None | Some(Slot::Absent) => Ok(&mut []),
        }
    }

    /// Elements of output `index` for a tensor of `shape`, which may have been unknown until now.
    pub(crate) fn shaped<T: Element>(&mut self, index: usize, shape: &[usize]) -> Result<&mut [T], OpError> {
        let bytes = self.shaped_bytes(index, T::DTYPE, shape)?;
        if bytes.is_empty() {
            return Ok(&mut []);
        }
        bytemuck::try_cast_slice_mut(bytes)
            .map_err(|_| OpError::internal(format!("output {index} is not aligned")))
    }

    /// Makes `value` output `index`; copies it where the output has a place already.
    pub(crate) fn make(&mut self, index: usize, value: Value) -> Result<(), OpError> {
        match self.outputs.get_mut(index) {
            Some(Slot::Made(place)) => **place = Some(value),
            Some(Slot::Fixed { .. }) => {
                let Value::Tensor(tensor) = value else {
                    return Err(OpError::internal(format!("output {index} is no tensor")));
                };
                let interrupt = self.context.interrupt;
                let place = self.shaped_bytes(index, tensor.dtype(), tensor.shape())?;
                interrupt.copy(place, tensor.bytes())?;
            }
            None | Some(Slot::Absent) => {}
        }
        Ok(())
    }

    /// Makes input `input` output `index`.
    pub(crate) fn hand_on(&mut self, index: usize, input: usize) -> Result<(), OpError> {
        match self.value(input)? {
            ValueRef::Tensor(view) => self.copy(index, view),
            other => {
                let value = Value::copy_of(other, self.context.budget)?;
                self.make(index, value)
            }
        }
    }

    /// Copies `view` to output `index`.
    pub(crate) fn copy(&mut self, index: usize, view: TensorView<'_>) -> Result<(), OpError> {
        if let Some(text) = view.as_strings() {
            let tensor = Tensor::strings(view.shape(), text.to_vec())
                .map_err(|_| OpError::internal("text tensor of another size than its shape"))?;
            return self.make(index, tensor.into());
        }
        if self.wants(index) {
            let interrupt = self.context.interrupt;
            interrupt.copy(self.shaped_bytes(index, view.dtype(), view.shape())?, view.bytes())?;
        }
        Ok(())
    }

    /// Runs a program whose outputs are this node's outputs `first..`, on `inputs`.
    pub(crate) fn delegate(
        &mut self,
        program: &Program,
        inputs: &[ValueRef<'_>],
        first: usize,
    ) -> Result<(), OpError> {
        let count = program.graph().outputs.len();
        // The program makes all its outputs; those that nobody wants go to a place of their own.
        let mut dropped: SmallVec<[Option<Value>; 4]> = SmallVec::from_elem(None, count);
        let mut slots: SmallVec<[Slot<'_>; 4]> = SmallVec::new();
        let mut own = self.outputs.iter_mut().skip(first);
        for place in &mut dropped {
            slots.push(match own.next() {
                Some(Slot::Fixed { dtype, shape, bytes }) => Slot::Fixed { dtype: *dtype, shape, bytes },
                Some(Slot::Made(value)) => Slot::Made(value),
                None | Some(Slot::Absent) => Slot::Made(place),
            });
        }
        program.run(inputs, &mut slots, self.context).map_err(NodeError::in_body)
    }

    /// The outputs besides output 0, whose elements have `width` bytes, taken out of their slots; theirs have `widths`.
    pub(crate) fn take_alongside(
        &mut self,
        width: usize,
        widths: &[usize],
    ) -> Result<Alongside<'a>, OpError> {
        Alongside::take(self.outputs, width, widths)
    }

    /// The scratch memory, aligned to 64.
    pub(crate) fn scratch(&mut self) -> &mut [u8] {
        self.scratch
    }

    /// Errs when the deadline has passed or the run was cancelled.
    pub(crate) fn check_interrupt(&self) -> Result<(), OpError> {
        self.context.interrupt.check()
    }

    /// Turns tensors of shapes found while running into values. The executor calls it after the kernel.
    pub(crate) fn finish(mut self) -> Result<(), OpError> {
        for (index, dtype, shape, buffer) in std::mem::take(&mut self.pending) {
            let tensor = Tensor::from_buffer(dtype, &shape, buffer)?;
            if let Some(Slot::Made(place)) = self.outputs.get_mut(index) {
                **place = Some(tensor.into());
            }
        }
        Ok(())
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the slot's bytes are given on")]
fn slot_elements<'s, T: Element>(slot: Option<&'s mut Slot<'_>>) -> Result<&'s mut [T], OpError> {
    match slot {
        Some(Slot::Fixed { dtype, bytes, .. }) => {
            if *dtype != T::DTYPE {
                return Err(OpError::internal(format!("{dtype} output written as {}", T::DTYPE)));
            }
            // Nothing may lie anywhere.
            if bytes.is_empty() {
                return Ok(&mut []);
            }
            bytemuck::try_cast_slice_mut(bytes).map_err(|_| OpError::internal("output is not aligned"))
        }
        Some(Slot::Made(_)) => Err(OpError::internal("output of unknown shape has no place")),
        None | Some(Slot::Absent) => Ok(&mut []),
    }
}
