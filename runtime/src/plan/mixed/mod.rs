//! Plans over threads and a device with a memory of its own.
//!
//! One worker launches for the device and copies, the others run steps on the CPU; flags stand between them. The kernels of a
//! stream are done in the order in which they are given, and so are the copies of each direction, beside the kernels. Which placement is best is asked of
//! the scheduler, and predicted by what the instructions do; everything on the device, as far as it can run there, is always
//! among what is compared.

mod assemble;
mod bringing;
mod instance;
mod memory_mode;
mod side_by_side;

pub(crate) use assemble::{Assembled, Placed, Seat, assemble, beside, room_offset};
pub(crate) use memory_mode::{Goal, ParetoPoint, pareto};

use bringing::{Ahead, Bringing, How};

use super::PlanError;
use super::build::{AsItIs, Built, Draft, Planned, Site};
use super::device::{DeviceCosts, held_bytes};
use super::document::{Plan, PlannedCopy, PlannedDevice, PlannedStep, Timing, VERSION};
use super::instance::StepCost;
use super::instruction::Lane;
use super::moves::{Bring, Ground, Moves, There};
use super::predict::{Launching, Prediction, Within, predict};
use crate::cost::Handover;
use crate::exec::{Accesses, Space};
use recurve_scheduler::{Bounds, Problem, Schedule, Search};

/// Where a step has to run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Forced {
    Cpu,
    Device,
}

/// What a plan over threads and a device is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) site: Site<'a>,
    pub(crate) costs: &'a [StepCost],
    pub(crate) accesses: &'a [Accesses],
    pub(crate) ground: Ground<'a>,
    pub(crate) tenants: &'a [usize],
    pub(crate) device: &'a DeviceCosts,
    /// Workers of the CPU beside the one that launches.
    pub(crate) workers: usize,
    pub(crate) handover: Option<&'a Handover>,
    /// By step, where the user says so.
    pub(crate) forced: &'a [Option<Forced>],
    /// Most bytes of the device's memory.
    pub(crate) limit: Option<u64>,
    /// Streams of the device that steps are placed on.
    pub(crate) streams: usize,
    /// Whether steps on the device may be brought their weights in every run.
    pub(crate) brings: bool,
}

/// When each step begins and ends, as far as that says in which order they are given.
#[derive(Clone, Debug)]
struct Times {
    starts: Vec<f64>,
    ends: Vec<f64>,
}

/// A placement with what it amounts to.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) made: Assembled,
    prediction: Prediction,
    seats: Vec<Seat>,
    times: Times,
    bringing: Bringing,
    weight_bytes: usize,
}

impl Candidate {
    pub(crate) fn total_us(&self) -> f64 {
        self.prediction.total_us
    }

    /// Bytes of the device's memory: weights, constants and the arena.
    pub(crate) fn device_bytes(&self) -> usize {
        self.weight_bytes.saturating_add(held_bytes(self.made.device_arena))
    }
}

