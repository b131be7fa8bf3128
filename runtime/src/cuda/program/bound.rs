//! A graph with the shapes of its inputs known: launches whose operands have addresses, and nodes that run on the host
//! between them.
//!
//! What a run needs, its stream, arena and pinned memory, is its own: runs of one binding may be under way side by side.
//! Launches between two nodes of the host are captured once they have run, and replayed from then on.

use super::device_step::DeviceStep;
use super::flow::{Growing, Running};
use super::host::{HostStep, Memory};
use super::outputs::Output;
use super::place::Place;
use super::residency::fits;
use super::{GpuFailure, GpuProgram, StepFailure, node_error};
use crate::cpu::{RunContext, Slot};
use crate::cuda::families::flow::Course;
use crate::cuda::site::Launches;
use crate::cuda::{Block, Direct, Event, GpuError, GpuReject, Pinned, Replay, Stream};
use crate::dtype::DType;
use crate::error::OpError;
use crate::exec::{Interrupt, NodeTimes};
use crate::memory::Charge;
use crate::tensor::{Value, ValueRef};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One node and what it works on.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) node: usize,
    pub(super) work: Work,
}

/// Where a node runs.
#[derive(Debug)]
pub(super) enum Work {
    Device(Box<DeviceStep>),
    Host(HostStep),
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct GpuBound {
    pub(super) steps: Vec<Step>,
    /// Input `index` of the graph: its place and its offset in pinned memory.
    pub(super) inputs: Vec<(Place, usize)>,
    pub(super) outputs: Vec<Output>,
    pub(super) arena: usize,
    /// Bytes of the arena that would do without workspaces.
    pub(super) values: usize,
    pub(super) pinned: usize,
    /// Kernels that a run launches.
    pub(super) launches: usize,
    /// Values that are on the host during a run.
    pub(super) slots: usize,
    /// What is on the device for this binding alone, and the constants that it reads.
    pub(super) resident: Vec<Arc<Block>>,
    pub(super) states: Mutex<Vec<Held>>,
}

/// What one run needs.
pub(super) struct State {
    stream: Box<dyn Stream>,
    pub(super) pinned: Box<dyn Pinned>,
    _charge: Charge,
    pub(super) arena: Block,
    /// Those of each step.
    launches: Vec<Launches>,
    /// By step, what data decides about.
    flows: Vec<Option<Course>>,
    growing: Growing,
    /// Steps in a row that run on the device whatever data says, and the same captured, once they have run.
    stretches: Vec<(Range<usize>, Option<Box<dyn Replay>>)>,
    pub(super) slots: Vec<Option<Value>>,
    /// Whether a run ended before its stream did.
    under_way: bool,
}

/// A state whose work is waited for when it is dropped, but not for ever.
#[derive(Debug)]
pub(super) struct Held(Option<State>);

/// A state while a run uses it with memory of the caller, which it lets go of even when a kernel panics.
struct Using<'d> {
    held: Held,
    direct: &'d Direct,
}

impl Using<'_> {
    /// The state, which no longer uses that memory, unless that is noted.
    fn end(&mut self) -> Held {
        let mut held = std::mem::replace(&mut self.held, Held(None));
        if let Some(state) = held.0.as_mut().filter(|state| state.under_way && !self.direct.is_empty()) {
            state.let_go(self.direct);
        }
        held
    }
}

impl Drop for Using<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

/// How long work that nobody waits for any more may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// Says when to stop waiting for that.
fn grace() -> Interrupt {
    Interrupt { deadline: Some(Instant::now() + GRACE), cancel: None }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "State({:?}, {} steps)", self.arena, self.launches.len())
    }
}

impl GpuBound {
    /// Dtype and shape of output `index`, when they do not depend on data.
    pub(crate) fn output_form(&self, index: usize) -> Option<(DType, &[usize])> {
        self.outputs.get(index)?.form.as_ref().map(|(dtype, shape)| (*dtype, shape.as_slice()))
    }

