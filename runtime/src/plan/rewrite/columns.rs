//! Large contractions become several, each of which makes some of the columns of the result: so that workers, or a worker
//! and a device, can share one that stands alone.
//!
//! Holds for products and convolutions whose weights are constants, with what fusion put behind them, where they can be cut
//! along the weights' columns ([`super::division`]) whatever the symbols of the model's inputs stand for: the rewritten
//! graph is one for all shapes. Operands that have the columns, a bias or what an epilogue adds, are cut with them; the
//! first operand is read whole by every part, or nothing would be gained. Weights whose columns are not their first axis
//! are copied, within the memory limit.

use super::division::{Division, division, wanted};
use super::{concat, slice};
use crate::graph::{Dim, Fact, Graph, Node, ValueId, infer};
use crate::loops::Fused;
use crate::memory::{Budget, Buffer};
use crate::tensor::Tensor;

/// Elements of weights below which a contraction is not large.
const LARGE: usize = 1 << 16;
/// Columns that stay together: a line of the caches.
const LINE: usize = 16;

/// A node and how it is cut.
struct Chosen {
    division: Division,
    /// Columns of each part.
    parts: Vec<usize>,
}

/// The graph with every large contraction in `count` parts; `None` where there is none, or no memory for its weights.
pub(super) fn columns(graph: &Graph, count: usize, budget: &Budget) -> Option<Graph> {
    let declared: Vec<Fact> =
        graph.inputs.iter().map(|&id| graph.value(id).declared.clone()).collect::<Option<_>>()?;
    let facts = infer(graph, &declared).ok()?;
    let mut made = graph.clone();
    made.nodes.clear();
    let mut found = false;
    for node in &graph.nodes {
        let chosen = choose(graph, node, &facts, count);
        match chosen {
            Some(chosen) => {
                found = true;
                cut(&mut made, node, &chosen, budget)?;
            }
            None => made.nodes.push(node.clone()),
        }
    }
    found.then_some(made)
}

/// Whether the node is, or has among its members, a product or a convolution.
fn contracts(node: &Node) -> bool {
    let own = |node: &Node| node.op.product().is_some() || node.op.weight_channel_axis().is_some();
    own(node) || node.op.as_any().downcast_ref::<Fused>().is_some_and(|f| f.members().nodes.iter().any(own))
}

fn choose(graph: &Graph, node: &Node, facts: &[Option<Fact>], count: usize) -> Option<Chosen> {
    if !contracts(node) {
        return None;
    }
    let fact = |id: &Option<ValueId>| id.and_then(|id| facts[id.index()].as_ref());
    let given: Vec<Option<&Fact>> = node.inputs.iter().map(fact).collect();
    let constant = |at: usize| graph.constant(*node.inputs.get(at)?.as_ref()?);
    let dynamic = (0..node.inputs.len()).find(|&at| node.inputs[at].is_some() && constant(at).is_none())?;
    for at in 0..node.inputs.len() {
        let Some(weights) = constant(at).filter(|w| w.shape().len() >= 2 && w.len() >= LARGE) else {
            continue;
        };
        for axis in (0..weights.shape().len()).rev() {
            let extent = weights.shape()[axis];
            let each = extent / count / LINE * LINE;
            if each == 0 {
                continue;
            }
            let mut parts = vec![each; count];
            parts[count - 1] = extent - each * (count - 1);
            let Some(division) = division(&*node.op, (&given, wanted(node)), (at, axis), &parts) else {
                continue;
            };
            if division.inputs[dynamic].is_none() && fits(graph, node, &division, extent, facts) {
                return Some(Chosen { division, parts });
            }
        }
    }
    None
}

/// Whether everything that is cut has `extent` elements there.
fn fits(graph: &Graph, node: &Node, of: &Division, extent: usize, facts: &[Option<Fact>]) -> bool {
    node.inputs.iter().zip(&of.inputs).all(|(id, axis)| match (id, axis) {
        (Some(id), Some(axis)) => match graph.constant(*id) {
            Some(constant) => {
                constant.shape().get(*axis) == Some(&extent) && constant.dtype().bits().is_multiple_of(8)
            }
            None => {
                let shape = facts[id.index()].as_ref().and_then(|f| f.tensor()?.shape.as_ref()?.get(*axis));
                shape == Some(&Dim::Known(extent))
            }
        },
        _ => true,
    })
}

fn cut(graph: &mut Graph, node: &Node, chosen: &Chosen, budget: &Budget) -> Option<()> {
    let Chosen { division, parts } = chosen;
    let mut nodes = Vec::new();
    let mut made: Vec<Vec<ValueId>> = vec![Vec::new(); node.outputs.len()];
    let mut start = 0;
    for &part in parts {
        let name: std::sync::Arc<str> = format!("{}/columns {start}", node.name).into();
        let mut inputs = node.inputs.clone();
        for (at, axis) in division.inputs.iter().enumerate() {
            let (Some(id), Some(axis)) = (node.inputs[at], *axis) else { continue };
            inputs[at] = Some(match graph.constant(id) {
                Some(constant) => {
                    let own = columns_of(constant, axis, [start, part], budget)?;
                    let name = format!("{}[{start}]", graph.value(id).name);
                    graph.add_constant(name, own)
                }
                None => slice(graph, &mut nodes, id, axis, [start, start + part])?,
            });
        }
        let outputs = node.outputs.iter().zip(&mut made).map(|(id, made)| {
            id.map(|_| {
                let own = graph.add_value(name.clone());
                made.push(own);
                own
            })
        });
        let outputs = outputs.collect();
        nodes.push(Node { name, def: node.def, op: node.op.clone(), inputs, outputs });
        start += part;
    }
    for ((id, parts), axis) in node.outputs.iter().zip(&made).zip(&division.outputs) {
        if let Some(id) = id {
            concat(graph, &mut nodes, parts, *axis, *id)?;
        }
    }
    graph.nodes.append(&mut nodes);
    Some(())
}

/// `count` slices of `axis` from `start` on: over the same data where they lie in one piece.
pub(super) fn columns_of(
    of: &Tensor,
    axis: usize,
    [start, count]: [usize; 2],
    budget: &Budget,
) -> Option<Tensor> {
    let shape = of.shape();
    if axis == 0 {
        return of.part_of_first_axis(start, count);
    }
    let inner = shape[axis + 1..].iter().product::<usize>() * (of.dtype().bits() / 8);
    let row = shape[axis] * inner;
    let mut part = shape.to_vec();
    part[axis] = count;
    let outer: usize = shape[..axis].iter().product();
    let mut buffer = Buffer::zeroed(outer.checked_mul(count)?.checked_mul(inner)?, budget).ok()?;
    let rows = of.bytes().chunks_exact(row.max(1));
    for (to, from) in buffer.bytes_mut().chunks_exact_mut((count * inner).max(1)).zip(rows) {
        to.copy_from_slice(&from[start * inner..(start + count) * inner]);
    }
    Tensor::from_buffer(of.dtype(), &part, buffer).ok()
}
