//! What an operator is given to run on a GPU, and what it gives back.

use super::families::flow::{Course, Flow};
use super::families::tail::Behind;
use super::reject::GpuReject;
use crate::cpu::RunContext;
use crate::cpu::program::Layout;
use crate::cpu::random::RandomSource;
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::loops::{Nest, Opaque};
use crate::precision::{Precision, StoredWeights};
use crate::tensor::{Shape, Tensor};
use recurve_kernels::gemm::Factors;
use recurve_kernels::launch::{Buffer, Device, Launch, Reject};
use std::sync::Arc;

/// What a node stands in, on which depends whether the host may decide between its launches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Within {
    /// A graph that runs on the GPU as a whole: the host may.
    Graph,
    /// A body there: the host may, and would at every step.
    Body,
    /// A plan: launches follow one on the other.
    Plan,
}

/// What [`crate::ops::Op::gpu`] is given: as the CPU's site, and the device.
pub(crate) struct GpuSite<'a> {
    /// Facts of the inputs, shapes known.
    pub(crate) inputs: Facts<'a>,
    /// Facts of the outputs, shapes known.
    pub(crate) outputs: &'a [Fact],
    /// Which outputs somebody reads.
    pub(crate) wanted: &'a [bool],
    /// What a group has behind the result, where the operator is its anchor.
    pub(crate) behind: Option<&'a Behind>,
    /// How the first inputs lie in memory, where they are not row-major: those that the operator reads by strides.
    pub(crate) strided: &'a [Option<Layout>],
    /// Where the node stands.
    pub(crate) within: Within,
    /// What the launches run on.
    pub(crate) device: Device,
    /// The format that weights are to be stored in.
    pub(crate) precision: Precision,
    /// Whether memory is scarce: of two ways the one with less workspace is taken, though it is slower.
    pub(crate) lean: bool,
    /// What computes on the host what follows from constants.
    pub(crate) context: RunContext<'a>,
}

impl GpuSite<'_> {
    /// What products may round factors of f32 to.
    pub(crate) fn factors(&self) -> Factors {
        if self.precision == Precision::Tf32 { Factors::Tf32 } else { Factors::Own }
    }

    /// Parts of a product's sums, each of which has a place of its own until they are added: none where memory is scarce.
    pub(crate) fn splits(&self, fast: u32) -> u32 {
        if self.lean { 1 } else { fast }
    }

    /// Shape of input `index`.
    pub(crate) fn input_shape(&self, index: usize) -> Result<Shape, GpuReject> {
        let fact = self.inputs.0.get(index).copied().flatten();
        fact.and_then(|f| f.tensor()?.known_shape()).ok_or(GpuReject::DataDependent)
    }

    /// Shape of output `index`.
    pub(crate) fn output_shape(&self, index: usize) -> Result<Shape, GpuReject> {
        let fact = self.outputs.get(index);
        fact.and_then(|f| f.tensor()?.known_shape()).ok_or(GpuReject::DataDependent)
    }

    /// Element type of input `index`.
    pub(crate) fn dtype(&self, index: usize) -> Result<DType, GpuReject> {
        self.inputs.tensor(index).map(|fact| fact.dtype).map_err(|_| GpuReject::NoKernel)
    }

    /// Input `index` as it lies in memory: row-major where nothing else is said.
    pub(crate) fn input_layout(&self, index: usize) -> Result<Layout, GpuReject> {
        match self.strided.get(index) {
            Some(Some(layout)) => Ok(layout.clone()),
            _ => Ok(Layout::dense(&self.input_shape(index)?)),
        }
    }

    /// The launches of an operator's nest, where its own kernel refuses for `reject`; not in a group, of which the nest
    /// knows nothing.
    pub(crate) fn of_nest(
        &self,
        reject: GpuReject,
        nest: impl FnOnce() -> Result<Nest, Opaque>,
    ) -> Result<GpuKernel, GpuReject> {
        if self.behind.is_some() || self.strided.iter().any(Option::is_some) {
            return Err(reject);
        }
        self.nest_or(reject, nest())
    }

    /// The launches of an operator's nest; where it has none, `reject`, the reason of its own kernel, tells more.
    pub(crate) fn nest_or(
        &self,
        reject: GpuReject,
        nest: Result<Nest, Opaque>,
    ) -> Result<GpuKernel, GpuReject> {
        match super::families::map::of_nest(self, nest) {
            Err(GpuReject::NoKernel) => Err(reject),
            other => other,
        }
    }

    /// Input `index`, when it is a constant that lies row-major.
    pub(crate) fn constant(&self, index: usize) -> Option<&Tensor> {
        if matches!(self.strided.get(index), Some(Some(_))) {
            return None;
        }
        self.inputs.0.get(index).copied().flatten()?.tensor()?.as_constant()
    }
}

