//! A walk over the wire format before anything is decoded: bounds the memory that decoding will take and the
//! depth of nested graphs, so that a small hostile file can neither fill the memory nor exhaust the stack.

use super::proto::{
    AttributeProto, DimensionProto, FunctionProto, GraphProto, NodeProto, OperatorSetIdProto,
    SparseTensorProto, StringStringEntryProto, TensorProto, TypeProto, ValueInfoProto,
};
use crate::error::Error;

/// Messages may nest this deep; a graph inside an attribute of a node is three levels, so 30 nested control
/// flow bodies fit. The decoder's own limit is 100.
const MAX_DEPTH: usize = 96;

/// The kinds of message that the walk tells apart.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Sparse,
    Function,
    ValueInfo,
    Type,
    Shape,
    Dimension,
    Entry,
    /// A list of scalars, which may take eight times its encoded size.
    Scalars,
    /// Bytes that are not copied.
    Bytes,
    /// Text that is copied.
    Text,
    /// Not decoded.
    Skipped,
}

/// Bytes that decoding `buffer` as `kind` allocates, at most.
pub(super) fn census(buffer: &[u8], kind: Kind) -> Result<usize, Error> {
    walk(buffer, kind, 0)
}

fn walk(mut rest: &[u8], kind: Kind, depth: usize) -> Result<usize, Error> {
    if depth > MAX_DEPTH {
        return Err(Error::model(format!("messages nest more than {MAX_DEPTH} deep")));
    }
    let mut total = 0usize;
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        let (field, wire) = (tag >> 3, tag & 7);
        match wire {
            0 => {
                varint(&mut rest)?;
                total = total.saturating_add(16);
            }
            1 => {
                skip(&mut rest, 8)?;
                total = total.saturating_add(16);
            }
            5 => {
                skip(&mut rest, 4)?;
                total = total.saturating_add(8);
            }
            2 => {
                let length = usize::try_from(varint(&mut rest)?).map_err(|_| truncated())?;
                let part = rest.get(..length).ok_or_else(truncated)?;
                rest = &rest[length..];
                let inner = child(kind, field);
                // Vectors grow by doubling, so each item may be paid for twice.
                let cost = match inner {
                    Kind::Skipped => 0,
                    Kind::Bytes => 64,
                    Kind::Text => 64 + part.len(),
                    Kind::Scalars => part.len().saturating_mul(16),
                    message => (2 * size_of_message(message)).saturating_add(walk(part, message, depth + 1)?),
                };
                total = total.saturating_add(cost);
            }
            _ => return Err(Error::model(format!("wire type {wire} of field {field}"))),
        }
    }
    Ok(total)
}

/// Whether `buffer` begins like a model: its fields up to the first damage are those of `ModelProto`, and there is
/// one.
pub(super) fn begins_a_model(mut buffer: &[u8]) -> bool {
    let mut whole = 0;
    while let Ok(tag) = varint(&mut buffer) {
        let length = match (tag >> 3, tag & 7) {
            (1 | 5, 0) => varint(&mut buffer).map(|_| 0),
            (2..=4 | 6..=8 | 14 | 20 | 25 | 26, 2) => varint(&mut buffer),
            _ => return false,
        };
        let length = length.ok().and_then(|n| usize::try_from(n).ok());
        if length.is_none_or(|n| skip(&mut buffer, n).is_err()) {
            break;
        }
        whole += 1;
    }
    whole > 0
}

fn child(kind: Kind, field: u64) -> Kind {
    match (kind, field) {
        (Kind::Model, 7) | (Kind::Attribute, 6) => Kind::Graph,
        (Kind::Model, 8 | 14) | (Kind::Tensor, 13) | (Kind::Function, 9) => Kind::Entry,
        (Kind::Model, 25) => Kind::Function,
        (Kind::Graph, 1) | (Kind::Function, 7) => Kind::Node,
        (Kind::Graph, 5) | (Kind::Attribute, 5) | (Kind::Sparse, 1 | 2) => Kind::Tensor,
        (Kind::Graph, 11 | 12) => Kind::ValueInfo,
        (Kind::Graph, 15) | (Kind::Attribute, 22) => Kind::Sparse,
        (Kind::Node, 5) | (Kind::Function, 11) => Kind::Attribute,
        (Kind::Attribute, 14) | (Kind::ValueInfo, 2) => Kind::Type,
        // Tensor, sequence and optional types, and what is inside them.
        (Kind::Type, 1 | 4 | 9) => Kind::Type,
        (Kind::Type, 2) => Kind::Shape,
        (Kind::Shape, 1) => Kind::Dimension,
        (Kind::Attribute, 7 | 8) | (Kind::Tensor, 1 | 4 | 5 | 7 | 10 | 11) | (Kind::Sparse, 3) => {
            Kind::Scalars
        }
        (Kind::Attribute, 4 | 9) | (Kind::Tensor, 6 | 9) | (Kind::Type, _) => Kind::Bytes,
        (Kind::Model, 2..=6)
        | (Kind::Graph, 2)
        | (Kind::Node, 1..=4 | 7 | 8)
        | (Kind::Attribute, 1 | 21)
        | (Kind::Tensor, 8)
        | (Kind::Function, 1 | 4 | 5 | 10 | 13)
        | (Kind::ValueInfo, 1)
        | (Kind::Dimension, _)
        | (Kind::Entry, _) => Kind::Text,
        _ => Kind::Skipped,
    }
}

