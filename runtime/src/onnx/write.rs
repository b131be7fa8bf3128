//! Writing models of one node, and values in the form of the ONNX test data: what test suites hand to other
//! engines. It says no more than such suites need: nodes of bodies have no attributes.

use super::element_type::code_of_dtype;
use super::proto::{
    AttributeProto, DimensionProto, ElementTypeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    OptionalProto, SequenceProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
    attribute_type,
};
use crate::dtype::DType;
use crate::graph::{Dim, Fact, Graph, TensorFact, ValueId};
use crate::ops::attributes::{Attribute, Body};
use crate::tensor::{Tensor, Value};
use bytes::Bytes;
use prost::Message;
use std::collections::HashMap;

/// One use of an operator.
#[derive(Debug)]
pub(crate) struct NodeModel<'a> {
    pub(crate) domain: &'static str,
    pub(crate) op: &'static str,
    pub(crate) opset: i64,
    pub(crate) ir_version: i64,
    pub(crate) attributes: &'a [(&'static str, Attribute)],
    /// Formal inputs with their names, then what bodies capture, in the order of the bodies.
    pub(crate) inputs: &'a [Option<(String, Fact)>],
    /// How many of them are formal.
    pub(crate) formal_inputs: usize,
    /// Inputs that are constants of the model.
    pub(crate) constants: &'a [(String, Tensor)],
    pub(crate) outputs: &'a [(String, Fact)],
}

/// The bytes of the model file.
pub(crate) fn node_model(model: &NodeModel<'_>) -> Vec<u8> {
    let named: Vec<&str> =
        model.inputs.iter().map(|i| i.as_ref().map_or("", |(name, _)| name.as_str())).collect();
    let (formal, mut captured) = named.split_at(model.formal_inputs.min(named.len()));
    let mut attributes = Vec::new();
    for (name, value) in model.attributes {
        let mut proto = attribute(name, value, &mut captured);
        if let (Some(body), "Loop") = (&mut proto.g, model.op) {
            // The iteration's number and the condition, whose types nothing outside tells.
            for (info, dtype) in body.input.iter_mut().zip([DType::I64, DType::Bool]) {
                info.r#type = Some(type_proto(&TensorFact::known(dtype, &[]).into()));
            }
        }
        attributes.push(proto);
    }
    let node = NodeProto {
        input: formal.iter().map(ToString::to_string).collect(),
        output: model.outputs.iter().map(|(name, _)| name.clone()).collect(),
        op_type: model.op.into(),
        domain: model.domain.into(),
        attribute: attributes,
        ..NodeProto::default()
    };
    let is_constant = |name: &str| model.constants.iter().any(|(constant, _)| constant == name);
    let given = model.inputs.iter().flatten().filter(|(name, _)| !is_constant(name));
    let graph = GraphProto {
        node: vec![node],
        name: model.op.into(),
        initializer: model.constants.iter().map(|(name, t)| tensor_proto(name, t)).collect(),
        input: given.map(|(name, fact)| value_info(name, fact)).collect(),
        output: model.outputs.iter().map(|(name, fact)| value_info(name, &without_shape(fact))).collect(),
        ..GraphProto::default()
    };
    let imported = |domain: &str, version| OperatorSetIdProto { domain: domain.into(), version };
    let mut opset_import = vec![imported(model.domain, model.opset)];
    if !model.domain.is_empty() {
        opset_import.push(imported("", crate::ops::NEWEST_OPSET));
    }
    let proto = ModelProto {
        ir_version: model.ir_version,
        opset_import,
        graph: Some(graph),
        ..ModelProto::default()
    };
    proto.encode_to_vec()
}

/// A value in the form of the ONNX test data, which [`super::read_test_data`] reads.
pub(crate) fn test_data(value: &Value) -> Vec<u8> {
    match value {
        Value::Tensor(t) => tensor_proto("", t).encode_to_vec(),
        Value::Sequence(_) => sequence_proto(value).encode_to_vec(),
        Value::Optional(_) => optional_proto(value).encode_to_vec(),
    }
}

