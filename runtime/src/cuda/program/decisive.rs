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
use crate::graph::fact::{Content, Fact};
use crate::memory::Budget;
use crate::tensor::{Tensor, ValueRef};

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

/// What is known of a value that decides: its content, where that is short.
pub(super) fn fact_of(value: ValueRef<'_>, budget: &Budget) -> Result<Fact, OpError> {
    let mut fact = exec::fact_of(value);
    if let (Fact::Tensor(known), ValueRef::Tensor(tensor)) = (&mut fact, value)
        && tensor.len() <= MOST_ELEMENTS
        && (tensor.dtype().is_int() || tensor.dtype() == DType::Bool)
    {
        known.content = Content::Constant(Tensor::copy_of(tensor, budget)?);
    }
    Ok(fact)
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
            let fact = fact_of(tensor.into(), &budget).expect("a fact");
            fact.tensor().and_then(|t| t.as_constant()?.to_vec::<i64>())
        };
        let few = Tensor::new(&[2], vec![3i64, 4]).expect("a tensor");
        assert_eq!(content(&few), Some(vec![3, 4]));
        assert_eq!(content(&Tensor::new(&[2], vec![3f32, 4.0]).expect("a tensor")), None);
        assert_eq!(content(&Tensor::new(&[17], vec![3i64; 17]).expect("a tensor")), None);
    }
}
