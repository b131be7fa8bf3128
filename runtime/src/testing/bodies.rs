//! Small bodies for the cases of control flow.

use super::case::Case;
use super::gen_case::Gen;
use crate::dtype::DType;
use crate::graph::{Graph, Node, ValueId};
use crate::ops::attributes::{Attribute, Body, NodeSpec};
use crate::ops::{NEWEST_OPSET, find};

/// A body under construction.
pub(crate) struct BodyBuilder {
    graph: Graph,
    formal: usize,
}

impl BodyBuilder {
    /// Without inputs.
    pub(crate) fn new() -> Self {
        Self { graph: Graph { name: "body".into(), ..Graph::default() }, formal: 0 }
    }

    /// Adds a formal input, before any capture.
    pub(crate) fn input(&mut self, name: &str) -> ValueId {
        let id = self.capture(name);
        self.formal += 1;
        id
    }

    /// Adds a captured value.
    pub(crate) fn capture(&mut self, name: &str) -> ValueId {
        let id = self.graph.add_value(name);
        self.graph.inputs.push(id);
        id
    }

    /// Adds a constant.
    pub(crate) fn constant(&mut self, tensor: crate::Tensor) -> ValueId {
        self.graph.add_constant("constant", tensor)
    }

    /// Adds a node without attributes and of one output.
    pub(crate) fn node(&mut self, op: &str, inputs: &[ValueId]) -> ValueId {
        let out = self.graph.add_value(format!("{op}_out"));
        let spec = NodeSpec {
            attributes: Vec::new(),
            opset: NEWEST_OPSET,
            inputs: vec![true; inputs.len()],
            outputs: vec![true],
        };
        // Cases name operators of the table; a test fails at once when one is missing.
        let def = find("", op, NEWEST_OPSET).expect("an operator of the table");
        let op = (def.parse)(&spec).expect("an operator without attributes");
        self.graph.nodes.push(Node {
            name: def.name.into(),
            def: def.op_name(),
            op,
            inputs: inputs.iter().copied().map(Some).collect(),
            outputs: vec![Some(out)],
        });
        out
    }

    /// Ends with `outputs`.
    pub(crate) fn finish(mut self, outputs: &[ValueId]) -> Attribute {
        self.graph.outputs = outputs.to_vec();
        Attribute::Body(Body { graph: self.graph, formal_inputs: self.formal })
    }
}

/// `relu(x)` of one captured value.
pub(crate) fn relu_of_capture() -> Attribute {
    let mut b = BodyBuilder::new();
    let x = b.capture("x");
    let y = b.node("Relu", &[x]);
    b.finish(&[y])
}

/// One captured value itself.
pub(crate) fn capture_itself() -> Attribute {
    let mut b = BodyBuilder::new();
    let x = b.capture("x");
    b.finish(&[x])
}

/// A constant of `shape`.
pub(crate) fn constant(g: &mut Gen, shape: &[usize]) -> Attribute {
    let mut b = BodyBuilder::new();
    let c = b.constant(g.tensor(DType::F32, shape));
    b.finish(&[c])
}

impl Case {
    /// How many values the body `name` captures.
    pub(crate) fn captures_of(&self, name: &str) -> usize {
        self.attributes
            .iter()
            .find_map(|(n, a)| match a {
                Attribute::Body(b) if *n == name => Some(b.graph.inputs.len() - b.formal_inputs),
                _ => None,
            })
            .unwrap_or(0)
    }
}
