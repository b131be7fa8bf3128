//! From protobuf graphs to typed graphs: names become values, nodes become parsed operators in topological
//! order, and what a body takes from outside becomes an input of it.

use super::functions::{Call, Inliner, is_standard};
use super::proto::{AttributeProto, GraphProto, NodeProto, attribute_type as at};
use super::tensor::TensorSource;
use super::types;
use crate::error::{Error, OpError, Refusal};
use crate::graph::{Graph, Node, ValueId};
use crate::ops::attributes::{Attribute, Body, NodeSpec};
use crate::ops::{NEWEST_OPSET, OLDEST_OPSET, find};
use crate::tensor::Tensor;
use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;

/// Bodies inside bodies, at most this deep.
const MAX_BODY_DEPTH: usize = 32;

/// Converts the graphs of one model and collects what is refused.
pub(super) struct Converter<'a> {
    pub(super) inliner: Inliner<'a>,
    pub(super) tensors: TensorSource,
    pub(super) refusals: Vec<Refusal>,
}

/// A graph under construction, inside those that enclose it.
struct Scope<'s> {
    graph: Graph,
    names: HashMap<Arc<str>, ValueId>,
    /// Values of enclosing graphs that became inputs of this one.
    captures: Vec<ValueId>,
    outer: Option<&'s Outer<'s>>,
}

/// What a body can see of the graphs around it.
struct Outer<'s> {
    names: &'s HashMap<Arc<str>, ValueId>,
    graph: &'s Graph,
    outer: Option<&'s Outer<'s>>,
}

impl Outer<'_> {
    /// The constant behind `name`, `Some(None)` when it is a value that is computed, `None` when there is no
    /// such value.
    #[allow(clippy::option_option, reason = "whether it exists, and whether it is a constant")]
    fn look_up(&self, name: &str) -> Option<Option<Tensor>> {
        match self.names.get(name) {
            Some(&id) => Some(self.graph.constant(id).cloned()),
            None => self.outer?.look_up(name),
        }
    }
}

impl Scope<'_> {
    fn define(&mut self, name: &str) -> Result<ValueId, Error> {
        let name: Arc<str> = name.into();
        let id = self.graph.add_value(name.clone());
        if self.names.insert(name.clone(), id).is_some() {
            return Err(Error::model(format!(
                "value `{name}` of graph `{}` is written twice",
                self.graph.name
            )));
        }
        Ok(id)
    }

    /// The value `name` as seen from here; one of an enclosing graph becomes an input.
    fn resolve(&mut self, name: &str) -> Option<ValueId> {
        if let Some(&id) = self.names.get(name) {
            return Some(id);
        }
        let found = self.outer?.look_up(name)?;
        let name: Arc<str> = name.into();
        let id = self.graph.add_value(name.clone());
        match found {
            Some(constant) => self.graph.values[id.index()].constant = Some(constant),
            None => self.captures.push(id),
        }
        self.names.insert(name, id);
        Some(id)
    }
}

