//! A graph on one stream of one GPU: constants uploaded once, and bindings to shapes, of which the latest are kept.
//!
//! Inputs are copied in and outputs out through pinned memory. Between them everything stays on the device, unless nodes
//! without a kernel may run on the host.

mod bind;
mod bound;
mod decisive;
mod device_step;
mod flow;
mod host;
mod lanes;
mod measuring;
mod order;
mod outputs;
mod place;
mod placed;
mod residency;
mod trips;
mod upload;
mod usage;

use super::site::Weights;
use super::{Allowance, Block, GpuError, GpuReject};
use crate::device::Fallback;
use crate::error::OpError;
use crate::exec::Interrupt;
use crate::graph::fact::{Facts, TensorFact};
use crate::graph::{Fact, Graph, Node, NodeError};
use crate::memory::Budget;
use crate::ops::{PackSite, Packed};
use crate::precision::{Precision, Stored, StoredWeights, Storing};
use crate::tensor::ValueRef;
pub(crate) use bound::GpuBound;
use decisive::{Decides, Key};
pub(crate) use order::Action;
pub(crate) use placed::{CopyPlace, DeviceRun, Layout, PlacedSteps, Sequence};
use recurve_kernels::launch::Device;
pub(crate) use residency::share;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
pub use trips::HostTrip;
use upload::Uploader;
pub use usage::GpuUse;

/// Bindings kept per program.
pub(super) const BINDINGS: usize = 8;

/// Why a program on a GPU cannot be bound or run.
#[derive(Debug)]
pub(crate) enum GpuFailure {
    /// A node's facts, or its values.
    Node(NodeError),
    /// Nodes that have no kernel: their names, operators and why.
    Rejected(Vec<(String, String, GpuReject)>),
    /// The device.
    Gpu(GpuError),
}

impl From<NodeError> for GpuFailure {
    fn from(error: NodeError) -> Self {
        Self::Node(error)
    }
}

impl From<GpuError> for GpuFailure {
    fn from(error: GpuError) -> Self {
        Self::Gpu(error)
    }
}

/// Why a step on the host, or a copy between the memories, failed.
#[derive(Debug)]
pub(crate) enum StepFailure {
    /// What the node computes.
    Op(OpError),
    /// The device.
    Gpu(GpuError),
}

impl From<OpError> for StepFailure {
    fn from(error: OpError) -> Self {
        Self::Op(error)
    }
}