/// Bytes of the word that the random numbers of one source begin with.
pub(crate) const STARTS: u64 = 8;

/// What stands for an operand that no launch reads.
pub(crate) const UNREAD: Buffer = Buffer { address: 1, bytes: 0 };

/// Where the operands of a launch are.
pub(crate) struct Operands<'a> {
    /// The inputs; absent ones have address 0.
    pub(crate) inputs: &'a [Buffer],
    /// The outputs; those that are not wanted have address 0.
    pub(crate) outputs: &'a [Buffer],
    /// What [`GpuKernel::with_weights`] packed.
    pub(crate) weights: &'a [Buffer],
    /// What [`GpuKernel::with_data`] gave.
    pub(crate) data: &'a [Buffer],
    /// As many bytes as [`GpuKernel::with_workspace`] asked for.
    pub(crate) workspace: Buffer,
    /// A word that a kernel made [`GpuKernel::with_fault`] sets to 1 where data asks for what is not there.
    pub(crate) fault: Buffer,
    /// The flags of a [`Flow`].
    pub(crate) flags: Buffer,
    /// The 64-bit words that this run's random numbers begin with, one for each of [`GpuKernel::sources`].
    pub(crate) starts: Buffer,
}

/// The launches of one operator, in order.
pub(crate) type Launches = Vec<Arc<dyn Launch>>;

/// Constants in the order in which a kernel reads them.
pub(crate) struct Weights {
    /// The form: a node's weights of one form are packed once, whatever shapes it is bound to.
    pub(crate) form: String,
    /// Their bytes, known before they are packed.
    pub(crate) bytes: usize,
    /// Packs them.
    pub(crate) pack: Box<dyn Fn() -> Vec<u8> + Send + Sync>,
    /// Whether they follow from the model's constants alone, not from the shapes that are bound.
    pub(crate) shared: bool,
}

impl Weights {
    pub(crate) fn new(
        form: String,
        bytes: usize,
        pack: impl Fn() -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        Self { form, bytes, pack: Box::new(pack), shared: true }
    }

    /// Those of a part of this name.
    pub(super) fn within(self, name: &str) -> Self {
        Self { form: format!("{name} {}", self.form), ..self }
    }
}

pub(crate) type Prepare = dyn Fn(&Operands<'_>) -> Result<Launches, Reject> + Send + Sync;

/// What one of several parts of an operator's launches reads of what the operator is given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PartReads {
    pub(crate) inputs: Vec<usize>,
    pub(crate) weights: Vec<usize>,
}