impl Converter<'_> {
    /// Converts the main graph.
    pub(super) fn main_graph(&mut self, proto: &GraphProto) -> Result<Graph, Error> {
        Ok(self.graph(proto, 0, None, 0)?.0)
    }

    /// Converts `proto`; returns the graph and how many of its inputs are formal. The others are captures.
    fn graph(
        &mut self,
        proto: &GraphProto,
        imports: usize,
        outer: Option<&Outer<'_>>,
        depth: usize,
    ) -> Result<(Graph, usize), Error> {
        if depth > MAX_BODY_DEPTH {
            return Err(Error::model(format!("bodies nest more than {MAX_BODY_DEPTH} deep")));
        }
        let graph = Graph { name: proto.name.as_str().into(), ..Graph::default() };
        let mut scope = Scope { graph, names: HashMap::new(), captures: Vec::new(), outer };
        for tensor in &proto.initializer {
            let id = scope.define(&tensor.name)?;
            scope.graph.values[id.index()].constant = Some(self.tensors.decode(tensor)?);
        }
        for sparse in &proto.sparse_initializer {
            let name = sparse.values.as_ref().map_or("", |v| v.name.as_str());
            let id = scope.define(name)?;
            scope.graph.values[id.index()].constant = Some(self.tensors.decode_sparse(sparse)?);
        }
        for info in &proto.input {
            // An initializer under an input's name is its value: before IR version 4 all were listed so.
            let defined = scope.names.get(info.name.as_str());
            if depth == 0 && defined.is_some_and(|&id| scope.graph.constant(id).is_some()) {
                continue;
            }
            let id = scope.define(&info.name)?;
            scope.graph.values[id.index()].declared = types::declared_fact(info)?;
            scope.graph.inputs.push(id);
            if depth == 0 && scope.graph.value(id).declared.is_none() {
                return Err(Error::model(format!("input `{}` has no type", info.name)));
            }
        }
        let formal = scope.graph.inputs.len();

        let mut inlined = self.inliner.inline(&proto.node, imports)?;
        for index in topological_order(&inlined.calls, &scope.names)? {
            self.node(&mut inlined.calls[index], &mut scope, depth)?;
        }
        for info in &proto.output {
            let Some(id) = scope.resolve(&info.name) else {
                return Err(Error::model(format!(
                    "output `{}` of graph `{}` is never written",
                    info.name, scope.graph.name
                )));
            };
            let declared = types::declared_fact(info)?;
            let value = &mut scope.graph.values[id.index()];
            if value.declared.is_none() {
                value.declared = declared;
            }
            scope.graph.outputs.push(id);
        }
        let Scope { mut graph, captures, .. } = scope;
        graph.inputs.extend(captures);
        Ok((graph, formal))
    }

    fn node(&mut self, call: &mut Call<'_>, scope: &mut Scope<'_>, depth: usize) -> Result<(), Error> {
        let refusal = call.refusal.take();
        let proto: &NodeProto = &call.node;
        let first = proto.output.iter().find(|n| !n.is_empty()).map_or("", String::as_str);
        let name =
            if proto.name.is_empty() { format!("{}({first})", proto.op_type) } else { proto.name.clone() };
        let mut inputs = Vec::with_capacity(proto.input.len());
        for input in &proto.input {
            inputs.push(if input.is_empty() {
                None
            } else {
                let missing = || Error::model(format!("node `{name}` reads `{input}`, which nothing writes"));
                Some(scope.resolve(input).ok_or_else(missing)?)
            });
        }
        let attributes = self.attributes(proto, call.imports, scope, depth, &name)?;
        let constant = is_standard(&proto.domain) && proto.op_type == "Constant";
        if constant {
            let tensor = self.constant(proto, &name)?;
            let id = scope.define(first)?;
            scope.graph.values[id.index()].constant = Some(tensor);
            return Ok(());
        }
        let (opset, parsed) = match refusal {
            Some(reason) => (call.version.unwrap_or_default(), Err(reason)),
            None => parse(proto, call.version, attributes),
        };
        // Captures follow the formal inputs in the order in which the operator has its bodies; the file may
        // list them in another.
        for body in parsed.iter().flat_map(|(_, op)| op.bodies()) {
            for &id in &body.graph.inputs[body.formal_inputs..] {
                let capture = &body.graph.value(id).name;
                let missing = || {
                    Error::model(format!("a body of node `{name}` reads `{capture}`, which nothing writes"))
                };
                inputs.push(Some(scope.resolve(capture).ok_or_else(missing)?));
            }
        }
        let mut outputs = Vec::with_capacity(proto.output.len());
        for output in &proto.output {
            outputs.push(if output.is_empty() { None } else { Some(scope.define(output)?) });
        }
        match parsed {
            Ok((def, op)) => {
                scope.graph.nodes.push(Node { name: name.into(), def: def.op_name(), op, inputs, outputs });
            }
            Err(reason) => {
                let op = if is_standard(&proto.domain) {
                    proto.op_type.clone()
                } else {
                    format!("{}:{}", proto.domain, proto.op_type)
                };
                self.refusals.push(Refusal { node: name, op, opset, reason });
            }
        }
        Ok(())
    }

    /// Decodes the attributes of a node.
    #[allow(clippy::type_complexity, reason = "the form that `NodeSpec` takes")]
    fn attributes(
        &mut self,
        proto: &NodeProto,
        imports: usize,
        scope: &Scope<'_>,
        depth: usize,
        node: &str,
    ) -> Result<Vec<(Arc<str>, Attribute, Cell<bool>)>, Error> {
        let mut attributes = Vec::with_capacity(proto.attribute.len());
        let mut seen = HashSet::new();
        for a in &proto.attribute {
            let refuse = |what: &str| Error::model(format!("attribute `{}` of node `{node}` {what}", a.name));
            if !seen.insert(a.name.as_str()) {
                return Err(refuse("is given twice"));
            }
            let text = |b: &bytes::Bytes| {
                std::str::from_utf8(b).map(Arc::<str>::from).map_err(|_| refuse("is not UTF-8 text"))
            };
            let value = match kind_of(a) {
                at::FLOAT => Attribute::Float(a.f.unwrap_or(0.0)),
                at::INT => Attribute::Int(a.i.unwrap_or(0)),
                at::STRING => Attribute::String(text(a.s.as_ref().unwrap_or(&bytes::Bytes::new()))?),
                at::FLOATS => Attribute::Floats(a.floats.clone()),
                at::INTS => Attribute::Ints(a.ints.clone()),
                at::STRINGS => Attribute::Strings(a.strings.iter().map(text).collect::<Result<_, _>>()?),
                at::TENSOR => {
                    let t = a.t.as_deref().ok_or_else(|| refuse("has no tensor"))?;
                    Attribute::Tensor(self.tensors.decode(t)?)
                }
                at::SPARSE_TENSOR => {
                    let t = a.sparse_tensor.as_deref().ok_or_else(|| refuse("has no tensor"))?;
                    Attribute::Tensor(self.tensors.decode_sparse(t)?)
                }
                at::TYPE_PROTO => {
                    let t = a.tp.as_deref().ok_or_else(|| refuse("has no type"))?;
                    Attribute::Type(types::fact(t, &a.name)?.ok_or_else(|| refuse("has no type"))?)
                }
                at::GRAPH => {
                    let g = a.g.as_deref().ok_or_else(|| refuse("has no graph"))?;
                    let outer = Outer { names: &scope.names, graph: &scope.graph, outer: scope.outer };
                    let (graph, formal_inputs) = self.graph(g, imports, Some(&outer), depth + 1)?;
                    Attribute::Body(Body { graph, formal_inputs })
                }
                other => return Err(refuse(&format!("has type {other}, which is not known"))),
            };
            attributes.push((a.name.as_str().into(), value, Cell::new(false)));
        }
        Ok(attributes)
    }

    /// The tensor of a `Constant` node.
    fn constant(&self, proto: &NodeProto, node: &str) -> Result<Tensor, Error> {
        let refuse = |what: &str| Error::model(format!("node `{node}` (Constant) {what}"));
        let [a] = proto.attribute.as_slice() else {
            return Err(refuse("needs exactly one attribute"));
        };
        let text = |b: &bytes::Bytes| String::from_utf8(b.to_vec()).map_err(|_| refuse("is not UTF-8 text"));
        match (a.name.as_str(), kind_of(a)) {
            ("value", at::TENSOR) => {
                self.tensors.decode(a.t.as_deref().ok_or_else(|| refuse("has no tensor"))?)
            }
            ("sparse_value", at::SPARSE_TENSOR) => {
                self.tensors.decode_sparse(a.sparse_tensor.as_deref().ok_or_else(|| refuse("has no tensor"))?)
            }
            ("value_float", at::FLOAT) => Ok(Tensor::scalar(a.f.unwrap_or(0.0))),
            ("value_int", at::INT) => Ok(Tensor::scalar(a.i.unwrap_or(0))),
            ("value_string", at::STRING) => {
                Tensor::strings(&[], vec![text(a.s.as_ref().ok_or_else(|| refuse("has no text"))?)?])
            }
            ("value_floats", _) => Tensor::new(&[a.floats.len()], a.floats.clone()),
            ("value_ints", _) => Tensor::new(&[a.ints.len()], a.ints.clone()),
            ("value_strings", _) => {
                let data = a.strings.iter().map(text).collect::<Result<Vec<_>, _>>()?;
                Tensor::strings(&[data.len()], data)
            }
            (name, _) => {
                Err(refuse(&format!("has attribute `{name}`, which is not known or of the wrong type")))
            }
        }
    }
}

