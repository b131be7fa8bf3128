//! A whole model by the references of its operators, as it is written: nothing is simplified, fused or packed.

use crate::error::Error;
use crate::graph::NodeError;
use crate::memory::Budget;
use crate::onnx;
use crate::reference::{RefValue, run_graph};
use crate::tensor::{Tensor, Value};
use bytes::Bytes;

/// The outputs of `model` with their names, rounded once to the types that the model gives them. Inputs that are not named
/// are an error, as are nodes that cannot run.
pub fn model_reference(
    model: impl Into<Bytes>,
    inputs: &[(&str, &Tensor)],
) -> Result<Vec<(String, Value)>, Error> {
    let model = onnx::read_bytes(&model.into(), &Budget::unlimited())?;
    if !model.refusals.is_empty() {
        return Err(Error::Unsupported { refusals: model.refusals });
    }
    let graph = model.graph;
    let failed =
        |name: &str, source| NodeError { node: name.to_owned(), op: "value".to_owned(), source }.at_run();
    let mut given = Vec::with_capacity(graph.inputs.len());
    for &id in &graph.inputs {
        let name = &*graph.value(id).name;
        let found = inputs.iter().find(|(of, _)| *of == name);
        let (_, tensor) = found.ok_or_else(|| Error::Argument {
            role: "input",
            name: name.into(),
            problem: "is missing".into(),
        })?;
        let value = Value::Tensor((*tensor).clone());
        given.push(RefValue::from_value(&value).map_err(|source| failed(name, source))?);
    }
    let made = run_graph(&graph, &given).map_err(NodeError::at_run)?;
    let named = |(&id, value): (&_, &RefValue)| {
        let name = &*graph.value(id).name;
        let tensor = value.tensor().and_then(crate::reference::RefTensor::to_tensor);
        Ok((name.to_owned(), Value::Tensor(tensor.map_err(|source| failed(name, source))?)))
    };
    graph.outputs.iter().zip(&made).map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Accuracy;
    use crate::testing::{Tolerance, compare, single_node};
    use crate::{DType, Session};

    #[test]
    fn a_model_gives_what_its_operators_references_give() {
        let node = (0..100).map(|seed| single_node("Gemm", seed).expect("a case")).find(|node| {
            node.inputs.iter().all(|(_, v)| v.as_tensor().is_some_and(|t| t.dtype() == DType::F32))
        });
        let node = node.expect("one of them is of f32");
        let tensors: Vec<(&str, &Tensor)> = node
            .inputs
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.as_tensor()?)))
            .collect();
        let want = model_reference(node.model.clone(), &tensors).expect("the reference runs");
        let session = Session::builder().with_threads(1).load_bytes(node.model.clone()).expect("it loads");
        let outputs = session.run(tensors.iter().copied()).expect("it runs");
        assert_eq!(want.len(), outputs.len());
        for (name, want) in &want {
            let got = outputs.get(name).expect("an output of this name");
            compare(got, want, Tolerance::of(Accuracy::Reduction, DType::F32)).expect("within tolerance");
        }
        if !tensors.is_empty() {
            assert!(model_reference(node.model, &tensors[1..]).is_err(), "an input is missing");
        }
    }
}
