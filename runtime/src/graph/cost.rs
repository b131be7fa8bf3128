//! The work of a node and of a graph, as far as shapes tell.

use super::fact::{Fact, Facts};
use super::infer::{infer, infer_node};
use super::model::{Graph, Node};
use crate::ops::Cost;

/// Work of one execution of `node` on inputs of these facts, where the shapes of its inputs and outputs are known.
/// A view of an input is no work.
pub(crate) fn node_cost(node: &Node, inputs: &[Option<&Fact>]) -> Option<Cost> {
    if node.op.alias_of().is_some() || node.op.keeps_order(Facts(inputs)) {
        return Some(Cost::default());
    }
    let outputs = infer_node(&*node.op, Facts(inputs)).ok()?;
    let known = |fact: &Fact| fact.tensor().is_some_and(|t| t.known_shape().is_some());
    let named = outputs.iter().zip(&node.outputs).filter(|(_, id)| id.is_some()).map(|(fact, _)| fact);
    if !inputs.iter().flatten().copied().chain(named).all(known) {
        return None;
    }
    Some(node.op.cost(Facts(inputs), &outputs) + node.op.body_cost(Facts(inputs))?)
}

impl Graph {
    /// Work of one execution on inputs of these facts: the sum over its nodes.
    pub(crate) fn cost(&self, inputs: &[Fact]) -> Option<Cost> {
        let facts = infer(self, inputs).ok()?;
        self.nodes.iter().try_fold(Cost::default(), |sum, node| {
            let given: Vec<Option<&Fact>> =
                node.inputs.iter().map(|id| id.and_then(|id| facts[id.index()].as_ref())).collect();
            Some(sum + node_cost(node, &given)?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::{Bool, DType};
    use crate::graph::fact::TensorFact;
    use crate::ops::attributes::{Attribute, NodeSpec};
    use crate::ops::{NEWEST_OPSET, find};
    use crate::tensor::Tensor;
    use crate::testing::bodies::BodyBuilder;

    /// `h ← relu(h + x)` of four elements: eight operations.
    fn step(control: bool) -> Attribute {
        let mut b = BodyBuilder::new();
        let condition = control.then(|| {
            b.input("i");
            b.input("condition")
        });
        let h = b.input("h");
        let x = if control { b.capture("x") } else { b.input("x") };
        let sum = b.node("Add", &[h, x]);
        let next = b.node("Relu", &[sum]);
        let outputs: Vec<_> = condition.into_iter().chain([next]).collect();
        b.finish(&outputs)
    }

    fn body_flops(name: &str, attributes: Vec<(&str, Attribute)>, inputs: &[Fact]) -> Option<f64> {
        let attributes =
            attributes.into_iter().map(|(n, a)| (n.into(), a, std::cell::Cell::new(false))).collect();
        let spec = NodeSpec {
            attributes,
            opset: NEWEST_OPSET,
            inputs: vec![true; inputs.len() - usize::from(name == "Loop")],
            outputs: vec![true],
        };
        let op = (find("", name, NEWEST_OPSET).expect("is listed").parse)(&spec).expect("parses");
        let given: Vec<Option<&Fact>> = inputs.iter().map(Some).collect();
        op.body_cost(Facts(&given)).map(|cost| cost.flops)
    }

    #[test]
    fn a_body_counts_as_often_as_it_runs() {
        let vector = || TensorFact::known(DType::F32, &[4]).into();
        let count = TensorFact::constant(Tensor::scalar(3i64)).into();
        let unknown = TensorFact::known(DType::I64, &[]).into();
        let go = || TensorFact::constant(Tensor::scalar(Bool::new(true))).into();
        let body = || vec![("body", step(true))];
        assert_eq!(body_flops("Loop", body(), &[count, go(), vector(), vector()]), Some(24.0));
        assert_eq!(body_flops("Loop", body(), &[unknown, go(), vector(), vector()]), None);
        let scan = vec![("body", step(false)), ("num_scan_inputs", Attribute::Int(1))];
        let sequence = TensorFact::known(DType::F32, &[5, 4]).into();
        assert_eq!(body_flops("Scan", scan, &[vector(), sequence]), Some(40.0));
    }
}
