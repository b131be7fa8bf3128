//! Model-local functions, inlined: every call is replaced by the function's nodes under fresh names. The nodes that
//! are left are in the form of an operator set that is read: older ones are translated.

use super::legacy;
use super::proto::{AttributeProto, FunctionProto, GraphProto, NodeProto, OperatorSetIdProto};
use crate::error::{Error, OpError};
use crate::memory::{Budget, Charge};
use prost::Message;
use std::borrow::Cow;
use std::collections::HashMap;

/// Nodes and calls that inlining may produce in all: calls can multiply at every level.
const MAX_NODES: usize = 200_000;
/// Names longer than this do not become part of other names.
const LONGEST_PREFIX: usize = 128;
/// Functions that call functions, at most this deep.
const MAX_DEPTH: usize = 64;

/// The functions of a model by domain, name and overload.
pub(super) struct Functions<'a> {
    table: HashMap<(&'a str, &'a str, &'a str), &'a FunctionProto>,
}

/// A node after inlining, with the operator sets that hold for it.
#[derive(Debug)]
pub(super) struct Call<'n> {
    /// Borrowed where neither a function nor a translation is involved.
    pub(super) node: Cow<'n, NodeProto>,
    /// Index into [`Inliner::imports`], which hold for the node's bodies too.
    pub(super) imports: usize,
    /// Version of the node's own operator set, when the model imports one.
    pub(super) version: Option<i64>,
    /// Why the node has no form in an operator set that is read.
    pub(super) refusal: Option<OpError>,
}

/// The nodes of one graph after inlining.
#[derive(Debug, Default)]
pub(super) struct Inlined<'n> {
    pub(super) calls: Vec<Call<'n>>,
    /// What the nodes take that inlining made.
    charges: Vec<Charge>,
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
    budget: Budget,
}

impl<'a> Inliner<'a> {
    /// For a model with `functions` and operator sets `imports`.
    pub(super) fn new(
        functions: &'a [FunctionProto],
        imports: &[OperatorSetIdProto],
        budget: &Budget,
    ) -> Result<Self, Error> {
        let mut table = HashMap::new();
        for f in functions {
            let key = (f.domain.as_str(), f.name.as_str(), f.overload.as_str());
            if table.insert(key, f).is_some() {
                return Err(Error::model(format!("function `{}:{}` is defined twice", f.domain, f.name)));
            }
        }
        let budget = budget.clone();
        Ok(Self {
            functions: Functions { table },
            imports: vec![imports.to_vec()],
            produced: 0,
            calls: 0,
            budget,
        })
    }

