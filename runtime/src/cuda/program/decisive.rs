//! Inputs whose content decides what is launched: conditions and trip counts of control flow, targets of reshapes, bounds of
//! slices. A binding is for their content as it is for the shapes of all, so that nothing has to come back from the device
//! to decide it.
//!
//! Only few integers or truth values count: sampling rates, flags, sizes. What follows from a tensor's shape does not
//! depend on its content.

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

/// Which inputs of `graph` may decide.
pub(super) fn inputs(graph: &Graph) -> Vec<bool> {
    let mut decisive = vec![false; graph.values.len()];
    for node in graph.nodes.iter().rev() {
        let made = node.outputs.iter().flatten().any(|id| decisive[id.index()]);
        let by_content = made && !matches!(node.def.name, "Shape" | "Size");
        // The condition of `If`, the count and the condition of `Loop`; bodies are not looked into.
        let control = match node.def.name {
            "If" => 1,
            "Loop" => 2,
            _ => 0,
        };
        for (at, id) in node.inputs.iter().enumerate() {
            let Some(id) = id else { continue };
            if by_content || at < control || node.op.prepared_from().contains(&at) {
                decisive[id.index()] = true;
            }
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
    pub(super) fn new(inputs: &[ValueRef<'_>], decisive: &[bool], budget: &Budget) -> Result<Self, OpError> {
        let forms = inputs.iter().map(|value| exec::fact_of(*value)).collect();
        let content = |(value, decisive): (&ValueRef<'_>, &bool)| match value {
            ValueRef::Tensor(tensor) if *decisive && is_short(*tensor) => {
                Tensor::copy_of(*tensor, budget).map(Some)
            }
            _ => Ok(None),
        };
        let contents = inputs.iter().zip(decisive).map(content).collect::<Result<_, _>>()?;
        Ok(Self { forms, contents })
    }

    /// That of all inputs of these facts, where they tell all that decides.
    pub(super) fn of_shapes(facts: &[Fact], decisive: &[bool]) -> Option<Self> {
        let form = |(fact, decides): (&Fact, &bool)| {
            let tensor = fact.tensor().filter(|tensor| !decides && tensor.dtype != DType::String)?;
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

fn is_short(tensor: TensorView<'_>) -> bool {
    tensor.len() <= MOST_ELEMENTS && (tensor.dtype().is_int() || tensor.dtype() == DType::Bool)
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
        assert_eq!(inputs(&graph), [false; 3]);
        let content = |tensor: &Tensor| {
            let key = Key::new(&[tensor.into()], &[true], &budget).expect("a key");
            key.facts()[0].tensor().and_then(|t| t.as_constant()?.to_vec::<i64>())
        };
        let tensor = |values: &[i64]| Tensor::new(&[values.len()], values.to_vec()).expect("a tensor");
        assert_eq!(content(&tensor(&[3, 4])), Some(vec![3, 4]));
        assert_eq!(content(&Tensor::new(&[2], vec![3f32, 4.0]).expect("a tensor")), None);
        assert_eq!(content(&tensor(&[3; 17])), None);
        let key = |values: &[i64], decisive| {
            Key::new(&[ValueRef::from(&tensor(values))], &[decisive], &budget).expect("a key")
        };
        assert_eq!(key(&[3, 4], true), key(&[3, 4], true));
        assert_ne!(key(&[3, 4], true), key(&[3, 5], true));
        assert_eq!(key(&[3, 4], false), key(&[3, 5], false));
        assert_ne!(key(&[3, 4], false), key(&[3], false));
        let declared = [TensorFact::known(DType::I64, &[2]).into()];
        assert_eq!(Key::of_shapes(&declared, &[false]), Some(key(&[3, 4], false)));
        assert_eq!(Key::of_shapes(&declared, &[true]), None);
        assert_eq!(Key::of_shapes(&[TensorFact::ranked(DType::I64, 1).into()], &[false]), None);
    }
}
