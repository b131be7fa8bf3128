//! From a bound model and a profile to a plan.

use super::PlanError;
use super::causality::Causality;
use super::device::DeviceCosts;
use super::document::{Plan, PlannedDevice, PlannedInput, PlannedStep, Timing, VERSION};
use super::instance::{LaneCost, Seat, StepCost, devices, gang_name, instance, seats, step_costs};
use super::instruction::{Lane, Phase, led_steps, phases};
use super::memory::{Lifetimes, assign};
use super::mixed::{Forced, Goal, ParetoPoint, Parts};
use super::moves::Ground;
use super::predict::{Prediction, predict};
use crate::cost::Profile;
use crate::exec::{Accesses, Bound, Program, Sizes};
use crate::precision::Precision;
use recurve_scheduler::{Bounds, Budget, Instance, Problem, Schedule, Search};
use std::time::Duration;

/// What is planned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site<'a> {
    pub(crate) bound: &'a Bound,
    pub(crate) program: &'a Program,
    /// The model's own graph, by which the plan is found again.
    pub(crate) model: &'a str,
    pub(crate) profile: &'a Profile,
    /// [`Profile::hash`] of it, which takes the longer the more was measured.
    pub(crate) profile_hash: &'a str,
    /// How the program's graph was rewritten.
    pub(crate) rewrite: &'a str,
    /// Element types and shapes of the inputs.
    pub(crate) inputs: &'a [PlannedInput],
    pub(crate) workers: usize,
    pub(crate) spin: Duration,
    pub(crate) search: Budget,
    pub(crate) goal: Goal,
    /// A device beside the threads.
    pub(crate) device: Option<DeviceSite<'a>>,
}

/// A device that steps may be placed on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeviceSite<'a> {
    pub(crate) costs: &'a DeviceCosts,
    /// By step, where the user says so.
    pub(crate) forced: &'a [Option<Forced>],
    /// Most bytes of its memory.
    pub(crate) limit: Option<u64>,
    /// Whether steps may be brought their weights in every run.
    pub(crate) brings: bool,
}

/// A plan with the instance that it is an answer to.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) plan: Plan,
    pub(crate) instance: Instance,
    /// Plans that no other beats in bytes of the device's memory and time, where there is a device.
    pub(crate) front: Vec<ParetoPoint>,
}

/// What a program takes as it is: every step on all threads, all on one, and all on the device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AsItIs {
    pub(crate) together_us: f64,
    pub(crate) alone_us: f64,
    pub(crate) device_us: Option<f64>,
    pub(crate) device_bytes: Option<usize>,
}

/// What came of planning a program.
#[derive(Debug)]
pub(crate) struct Built<'a> {
    pub(crate) as_it_is: AsItIs,
    /// Errs where no plan that was found keeps within what was asked.
    pub(crate) planned: Result<Draft<'a>, PlanError>,
}

/// A plan, or what makes one: whoever looks for the best of several has that alone made.
#[derive(Debug)]
pub(crate) enum Draft<'a> {
    Made(Box<Planned>),
    Open(Box<Open<'a>>),
}

impl Draft<'_> {
    /// Bytes of a device's memory that it takes.
    pub(crate) fn device_bytes(&self) -> usize {
        match self {
            Self::Made(planned) => planned.plan.device.as_ref().map_or(0, PlannedDevice::bytes),
            Self::Open(_) => 0,
        }
    }

    pub(crate) fn predicted_us(&self) -> f64 {
        match self {
            Self::Made(planned) => planned.plan.predicted_us,
            Self::Open(open) => open.prediction.total_us,
        }
    }

    pub(crate) fn rewrite(&self) -> &str {
        match self {
            Self::Made(planned) => &planned.plan.rewrite,
            Self::Open(open) => open.site.rewrite,
        }
    }

    /// Plans that no other beats in bytes of the device's memory and time, where there is a device.
    pub(crate) fn front(&self) -> &[ParetoPoint] {
        match self {
            Self::Made(planned) => &planned.front,
            Self::Open(_) => &[],
        }
    }

    /// The plan, of a model that takes so much as it is.
    pub(crate) fn finish(self, of: AsItIs) -> Result<Planned, PlanError> {
        let planned = match self {
            Self::Made(planned) => *planned,
            Self::Open(open) => open.planned()?,
        };
        let AsItIs { together_us, alone_us, device_us, device_bytes } = of;
        let plan = Plan { together_us, alone_us, device_us, device_bytes, ..planned.plan };
        Ok(Planned { plan, ..planned })
    }
}

/// A plan for the workers of the CPU whose arena has no offsets yet.
#[derive(Debug)]
pub(crate) struct Open<'a> {
    site: Site<'a>,
    costs: Vec<StepCost>,
    accesses: Vec<Accesses>,
    instance: Instance,
    problem: Problem,
    prediction: Prediction,
    phases: Vec<Phase>,
}

