//! Binding: facts with all extents known, a kernel for every node (or, with leave, the host), and a place for every value.
//!
//! Values lie in one arena by their lifetimes, in the memory of constants, or where the value lies that they are a view
//! of. What follows from constants alone is computed on the host, once. What a node on the host makes is in a slot on the
//! host, and in the arena as well where a kernel reads it.

use super::bound::{GpuBound, Step, Work};
use super::device_step::{DeviceStep, Words};
use super::host::{Given, HostStep, Made};
use super::outputs::Output;
use super::place::{Place, Source};
use super::{GpuFailure, GpuProgram, node_error};
use crate::cpu::RunContext;
use crate::cuda::families::known::or_known;
use crate::cuda::memory::rounded;
use crate::cuda::site::{GpuKernel, GpuSite, Weights, Within};
use crate::cuda::{Block, GpuError, GpuReject};
use crate::device::Fallback;
use crate::dtype::DType;
use crate::error::OpError;
use crate::exec::{Tenant, assign_offsets, known_outputs};
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::graph::{Graph, NodeError, ValueId, infer_node};
use crate::memory::Budget;
use crate::tensor::Tensor;
use recurve_kernels::launch::Buffer;
use std::sync::{Arc, Mutex};

/// Where a node is to run.
enum Planned {
    /// Its kernel, and by input whether that is a constant that no launch reads.
    Device(GpuKernel, Vec<bool>),
    Host(GpuReject),
}

/// Binding in progress.
struct Binder<'p> {
    program: &'p GpuProgram,
    facts: Vec<Option<Fact>>,
    /// The value whose bytes a value shares, itself by default.
    root: Vec<usize>,
    /// Whether a value is made on the host.
    on_host: Vec<bool>,
    planned: Vec<(usize, Planned)>,
    /// Kernels that a run launches.
    launches: usize,
    /// Whether kernels are to do with little workspace.
    lean: bool,
}

impl GpuBound {
    pub(super) fn new(
        program: &GpuProgram,
        inputs: &[Fact],
        context: RunContext<'_>,
    ) -> Result<Self, GpuFailure> {
        match Self::with(program, inputs, false, context) {
            // What workspaces make too large may fit without them.
            Err(GpuFailure::Gpu(GpuError::Limit { .. })) => Self::with(program, inputs, true, context),
            other => other,
        }
    }

    fn with(
        program: &GpuProgram,
        inputs: &[Fact],
        lean: bool,
        context: RunContext<'_>,
    ) -> Result<Self, GpuFailure> {
        let mut binder = Binder::new(program, inputs, lean);
        let mut rejected = Vec::new();
        for index in 0..program.graph.nodes.len() {
            let fail = |source| node_error(&program.graph, index, source);
            context.interrupt.check().map_err(fail)?;
            if let Err(reject) = binder.node(index, context).map_err(fail)? {
                let node = &program.graph.nodes[index];
                rejected.push((node.name.to_string(), node.def.full_name(), reject));
            }
        }
        if !rejected.is_empty() {
            return Err(GpuFailure::Rejected(rejected));
        }
        binder.placed(context)
    }
}

/// Whether a value is a tensor whose bytes are known beforehand to be so many.
fn is_fixed(fact: &Fact) -> bool {
    fact.tensor().is_some_and(|t| t.known_shape().is_some() && t.dtype != DType::String)
}

impl<'p> Binder<'p> {
    fn new(program: &'p GpuProgram, inputs: &[Fact], lean: bool) -> Self {
        let graph = &program.graph;
        let constant = |t: &Tensor| Fact::from(TensorFact::constant(t.clone()));
        let mut facts: Vec<Option<Fact>> =
            graph.values.iter().map(|v| v.constant.as_ref().map(constant)).collect();
        for (&id, fact) in graph.inputs.iter().zip(inputs) {
            facts[id.index()] = Some(fact.clone());
        }
        let count = graph.values.len();
        let (root, on_host) = ((0..count).collect(), vec![false; count]);
        Self { program, facts, root, on_host, planned: Vec::new(), launches: 0, lean }
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
        let reject = match self.on_device(index, &given, &outputs, &wanted, context) {
            Ok(()) => return Ok(Ok(())),
            Err(reject) => reject,
        };
        if self.program.fallback != Fallback::Cpu {
            return Ok(Err(reject));
        }
        node.outputs.iter().flatten().for_each(|id| self.on_host[id.index()] = true);
        self.planned.push((index, Planned::Host(reject)));
        Ok(Ok(()))
    }

