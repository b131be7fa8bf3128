//! Running a bound program.

use super::arena::{PLACES, Shared, carve};
use super::bind::{Action, Bound, Place, Step};
use super::evaluate::evaluate;
use super::node_times::RunLane;
use super::program::Program;
use super::team::Team;
use super::waves::Wave;
use crate::cpu::{Io, RunContext, Slot};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::{NodeError, ValueId};
use crate::memory::Buffer;
use crate::tensor::{Tensor, TensorView, Value, ValueRef};
use smallvec::SmallVec;
use std::ops::Range;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// The memory of one run, reused by later runs of the same binding.
#[derive(Debug)]
pub(super) struct RunState {
    arena: Buffer,
    scratch: Buffer,
    made: Vec<Option<Value>>,
}

/// Values that what runs at once may read without a run allocating: the inputs of four layers of a wavefront.
const READ: usize = 32;

/// A place to be written, taken out of the run's state while a kernel has it.
pub(super) type Outputs<'a> = SmallVec<[Slot<'a>; PLACES]>;

/// Runs a step once on the threads that it is given, and tells how long that took.
pub(crate) type RunOnce<'a> = dyn FnMut(&Team) -> Result<Duration, OpError> + 'a;

/// What [`Bound::step_through`] calls for every step.
pub(crate) type Visit<'a> = dyn FnMut(usize, &mut RunOnce<'_>) -> Result<(), OpError> + 'a;

