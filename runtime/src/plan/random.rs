//! Random valid plans: whatever a scheduler may come to, the results must be the same.

use super::PlanError;
use super::build::needs;
use super::causality::Causality;
use super::document::{Plan, PlannedStep, Timing, VERSION};
use super::instruction::{Lane, phases};
use super::memory::{Lifetimes, assign};
use crate::exec::{Accesses, Bound, Program};
use crate::testing::Gen;

/// Steps in a random order that their needs allow, each on a random worker or, now and then, on all.
pub(crate) fn random_order(g: &mut Gen, needs: &[Vec<usize>], workers: usize) -> Vec<(usize, Lane)> {
    let mut left: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut ready: Vec<usize> = (0..needs.len()).filter(|&step| left[step] == 0).collect();
    let mut order = Vec::with_capacity(needs.len());
    while !ready.is_empty() {
        let step = ready.swap_remove(g.size(0, ready.len() - 1));
        let lane = if g.chance(0.1) { Lane::All } else { Lane::Worker(g.size(0, workers - 1)) };
        order.push((step, lane));
        for (reader, of) in needs.iter().enumerate() {
            if of.contains(&step) {
                left[reader] -= 1;
                if left[reader] == 0 {
                    ready.push(reader);
                }
            }
        }
    }
    order
}

/// A random plan; its costs are zero.
pub(crate) fn random_plan(
    bound: &Bound,
    program: &Program,
    workers: usize,
    seed: u64,
) -> Result<Plan, PlanError> {
    if let Some(node) = bound.unplaceable(program) {
        return Err(PlanError::DependsOnData { node });
    }
    let steps = bound.step_count();
    let accesses: Vec<Accesses> = (0..steps).map(|step| bound.accesses(program, step)).collect();
    let needs = needs(&accesses);
    let order = random_order(&mut Gen::new(seed), &needs, workers);
    let (made, _) = phases(&order, &needs, workers)?;
    let causality = Causality::of(&made, steps, workers)?;
    let lifetimes = Lifetimes::new(&causality, &accesses, bound.tenant_bytes().len(), workers);
    let (offsets, arena_bytes) = assign(&bound.tenant_bytes(), &lifetimes)
        .ok_or_else(|| PlanError::invalid("its arena is beyond all bounds"))?;
    let named = |step: usize| {
        let (name, op) = bound.step_name(program, step);
        PlannedStep {
            name,
            op,
            place: "random".to_owned(),
            cost_us: 0.0,
            timing: Timing::Estimated,
            start_us: 0.0,
            bytes: 0,
        }
    };
    Ok(Plan {
        version: VERSION,
        model: String::new(),
        profile: String::new(),
        inputs: Vec::new(),
        rewrite: String::new(),
        workers,
        predicted_us: 0.0,
        together_us: 0.0,
        alone_us: 0.0,
        bound_us: 0.0,
        arena_bytes,
        steps: (0..steps).map(named).collect(),
        phases: made,
        offsets,
    })
}
