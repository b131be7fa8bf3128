//! A bound program's steps as a device would run them: its kernel for a step, and where the operands lie in the spaces
//! that the device mirrors.

use super::access::Space;
use super::bind::{Action, Bound, Located, Place};
use super::brought::Brought;
use super::program::Program;
use crate::cpu::RunContext;
use crate::cuda::families::known::or_known;
use crate::cuda::{GpuKernel, GpuReject, GpuSite, Within, share};
use crate::graph::ValueId;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::plan::SpaceBytes;
use crate::tensor::Tensor;
use recurve_kernels::launch::Device;

/// Operands on a device begin at multiples of this, as its kernels read vectors of so many bytes.
const ALIGNED: usize = 16;

/// Where an operand lies.
#[derive(Clone, Debug)]
pub(crate) enum Operand {
    /// Nowhere: it is absent, or nobody wants it.
    Nowhere,
    /// It is there, but no launch reads it.
    Unread,
    /// In a space, from this byte on.
    In { space: Space, offset: usize, bytes: usize },
    /// It is a constant: a value of the graph, or one that follows from the bound shapes.
    Constant { value: usize, tensor: Tensor, derived: bool },
}

/// A step for a device.
#[derive(Debug)]
pub(crate) struct DeviceForm {
    /// The node in the program's graph.
    pub(crate) node: usize,
    pub(crate) kernel: GpuKernel,
    /// How many launches it makes.
    pub(crate) launches: usize,
    /// The most of the device's room for blocks that one of them takes, at most 1.
    pub(crate) share: f64,
    pub(crate) inputs: Vec<Operand>,
    pub(crate) outputs: Vec<Operand>,
    /// The weights that it is brought in every run.
    pub(crate) brought: Option<Brought>,
}

impl DeviceForm {
    /// Bytes of the device's memory that are its kernel's own.
    pub(crate) fn own_bytes(&self) -> usize {
        let weights = self.kernel.weights().iter().map(|weights| weights.bytes);
        weights.fold(self.kernel.workspace(), usize::saturating_add)
    }
}

impl Bound {
    /// Step `step` on `device`, with little workspace where that is `lean`; or why it does not run there.
    pub(crate) fn device_form(
        &self,
        program: &Program,
        step: usize,
        (device, lean): (Device, bool),
        context: RunContext<'_>,
    ) -> Result<DeviceForm, GpuReject> {
        let of = &self.steps[step];
        let node = program.graph.nodes.get(of.node).filter(|_| matches!(of.action, Action::Kernel(_)));
        let node = node.ok_or(GpuReject::NoKernel)?;
        let operand = |id: &Option<ValueId>| match id {
            Some(id) => self.operand(program, *id),
            None => Ok(Operand::Nowhere),
        };
        let inputs: Vec<Operand> = of.inputs.iter().map(operand).collect::<Result<_, _>>()?;
        let outputs: Vec<Operand> = of.outputs.iter().map(operand).collect::<Result<_, _>>()?;
        let fact = |id: ValueId| {
            let (dtype, shape) = self.values[id.index()].form.as_ref().ok_or(GpuReject::DataDependent)?;
            Ok::<Fact, GpuReject>(TensorFact::known(*dtype, shape).into())
        };
        let given = of.inputs.iter().zip(&inputs).map(|(id, operand)| match (id, operand) {
            (Some(_), Operand::Constant { tensor, .. }) => {
                Ok(Some(Fact::from(TensorFact::constant(tensor.clone()))))
            }
            (Some(id), _) => fact(*id).map(Some),
            (None, _) => Ok(None),
        });
        let given: Vec<Option<Fact>> = given.collect::<Result<_, GpuReject>>()?;
        let given: Vec<Option<&Fact>> = given.iter().map(Option::as_ref).collect();
        // An output that nobody names has the form that the operator infers.
        let inferred =
            crate::graph::infer_node(&*node.op, Facts(&given)).map_err(|_| GpuReject::DataDependent)?;
        let mut facts = Vec::with_capacity(inferred.len());
        for (at, inferred) in inferred.into_iter().enumerate() {
            facts.push(match of.outputs.get(at).copied().flatten() {
                Some(id) => fact(id)?,
                None => inferred,
            });
        }
        let wanted: Vec<bool> = outputs.iter().map(|o| !matches!(o, Operand::Nowhere)).collect();
        let site = GpuSite {
            inputs: Facts(&given),
            outputs: &facts,
            wanted: &wanted,
            behind: None,
            strided: &[],
            within: Within::Plan,
            device,
            precision: program.precision(),
            lean,
            context,
        };
        let kernel = or_known(&*node.op, &site)?.named(&node.name, &node.def.full_name());
        let derived = |o: &Operand| matches!(o, Operand::Constant { derived: true, .. });
        let kernel = if inputs.iter().any(derived) { kernel.of_this_binding() } else { kernel };
        let trial = kernel.trial(&site)?;
        let share = trial.iter().map(|launch| share(&**launch, &device)).fold(0.0, f64::max);
        let launches = trial.len();
        let mut inputs = inputs;
        for (at, input) in inputs.iter_mut().enumerate() {
            if matches!(input, Operand::Constant { .. }) && kernel.leaves_unread(&site, at) {
                *input = Operand::Unread;
            }
        }
        Ok(DeviceForm { node: of.node, kernel, launches, share, inputs, outputs, brought: None })
    }