/// What is planned, as far as no search is needed.
#[derive(Debug)]
pub(crate) struct Prepared<'a> {
    site: Site<'a>,
    costs: Vec<StepCost>,
    accesses: Vec<Accesses>,
    needs: Vec<Vec<usize>>,
    instance: Instance,
    problem: Problem,
}

impl Prepared<'_> {
    /// No plan for the workers of the CPU takes less.
    pub(crate) fn bound_us(&self) -> f64 {
        Bounds::new(&self.problem).best()
    }
}

/// What the steps cost and need, as an instance for the scheduler.
pub(crate) fn prepare(site: Site<'_>) -> Result<Prepared<'_>, PlanError> {
    let Site { bound, program, profile, workers, .. } = site;
    if let Some(node) = bound.unplaceable(program) {
        return Err(PlanError::DependsOnData { node });
    }
    let costs = step_costs(bound, program, profile, workers).into_iter();
    let costs: Vec<StepCost> =
        costs.collect::<Option<_>>().ok_or_else(|| PlanError::invalid("a step has no form"))?;
    if let Some(cost) = costs.iter().find(|c| c.alone.is_none()) {
        return Err(PlanError::Unmeasured { signature: cost.signature.0.clone() });
    }
    let accesses: Vec<Accesses> = (0..costs.len()).map(|step| bound.accesses(program, step)).collect();
    let needs = needs(&accesses);
    let instance = instance(bound, program, &costs, &accesses, profile, workers, &[]);
    let problem = Problem::new(&instance)?;
    Ok(Prepared { site, costs, accesses, needs, instance, problem })
}

/// Plans for the workers of the CPU: of the scheduler's schedule, everything together, and everything on one worker, that
/// which is predicted to end first.
pub(crate) fn build(prepared: Prepared<'_>) -> Result<Built<'_>, PlanError> {
    let Prepared { site, costs, accesses, needs, instance: own, problem } = prepared;
    let Site { bound, program, profile, workers, .. } = site;
    let found = problem.least_makespan(Search { seed: 1, budget: site.search })?;
    let scheduled = order_of(&found.schedule, &seats(workers, &[]));
    let all = |lane: Lane| -> Vec<(usize, Lane)> { (0..costs.len()).map(|step| (step, lane)).collect() };
    let handover = profile.handover_among(workers);
    let candidate = |order: &[(usize, Lane)]| -> Result<_, PlanError> {
        let (made, _) = phases(order, &needs, workers)?;
        let us = |step: usize, lane: Lane| costs[step].of_lane(lane).map_or(0.0, |(us, _)| us);
        let prediction = predict(&made, us, (costs.len(), 0), (handover, site.spin), None);
        Ok((prediction, made))
    };
    let alone = candidate(&all(Lane::Worker(0)))?;
    let together = if workers > 1 { candidate(&all(Lane::All))? } else { candidate(&all(Lane::Worker(0)))? };
    let (alone_us, together_us) = (alone.0.total_us, together.0.total_us);
    // The simplest first: what is as good does not replace it.
    let candidates = [together, alone, candidate(&scheduled)?];
    let best = candidates.into_iter().reduce(|a, b| if b.0.total_us < a.0.total_us { b } else { a });
    let (prediction, phases) = best.ok_or_else(|| PlanError::invalid("there is nothing to do"))?;
    let as_it_is = AsItIs { together_us, alone_us, device_us: None, device_bytes: None };
    let predicted_us = prediction.total_us;
    let open = Open { site, costs, accesses, instance: own, problem, prediction, phases };
    let Some(device) = site.device else {
        // Within what was asked, as far as the CPU alone can be.
        if let Some(slo_us) = site.goal.slo_us.filter(|slo_us| predicted_us > *slo_us) {
            let unmet = PlanError::Slo { slo_us, best_us: predicted_us, device_bytes: 0 };
            return Ok(Built { as_it_is, planned: Err(unmet) });
        }
        return Ok(Built { as_it_is, planned: Ok(Draft::Open(Box::new(open))) });
    };
    let plan = Plan { together_us, alone_us, ..open.plan()? };
    let Open { costs, accesses, instance: own, .. } = open;
    let tenants = bound.tenant_bytes();
    let sizes = Sizes::of(bound, program);
    let parts = Parts {
        site,
        costs: &costs,
        accesses: &accesses,
        ground: Ground { accesses: &accesses, bytes: &sizes },
        tenants: &tenants,
        device: device.costs,
        workers: (workers - 1).max(1),
        handover,
        forced: device.forced,
        limit: device.limit,
        streams: 1,
        brings: device.brings,
    };
    parts.best(site.goal, Planned { plan, instance: own, front: Vec::new() })
}

impl Open<'_> {
    /// The plan, with the instance that has the devices of the profile, for whoever asks what they would give.
    fn planned(self) -> Result<Planned, PlanError> {
        let plan = self.plan()?;
        let Self { site, costs, accesses, instance: own, .. } = self;
        let Site { bound, program, profile, workers, .. } = site;
        let devices = devices(profile);
        let instance = if devices.is_empty() {
            own
        } else {
            instance(bound, program, &costs, &accesses, profile, workers, &devices)
        };
        Ok(Planned { plan, instance, front: Vec::new() })
    }

    /// The document, but for what the model takes as it is.
    fn plan(&self) -> Result<Plan, PlanError> {
        let Self { site, costs, accesses, problem, prediction, phases, .. } = self;
        let Site { bound, program, workers, .. } = *site;
        let causality = Causality::of(phases, costs.len(), workers)?;
        let tenants = bound.tenant_bytes();
        let lifetimes = Lifetimes::new(&causality, accesses, tenants.len(), workers);
        let (offsets, arena_bytes) = assign(&tenants, &lifetimes)
            .ok_or_else(|| PlanError::invalid("its arena is beyond all bounds"))?;
        let together_phase =
            |step: usize| matches!(phases[causality.moments[step].phase], Phase::Together { .. });
        let led = led_steps(phases);
        let steps = (0..costs.len()).map(|step| {
            let moment = &causality.moments[step];
            let lane = match led.get(&step) {
                _ if together_phase(step) => Lane::All,
                Some(&threads) => Lane::Some { first: moment.worker, threads },
                None => Lane::Worker(moment.worker),
            };
            let (cost_us, timing) = costs[step].of_lane(lane).unwrap_or((0.0, Timing::Estimated));
            let (name, op) = bound.step_name(program, step);
            PlannedStep {
                name,
                op,
                place: match lane {
                    Lane::All => "cpu*".to_owned(),
                    Lane::Some { first, threads } => gang_name(first, threads),
                    Lane::Worker(worker) => format!("cpu{worker}"),
                },
                cost_us,
                timing,
                segment: 0,
                start_us: prediction.starts[step],
                bytes: accesses[step].written(),
            }
        });
        Ok(Plan {
            version: VERSION,
            model: site.model.to_owned(),
            profile: site.profile_hash.to_owned(),
            inputs: site.inputs.to_vec(),
            rewrite: site.rewrite.to_owned(),
            workers,
            predicted_us: prediction.total_us,
            together_us: 0.0,
            alone_us: 0.0,
            bound_us: Bounds::new(problem).best(),
            arena_bytes,
            steps: steps.collect(),
            phases: phases.clone(),
            offsets,
            device_us: None,
            device_bytes: None,
            device: None,
        })
    }
}

impl StepCost {
    /// What the step takes on a lane.
    fn of_lane(&self, lane: Lane) -> LaneCost {
        match lane {
            Lane::Worker(_) => self.alone,
            Lane::Some { threads, .. } => {
                let at = (threads.checked_ilog2()? as usize).checked_sub(1)?;
                self.shared.get(at).copied().flatten()
            }
            Lane::All => self.together.or(self.alone),
        }
    }
}

/// The hash by which plans of this program's graph are found again, with the format of its weights where that is another
/// than the model's.
pub(crate) fn model_hash(program: &Program) -> String {
    let hash = program.graph_hash();
    match program.precision() {
        Precision::F32 => hash.to_owned(),
        precision => format!("{hash}-{precision}"),
    }
}

/// Steps that each step needs: whoever writes what it reads.
pub(super) fn needs(accesses: &[Accesses]) -> Vec<Vec<usize>> {
    let of = |access: &Accesses| {
        let writes = |w: &Accesses| w.writes.iter().any(|w| access.reads.iter().any(|r| r.meets(w)));
        accesses.iter().enumerate().filter(|(_, w)| writes(w)).map(|(step, _)| step).collect()
    };
    accesses.iter().map(of).collect()
}

/// The steps by the time at which they begin. A step of no time begins with those that need it, which come later in the
/// graph.
fn order_of(schedule: &Schedule, seats: &[Seat]) -> Vec<(usize, Lane)> {
    let mut order: Vec<(f64, usize, Lane)> = Vec::with_capacity(schedule.runs.len());
    for (step, run) in schedule.runs.iter().enumerate() {
        if let Some(Seat::Lane(lane)) = seats.get(run.processor as usize) {
            order.push((run.start, step, *lane));
        }
    }
    order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    order.into_iter().map(|(_, step, lane)| (step, lane)).collect()
}