    /// Plans node `index` on the device.
    fn on_device(
        &mut self,
        index: usize,
        given: &[Option<&Fact>],
        outputs: &[Fact],
        wanted: &[bool],
        context: RunContext<'_>,
    ) -> Result<(), GpuReject> {
        let node = &self.program.graph.nodes[index];
        let fixed = |outputs: &[Fact]| {
            let mut read = outputs.iter().zip(wanted).filter(|(_, wanted)| **wanted).map(|(fact, _)| fact);
            read.all(is_fixed)
        };
        // What a body makes may be known only once it is looked into.
        let has_bodies = !node.op.bodies().is_empty();
        if !given.iter().flatten().all(|fact| is_fixed(fact)) || (!has_bodies && !fixed(outputs)) {
            return Err(GpuReject::without_memory(given.iter().copied().flatten().chain(outputs)));
        }
        if let Some(source) = node.op.alias_of()
            && let (Some(Some(from)), Some(Some(to))) = (node.inputs.get(source), node.outputs.first())
        {
            if self.on_host[from.index()] {
                return Err(GpuReject::OnHost);
            }
            self.root[to.index()] = self.root[from.index()];
            return Ok(());
        }
        let site = GpuSite {
            inputs: Facts(given),
            outputs,
            wanted,
            behind: None,
            strided: &[],
            within: Within::Graph,
            device: self.program.device,
            precision: self.program.precision,
            lean: self.lean,
            context,
        };
        let kernel = or_known(&*node.op, &site)?.named(&node.name, &node.def.full_name());
        let known = kernel.outputs().map(<[Fact]>::to_vec);
        let site = GpuSite { outputs: known.as_deref().unwrap_or(outputs), ..site };
        let collected = kernel.flow().map_or_else(Vec::new, |flow| flow.collected.clone());
        let collects = |slot: usize| collected.contains(&slot);
        let mut wanted = site.outputs.iter().zip(wanted).enumerate().filter(|(_, (_, wanted))| **wanted);
        if !wanted.all(|(slot, (fact, _))| collects(slot) || is_fixed(fact)) {
            return Err(GpuReject::DataDependent);
        }
        let derived =
            |id: &ValueId| self.constant(id.index()).is_some() && self.program.graph.constant(*id).is_none();
        let is_derived = node.inputs.iter().flatten().any(derived);
        let kernel = if is_derived { kernel.of_this_binding() } else { kernel };
        self.launches += kernel.trial(&site)?.len();
        self.program.note_stored(index, kernel.stored());
        // What is packed need not be there as the model has it, too.
        let packs = !kernel.weights().is_empty();
        let constant = |id: &Option<ValueId>| id.is_some_and(|id| self.constant(id.index()).is_some());
        let unread = |(at, id)| packs && constant(id) && kernel.leaves_unread(&site, at);
        let unread: Vec<bool> = node.inputs.iter().enumerate().map(unread).collect();
        for (slot, (id, fact)) in node.outputs.iter().zip(site.outputs).enumerate() {
            if let Some(id) = id {
                self.facts[id.index()] = Some(fact.clone());
                self.on_host[id.index()] = collects(slot);
            }
        }
        self.planned.push((index, Planned::Device(kernel, unread)));
        Ok(())
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
        let read_there = self.read_on_device();
        let mut resident: Vec<Arc<Block>> = Vec::new();
        let mut places: Vec<Option<Place>> = vec![None; graph.values.len()];
        // What lives in the arena: inputs from before the first step, outputs until after the last one.
        let end = self.planned.len() + 1;
        let mut tenants: Vec<Tenant> = Vec::new();
        let mut tenant_of: Vec<Option<usize>> = vec![None; graph.values.len()];
        for id in graph.inputs.iter().map(|id| id.index()).filter(|&id| read_there[id]) {
            tenant_of[id] = Some(tenants.len());
            tenants.push(Tenant { bytes: bytes_of(id)?, first: 0, last: 0 });
        }
        let mut workspaces = Vec::with_capacity(self.planned.len());
        for (at, (node, planned)) in self.planned.iter().enumerate() {
            let node = &graph.nodes[*node];
            for (input, id) in node.inputs.iter().enumerate() {
                let Some(value) = id.map(|id| self.root[id.index()]) else { continue };
                match (tenant_of[value], planned) {
                    (Some(tenant), _) => tenants[tenant].last = at + 1,
                    (None, Planned::Device(_, unread)) if places[value].is_none() && !unread[input] => {
                        let block = self.resident(value, context)?;
                        let (address, bytes) = (block.address(), block.bytes());
                        places[value] = Some(Place::Resident { address, bytes });
                        resident.push(block);
                    }
                    _ => {}
                }
            }
            for value in node.outputs.iter().flatten().map(|id| self.root[id.index()]) {
                let device = matches!(planned, Planned::Device(..)) && !self.on_host[value];
                if device || read_there[value] {
                    tenant_of[value] = Some(tenants.len());
                    tenants.push(Tenant { bytes: bytes_of(value)?, first: at + 1, last: at + 1 });
                }
            }
            workspaces.push(tenants.len());
            let bytes = if let Planned::Device(kernel, _) = planned { kernel.workspace() } else { 0 };
            tenants.push(Tenant { bytes, first: at + 1, last: at + 1 });
        }
        for id in &graph.outputs {
            if let Some(tenant) = tenant_of[self.root[id.index()]] {
                tenants[tenant].last = end;
            }
        }
        let (offsets, arena) = assign_offsets(&tenants).ok_or_else(overflow)?;
        // What values alone would take.
        let mut own: Vec<Tenant> = tenants.clone();
        workspaces.iter().for_each(|&at| own[at].bytes = 0);
        let values = assign_offsets(&own).map_or(arena, |(_, bytes)| bytes.min(arena));
        // What does not fit is refused before anything is packed.
        let blocks = self.to_upload().saturating_add(rounded(arena).unwrap_or(usize::MAX));
        program.gpu.check(blocks)?;
        let tenant_place =
            |tenant: usize| Place::Arena { offset: offsets[tenant], bytes: tenants[tenant].bytes };
        for (place, tenant) in places.iter_mut().zip(&tenant_of) {
            if let Some(tenant) = tenant {
                *place = Some(tenant_place(*tenant));
            }
        }
        let place = |id: ValueId| places[self.root[id.index()]].clone().unwrap_or(Place::Nowhere);
        let mut host = HostValues::new(&self);
        let inputs = graph.inputs.iter().map(|&id| match place(id) {
            Place::Nowhere => Ok((Place::Nowhere, 0)),
            place => Ok((place, host.staged(bytes_of(id.index())?).ok_or_else(overflow)?)),
        });
        let inputs = inputs.collect::<Result<Vec<_>, GpuFailure>>()?;
        let mut steps = Vec::with_capacity(self.planned.len());
        let mut planned = Vec::with_capacity(self.planned.len());
        for (index, plan) in &self.planned {
            let node = &graph.nodes[*index];
            planned.push(match plan {
                Planned::Device(kernel, _) => {
                    let words = Words::of(kernel, |bytes| host.staged(bytes).ok_or_else(overflow))?;
                    let slot = |id: &Option<ValueId>| {
                        let value = id.map(ValueId::index).filter(|value| self.on_host[*value]);
                        value.map(|value| host.slot(value))
                    };
                    let made: Vec<Option<usize>> = node.outputs.iter().map(slot).collect();
                    Ok((words, made))
                }
                Planned::Host(reason) => {
                    let mut given = Vec::with_capacity(node.inputs.len());
                    for id in &node.inputs {
                        given.push(id.map(|id| host.given(id, &place).ok_or_else(overflow)).transpose()?);
                    }
                    let mut made = Vec::with_capacity(node.outputs.len());
                    for id in &node.outputs {
                        made.push(id.map(|id| host.made(id, &place).ok_or_else(overflow)).transpose()?);
                    }
                    let packed = program.packed(*index).map_err(|e| node_error(graph, *index, e))?;
                    Err(HostStep { given, made, packed, reason: reason.clone() })
                }
            });
        }
        let outputs = graph.outputs.iter().map(|&id| {
            let tensor = self.facts[id.index()].as_ref().and_then(Fact::tensor);
            let form = tensor.and_then(|t| Some((t.dtype, t.known_shape()?)));
            let form = form.filter(|(dtype, _)| *dtype != DType::String);
            let source = host.given(id, &place).ok_or_else(overflow)?.source;
            Ok(Output { source, form })
        });
        let outputs = outputs.collect::<Result<Vec<_>, GpuFailure>>()?;
        let HostValues { pinned, slots, .. } = host;
        for (((index, plan), prepared), workspace) in self.planned.into_iter().zip(planned).zip(workspaces) {
            let node = &graph.nodes[index];
            let work = match (plan, prepared) {
                (Planned::Device(kernel, unread), Ok((words, made))) => {
                    let mut keep = |block: Arc<Block>| {
                        let buffer = Buffer { address: block.address(), bytes: block.bytes() as u64 };
                        resident.push(block);
                        buffer
                    };
                    let mut weights = Vec::new();
                    for packed in kernel.weights() {
                        let block = if packed.shared {
                            program.weights(index, packed, context.interrupt)?
                        } else {
                            program.upload_packed(packed.bytes, &*packed.pack, context.interrupt)?
                        };
                        weights.push(Place::in_block(&block));
                        keep(block);
                    }
                    let mut data = Vec::new();
                    for bytes in kernel.data() {
                        data.push(keep(program.upload(bytes, context.interrupt)?));
                    }
                    let at = |id: &Option<ValueId>| {
                        id.and_then(|id| places[self.root[id.index()]].clone()).unwrap_or(Place::Nowhere)
                    };
                    let inputs = node.inputs.iter().zip(unread);
                    let inputs =
                        inputs.map(|(id, unread)| if unread { Place::UNREAD } else { at(id) }).collect();
                    let outputs = node.outputs.iter().map(at).collect();
                    let workspace = tenant_place(workspace);
                    let step = DeviceStep { kernel, inputs, outputs, weights, data, workspace, words, made };
                    Work::Device(Box::new(step))
                }
                (_, Err(host)) => Work::Host(host),
                (Planned::Host(_), Ok(_)) => continue,
            };
            steps.push(Step { node: index, work });
        }
        program.settle(context.interrupt)?;
        let (launches, states) = (self.launches, Mutex::default());
        Ok(GpuBound { steps, inputs, outputs, arena, values, pinned, launches, slots, resident, states })
    }

