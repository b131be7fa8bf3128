//! Simplification of a graph before it becomes a program. Each rewrite is a file that states when it holds; all
//! of them keep every output's value, and run until none finds anything.

mod batch_norm;
mod cancel;
mod captures;
mod dead_code;
mod fold;
mod inline_branch;
mod upright;

pub(crate) use dead_code::remove_dead_code;
pub(crate) use inline_branch::{has_branches_of_shapes, is_branching, take_branches};
pub(crate) use upright::exchange_weights;

use super::fact::{Fact, Facts, TensorFact};
use super::infer::infer_node;
use super::model::{Graph, Node, NodeError, ValueId};
use super::names::distinct_names;
use crate::memory::Budget;
use crate::ops::Op;
use crate::ops::attributes::Body;
use std::collections::HashMap;
use std::sync::Arc;

/// Rounds after which a graph that still changes is left as it is.
const MAX_ROUNDS: usize = 8;

/// Which rewrites are made beyond folding and cleaning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rewrites {
    /// Cells that were written out step by step become loops and recurrent operators.
    pub(crate) recurrences: bool,
}

/// Bodies nested deeper are simplified once, after the graph that they stand in, and not before its recurrences
/// are looked for as well.
const EARLY_DEPTH: usize = 3;

/// Simplifies `graph` and the bodies in it.
pub(crate) fn simplify(graph: Graph, rewrites: Rewrites, budget: &Budget) -> Result<Graph, NodeError> {
    simplify_nested(graph, rewrites, budget, 0)
}

fn simplify_nested(
    mut graph: Graph,
    rewrites: Rewrites,
    budget: &Budget,
    depth: usize,
) -> Result<Graph, NodeError> {
    // Operators whose bodies are simplified, by address; they are held so that the address stays theirs.
    let mut simplified: HashMap<usize, Arc<dyn Op>> = HashMap::new();
    for round in 0..MAX_ROUNDS {
        let mut changed = false;
        changed |= captures::sink_constants(&mut graph);
        let facts = known_facts(&graph);
        // A first step in which what follows from a constant state is folded no longer looks like the others.
        let arithmetic = round > 0 || !rewrites.recurrences;
        changed |= fold::fold_constants(&mut graph, &facts, arithmetic, budget)?;
        changed |= inline_branch::inline_known_branches(&mut graph);
        let facts = known_facts(&graph);
        changed |= cancel::cancel(&mut graph, &facts);
        changed |= batch_norm::fold_batch_norm(&mut graph, budget);
        changed |= dead_code::remove_dead_code(&mut graph);
        if rewrites.recurrences {
            if round == 0 {
                // Before constant weights are dequantised once and for all.
                let facts = known_facts(&graph);
                changed |= crate::loops::quantised::to_integers(&mut graph, &facts);
            }
            if round == 0 && depth < EARLY_DEPTH {
                captures::sink_constants(&mut graph);
                simplify_bodies(&mut graph, rewrites, budget, depth, &mut simplified)?;
            }
            changed |= crate::loops::recovery::recover(&mut graph, depth > 0, budget);
            changed |= dead_code::remove_dead_code(&mut graph);
        }
        if !changed && arithmetic {
            break;
        }
    }
    simplify_bodies(&mut graph, rewrites, budget, depth, &mut simplified)?;
    distinct_names(&mut graph);
    Ok(graph)
}

/// Simplifies the bodies of nodes that are not among `simplified`.
fn simplify_bodies(
    graph: &mut Graph,
    rewrites: Rewrites,
    budget: &Budget,
    depth: usize,
    simplified: &mut HashMap<usize, Arc<dyn Op>>,
) -> Result<(), NodeError> {
    let address = |op: &Arc<dyn Op>| Arc::as_ptr(op).cast::<()>() as usize;
    for node in &mut graph.nodes {
        let bodies = node.op.bodies();
        if bodies.is_empty() || simplified.contains_key(&address(&node.op)) {
            continue;
        }
        let bodies = bodies
            .into_iter()
            .map(|b| {
                let formal_inputs = b.formal_inputs;
                simplify_nested(b.graph.clone(), rewrites, budget, depth + 1)
                    .map(|graph| Body { graph, formal_inputs })
            })
            .collect::<Result<Vec<_>, _>>()?;
        if let Some(op) = node.op.with_bodies(bodies) {
            node.op = op;
        }
        simplified.insert(address(&node.op), node.op.clone());
    }
    Ok(())
}

/// Facts of values as far as they follow from constants and declared inputs. A body's inputs have none, and so
/// what depends on them has none.
pub(crate) fn known_facts(graph: &Graph) -> Vec<Option<Fact>> {
    let mut known = KnownFacts::default();
    known.update(graph);
    known.0
}

/// The [`known_facts`] of a graph between rewrites. Rewrites keep what a value stands for, so that what was known of
/// one stays true, and only values that are new are looked at.
#[derive(Default)]
pub(crate) struct KnownFacts(Vec<Option<Fact>>);

impl KnownFacts {
    /// The facts of `graph`, which must be the graph of the calls before, rewritten.
    pub(crate) fn update(&mut self, graph: &Graph) -> &[Option<Fact>] {
        self.learn(graph, &graph.nodes)
    }

    /// The same where nothing but `nodes`, each behind those whose outputs it reads, has come to the graph or is to.
    pub(crate) fn learn<'n>(
        &mut self,
        graph: &Graph,
        nodes: impl IntoIterator<Item = &'n Node>,
    ) -> &[Option<Fact>] {
        let facts = &mut self.0;
        let old = facts.len();
        facts.extend(
            graph.values[old..].iter().map(|v| v.constant.clone().map(|t| TensorFact::constant(t).into())),
        );
        for &id in graph.inputs.iter().filter(|id| id.index() >= old) {
            facts[id.index()].clone_from(&graph.value(id).declared);
        }
        for node in nodes {
            let is_known = node.outputs.iter().flatten().all(|id| facts[id.index()].is_some());
            if is_known || node.inputs.iter().flatten().any(|id| facts[id.index()].is_none()) {
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

    /// Forgets values from the one at `count` on, which the graph was to get and did not.
    pub(crate) fn forget(&mut self, count: usize) {
        self.0.truncate(count);
    }

    /// What is known.
    pub(crate) fn facts(&self) -> &[Option<Fact>] {
        &self.0
    }
}

/// Lets every reader of a value read `map[value]` instead, where that is something else.
pub(crate) fn redirect(graph: &mut Graph, map: &[Option<ValueId>]) {
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
