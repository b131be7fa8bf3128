//! Several kernels one after the other as one: what lies between them is in the workspace.

use super::flow::{Course, part_of};
use crate::cuda::GpuReject;
use crate::cuda::site::{GpuKernel, Operands, PartReads, Parts, STARTS, Weights};
use crate::tensor::Tensor;
use recurve_kernels::launch::{Buffer, Reject};
use std::sync::Arc;

/// Where an operand lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// Input `.0` of the whole.
    Input(usize),
    /// Output `.0` of the whole.
    Output(usize),
    /// So many bytes of input `.0` from byte `.1` on.
    PartOfInput(usize, usize, usize),
    /// The same of output `.0`.
    PartOfOutput(usize, usize, usize),
    /// At this offset of the workspace.
    Between { offset: usize, bytes: usize },
    /// Constant `.0` of the model.
    Constant(usize),
    /// Constant `.0` that follows from the shapes that are bound.
    Derived(usize),
    /// The word that this run's random numbers of the kernel begin with.
    Start,
    /// It is not there.
    Nowhere,
}

impl Place {
    fn buffer(self, all: &Operands<'_>, start: Buffer) -> Buffer {
        let given = |buffers: &[Buffer], at: usize| buffers.get(at).copied().unwrap_or_default();
        let part = |of: Buffer, first: usize, bytes: usize| Buffer {
            address: of.address + first as u64,
            bytes: (bytes as u64).min(of.bytes.saturating_sub(first as u64)),
        };
        match self {
            Self::Input(at) => given(all.inputs, at),
            Self::Output(at) => given(all.outputs, at),
            Self::PartOfInput(at, first, bytes) => part(given(all.inputs, at), first, bytes),
            Self::PartOfOutput(at, first, bytes) => part(given(all.outputs, at), first, bytes),
            Self::Between { offset, bytes } => {
                Buffer { address: all.workspace.address + offset as u64, bytes: bytes as u64 }
            }
            Self::Constant(at) => given(all.weights, at),
            Self::Derived(at) => given(all.data, at),
            Self::Start => start,
            Self::Nowhere => Buffer::default(),
        }
    }
}

/// One kernel and the places of its operands.
struct Member {
    kernel: GpuKernel,
    inputs: Vec<Place>,
    outputs: Vec<Place>,
    workspace: Place,
    name: String,
}

/// A workspace as it is given out.
#[derive(Default)]
pub(super) struct Space {
    used: usize,
}

impl Space {
    pub(super) fn take(&mut self, bytes: usize) -> Result<usize, GpuReject> {
        let offset = self.used;
        let end = offset.checked_add(bytes).and_then(|end| end.checked_next_multiple_of(256));
        self.used = end.ok_or_else(|| GpuReject::Form("work on so many bytes".into()))?;
        Ok(offset)
    }

    /// Bytes given out so far.
    pub(super) fn used(&self) -> usize {
        self.used
    }
}

/// Kernels in order.
pub(super) struct Composition {
    members: Vec<Member>,
    workspace: Space,
    constants: Vec<Weights>,
    derived: Vec<Vec<u8>>,
    name: String,
}

impl Composition {
    /// None yet; `name` tells its weights from those of others of the same node.
    pub(super) fn new(name: impl Into<String>) -> Self {
        let (constants, derived) = (Vec::new(), Vec::new());
        Self { members: Vec::new(), workspace: Space::default(), constants, derived, name: name.into() }
    }

    /// A place for `bytes` between kernels.
    pub(super) fn between(&mut self, bytes: usize) -> Result<Place, GpuReject> {
        Ok(Place::Between { offset: self.workspace.take(bytes)?, bytes })
    }

    /// A constant of the model, by a name that no other one has.
    pub(super) fn constant(&mut self, name: &str, tensor: &Tensor) -> Place {
        let tensor = tensor.clone();
        let form = format!("{} {name}", self.name);
        let bytes = tensor.view().bytes().len();
        self.constants.push(Weights::new(form, bytes, move || tensor.view().bytes().to_vec()));
        Place::Constant(self.constants.len() - 1)
    }

    /// A constant that follows from the shapes that are bound.
    pub(super) fn derived(&mut self, tensor: &Tensor) -> Place {
        self.derived.push(tensor.view().bytes().to_vec());
        Place::Derived(self.derived.len() - 1)
    }