/// Kinds of element in `SequenceProto.elem_type` and `OptionalProto.elem_type`.
const TENSOR_KIND: i32 = 1;
const SEQUENCE_KIND: i32 = 3;
const OPTIONAL_KIND: i32 = 5;

fn sequence_proto(value: &Value) -> SequenceProto {
    let Value::Sequence(sequence) = value else { return SequenceProto::default() };
    let mut proto = SequenceProto { elem_type: TENSOR_KIND, ..SequenceProto::default() };
    for item in sequence.items() {
        match item {
            Value::Tensor(t) => proto.tensor_values.push(tensor_proto("", t)),
            Value::Sequence(_) => {
                proto.elem_type = SEQUENCE_KIND;
                proto.sequence_values.push(sequence_proto(item));
            }
            Value::Optional(_) => {
                proto.elem_type = OPTIONAL_KIND;
                proto.optional_values.push(optional_proto(item));
            }
        }
    }
    proto
}

fn optional_proto(value: &Value) -> OptionalProto {
    let mut proto = OptionalProto::default();
    let Value::Optional(Some(inner)) = value else { return proto };
    match &**inner {
        Value::Tensor(t) => {
            (proto.elem_type, proto.tensor_value) = (TENSOR_KIND, Some(tensor_proto("", t)));
        }
        Value::Sequence(_) => {
            proto.elem_type = SEQUENCE_KIND;
            proto.sequence_value = Some(Box::new(sequence_proto(inner)));
        }
        Value::Optional(_) => {
            proto.elem_type = OPTIONAL_KIND;
            proto.optional_value = Some(Box::new(optional_proto(inner)));
        }
    }
    proto
}

fn tensor_proto(name: &str, tensor: &Tensor) -> TensorProto {
    let mut proto = TensorProto {
        dims: tensor.shape().iter().map(|&d| d as i64).collect(),
        data_type: code_of_dtype(tensor.dtype()),
        name: name.into(),
        ..TensorProto::default()
    };
    match tensor.as_strings() {
        Some(text) => {
            proto.string_data = text.iter().map(|s| Bytes::copy_from_slice(s.as_bytes())).collect();
        }
        None => proto.raw_data = Some(Bytes::copy_from_slice(tensor.bytes())),
    }
    proto
}

fn value_info(name: &str, fact: &Fact) -> ValueInfoProto {
    ValueInfoProto { name: name.into(), r#type: Some(type_proto(fact)) }
}

fn without_shape(fact: &Fact) -> Fact {
    match fact {
        Fact::Tensor(t) => TensorFact::unranked(t.dtype).into(),
        Fact::Sequence(f) => Fact::Sequence(Box::new(without_shape(f))),
        Fact::Optional(f) => Fact::Optional(Box::new(without_shape(f))),
    }
}

fn type_proto(fact: &Fact) -> TypeProto {
    let element = |f: &Fact| Some(Box::new(ElementTypeProto { elem_type: Some(Box::new(type_proto(f))) }));
    match fact {
        Fact::Tensor(t) => {
            let extent = |d: &Dim| DimensionProto {
                dim_value: d.known().map(|n| n as i64),
                dim_param: d.as_symbol().map(ToString::to_string),
            };
            let shape =
                t.shape.as_ref().map(|dims| TensorShapeProto { dim: dims.iter().map(extent).collect() });
            let tensor = TensorTypeProto { elem_type: code_of_dtype(t.dtype), shape };
            TypeProto { tensor_type: Some(tensor), ..TypeProto::default() }
        }
        Fact::Sequence(f) => TypeProto { sequence_type: element(f), ..TypeProto::default() },
        Fact::Optional(f) => TypeProto { optional_type: element(f), ..TypeProto::default() },
    }
}

/// Takes the names that bodies capture off the front of `captured`.
fn attribute(name: &str, value: &Attribute, captured: &mut &[&str]) -> AttributeProto {
    let bytes = |s: &str| Bytes::copy_from_slice(s.as_bytes());
    let mut proto = AttributeProto { name: name.into(), ..AttributeProto::default() };
    proto.r#type = match value {
        Attribute::Int(v) => {
            proto.i = Some(*v);
            attribute_type::INT
        }
        Attribute::Float(v) => {
            proto.f = Some(*v);
            attribute_type::FLOAT
        }
        Attribute::String(v) => {
            proto.s = Some(bytes(v));
            attribute_type::STRING
        }
        Attribute::Tensor(v) => {
            proto.t = Some(Box::new(tensor_proto("", v)));
            attribute_type::TENSOR
        }
        Attribute::Ints(v) => {
            proto.ints.clone_from(v);
            attribute_type::INTS
        }
        Attribute::Floats(v) => {
            proto.floats.clone_from(v);
            attribute_type::FLOATS
        }
        Attribute::Strings(v) => {
            proto.strings = v.iter().map(|s| bytes(s)).collect();
            attribute_type::STRINGS
        }
        Attribute::Type(v) => {
            proto.tp = Some(Box::new(type_proto(v)));
            attribute_type::TYPE_PROTO
        }
        Attribute::Body(body) => {
            let count = body.graph.inputs.len() - body.formal_inputs;
            let (own, rest) = captured.split_at(count.min(captured.len()));
            *captured = rest;
            proto.g = Some(Box::new(body_proto(name, body, own)));
            attribute_type::GRAPH
        }
    };
    proto
}

