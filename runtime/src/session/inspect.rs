//! What a loaded model consists of: its nodes with the work of each, and its parameters.

use super::Session;
use super::arguments::{ValueSpec, refuse, unknown};
use super::run_options::RunOptions;
use crate::error::Error;
use crate::exec::settled_graph;
use crate::graph::fact::Facts;
use crate::graph::{Dim, Fact, Graph, Node, NodeError, ValueId, node_cost};
use crate::loops::{Fused, Joined, Member, members_of};
use crate::ops::Cost;
use crate::ops::attributes::Body;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A prepared graph: a model's, or that of a body.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GraphInfo {
    /// Name in the model.
    pub name: Arc<str>,
    /// Inputs: of a body, the formal ones, then what it takes from outside. `None` where nothing is known of one.
    pub inputs: Vec<Option<ValueSpec>>,
    /// Nodes in the order in which they run.
    pub nodes: Vec<NodeInfo>,
    /// Where each output comes from.
    pub outputs: Vec<Source>,
}

/// Where a value comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Source {
    /// There is none.
    Absent,
    /// The input of the graph at this position.
    Input(usize),
    /// The model.
    Constant,
    /// An output of a node, by their positions.
    Node {
        /// The node.
        node: usize,
        /// Which of its outputs.
        output: usize,
    },
}

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
    /// Where each of `inputs` comes from.
    pub sources: Vec<Source>,
    /// Whether a kernel runs for it: none does for a view, nor where shapes and constants tell what it makes.
    pub runs: bool,
    /// The graphs of its bodies, with the facts that its inputs give them.
    pub bodies: Vec<GraphInfo>,
    /// The nodes that were fused into it, or in whose place it stands: products that read one operand, steps of a sequence.
    /// Empty for a node of the model itself.
    pub members: Vec<Member>,
    /// Work of the members one by one, with every value between them written and read; known where `cost` is.
    pub unfused_cost: Option<Cost>,
}

