//! Operator sets 1 to 6: a node of theirs is read as the node of operator set 7 that does the same.
//!
//! Set 7 made broadcasting of binary operators the rule, aligned at the last axis. Before it, `broadcast` allowed
//! it and `axis` said at which axis of the left operand the right one begins; extents of 1 behind the right
//! operand's own say the same in the new rule. Other differences are attributes: their names, types and defaults,
//! `is_test` for what is now the number of outputs, and `consumed_inputs`, which was a hint for memory.
//! What has no form in set 7, such as training, is refused.

use super::proto::{AttributeProto, NodeProto, attribute_type as at};
use crate::error::OpError;
use std::borrow::Cow;

/// The set whose forms this module gives.
pub(super) const TRANSLATED_TO: i64 = 7;
/// The set of the nodes that [`translate`] puts before a node.
pub(super) const OF_ADDED: i64 = 21;

/// Bytes that the nodes which [`translate`] adds for `node` take, at most.
pub(super) fn most_added(node: &NodeProto) -> usize {
    const NODES: usize = 12;
    const NAMES: usize = 4;
    const SUFFIX: usize = 32;
    let name = node.input.iter().chain(&node.output).map(String::len).max().unwrap_or(0);
    let shape = attribute(node, "shape").map_or(0, |a| size_of_val(a.ints.as_slice()));
    let each = size_of::<NodeProto>() + size_of::<AttributeProto>() + NAMES * (name + SUFFIX);
    NODES * each + 2 * shape
}

/// Whether nodes of operator set `version` are translated.
pub(super) fn covers(version: i64) -> bool {
    (1..TRANSLATED_TO).contains(&version)
}