fn size_of_message(kind: Kind) -> usize {
    match kind {
        Kind::Graph => size_of::<GraphProto>(),
        Kind::Node => size_of::<NodeProto>(),
        Kind::Attribute => size_of::<AttributeProto>(),
        Kind::Tensor => size_of::<TensorProto>(),
        Kind::Sparse => size_of::<SparseTensorProto>(),
        Kind::Function => size_of::<FunctionProto>(),
        Kind::ValueInfo => size_of::<ValueInfoProto>(),
        Kind::Type => size_of::<TypeProto>(),
        Kind::Dimension => size_of::<DimensionProto>(),
        Kind::Entry => size_of::<StringStringEntryProto>().max(size_of::<OperatorSetIdProto>()),
        _ => 0,
    }
}

fn truncated() -> Error {
    Error::model("the file ends in the middle of a message")
}

fn varint(rest: &mut &[u8]) -> Result<u64, Error> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first().ok_or_else(truncated)?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Error::model("a number of more than 64 bits"))
}

fn skip(rest: &mut &[u8], count: usize) -> Result<(), Error> {
    *rest = rest.get(count..).ok_or_else(truncated)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::ModelProto;
    use prost::Message;

    #[test]
    fn bounds_what_decoding_takes() {
        // 20,000 empty nodes: two bytes each in the file, hundreds in memory.
        let graph = GraphProto { node: vec![NodeProto::default(); 20_000], ..GraphProto::default() };
        let bytes = graph.encode_to_vec();
        let bound = census(&bytes, Kind::Graph).expect("valid");
        assert!(bytes.len() < 100_000 && bound >= 20_000 * size_of::<NodeProto>(), "{bound}");
        // Tensor bytes are not copied.
        let raw_data = Some(vec![0u8; 1 << 20].into());
        let tensor = TensorProto { raw_data, ..TensorProto::default() };
        assert!(census(&tensor.encode_to_vec(), Kind::Tensor).expect("valid") < 1000);
    }

    #[test]
    fn the_name_of_a_dimension_is_text() {
        // As a message, `[` would be field 11 of wire type 3.
        let dim = DimensionProto { dim_param: Some("[batch]".into()), ..DimensionProto::default() };
        let shape = super::super::proto::TensorShapeProto { dim: vec![dim] };
        assert!(census(&shape.encode_to_vec(), Kind::Shape).is_ok());
    }

    #[test]
    fn other_formats_do_not_begin_like_a_model() {
        let model = ModelProto { ir_version: 8, producer_name: "p".into(), ..ModelProto::default() };
        let bytes = model.encode_to_vec();
        assert!(begins_a_model(&bytes));
        // Cut, it is a damaged model.
        assert!(begins_a_model(&bytes[..bytes.len() - 1]));
        let zip = b"PK\x03\x04\x14\0\0\0\x08\0";
        let hdf5 = b"\x89HDF\r\n\x1a\n";
        let safetensors = b"\x58\0\0\0\0\0\0\0{\"a\":{}}";
        for other in
            [&zip[..], hdf5, safetensors, b"#!/bin/sh", b"{\"version\": 1}", b"Read me", b"\n\n", b""]
        {
            assert!(!begins_a_model(other), "{other:?}");
        }
    }

    #[test]
    fn refuses_deep_nesting_and_truncation() {
        let mut graph = GraphProto::default();
        for _ in 0..60 {
            let attribute = AttributeProto { g: Some(Box::new(graph)), ..AttributeProto::default() };
            let node = NodeProto { attribute: vec![attribute], ..NodeProto::default() };
            graph = GraphProto { node: vec![node], ..GraphProto::default() };
        }
        let bytes = graph.encode_to_vec();
        assert!(census(&bytes, Kind::Graph).expect_err("too deep").to_string().contains("nest"));
        assert!(census(&bytes[..bytes.len() - 1], Kind::Graph).is_err());
        assert!(census(&[0xff; 20], Kind::Model).is_err());
    }
}