impl From<GpuError> for StepFailure {
    fn from(error: GpuError) -> Self {
        Self::Gpu(error)
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct GpuProgram {
    gpu: Allowance,
    device: Device,
    graph: Graph,
    /// Inputs whose content decides about what is launched.
    decisive: Vec<Decides>,
    budget: Budget,
    /// The graph's constants that kernels read as they are, by value.
    constants: Mutex<HashMap<usize, Arc<Block>>>,
    /// By node: the first that packs the same.
    alike: Vec<usize>,
    /// What kernels packed, by the first node that packs it and form.
    weights: Mutex<HashMap<(usize, String), Arc<Block>>>,
    uploader: Uploader,
    /// The format that weights are stored in, and by node and input what came of it for the shapes bound last.
    precision: Precision,
    stored: Mutex<BTreeMap<(usize, String, usize), StoredWeights>>,
    /// Whether nodes without a kernel may run on the host, and on how many threads there.
    fallback: Fallback,
    threads: usize,
    /// What the nodes that run on the host packed, by node.
    packed: Mutex<HashMap<usize, Arc<Option<Packed>>>>,
    /// How often flags were read that decide between launches.
    flag_reads: AtomicU64,
    /// What ran on the host, by node.
    trips: Mutex<BTreeMap<usize, HostTrip>>,
    bindings: Mutex<Vec<(Key, Arc<GpuBound>)>>,
}

impl GpuProgram {
    /// `graph` on `gpu`, its weights in `precision`; host memory is charged to `budget`. Nodes without a kernel run on `threads`
    /// threads of the host, where `fallback` allows it.
    pub(crate) fn new(
        graph: Graph,
        gpu: Allowance,
        budget: Budget,
        (fallback, threads): (Fallback, usize),
        precision: Precision,
    ) -> Result<Self, GpuError> {
        let properties = gpu.gpu().properties();
        let (major, minor) = properties.capability;
        let device = Device {
            capability: 10 * major + minor,
            multiprocessors: properties.multiprocessors,
            shared_bytes: properties.shared_per_block,
        };
        let uploader = Uploader::new(&gpu, &budget)?;
        Ok(Self {
            gpu,
            device,
            decisive: decisive::inputs(&graph),
            alike: graph.alike(),
            graph,
            budget,
            constants: Mutex::default(),
            weights: Mutex::default(),
            uploader,
            precision,
            stored: Mutex::default(),
            fallback,
            threads,
            packed: Mutex::default(),
            flag_reads: AtomicU64::new(0),
            trips: Mutex::default(),
            bindings: Mutex::default(),
        })
    }

    /// What kernels are prepared for.
    pub(crate) fn device(&self) -> Device {
        self.device
    }

    /// The graph.
    pub(crate) fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The binding for `inputs`, made when it is not there.
    pub(crate) fn bind(
        &self,
        inputs: &[ValueRef<'_>],
        context: crate::cpu::RunContext<'_>,
    ) -> Result<Arc<GpuBound>, GpuFailure> {
        let key = Key::new(inputs, &self.decisive, &self.budget);
        self.bind_to(key.map_err(|source| node_error(&self.graph, usize::MAX, source))?, context)
    }

    /// Whether the content of input `index` may decide what is launched: it is read on the host when inputs are bound.
    pub(crate) fn decides(&self, index: usize) -> bool {
        self.decisive.get(index).is_some_and(|decides| *decides != Decides::No)
    }

    /// Binds to the inputs' shapes where they are known beforehand, and nothing else decides: what does not fit, or has no
    /// kernel, is found before the first run.
    pub(crate) fn prepare(
        &self,
        declared: &[Fact],
        context: crate::cpu::RunContext<'_>,
    ) -> Result<(), GpuFailure> {
        let Some(key) = Key::of_shapes(declared, &self.decisive) else { return Ok(()) };
        self.bind_to(key, context).map(drop)
    }

    /// The binding for `key`, made when it is not there.
    fn bind_to(&self, key: Key, context: crate::cpu::RunContext<'_>) -> Result<Arc<GpuBound>, GpuFailure> {
        let lock = || self.bindings.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut bindings = lock();
            if let Some(at) = bindings.iter().position(|(known, _)| *known == key) {
                bindings[..=at].rotate_right(1);
                return Ok(bindings[0].1.clone());
            }
        }
        let facts = key.facts();
        let mut bound = GpuBound::new(self, &facts, context);
        for forget in [Self::forget_bindings, Self::forget_weights] {
            if matches!(bound, Err(GpuFailure::Gpu(GpuError::Limit { .. }))) && forget(self) {
                bound = GpuBound::new(self, &facts, context);
            }
        }
        let bound = Arc::new(bound?);
        let mut bindings = lock();
        bindings.insert(0, (key, bound.clone()));
        bindings.truncate(BINDINGS);
        Ok(bound)
    }

    /// Lets go of bindings that no run uses, whose memory others need; whether there were any.
    fn forget_bindings(&self) -> bool {
        let mut bindings = self.bindings.lock().unwrap_or_else(PoisonError::into_inner);
        let idle: Vec<_> = bindings.extract_if(.., |(_, bound)| Arc::strong_count(bound) == 1).collect();
        drop(bindings);
        !idle.is_empty()
    }

    /// Lets go of constants and packed weights that no binding reads; whether there were any.
    fn forget_weights(&self) -> bool {
        let mut constants = self.constants.lock().unwrap_or_else(PoisonError::into_inner);
        let mut weights = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        let held = constants.len() + weights.len();
        constants.retain(|_, block| Arc::strong_count(block) > 1);
        weights.retain(|_, block| Arc::strong_count(block) > 1);
        constants.len() + weights.len() < held
    }

    /// An arena of `bytes`; bindings for other shapes make room for it.
    fn arena(&self, bytes: usize) -> Result<Block, GpuError> {
        match self.gpu.allocate(bytes) {
            Err(GpuError::Limit { .. }) if self.forget_bindings() => self.gpu.allocate(bytes),
            arena => arena,
        }
    }

    /// What weights were stored in.
    pub(crate) fn stored(&self) -> Stored {
        let stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        Stored { precision: self.precision, weights: stored.values().cloned().collect() }
    }

    /// Notes what the kernel of node `node` tells of its weights.
    fn note_stored(&self, node: usize, told: &[StoredWeights]) {
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        for weights in told {
            stored.insert((node, weights.node.to_string(), weights.input), weights.clone());
        }
    }

    /// What ran on the host since the graph was loaded, with its nodes, in their order.
    pub(crate) fn trips(&self) -> Vec<(&Node, HostTrip)> {
        let trips = self.trips.lock().unwrap_or_else(PoisonError::into_inner);
        trips.iter().map(|(&node, trip)| (&self.graph.nodes[node], trip.clone())).collect()
    }

    /// Notes that node `node` ran on the host.
    fn note_trip(&self, node: usize, reason: &GpuReject, down: u64, up: u64) {
        let mut trips = self.trips.lock().unwrap_or_else(PoisonError::into_inner);
        let trip = trips.entry(node).or_insert_with(|| {
            let node = &self.graph.nodes[node];
            let (node, op) = (node.name.to_string(), node.def.full_name());
            let (reason, members) = (reason.clone(), Vec::new());
            HostTrip { node, op, members, reason, calls: 0, bytes_down: 0, bytes_up: 0 }
        });
        trip.calls += 1;
        trip.bytes_down += down;
        trip.bytes_up += up;
    }

    /// What node `node` packs of its constants to run on the host, packed when it is first asked for.
    fn packed(&self, node: usize) -> Result<Arc<Option<Packed>>, OpError> {
        let mut all = self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(packed) = all.get(&node) {
            return Ok(packed.clone());
        }
        let of = &self.graph.nodes[node];
        let constants = of.inputs.iter().map(|id| self.graph.constant((*id)?));
        let facts: Vec<Option<Fact>> =
            constants.map(|t| t.map(|t| TensorFact::constant(t.clone()).into())).collect();
        let given: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        let storing = Storing::new(self.precision.stored());
        let (inputs, budget) = (Facts(&given), &self.budget);
        let site = PackSite { inputs, budget, release: &|_| (), threads: self.threads, storing: &storing };
        let packed = Arc::new(of.op.pack(&site)?);
        storing.name(0, &of.name, &of.def.full_name());
        self.note_stored(node, &storing.finish().weights);
        all.insert(node, packed.clone());
        Ok(packed)
    }

    /// The device memory of constant `value`, uploaded when it is first asked for.
    fn constant(&self, value: usize, interrupt: &Interrupt) -> Result<Arc<Block>, GpuFailure> {
        let mut constants = self.constants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(block) = constants.get(&value) {
            return Ok(block.clone());
        }
        let tensor = self.graph.values[value].constant.as_ref();
        let bytes = tensor.map_or(&[][..], |t| t.view().bytes());
        let block = self.upload(bytes, interrupt)?;
        constants.insert(value, block.clone());
        Ok(block)
    }

    /// Whether node `node`'s weights of this form are on the device.
    fn has_weights(&self, node: usize, packed: &Weights) -> bool {
        let weights = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        weights.contains_key(&(self.alike[node], packed.form.clone()))
    }

    /// The device memory of node `node`'s weights in one form, packed and uploaded when it is first asked for.
    fn weights(
        &self,
        node: usize,
        packed: &Weights,
        interrupt: &Interrupt,
    ) -> Result<Arc<Block>, GpuFailure> {
        let mut weights = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (self.alike[node], packed.form.clone());
        if let Some(block) = weights.get(&key) {
            return Ok(block.clone());
        }
        let block = self.upload_packed(packed.bytes, &*packed.pack, interrupt)?;
        weights.insert(key, block.clone());
        Ok(block)
    }
}

/// The error of node `index`.
fn node_error(graph: &Graph, index: usize, source: OpError) -> NodeError {
    match graph.nodes.get(index) {
        Some(node) => NodeError::new(node, source),
        None => NodeError::of_graph(graph, source),
    }
}
