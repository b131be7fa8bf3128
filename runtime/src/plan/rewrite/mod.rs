//! Graphs that do the same as a model's and have more in them that can run side by side.
//!
//! The scheduler is offered all of them, and a plan takes the one with which it is predicted to end first, the model as it
//! is where none gains anything. Directions and pieces keep every bit of every output; halves and columns are products of
//! other shapes, whose kernels may take sums in another order ([`Rewrite::keeps_bits`]).

mod columns;
mod directions;
mod division;
mod halves;
mod pieces;
#[cfg(test)]
mod tests;

pub(crate) use directions::apart as directions_apart;

use crate::graph::{Fact, Graph, Node, ValueId, distinct_names};
use crate::memory::Budget;
use crate::ops::attributes::{Attribute, NodeSpec};
use crate::ops::find;
use std::cell::Cell;
use std::fmt;

/// Numbers of pieces of a sequence that are tried.
const PIECES: [usize; 3] = [2, 4, 8];
/// Most parts of a contraction.
const MOST_PARTS: usize = 8;
/// Nodes beyond which a rewritten graph is not tried.
const MOST_NODES: usize = 4096;

/// A way to rewrite a graph.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rewrite {
    /// Recurrences over sequences in as many pieces, with the directions apart first or as they are.
    Pieces { apart: bool, count: usize },
    /// The directions of recurrences apart.
    Directions,
    /// The batch in two halves.
    Halves,
    /// Large contractions in as many parts by columns.
    Columns(usize),
}

impl Rewrite {
    /// All that are tried for so many threads.
    pub(crate) fn all(threads: usize) -> impl Iterator<Item = Self> {
        let pieces =
            PIECES.into_iter().flat_map(|count| [false, true].map(|apart| Self::Pieces { apart, count }));
        pieces.chain([Self::Directions, Self::Halves, Self::Columns(threads.clamp(2, MOST_PARTS))])
    }

    /// Whether the rewritten graph is another for other shapes of the inputs.
    pub(crate) fn depends_on_shapes(self) -> bool {
        matches!(self, Self::Pieces { .. } | Self::Halves)
    }

    /// Whether every sum is taken in the order in which it was.
    #[cfg(test)]
    pub(crate) fn keeps_bits(self) -> bool {
        matches!(self, Self::Pieces { .. } | Self::Directions)
    }

    /// The rewritten graph for inputs of these facts; `None` where there is nothing to be rewritten. `apart` is what
    /// [`directions_apart`] gives; copies of constants are charged to `budget`.
    pub(crate) fn apply(
        self,
        graph: &Graph,
        apart: Option<&Graph>,
        inputs: &[Fact],
        budget: &Budget,
    ) -> Option<Graph> {
        let made = match self {
            Self::Pieces { apart: false, count } => pieces::pieces(graph, inputs, count),
            Self::Pieces { apart: true, count } => pieces::pieces(apart?, inputs, count),
            Self::Directions => apart.cloned(),
            Self::Halves => halves::halves(graph, inputs),
            Self::Columns(count) => columns::columns(graph, count, budget),
        };
        let mut made = made.filter(|graph| graph.nodes.len() <= MOST_NODES)?;
        distinct_names(&mut made);
        Some(made)
    }
}

/// The name by which plans know it.
impl fmt::Display for Rewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pieces { apart: false, count } => write!(f, "pieces {count}"),
            Self::Pieces { apart: true, count } => write!(f, "directions, pieces {count}"),
            Self::Directions => f.write_str("directions"),
            Self::Halves => f.write_str("batch halves"),
            Self::Columns(count) => write!(f, "columns {count}"),
        }
    }
}

/// `x[start..end]` along `axis`.
fn slice(
    graph: &mut Graph,
    nodes: &mut Vec<Node>,
    x: ValueId,
    axis: usize,
    [start, end]: [usize; 2],
) -> Option<ValueId> {
    let ints = |value: usize| Attribute::Ints(vec![value as i64]);
    let attributes = vec![("axes", ints(axis)), ("starts", ints(start)), ("ends", ints(end))];
    // The last version that has its bounds as attributes.
    one(graph, nodes, "Slice", 9, attributes, &[x])
}

/// `parts` one behind the other along `axis`, written to `to`.
fn concat(
    graph: &mut Graph,
    nodes: &mut Vec<Node>,
    parts: &[ValueId],
    axis: usize,
    to: ValueId,
) -> Option<()> {
    let axis = vec![("axis", Attribute::Int(axis as i64))];
    one(graph, nodes, "Concat", 13, axis, parts)?;
    nodes.last_mut()?.outputs = vec![Some(to)];
    Some(())
}

fn one(
    graph: &mut Graph,
    nodes: &mut Vec<Node>,
    op: &str,
    opset: i64,
    attributes: Vec<(&str, Attribute)>,
    inputs: &[ValueId],
) -> Option<ValueId> {
    let def = find("", op, opset)?;
    let spec = NodeSpec {
        attributes: attributes.into_iter().map(|(n, a)| (n.into(), a, Cell::new(false))).collect(),
        opset,
        inputs: vec![true; inputs.len()],
        outputs: vec![true],
    };
    let parsed = (def.parse)(&spec).ok()?;
    let name = format!("{}/{op}", graph.value(*inputs.first()?).name);
    let output = graph.add_value(name.clone());
    let inputs = inputs.iter().copied().map(Some).collect();
    nodes.push(Node {
        name: name.into(),
        def: def.op_name(),
        op: parsed,
        inputs,
        outputs: vec![Some(output)],
    });
    Some(output)
}