    /// Bytes of weights and data that the kernels want and that are not on the device yet.
    fn to_upload(&self) -> usize {
        let kernels = self.planned.iter().filter_map(|(node, planned)| match planned {
            Planned::Device(kernel, _) => Some((*node, kernel)),
            Planned::Host(_) => None,
        });
        let bytes = kernels.flat_map(|(node, kernel)| {
            let fresh = move |packed: &&Weights| !packed.shared || !self.program.has_weights(node, packed);
            let weights = kernel.weights().iter().filter(fresh).map(|packed| packed.bytes);
            weights.chain(kernel.data().iter().map(Vec::len))
        });
        bytes.fold(0, |sum, bytes| sum.saturating_add(rounded(bytes).unwrap_or(usize::MAX)))
    }

    /// Which values kernels read, or the host reads from the device: by the value whose bytes they share.
    fn read_on_device(&self) -> Vec<bool> {
        let graph = &self.program.graph;
        let mut read = vec![false; graph.values.len()];
        for (node, planned) in &self.planned {
            for id in graph.nodes[*node].inputs.iter().flatten() {
                let device = matches!(planned, Planned::Device(..)) || self.root[id.index()] != id.index();
                read[self.root[id.index()]] |= device;
            }
        }
        for id in &graph.outputs {
            // An output that is a view of an input comes back from the device.
            read[self.root[id.index()]] |= self.root[id.index()] != id.index();
        }
        read
    }