pub(crate) type PrepareParts = dyn Fn(&Operands<'_>) -> Result<Vec<Launches>, Reject> + Send + Sync;

/// An operator's launches in parts, one behind the other, of which each reads its own of the weights.
pub(crate) struct Parts {
    pub(crate) reads: Vec<PartReads>,
    pub(crate) launches: Box<PrepareParts>,
}

/// An operator prepared for a GPU: its launches, once it is known where the operands are.
pub(crate) struct GpuKernel {
    prepare: Box<Prepare>,
    workspace: usize,
    weights: Vec<Weights>,
    data: Vec<Vec<u8>>,
    fault: Option<&'static str>,
    sources: Vec<RandomSource>,
    outputs: Option<Vec<Fact>>,
    stored: Vec<StoredWeights>,
    flow: Option<Arc<Flow>>,
    parts: Option<Parts>,
}

impl GpuKernel {
    /// A kernel without workspace and data.
    pub(crate) fn new(
        prepare: impl Fn(&Operands<'_>) -> Result<Launches, Reject> + Send + Sync + 'static,
    ) -> Self {
        Self {
            prepare: Box::new(prepare),
            workspace: 0,
            weights: Vec::new(),
            data: Vec::new(),
            fault: None,
            sources: Vec::new(),
            outputs: None,
            stored: Vec::new(),
            flow: None,
            parts: None,
        }
    }

    /// A kernel whose launches are those of a course that data decides.
    pub(crate) fn of_flow(flow: Flow) -> Self {
        let flow = Arc::new(flow);
        let whole = flow.clone();
        let kernel = Self::new(move |operands| Ok((whole.course)(operands)?.all()));
        Self { flow: Some(flow), ..kernel }
    }

    /// A kernel of this course, in which data decides where there are so many bytes of flags.
    pub(super) fn of_course(
        course: impl Fn(&Operands<'_>) -> Result<Course, Reject> + Send + Sync + 'static,
        flags: Option<usize>,
    ) -> Self {
        match flags {
            Some(flags) => Self::of_flow(Flow { course: Box::new(course), flags, collected: Vec::new() }),
            None => Self::new(move |operands| Ok(course(operands)?.all())),
        }
    }

    /// Tells which parts its launches have.
    pub(super) fn with_parts(mut self, parts: Parts) -> Self {
        self.parts = Some(parts);
        self
    }

    /// What the parts of its launches read; `None` where they are one part, which may read everything.
    pub(crate) fn part_reads(&self) -> Option<&[PartReads]> {
        self.parts.as_ref().map(|parts| &parts.reads[..])
    }

    /// The launches of each part.
    pub(super) fn prepare_parts(&self, operands: &Operands<'_>) -> Result<Vec<Launches>, Reject> {
        match &self.parts {
            Some(parts) => (parts.launches)(operands),
            None => Ok(vec![self.prepare(operands)?]),
        }
    }

    /// What decides about its launches, where data does.
    pub(crate) fn flow(&self) -> Option<&Flow> {
        self.flow.as_deref()
    }

    /// Its launches, and what decides between them.
    pub(super) fn course(&self, operands: &Operands<'_>) -> Result<Course, Reject> {
        match &self.flow {
            Some(flow) => (flow.course)(operands),
            None => Ok(Course::drawing(self.prepare(operands)?, &self.sources, operands.starts)),
        }
    }

    /// Bytes of its flags.
    pub(super) fn flags(&self) -> usize {
        self.flow.as_ref().map_or(0, |flow| flow.flags)
    }

    /// Tells what weights it stores in another format, or why it does not.
    pub(crate) fn with_stored(mut self, stored: impl IntoIterator<Item = StoredWeights>) -> Self {
        self.stored.extend(stored);
        self
    }

    /// Gives what it tells of weights to `node`, or to a node inside its bodies.
    pub(crate) fn named(mut self, node: &str, op: &str) -> Self {
        self.stored.iter_mut().for_each(|stored| stored.name(node, op));
        self
    }

    /// What it tells of its weights.
    pub(crate) fn stored(&self) -> &[StoredWeights] {
        &self.stored
    }

    /// Asks for a word in which it says that an index in the data is outside its axis.
    pub(crate) fn with_fault(self) -> Self {
        self.with_fault_of(Some("an index is outside its axis"))
    }

    /// Asks for a word in which it says that this is so of the data, where there is anything to say; beside another fault the
    /// word tells of either.
    pub(crate) fn with_fault_of(mut self, what: Option<&'static str>) -> Self {
        self.fault = match (self.fault, what) {
            (Some(own), Some(other)) if own != other => Some("data asks for what is not there"),
            (own, other) => own.or(other),
        };
        self
    }

    /// Asks for a word for each of `sources`, in which each run finds where the random numbers begin that it gives next.
    pub(crate) fn with_sources(mut self, sources: impl IntoIterator<Item = RandomSource>) -> Self {
        self.sources.extend(sources);
        self
    }

    /// Where its random numbers come from, in the order in which it draws them.
    pub(crate) fn sources(&self) -> &[RandomSource] {
        &self.sources
    }

    /// Asks for `bytes` of device memory while it runs; its content at the start is arbitrary.
    pub(crate) fn with_workspace(mut self, bytes: usize) -> Self {
        self.workspace = bytes;
        self
    }

    /// Asks for constants to be on the device as `pack` makes them, so many bytes.
    pub(crate) fn with_weights(
        mut self,
        form: impl Into<String>,
        bytes: usize,
        pack: impl Fn() -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        self.weights.push(Weights::new(form.into(), bytes, pack));
        self
    }

    /// Notes that constants which it packs follow from the shapes that are bound: another binding packs its own.
    pub(crate) fn of_this_binding(mut self) -> Self {
        self.weights.iter_mut().for_each(|weights| weights.shared = false);
        self
    }

    /// Asks for `bytes` to be on the device for this binding: programs and tables.
    pub(crate) fn with_data(mut self, bytes: Vec<u8>) -> Self {
        self.data.push(bytes);
        self
    }

    /// The same, where there are any.
    pub(crate) fn with_data_of(mut self, bytes: Option<Vec<u8>>) -> Self {
        self.data.extend(bytes);
        self
    }

    /// Asks for all of these to be on the device.
    pub(super) fn with_resident(mut self, weights: Vec<Weights>, data: Vec<Vec<u8>>) -> Self {
        self.weights.extend(weights);
        self.data.extend(data);
        self
    }

    /// Takes what is to be on the device out of it.
    pub(super) fn take_resident(&mut self) -> (Vec<Weights>, Vec<Vec<u8>>) {
        (std::mem::take(&mut self.weights), std::mem::take(&mut self.data))
    }

    /// Tells what is known of its outputs, where that is more than what the operator infers.
    pub(super) fn with_outputs(mut self, outputs: Option<Vec<Fact>>) -> Self {
        self.outputs = outputs;
        self
    }

    /// What it tells of its outputs.
    pub(super) fn outputs(&self) -> Option<&[Fact]> {
        self.outputs.as_deref()
    }

    /// What fault it may find with the data.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        self.fault
    }

    /// The error of a run that found it.
    pub(super) fn fault_found(&self) -> OpError {
        let what = self.fault.unwrap_or("data asks for what is not there");
        OpError::value(format!("{what}; a run on the CPU tells which"))
    }

    /// Bytes of workspace.
    pub(crate) fn workspace(&self) -> usize {
        self.workspace
    }

    /// The constants to be packed.
    pub(crate) fn weights(&self) -> &[Weights] {
        &self.weights
    }

    /// What is to be on the device.
    pub(crate) fn data(&self) -> &[Vec<u8>] {
        &self.data
    }

    /// The launches, where they are accepted, found before there is memory: with addresses as an arena gives them.
    pub(crate) fn trial(&self, site: &GpuSite<'_>) -> Result<Launches, Reject> {
        self.trial_without(site, None)
    }

    /// Whether no launch reads input `index`, as where it is packed into the weights: every family checks alignment and
    /// length of what its launches read, and this has neither.
    pub(crate) fn leaves_unread(&self, site: &GpuSite<'_>, index: usize) -> bool {
        self.trial_without(site, Some(index)).is_ok()
    }

    fn trial_without(&self, site: &GpuSite<'_>, unread: Option<usize>) -> Result<Launches, Reject> {
        let mut next = 1u64 << 40;
        let mut buffer = |bytes: u64| {
            let address = next;
            next += bytes.next_multiple_of(256).max(256);
            Buffer { address, bytes }
        };
        let bytes = |fact: &Fact| fact.tensor().and_then(TensorFact::bytes).unwrap_or(0) as u64;
        let inputs = site.inputs.0.iter();
        let mut inputs: Vec<Buffer> =
            inputs.map(|fact| fact.map_or(Buffer::default(), |fact| buffer(bytes(fact)))).collect();
        if let Some(input) = unread.and_then(|index| inputs.get_mut(index)) {
            *input = UNREAD;
        }
        let outputs = site.outputs.iter().zip(site.wanted);
        let outputs: Vec<Buffer> = outputs
            .map(|(fact, &wanted)| if wanted { buffer(bytes(fact)) } else { Buffer::default() })
            .collect();
        let weights: Vec<Buffer> = self.weights.iter().map(|weights| buffer(weights.bytes as u64)).collect();
        let data: Vec<Buffer> = self.data.iter().map(|bytes| buffer(bytes.len() as u64)).collect();
        let (workspace, fault) = (buffer(self.workspace as u64), buffer(4));
        let (flags, starts) = (buffer(self.flags() as u64), buffer(STARTS * self.sources.len() as u64));
        let (inputs, outputs, weights, data) = (&inputs[..], &outputs[..], &weights[..], &data[..]);
        self.prepare(&Operands { inputs, outputs, weights, data, workspace, fault, flags, starts })
    }

    /// The launches.
    pub(super) fn prepare(&self, operands: &Operands<'_>) -> Result<Launches, Reject> {
        (self.prepare)(operands)
    }
}

impl std::fmt::Debug for GpuKernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GpuKernel(workspace {}, data {})", self.workspace, self.data.len())
    }
}