    /// Adds a kernel, by a name that no other member has.
    pub(super) fn add(
        &mut self,
        name: &str,
        kernel: GpuKernel,
        inputs: Vec<Place>,
        outputs: Vec<Place>,
    ) -> Result<(), GpuReject> {
        let workspace = self.between(kernel.workspace())?;
        let name = format!("{} {name}", self.name);
        self.members.push(Member { kernel, inputs, outputs, workspace, name });
        Ok(())
    }

    /// All of them as one; it is a flow where one of them is.
    pub(super) fn finish(mut self) -> GpuKernel {
        let (mut weights, mut data) = (self.constants, self.derived);
        let own = End { weights: weights.len(), data: data.len(), flags: 0, starts: 0 };
        let mut ends: Vec<End> = Vec::with_capacity(self.members.len());
        let (mut flags, mut sources) = (0, Vec::new());
        for member in &mut self.members {
            let (packed, bytes) = member.kernel.take_resident();
            weights.extend(packed.into_iter().map(|packed| packed.within(&member.name)));
            data.extend(bytes);
            flags += member.kernel.flags();
            sources.extend_from_slice(member.kernel.sources());
            let starts = STARTS as usize * sources.len();
            ends.push(End { weights: weights.len(), data: data.len(), flags, starts });
        }
        let faults: Vec<_> = self.members.iter().map(|member| member.kernel.fault()).collect();
        let stored: Vec<_> = self.members.iter().flat_map(|m| m.kernel.stored().to_vec()).collect();
        let workspace = self.workspace.used();
        let flows = self.members.iter().any(|member| member.kernel.flow().is_some());
        let joined = Arc::new(Joined { members: self.members, own, ends });
        let whole = joined.clone();
        let course = move |all: &Operands<'_>| Ok(Course::sequence(whole.courses(all)?));
        let kernel = GpuKernel::of_course(course, flows.then_some(flags));
        let kernel = faults.into_iter().fold(kernel, GpuKernel::with_fault_of);
        let kernel = if flows { kernel } else { kernel.with_parts(joined.parts()) };
        let kernel = kernel.with_sources(sources);
        kernel.with_workspace(workspace).with_resident(weights, data).with_stored(stored)
    }
}

/// Where the weights, data, flags and words of sources of a member end among those of all.
#[derive(Clone, Copy)]
struct End {
    weights: usize,
    data: usize,
    /// In bytes, as `starts`.
    flags: usize,
    starts: usize,
}

/// Members, and where what is theirs ends; ahead of the first is what is the composition's own.
struct Joined {
    members: Vec<Member>,
    own: End,
    ends: Vec<End>,
}

impl Joined {
    fn courses(&self, all: &Operands<'_>) -> Result<Vec<Course>, Reject> {
        let mut courses = Vec::with_capacity(self.members.len());
        let mut first = self.own;
        for (member, &end) in self.members.iter().zip(&self.ends) {
            let starts = part_of(all.starts, &(first.starts..end.starts));
            let of = |places: &[Place]| places.iter().map(|p| p.buffer(all, starts)).collect::<Vec<Buffer>>();
            let (inputs, outputs) = (of(&member.inputs), of(&member.outputs));
            courses.push(member.kernel.course(&Operands {
                inputs: &inputs,
                outputs: &outputs,
                weights: &all.weights[first.weights..end.weights],
                data: &all.data[first.data..end.data],
                workspace: member.workspace.buffer(all, starts),
                fault: all.fault,
                flags: part_of(all.flags, &(first.flags..end.flags)),
                starts,
            })?);
            first = end;
        }
        Ok(courses)
    }

    /// The launches of each member by themselves.
    fn parts(self: Arc<Self>) -> Parts {
        let mut first = self.own.weights;
        let reads = self.members.iter().zip(&self.ends).map(|(member, end)| {
            let mut of = PartReads { inputs: Vec::new(), weights: (first..end.weights).collect() };
            first = end.weights;
            for place in &member.inputs {
                match place {
                    Place::Input(at) => of.inputs.push(*at),
                    Place::Constant(at) => of.weights.push(*at),
                    _ => {}
                }
            }
            of
        });
        let reads = reads.collect();
        let launches =
            move |all: &Operands<'_>| Ok(self.courses(all)?.into_iter().map(Course::all).collect());
        Parts { reads, launches: Box::new(launches) }
    }
}