    /// The memory of a value that follows from constants.
    fn resident(&self, value: usize, context: RunContext<'_>) -> Result<Arc<Block>, GpuFailure> {
        let program = self.program;
        if program.graph.values[value].constant.is_some() {
            return program.constant(value, context.interrupt);
        }
        let missing = || NodeError {
            node: program.graph.values[value].name.to_string(),
            op: "value".into(),
            source: OpError::internal("nothing writes it"),
        };
        let tensor = self.constant(value).ok_or_else(missing)?;
        program.upload(tensor.view().bytes(), context.interrupt)
    }
}

/// Pinned memory and slots of the host, as they are given out.
struct HostValues<'b> {
    graph: &'b Graph,
    budget: &'b Budget,
    facts: &'b [Option<Fact>],
    on_host: &'b [bool],
    pinned: usize,
    slots: usize,
    /// The slot of each value that is on the host by now.
    slot_of: Vec<Option<usize>>,
}

impl<'b> HostValues<'b> {
    fn new(binder: &'b Binder<'_>) -> Self {
        let graph = &binder.program.graph;
        let (facts, on_host) = (binder.facts.as_slice(), binder.on_host.as_slice());
        let budget = &binder.program.budget;
        Self { graph, budget, facts, on_host, pinned: 0, slots: 0, slot_of: vec![None; graph.values.len()] }
    }

