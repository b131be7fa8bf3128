//! Simplification of a graph before it becomes a program. Each rewrite is a file that states when it holds; all
//! of them keep every output's value, and run until none finds anything.

mod batch_norm;
mod cancel;
mod captures;
mod dead_code;
mod fold;
mod inline_branch;

use super::fact::{Fact, Facts, TensorFact};
use super::infer::infer_node;
use super::model::{Graph, NodeError, ValueId};
use crate::memory::Budget;
use crate::ops::attributes::Body;

/// Rounds after which a graph that still changes is left as it is.
const MAX_ROUNDS: usize = 8;

/// Simplifies `graph` and the bodies in it.
pub(crate) fn simplify(mut graph: Graph, budget: &Budget) -> Result<Graph, NodeError> {
    for _ in 0..MAX_ROUNDS {
        let mut changed = false;
        changed |= captures::sink_constants(&mut graph);
        let facts = known_facts(&graph);
        changed |= fold::fold_constants(&mut graph, &facts, budget)?;
        changed |= inline_branch::inline_known_branches(&mut graph);
        let facts = known_facts(&graph);
        changed |= cancel::cancel(&mut graph, &facts);
        changed |= batch_norm::fold_batch_norm(&mut graph, budget);
        changed |= dead_code::remove_dead_code(&mut graph);
        if !changed {
            break;
        }
    }
    for index in 0..graph.nodes.len() {
        let bodies = graph.nodes[index].op.bodies();
        if bodies.is_empty() {
            continue;
        }
        let simplified = bodies
            .into_iter()
            .map(|b| {
                let formal_inputs = b.formal_inputs;
                simplify(b.graph.clone(), budget).map(|graph| Body { graph, formal_inputs })
            })
            .collect::<Result<Vec<_>, _>>()?;
        if let Some(op) = graph.nodes[index].op.with_bodies(simplified) {
            graph.nodes[index].op = op;
        }
    }
    Ok(graph)
}

/// Facts of values as far as they follow from constants and declared inputs. A body's inputs have none, and so
/// what depends on them has none.
fn known_facts(graph: &Graph) -> Vec<Option<Fact>> {
    let mut facts: Vec<Option<Fact>> =
        graph.values.iter().map(|v| v.constant.clone().map(|t| TensorFact::constant(t).into())).collect();
    for &id in &graph.inputs {
        facts[id.index()].clone_from(&graph.value(id).declared);
    }
    for node in &graph.nodes {
        if node.inputs.iter().flatten().any(|id| facts[id.index()].is_none()) {
            continue;
        }
        let given: Vec<Option<&Fact>> =
            node.inputs.iter().map(|id| id.and_then(|id| facts[id.index()].as_ref())).collect();
        let Ok(made) = infer_node(&*node.op, Facts(&given)) else { continue };
        for (id, fact) in node.outputs.iter().zip(made) {
            if let Some(id) = id {
                facts[id.index()] = Some(fact);
            }
        }
    }
    facts
}

/// Lets every reader of a value read `map[value]` instead, where that is something else.
fn redirect(graph: &mut Graph, map: &[Option<ValueId>]) {
    let target = |id: ValueId| {
        let mut id = id;
        // Chains are short and acyclic: a value is redirected to one that was made before it.
        while let Some(next) = map[id.index()] {
            id = next;
        }
        id
    };
    for node in &mut graph.nodes {
        for id in node.inputs.iter_mut().flatten() {
            *id = target(*id);
        }
    }
    for id in &mut graph.outputs {
        *id = target(*id);
    }
}
