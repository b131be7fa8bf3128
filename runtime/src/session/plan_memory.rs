//! How near a plan's arenas are to the least that its order allows.

use super::Session;
use super::run_options::RunOptions;
use crate::device::Device;
use crate::error::Error;
use crate::exec::{Accesses, Sizes};
use crate::graph::NodeError;
use crate::plan::{Causality, Ground, Instruction, Lifetimes, Moves, Phase, Plan, PlanError, There, beside};

/// Bytes of an arena beside those that may be alive at once in the order of a plan: no offsets take less.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct ArenaUse {
    /// What the plan takes.
    pub taken: usize,
    /// The most that may be alive at once.
    pub least: usize,
    /// What no offsets take less than, where that was looked for, because more is taken than alive, and found.
    pub proven: Option<usize>,
}

impl ArenaUse {
    fn new(taken: usize, lifetimes: &Lifetimes<'_>, bytes: &[usize]) -> Self {
        let least = lifetimes.least(bytes);
        let more = (taken > least).then(|| lifetimes.least_of_all(bytes, taken, LOOKS));
        Self { taken, least, proven: more.flatten() }
    }
}

/// What a search for the least of all offsets may take: seconds at most.
const LOOKS: usize = 1 << 20;

impl Session {
    /// The arenas of `plan` in the host's memory and in that of its GPU.
    pub(crate) fn arenas(&self, plan: &Plan) -> Result<[ArenaUse; 2], Error> {
        let options = RunOptions::default();
        let interrupt = options.interrupt();
        let context = self.context(&interrupt);
        let facts = self.facts_of(&plan.inputs)?;
        let variants = self.variants(&facts, |name| name == plan.rewrite)?;
        let variant = variants.iter().find(|variant| variant.rewrite == plan.rewrite);
        let program = &variant.ok_or_else(|| PlanError::invalid("its rewrite is unknown"))?.program;
        let bound = program.bind_facts(facts, context).map_err(NodeError::at_run)?;
        let steps = bound.step_count();
        let accesses: Vec<Accesses> = (0..steps).map(|step| bound.accesses(program, step)).collect();
        let tenants = bound.tenant_bytes();
        let Some(planned) = &plan.device else {
            let causality = Causality::of(&plan.phases, steps, plan.workers)?;
            let lifetimes = Lifetimes::new(&causality, &accesses, tenants.len(), plan.workers);
            let host = ArenaUse::new(plan.arena_bytes, &lifetimes, &tenants);
            return Ok([host, ArenaUse::default()]);
        };
        let device: Device = planned.device.parse()?;
        let on = self.devices.program(device, program, (&self.engine, &self.budget))?;
        let mut there = vec![None; steps];
        for &step in &planned.steps {
            let form = bound.device_form(program, step, (on.device(), planned.lean), context);
            let mut form = form.map_err(|_| PlanError::invalid(format!("step {step} does not run there")))?;
            let weights = form.bring(planned.brought_to(step))?;
            there[step] = Some(There { workspace: form.kernel.workspace(), weights });
        }
        let sizes = Sizes::of(&bound, program);
        let moves = Moves::new(Ground { accesses: &accesses, bytes: &sizes }, &there)?;
        let causality = Causality::with_copies(&plan.phases, steps, moves.copies.len(), plan.workers)?;
        let bytes = moves.host_bytes(&tenants);
        let lifetimes = Lifetimes::new(&causality, &moves.host, tenants.len(), plan.workers);
        let host = ArenaUse::new(plan.arena_bytes, &lifetimes, &bytes);
        let rooms: Vec<usize> = moves.rooms.iter().map(|(_, bytes)| *bytes).collect();
        // One stream does all in the order in which it is given.
        let several = planned.streams.iter().any(|stream| *stream > 0);
        let apart = several.then(|| {
            let streams: Vec<Option<usize>> = (0..steps).map(|step| planned.stream(step)).collect();
            beside(&moves, &streams, actions(&plan.phases, steps))
        });
        let (order, workers) = apart.as_ref().map_or((&causality, plan.workers), |(c, n)| (c, *n));
        let lifetimes = Lifetimes::new(order, &moves.device, rooms.len(), workers);
        Ok([host, ArenaUse::new(planned.arena_bytes, &lifetimes, &rooms)])
    }
}

/// Steps and the copies behind them, list by list.
fn actions(phases: &[Phase], steps: usize) -> impl Iterator<Item = usize> {
    phases.iter().flat_map(move |phase| -> Vec<usize> {
        match phase {
            Phase::Together { step } => vec![*step],
            Phase::Apart { lists } => {
                lists.iter().flatten().filter_map(|i: &Instruction| i.action(steps)).collect()
            }
        }
    })
}
