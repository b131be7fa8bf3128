//! Recurrences that an exporter wrote out step by step become loops again, and loops whose body is an LSTM, a
//! GRU or a plain recurrent cell become that operator.
//!
//! 1. [`shared`]: equal constants and equal nodes become one, so that the steps of a cell read the same weights.
//! 2. [`chain`]: nodes that use the same weights one after the other; [`align`]: what the steps between them have
//!    in common; [`peel`]: a first step that constants hide; [`roll`]: the steps as one `Scan`.
//! 3. [`collect`]: the outputs of all steps, put together, are the Scan's output.
//! 4. [`accumulated`]: what a `Loop` puts together by ScatterND, ScatterElements or a growing Concat is an output that it
//!    collects; [`counted`]: a Loop that takes its input apart by the number of the iteration is a Scan, too.
//! 5. [`cell`]: a Scan's body that is one of the cells becomes the operator.
//! 6. [`single`]: so does a cell that is written out for one step, unless it stands in a body.
//! 7. [`hoist`]: from what stays a Scan, products of its inputs with weights are made before it; [`divided`]: also those that
//!    take something else beside.

mod accumulated;
mod align;
pub(super) mod build;
mod cell;
mod chain;
mod collect;
mod counted;
mod divided;
mod hoist;
mod index;
mod number;
mod order;
mod part;
mod peel;
mod reach;
mod roll;
mod shared;
mod single;
mod template;
#[cfg(test)]
mod tests;

use crate::graph::{Graph, KnownFacts, Node, ValueId};
use crate::memory::Budget;
use align::Reading;
use index::{Index, Keys, is_gone, settle};
use reach::Reach;
use roll::Plan;
use std::collections::{HashMap, HashSet};
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
    changed |= accumulated::collect(graph);
    changed |= counted::scans(graph);
    while roll_chains(graph, &mut keys, &mut failed, &mut fuel, budget) {
        changed = true;
        collect::collect(graph, &mut keys);
        cell::recognise(graph, &mut keys, budget);
    }
    changed |= cell::recognise(graph, &mut keys, budget);
    if !inside {
        changed |= single::operators(graph, &mut keys, budget);
    }
    changed | hoist::hoist(graph, budget)
}

/// Rolls up the chains that can be, one behind the other: what a layer's steps were is a sequence for the next one.
/// All of them share one index, which is kept instead of made again for each.
fn roll_chains(
    graph: &mut Graph,
    keys: &mut Keys,
    failed: &mut HashSet<ValueId>,
    fuel: &mut usize,
    budget: &Budget,
) -> bool {
    let mut index = Index::new(graph, keys);
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
    let mut before = None;
    let mut known = KnownFacts::default();
    known.update(graph);
    for (at, chain) in chains.into_iter().enumerate() {
        // Another chain of the same cell was rolled up.
        if chain.iter().any(|&at| is_gone(graph, at)) {
            continue;
        }
        match planned(graph, &index, &mut known, &chain, at < weighted, fuel, budget) {
            Some(plan) => {
                before.get_or_insert_with(|| (graph.nodes.clone(), graph.outputs.clone()));
                let first = graph.nodes.len();
                plan.apply(graph, &mut index, keys);
                known.learn(graph, &graph.nodes[first..]);
                collect::behind(graph, &mut index, keys, &mut known, first);
            }
            None => failed.extend(output(graph, chain[0])),
        }
    }
    settle(graph, before)
}

/// The operator or Scan that `chain` becomes. One that is not `weighted`, a row of products without weights of their own,
/// is a recurrence only where it takes slices of a tensor.
fn planned(
    graph: &mut Graph,
    index: &Index,
    known: &mut KnownFacts,
    chain: &[usize],
    weighted: bool,
    fuel: &mut usize,
    budget: &Budget,
) -> Option<Plan> {
    let slices = |s: &Sequence| matches!(s, Sequence::Part { .. });
    // Where the end of the last step looks like the start of one more, the first reading may be the wrong one.
    [Reading::CarriedFirst, Reading::SameStepFirst].into_iter().find_map(|reading| {
        let facts = known.facts();
        let depends = Reach::of(graph, index, [chain[0]]);
        let mut template = align::align(graph, index, facts, &depends, chain, reading, fuel)?;
        if !weighted && !template.sequences.iter().any(slices) {
            return None;
        }
        while peel::prepend(graph, index, facts, &mut template, budget).is_some() {}
        let inside = roll::inside(graph, &depends, &template);
        let plan = roll::plan(graph, index, facts, &inside, &template, budget)?;
        let plan = match as_operator(graph, index, known, plan, budget) {
            Ok(plan) => return Some(plan),
            Err(plan) => plan,
        };
        let facts = known.facts();
        let depends = Reach::of(graph, index, [chain[0]]);
        let Some(followed) = align::follow(graph, index, facts, &depends, &template, fuel) else {
            return Some(plan);
        };
        let inside = roll::inside(graph, &depends, &followed);
        Some(roll::plan(graph, index, facts, &inside, &followed, budget).unwrap_or(plan))
    })
}

/// The same with the operator that the Scan's body is, or as it was.
fn as_operator(
    graph: &mut Graph,
    index: &Index,
    known: &mut KnownFacts,
    mut plan: Plan,
    budget: &Budget,
) -> Result<Plan, Plan> {
    let Some(scan) = plan.scan.first() else { return Err(plan) };
    let facts = known.learn(graph, plan.before.iter().chain([scan]));
    let mut found = cell::replacement(graph, index, facts, scan, budget);
    let mut before = Vec::new();
    if found.is_none()
        && let Some(scan) = hoist::without_functions(graph, facts, scan, &mut before)
    {
        let facts = known.learn(graph, before.iter().chain([&scan]));
        found = cell::replacement(graph, index, facts, &scan, budget)
            .map(|(map, made)| (map, before.into_iter().chain(made).collect()));
    }
    let Some((map, made)) = found else { return Err(plan) };
    let map: HashMap<ValueId, ValueId> = map.into_iter().collect();
    let read = plan.behind.iter_mut().flat_map(|n| n.inputs.iter_mut().flatten());
    for id in read.chain(plan.replaced.iter_mut().map(|(_, id)| id)) {
        *id = map.get(id).copied().unwrap_or(*id);
    }
    plan.scan = made;
    Ok(plan)
}

/// Whether the node is a function of each element by itself, of those that cells consist of.
fn is_elementwise(node: &Node) -> bool {
    node.op.activation().is_some()
        || matches!(
            node.def.name,
            "Add" | "Sub" | "Mul" | "Div" | "Sum" | "Neg" | "Exp" | "Reciprocal" | "Clip"
        )
}
