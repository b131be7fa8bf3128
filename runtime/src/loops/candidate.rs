//! Nodes as grouping sees them: their nests, and what their kernels can do beside them.

use super::nest::{Nest, Opaque};
use super::parts::part;
use crate::dtype::DType;
use crate::graph::fact::{Fact, Facts, normal_axis};
use crate::graph::{Dim, Graph, Node, ValueId};
use crate::ops::Making;

/// A node as grouping sees it.
#[derive(Debug)]
pub(crate) struct Candidate {
    /// Its nest, or why it has none.
    pub(crate) nest: Result<Nest, Opaque>,
    /// How many leading axes of its result count rows, when its kernel applies a program to finished rows.
    pub(crate) rows: Option<usize>,
    /// How many of its first inputs its kernel reads through any strides.
    pub(crate) strided: usize,
    /// How its kernel has its first operand made as it reads it.
    pub(crate) making: Making,
    /// The axis along which it puts its operands one behind the other.
    pub(crate) joins: Option<usize>,
    /// Whether its kernel writes rows wherever strides say.
    pub(crate) writes_strided: bool,
    /// Whether values of a program behind its rows may be stored beside its result.
    pub(crate) stores_beside: bool,
    /// Values that it reads.
    pub(crate) inputs: Vec<Option<usize>>,
    /// Values that it makes.
    pub(crate) outputs: Vec<usize>,
    /// Extents and bytes per element of its first output.
    pub(crate) space: Option<(Vec<Dim>, usize)>,
}

/// What a node can be in a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// Every element by itself.
    Map,
    /// A reduction or normalisation.
    Fold,
    /// Its kernel takes an epilogue.
    Contraction,
    /// Nothing of these.
    Other,
}

impl Candidate {
    /// What it can be in a group.
    pub(super) fn role(&self) -> Role {
        match &self.nest {
            Ok(nest) if nest.as_map().is_some() => Role::Map,
            _ if self.outputs.len() != 1 => Role::Other,
            // What follows finished rows needs to know nothing of the nest.
            Ok(_) | Err(Opaque::Extents) if self.rows.is_some() => Role::Contraction,
            Ok(nest) if nest.is_reduction() => Role::Fold,
            _ => Role::Other,
        }
    }

    /// Whether it computes nothing.
    pub(super) fn is_layout(&self) -> bool {
        self.nest.as_ref().is_ok_and(Nest::is_layout)
    }
}

/// The nodes of `graph` as grouping sees them.
pub(super) fn candidates(graph: &Graph, facts: &[Option<Fact>]) -> Vec<Candidate> {
    graph.nodes.iter().map(|node| candidate(node, facts)).collect()
}

/// The same where groups are what the kernels of a GPU take in: a product or convolution with maps behind its sums, of
/// which one value is stored, where it lies.
pub(super) fn device_candidates(graph: &Graph, facts: &[Option<Fact>]) -> Vec<Candidate> {
    let of = |node: &Node| {
        let sums = node.op.product().is_some() || node.op.weight_channel_axis().is_some();
        let own = candidate(node, facts);
        Candidate {
            rows: own.rows.filter(|_| sums),
            making: Making::Nothing,
            writes_strided: false,
            stores_beside: false,
            ..own
        }
    };
    graph.nodes.iter().map(of).collect()
}

/// One node as grouping sees it.
pub(super) fn candidate(node: &Node, facts: &[Option<Fact>]) -> Candidate {
    let given: Vec<Option<&Fact>> =
        node.inputs.iter().map(|id| id.and_then(|id| facts[id.index()].as_ref())).collect();
    // A nest makes the one output that is wanted; a node with others is left as it is.
    let mut wanted = node.outputs.iter().enumerate().filter_map(|(at, id)| Some((at, (*id)?)));
    let only = wanted.next().filter(|_| wanted.next().is_none());
    let made: Option<Vec<Fact>> = only.and_then(|(_, id)| Some(vec![facts[id.index()].clone()?]));
    let nest = match (&made, only) {
        (Some(made), Some(_)) if node.outputs.len() == 1 && node.op.is_deterministic() => {
            let nest = node.op.nest(Facts(&given), made);
            nest.and_then(|n| if n.sequential.is_none() { Ok(n) } else { Err(Opaque::Sequential) })
        }
        (Some(_), Some((at, _))) => match node.op.infer(Facts(&given)) {
            Ok(outputs) => part(&*node.op, Facts(&given), &outputs, at),
            Err(_) => Err(Opaque::Operator),
        },
        _ => Err(Opaque::Operator),
    };
    let nest = nest.map_err(|why| if why == Opaque::Operator { opaque(node, made.as_deref()) } else { why });
    let space = made.as_ref().and_then(|made| {
        let fact = made.first()?.tensor()?;
        Some((fact.shape.clone()?, fact.dtype.bits() / 8))
    });
    let rows = node.op.epilogue_rows(Facts(&given)).filter(|_| {
        let absent = node.inputs.iter().position(Option::is_none).unwrap_or(node.inputs.len());
        keeps_type(made.as_deref()) && node.inputs[absent..].iter().all(Option::is_none)
    });
    Candidate {
        nest,
        rows,
        strided: node.op.strided_operands(),
        making: node.op.making(Facts(&given)),
        joins: joined_axis(node, made.as_deref()),
        writes_strided: node.op.writes_strided(),
        stores_beside: true,
        inputs: node.inputs.iter().map(|id| id.map(ValueId::index)).collect(),
        outputs: node.outputs.iter().flatten().map(|id| id.index()).collect(),
        space,
    }
}

/// What keeps `node` from being a nest, as far as its kind tells: not what its kernel is, but what it makes of it.
fn opaque(node: &Node, made: Option<&[Fact]>) -> Opaque {
    let known = |fact: &Fact| {
        let shape = fact.tensor().and_then(|tensor| tensor.shape.as_deref());
        shape.is_some_and(|shape| !shape.contains(&Dim::Unknown))
    };
    match node.def.name {
        _ if !node.op.bodies().is_empty() => Opaque::Bodies,
        "LSTM" | "GRU" | "RNN" | "DynamicQuantizeLSTM" => Opaque::Sequential,
        _ if made.is_some_and(|made| !made.iter().all(known)) => Opaque::Data,
        _ => Opaque::Operator,
    }
}

/// The axis of the result along which `node` puts its operands one behind the other.
fn joined_axis(node: &Node, made: Option<&[Fact]>) -> Option<usize> {
    let rank = made?.first()?.tensor()?.rank()?;
    normal_axis(node.op.joined_axis()?, rank).ok()
}

/// Whether results are computed in the type that they are stored in, so that an epilogue sees what would be stored.
fn keeps_type(made: Option<&[Fact]>) -> bool {
    let dtype = made.and_then(|m| m.first()?.tensor()).map(|t| t.dtype);
    matches!(dtype, Some(DType::F32 | DType::F64))
}
