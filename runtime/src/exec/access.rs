//! What each step of a bound program reads and writes, and whether its steps can be placed at all.

use super::bind::{Action, Bound, Place};
use super::program::Program;
use crate::cpu::recurrent;
use crate::dtype::DType;
use crate::graph::{Fact, Node, TensorFact, ValueId};
use crate::precision::Precision;
use crate::tensor::Shape;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Memory that steps read and write: what belongs together and never overlaps anything else while it is alive.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Space {
    /// An input of the model, which no step writes.
    Input(usize),
    /// A tenant of the arena.
    Tenant(usize),
    /// The caller's place for an output.
    Output(usize),
    /// The weights that a step on a device is brought in every run, in pinned memory.
    Weights(usize),
}

/// Bytes of a space.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Access {
    pub(crate) space: Space,
    pub(crate) bytes: Range<usize>,
}

impl Access {
    /// Whether both touch a common byte.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        self.space == other.space && self.bytes.start < other.bytes.end && other.bytes.start < self.bytes.end
    }
}

/// What a step touches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accesses {
    pub(crate) reads: Vec<Access>,
    pub(crate) writes: Vec<Access>,
}

impl Accesses {
    /// Bytes that it writes; a copy to an output writes those that it reads.
    pub(crate) fn written(&self) -> usize {
        let known = |access: &&Access| access.bytes.end != usize::MAX;
        let copies = !self.writes.is_empty() && !self.writes.iter().any(|access| known(&access));
        let of = if copies { &self.reads } else { &self.writes };
        of.iter().filter(known).map(|access| access.bytes.len()).sum()
    }
}

/// Element type and shape of a value.
pub(crate) type Form = (DType, Shape);

/// A step as the cost model sees it.
#[derive(Debug)]
pub(crate) struct StepForm<'a> {
    /// The node; `None` for the copy of a value to an output.
    pub(crate) node: Option<&'a Node>,
    /// Forms of the inputs, `None` where there is none, and whether each is a constant.
    pub(crate) inputs: Vec<Option<(Form, bool)>>,
    /// Forms of the outputs.
    pub(crate) outputs: Vec<Option<Form>>,
    /// The format that weights are stored in.
    pub(crate) precision: Precision,
    /// Whether recurrent weights lie in fewer bits, without loss.
    pub(crate) compact: bool,
}

impl Bound {
    /// Number of steps.
    pub(crate) fn step_count(&self) -> usize {
        self.steps.len()
    }

    /// Bytes of every tenant of the arena.
    pub(crate) fn tenant_bytes(&self) -> Vec<usize> {
        self.tenants.iter().map(|(_, bytes)| *bytes).collect()
    }

    /// Bytes of scratch memory that a step needs.
    pub(crate) fn scratch_of(&self, step: usize) -> usize {
        match &self.steps[step].action {
            Action::Kernel(kernel) => kernel.scratch(),
            Action::Late | Action::Copy => 0,
        }
    }

    /// Name and operator of a step.
    pub(crate) fn step_name(&self, program: &Program, step: usize) -> (String, String) {
        let at = self.steps[step].node;
        match program.graph.nodes.get(at) {
            Some(node) => (node.name.to_string(), node.def.full_name()),
            None => {
                let id = program.graph.outputs[at - program.graph.nodes.len()];
                (program.graph.value(id).name.to_string(), "Copy".to_owned())
            }
        }
    }

