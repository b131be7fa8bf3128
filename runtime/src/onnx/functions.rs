//! Model-local functions, inlined: every call is replaced by the function's nodes under fresh names.

use super::proto::{AttributeProto, FunctionProto, GraphProto, NodeProto, OperatorSetIdProto};
use crate::error::Error;
use std::collections::HashMap;

/// Nodes that inlining may produce in all: calls can multiply at every level.
const MAX_NODES: usize = 200_000;
/// Functions that call functions, at most this deep.
const MAX_DEPTH: usize = 64;

/// The functions of a model by domain, name and overload.
pub(super) struct Functions<'a> {
    table: HashMap<(&'a str, &'a str, &'a str), &'a FunctionProto>,
}

/// A node after inlining, with the operator sets that hold for it.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) node: NodeProto,
    /// Index into [`Inlined::imports`].
    pub(super) imports: usize,
}

/// The nodes of one graph after inlining.
#[derive(Debug, Default)]
pub(super) struct Inlined {
    pub(super) calls: Vec<Call>,
}

/// Names and attributes that a function's body sees in place of its own.
struct Frame<'f> {
    prefix: String,
    names: HashMap<String, String>,
    attributes: HashMap<&'f str, &'f AttributeProto>,
    imports: usize,
}

/// What all graphs of a model share while they are inlined.
pub(super) struct Inliner<'a> {
    functions: Functions<'a>,
    /// Operator sets: the model's first, then those of functions.
    pub(super) imports: Vec<Vec<OperatorSetIdProto>>,
    produced: usize,
    calls: usize,
}

impl<'a> Inliner<'a> {
    /// For a model with `functions` and operator sets `imports`.
    pub(super) fn new(functions: &'a [FunctionProto], imports: &[OperatorSetIdProto]) -> Result<Self, Error> {
        let mut table = HashMap::new();
        for f in functions {
            let key = (f.domain.as_str(), f.name.as_str(), f.overload.as_str());
            if table.insert(key, f).is_some() {
                return Err(Error::model(format!("function `{}:{}` is defined twice", f.domain, f.name)));
            }
        }
        Ok(Self { functions: Functions { table }, imports: vec![imports.to_vec()], produced: 0, calls: 0 })
    }

    /// Replaces the calls among `nodes`, whose operator sets are those with index `imports`.
    pub(super) fn inline(&mut self, nodes: &[NodeProto], imports: usize) -> Result<Inlined, Error> {
        let mut out = Inlined::default();
        for node in nodes {
            self.expand(node.clone(), imports, 0, &mut out)?;
        }
        Ok(out)
    }

    fn expand(
        &mut self,
        node: NodeProto,
        imports: usize,
        depth: usize,
        out: &mut Inlined,
    ) -> Result<(), Error> {
        let key = (node.domain.as_str(), node.op_type.as_str(), node.overload.as_str());
        let Some(&function) = self.functions.table.get(&key) else {
            self.produced += 1;
            if self.produced > MAX_NODES {
                return Err(Error::model(format!("functions expand to more than {MAX_NODES} nodes")));
            }
            out.calls.push(Call { node, imports });
            return Ok(());
        };
        if depth >= MAX_DEPTH {
            let name = &function.name;
            return Err(Error::model(format!("function `{name}` calls itself, or functions nest too deep")));
        }
        if node.input.len() > function.input.len() || node.output.len() > function.output.len() {
            return Err(Error::model(format!(
                "node `{}` calls function `{}` with more inputs or outputs than it has",
                node.name, function.name
            )));
        }
        let frame = self.frame(&node, function);
        for inner in &function.node {
            let renamed = rename(inner, &frame)?;
            self.expand(renamed, frame.imports, depth + 1, out)?;
        }
        Ok(())
    }

    fn frame<'f>(&mut self, node: &'f NodeProto, function: &'f FunctionProto) -> Frame<'f> {
        self.calls += 1;
        let prefix =
            format!("{}#{}/", if node.name.is_empty() { &function.name } else { &node.name }, self.calls);
        let mut names = HashMap::new();
        for (i, formal) in function.input.iter().enumerate() {
            names.insert(formal.clone(), node.input.get(i).cloned().unwrap_or_default());
        }
        for (i, formal) in function.output.iter().enumerate() {
            // An output that the caller does not take still needs a name of its own.
            let actual = node.output.get(i).filter(|n| !n.is_empty()).cloned();
            names.insert(formal.clone(), actual.unwrap_or_else(|| format!("{prefix}{formal}")));
        }
        let mut attributes: HashMap<&str, &AttributeProto> =
            function.attribute_proto.iter().map(|a| (a.name.as_str(), a)).collect();
        attributes.extend(node.attribute.iter().map(|a| (a.name.as_str(), a)));
        let imports = match self.imports.iter().position(|i| *i == function.opset_import) {
            Some(known) => known,
            None => {
                self.imports.push(function.opset_import.clone());
                self.imports.len() - 1
            }
        };
        Frame { prefix, names, attributes, imports }
    }
}

fn rename(node: &NodeProto, frame: &Frame<'_>) -> Result<NodeProto, Error> {
    let mut out = node.clone();
    for name in out.input.iter_mut().chain(&mut out.output) {
        rename_value(name, frame);
    }
    out.name = format!("{}{}", frame.prefix, node.name);
    let mut attributes = Vec::with_capacity(out.attribute.len());
    for mut attribute in out.attribute {
        if !attribute.ref_attr_name.is_empty() {
            // A reference to an attribute that the caller did not give: the inner operator's default holds.
            let Some(actual) = frame.attributes.get(attribute.ref_attr_name.as_str()) else { continue };
            let name = attribute.name;
            attribute = AttributeProto { name, ..(*actual).clone() };
        } else if let Some(graph) = &mut attribute.g {
            rename_graph(graph, frame)?;
        }
        attributes.push(attribute);
    }
    out.attribute = attributes;
    Ok(out)
}

/// Renames everything in a body: what is not a formal of the function gets the prefix, the body's own inputs
/// included.
fn rename_graph(graph: &mut GraphProto, frame: &Frame<'_>) -> Result<(), Error> {
    for info in graph.input.iter_mut().chain(&mut graph.output) {
        rename_value(&mut info.name, frame);
    }
    for tensor in &mut graph.initializer {
        rename_value(&mut tensor.name, frame);
    }
    for tensor in graph.sparse_initializer.iter_mut().filter_map(|s| s.values.as_mut()) {
        rename_value(&mut tensor.name, frame);
    }
    for node in &mut graph.node {
        *node = rename(node, frame)?;
    }
    Ok(())
}

fn rename_value(name: &mut String, frame: &Frame<'_>) {
    if !name.is_empty() {
        *name = frame.names.get(name).cloned().unwrap_or_else(|| format!("{}{name}", frame.prefix));
    }
}
