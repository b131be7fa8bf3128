//! A prepared graph as a drawing: one panel for the model's graph and one for each body, nodes with the members
//! that were fused into them, edges with the bytes that they carry. [`dot`] writes it for Graphviz, [`svg`] lays it
//! out itself; equal graphs give equal files.

mod dot;
mod layers;
mod svg;

pub(crate) use dot::dot;
pub(crate) use svg::svg;

use crate::quantity;
use recurve::model::{Fact, GraphInfo, NodeInfo, Source, ValueSpec};

/// Members on one line of a node.
const MEMBERS_PER_LINE: usize = 4;

/// What is drawn.
#[derive(Debug, Default)]
pub(crate) struct Drawing {
    /// The model's graph, then bodies, each behind the graph that it stands in.
    panels: Vec<Panel>,
}

/// One graph.
#[derive(Debug)]
struct Panel {
    /// Path of the body; empty for the model's graph.
    title: String,
    vertices: Vec<Vertex>,
    /// From one vertex to a later one.
    edges: Vec<Edge>,
}

/// A box.
#[derive(Debug)]
struct Vertex {
    role: Role,
    /// The operator and what it is made of, or the name of an input or output.
    lines: Vec<String>,
    /// Its name in the model.
    name: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Input,
    Node,
    Fused,
    Output,
}

#[derive(Debug)]
struct Edge {
    from: usize,
    to: usize,
    /// Bytes of the value, as far as its shape is known.
    label: String,
}

impl Drawing {
    /// Draws `graph` and its bodies.
    pub(crate) fn of(graph: &GraphInfo) -> Self {
        let mut drawing = Self::default();
        drawing.add(graph, "");
        drawing
    }

    fn add(&mut self, graph: &GraphInfo, path: &str) {
        let mut vertices: Vec<Vertex> = Vec::new();
        let mut edges = Vec::new();
        // Inputs that nobody reads are drawn as well; they say that nobody does.
        for input in &graph.inputs {
            let name = input.as_ref().map_or_else(|| "?".to_owned(), |spec| spec.name.to_string());
            vertices.push(Vertex { role: Role::Input, lines: vec![name.clone()], name });
        }
        let first = vertices.len();
        for node in &graph.nodes {
            let to = vertices.len();
            let sources = node.sources.iter().zip(&node.inputs);
            edges.extend(sources.filter_map(|(source, value)| edge(*source, first, to, value.as_ref())));
            vertices.push(vertex(node));
        }
        for &source in &graph.outputs {
            let (to, value) = (vertices.len(), value_of(graph, source));
            let name = value.map_or_else(|| "?".to_owned(), |spec| spec.name.to_string());
            edges.extend(edge(source, first, to, value));
            vertices.push(Vertex { role: Role::Output, lines: vec![name.clone()], name });
        }
        self.panels.push(Panel { title: path.to_owned(), vertices, edges });
        for node in &graph.nodes {
            for body in &node.bodies {
                let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
                self.add(body, &format!("{prefix}{}/{}", node.name, body.name));
            }
        }
    }
}

fn vertex(node: &NodeInfo) -> Vertex {
    let mut lines = vec![node.op.clone()];
    let members: Vec<&str> = node.members.iter().map(|m| m.op.as_str()).collect();
    let counted = counted(&members);
    lines.extend(counted.chunks(MEMBERS_PER_LINE).map(|part| part.join(", ")));
    let role = if members.is_empty() { Role::Node } else { Role::Fused };
    // A drawing has to tell which node a box is without being pointed at.
    lines.push(shortened(&node.name));
    Vertex { role, lines, name: node.name.to_string() }
}

/// `Split ×6`, `Add`: runs of one operator are counted.
pub(crate) fn counted(operators: &[&str]) -> Vec<String> {
    let run = |of: &[&str]| match of {
        [one] => (*one).to_owned(),
        of => format!("{} ×{}", of[0], of.len()),
    };
    operators.chunk_by(|a, b| a == b).map(run).collect()
}

/// The end of a long name, which tells more than its beginning.
fn shortened(name: &str) -> String {
    const MOST: usize = 28;
    let letters: Vec<char> = name.chars().collect();
    match letters.len().checked_sub(MOST) {
        None | Some(0) => name.to_owned(),
        Some(more) => format!("…{}", letters[more + 1..].iter().collect::<String>()),
    }
}

/// The edge along which `value` comes to vertex `to`; vertices of nodes begin at `first`. Constants are not drawn.
fn edge(source: Source, first: usize, to: usize, value: Option<&ValueSpec>) -> Option<Edge> {
    let from = match source {
        Source::Input(at) => at,
        Source::Node { node, .. } => first + node,
        _ => return None,
    };
    Some(Edge { from, to, label: value.map_or_else(|| "?".to_owned(), bytes) })
}

fn value_of(graph: &GraphInfo, source: Source) -> Option<&ValueSpec> {
    match source {
        Source::Input(at) => graph.inputs.get(at)?.as_ref(),
        Source::Node { node, output } => graph.nodes.get(node)?.outputs.get(output)?.as_ref(),
        _ => None,
    }
}

/// `1.5 KiB`; `?` where an extent is not known.
fn bytes(spec: &ValueSpec) -> String {
    let known = match &spec.fact {
        Fact::Tensor(tensor) => tensor.known_shape().and_then(|shape| {
            tensor.dtype.bytes(shape.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent))?)
        }),
        _ => None,
    };
    known.map_or_else(|| "?".to_owned(), |bytes| quantity::bytes(bytes as f64))
}

/// Text of a model as a drawing can hold it: without control characters, which neither format allows.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_one_operator_are_counted() {
        assert_eq!(counted(&["Split", "Split", "Add", "Split"]), ["Split ×2", "Add", "Split"]);
        assert!(counted(&[]).is_empty());
    }

    #[test]
    fn the_end_of_a_long_name_is_kept() {
        assert_eq!(shortened("encoder/lstm"), "encoder/lstm");
        let long = shortened("/model/encoder/layers.11/attention/MatMul");
        assert_eq!((long.chars().count(), long.ends_with("attention/MatMul")), (28, true), "{long}");
    }
}
