//! Running a bound program.

use super::arena::{Shared, carve};
use super::bind::{Action, Bound, Place, Step};
use super::program::{Program, fact_of};
use crate::cpu::{CpuSite, Io, RunContext, Slot};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::fact::{Content, Fact, Facts};
use crate::graph::{NodeError, ValueId, infer_node};
use crate::memory::Buffer;
use crate::ops::{Op, Packed};
use crate::tensor::{Shape, Tensor, TensorView, Value, ValueRef};
use smallvec::SmallVec;
use std::ops::Range;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

/// Tensors of at most this many elements are shown to shape inference when a node is prepared late: shapes,
/// axes, counts and bounds are smaller.
const SHAPE_INPUT_LIMIT: usize = 1024;

/// The memory of one run, reused by later runs of the same binding.
#[derive(Debug)]
pub(super) struct RunState {
    arena: Buffer,
    scratch: Buffer,
    made: Vec<Option<Value>>,
}

/// A place to be written, taken out of the run's state while a kernel has it.
type Outputs<'a> = SmallVec<[Slot<'a>; 4]>;

impl Bound {
    /// Runs with one slot per graph output, none of them absent.
    pub(crate) fn run(
        &self,
        program: &Program,
        inputs: &[ValueRef<'_>],
        outputs: &mut [Slot<'_>],
        context: RunContext<'_>,
    ) -> Result<(), NodeError> {
        let place_error =
            |source| NodeError { node: program.graph.name.to_string(), op: "graph".into(), source };
        // Outputs of known form whose slot is to be made get a buffer first.
        let mut buffers: SmallVec<[Option<Arc<Buffer>>; 4]> = SmallVec::new();
        for (index, slot) in outputs.iter().enumerate() {
            let wanted = matches!(slot, Slot::Made(_));
            buffers.push(if wanted {
                self.output_buffer(index, context).map_err(place_error)?
            } else {
                None
            });
        }
        let mut slots: Outputs<'_> = SmallVec::new();
        for (index, (slot, buffer)) in outputs.iter_mut().zip(&mut buffers).enumerate() {
            // Nobody else holds these buffers, so that all of them can be written.
            let buffer = buffer.as_mut().and_then(Arc::get_mut);
            slots.push(match (slot, buffer, self.output_form(index)) {
                (Slot::Made(_), Some(buffer), Some((dtype, shape))) => {
                    Slot::Fixed { dtype, shape, bytes: buffer.bytes_mut() }
                }
                (Slot::Made(place), _, _) => Slot::Made(place),
                (Slot::Fixed { dtype, shape, bytes }, _, _) => Slot::Fixed { dtype: *dtype, shape, bytes },
                (Slot::Absent, _, _) => {
                    return Err(place_error(OpError::internal("a graph output has no slot")));
                }
            });
        }
        let mut state = self.take_state(context).map_err(place_error)?;
        let result = self.run_steps(program, inputs, &mut slots, &mut state, context);
        state.made.iter_mut().for_each(|v| *v = None);
        self.states.lock().unwrap_or_else(PoisonError::into_inner).push(state);
        drop(slots);
        result?;
        for (index, (slot, buffer)) in outputs.iter_mut().zip(buffers).enumerate() {
            if let (Slot::Made(place), Some(buffer), Some((dtype, shape))) =
                (slot, buffer, self.output_form(index))
            {
                self.lent.lend(index, &buffer);
                **place = Some(Tensor::from_shared(dtype, shape, buffer).map_err(place_error)?.into());
            }
        }
        Ok(())
    }

    /// A buffer that nobody else holds for output `index`, when its form is known: that of the latest run, when the
    /// tensor over it is gone.
    fn output_buffer(&self, index: usize, context: RunContext<'_>) -> Result<Option<Arc<Buffer>>, OpError> {
        let Some((dtype, shape)) = self.output_form(index) else { return Ok(None) };
        let bytes = crate::tensor::element_count(shape).and_then(|n| dtype.bytes(n));
        let bytes = bytes.ok_or_else(|| context.budget.overflow())?;
        if let Some(buffer) = self.lent.take(index, bytes) {
            return Ok(Some(buffer));
        }
        Buffer::zeroed(bytes, context.budget).map(|buffer| Some(Arc::new(buffer)))
    }

    fn take_state(&self, context: RunContext<'_>) -> Result<RunState, OpError> {
        if let Some(state) = self.states.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(state);
        }
        Ok(RunState {
            arena: Buffer::zeroed(self.arena, context.budget)?,
            scratch: Buffer::zeroed(self.scratch, context.budget)?,
            made: vec![None; self.made],
        })
    }

    fn run_steps<'a>(
        &'a self,
        program: &Program,
        inputs: &'a [ValueRef<'a>],
        slots: &mut Outputs<'_>,
        state: &mut RunState,
        context: RunContext<'_>,
    ) -> Result<(), NodeError> {
        let graph = &program.graph;
        // The nodes of a body are part of the node that runs it.
        let times = context.times;
        let context = RunContext { times: None, ..context };
        for step in &self.steps {
            let fail = |source| match graph.nodes.get(step.node) {
                Some(node) => NodeError::new(node, source),
                None => NodeError { node: graph.name.to_string(), op: "output".into(), source },
            };
            context.interrupt.check().map_err(fail)?;
            let started = times.map(|_| Instant::now());
            match &step.action {
                Action::Copy => {
                    self.copy_output(step, step.node - graph.nodes.len(), inputs, slots, state, context)
                }
                Action::Kernel(kernel) => {
                    self.with_places(step, inputs, slots, state, |given, places, scratch| {
                        let mut io = Io::new(given, places, scratch, context);
                        kernel.run(&mut io)?;
                        io.finish()
                    })
                }
                Action::Late => self.run_late(program, step, inputs, slots, state, context),
            }
            .map_err(fail)?;
            if let (Some(times), Some(started), Some(node)) = (times, started, graph.nodes.get(step.node)) {
                times.add(step.node, node, started.elapsed());
            }
            for &slot in &step.drops {
                state.made[slot] = None;
            }
        }
        Ok(())
    }

    /// Calls `body` with the step's inputs, the places of its outputs, and the scratch memory.
    fn with_places(
        &self,
        step: &Step,
        inputs: &[ValueRef<'_>],
        slots: &mut Outputs<'_>,
        state: &mut RunState,
        body: impl for<'x, 'y> FnOnce(
            &'y [Option<ValueRef<'x>>],
            &'y mut [Slot<'x>],
            &'y mut [u8],
        ) -> Result<(), OpError>,
    ) -> Result<(), OpError> {
        // What is written leaves the state for the time of the call: arena ranges by carving, made values and
        // caller's slots by being taken out.
        let mut taken_slots: SmallVec<[(usize, Slot<'_>); 4]> = SmallVec::new();
        let mut taken_made: SmallVec<[(usize, Option<Value>); 4]> = SmallVec::new();
        let mut writes: SmallVec<[(Range<usize>, usize); 4]> = SmallVec::new();
        for (index, id) in step.outputs.iter().enumerate() {
            match id.map(|id| &self.values[id.index()].place) {
                Some(Place::Output(at)) => {
                    taken_slots.push((*at, std::mem::replace(&mut slots[*at], Slot::Absent)));
                }
                Some(Place::Made(at)) => taken_made.push((*at, None)),
                Some(Place::Arena { offset, bytes }) => writes.push((*offset..offset + bytes, index)),
                _ => {}
            }
        }
        let mut arena_places: SmallVec<[Option<&mut [u8]>; 4]> = step.outputs.iter().map(|_| None).collect();
        let shared = carve(&mut state.arena, writes, |index, bytes| arena_places[index] = Some(bytes))
            .ok_or_else(|| OpError::internal("outputs of a node overlap"))?;

        let result = {
            let mut given: SmallVec<[Option<ValueRef<'_>>; 8]> = SmallVec::new();
            for id in &step.inputs {
                given.push(match id {
                    Some(id) => self.read(*id, inputs, slots, &state.made, &shared)?,
                    None => None,
                });
            }
            let (mut from_slots, mut from_made) = (taken_slots.iter_mut(), taken_made.iter_mut());
            let mut places: Outputs<'_> = SmallVec::new();
            for (id, arena) in step.outputs.iter().zip(&mut arena_places) {
                let located = id.map(|id| &self.values[id.index()]);
                places.push(match (located, arena.take()) {
                    (Some(l), Some(bytes)) => {
                        let (dtype, shape) = l.form.as_ref().ok_or_else(|| OpError::internal("no form"))?;
                        Slot::Fixed { dtype: *dtype, shape, bytes }
                    }
                    (Some(l), None) => match l.place {
                        Place::Output(_) => match from_slots.next().map(|(_, s)| s) {
                            Some(Slot::Fixed { dtype, shape, bytes }) => match &l.form {
                                // The output may be a view of this value under another shape.
                                Some((dtype, shape)) => Slot::Fixed { dtype: *dtype, shape, bytes },
                                None => Slot::Fixed { dtype: *dtype, shape, bytes },
                            },
                            Some(Slot::Made(place)) => Slot::Made(place),
                            _ => Slot::Absent,
                        },
                        Place::Made(_) => match from_made.next() {
                            Some((_, place)) => Slot::Made(place),
                            None => Slot::Absent,
                        },
                        _ => Slot::Absent,
                    },
                    (None, _) => Slot::Absent,
                });
            }
            body(&given, &mut places, state.scratch.bytes_mut())
        };
        for (at, slot) in taken_slots {
            slots[at] = slot;
        }
        for (at, value) in taken_made {
            state.made[at] = value;
        }
        result
    }

    /// The value `id`, wherever it is.
    fn read<'r, 's: 'r>(
        &'r self,
        id: ValueId,
        inputs: &'r [ValueRef<'r>],
        slots: &'r [Slot<'_>],
        made: &'r [Option<Value>],
        shared: &Shared<'s>,
    ) -> Result<Option<ValueRef<'r>>, OpError> {
        let located = &self.values[id.index()];
        let missing = || OpError::internal(format!("value {} is read before it is there", id.index()));
        let bytes: &[u8] = match &located.place {
            Place::Nowhere => return Err(missing()),
            Place::Made(at) => return Ok(Some(made[*at].as_ref().ok_or_else(missing)?.as_ref())),
            Place::Input(at) => match (inputs[*at], &located.form) {
                (ValueRef::Tensor(t), Some((dtype, _))) if *dtype != DType::String => t.bytes(),
                (other, _) => return Ok(Some(other)),
            },
            Place::Constant(t) if t.dtype() == DType::String => return Ok(Some(ValueRef::Tensor(t.view()))),
            Place::Constant(t) => t.bytes(),
            Place::Output(at) => match &slots[*at] {
                Slot::Fixed { bytes, .. } => bytes,
                Slot::Made(value) => return Ok(Some(value.as_ref().ok_or_else(missing)?.as_ref())),
                Slot::Absent => return Err(missing()),
            },
            Place::Arena { offset, bytes } => shared.get(*offset..offset + bytes).ok_or_else(missing)?,
        };
        let (dtype, shape) = located.form.as_ref().ok_or_else(missing)?;
        let own = crate::tensor::element_count(shape).and_then(|n| dtype.bytes(n)).ok_or_else(missing)?;
        let bytes = bytes.get(located.offset..).and_then(|b| b.get(..own)).ok_or_else(missing)?;
        Ok(Some(ValueRef::Tensor(TensorView::over_bytes(*dtype, shape, bytes))))
    }

    fn copy_output(
        &self,
        step: &Step,
        output: usize,
        inputs: &[ValueRef<'_>],
        slots: &mut Outputs<'_>,
        state: &mut RunState,
        context: RunContext<'_>,
    ) -> Result<(), OpError> {
        let mut target = [std::mem::replace(&mut slots[output], Slot::Absent)];
        let result = (|| {
            let shared = carve(&mut state.arena, SmallVec::new(), |_, _| ())
                .ok_or_else(|| OpError::internal("an empty carving fails"))?;
            let id = step.inputs[0].ok_or_else(|| OpError::internal("a copy of nothing"))?;
            let value = self.read(id, inputs, slots, &state.made, &shared)?;
            store(&mut target[0], value.ok_or_else(|| OpError::internal("a copy of nothing"))?, context)
        })();
        let [target] = target;
        slots[output] = target;
        result
    }

    /// Prepares a node with the facts of the moment and runs it.
    fn run_late(
        &self,
        program: &Program,
        step: &Step,
        inputs: &[ValueRef<'_>],
        slots: &mut Outputs<'_>,
        state: &mut RunState,
        context: RunContext<'_>,
    ) -> Result<(), OpError> {
        let wanted: SmallVec<[bool; 4]> = step.outputs.iter().map(Option::is_some).collect();
        self.with_places(step, inputs, slots, state, |given, places, _| {
            let op = &*program.graph.nodes[step.node].op;
            let made = evaluate(op, program.packed[step.node].as_ref(), given, &wanted, context)?;
            for (place, value) in places.iter_mut().zip(made) {
                if let Some(value) = value {
                    match place {
                        Slot::Made(to) => **to = Some(value),
                        _ => store(place, value.as_ref(), context)?,
                    }
                }
            }
            Ok(())
        })
    }
}

/// Copies `value` to `slot`.
pub(crate) fn store(
    slot: &mut Slot<'_>,
    value: ValueRef<'_>,
    context: RunContext<'_>,
) -> Result<(), OpError> {
    match (slot, value) {
        (Slot::Made(place), value) => **place = Some(Value::copy_of(value, context.budget)?),
        (Slot::Fixed { dtype, shape, bytes }, ValueRef::Tensor(t)) => {
            if t.dtype() != *dtype || t.shape() != *shape || t.bytes().len() != bytes.len() {
                return Err(OpError::shape(format!(
                    "the output is {} {:?}, its place {dtype} {shape:?}",
                    t.dtype(),
                    t.shape()
                )));
            }
            bytes.copy_from_slice(t.bytes());
        }
        (Slot::Absent, _) => {}
        (Slot::Fixed { .. }, _) => return Err(OpError::internal("a place for a tensor gets another kind")),
    }
    Ok(())
}

/// Infers, prepares and runs `op` with values at hand; outputs that are not wanted are `None`.
pub(crate) fn evaluate(
    op: &dyn Op,
    packed: Option<&Packed>,
    given: &[Option<ValueRef<'_>>],
    wanted: &[bool],
    context: RunContext<'_>,
) -> Result<Vec<Option<Value>>, OpError> {
    let facts: Vec<Option<Fact>> = given
        .iter()
        .map(|v| v.map(|v| fact_with_content(v, context)).transpose())
        .collect::<Result<_, _>>()?;
    let known: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
    let outputs = infer_node(op, Facts(&known))?;
    let site = CpuSite {
        inputs: Facts(&known),
        outputs: &outputs,
        wanted,
        packed,
        threads: context.team.threads(),
        epilogue: None,
        strided: &[],
    };
    let kernel = op.cpu(&site)?;
    let mut scratch = Buffer::zeroed(kernel.scratch(), context.budget)?;

    let forms: Vec<Option<(DType, Shape)>> = outputs
        .iter()
        .map(|f| {
            let t = f.tensor().filter(|t| t.dtype != DType::String)?;
            Some((t.dtype, t.known_shape()?))
        })
        .collect();
    let mut buffers: Vec<Option<Buffer>> = Vec::with_capacity(wanted.len());
    for (form, &wanted) in forms.iter().zip(wanted) {
        let bytes = match form {
            Some((dtype, shape)) if wanted => Some(
                crate::tensor::element_count(shape)
                    .and_then(|n| dtype.bytes(n))
                    .ok_or_else(|| context.budget.overflow())?,
            ),
            _ => None,
        };
        buffers.push(bytes.map(|b| Buffer::zeroed(b, context.budget)).transpose()?);
    }
    let mut values: Vec<Option<Value>> = vec![None; wanted.len()];
    {
        let mut slots: Vec<Slot<'_>> = Vec::with_capacity(wanted.len());
        for (((form, buffer), value), &wanted) in forms.iter().zip(&mut buffers).zip(&mut values).zip(wanted)
        {
            slots.push(match (form, buffer) {
                _ if !wanted => Slot::Absent,
                (Some((dtype, shape)), Some(buffer)) => {
                    Slot::Fixed { dtype: *dtype, shape, bytes: buffer.bytes_mut() }
                }
                _ => Slot::Made(value),
            });
        }
        let mut io = Io::new(given, &mut slots, scratch.bytes_mut(), context);
        kernel.run(&mut io)?;
        io.finish()?;
    }
    for ((value, buffer), form) in values.iter_mut().zip(buffers).zip(&forms) {
        if let (Some(buffer), Some((dtype, shape))) = (buffer, form) {
            *value = Some(Tensor::from_buffer(*dtype, shape, buffer)?.into());
        }
    }
    Ok(values)
}

/// The fact of a value at hand, with the content of small tensors.
fn fact_with_content(value: ValueRef<'_>, context: RunContext<'_>) -> Result<Fact, OpError> {
    let mut fact = fact_of(value);
    if let (Fact::Tensor(f), ValueRef::Tensor(t)) = (&mut fact, value)
        && t.len() <= SHAPE_INPUT_LIMIT
    {
        f.content = Content::Constant(Tensor::copy_of(t, context.budget)?);
    }
    Ok(fact)
}