/// A body whose captures have the names `captured` in the graph around it.
fn body_proto(name: &str, body: &Body, captured: &[&str]) -> GraphProto {
    let graph: &Graph = &body.graph;
    let (formal, captures) = graph.inputs.split_at(body.formal_inputs);
    let outer: HashMap<ValueId, &str> = captures.iter().copied().zip(captured.iter().copied()).collect();
    let named = |id: ValueId| {
        outer.get(&id).map_or_else(|| format!("{name}_{}", id.index()), |name| (*name).to_string())
    };
    let info = |name: String| ValueInfoProto { name, r#type: None };
    let mut proto = GraphProto {
        name: name.into(),
        input: formal.iter().map(|&id| info(named(id))).collect(),
        ..GraphProto::default()
    };
    for (index, value) in graph.values.iter().enumerate() {
        if let Some(tensor) = &value.constant {
            proto.initializer.push(tensor_proto(&format!("{name}_{index}"), tensor));
        }
    }
    for node in &graph.nodes {
        let names =
            |ids: &[Option<ValueId>]| ids.iter().map(|id| id.map_or_else(String::new, named)).collect();
        proto.node.push(NodeProto {
            input: names(&node.inputs),
            output: names(&node.outputs),
            op_type: node.def.name.into(),
            domain: node.def.domain.into(),
            ..NodeProto::default()
        });
    }
    // Every output is what a node of the body writes, once: other engines ask for that.
    for (index, &id) in graph.outputs.iter().enumerate() {
        let output = format!("{name}_out{index}");
        proto.node.push(NodeProto {
            input: vec![named(id)],
            output: vec![output.clone()],
            op_type: "Identity".into(),
            ..NodeProto::default()
        });
        proto.output.push(info(output));
    }
    proto
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn codes_of_element_types_are_read_back() {
        for code in 1..=26 {
            let dtype = crate::onnx::dtype_of_code(code).unwrap();
            assert_eq!(i64::from(code_of_dtype(dtype)), code);
        }
    }

    #[test]
    fn test_data_is_read_back() {
        let tensor = Value::from(Tensor::new(&[2], vec![1i64, -2]).unwrap());
        let text = Value::from(Tensor::strings(&[1], vec!["a".into()]).unwrap());
        let sequence = Value::Sequence(crate::values::Sequence::new(vec![tensor.clone(), tensor.clone()]));
        let optional = Value::Optional(Some(Arc::new(tensor.clone())));
        for value in [tensor, text, sequence, optional, Value::Optional(None)] {
            let fact = crate::exec::fact_of(value.as_ref());
            let read = crate::onnx::read_test_data(&test_data(&value), &fact).unwrap();
            let exact = crate::testing::Tolerance { relative: 0.0, absolute: 0.0 };
            crate::testing::compare(&read, &value, exact).unwrap();
        }
    }
}
