//! A graph with the shapes of its inputs known: launches whose operands have addresses.
//!
//! Values lie in one arena by their lifetimes, in the memory of constants, or where the value lies that they are a view
//! of. What follows from constants alone is computed on the host, once. What a run needs, its stream, arena and pinned
//! memory, is its own: runs of one binding may be under way side by side.

use super::residency::fits;
use super::{GpuFailure, GpuProgram, node_error};
use crate::cpu::{RunContext, Slot};
use crate::cuda::site::{GpuKernel, GpuSite, Launches, Operands};
use crate::cuda::{Block, GpuError, GpuReject, Pinned, Replay, Stream};
use crate::dtype::DType;
use crate::error::OpError;
use crate::exec::{NodeTimes, Tenant, assign_offsets, known_outputs};
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::graph::{NodeError, ValueId, infer_node};
use crate::tensor::{Shape, Tensor, ValueRef};
use recurve_kernels::launch::Buffer;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Where a value's bytes are.
#[derive(Clone, Debug)]
enum Place {
    /// At this offset of the arena.
    Arena { offset: usize, bytes: usize },
    /// In memory that stays.
    Resident { address: u64, bytes: usize },
    /// On the host only: a constant that no kernel reads.
    Host(Tensor),
    /// An operand that is not there, or an output that nobody wants.
    Nowhere,
}

/// One node's launches and what they work on.
#[derive(Debug)]
struct Step {
    node: usize,
    kernel: GpuKernel,
    inputs: Vec<Place>,
    outputs: Vec<Place>,
    weights: Vec<Buffer>,
    data: Vec<Buffer>,
    workspace: Place,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct GpuBound {
    steps: Vec<Step>,
    /// Input `index` of the graph: its place and its offset in pinned memory.
    inputs: Vec<(Place, usize)>,
    outputs: Vec<Output>,
    arena: usize,
    pinned: usize,
    /// What is on the device for this binding alone, and the constants that it reads.
    _resident: Vec<Arc<Block>>,
    states: Mutex<Vec<State>>,
}

#[derive(Debug)]
struct Output {
    place: Place,
    offset: usize,
    dtype: DType,
    shape: Shape,
}

/// What one run needs.
struct State {
    stream: Box<dyn Stream>,
    pinned: Box<dyn Pinned>,
    arena: Block,
    /// Those of each step.
    launches: Vec<Launches>,
    /// All of them, once they have run.
    graph: Option<Box<dyn Replay>>,
    /// Whether a run ended before its stream did.
    under_way: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "State({:?}, {} steps)", self.arena, self.launches.len())
    }
}

/// Binding in progress.
struct Binder<'p> {
    program: &'p GpuProgram,
    facts: Vec<Option<Fact>>,
    /// The value whose bytes a value shares, itself by default.
    root: Vec<usize>,
    kernels: Vec<(usize, GpuKernel)>,
}

impl GpuBound {
    pub(super) fn new(
        program: &GpuProgram,
        inputs: &[Fact],
        context: RunContext<'_>,
    ) -> Result<Self, GpuFailure> {
        let mut binder = Binder::new(program, inputs);
        let mut rejected = Vec::new();
        for index in 0..program.graph.nodes.len() {
            let fail = |source| node_error(&program.graph, index, source);
            context.interrupt.check().map_err(fail)?;
            if let Err(reject) = binder.node(index, context).map_err(fail)? {
                let node = &program.graph.nodes[index];
                rejected.push((node.name.to_string(), node.def.name.to_owned(), reject));
            }
        }
        if !rejected.is_empty() {
            return Err(GpuFailure::Rejected(rejected));
        }
        binder.placed(context)
    }

    /// Dtype and shape of output `index`.
    pub(crate) fn output_form(&self, index: usize) -> Option<(DType, &[usize])> {
        self.outputs.get(index).map(|o| (o.dtype, o.shape.as_slice()))
    }

