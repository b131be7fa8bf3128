//! Random valid plans: whatever a scheduler may come to, the results must be the same.

use super::PlanError;
use super::build::needs;
use super::causality::Causality;
use super::document::{BroughtWeights, Plan, PlannedCopy, PlannedDevice, PlannedStep, Timing, VERSION};
use super::instruction::{Lane, Phase, phases};
use super::memory::{Lifetimes, assign};
use super::mixed::{Placed, Seat, assemble};
use super::moves::{Bring, Ground, Move, There};
use super::streams::MOST_STREAMS;
use crate::cpu::RunContext;
use crate::exec::{Accesses, Bound, Program, Sizes};
use crate::testing::Gen;
use recurve_kernels::launch::Device;

/// Steps in a random order that their needs allow, each on a random worker or, now and then, on all or on some.
pub(crate) fn random_order(g: &mut Gen, needs: &[Vec<usize>], workers: usize) -> Vec<(usize, Lane)> {
    let mut left: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut ready: Vec<usize> = (0..needs.len()).filter(|&step| left[step] == 0).collect();
    let mut order = Vec::with_capacity(needs.len());
    while !ready.is_empty() {
        let step = ready.swap_remove(g.size(0, ready.len() - 1));
        let lane = match g.size(0, 9) {
            0 => Lane::All,
            1 | 2 if workers > 1 => {
                let threads = g.size(2, workers);
                Lane::Some { first: g.size(0, workers - threads), threads }
            }
            _ => Lane::Worker(g.size(0, workers - 1)),
        };
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
    Ok(document(bound, program, workers, (made, offsets, arena_bytes)))
}

/// A plan without costs.
fn document(
    bound: &Bound,
    program: &Program,
    workers: usize,
    (phases, offsets, arena_bytes): (Vec<Phase>, Vec<usize>, usize),
) -> Plan {
    let named = |step: usize| {
        let (name, op) = bound.step_name(program, step);
        PlannedStep {
            name,
            op,
            place: "random".to_owned(),
            cost_us: 0.0,
            timing: Timing::Estimated,
            segment: 0,
            start_us: 0.0,
            bytes: 0,
        }
    };
    Plan {
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
        steps: (0..bound.step_count()).map(named).collect(),
        phases,
        offsets,
        device_us: None,
        device_bytes: None,
        device: None,
    }
}

/// A random plan over `workers` threads and a device: each step that can runs there or not, by chance.
pub(crate) fn random_on_device(
    bound: &Bound,
    program: &Program,
    workers: usize,
    (name, device): (&str, Device),
    seed: u64,
    context: RunContext<'_>,
) -> Result<Plan, PlanError> {
    if let Some(node) = bound.unplaceable(program) {
        return Err(PlanError::DependsOnData { node });
    }
    let g = &mut Gen::new(seed);
    let steps = bound.step_count();
    let accesses: Vec<Accesses> = (0..steps).map(|step| bound.accesses(program, step)).collect();
    let needs = needs(&accesses);
    let share = [0.2, 0.5, 0.8, 1.0][g.size(0, 3)];
    let streams = g.size(1, MOST_STREAMS);
    // How many of the steps are brought weights, if any.
    let brings = [0.0, 0.5, 1.0][g.size(0, 2)];
    let (mut places, mut there) = (Vec::<Seat>::with_capacity(steps), vec![There::default(); steps]);
    let mut brought: Vec<BroughtWeights> = Vec::new();
    for (step, there) in there.iter_mut().enumerate() {
        let form =
            bound.device_form(program, step, (device, false), context).ok().filter(|_| g.chance(share));
        there.workspace = form.as_ref().map_or(0, |form| form.kernel.workspace());
        let apart = g.chance(0.5);
        let weights = form.as_ref().filter(|_| g.chance(brings)).and_then(|form| {
            let in_turns = form.could_be_brought(true).filter(|weights| apart && weights.turns.len() > 1);
            in_turns.or_else(|| form.could_be_brought(false))
        });
        if let Some(weights) = weights {
            let apart = weights.turns.len() > 1;
            // Behind a step that is needed, or at once.
            let before: Vec<usize> = needs[step].iter().copied().filter(|&n| places[n].is_device()).collect();
            let behind = if before.is_empty() { None } else { before.get(g.size(0, before.len())).copied() };
            // Beside one that is needed and has copies between its launches, behind what that is needed for, too.
            let turned = |n: &usize| brought.iter().any(|own| own.step == *n && own.apart);
            let beside = before.iter().copied().filter(turned).find(|_| g.chance(0.5));
            let behind = match beside {
                Some(of) => needs[of].iter().copied().find(|&n| places[n].is_device()),
                None => behind,
            };
            there.weights = Some(Bring { first: weights.first(), room: weights.room, behind, beside });
            brought.push(BroughtWeights { step, apart, behind, beside, bytes: weights.bytes() });
        }
        places.push(if form.is_some() {
            Seat::Device(g.size(0, streams - 1))
        } else if g.chance(0.1) {
            Seat::Cpu(Lane::All)
        } else {
            Seat::Cpu(Lane::Worker(g.size(0, workers - 1)))
        });
    }
    let sizes = Sizes::of(bound, program);
    let tenants = bound.tenant_bytes();
    let ground = Ground { accesses: &accesses, bytes: &sizes };
    let placed = Placed { ground, tenants: &tenants, seats: &places, there: &there, count: workers };
    let made = assemble(placed, |moves| moves.needs.iter().map(|_| g.size(0, 1000) as f64).collect())?;
    let copy = |copy: &Move| PlannedCopy {
        name: String::new(),
        space: copy.space,
        first: copy.bytes.start,
        bytes: copy.bytes.len(),
        up: copy.up,
        cost_us: 0.0,
        timing: Timing::Estimated,
        start_us: 0.0,
    };
    let device = PlannedDevice {
        device: name.to_owned(),
        steps: (0..steps).filter(|&step| places[step].is_device()).collect(),
        streams: places.iter().filter_map(|seat| seat.stream()).collect(),
        copies: made.moves.copies.iter().map(copy).collect(),
        arena_bytes: made.device_arena,
        weight_bytes: 0,
        lean: false,
        brought,
        offsets: made.device_offsets,
    };
    let plan = document(bound, program, workers + 1, (made.phases, made.offsets, made.arena));
    Ok(Plan { device: Some(device), ..plan })
}
