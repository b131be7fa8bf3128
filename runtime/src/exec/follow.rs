//! Following a course: workers run steps side by side over one arena and the caller's outputs.
//!
//! The places of a step are borrowed from memory that other workers use at the same time. [`Course::check`] proved that of
//! two steps that touch a common byte, of which one writes it, one has ended when the other begins, and
//! [`walk`] runs a step only when those that come before it have ended: so a place that is written is nobody else's. Copies
//! between the host's memory and a device's are such steps, too.

use super::access::Space;
use super::bind::{Action, Bound, Located, Place, Step};
use super::course::Course;
use super::ends::end_of;
use super::node_times::RunLane;
use super::program::Program;
use super::run::{step_error, store};
use super::walk::{Hands, Route, walk};
use crate::cpu::{Io, RunContext, Slot};
use crate::cuda::{DeviceRun, Direct, GpuError, GpuFailure, StepFailure};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::{NodeError, ValueId};
use crate::memory::Buffer;
use crate::plan::Move;
use crate::tensor::{TensorView, ValueRef};
use smallvec::SmallVec;
use std::marker::PhantomData;
use std::ops::Range;
use std::time::Instant;

impl Bound {
    /// Runs along `course`, which was checked against this binding, with one slot per graph output. Slots of outputs that
    /// are `direct` have no bytes; neither have inputs that are, where [`Course::host_touches`] says that no step on the host
    /// reads them.
    pub(crate) fn follow(
        &self,
        course: &Course,
        program: &Program,
        (inputs, direct): (&[ValueRef<'_>], &Direct),
        outputs: &mut [Slot<'_>],
        context: RunContext<'_>,
    ) -> Result<(), GpuFailure> {
        self.with_slots(program, outputs, context, |slots| {
            let place_error = |source| GpuFailure::from(NodeError::of_graph(&program.graph, source));
            let mut state = course.take_state(context.budget).map_err(place_error)?;
            state.runs += 1;
            let mut places: SmallVec<[OutputPlace<'_>; 4]> = SmallVec::new();
            for slot in slots.iter_mut() {
                let Slot::Fixed { dtype, shape, bytes } = slot else {
                    return Err(place_error(OpError::internal("an output of a plan has no place")));
                };
                places.push(OutputPlace { dtype: *dtype, shape, bytes: SharedBytes::new(bytes) });
            }
            let device = match &course.device {
                Some(device) => Some(device.steps.begin(device.ends(direct), direct)?),
                None => None,
            };
            let ground = Ground {
                course,
                program,
                inputs,
                direct,
                device: device.as_ref(),
                arena: SharedBytes::new(state.arena.bytes_mut()),
                outputs: places,
                // The nodes of a body are part of the node that runs it.
                context: RunContext { times: None, ..context },
            };
            let route = Route {
                phases: &course.phases,
                serial: &course.serial,
                flags: &state.flags,
                lent: &state.lent,
                run: state.runs,
                steps: self.steps.len(),
            };
            let result = walk(&route, context.team, &mut state.scratch, &|scratch, hands, number| {
                context.interrupt.check()?;
                let started = context.times.map(|_| Instant::now());
                let lane = match self.steps.get(number) {
                    Some(_) if ground.on_device(number, context.times.is_some())? => RunLane::Device,
                    Some(step) => {
                        ground.run(step, scratch, hands)?;
                        RunLane::Cpu
                    }
                    None => ground.copy_timed(number - self.steps.len(), context.times.is_some())?,
                };
                if let (Some(times), Some(started)) = (context.times, started) {
                    let took = started.elapsed();
                    match self.steps.get(number) {
                        Some(step) => match program.graph.nodes.get(step.node) {
                            Some(node) => {
                                times.add(step.node, node, took);
                                times.event(node, (hands.worker, lane), (started, took));
                            }
                            None => {
                                let value = self.step_name(program, number);
                                times.named(value, (hands.worker, lane), (started, took));
                            }
                        },
                        None => {
                            times.copy(number - self.steps.len(), (hands.worker, lane), (started, took));
                        }
                    }
                }
                Ok(())
            });
            drop(ground);
            course.put_back(state);
            match result {
                Ok(()) => device.map_or(Ok(()), |device| device.end(context.interrupt)),
                Err((step, StepFailure::Op(source))) => Err(match self.steps.get(step) {
                    Some(step) => step_error(program, step, source).into(),
                    None => place_error(source),
                }),
                Err((_, StepFailure::Gpu(error))) => Err(error.into()),
            }
        })
    }
}

/// Memory that several workers use at once, each its own ranges.
struct SharedBytes<'a> {
    base: *mut u8,
    len: usize,
    _bytes: PhantomData<&'a mut [u8]>,
}

// SAFETY: it is a mutable borrow of plain bytes, of which ranges are handed out under the conditions of its methods.
unsafe impl Send for SharedBytes<'_> {}
// SAFETY: as above.
unsafe impl Sync for SharedBytes<'_> {}

impl<'a> SharedBytes<'a> {
    fn new(bytes: &'a mut [u8]) -> Self {
        Self { base: bytes.as_mut_ptr(), len: bytes.len(), _bytes: PhantomData }
    }

    /// The bytes of `range`; `None` where they are not inside.
    ///
    /// # Safety
    /// While the result is used, nobody writes any of the bytes.
    unsafe fn read(&self, range: Range<usize>) -> Option<&[u8]> {
        let count = range.end.checked_sub(range.start).filter(|_| range.end <= self.len)?;
        // SAFETY: the range is inside the memory, which is borrowed for `'a`; that nobody writes it is required above.
        Some(unsafe { std::slice::from_raw_parts(self.base.add(range.start), count) })
    }

    /// The bytes of `range` to be written; `None` where they are not inside.
    ///
    /// # Safety
    /// While the result is used, nobody else reads or writes any of the bytes.
    #[allow(clippy::mut_from_ref, reason = "ranges are exclusive by the method's condition")]
    unsafe fn write(&self, range: Range<usize>) -> Option<&mut [u8]> {
        let count = range.end.checked_sub(range.start).filter(|_| range.end <= self.len)?;
        // SAFETY: the range is inside the memory, which is borrowed for `'a`; that it is exclusive is required above.
        Some(unsafe { std::slice::from_raw_parts_mut(self.base.add(range.start), count) })
    }
}

/// The caller's place for an output.
struct OutputPlace<'a> {
    dtype: DType,
    shape: &'a [usize],
    bytes: SharedBytes<'a>,
}

/// What all steps of one run share.
struct Ground<'a, 'd> {
    course: &'a Course,
    program: &'a Program,
    inputs: &'a [ValueRef<'a>],
    direct: &'a Direct,
    /// What some steps run on.
    device: Option<&'d DeviceRun<'d>>,
    arena: SharedBytes<'a>,
    outputs: SmallVec<[OutputPlace<'a>; 4]>,
    context: RunContext<'a>,
}

impl Ground<'_, '_> {
    /// Runs one step, when those that come before it on the course have ended.
    fn run(&self, step: &Step, scratch: &mut Buffer, hands: Hands<'_>) -> Result<(), OpError> {
        let context = RunContext { team: hands.team, ..self.context };
        let mut given: SmallVec<[Option<ValueRef<'_>>; 8]> = SmallVec::new();
        for id in &step.inputs {
            given.push(id.map(|id| self.value(id)).transpose()?);
        }
        match &step.action {
            Action::Kernel(kernel) => {
                let mut places: SmallVec<[Slot<'_>; 4]> = SmallVec::new();
                for id in &step.outputs {
                    places.push(match id {
                        Some(id) => self.place(*id)?,
                        None => Slot::Absent,
                    });
                }
                let mut io = Io::new(&given, &mut places, scratch.bytes_mut(), context);
                kernel.run(&mut io)?;
                io.finish()
            }
            Action::Copy => {
                let place = step.node.checked_sub(self.program.graph.nodes.len());
                let place = place.and_then(|at| self.outputs.get(at)).ok_or_else(lost)?;
                // SAFETY: the step writes all of this output; by the module's argument no other step touches it now.
                let bytes = unsafe { place.bytes.write(0..place.bytes.len) }.ok_or_else(lost)?;
                let mut slot = Slot::Fixed { dtype: place.dtype, shape: place.shape, bytes };
                let value = given.first().copied().flatten().ok_or_else(lost)?;
                store(&mut slot, value, context)
            }
            Action::Late => Err(OpError::internal("a step of a plan is prepared late")),
        }
    }

    /// Launches step `number` where it runs on a device, and waits for it where it is timed; whether it does.
    fn on_device(&self, number: usize, timed: bool) -> Result<bool, GpuError> {
        let Some(device) = self.device.filter(|device| device.has(number)) else { return Ok(false) };
        if timed {
            device.launch_alone(number)?;
            device.wait(self.context.interrupt)?;
        } else {
            device.launch(number)?;
        }
        Ok(true)
    }

    /// Makes copy `number`, and waits for it where it is timed; which way it went.
    fn copy_timed(&self, number: usize, timed: bool) -> Result<RunLane, StepFailure> {
        let way = self.copy(number, timed)?;
        if let Some(device) = self.device.filter(|_| timed) {
            device.wait(self.context.interrupt)?;
        }
        Ok(way)
    }

    /// Makes copy `number`, when what it copies has been written, by itself where it is timed; which way it went.
    fn copy(&self, number: usize, timed: bool) -> Result<RunLane, StepFailure> {
        let (Some(device), Some(course)) = (self.device, &self.course.device) else {
            return Err(lost().into());
        };
        let Move { space, bytes, up } = course.copies.get(number).ok_or_else(lost)?;
        let way = if *up { RunLane::ToDevice } else { RunLane::FromDevice };
        if end_of(*space, self.direct).is_some() {
            if *up {
                device.bring(number, timed)?;
            } else {
                device.down_there(number, timed, self.context.interrupt)?;
            }
            return Ok(way);
        }
        let (shared, range) = match *space {
            Space::Input(at) => {
                let view = self.inputs.get(at).and_then(|value| value.tensor()).ok_or_else(lost)?;
                let from = view.bytes().get(bytes.clone()).filter(|_| *up).ok_or_else(lost)?;
                device.up(number, from, timed)?;
                return Ok(way);
            }
            Space::Tenant(at) => {
                let offset = *self.course.offsets.get(at).ok_or_else(lost)?;
                (&self.arena, offset + bytes.start..offset + bytes.end)
            }
            Space::Output(at) => (&self.outputs.get(at).ok_or_else(lost)?.bytes, bytes.clone()),
            Space::Weights(_) => {
                device.bring(number, timed)?;
                return Ok(way);
            }
        };
        if *up {
            // SAFETY: copies are accesses like those of steps, of which the module's argument holds: who writes any of these
            // bytes has ended, or begins when this has ended.
            let from = unsafe { shared.read(range) }.ok_or_else(lost)?;
            device.up(number, from, timed)?;
            return Ok(way);
        }
        // SAFETY: as above; nobody else touches these bytes now.
        let to = unsafe { shared.write(range) }.ok_or_else(lost)?;
        device.down(number, to, timed, self.context.interrupt)?;
        Ok(way)
    }

    /// A value to be read.
    fn value(&self, id: ValueId) -> Result<ValueRef<'_>, OpError> {
        let Located { place, offset, form } = &self.course.values[id.index()];
        let (dtype, shape) = form.as_ref().ok_or_else(lost)?;
        let own = crate::tensor::element_count(shape).and_then(|n| dtype.bytes(n)).ok_or_else(lost)?;
        let part = |bytes: &'_ [u8]| -> Option<Range<usize>> {
            let end = offset.checked_add(own)?;
            (end <= bytes.len()).then_some(*offset..end)
        };
        let bytes = match place {
            Place::Input(at) => {
                let ValueRef::Tensor(view) = self.inputs[*at] else { return Ok(self.inputs[*at]) };
                let bytes = view.bytes();
                &bytes[part(bytes).ok_or_else(lost)?]
            }
            Place::Constant(tensor) => &tensor.bytes()[part(tensor.bytes()).ok_or_else(lost)?],
            Place::Output(at) => {
                // SAFETY: who writes any of these bytes has ended, or begins when this step has ended: by the module's
                // argument, since the step reads them.
                unsafe { self.outputs[*at].bytes.read(*offset..*offset + own) }.ok_or_else(lost)?
            }
            Place::Arena { offset, bytes, .. } => {
                // SAFETY: as above.
                let all = unsafe { self.arena.read(*offset..offset + bytes) };
                all.and_then(|b| b.get(..own)).ok_or_else(lost)?
            }
            Place::Nowhere | Place::Made(_) => return Err(lost()),
        };
        Ok(ValueRef::Tensor(TensorView::over_bytes(*dtype, shape, bytes)))
    }

    /// The place of a value to be written.
    fn place(&self, id: ValueId) -> Result<Slot<'_>, OpError> {
        let Located { place, form, .. } = &self.course.values[id.index()];
        let (dtype, shape) = form.as_ref().ok_or_else(lost)?;
        let bytes = match place {
            Place::Nowhere => return Ok(Slot::Absent),
            Place::Arena { offset, bytes, .. } => {
                // SAFETY: no other step that touches these bytes runs now, by the module's argument, since the step
                // writes them; the values that one step writes lie apart, which is checked too.
                unsafe { self.arena.write(*offset..offset + bytes) }
            }
            Place::Output(at) => {
                let own =
                    crate::tensor::element_count(shape).and_then(|n| dtype.bytes(n)).ok_or_else(lost)?;
                // SAFETY: as above.
                unsafe { self.outputs[*at].bytes.write(0..own) }
            }
            Place::Input(_) | Place::Constant(_) | Place::Made(_) => None,
        };
        Ok(Slot::Fixed { dtype: *dtype, shape, bytes: bytes.ok_or_else(lost)? })
    }
}

fn lost() -> OpError {
    OpError::internal("a value of a plan has no place")
}
