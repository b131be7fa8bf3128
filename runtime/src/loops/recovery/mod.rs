//! Recurrences that an exporter wrote out step by step become loops again, and loops whose body is an LSTM, a
//! GRU or a plain recurrent cell become that operator.
//!
//! 1. [`shared`]: equal constants and equal nodes become one, so that the steps of a cell read the same weights.
//! 2. [`chain`]: nodes that use the same weights one after the other; [`align`]: what the steps between them have
//!    in common; [`peel`]: a first step that constants hide; [`roll`]: the steps as one `Scan`.
//! 3. [`collect`]: the outputs of all steps, put together, are the Scan's output.
//! 4. [`counted`]: a `Loop` that takes its input apart by the number of the iteration is a Scan, too.
//! 5. [`cell`]: a Scan's body that is one of the cells becomes the operator.

mod align;
mod build;
mod cell;
mod chain;
mod collect;
mod counted;
mod index;
mod order;
mod part;
mod peel;
mod roll;
mod shared;
mod template;
#[cfg(test)]
mod tests;

use crate::graph::{Graph, KnownFacts, ValueId};
use crate::memory::Budget;
use index::{Index, Keys};
use std::collections::HashSet;

/// Nodes looked at for each node of the graph.
const FUEL_PER_NODE: usize = 256;

/// Recovers what can be.
pub(crate) fn recover(graph: &mut Graph, budget: &Budget) -> bool {
    let mut keys = Keys::default();
    shared::share_constants(graph);
    let mut changed = shared::share_nodes(graph, &mut keys);
    let mut fuel = graph.nodes.len().saturating_add(1000).saturating_mul(FUEL_PER_NODE);
    let mut failed: HashSet<ValueId> = HashSet::new();
    changed |= counted::scans(graph);
    let mut known = KnownFacts::default();
    while roll_one(graph, &mut keys, &mut known, &mut failed, &mut fuel, budget) {
        changed = true;
        collect::collect(graph, &mut keys, &mut known);
        cell::recognise(graph, &mut keys, &mut known, budget);
    }
    changed |= cell::recognise(graph, &mut keys, &mut known, budget);
    changed
}

/// Rolls up the first chain that can be.
fn roll_one(
    graph: &mut Graph,
    keys: &mut Keys,
    known: &mut KnownFacts,
    failed: &mut HashSet<ValueId>,
    fuel: &mut usize,
    budget: &Budget,
) -> bool {
    let index = Index::new(graph, keys);
    let output = |graph: &Graph, node: usize| graph.nodes[node].outputs.iter().flatten().next().copied();
    let chains = chain::chains(graph, &index, fuel, |first| {
        output(graph, first).is_some_and(|id| !failed.contains(&id))
    });
    if chains.is_empty() {
        return false;
    }
    let facts = known.update(graph);
    for chain in chains {
        let depends = dependents(graph, chain[0]);
        if let Some(mut template) = align::align(graph, &index, facts, &depends, &chain, fuel) {
            while peel::prepend(graph, &index, facts, &mut template, budget).is_some() {}
            let before = (graph.nodes.clone(), graph.outputs.clone());
            if roll::roll(graph, &index, facts, &depends, &template, budget).is_some() {
                if order::sort_nodes(graph) {
                    return true;
                }
                (graph.nodes, graph.outputs) = before;
            }
        }
        failed.extend(output(graph, chain[0]));
    }
    false
}

/// What depends on node `first`.
fn dependents(graph: &Graph, first: usize) -> Vec<bool> {
    let mut depends = vec![false; graph.values.len()];
    for (at, node) in graph.nodes.iter().enumerate().skip(first) {
        if at == first || node.inputs.iter().flatten().any(|id| depends[id.index()]) {
            node.outputs.iter().flatten().for_each(|id| depends[id.index()] = true);
        }
    }
    depends
}
