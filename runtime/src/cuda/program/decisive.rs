//! Inputs whose content decides what is launched: conditions and trip counts of control flow, targets of reshapes, bounds of
//! slices. A binding is for their content as it is for the shapes of all, so that nothing has to come back from the device
//! to decide it.
//!
//! Only few integers or truth values count: sampling rates, flags, sizes; and few floats where a node is made from them as
//! they are: scales, the bounds of a range. What follows from a tensor's shape does not depend on its content.

use crate::dtype::DType;
use crate::error::OpError;
use crate::exec;
use crate::graph::Graph;
use crate::graph::TensorFact;
use crate::graph::fact::{Content, Fact};
use crate::memory::Budget;
use crate::tensor::{Tensor, TensorView, ValueRef};

/// The most elements that decide.
const MOST_ELEMENTS: usize = 16;

/// Whether an input may decide.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Decides {
    /// Its content does not.
    No,
    /// What is made of integers or truth values does.
    Made,
    /// Its own content does, of any type.
    Itself,
}

/// Which inputs of `graph` may decide.
pub(super) fn inputs(graph: &Graph) -> Vec<Decides> {
    let mut decisive = vec![Decides::No; graph.values.len()];
    for node in graph.nodes.iter().rev() {
        let made = node.outputs.iter().flatten().any(|id| decisive[id.index()] != Decides::No);
        let by_content = made && !matches!(node.def.name, "Shape" | "Size");
        // The condition of `If`, the count and the condition of `Loop`; bodies are not looked into.
        let control = match node.def.name {
            "If" => 1,
            "Loop" => 2,
            _ => 0,
        };
        for (at, id) in node.inputs.iter().enumerate() {
            let Some(id) = id else { continue };
            let how = if node.op.bound_from().contains(&at) {
                Decides::Itself
            } else if by_content || at < control {
                Decides::Made
            } else {
                Decides::No
            };
            decisive[id.index()] = decisive[id.index()].max(how);
        }
    }
    graph.inputs.iter().map(|id| decisive[id.index()]).collect()
}

/// What a binding is for: the forms of all inputs, and the content of those that decide.
#[derive(Debug)]
pub(super) struct Key {
    forms: Vec<Fact>,
    /// By input; facts are compared without what they hold.
    contents: Vec<Option<Tensor>>,
}

impl Key {
    /// That of `inputs`.
    pub(super) fn new(
        inputs: &[ValueRef<'_>],
        decisive: &[Decides],
        budget: &Budget,
    ) -> Result<Self, OpError> {
        let forms = inputs.iter().map(|value| exec::fact_of(*value)).collect();
        let content = |(value, decides): (&ValueRef<'_>, &Decides)| match value {
            ValueRef::Tensor(tensor) if counts(*tensor, *decides) => {
                Tensor::copy_of(*tensor, budget).map(Some)
            }
            _ => Ok(None),
        };
        let contents = inputs.iter().zip(decisive).map(content).collect::<Result<_, _>>()?;
        Ok(Self { forms, contents })
    }

    /// That of all inputs of these facts, where they tell all that decides.
    pub(super) fn of_shapes(facts: &[Fact], decisive: &[Decides]) -> Option<Self> {
        let form = |(fact, decides): (&Fact, &Decides)| {
            let known = |tensor: &&TensorFact| *decides == Decides::No && tensor.dtype != DType::String;
            let tensor = fact.tensor().filter(known)?;
            Some(TensorFact::known(tensor.dtype, &tensor.known_shape()?).into())
        };
        let forms: Vec<Fact> = facts.iter().zip(decisive).map(form).collect::<Option<_>>()?;
        Some(Self { contents: vec![None; forms.len()], forms })
    }

    /// What is known of the inputs.
    pub(super) fn facts(&self) -> Vec<Fact> {
        let mut facts = self.forms.clone();
        for (fact, content) in facts.iter_mut().zip(&self.contents) {
            if let (Fact::Tensor(fact), Some(content)) = (fact, content) {
                fact.content = Content::Constant(content.clone());
            }
        }
        facts
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        let same = |(a, b): (&Option<Tensor>, &Option<Tensor>)| {
            a.as_ref().map(Tensor::bytes) == b.as_ref().map(Tensor::bytes)
        };
        self.forms == other.forms && self.contents.iter().zip(&other.contents).all(same)
    }
}

/// Whether the content of an input that decides so is part of what a binding is for.
fn counts(tensor: TensorView<'_>, decides: Decides) -> bool {
    let dtype = tensor.dtype();
    let of_kind = match decides {
        Decides::No => false,
        Decides::Made => dtype.is_int() || dtype == DType::Bool,
        Decides::Itself => dtype != DType::String,
    };
    of_kind && tensor.len() <= MOST_ELEMENTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_decides_is_what_control_flow_and_shapes_are_made_from() {
        let model = include_bytes!("../../../../examples/addition/addition.onnx");
        let budget = Budget::unlimited();
        let graph = crate::onnx::read_bytes(&model[..].into(), &budget).expect("a model").graph;
        // Its loop has a constant count, and the first token's shape is that of the question.
        assert_eq!(inputs(&graph), [Decides::No; 3]);
        let content = |tensor: &Tensor| {
            let key = Key::new(&[tensor.into()], &[Decides::Made], &budget).expect("a key");
            key.facts()[0].tensor().and_then(|t| t.as_constant()?.to_vec::<i64>())
        };
        let tensor = |values: &[i64]| Tensor::new(&[values.len()], values.to_vec()).expect("a tensor");
        assert_eq!(content(&tensor(&[3, 4])), Some(vec![3, 4]));
        assert_eq!(content(&Tensor::new(&[2], vec![3f32, 4.0]).expect("a tensor")), None);
        assert_eq!(content(&tensor(&[3; 17])), None);
        let scales = Tensor::new(&[2], vec![3f32, 4.0]).expect("a tensor");
        let bound = Key::new(&[(&scales).into()], &[Decides::Itself], &budget).expect("a key");
        assert!(bound.facts()[0].tensor().is_some_and(|t| t.as_constant().is_some()), "scales by themselves");
        let key = |values: &[i64], decisive| {
            Key::new(&[ValueRef::from(&tensor(values))], &[decisive], &budget).expect("a key")
        };
        assert_eq!(key(&[3, 4], Decides::Made), key(&[3, 4], Decides::Made));
        assert_ne!(key(&[3, 4], Decides::Made), key(&[3, 5], Decides::Made));
        assert_eq!(key(&[3, 4], Decides::No), key(&[3, 5], Decides::No));
        assert_ne!(key(&[3, 4], Decides::No), key(&[3], Decides::No));
        let declared = [TensorFact::known(DType::I64, &[2]).into()];
        assert_eq!(Key::of_shapes(&declared, &[Decides::No]), Some(key(&[3, 4], Decides::No)));
        assert_eq!(Key::of_shapes(&declared, &[Decides::Made]), None);
        assert_eq!(Key::of_shapes(&[TensorFact::ranked(DType::I64, 1).into()], &[Decides::No]), None);
    }
}