    /// The node that a step runs; none for the copy of a value to an output.
    pub(crate) fn step_node<'p>(&self, program: &'p Program, step: usize) -> Option<&'p Node> {
        program.graph.nodes.get(self.steps[step].node)
    }

    /// The name of the value that a step writes from these bytes on.
    pub(crate) fn written_name(&self, program: &Program, step: usize, access: &Access) -> Option<String> {
        let s = &self.steps[step];
        let begins = |id: &&ValueId| match self.values[id.index()].place {
            Place::Arena { tenant, offset, .. } => {
                access.space == Space::Tenant(tenant) && access.bytes.start == offset - self.tenants[tenant].0
            }
            Place::Output(at) => {
                access.space == Space::Output(at) && access.bytes.start == self.values[id.index()].offset
            }
            _ => false,
        };
        let copied = || {
            let at = s.node.checked_sub(program.graph.nodes.len())?;
            program.graph.outputs.get(at)
        };
        let id = s.outputs.iter().flatten().find(begins).or_else(copied)?;
        Some(program.graph.value(*id).name.to_string())
    }

    /// The first step whose memory is not known before the run, by name: such a program is not placed.
    pub(crate) fn unplaceable(&self, program: &Program) -> Option<String> {
        let late = |step: usize| {
            let s = &self.steps[step];
            let touched = s.inputs.iter().chain(&s.outputs).flatten();
            let unknown = |id: &ValueId| {
                let value = &self.values[id.index()];
                matches!(value.place, Place::Made(_))
                    || value.form.as_ref().is_none_or(|(dtype, _)| *dtype == DType::String)
            };
            matches!(s.action, Action::Late) || touched.into_iter().any(unknown)
        };
        let step = (0..self.steps.len()).find(|&step| late(step))?;
        Some(self.step_name(program, step).0)
    }

    /// What step `step` is, where the forms of all its values are known.
    pub(crate) fn step_form<'p>(&self, program: &'p Program, step: usize) -> Option<StepForm<'p>> {
        let s = &self.steps[step];
        if matches!(s.action, Action::Late) {
            return None;
        }
        let form = |id: &Option<ValueId>| -> Option<Option<(Form, bool)>> {
            let Some(id) = id else { return Some(None) };
            let value = &self.values[id.index()];
            Some(Some((value.form.clone()?, matches!(value.place, Place::Constant(_)))))
        };
        let inputs: Vec<_> = s.inputs.iter().map(form).collect::<Option<_>>()?;
        let outputs = s.outputs.iter().map(form).collect::<Option<Vec<_>>>()?;
        let outputs = match program.graph.nodes.get(s.node) {
            Some(_) => outputs.into_iter().map(|o| o.map(|(form, _)| form)).collect(),
            None => vec![inputs.first().cloned().flatten().map(|(form, _)| form)],
        };
        let (node, precision) = (program.graph.nodes.get(s.node), program.precision());
        let packed = program.packed.get(s.node).and_then(Option::as_ref);
        let recurrent = packed.and_then(|packed| packed.data.downcast_ref::<recurrent::Weights>());
        let compact = recurrent.is_some_and(recurrent::Weights::are_compact);
        Some(StepForm { node, inputs, outputs, precision, compact })
    }

    /// What is known of the inputs of a step: their forms, and the content of constants, on which work may depend.
    pub(crate) fn step_facts(&self, step: usize) -> Option<Vec<Option<Fact>>> {
        let fact = |id: &Option<ValueId>| -> Option<Option<Fact>> {
            let Some(id) = id else { return Some(None) };
            let value = &self.values[id.index()];
            if let Place::Constant(tensor) = &value.place
                && value.form.as_ref().is_some_and(|(_, shape)| shape[..] == *tensor.shape())
            {
                return Some(Some(TensorFact::constant(tensor.clone()).into()));
            }
            let (dtype, shape) = value.form.as_ref()?;
            Some(Some(TensorFact::known(*dtype, shape).into()))
        };
        self.steps[step].inputs.iter().map(fact).collect()
    }

    /// What step `step` touches of the memory that steps write, and of the inputs.
    pub(crate) fn accesses(&self, program: &Program, step: usize) -> Accesses {
        let s = &self.steps[step];
        let access = |id: &ValueId| {
            let value = &self.values[id.index()];
            let own = || {
                let (dtype, shape) = value.form.as_ref()?;
                crate::tensor::element_count(shape).and_then(|n| dtype.bytes(n))
            };
            match value.place {
                Place::Arena { tenant, offset, bytes } => {
                    let start = offset - self.tenants[tenant].0;
                    Some(Access { space: Space::Tenant(tenant), bytes: start..start + bytes })
                }
                Place::Output(at) => {
                    let start = value.offset;
                    let bytes = own().unwrap_or(usize::MAX - start);
                    Some(Access { space: Space::Output(at), bytes: start..start + bytes })
                }
                Place::Input(at) => {
                    let start = value.offset;
                    Some(Access { space: Space::Input(at), bytes: start..start + own()? })
                }
                _ => None,
            }
        };
        let mut accesses = Accesses {
            reads: s.inputs.iter().flatten().filter_map(access).collect(),
            writes: s.outputs.iter().flatten().filter_map(access).collect(),
        };
        if let Some(at) = s.node.checked_sub(program.graph.nodes.len()) {
            accesses.writes.push(Access { space: Space::Output(at), bytes: 0..usize::MAX });
        }
        accesses
    }
}
