//! Fact inference over a whole graph.

use super::dim::Dim;
use super::fact::{Content, Fact, Facts, TensorFact};
use super::model::{Graph, NodeError, ValueId};
use crate::error::OpError;
use crate::ops::Op;

/// Contents of more elements than this are not kept: shapes and indices are short, and a hostile graph doubles
/// what it knows at every node.
const LONGEST_CONTENT: usize = 1 << 12;

/// What `op` infers, with what no memory holds refused and what is too long to be kept dropped.
pub(crate) fn infer_node(op: &dyn Op, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
    let mut made = op.infer(inputs)?;
    for fact in &mut made {
        let Fact::Tensor(fact) = fact else { continue };
        let long = match &fact.content {
            Content::Dims(dims) => dims.len() > LONGEST_CONTENT,
            Content::Integers(integers) => integers.len() > LONGEST_CONTENT,
            Content::Unknown | Content::Constant(_) => false,
        };
        if long {
            fact.content = Content::Unknown;
        }
        if let Some(shape) = fact.known_shape() {
            let bytes = crate::tensor::element_count(&shape).and_then(|n| fact.dtype.bytes(n));
            if bytes.is_none() {
                return Err(OpError::shape(format!("no memory holds {} {shape:?}", fact.dtype)));
            }
        }
    }
    Ok(made)
}

/// Facts of all values from facts of the inputs. A value that nothing writes has none.
pub(crate) fn infer(graph: &Graph, inputs: &[Fact]) -> Result<Vec<Option<Fact>>, NodeError> {
    infer_with(graph, inputs, &mut |_| ())
}

/// The same where every extent that would be unknown has a name of its own, so that what has the same extent, whatever
/// it is, is known to. `names` counts them; names of different counts differ.
pub(crate) fn infer_named(
    graph: &Graph,
    inputs: &[Fact],
    names: &mut usize,
) -> Result<Vec<Option<Fact>>, NodeError> {
    infer_with(graph, inputs, &mut |fact| {
        let Fact::Tensor(fact) = fact else { return };
        for extent in fact.shape.iter_mut().flatten().filter(|d| **d == Dim::Unknown) {
            // No model's dimension is called so.
            *extent = Dim::symbol(&format!("\u{0}{names}"));
            *names += 1;
        }
    })
}

fn infer_with(
    graph: &Graph,
    inputs: &[Fact],
    each: &mut dyn FnMut(&mut Fact),
) -> Result<Vec<Option<Fact>>, NodeError> {
    let mut facts: Vec<Option<Fact>> =
        graph.values.iter().map(|v| v.constant.clone().map(|t| TensorFact::constant(t).into())).collect();
    for (&id, fact) in graph.inputs.iter().zip(inputs) {
        each(facts[id.index()].insert(fact.clone()));
    }
    for node in &graph.nodes {
        let given: Vec<Option<&Fact>> =
            node.inputs.iter().map(|id| id.and_then(|id| facts[id.index()].as_ref())).collect();
        let made = infer_node(&*node.op, Facts(&given)).map_err(|e| NodeError::new(node, e))?;
        if made.len() < node.outputs.len() {
            let problem = format!("{} outputs are named, {} are made", node.outputs.len(), made.len());
            return Err(NodeError::new(node, OpError::shape(problem)));
        }
        for (id, fact) in node.outputs.iter().zip(made) {
            if let Some(id) = id {
                each(facts[id.index()].insert(fact));
            }
        }
    }
    Ok(facts)
}

impl Graph {
    /// Facts of the outputs from facts of the inputs: what an operator asks of its body.
    pub(crate) fn infer_outputs(&self, inputs: &[Fact]) -> Result<Vec<Fact>, OpError> {
        let facts = infer(self, inputs).map_err(NodeError::in_body)?;
        self.outputs
            .iter()
            .map(|id: &ValueId| {
                facts[id.index()].clone().ok_or_else(|| {
                    OpError::shape(format!("body output `{}` is never written", self.value(*id).name))
                })
            })
            .collect()
    }
}

/// What is known of a value that is `a` or `b`: equal extents stay, others are unknown. `None` where the two
/// are of different kinds or dtypes.
pub(crate) fn merge(a: &Fact, b: &Fact) -> Option<Fact> {
    match (a, b) {
        (Fact::Tensor(a), Fact::Tensor(b)) => {
            if a.dtype != b.dtype {
                return None;
            }
            let shape = match (&a.shape, &b.shape) {
                (Some(x), Some(y)) if x.len() == y.len() => Some(
                    x.iter().zip(y).map(|(x, y)| if x == y { x.clone() } else { Dim::Unknown }).collect(),
                ),
                _ => None,
            };
            Some(TensorFact { shape, ..TensorFact::unranked(a.dtype) }.into())
        }
        (Fact::Sequence(a), Fact::Sequence(b)) => Some(Fact::Sequence(Box::new(merge(a, b)?))),
        (Fact::Optional(a), Fact::Optional(b)) => Some(Fact::Optional(Box::new(merge(a, b)?))),
        _ => None,
    }
}