impl Parts<'_> {
    /// Whether step `step` may run on the device, or on the CPU, as far as the user says.
    pub(crate) fn allows(&self, step: usize, device: bool) -> bool {
        self.forced[step].is_none_or(|forced| (forced == Forced::Device) == device)
    }

    /// What a step takes on the device, where it may and can run there.
    pub(crate) fn device_cost(&self, step: usize) -> Option<(f64, Timing)> {
        self.device.cost(step).filter(|_| self.allows(step, true))
    }

    /// Steps on their seats, in the order in which they begin; copies follow what they need, or are first.
    fn candidate(&self, seats: Vec<Seat>, times: Times, bringing: Bringing) -> Result<Candidate, PlanError> {
        let there: Vec<There> = (0..seats.len()).map(|step| self.there(step, &bringing)).collect();
        let (ground, tenants, count) = (self.ground, self.tenants, self.workers);
        let placed = Placed { ground, tenants, seats: &seats, there: &there, count };
        let steps = self.costs.len();
        let made = assemble(placed, |moves| {
            let after = |copy: usize| match (&moves.copies[copy].space, moves.needs[steps + copy].first()) {
                (_, None) => -1.0,
                // Given ahead, and begun when the device gets there.
                (Space::Weights(_), Some(&behind)) => times.starts[behind],
                (_, Some(&writer)) => times.ends[writer],
            };
            times.starts.iter().copied().chain((0..moves.copies.len()).map(after)).collect()
        })?;
        let us = |action: usize, _: Lane| match action.checked_sub(steps) {
            Some(copy) => self.copy_us(&made.moves, copy),
            None => self.step_cost(action, &seats, &bringing).map_or(0.0, |(us, ..)| us),
        };
        let counts = (steps, made.moves.copies.len());
        let streams: Vec<Option<usize>> = seats.iter().map(|seat| seat.stream()).collect();
        let (shares, event_us) = (&self.device.shares(), self.device.event_us.unwrap_or(0.0));
        let within: Vec<Within> = (0..steps).map(|step| self.within(step, &bringing)).collect();
        let moves = &made.moves;
        let device = Some(Launching { moves, streams: &streams, shares, within: &within, event_us });
        let prediction = predict(&made.phases, us, counts, (self.handover, self.site.spin), device);
        let there = (0..steps).filter(|&step| seats[step].is_device());
        let weight_bytes = self.device.weight_bytes(there.map(|step| (step, bringing.apart(step))));
        Ok(Candidate { made, prediction, seats, times, bringing, weight_bytes })
    }

    /// What a step has on the device, were it there.
    fn there(&self, step: usize, bringing: &Bringing) -> There {
        let workspace = self.device.steps[step].as_ref().map_or(0, |s| s.workspace);
        let weights = bringing.of(step).and_then(|How { apart, behind, beside }| {
            let of = self.device.brought(step, apart)?;
            Some(Bring { first: of.first, room: of.room, behind, beside })
        });
        There { workspace, weights }
    }

    fn copy_us(&self, moves: &Moves, copy: usize) -> f64 {
        let of = &moves.copies[copy];
        self.device.copy_us(of.bytes.len(), of.up)
    }

    /// What a step is brought between its launches.
    fn within(&self, step: usize, bringing: &Bringing) -> Within {
        let brought = bringing.apart(step).and_then(|apart| self.device.brought(step, apart));
        brought.map_or(Within::default(), |of| Within { us: of.within_us, ahead_of_last: of.ahead_of_last })
    }

    /// What a step takes on its seat, and how many steps that was measured with.
    fn step_cost(&self, step: usize, seats: &[Seat], bringing: &Bringing) -> Option<(f64, Timing, usize)> {
        let single = |(us, timing)| (us, timing, 0);
        match seats[step] {
            Seat::Device(_) => {
                let (us, timing, segment) = self.device.cost_among(step, |other| seats[other].stream())?;
                Some((us + self.within(step, bringing).us, timing, segment))
            }
            Seat::Cpu(Lane::Worker(_)) => self.costs[step].alone.map(single),
            // Beside a device, steps are on one thread or on all.
            Seat::Cpu(Lane::All | Lane::Some { .. }) => self.costs[step].together.map(single),
        }
    }

    /// Whether steps may run on all threads, the one that launches among them.
    pub(crate) fn has_gang(&self) -> bool {
        self.site.workers > 1
    }

    /// Everything on the device that may run there, in one stream, and the rest on one worker, in the order of the graph.
    pub(crate) fn all_on_device(&self) -> Result<Candidate, PlanError> {
        let first = Seat::Cpu(Lane::Worker(0));
        let place = |step: usize| if self.device_cost(step).is_some() { Seat::Device(0) } else { first };
        let at = |part: f64| (0..self.costs.len()).map(|step| step as f64 + part).collect();
        let times = Times { starts: at(0.0), ends: at(0.5) };
        self.candidate((0..self.costs.len()).map(place).collect(), times, Bringing::default())
    }

    /// What the scheduler decided.
    fn scheduled(&self, schedule: &Schedule) -> Result<Candidate, PlanError> {
        let gang = usize::from(self.has_gang());
        let seats_there = side_by_side::seats(self.streams);
        let place = |run: &recurve_scheduler::Run| {
            let processor = run.processor as usize;
            match processor.checked_sub(self.workers) {
                None => Seat::Cpu(Lane::Worker(processor)),
                Some(at) if at < gang => Seat::Cpu(Lane::All),
                Some(at) => {
                    Seat::Device(seats_there.get(at - gang).map_or(0, side_by_side::DeviceSeat::stream))
                }
            }
        };
        let seats: Vec<Seat> = schedule.runs.iter().map(place).collect();
        let starts = schedule.runs.iter().map(|run| run.start).collect();
        let times = Times { starts, ends: schedule.runs.iter().map(|run| run.finish).collect() };
        let bringing =
            if self.brings { self.all_brought(&seats, &times, Ahead::Behind) } else { Bringing::default() };
        self.candidate(seats, times, bringing)
    }

    /// The plan's document.
    fn plan(&self, chosen: &Candidate, bound_us: f64) -> Plan {
        let Candidate { made, prediction, seats, bringing, weight_bytes, .. } = chosen;
        let site = self.site;
        let steps = (0..self.costs.len()).map(|step| {
            let cost = self.step_cost(step, seats, bringing);
            let (cost_us, timing, segment) = cost.unwrap_or((0.0, Timing::Estimated, 0));
            let (name, op) = site.bound.step_name(site.program, step);
            PlannedStep {
                name,
                op,
                place: match seats[step] {
                    Seat::Device(stream) => side_by_side::name(&self.device.name, stream),
                    Seat::Cpu(Lane::Worker(worker)) => format!("cpu{worker}"),
                    Seat::Cpu(Lane::All | Lane::Some { .. }) => "cpu*".to_owned(),
                },
                cost_us,
                timing,
                segment,
                start_us: prediction.starts[step],
                bytes: self.accesses[step].written(),
            }
        });
        let name = |at: usize| {
            let copy = &made.moves.copies[at];
            let written = crate::exec::Access { space: copy.space, bytes: copy.bytes.clone() };
            match (copy.space, made.moves.needs[self.costs.len() + at].first()) {
                (Space::Input(input), _) => site.inputs.get(input).map(|input| input.name.clone()),
                (Space::Weights(step), _) => {
                    Some(format!("weights of {}", site.bound.step_name(site.program, step).0))
                }
                (_, Some(&writer)) => site.bound.written_name(site.program, writer, &written),
                _ => None,
            }
        };
        let copies = made.moves.copies.iter().enumerate().map(|(at, copy)| PlannedCopy {
            name: name(at).unwrap_or_default(),
            space: copy.space,
            first: copy.bytes.start,
            bytes: copy.bytes.len(),
            up: copy.up,
            cost_us: self.copy_us(&made.moves, at),
            timing: self.device.timing(),
            start_us: prediction.starts[self.costs.len() + at],
        });
        Plan {
            version: VERSION,
            model: site.model.to_owned(),
            profile: site.profile_hash.to_owned(),
            inputs: site.inputs.to_vec(),
            rewrite: site.rewrite.to_owned(),
            workers: self.workers + 1,
            predicted_us: prediction.total_us,
            together_us: 0.0,
            alone_us: 0.0,
            bound_us,
            arena_bytes: made.arena,
            steps: steps.collect(),
            phases: made.phases.clone(),
            offsets: made.offsets.clone(),
            device_us: None,
            device_bytes: None,
            device: Some(PlannedDevice {
                device: self.device.name.clone(),
                steps: (0..seats.len()).filter(|&step| seats[step].is_device()).collect(),
                streams: side_by_side::told(seats),
                copies: copies.collect(),
                arena_bytes: made.device_arena,
                weight_bytes: *weight_bytes,
                lean: self.device.lean,
                brought: self.told(chosen),
                offsets: made.device_offsets.clone(),
            }),
        }
    }

    /// The best plan over threads and the device for `goal`, beside `cpu`, the best over threads alone.
    pub(crate) fn best<'b>(self, goal: Goal, cpu: Planned) -> Result<Built<'b>, PlanError> {
        let this = Self { streams: self.worth(), ..self };
        this.best_of_streams(goal, cpu)
    }

    fn best_of_streams<'b>(&self, goal: Goal, cpu: Planned) -> Result<Built<'b>, PlanError> {
        for (step, forced) in self.forced.iter().enumerate() {
            if *forced == Some(Forced::Device) && self.device.cost(step).is_none() {
                let why = match &self.device.steps[step] {
                    Err(reject) => reject.to_string(),
                    Ok(_) => "it was not measured there".to_owned(),
                };
                let (name, _) = self.site.bound.step_name(self.site.program, step);
                let what = format!("`{name}` does not run on {}: {why}", self.device.name);
                return Err(PlanError::Placement { what });
            }
        }
        // What is told of the model has weights where they stay: with copies of them there is no bound for what copies beside
        // steps take.
        let instance = instance::instance(&Self { brings: false, ..*self })?;
        let told = Problem::new(&instance::without_handovers(instance.clone(), self))?;
        let searched = if self.brings { instance::instance(self)? } else { instance.clone() };
        let problem = Problem::new(&searched)?;
        let gpu_only = self.all_on_device()?;
        let (device_us, device_bytes) = (Some(gpu_only.total_us()), Some(gpu_only.device_bytes()));
        let fits = |c: &Candidate| self.limit.is_none_or(|limit| c.device_bytes() as u64 <= limit);
        let cpu_allowed = (0..self.costs.len()).all(|step| self.allows(step, false));
        let bound_us = Bounds::new(&told).best();
        let memory = problem.memory(&self.device.name).unwrap_or_default();
        let search = Search { seed: 1, budget: self.site.search };
        let mut candidates = vec![gpu_only];
        if self.streams > 1 {
            candidates.push(self.all_side_by_side()?);
        }
        memory_mode::search(self, &problem, (goal, memory), search, &mut candidates)?;
        if goal.curve {
            memory_mode::within_limits(self, &searched, search, &mut candidates)?;
        }
        if self.brings {
            self.vary(&mut candidates)?;
        }
        let least_bytes = candidates.iter().map(Candidate::device_bytes).min().unwrap_or_default();
        candidates.retain(fits);
        let cpu_us = cpu_allowed.then_some(cpu.plan.predicted_us);
        let (together_us, alone_us) = (cpu.plan.together_us, cpu.plan.alone_us);
        let as_it_is = AsItIs { together_us, alone_us, device_us, device_bytes };
        let nothing_fits = || {
            // Without a limit everything on the device is left.
            let limit = self.limit.unwrap_or(u64::MAX);
            PlanError::NothingFits { device: self.device.name.clone(), limit, least_bytes }
        };
        let planned = memory_mode::choose(goal, &candidates, cpu_us, nothing_fits).map(|chosen| {
            // The instance is that of the plan.
            let (plan, instance) = match chosen {
                Some(at) => (self.plan(&candidates[at], bound_us), instance),
                None => (cpu.plan, cpu.instance),
            };
            let front = memory_mode::front(&candidates, cpu_us);
            let plan = Plan { together_us, alone_us, device_us, device_bytes, ..plan };
            Draft::Made(Box::new(Planned { plan, instance, front }))
        });
        Ok(Built { as_it_is, planned })
    }
}