    /// Pinned memory of `bytes`.
    fn staged(&mut self, bytes: usize) -> Option<usize> {
        let offset = self.pinned;
        self.pinned = offset.checked_add(bytes)?.checked_next_multiple_of(256)?;
        Some(offset)
    }

    fn slot(&mut self, value: usize) -> usize {
        let slot = self.slots;
        self.slots += 1;
        self.slot_of[value] = Some(slot);
        slot
    }

    /// How the host finds a value that it reads.
    fn given(&mut self, id: ValueId, place: &dyn Fn(ValueId) -> Place) -> Option<Given> {
        let value = id.index();
        let tensor = self.facts[value].as_ref().and_then(Fact::tensor);
        if let Some(constant) = tensor.and_then(TensorFact::as_constant) {
            // What lies in the model's file may begin at any byte; the host's kernels read whole elements.
            let constant = if constant.is_aligned() {
                constant.clone()
            } else {
                Tensor::copy_of(constant.view(), self.budget).ok()?
            };
            return Some(Given { source: Source::Constant(constant), form: None });
        }
        if let Some(at) = self.graph.inputs.iter().position(|input| *input == id) {
            return Some(Given { source: Source::Input(at), form: None });
        }
        if let Some(slot) = self.slot_of[value] {
            return Some(Given { source: Source::Slot(slot), form: None });
        }
        let tensor = tensor?;
        let (dtype, shape) = (tensor.dtype, tensor.known_shape()?);
        let staging = self.staged(tensor.bytes()?)?;
        let source = Source::Device { place: place(id), staging };
        Some(Given { source, form: Some((dtype, shape, self.slot(value))) })
    }

    /// What becomes of a value that a node on the host makes.
    fn made(&mut self, id: ValueId, place: &dyn Fn(ValueId) -> Place) -> Option<Made> {
        debug_assert!(self.on_host[id.index()]);
        let upload = match place(id) {
            Place::Nowhere => None,
            place => {
                let bytes = self.facts[id.index()].as_ref()?.tensor()?.bytes()?;
                Some((place, self.staged(bytes)?))
            }
        };
        Some(Made { slot: self.slot(id.index()), upload })
    }
}
