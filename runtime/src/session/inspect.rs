//! What a loaded model consists of: its nodes with the work of each, and its parameters.

use super::Session;
use super::arguments::{ValueSpec, refuse, unknown};
use crate::error::Error;
use crate::graph::fact::Facts;
use crate::graph::{Dim, Fact, Graph, Node, NodeError, ValueId, node_cost};
use crate::loops::Fused;
use crate::ops::Cost;
use std::sync::Arc;

/// One node of a prepared model.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeInfo {
    /// Name in the model, or one made from its first output.
    pub name: Arc<str>,
    /// Its operator, with its domain where that is not the standard one.
    pub op: String,
    /// Its inputs; for control flow, the values that its bodies take from outside stand behind the formal ones.
    pub inputs: Vec<Option<ValueSpec>>,
    /// Its outputs; `None` where nobody wants it.
    pub outputs: Vec<Option<ValueSpec>>,
    /// Work of one execution, bodies included, where the shapes of all inputs and outputs and the number of
    /// iterations are known; no work for a node whose output is a view of its input. Of two branches, that which
    /// works more.
    pub cost: Option<Cost>,
    /// Operators of the nodes in its bodies, to any depth.
    pub body_operators: Vec<String>,
    /// The nodes that were fused into it; empty for a node of the model itself.
    pub members: Vec<Member>,
    /// Work of the members one by one, with every value between them written and read; known where `cost` is.
    pub unfused_cost: Option<Cost>,
}

/// A node of the model that was fused into another.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Member {
    /// Name in the model.
    pub name: Arc<str>,
    /// Its operator.
    pub op: String,
}

/// Two neighbours that were not fused.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Apart {
    /// Name of the node that makes a value.
    pub producer: Arc<str>,
    /// Name of a node that reads it.
    pub reader: Arc<str>,
    /// Why they stayed apart.
    pub reason: String,
}

/// How much a prepared model holds in constants.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Parameters {
    /// Constant tensors that nodes read, those of bodies included.
    pub tensors: usize,
    /// Their elements.
    pub elements: usize,
    /// Their bytes.
    pub bytes: usize,
}

impl Session {
    /// The nodes in the order in which they run, after simplification, for inputs of these shapes. Inputs that
    /// are not named have what the model declares.
    ///
    /// # Example
    /// ```
    /// # const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
    /// use recurve::{Fusion, Session};
    /// let session = Session::builder().with_fusion(Fusion::Off).load_bytes(MODEL)?;
    /// let nodes = session.nodes([("question", vec![6, 1]), ("h", vec![1, 1, 128]), ("c", vec![1, 1, 128])])?;
    /// let flops: f64 = nodes.iter().filter_map(|node| Some(node.cost?.flops)).sum();
    /// assert!(nodes.iter().any(|node| node.op == "LSTM") && flops > 1e6);
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn nodes<'a, S: AsRef<[usize]>>(
        &self,
        shapes: impl IntoIterator<Item = (&'a str, S)>,
    ) -> Result<Vec<NodeInfo>, Error> {
        let mut given: Vec<Fact> = self.inputs.iter().map(|spec| spec.fact.clone()).collect();
        for (name, shape) in shapes {
            let at = self.inputs.iter().position(|spec| &*spec.name == name);
            let at = at.ok_or_else(|| unknown("input", name, &self.inputs))?;
            let shape = shape.as_ref();
            let Fact::Tensor(fact) = &mut given[at] else {
                return Err(refuse("input", name, "is no tensor and has no shape"));
            };
            let fits = fact.shape.as_ref().is_none_or(|declared| {
                declared.len() == shape.len()
                    && declared.iter().zip(shape).all(|(d, &n)| d.known().is_none_or(|k| k == n))
            });
            if !fits {
                let problem = format!("cannot have shape {shape:?}; {:?} is expected", fact.shape);
                return Err(refuse("input", name, problem));
            }
            fact.shape = Some(shape.iter().map(|&n| Dim::Known(n)).collect());
        }
        let graph = self.runner.graph();
        let facts = crate::graph::infer(graph, &given).map_err(NodeError::at_load)?;
        let spec = |id: &Option<ValueId>| {
            let id = (*id)?;
            Some(ValueSpec { name: graph.value(id).name.clone(), fact: facts[id.index()].clone()? })
        };
        let info = |node: &Node| {
            let inputs: Vec<Option<ValueSpec>> = node.inputs.iter().map(spec).collect();
            let outputs: Vec<Option<ValueSpec>> = node.outputs.iter().map(spec).collect();
            let read: Vec<Option<&Fact>> = inputs.iter().map(|s| s.as_ref().map(|s| &s.fact)).collect();
            let cost = node_cost(node, &read);
            let mut body_operators = Vec::new();
            for body in node.op.bodies() {
                add_operators(&body.graph, &mut body_operators);
            }
            let fused = node.op.as_any().downcast_ref::<Fused>();
            let members = fused.map_or(&[][..], |f| &f.members().nodes);
            let member = |m: &Node| Member { name: m.name.clone(), op: m.def.full_name() };
            NodeInfo {
                members: members.iter().map(member).collect(),
                unfused_cost: fused.and_then(|f| f.unfused_cost(Facts(&read))),
                name: node.name.clone(),
                op: node.def.full_name(),
                cost,
                inputs,
                outputs,
                body_operators,
            }
        };
        Ok(graph.nodes.iter().map(info).collect())
    }

    /// Neighbours of the loaded model that were not fused, and why, by the order of the producers.
    pub fn apart(&self) -> Vec<Apart> {
        let of = |(producer, reader, why): &(Arc<str>, Arc<str>, crate::loops::Apart)| Apart {
            producer: producer.clone(),
            reader: reader.clone(),
            reason: why.to_string(),
        };
        self.fusion.apart.iter().map(of).collect()
    }

    /// How much the model holds in constants.
    pub fn parameters(&self) -> Parameters {
        let mut sum = Parameters::default();
        add_parameters(self.runner.graph(), &mut sum);
        sum
    }
}

fn add_operators(graph: &Graph, to: &mut Vec<String>) {
    for node in &graph.nodes {
        to.push(node.def.full_name());
        for body in node.op.bodies() {
            add_operators(&body.graph, to);
        }
    }
}

fn add_parameters(graph: &Graph, sum: &mut Parameters) {
    let mut counted = vec![false; graph.values.len()];
    let read = graph.nodes.iter().flat_map(|node| node.inputs.iter().flatten()).chain(&graph.outputs);
    for id in read {
        if std::mem::replace(&mut counted[id.index()], true) {
            continue;
        }
        if let Some(tensor) = graph.constant(*id) {
            sum.tensors += 1;
            sum.elements += tensor.len();
            sum.bytes += tensor.bytes().len();
        }
    }
    for node in &graph.nodes {
        for body in node.op.bodies() {
            add_parameters(&body.graph, sum);
        }
    }
}