/// Two neighbours that were not fused.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Apart {
    /// Name of the node that makes a value; behind the names of node and body, with `/`, for one in a body.
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
    /// use recurve::Session;
    /// use recurve::settings::Fusion;
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
        Ok(self.graph(shapes)?.nodes)
    }

    /// The nodes with the edges between them, as [`Session::nodes`].
    ///
    /// # Example
    /// ```
    /// # const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
    /// use recurve::Session;
    /// use recurve::model::Source;
    /// let session = Session::builder().load_bytes(MODEL)?;
    /// let graph = session.graph([("question", [6, 1].as_slice())])?;
    /// let encoder = graph.nodes.iter().find(|node| node.op == "LSTM");
    /// let encoder = encoder.expect("the example has an LSTM");
    /// assert!(encoder.sources.contains(&Source::Constant), "its weights");
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn graph<'a, S: AsRef<[usize]>>(
        &self,
        shapes: impl IntoIterator<Item = (&'a str, S)>,
    ) -> Result<GraphInfo, Error> {
        let given = self.given(shapes)?;
        let graph = self.runner.graph();
        let facts = crate::graph::infer(graph, &given).map_err(NodeError::at_load)?;
        let interrupt = RunOptions::default().interrupt();
        let context = self.context(&interrupt);
        let prepared = Prepared {
            joins: self.fusion.joined.iter().map(|joined| (&*joined.name, joined)).collect(),
            settle: &|graph, inputs| settled_graph(graph, inputs, context).ok(),
        };
        Ok(graph_info(graph, &facts, &prepared, ""))
    }

    /// The outputs for inputs of these shapes, so that places for them can be made, for [`Session::run_into`] or
    /// [`Session::io_binding`]. Extents that depend on data are no numbers. Inputs that are not named have what the model
    /// declares.
    ///
    /// # Example
    /// ```
    /// # const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
    /// use recurve::Session;
    /// let session = Session::builder().load_bytes(MODEL)?;
    /// let state = [1, 2, 128];
    /// let outputs = session.outputs_for([("question", &[6, 2][..]), ("h", &state), ("c", &state)])?;
    /// let answer = outputs[0].fact.tensor().and_then(|answer| answer.known_shape());
    /// assert_eq!((&*outputs[0].name, answer.as_deref()), ("answer", Some(&[5, 2][..])));
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn outputs_for<'a, S: AsRef<[usize]>>(
        &self,
        shapes: impl IntoIterator<Item = (&'a str, S)>,
    ) -> Result<Vec<ValueSpec>, Error> {
        let graph = self.runner.graph();
        let facts = crate::graph::infer(graph, &self.given(shapes)?).map_err(NodeError::at_load)?;
        let own = |(spec, id): (&ValueSpec, &ValueId)| {
            let fact = facts[id.index()].clone().unwrap_or_else(|| spec.fact.clone());
            ValueSpec { name: spec.name.clone(), fact }
        };
        Ok(self.outputs.iter().zip(&graph.outputs).map(own).collect())
    }

    /// What is known of the inputs when some have these shapes.
    fn given<'a, S: AsRef<[usize]>>(
        &self,
        shapes: impl IntoIterator<Item = (&'a str, S)>,
    ) -> Result<Vec<Fact>, Error> {
        let mut given: Vec<Fact> = self.inputs.iter().map(|spec| spec.fact.clone()).collect();
        for (name, shape) in shapes {
            let at = self.inputs.iter().position(|spec| &*spec.name == name);
            let at = at.ok_or_else(|| Error::from(unknown("input", name, &self.inputs)))?;
            let shape = shape.as_ref();
            let Fact::Tensor(fact) = &mut given[at] else {
                return Err(refuse("input", name, "is no tensor and has no shape"));
            };
            let fits = fact.shape.as_ref().is_none_or(|declared| {
                declared.len() == shape.len()
                    && declared.iter().zip(shape).all(|(d, &n)| d.known().is_none_or(|k| k == n))
            });
            if !fits {
                let expected = fact.shape.as_deref().unwrap_or_default();
                let problem = format!("cannot have shape {shape:?}; {expected:?} is expected");
                return Err(refuse("input", name, problem));
            }
            fact.shape = Some(shape.iter().map(|&n| Dim::Known(n)).collect());
        }
        Ok(given)
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

    /// How much the model holds in constants: what was left of them when it was simplified.
    pub fn parameters(&self) -> Parameters {
        self.parameters
    }
}

/// How the graphs of a session became what they are.
struct Prepared<'a> {
    /// By their paths, the nodes that took the place of several.
    joins: HashMap<&'a str, &'a Joined>,
    /// What a graph that waits for shapes is for inputs of some facts.
    settle: &'a dyn Fn(&Graph, &[Fact]) -> Option<Graph>,
}

/// Bytes that the nodes read more than the one that took their place, of which these inputs are known.
fn read_again(joined: Option<&Joined>, given: &[Option<&Fact>]) -> f64 {
    let Some(Joined { members, shared: Some(shared), .. }) = joined else { return 0.0 };
    let fact = given.get(*shared).copied().flatten().and_then(Fact::tensor);
    let bytes = fact.and_then(crate::graph::TensorFact::bytes).unwrap_or(0);
    members.len().saturating_sub(1) as f64 * bytes as f64
}