    /// Runs with one slot per graph output.
    pub(crate) fn run(
        &self,
        program: &GpuProgram,
        inputs: &[ValueRef<'_>],
        outputs: &mut [Slot<'_>],
        context: RunContext<'_>,
    ) -> Result<(), GpuFailure> {
        let mut state = self.take_state(program)?;
        let ran = self.run_with(program, &mut state, inputs, outputs, context);
        // A lost GPU loses the state with it.
        if !matches!(ran, Err(GpuFailure::Gpu(GpuError::Lost { .. } | GpuError::Emulator { .. }))) {
            self.states.lock().unwrap_or_else(PoisonError::into_inner).push(state);
        }
        ran
    }

    fn run_with(
        &self,
        program: &GpuProgram,
        state: &mut State,
        inputs: &[ValueRef<'_>],
        outputs: &mut [Slot<'_>],
        context: RunContext<'_>,
    ) -> Result<(), GpuFailure> {
        let graph_error = |source| GpuFailure::Node(node_error(&program.graph, usize::MAX, source));
        if std::mem::replace(&mut state.under_way, true) {
            state.stream.finish(context.interrupt)?;
        }
        for (value, (place, offset)) in inputs.iter().zip(&self.inputs) {
            let (ValueRef::Tensor(tensor), Some((address, bytes))) = (value, place.address(&state.arena))
            else {
                continue;
            };
            let from = tensor.bytes();
            if from.len() != bytes {
                return Err(graph_error(OpError::internal(
                    "an input has another size than it was bound for",
                )));
            }
            state.pinned.write(*offset, from)?;
            state.stream.copy(address, state.pinned.address() + *offset as u64, bytes)?;
        }
        let State { stream, launches, graph, .. } = state;
        match (context.times, &*graph) {
            (Some(times), _) => self.timed(program, &mut **stream, launches, times, context)?,
            (None, Some(graph)) => stream.replay(&**graph)?,
            (None, None) => {
                launch_all(&mut **stream, launches)?;
                // What has run once is captured: the driver has loaded every kernel by then.
                *graph = Some(stream.capture(&mut |stream| launch_all(stream, launches))?);
            }
        }
        for output in &self.outputs {
            if let Some((address, bytes)) = output.place.address(&state.arena) {
                state.stream.copy(state.pinned.address() + output.offset as u64, address, bytes)?;
            }
        }
        state.stream.finish(context.interrupt)?;
        state.under_way = false;
        for (output, slot) in self.outputs.iter().zip(outputs) {
            output.store(program, &*state.pinned, slot, context)?;
        }
        Ok(())
    }

    fn take_state(&self, program: &GpuProgram) -> Result<State, GpuFailure> {
        if let Some(state) = self.states.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(state);
        }
        let gpu = program.gpu.gpu();
        let arena = program.gpu.allocate(self.arena)?;
        let launches = self.steps.iter().map(|step| {
            let at = |place: &Place| place.buffer(&arena);
            let (inputs, outputs): (Vec<_>, Vec<_>) =
                (step.inputs.iter().map(at).collect(), step.outputs.iter().map(at).collect());
            let operands = Operands {
                inputs: &inputs,
                outputs: &outputs,
                weights: &step.weights,
                data: &step.data,
                workspace: at(&step.workspace),
            };
            let node = &program.graph.nodes[step.node];
            let launches = step.kernel.prepare(&operands).map_err(|reject| {
                let why = GpuReject::Kernel(reject);
                GpuFailure::Rejected(vec![(node.name.to_string(), node.def.name.to_owned(), why)])
            })?;
            launches.iter().try_for_each(|launch| fits(gpu, &**launch))?;
            Ok(launches)
        });
        let launches = launches.collect::<Result<_, GpuFailure>>()?;
        let (stream, pinned) = (gpu.stream()?, gpu.pinned(self.pinned)?);
        Ok(State { stream, pinned, arena, launches, graph: None, under_way: false })
    }

    /// Launches step by step and adds the device's time of each to `times`.
    fn timed(
        &self,
        program: &GpuProgram,
        stream: &mut dyn Stream,
        launches: &[Launches],
        times: &NodeTimes,
        context: RunContext<'_>,
    ) -> Result<(), GpuFailure> {
        let mut marks = vec![stream.record()?];
        for launches in launches {
            launch_all(stream, std::slice::from_ref(launches))?;
            marks.push(stream.record()?);
        }
        stream.finish(context.interrupt)?;
        for (step, pair) in self.steps.iter().zip(marks.windows(2)) {
            let took = Duration::from_secs_f32(pair[1].milliseconds_since(&*pair[0])?.max(0.0) / 1e3);
            times.add(step.node, &program.graph.nodes[step.node], took);
        }
        Ok(())
    }
}

fn launch_all(stream: &mut dyn Stream, steps: &[Launches]) -> Result<(), GpuError> {
    steps.iter().flatten().try_for_each(|launch| stream.launch(launch))
}

impl Place {
    /// Address and bytes, when it is on the device.
    fn address(&self, arena: &Block) -> Option<(u64, usize)> {
        match self {
            Self::Arena { offset, bytes } => Some((arena.address() + *offset as u64, *bytes)),
            Self::Resident { address, bytes } => Some((*address, *bytes)),
            Self::Host(_) | Self::Nowhere => None,
        }
    }

    fn buffer(&self, arena: &Block) -> Buffer {
        self.address(arena)
            .map_or(Buffer::default(), |(address, bytes)| Buffer { address, bytes: bytes as u64 })
    }
}

impl Output {
    fn store(
        &self,
        program: &GpuProgram,
        pinned: &dyn Pinned,
        slot: &mut Slot<'_>,
        context: RunContext<'_>,
    ) -> Result<(), GpuFailure> {
        let graph_error = |source| GpuFailure::Node(node_error(&program.graph, usize::MAX, source));
        let read = |bytes: &mut [u8]| match &self.place {
            Place::Host(tensor) => {
                bytes.copy_from_slice(tensor.view().bytes());
                Ok(())
            }
            _ => pinned.read(self.offset, bytes),
        };
        match slot {
            Slot::Fixed { bytes, .. } => read(bytes)?,
            Slot::Made(place) => {
                let elements = crate::tensor::element_count(&self.shape).and_then(|n| self.dtype.bytes(n));
                let bytes = elements.ok_or_else(|| graph_error(context.budget.overflow()))?;
                let mut buffer = crate::memory::Buffer::zeroed(bytes, context.budget).map_err(graph_error)?;
                read(buffer.bytes_mut())?;
                let tensor = Tensor::from_buffer(self.dtype, &self.shape, buffer).map_err(graph_error)?;
                **place = Some(tensor.into());
            }
            Slot::Absent => {}
        }
        Ok(())
    }
}

impl<'p> Binder<'p> {
    fn new(program: &'p GpuProgram, inputs: &[Fact]) -> Self {
        let graph = &program.graph;
        let mut facts: Vec<Option<Fact>> = graph
            .values
            .iter()
            .map(|v| v.constant.as_ref().map(|t| TensorFact::constant(t.clone()).into()))
            .collect();
        for (&id, fact) in graph.inputs.iter().zip(inputs) {
            facts[id.index()] = Some(fact.clone());
        }
        Self { program, facts, root: (0..graph.values.len()).collect(), kernels: Vec::new() }
    }

    fn constant(&self, value: usize) -> Option<&Tensor> {
        self.facts[value].as_ref()?.tensor()?.as_constant()
    }

    /// Infers node `index` and prepares its kernel, unless its outputs are known or views.
    fn node(&mut self, index: usize, context: RunContext<'_>) -> Result<Result<(), GpuReject>, OpError> {
        let node = &self.program.graph.nodes[index];
        let held: Vec<Option<Fact>> =
            node.inputs.iter().map(|id| id.and_then(|id| self.facts[id.index()].clone())).collect();
        let given: Vec<Option<&Fact>> = held.iter().map(Option::as_ref).collect();
        let outputs = infer_node(&*node.op, Facts(&given))?;
        if outputs.len() < node.outputs.len() {
            return Err(OpError::shape("more outputs are named than the operator makes"));
        }
        let wanted: Vec<bool> = node.outputs.iter().map(Option::is_some).collect();
        let known = known_outputs(node, None, &given, &outputs, &wanted, context)?;
        for (slot, (id, fact)) in node.outputs.iter().zip(&outputs).enumerate() {
            let Some(id) = id else { continue };
            let constant = known.as_ref().and_then(|k| k[slot].clone());
            self.facts[id.index()] =
                Some(constant.map_or_else(|| fact.clone(), |t| TensorFact::constant(t).into()));
        }
        if known.is_some() {
            return Ok(Ok(()));
        }
        let fixed =
            |f: &&Fact| f.tensor().is_some_and(|t| t.known_shape().is_some() && t.dtype != DType::String);
        let wanted_facts = outputs.iter().zip(&wanted).filter(|(_, w)| **w).map(|(f, _)| f);
        if !wanted_facts.clone().all(|f| fixed(&f)) || !given.iter().flatten().all(fixed) {
            return Ok(Err(GpuReject::DataDependent));
        }
        if let Some(source) = node.op.alias_of()
            && let (Some(Some(from)), Some(Some(to))) = (node.inputs.get(source), node.outputs.first())
        {
            self.root[to.index()] = self.root[from.index()];
            return Ok(Ok(()));
        }
        if !node.op.bodies().is_empty() {
            return Ok(Err(GpuReject::ControlFlow));
        }
        let site = GpuSite { inputs: Facts(&given), outputs: &outputs, device: self.program.device };
        Ok(node.op.gpu(&site).map(|kernel| self.kernels.push((index, kernel))))
    }

    /// Gives every value a place.
    fn placed(self, context: RunContext<'_>) -> Result<GpuBound, GpuFailure> {
        let program = self.program;
        let graph = &program.graph;
        let overflow = || GpuFailure::Node(node_error(graph, usize::MAX, program.budget.overflow()));
        let bytes_of = |value: usize| {
            let fact = self.facts[value].as_ref();
            fact.and_then(|f| f.tensor()?.bytes()).ok_or_else(overflow)
        };
        let mut resident: Vec<Arc<Block>> = Vec::new();
        let mut places: Vec<Option<Place>> = vec![None; graph.values.len()];
        // What lives in the arena: inputs from before the first step, outputs until after the last one.
        let end = self.kernels.len() + 1;
        let mut tenants: Vec<Tenant> = Vec::new();
        let mut tenant_of: Vec<Option<usize>> = vec![None; graph.values.len()];
        for &id in &graph.inputs {
            tenant_of[id.index()] = Some(tenants.len());
            tenants.push(Tenant { bytes: bytes_of(id.index())?, first: 0, last: 0 });
        }
        let mut workspaces = Vec::with_capacity(self.kernels.len());
        for (at, (node, kernel)) in self.kernels.iter().enumerate() {
            let node = &graph.nodes[*node];
            for value in node.inputs.iter().flatten().map(|id| self.root[id.index()]) {
                match tenant_of[value] {
                    Some(tenant) => tenants[tenant].last = at + 1,
                    None if places[value].is_none() => {
                        let block = self.resident(value, context)?;
                        let (address, bytes) = (block.address(), block.bytes());
                        places[value] = Some(Place::Resident { address, bytes });
                        resident.push(block);
                    }
                    None => {}
                }
            }
            for value in node.outputs.iter().flatten().map(|id| self.root[id.index()]) {
                tenant_of[value] = Some(tenants.len());
                tenants.push(Tenant { bytes: bytes_of(value)?, first: at + 1, last: at + 1 });
            }
            workspaces.push(tenants.len());
            tenants.push(Tenant { bytes: kernel.workspace(), first: at + 1, last: at + 1 });
        }
        for id in &graph.outputs {
            if let Some(tenant) = tenant_of[self.root[id.index()]] {
                tenants[tenant].last = end;
            }
        }
        let (offsets, arena) = assign_offsets(&tenants).ok_or_else(overflow)?;
        let tenant_place =
            |tenant: usize| Place::Arena { offset: offsets[tenant], bytes: tenants[tenant].bytes };
        for (place, tenant) in places.iter_mut().zip(&tenant_of) {
            if let Some(tenant) = tenant {
                *place = Some(tenant_place(*tenant));
            }
        }
        let place = |id: &Option<ValueId>| {
            id.and_then(|id| places[self.root[id.index()]].clone()).unwrap_or(Place::Nowhere)
        };
        let mut pinned = 0usize;
        let mut staged = |bytes: usize| {
            let offset = pinned;
            let end = offset.checked_add(bytes)?.checked_next_multiple_of(256)?;
            pinned = end;
            Some(offset)
        };
        let inputs = graph.inputs.iter().map(|&id| {
            let offset = staged(bytes_of(id.index())?).ok_or_else(overflow)?;
            Ok((place(&Some(id)), offset))
        });
        let inputs = inputs.collect::<Result<Vec<_>, GpuFailure>>()?;
        let outputs = graph.outputs.iter().map(|&id| {
            let fact = self.facts[id.index()].as_ref().and_then(Fact::tensor).ok_or_else(overflow)?;
            let shape = fact.known_shape().ok_or_else(overflow)?;
            let place = match self.constant(id.index()) {
                Some(tensor) => Place::Host(tensor.clone()),
                None => place(&Some(id)),
            };
            let offset = staged(bytes_of(id.index())?).ok_or_else(overflow)?;
            Ok(Output { place, offset, dtype: fact.dtype, shape })
        });
        let outputs = outputs.collect::<Result<Vec<_>, GpuFailure>>()?;
        let mut steps = Vec::with_capacity(self.kernels.len());
        for ((index, kernel), workspace) in self.kernels.into_iter().zip(workspaces) {
            let node = &graph.nodes[index];
            let mut keep = |block: Arc<Block>| {
                let buffer = Buffer { address: block.address(), bytes: block.bytes() as u64 };
                resident.push(block);
                buffer
            };
            let mut weights = Vec::new();
            for packed in kernel.weights() {
                weights.push(keep(program.weights(index, packed, context.interrupt)?));
            }
            let mut data = Vec::new();
            for bytes in kernel.data() {
                data.push(keep(Arc::new(program.uploader.upload(&program.gpu, bytes, context.interrupt)?)));
            }
            steps.push(Step {
                node: index,
                inputs: node.inputs.iter().map(place).collect(),
                outputs: node.outputs.iter().map(place).collect(),
                workspace: tenant_place(workspace),
                kernel,
                weights,
                data,
            });
        }
        let states = Mutex::default();
        Ok(GpuBound { steps, inputs, outputs, arena, pinned, _resident: resident, states })
    }

    /// The memory of a value that follows from constants.
    fn resident(&self, value: usize, context: RunContext<'_>) -> Result<Arc<Block>, GpuFailure> {
        let program = self.program;
        if program.graph.values[value].constant.is_some() {
            return Ok(program.constant(value, context.interrupt)?);
        }
        let missing = || NodeError {
            node: program.graph.values[value].name.to_string(),
            op: "value".into(),
            source: OpError::internal("nothing writes it"),
        };
        let tensor = self.constant(value).ok_or_else(missing)?;
        Ok(Arc::new(program.uploader.upload(&program.gpu, tensor.view().bytes(), context.interrupt)?))
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if self.under_way {
            // The arena may not be given to others before; a GPU that is lost says so.
            let _ = self.stream.finish(&crate::exec::Interrupt::default());
        }
    }
}