    /// Runs with one slot per graph output. What of inputs and outputs is `direct` is copied from and to there alone.
    pub(crate) fn run(
        &self,
        program: &GpuProgram,
        (inputs, direct): (&[ValueRef<'_>], &Direct),
        outputs: &mut [Slot<'_>],
        context: RunContext<'_>,
    ) -> Result<(), GpuFailure> {
        let mut using = Using { held: self.take_state(program)?, direct };
        let Some(state) = &mut using.held.0 else {
            return Err(GpuFailure::Node(node_error(
                &program.graph,
                usize::MAX,
                OpError::internal("a state that was given up"),
            )));
        };
        let ran = self.run_with(program, state, (inputs, direct), outputs, context);
        state.slots.fill(None);
        let held = using.end();
        // A lost GPU loses the state with it.
        if !matches!(ran, Err(GpuFailure::Gpu(GpuError::Lost { .. } | GpuError::Emulator { .. }))) {
            self.states.lock().unwrap_or_else(PoisonError::into_inner).push(held);
        }
        ran
    }

    fn run_with(
        &self,
        program: &GpuProgram,
        state: &mut State,
        (inputs, direct): (&[ValueRef<'_>], &Direct),
        outputs: &mut [Slot<'_>],
        context: RunContext<'_>,
    ) -> Result<(), GpuFailure> {
        let graph_error = |source| GpuFailure::Node(node_error(&program.graph, usize::MAX, source));
        // Work that is done before somebody looks at the clock would hide that its time had passed already.
        context.interrupt.check().map_err(|_| GpuError::Interrupted)?;
        if std::mem::replace(&mut state.under_way, true) {
            state.stream.finish(context.interrupt)?;
            state.growing = Growing::default();
        }
        for (index, (value, (place, offset))) in inputs.iter().zip(&self.inputs).enumerate() {
            let (ValueRef::Tensor(tensor), Some((address, bytes))) = (value, place.address(&state.arena))
            else {
                continue;
            };
            if let Some(from) = direct.input(index) {
                state.stream.copy(address, from, bytes)?;
                continue;
            }
            let from = tensor.bytes();
            if from.len() != bytes {
                return Err(graph_error(OpError::internal(
                    "an input has another size than it was bound for",
                )));
            }
            state.pinned.write(*offset, from)?;
            state.stream.copy(address, state.pinned.address() + *offset as u64, bytes)?;
        }
        for (_, step) in self.device_steps() {
            step.begin(&*state.pinned)?;
        }
        match context.times {
            Some(times) => self.timed(program, state, inputs, times, context)?,
            None => self.steps(program, state, inputs, context)?,
        }
        for (index, output) in self.outputs.iter().enumerate() {
            if let Some((to, from, bytes)) = output.transfer(state, direct, direct.output(index)) {
                state.stream.copy(to, from, bytes)?;
            }
        }
        state.stream.finish(context.interrupt)?;
        state.under_way = false;
        for (node, step) in self.device_steps() {
            let Some(offset) = step.words.fault else { continue };
            let mut word = [0; 4];
            state.pinned.read(offset, &mut word)?;
            if word != [0; 4] {
                return Err(node_error(&program.graph, node, step.kernel.fault_found()).into());
            }
        }
        for (index, (output, slot)) in self.outputs.iter().zip(outputs).enumerate() {
            if direct.output(index).is_none() {
                output.store(program, state, inputs, slot, context)?;
            }
        }
        Ok(())
    }

    /// Nodes that run on the device.
    fn device_steps(&self) -> impl Iterator<Item = (usize, &DeviceStep)> {
        self.steps.iter().filter_map(|step| match &step.work {
            Work::Device(work) => Some((step.node, &**work)),
            Work::Host(_) => None,
        })
    }

    fn take_state(&self, program: &GpuProgram) -> Result<Held, GpuFailure> {
        if let Some(state) = self.states.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(state);
        }
        let gpu = program.gpu.gpu();
        let arena = program.arena(self.arena)?;
        let stream = gpu.stream()?;
        let (pinned, charge) = program.pinned(self.pinned).map_err(|failure| program.of_graph(failure))?;
        let mut stretches: Vec<(Range<usize>, Option<Box<dyn Replay>>)> = Vec::new();
        let mut launches = Vec::with_capacity(self.steps.len());
        let mut flows = Vec::with_capacity(self.steps.len());
        for (at, step) in self.steps.iter().enumerate() {
            flows.push(None);
            let Work::Device(work) = &step.work else {
                launches.push(Vec::new());
                continue;
            };
            let rejected = |reject| {
                let node = &program.graph.nodes[step.node];
                let why = GpuReject::Kernel(reject);
                GpuFailure::Rejected(vec![(node.name.to_string(), node.def.full_name(), why)])
            };
            if let Some(flow) = work.kernel.flow() {
                let course = work.prepared(&arena, &*pinned, &flow.course).map_err(rejected)?;
                course.each(&mut |part| part.launches.iter().try_for_each(|launch| fits(gpu, &**launch)))?;
                flows[at] = Some(course);
                launches.push(Vec::new());
                continue;
            }
            let made = work.launches(&arena, &*pinned).map_err(rejected)?;
            made.iter().try_for_each(|launch| fits(gpu, &**launch))?;
            launches.push(made);
            match stretches.last_mut() {
                Some((range, _)) if range.end == at => range.end = at + 1,
                _ => stretches.push((at..at + 1, None)),
            }
        }
        let slots = vec![None; self.slots];
        Ok(Held(Some(State {
            stream,
            pinned,
            _charge: charge,
            arena,
            launches,
            flows,
            growing: Growing::default(),
            stretches,
            slots,
            under_way: false,
        })))
    }

    /// Stretches of launches, each at once, and what the host does between them.
    fn steps(
        &self,
        program: &GpuProgram,
        state: &mut State,
        inputs: &[ValueRef<'_>],
        context: RunContext<'_>,
    ) -> Result<(), GpuFailure> {
        let (mut at, mut stretch) = (0, 0);
        while at < self.steps.len() {
            if matches!(self.steps[at].work, Work::Host(_)) {
                self.host(program, state, at, inputs, context)?;
                at += 1;
                continue;
            }
            if self.flow(program, state, at, context)? {
                at += 1;
                continue;
            }
            let State { stream, launches, stretches, .. } = state;
            let (range, graph) = &mut stretches[stretch];
            match graph {
                Some(graph) => stream.replay(&**graph)?,
                None => {
                    let own = &launches[range.clone()];
                    launch_all(&mut **stream, own)?;
                    // What has run once is captured: the driver has loaded every kernel by then.
                    if !own.iter().all(Vec::is_empty) {
                        *graph = Some(stream.capture(&mut |stream| launch_all(stream, own))?);
                    }
                }
            }
            (at, stretch) = (range.end, stretch + 1);
        }
        Ok(())
    }

    /// Runs step `at` where data decides what it launches, and tells whether it does.
    fn flow(
        &self,
        program: &GpuProgram,
        state: &mut State,
        at: usize,
        context: RunContext<'_>,
    ) -> Result<bool, GpuFailure> {
        let Step { node, work: Work::Device(step) } = &self.steps[at] else { return Ok(false) };
        let State { stream, pinned, flows, growing, slots, .. } = state;
        let Some(course) = &mut flows[at] else { return Ok(false) };
        let (stream, pinned) = (&mut **stream, &**pinned);
        let running = Running { program, step, stream, pinned, slots, growing, context };
        running.run(course).map_err(|failure| match failure {
            StepFailure::Op(source) => GpuFailure::Node(node_error(&program.graph, *node, source)),
            StepFailure::Gpu(error) => GpuFailure::Gpu(error),
        })?;
        Ok(true)
    }

    /// Runs step `at` on the host.
    fn host(
        &self,
        program: &GpuProgram,
        state: &mut State,
        at: usize,
        inputs: &[ValueRef<'_>],
        context: RunContext<'_>,
    ) -> Result<(), GpuFailure> {
        let step = &self.steps[at];
        let Work::Host(host) = &step.work else { return Ok(()) };
        let fail = |source| node_error(&program.graph, step.node, source);
        context.interrupt.check().map_err(fail)?;
        let State { stream, pinned, arena, slots, .. } = state;
        let mut memory = Memory { stream: &mut **stream, pinned: &**pinned, arena, slots };
        // The nodes of a body are part of the node that runs it.
        let context = RunContext { times: None, ..context };
        let moved = host.run(&*program.graph.nodes[step.node].op, inputs, &mut memory, context);
        let [down, up] = moved.map_err(|failure| match failure {
            StepFailure::Op(source) => GpuFailure::Node(fail(source)),
            StepFailure::Gpu(error) => GpuFailure::Gpu(error),
        })?;
        program.note_trip(step.node, &host.reason, down, up);
        Ok(())
    }

    /// Step by step; adds the device's, or the host's, time of each to `times`.
    fn timed(
        &self,
        program: &GpuProgram,
        state: &mut State,
        inputs: &[ValueRef<'_>],
        times: &NodeTimes,
        context: RunContext<'_>,
    ) -> Result<(), GpuFailure> {
        let add = |step: &Step, took| times.add(step.node, &program.graph.nodes[step.node], took);
        let mut marks: Vec<(usize, [Box<dyn Event>; 2])> = Vec::new();
        for (at, step) in self.steps.iter().enumerate() {
            if let Work::Host(_) = step.work {
                // Its own time, without that of launches before it.
                state.stream.finish(context.interrupt)?;
                let started = Instant::now();
                self.host(program, state, at, inputs, context)?;
                add(step, started.elapsed());
                continue;
            }
            let before = state.stream.record()?;
            if !self.flow(program, state, at, context)? {
                launch_all(&mut *state.stream, &state.launches[at..=at])?;
            }
            marks.push((at, [before, state.stream.record()?]));
        }
        state.stream.finish(context.interrupt)?;
        for (at, [before, after]) in marks {
            let milliseconds = after.milliseconds_since(&*before)?;
            add(&self.steps[at], Duration::from_secs_f32(milliseconds.max(0.0) / 1e3));
        }
        Ok(())
    }
}

pub(super) fn launch_all(stream: &mut dyn Stream, steps: &[Launches]) -> Result<(), GpuError> {
    steps.iter().flatten().try_for_each(|launch| stream.launch(launch))
}

impl State {
    /// Waits for what an unfinished run gave, so that it no longer uses what is `direct`, but not for ever.
    fn let_go(&mut self, direct: &Direct) {
        match self.stream.finish(&grace()) {
            // What is under way keeps what it uses, and is waited for before the next run.
            Err(GpuError::Interrupted) => direct.note_stuck(),
            // A GPU that is lost does nothing more.
            _ => {
                self.under_way = false;
                self.growing = Growing::default();
            }
        }
    }
}

impl Held {
    /// Ends what is under way, so that the arena can be given to others. Work that does not end keeps its memory.
    fn end(&mut self) {
        let Some(mut state) = self.0.take() else { return };
        if state.under_way && matches!(state.stream.finish(&grace()), Err(GpuError::Interrupted)) {
            std::mem::forget(state);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.end();
    }
}