/// The attribute's type; writers before IR version 3 left it out.
fn kind_of(a: &AttributeProto) -> i32 {
    if a.r#type != at::UNDEFINED {
        return a.r#type;
    }
    let present = [
        (a.f.is_some(), at::FLOAT),
        (a.i.is_some(), at::INT),
        (a.s.is_some(), at::STRING),
        (a.t.is_some(), at::TENSOR),
        (a.g.is_some(), at::GRAPH),
        (!a.floats.is_empty(), at::FLOATS),
        (!a.ints.is_empty(), at::INTS),
        (!a.strings.is_empty(), at::STRINGS),
        (a.tp.is_some(), at::TYPE_PROTO),
        (a.sparse_tensor.is_some(), at::SPARSE_TENSOR),
    ];
    present.iter().find(|(there, _)| *there).map_or(at::INTS, |(_, kind)| *kind)
}

type Parsed = (&'static crate::ops::OpDef, Arc<dyn crate::ops::Op>);

fn parse(
    proto: &NodeProto,
    imported: Option<i64>,
    attributes: Vec<(Arc<str>, Attribute, Cell<bool>)>,
) -> (i64, Result<Parsed, OpError>) {
    let Some(opset) = imported else {
        let domain = match &*proto.domain {
            "" => "the standard domain".to_owned(),
            name => format!("domain `{name}`"),
        };
        let what = format!("{domain}, of which the model imports no version,");
        return (0, Err(OpError::unsupported(what)));
    };
    let parsed = (|| {
        if is_standard(&proto.domain) && !(OLDEST_OPSET..=NEWEST_OPSET).contains(&opset) {
            let what = format!("operator set {opset}, which is none of 1 to {NEWEST_OPSET},");
            return Err(OpError::unsupported(what));
        }
        let def =
            find(&proto.domain, &proto.op_type, opset).ok_or_else(|| OpError::unsupported("the operator"))?;
        let spec = NodeSpec {
            attributes,
            opset,
            inputs: proto.input.iter().map(|name| !name.is_empty()).collect(),
            outputs: proto.output.iter().map(|name| !name.is_empty()).collect(),
        };
        let op = (def.parse)(&spec)?;
        match spec.unread() {
            Some(name) => Err(OpError::attribute(name, "is not one of this operator's")),
            None => Ok((def, op)),
        }
    })();
    (opset, parsed)
}

/// Positions of `calls` such that writers come before readers, otherwise in the given order.
fn topological_order(calls: &[Call<'_>], known: &HashMap<Arc<str>, ValueId>) -> Result<Vec<usize>, Error> {
    let mut writer: HashMap<&str, usize> = HashMap::new();
    for (i, call) in calls.iter().enumerate() {
        for name in call.node.output.iter().filter(|n| !n.is_empty() && !known.contains_key(n.as_str())) {
            writer.insert(name, i);
        }
    }
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); calls.len()];
    let mut waiting = vec![0usize; calls.len()];
    for (i, call) in calls.iter().enumerate() {
        let mut names = HashSet::new();
        names_read(&call.node, &mut names);
        let mut from: Vec<usize> = names.iter().filter_map(|n| writer.get(n).copied()).collect();
        from.sort_unstable();
        from.dedup();
        for w in from {
            readers[w].push(i);
            waiting[i] += 1;
        }
    }
    let mut ready: BinaryHeap<Reverse<usize>> =
        (0..calls.len()).filter(|&i| waiting[i] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(calls.len());
    while let Some(Reverse(i)) = ready.pop() {
        order.push(i);
        for &r in &readers[i] {
            waiting[r] -= 1;
            if waiting[r] == 0 {
                ready.push(Reverse(r));
            }
        }
    }
    if order.len() == calls.len() {
        return Ok(order);
    }
    let stuck = (0..calls.len())
        .find(|&i| waiting[i] > 0)
        .map_or("", |i| calls[i].node.output.first().map_or("", |s| s));
    Err(Error::model(format!("the graph has a cycle through `{stuck}`")))
}

/// Names that a node reads itself or in its bodies from outside them.
fn names_read<'p>(node: &'p NodeProto, names: &mut HashSet<&'p str>) {
    names.extend(node.input.iter().map(String::as_str));
    for graph in node.attribute.iter().filter_map(|a| a.g.as_deref()) {
        let mut inside = HashSet::new();
        for inner in &graph.node {
            names_read(inner, &mut inside);
        }
        inside.extend(graph.output.iter().map(|o| o.name.as_str()));
        // A body's own values are not from outside, even where others have the same names there.
        for inner in &graph.node {
            inner.output.iter().for_each(|n| _ = inside.remove(n.as_str()));
        }
        graph.input.iter().for_each(|i| _ = inside.remove(i.name.as_str()));
        graph.initializer.iter().for_each(|t| _ = inside.remove(t.name.as_str()));
        let sparse = graph.sparse_initializer.iter().filter_map(|s| s.values.as_ref());
        sparse.for_each(|t| _ = inside.remove(t.name.as_str()));
        names.extend(inside);
    }
}