/// Turns `node` of the standard operator set `version` into its form of [`TRANSLATED_TO`], and returns nodes of
/// [`OF_ADDED`] that have to stand before it.
pub(super) fn translate(node: &mut Cow<'_, NodeProto>, version: i64) -> Result<Vec<NodeProto>, OpError> {
    if version < 6 {
        remove(node, "consumed_inputs");
    }
    match node.op_type.as_str() {
        "Add" | "And" | "Div" | "Equal" | "Greater" | "Less" | "Mul" | "Or" | "Pow" | "Sub" | "Xor" => {
            let broadcasts = integer(node, "broadcast").unwrap_or(0) != 0;
            let axis = integer(node, "axis").filter(|_| broadcasts);
            remove(node, "broadcast");
            remove(node, "axis");
            return Ok(axis.map(|axis| align(node.to_mut(), axis)).unwrap_or_default());
        }
        // One slope for each channel.
        "PRelu" => return Ok(align(node.to_mut(), 1)),
        "Reshape" if version < 5 => return reshape(node),
        "BatchNormalization" | "Dropout" => {
            if integer(node, "is_test").unwrap_or(0) == 0 {
                return Err(OpError::unsupported("training, which `is_test = 0` asks for,"));
            }
            remove(node, "is_test");
        }
        "Gemm" => remove(node, "broadcast"),
        "GRU" | "LSTM" | "RNN" => remove(node, "output_sequence"),
        "Cast" if version < 6 => {
            if let Some(to) = attribute(node, "to").and_then(|a| a.s.clone()) {
                let code = element_type(&to).ok_or_else(|| OpError::attribute("to", "is no element type"))?;
                set(node, int("to", code));
            }
        }
        "Clip" if version < 6 => {
            set_default(node, float("min", f32::NEG_INFINITY));
            set_default(node, float("max", f32::INFINITY));
        }
        "Concat" if version < 4 => set_default(node, int("axis", 1)),
        "GlobalLpPool" | "LpPool" if version < 2 => {
            if let Some(p) = attribute(node, "p").and_then(|a| a.f) {
                if p.fract() != 0.0 || !(1.0..=1e6).contains(&p) {
                    return Err(OpError::attribute("p", format!("is {p}; only whole norms are supported")));
                }
                set(node, int("p", p as i64));
            }
        }
        "Pad" if version < 2 => {
            if let Some(paddings) = attribute(node, "paddings").cloned() {
                remove(node, "paddings");
                set(node, AttributeProto { name: "pads".into(), ..paddings });
            }
        }
        "Selu" if version < 6 => {
            set_default(node, float("alpha", 1.6732));
            set_default(node, float("gamma", 1.0507));
        }
        "Split" if version < 2 && node.input.len() > 1 => {
            return Err(OpError::unsupported("a split given as an input, of operator set 1,"));
        }
        "Tile" if version < 6 => return Err(OpError::unsupported("the form of operator sets before 6")),
        "Upsample" => {
            let scale = |name| {
                let scale = attribute(node, name).and_then(|a| a.f);
                scale.ok_or_else(|| OpError::attribute(name, "is missing"))
            };
            let floats = vec![1.0, 1.0, scale("height_scale")?, scale("width_scale")?];
            remove(node, "height_scale");
            remove(node, "width_scale");
            let scales = AttributeProto { name: "scales".into(), r#type: at::FLOATS, floats, ..empty() };
            set(node, scales);
        }
        _ => {}
    }
    Ok(Vec::new())
}

/// Gives the right operand of `node` extents of 1 behind its own, so that it begins at `axis` of the left one:
/// `rank(left) − axis − rank(right)` of them, or none.
fn align(node: &mut NodeProto, axis: i64) -> Vec<NodeProto> {
    let [left, right] = node.input.as_slice() else { return Vec::new() };
    let mut added = Adding { prefix: first_output(node), nodes: Vec::new() };
    let right_shape = added.node("Shape", &[right], []);
    let right_rank = added.node("Size", &[&right_shape], []);
    // An axis below zero counts from the left operand's end.
    let behind = if axis < 0 {
        added.node("Constant", &[], [int("value_int", axis.saturating_neg())])
    } else {
        let left_shape = added.node("Shape", &[left], []);
        let left_rank = added.node("Size", &[&left_shape], []);
        let axis = added.node("Constant", &[], [int("value_int", axis)]);
        added.node("Sub", &[&left_rank, &axis], [])
    };
    let missing = added.node("Sub", &[&behind, &right_rank], []);
    let none = added.node("Constant", &[], [ints("value_ints", &[0])]);
    let missing = added.node("Max", &[&missing, &none], []);
    let one = added.node("Constant", &[], [ints("value_ints", &[1])]);
    let ones = added.node("Expand", &[&one, &missing], []);
    let shape = added.node("Concat", &[&right_shape, &ones], [int("axis", 0)]);
    let aligned = added.node("Reshape", &[right, &shape], [int("allowzero", 1)]);
    node.input[1] = aligned;
    added.nodes
}

/// A shape that is an attribute becomes an input.
fn reshape(node: &mut Cow<'_, NodeProto>) -> Result<Vec<NodeProto>, OpError> {
    let Some(shape) = attribute(node, "shape").map(|a| a.ints.clone()) else {
        return Err(OpError::attribute("shape", "is missing"));
    };
    remove(node, "shape");
    let mut added = Adding { prefix: first_output(node), nodes: Vec::new() };
    let shape = added.node("Constant", &[], [ints("value_ints", &shape)]);
    node.to_mut().input.push(shape);
    Ok(added.nodes)
}

fn first_output(node: &NodeProto) -> String {
    node.output.first().cloned().unwrap_or_default()
}

/// Nodes that stand before another, each of one output.
struct Adding {
    /// What their outputs' names begin with.
    prefix: String,
    nodes: Vec<NodeProto>,
}

impl Adding {
    /// Adds a node and returns the name of its output.
    fn node<const N: usize>(
        &mut self,
        op_type: &str,
        inputs: &[&String],
        attribute: [AttributeProto; N],
    ) -> String {
        let output = format!("{}#aligned/{}", self.prefix, self.nodes.len());
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|name| (*name).clone()).collect(),
            output: vec![output.clone()],
            op_type: op_type.into(),
            attribute: Vec::from(attribute),
            ..NodeProto::default()
        });
        output
    }
}

fn attribute<'n>(node: &'n NodeProto, name: &str) -> Option<&'n AttributeProto> {
    node.attribute.iter().find(|a| a.name == name)
}

fn integer(node: &NodeProto, name: &str) -> Option<i64> {
    attribute(node, name)?.i
}

fn remove(node: &mut Cow<'_, NodeProto>, name: &str) {
    if attribute(node, name).is_some() {
        node.to_mut().attribute.retain(|a| a.name != name);
    }
}

fn set(node: &mut Cow<'_, NodeProto>, attribute: AttributeProto) {
    remove(node, &attribute.name);
    node.to_mut().attribute.push(attribute);
}

fn set_default(node: &mut Cow<'_, NodeProto>, default: AttributeProto) {
    if attribute(node, &default.name).is_none() {
        node.to_mut().attribute.push(default);
    }
}

fn empty() -> AttributeProto {
    AttributeProto::default()
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: at::INT, i: Some(value), ..empty() }
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: at::INTS, ints: values.to_vec(), ..empty() }
}

fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: at::FLOAT, f: Some(value), ..empty() }
}

/// The number of an element type that `Cast` of sets 1 to 5 names.
fn element_type(name: &[u8]) -> Option<i64> {
    const NAMES: [&str; 16] = [
        "FLOAT",
        "UINT8",
        "INT8",
        "UINT16",
        "INT16",
        "INT32",
        "INT64",
        "STRING",
        "BOOL",
        "FLOAT16",
        "DOUBLE",
        "UINT32",
        "UINT64",
        "COMPLEX64",
        "COMPLEX128",
        "BFLOAT16",
    ];
    let at = NAMES.iter().position(|n| n.as_bytes().eq_ignore_ascii_case(name))?;
    i64::try_from(at + 1).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(op_type: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> NodeProto {
        NodeProto {
            input: inputs.iter().map(|&name| name.into()).collect(),
            output: vec!["y".into()],
            op_type: op_type.into(),
            attribute,
            ..NodeProto::default()
        }
    }

    #[test]
    fn what_set_7_has_alike_is_not_copied() {
        let relu = node("Relu", &["x"], vec![]);
        let mut read = Cow::Borrowed(&relu);
        assert!(translate(&mut read, 6).expect("a translation").is_empty());
        assert!(matches!(read, Cow::Borrowed(_)));
    }

    #[test]
    fn attributes_get_their_later_names_types_and_defaults() {
        let read = |node: NodeProto, version| {
            let mut read = Cow::Owned(node);
            translate(&mut read, version).map(|_| read.into_owned().attribute)
        };
        let text = |name: &str, value: &'static str| AttributeProto {
            name: name.into(),
            r#type: at::STRING,
            s: Some(value.into()),
            ..empty()
        };
        let cast = read(node("Cast", &["x"], vec![text("to", "DOUBLE")]), 1);
        assert_eq!(cast.expect("a cast"), [int("to", 11)]);
        assert!(read(node("Cast", &["x"], vec![text("to", "QUAD")]), 1).is_err());
        assert_eq!(read(node("Concat", &["x"], vec![]), 1).expect("a concat"), [int("axis", 1)]);
        assert_eq!(read(node("Concat", &["x"], vec![]), 4).expect("a concat"), []);
        let pad = read(node("Pad", &["x"], vec![ints("paddings", &[1, 2])]), 1);
        assert_eq!(pad.expect("a pad"), [ints("pads", &[1, 2])]);
        let norm = read(node("GlobalLpPool", &["x"], vec![float("p", 3.0)]), 1);
        assert_eq!(norm.expect("a norm"), [int("p", 3)]);
        assert!(read(node("GlobalLpPool", &["x"], vec![float("p", 2.5)]), 1).is_err());
        let test = vec![int("is_test", 1), ints("consumed_inputs", &[0, 0, 0, 1, 1])];
        assert_eq!(read(node("BatchNormalization", &["x"], test), 1).expect("a normalisation"), []);
        assert!(read(node("BatchNormalization", &["x"], vec![]), 6).is_err());
        assert!(read(node("Dropout", &["x"], vec![int("is_test", 0)]), 6).is_err());
        assert!(read(node("Tile", &["x", "t", "a"], vec![]), 1).is_err());
    }

    #[test]
    fn broadcasting_from_an_axis_reshapes_the_right_operand() {
        let mut add = Cow::Owned(node("Add", &["a", "b"], vec![int("broadcast", 1), int("axis", 1)]));
        let added = translate(&mut add, 6).expect("a translation");
        assert_eq!(added.last().map(|n| n.op_type.as_str()), Some("Reshape"));
        assert_eq!(added.last().map(|n| &n.output[0]), add.input.last());
        assert!(add.attribute.is_empty());
        // Without an axis, the later rule is the same.
        let mut add = Cow::Owned(node("Add", &["a", "b"], vec![int("broadcast", 1)]));
        assert!(translate(&mut add, 6).expect("a translation").is_empty());
        assert_eq!(add.input, ["a", "b"]);
    }

    #[test]
    fn an_attribute_becomes_the_shape_that_is_an_input() {
        let mut reshape = Cow::Owned(node("Reshape", &["x"], vec![ints("shape", &[0, -1])]));
        let added = translate(&mut reshape, 1).expect("a translation");
        assert_eq!(added.len(), 1);
        assert_eq!(added[0].attribute, [ints("value_ints", &[0, -1])]);
        assert_eq!(reshape.input, ["x", &added[0].output[0]]);
    }
}
