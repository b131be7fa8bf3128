//! Recurrences that an exporter wrote out step by step become loops again, and loops whose body is an LSTM, a
//! GRU or a plain recurrent cell become that operator.
//!
//! 1. [`shared`]: equal constants and equal nodes become one, so that the steps of a cell read the same weights.
//! 2. [`chain`]: nodes that use the same weights one after the other; [`align`]: what the steps between them have
//!    in common; [`peel`]: a first step that constants hide; [`roll`]: the steps as one `Scan`.
//! 3. [`collect`]: the outputs of all steps, put together, are the Scan's output.
//! 4. [`counted`]: a `Loop` that takes its input apart by the number of the iteration is a Scan, too.
//! 5. [`cell`]: a Scan's body that is one of the cells becomes the operator.
//! 6. [`single`]: so does a cell that is written out for one step, unless it stands in a body.
//! 7. [`hoist`]: from what stays a Scan, products of its inputs with weights are made before it.

mod align;
pub(super) mod build;
mod cell;
mod chain;
mod collect;
mod counted;
mod hoist;
mod index;
mod order;
mod part;
mod peel;
mod roll;
mod shared;
mod single;
mod template;
#[cfg(test)]
mod tests;

use crate::graph::{Graph, KnownFacts, ValueId};
use crate::memory::Budget;
use align::Reading;
use index::{Index, Keys};
use std::collections::HashSet;
use template::Sequence;

/// Nodes looked at for each node of the graph.
const FUEL_PER_NODE: usize = 256;

/// Recovers what can be. A graph that is `inside` another may be the step of a loop, whose cell is looked for there.
pub(crate) fn recover(graph: &mut Graph, inside: bool, budget: &Budget) -> bool {
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
    if !inside {
        changed |= single::operators(graph, &mut keys, budget);
    }
    changed | hoist::hoist(graph)
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
    let weighted = chains.len();
    let gated = chain::gated(graph, &index, fuel);
    let chains: Vec<Vec<usize>> = chains
        .into_iter()
        .chain(gated.into_iter().filter(|c| output(graph, c[0]).is_some_and(|id| !failed.contains(&id))))
        .collect();
    if chains.is_empty() {
        return false;
    }
    let facts = known.update(graph);
    for (at, chain) in chains.into_iter().enumerate() {
        let depends = dependents(graph, chain[0]);
        // Where the end of the last step looks like the start of one more, the first reading may be the wrong one.
        for reading in [Reading::CarriedFirst, Reading::SameStepFirst] {
            let aligned = align::align(graph, &index, facts, &depends, &chain, reading, fuel);
            let Some(mut template) = aligned else { continue };
            // Without weights of its own, a row of products is a recurrence only where it takes slices of a tensor.
            let slices = |s: &Sequence| matches!(s, Sequence::Part { .. });
            if at >= weighted && !template.sequences.iter().any(slices) {
                continue;
            }
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
