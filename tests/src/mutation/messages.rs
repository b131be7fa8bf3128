//! Protobuf messages as trees of fields, with as much knowledge of ONNX as is needed to tell messages, text and
//! numbers apart.

/// Kinds of message, named as in `onnx.proto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    TensorType,
    Shape,
    Dimension,
    Entry,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Field {
    pub(super) number: u64,
    pub(super) value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Varint(u64),
    Fixed32([u8; 4]),
    Fixed64([u8; 8]),
    Text(Vec<u8>),
    /// A list of integers in one field.
    Packed(Vec<u64>),
    Bytes(Vec<u8>),
    Message(Kind, Vec<Field>),
}

/// What the bytes of a field of a message hold.
enum Content {
    Message(Kind),
    Text,
    Packed,
    Bytes,
}

fn content(kind: Kind, number: u64) -> Content {
    use Content::{Bytes, Message, Packed, Text};
    match (kind, number) {
        (Kind::Model, 7) | (Kind::Attribute, 6) => Message(Kind::Graph),
        (Kind::Model, 8 | 14) | (Kind::Tensor, 13) | (Kind::Function, 9) => Message(Kind::Entry),
        (Kind::Model, 25) => Message(Kind::Function),
        (Kind::Graph, 1) | (Kind::Function, 7) => Message(Kind::Node),
        (Kind::Graph | Kind::Attribute, 5) | (Kind::Sparse, 1 | 2) => Message(Kind::Tensor),
        (Kind::Graph, 11..=13) => Message(Kind::ValueInfo),
        (Kind::Graph, 15) | (Kind::Attribute, 22) => Message(Kind::Sparse),
        (Kind::Node, 5) | (Kind::Function, 11) => Message(Kind::Attribute),
        (Kind::Attribute, 14) | (Kind::ValueInfo, 2) => Message(Kind::Type),
        (Kind::Type, 1) => Message(Kind::TensorType),
        (Kind::TensorType, 2) => Message(Kind::Shape),
        (Kind::Shape, 1) => Message(Kind::Dimension),
        (Kind::Attribute, 8) | (Kind::Tensor, 1 | 5 | 7 | 11) | (Kind::Sparse, 3) => Packed,
        (Kind::Attribute, 7) | (Kind::Tensor, 4 | 9 | 10) => Bytes,
        _ => Text,
    }
}

/// The fields of `bytes`, or `None` where they are not well-formed.
pub(super) fn parse(mut bytes: &[u8], kind: Kind) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let number = tag >> 3;
        let value = match tag & 7 {
            0 => Value::Varint(varint(&mut bytes)?),
            1 => Value::Fixed64(take(&mut bytes, 8)?.try_into().ok()?),
            5 => Value::Fixed32(take(&mut bytes, 4)?.try_into().ok()?),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let part = take(&mut bytes, length)?;
                match content(kind, number) {
                    Content::Message(kind) => Value::Message(kind, parse(part, kind)?),
                    Content::Text => Value::Text(part.to_vec()),
                    Content::Packed => Value::Packed(numbers(part)?),
                    Content::Bytes => Value::Bytes(part.to_vec()),
                }
            }
            _ => return None,
        };
        fields.push(Field { number, value });
    }
    Some(fields)
}

fn numbers(mut part: &[u8]) -> Option<Vec<u64>> {
    let mut numbers = Vec::new();
    while !part.is_empty() {
        numbers.push(varint(&mut part)?);
    }
    Some(numbers)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (part, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(part)
}

/// The encoded form of `fields`.
pub(super) fn encode(fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    for Field { number, value } in fields {
        let mut delimited = |bytes: &[u8]| {
            write_varint(&mut out, number << 3 | 2);
            write_varint(&mut out, bytes.len() as u64);
            out.extend(bytes);
        };
        match value {
            Value::Text(bytes) | Value::Bytes(bytes) => delimited(bytes),
            Value::Message(_, fields) => delimited(&encode(fields)),
            Value::Packed(numbers) => {
                let mut list = Vec::new();
                numbers.iter().for_each(|&number| write_varint(&mut list, number));
                delimited(&list);
            }
            Value::Varint(v) => {
                write_varint(&mut out, number << 3);
                write_varint(&mut out, *v);
            }
            Value::Fixed64(bytes) => {
                write_varint(&mut out, number << 3 | 1);
                out.extend(bytes);
            }
            Value::Fixed32(bytes) => {
                write_varint(&mut out, number << 3 | 5);
                out.extend(bytes);
            }
        }
    }
    out
}

fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Number of fields at any depth.
pub(super) fn count(fields: &[Field]) -> usize {
    let below = |field: &Field| match &field.value {
        Value::Message(_, inner) => count(inner),
        _ => 0,
    };
    fields.iter().map(|field| 1 + below(field)).sum()
}

/// Field `at` of all fields at any depth.
pub(super) fn nth(fields: &[Field], mut at: usize) -> Option<&Field> {
    for field in fields {
        if at == 0 {
            return Some(field);
        }
        at -= 1;
        if let Value::Message(_, inner) = &field.value {
            let below = count(inner);
            if at < below {
                return nth(inner, at);
            }
            at -= below;
        }
    }
    None
}

/// The fields among which field `at` of all is, and its position there.
pub(super) fn nth_mut(fields: &mut Vec<Field>, at: usize) -> Option<(&mut Vec<Field>, usize)> {
    let mut left = at;
    let mut below_at = None;
    for (index, field) in fields.iter().enumerate() {
        if left == 0 {
            return Some((fields, index));
        }
        left -= 1;
        if let Value::Message(_, inner) = &field.value {
            let below = count(inner);
            if left < below {
                below_at = Some(index);
                break;
            }
            left -= below;
        }
    }
    match &mut fields.get_mut(below_at?)?.value {
        Value::Message(_, inner) => nth_mut(inner, left),
        _ => None,
    }
}

/// Every text of the message, with its field's number: names of values, nodes, operators, attributes.
pub(super) fn texts(fields: &[Field]) -> Vec<(u64, Vec<u8>)> {
    let mut found = Vec::new();
    for field in fields {
        match &field.value {
            Value::Text(text) => found.push((field.number, text.clone())),
            Value::Message(_, inner) => found.extend(texts(inner)),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{code, fixed, floats, graph, ints, model, node, untyped};

    #[test]
    fn what_is_parsed_is_encoded_again_and_every_field_is_reached() {
        let inner = graph(&[], &[untyped("o")], &[node("Relu", &["x"], &["o"])], &[]);
        let nodes =
            [node("If", &["x"], &["y"]).with_graph("then_branch", &inner).with_ints("axes", &[1, -2])];
        let weights = [floats("w", &[2], &[1.0, 2.0]), ints("i", &[1], &[-1])];
        let bytes =
            model(&graph(&[fixed("x", code::F32, &[2])], &[untyped("y")], &nodes, &weights)).into_bytes();
        let mut fields = parse(&bytes, Kind::Model).expect("well-formed");
        assert_eq!(encode(&fields), bytes);
        let n = count(&fields);
        for at in 0..n {
            let field = nth(&fields, at).cloned().expect("below the count");
            let (siblings, index) = nth_mut(&mut fields, at).expect("below the count");
            assert_eq!(siblings[index], field);
        }
        assert!(nth(&fields, n).is_none() && nth_mut(&mut fields, n).is_none());
        assert!(texts(&fields).contains(&(1, b"then_branch".to_vec())));
    }
}