impl Bound {
    /// Runs with one slot per graph output, none of them absent.
    pub(crate) fn run(
        &self,
        program: &Program,
        inputs: &[ValueRef<'_>],
        outputs: &mut [Slot<'_>],
        context: RunContext<'_>,
    ) -> Result<(), NodeError> {
        let program = self.settled.as_deref().unwrap_or(program);
        self.with_slots(program, outputs, context, |slots| {
            self.with_state(program, context, |state| self.run_steps(program, inputs, slots, state, context))
        })
    }

    /// Runs with `visit` deciding how often each step runs, at least once, and on which threads: it is given the
    /// step's position and what runs it, which tells the time that it took.
    pub(crate) fn step_through(
        &self,
        program: &Program,
        inputs: &[ValueRef<'_>],
        outputs: &mut [Slot<'_>],
        context: RunContext<'_>,
        visit: &mut Visit<'_>,
    ) -> Result<(), NodeError> {
        let context = RunContext { times: None, ..context };
        self.with_slots(program, outputs, context, |slots| {
            self.with_state(program, context, |state| {
                for (at, step) in self.steps.iter().enumerate() {
                    visit(at, &mut |team| {
                        let context = RunContext { team, ..context };
                        context.interrupt.check()?;
                        let started = Instant::now();
                        self.run_step(program, step, inputs, slots, state, context)?;
                        Ok(started.elapsed())
                    })
                    .map_err(|source| step_error(program, step, source))?;
                    for &slot in &step.drops {
                        state.made[slot] = None;
                    }
                }
                Ok(())
            })
        })
    }

    /// Calls `body` with a slot for every output that is not [`Slot::Made`] where its form is known.
    pub(super) fn with_slots<E: From<NodeError>>(
        &self,
        program: &Program,
        outputs: &mut [Slot<'_>],
        context: RunContext<'_>,
        body: impl FnOnce(&mut Outputs<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let place_error = |source| E::from(NodeError::of_graph(&program.graph, source));
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
        let result = body(&mut slots);
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

    /// Calls `body` with the memory of a run.
    fn with_state(
        &self,
        program: &Program,
        context: RunContext<'_>,
        body: impl FnOnce(&mut RunState) -> Result<(), NodeError>,
    ) -> Result<(), NodeError> {
        let mut state =
            self.take_state(context).map_err(|source| NodeError::of_graph(&program.graph, source))?;
        let result = body(&mut state);
        state.made.iter_mut().for_each(|v| *v = None);
        self.states.lock().unwrap_or_else(PoisonError::into_inner).push(state);
        result
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
        let mut waves = self.waves.iter().peekable();
        let mut number = 0;
        while let Some(step) = self.steps.get(number) {
            let fail = |source| step_error(program, step, source);
            context.interrupt.check().map_err(fail)?;
            let started = times.map(|_| Instant::now());
            if let Some(wave) = waves.next_if(|wave| wave.first == number) {
                self.run_wave(program, wave, inputs, slots, state, context)?;
                let steps = &self.steps[number..number + wave.count];
                if let (Some(times), Some(started)) = (times, started) {
                    // Each has an equal share of the time; all ran through all of it.
                    let took = started.elapsed();
                    for step in steps {
                        let node = &graph.nodes[step.node];
                        times.add(step.node, node, took / wave.count as u32);
                        times.event(node, (None, RunLane::Cpu), (started, took));
                    }
                }
                steps.iter().flat_map(|step| &step.drops).for_each(|&slot| state.made[slot] = None);
                number += wave.count;
                continue;
            }
            self.run_step(program, step, inputs, slots, state, context).map_err(fail)?;
            if let (Some(times), Some(started)) = (times, started) {
                let took = started.elapsed();
                match graph.nodes.get(step.node) {
                    Some(node) => {
                        times.add(step.node, node, took);
                        times.event(node, (None, RunLane::Cpu), (started, took));
                    }
                    None => {
                        times.named(self.step_name(program, number), (None, RunLane::Cpu), (started, took));
                    }
                }
            }
            for &slot in &step.drops {
                state.made[slot] = None;
            }
            number += 1;
        }
        Ok(())
    }

    fn run_wave(
        &self,
        program: &Program,
        wave: &Wave,
        inputs: &[ValueRef<'_>],
        slots: &mut Outputs<'_>,
        state: &mut RunState,
        context: RunContext<'_>,
    ) -> Result<(), NodeError> {
        let mut failed = 0;
        let touched = (&wave.inputs[..], &wave.outputs[..]);
        self.with_places(touched, inputs, slots, state, |given, places, scratch| {
            wave.layers.run(given, places, scratch, context).map_err(|(layer, error)| {
                failed = layer;
                error
            })
        })
        .map_err(|error| step_error(program, &self.steps[wave.first + failed], error))
    }

    fn run_step(
        &self,
        program: &Program,
        step: &Step,
        inputs: &[ValueRef<'_>],
        slots: &mut Outputs<'_>,
        state: &mut RunState,
        context: RunContext<'_>,
    ) -> Result<(), OpError> {
        match &step.action {
            Action::Copy => {
                let output = step.node - program.graph.nodes.len();
                self.copy_output(step, output, inputs, slots, state, context)
            }
            Action::Kernel(kernel) => {
                let touched = (&step.inputs[..], &step.outputs[..]);
                self.with_places(touched, inputs, slots, state, |given, places, scratch| {
                    let mut io = Io::new(given, places, scratch, context);
                    kernel.run(&mut io)?;
                    io.finish()
                })
            }
            Action::Late => self.run_late(program, step, inputs, slots, state, context),
        }
    }

    /// Calls `body` with the values `read`, the places of those that are `written`, and the scratch memory.
    fn with_places(
        &self,
        (read, written): (&[Option<ValueId>], &[Option<ValueId>]),
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
        let mut taken_slots: SmallVec<[(usize, Slot<'_>); PLACES]> = SmallVec::new();
        let mut taken_made: SmallVec<[(usize, Option<Value>); PLACES]> = SmallVec::new();
        let mut writes: SmallVec<[(Range<usize>, usize); PLACES]> = SmallVec::new();
        for (index, id) in written.iter().enumerate() {
            match id.map(|id| &self.values[id.index()].place) {
                Some(Place::Output(at)) => {
                    taken_slots.push((*at, std::mem::replace(&mut slots[*at], Slot::Absent)));
                }
                Some(Place::Made(at)) => taken_made.push((*at, None)),
                Some(Place::Arena { offset, bytes, .. }) => writes.push((*offset..offset + bytes, index)),
                _ => {}
            }
        }
        let mut arena_places: SmallVec<[Option<&mut [u8]>; PLACES]> = written.iter().map(|_| None).collect();
        let shared = carve(&mut state.arena, writes, |index, bytes| arena_places[index] = Some(bytes))
            .ok_or_else(|| OpError::internal("outputs of a node overlap"))?;

        let result = {
            let mut given: SmallVec<[Option<ValueRef<'_>>; READ]> = SmallVec::new();
            for id in read {
                given.push(match id {
                    Some(id) => self.read(*id, inputs, slots, &state.made, &shared)?,
                    None => None,
                });
            }
            let (mut from_slots, mut from_made) = (taken_slots.iter_mut(), taken_made.iter_mut());
            let mut places: Outputs<'_> = SmallVec::new();
            for (id, arena) in written.iter().zip(&mut arena_places) {
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
            Place::Arena { offset, bytes, .. } => shared.get(*offset..offset + bytes).ok_or_else(missing)?,
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
        let touched = (&step.inputs[..], &step.outputs[..]);
        self.with_places(touched, inputs, slots, state, |given, places, _| {
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

/// The error of a step with the name of its node, or of the output that it copies.
pub(super) fn step_error(program: &Program, step: &Step, source: OpError) -> NodeError {
    let graph = &program.graph;
    if let Some(node) = graph.nodes.get(step.node) {
        return NodeError::new(node, source);
    }
    match graph.outputs.get(step.node - graph.nodes.len()) {
        Some(&id) => NodeError::of_output(graph, id, source),
        None => NodeError::of_graph(graph, source),
    }
}

/// Copies `value` to `slot`.
pub(crate) fn store(
    slot: &mut Slot<'_>,
    value: ValueRef<'_>,
    context: RunContext<'_>,
) -> Result<(), OpError> {
    match (slot, value) {
        (Slot::Made(place), ValueRef::Tensor(t)) => {
            **place = Some(Tensor::copy_unless(t, context.budget, context.interrupt)?.into());
        }
        (Slot::Made(place), value) => **place = Some(Value::copy_of(value, context.budget)?),
        (Slot::Fixed { dtype, shape, bytes }, ValueRef::Tensor(t)) => {
            if t.dtype() != *dtype || t.shape() != *shape || t.bytes().len() != bytes.len() {
                return Err(OpError::shape(format!(
                    "it is {} {:?}; the buffer given is {dtype} {shape:?}",
                    t.dtype(),
                    t.shape()
                )));
            }
            context.interrupt.copy(bytes, t.bytes())?;
        }
        (Slot::Absent, _) => {}
        (Slot::Fixed { .. }, _) => return Err(OpError::internal("a place for a tensor gets another kind")),
    }
    Ok(())
}