    /// Replaces the calls among `nodes`, whose operator sets are those with index `imports`.
    pub(super) fn inline<'n>(
        &mut self,
        nodes: &'n [NodeProto],
        imports: usize,
    ) -> Result<Inlined<'n>, Error> {
        let mut out = Inlined::default();
        for node in nodes {
            self.expand(Cow::Borrowed(node), imports, 0, &mut out)?;
        }
        Ok(out)
    }

    fn expand<'n>(
        &mut self,
        node: Cow<'n, NodeProto>,
        imports: usize,
        depth: usize,
        out: &mut Inlined<'n>,
    ) -> Result<(), Error> {
        let key = (node.domain.as_str(), node.op_type.as_str(), node.overload.as_str());
        let Some(&function) = self.functions.table.get(&key) else {
            if depth > 0 {
                self.count_node()?;
            }
            return self.keep(node, imports, out);
        };
        // A call counts too: functions without nodes can still call each other without end.
        self.count_node()?;
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
            // Every name gets a prefix, in bodies too.
            let size = footprint(inner, frame.prefix.len());
            out.charges.push(self.charge(size, &function.name)?);
            let renamed = rename(inner, &frame)?;
            self.expand(Cow::Owned(renamed), frame.imports, depth + 1, out)?;
        }
        Ok(())
    }

    /// Keeps a node that calls no function, in a form that is read.
    fn keep<'n>(
        &mut self,
        mut node: Cow<'n, NodeProto>,
        imports: usize,
        out: &mut Inlined<'n>,
    ) -> Result<(), Error> {
        let imported = &self.imports[imports];
        let same = |i: &&OperatorSetIdProto| {
            i.domain == node.domain || (is_standard(&i.domain) && is_standard(&node.domain))
        };
        let mut version = imported.iter().find(same).map(|i| i.version);
        let mut refusal = None;
        if let Some(old) = version.filter(|&v| is_standard(&node.domain) && legacy::covers(v)) {
            let size = footprint(&node, 0) + legacy::most_added(&node);
            out.charges.push(self.charge(size, &node.op_type)?);
            version = Some(legacy::TRANSLATED_TO);
            match legacy::translate(&mut node, old) {
                Ok(before) => out.calls.extend(before.into_iter().map(|node| Call {
                    node: Cow::Owned(node),
                    imports,
                    version: Some(legacy::OF_ADDED),
                    refusal: None,
                })),
                Err(reason) => (version, refusal) = (Some(old), Some(reason)),
            }
        }
        out.calls.push(Call { node, imports, version, refusal });
        Ok(())
    }

    fn charge(&self, size: usize, what: &str) -> Result<Charge, Error> {
        self.budget.charge(size).map_err(|_| Error::Memory {
            what: format!("the nodes of `{what}`"),
            requested: size,
            limit: self.budget.limit(),
        })
    }

    fn count_node(&mut self) -> Result<(), Error> {
        self.produced += 1;
        if self.produced > MAX_NODES {
            return Err(Error::model(format!("functions expand to more than {MAX_NODES} nodes")));
        }
        Ok(())
    }

    fn frame<'f>(&mut self, node: &'f NodeProto, function: &'f FunctionProto) -> Frame<'f> {
        self.calls += 1;
        // The number makes the prefix unique; a name too long to be repeated in every inner one is left out.
        let caller = if node.name.is_empty() { &function.name } else { &node.name };
        let caller = if caller.len() > LONGEST_PREFIX { "" } else { caller };
        let prefix = format!("{caller}#{}/", self.calls);
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

/// Whether `domain` is a name of the standard operator set.
pub(super) fn is_standard(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

/// Bytes that a copy of `node` takes, at most, when each of its names becomes `prefix` longer. Tensor bytes are
/// shared between copies.
fn footprint(node: &NodeProto, prefix: usize) -> usize {
    let name = |s: &String| 2 * size_of::<String>() + s.len() + prefix;
    let names = |list: &[String]| list.iter().map(name).sum::<usize>();
    let own = size_of::<NodeProto>() + names(&node.input) + names(&node.output);
    own + name(&node.name)
        + node.op_type.len()
        + node.attribute.iter().map(|a| attribute_footprint(a, prefix)).sum::<usize>()
}

fn attribute_footprint(a: &AttributeProto, prefix: usize) -> usize {
    let tensor = |t: &super::proto::TensorProto| size_of_val(t) + t.encoded_len() * 8 - raw_len(t);
    let lists = a.floats.len() * 4 + a.ints.len() * 8 + a.strings.len() * size_of::<bytes::Bytes>();
    let values = a.t.as_deref().map_or(0, tensor)
        + a.tp.as_deref().map_or(0, |t| size_of_val(t) + t.encoded_len() * 8);
    let sparse = a.sparse_tensor.as_deref().map_or(0, |s| size_of_val(s) + s.encoded_len() * 8);
    let body = a.g.as_deref().map_or(0, |g| {
        let infos = (g.input.len() + g.output.len()) * (size_of::<super::proto::ValueInfoProto>() + prefix);
        let tensors: usize = g.initializer.iter().map(|t| tensor(t) + prefix).sum();
        let nodes: usize = g.node.iter().map(|n| footprint(n, prefix)).sum();
        size_of::<GraphProto>() + infos + tensors + nodes
    });
    size_of::<AttributeProto>() + a.name.len() + lists + values + sparse + body
}

fn raw_len(t: &super::proto::TensorProto) -> usize {
    t.raw_data.as_ref().map_or(0, |raw| raw.len() * 8)
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