/// `path` is that of the body that the graph is, with `/` behind it.
fn graph_info(graph: &Graph, facts: &[Option<Fact>], prepared: &Prepared<'_>, path: &str) -> GraphInfo {
    let mut sources = vec![Source::Absent; graph.values.len()];
    for (at, id) in graph.inputs.iter().enumerate() {
        sources[id.index()] = Source::Input(at);
    }
    for (at, node) in graph.nodes.iter().enumerate() {
        for (output, id) in node.outputs.iter().enumerate() {
            if let Some(id) = id {
                sources[id.index()] = Source::Node { node: at, output };
            }
        }
    }
    let source =
        |id: ValueId| if graph.constant(id).is_some() { Source::Constant } else { sources[id.index()] };
    let spec = |id: ValueId| {
        Some(ValueSpec { name: graph.value(id).name.clone(), fact: facts[id.index()].clone()? })
    };
    let standing = crate::exec::standing(graph, facts);
    let info = |(at, node): (usize, &Node)| {
        let specs = |ids: &[Option<ValueId>]| ids.iter().map(|id| spec((*id)?)).collect();
        let read: Vec<Option<&Fact>> =
            node.inputs.iter().map(|id| id.and_then(|id| facts[id.index()].as_ref())).collect();
        let cost = if standing[at] { Some(Cost::default()) } else { node_cost(node, &read) };
        let joined = |node: &Node| prepared.joins.get(format!("{path}{}", node.name).as_str()).copied();
        let more = |cost: Cost, bytes: f64| Cost { bytes: cost.bytes + bytes, ..cost };
        let unfused_cost = match node.op.as_any().downcast_ref::<Fused>() {
            Some(fused) => {
                let nodes = &fused.members().nodes;
                let inputs = fused.member_inputs(Facts(&read)).unwrap_or_default();
                let again = nodes.iter().zip(&inputs).map(|(node, given)| {
                    read_again(joined(node), &given.iter().map(Option::as_ref).collect::<Vec<_>>())
                });
                let again = again.sum();
                fused.unfused_cost(Facts(&read)).map(|cost| more(cost, again))
            }
            None => joined(node).and_then(|own| Some(more(cost?, read_again(Some(own), &read)))),
        };
        NodeInfo {
            name: node.name.clone(),
            op: node.def.full_name(),
            inputs: specs(&node.inputs),
            outputs: specs(&node.outputs),
            sources: node.inputs.iter().map(|id| id.map_or(Source::Absent, source)).collect(),
            cost,
            runs: !standing[at],
            bodies: body_infos(node, &read, prepared, path),
            members: members_of(node, joined),
            unfused_cost,
        }
    };
    GraphInfo {
        name: graph.name.clone(),
        inputs: graph.inputs.iter().map(|&id| spec(id)).collect(),
        nodes: graph.nodes.iter().enumerate().map(info).collect(),
        outputs: graph.outputs.iter().map(|&id| source(id)).collect(),
    }
}

fn body_infos(node: &Node, read: &[Option<&Fact>], prepared: &Prepared<'_>, path: &str) -> Vec<GraphInfo> {
    let bodies = node.op.bodies();
    if bodies.is_empty() {
        return Vec::new();
    }
    let given = node.op.body_inputs(Facts(read)).unwrap_or_default();
    let info = |(at, body): (usize, &Body)| {
        let inputs = given.get(at).filter(|_| body.graph.waits_for_shapes);
        let settled = inputs.and_then(|inputs| (prepared.settle)(&body.graph, inputs));
        let graph = settled.as_ref().unwrap_or(&body.graph);
        let known = given.get(at).and_then(|inputs| crate::graph::infer(graph, inputs).ok());
        // What is known without its inputs: constants and what follows from them.
        let facts = known.unwrap_or_else(|| crate::graph::known_facts(graph));
        graph_info(graph, &facts, prepared, &format!("{path}{}/{}/", node.name, body.graph.name))
    };
    bodies.into_iter().enumerate().map(info).collect()
}

impl Parameters {
    /// Constants that `graph` and its bodies read, each counted once: a body that takes one from outside shares
    /// its memory.
    pub(super) fn of(graph: &Graph) -> Self {
        let mut sum = Self::default();
        sum.add(graph, &mut HashSet::new());
        sum
    }

    fn add(&mut self, graph: &Graph, counted: &mut HashSet<(*const u8, usize)>) {
        let mut visited = vec![false; graph.values.len()];
        let read = graph.nodes.iter().flat_map(|node| node.inputs.iter().flatten()).chain(&graph.outputs);
        for id in read {
            if std::mem::replace(&mut visited[id.index()], true) {
                continue;
            }
            let Some(tensor) = graph.constant(*id) else { continue };
            // Nothing tells tensors without bytes apart; each counts.
            let bytes = tensor.bytes();
            if bytes.is_empty() || counted.insert((bytes.as_ptr(), bytes.len())) {
                self.tensors += 1;
                self.elements += tensor.len();
                self.bytes += bytes.len();
            }
        }
        for node in &graph.nodes {
            for body in node.op.bodies() {
                self.add(&body.graph, counted);
            }
        }
    }
}