    fn operand(&self, program: &Program, id: ValueId) -> Result<Operand, GpuReject> {
        let Located { place, offset, form } = &self.values[id.index()];
        let own = || {
            let (dtype, shape) = form.as_ref()?;
            crate::tensor::element_count(shape).and_then(|n| dtype.bytes(n))
        };
        let within = |space: Space, offset: usize, bytes: usize| {
            if offset.is_multiple_of(ALIGNED) {
                return Ok(Operand::In { space, offset, bytes });
            }
            Err(GpuReject::Form(format!("an operand that begins at byte {offset} of another value")))
        };
        let own_or = || own().ok_or(GpuReject::DataDependent);
        match place {
            Place::Nowhere => Ok(Operand::Nowhere),
            Place::Made(_) => Err(GpuReject::DataDependent),
            Place::Input(at) => within(Space::Input(*at), *offset, own_or()?),
            Place::Output(at) => within(Space::Output(*at), *offset, own_or()?),
            Place::Arena { tenant, offset, bytes } => {
                within(Space::Tenant(*tenant), offset - self.tenants[*tenant].0, *bytes)
            }
            Place::Constant(tensor) => {
                let (dtype, shape) = form.as_ref().ok_or(GpuReject::DataDependent)?;
                if *offset != 0 || tensor.dtype() != *dtype || tensor.shape() != shape.as_slice() {
                    return Err(GpuReject::Form("a part of a constant".to_owned()));
                }
                let derived = program.graph.constant(id).is_none();
                Ok(Operand::Constant { value: id.index(), tensor: tensor.clone(), derived })
            }
        }
    }

    /// Bytes of the caller's place for output `index`.
    fn output_bytes(&self, index: usize) -> Option<usize> {
        let (dtype, shape) = self.output_form(index)?;
        crate::tensor::element_count(shape).and_then(|n| dtype.bytes(n))
    }
}

/// The sizes of a binding's spaces.
#[derive(Debug)]
pub(crate) struct Sizes {
    inputs: Vec<Option<usize>>,
    tenants: Vec<usize>,
    outputs: Vec<Option<usize>>,
}

impl Sizes {
    pub(crate) fn of(bound: &Bound, program: &Program) -> Self {
        let input = |id: &ValueId| {
            let (dtype, shape) = bound.values[id.index()].form.as_ref()?;
            crate::tensor::element_count(shape).and_then(|n| dtype.bytes(n))
        };
        Self {
            inputs: program.graph.inputs.iter().map(input).collect(),
            tenants: bound.tenant_bytes(),
            outputs: (0..program.graph.outputs.len()).map(|at| bound.output_bytes(at)).collect(),
        }
    }
}

impl SpaceBytes for Sizes {
    fn bytes_of(&self, space: Space) -> Option<usize> {
        match space {
            Space::Input(at) => *self.inputs.get(at)?,
            Space::Tenant(at) => self.tenants.get(at).copied(),
            Space::Output(at) => *self.outputs.get(at)?,
            Space::Weights(_) => None,
        }
    }
}
