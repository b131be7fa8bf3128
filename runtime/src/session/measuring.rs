//! Measuring a model's operators, and trying a plan.

use super::Session;
use super::plans::{Followed, Unplanned};
use super::run_options::RunOptions;
use super::step_names::StepNames;
use super::variants::Variant;
use crate::cost::{Effort, Handover, OperatorCost, Profile, ProfileCache, StepSignature, cpu_lane, measure};
use crate::cpu::{RunContext, Slot};
use crate::error::{Error, OpError};
use crate::exec::{CancelToken, RunOnce, Team};
use crate::graph::NodeError;
use crate::plan::{Goal, Plan, PlanError, Planned, PlannedInput, gang_sizes, model_hash, step_work};
use crate::tensor::{Value, ValueRef};
use smallvec::SmallVec;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Runs of a kind that follow each other where a plan is compared: the first finds caches as the other kind left them, and
/// does not count.
const TURN: usize = 4;
/// Most turns of each kind.
const TURNS: usize = 7;
/// After this time no further ones begin.
const TRIAL_TIME: Duration = Duration::from_millis(100);

/// Threads that steps are measured with.
fn lanes(threads: usize) -> impl Iterator<Item = usize> {
    std::iter::once(1).chain(gang_sizes(threads)).chain((threads > 1).then_some(threads))
}

/// What [`Session::profile`] does.
#[derive(Clone, Default)]
pub struct ProfileOptions {
    effort: Effort,
    cache: Option<ProfileCache>,
    refresh: bool,
    pub(super) run: RunOptions,
    cpu_alone: bool,
    progress: Option<Arc<dyn Fn(usize, usize) + Send + Sync>>,
}

impl fmt::Debug for ProfileOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { effort, cache, .. } = self;
        f.debug_struct("ProfileOptions").field("effort", effort).field("cache", cache).finish_non_exhaustive()
    }
}

impl ProfileOptions {
    pub(super) fn of_cache(cache: Option<ProfileCache>, refresh: bool) -> Self {
        Self { cache, refresh, ..Self::default() }
    }

    /// How much time each measurement may take.
    pub fn with_effort(mut self, effort: Effort) -> Self {
        self.effort = effort;
        self
    }

    /// Takes what `cache` has, and adds what is measured.
    pub fn with_cache(mut self, cache: ProfileCache) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Measures what the cache has, too, and puts it in the place of what was there.
    pub fn with_refresh(mut self) -> Self {
        self.refresh = true;
        self
    }

    /// Measures on the CPU alone, though plans may use a GPU: for those whose costs come from elsewhere.
    pub fn with_cpu_alone(mut self) -> Self {
        self.cpu_alone = true;
        self
    }

    pub(super) fn is_cpu_alone(&self) -> bool {
        self.cpu_alone
    }

    /// Measuring ends with [`crate::ErrorKind::Deadline`] once it has taken this long.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.run = self.run.with_timeout(timeout);
        self
    }

    /// Measuring ends with [`crate::ErrorKind::Cancelled`] once `token` is cancelled.
    pub fn with_cancel(mut self, token: &CancelToken) -> Self {
        self.run = self.run.with_cancel(token);
        self
    }

    /// Calls `progress` with the measurements made so far and their number.
    pub fn with_progress(mut self, progress: impl Fn(usize, usize) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }
}

impl Session {
    /// What [`Session::profile`] does on checked inputs. What the cache has of other models comes along.
    pub(super) fn measure_all(
        &self,
        variants: &[Variant],
        values: &[ValueRef<'_>],
        options: &ProfileOptions,
        context: RunContext<'_>,
    ) -> Result<Profile, Error> {
        let mut known = options.cache.as_ref().map_or_else(Profile::empty, ProfileCache::load);
        if options.refresh {
            known = Profile::empty();
        }
        let threads = self.engine.threads();
        let mut fresh = Profile::empty();
        if threads > 1
            && known.handover.get(&threads).is_none_or(Handover::is_disturbed)
            && let Some(handover) = Handover::measure(&self.engine.0.team, options.effort)
        {
            fresh.handover.insert(threads, handover);
        }
        let mut bounds = Vec::with_capacity(variants.len());
        let mut wanted: Vec<(String, usize)> = Vec::new();
        for Variant { program, .. } in variants {
            let bound = program.bind(values, context).map_err(NodeError::at_run)?;
            for step in 0..bound.step_count() {
                let Some(form) = bound.step_form(program, step) else { continue };
                let signature = StepSignature::of(&form).0;
                for lane in lanes(threads) {
                    let key = (signature.clone(), lane);
                    if known.measured(&key.0, &cpu_lane(lane)).is_none() && !wanted.contains(&key) {
                        wanted.push(key);
                    }
                }
            }
            bounds.push(bound);
        }
        let all = wanted.len();
        // Those of a plan belong to its workers, and there is none here.
        let some: Vec<Team> = gang_sizes(threads).map(|size| Team::new(size, false)).collect();
        let team_of = |lane: usize| match lane {
            1 => Team::alone(),
            _ => some.iter().find(|team| team.threads() == lane).unwrap_or(context.team),
        };
        for (Variant { program, .. }, bound) in variants.iter().zip(&bounds) {
            let mut dropped: SmallVec<[Option<Value>; 4]> = SmallVec::from_elem(None, self.outputs.len());
            let mut slots: SmallVec<[Slot<'_>; 4]> = dropped.iter_mut().map(Slot::Made).collect();
            let mut visit = |step: usize, run: &mut RunOnce<'_>| -> Result<(), OpError> {
                let mut ran = false;
                if let Some(form) = bound.step_form(program, step) {
                    let signature = StepSignature::of(&form).0;
                    for lane in lanes(threads) {
                        let at = wanted.iter().position(|(s, l)| *s == signature && *l == lane);
                        let Some(at) = at else { continue };
                        wanted.swap_remove(at);
                        let measured = measure(options.effort, || run(team_of(lane)))?;
                        ran = true;
                        let work = step_work(bound, program, step);
                        let entry =
                            fresh.operators.entry(signature.clone()).or_insert_with(|| OperatorCost {
                                flops: work.map(|w| w.flops),
                                bytes: work.map(|w| w.bytes),
                                ..OperatorCost::default()
                            });
                        entry.lanes.extend(measured.map(|m| (cpu_lane(lane), m)));
                        if let Some(progress) = &options.progress {
                            progress(all - wanted.len(), all);
                        }
                    }
                }
                if !ran {
                    run(context.team)?;
                }
                Ok(())
            };
            bound
                .step_through(program, values, &mut slots, context, &mut visit)
                .map_err(NodeError::at_run)?;
        }
        if let Some(device) = self.devices.usable().filter(|_| !options.cpu_alone) {
            let progress = |done: usize, of: usize| {
                if let Some(progress) = &options.progress {
                    progress(all + done, all + of);
                }
            };
            let kept = (&known, &mut fresh);
            self.measure_device((device, options.effort), variants, values, kept, &progress, context)?;
        }
        let measured = fresh != Profile::empty();
        if let Some(cache) = &options.cache
            && measured
            && let Err(error) = cache.store(&fresh)
        {
            tracing::warn!(
                error = &error as &(dyn std::error::Error + 'static),
                "what was measured is not kept"
            );
        }
        known.merge(fresh);
        Ok(known)
    }

    /// Measures, plans and tries the best plan of every rewrite. Where the user wants something on the GPU a plan that has it
    /// there is followed, and else only one that is faster than none.
    pub(super) fn plan_by_measuring(
        &self,
        values: &[ValueRef<'_>],
        inputs: &[PlannedInput],
        (options, goal): (ProfileOptions, Goal),
        context: RunContext<'_>,
    ) -> Result<Result<Followed, Unplanned>, Error> {
        let program = self.cpu_program()?;
        let bound = program.bind(values, context).map_err(NodeError::at_run)?;
        // Plans for the threads alone and the least time are kept; others are few.
        let plain = self.devices.usable().is_none() && goal == Goal::default();
        // A pattern that fits nothing is told whatever becomes of plans.
        self.devices.forced(&StepNames::new(program.graph(), &self.fusion), &bound, program)?;
        if self.engine.threads() == 1 && plain {
            return Ok(Err(Unplanned::OneThread));
        }
        if let Some(node) = bound.unplaceable(program) {
            return Err(PlanError::DependsOnData { node }.into());
        }
        let cache = options.cache.as_ref().filter(|_| plain);
        if let Some(kept) =
            cache.filter(|_| !options.refresh).and_then(|cache| self.kept_plan(cache, inputs, context))
        {
            return Ok(Ok(kept));
        }
        let wanted = self.devices.usable().is_some() && self.devices.wants_gpu();
        let variants = self.variants(&self.facts_of(inputs)?, |_| true)?;
        let profile = self.measure_all(&variants, values, &options, context)?;
        self.plans.keep_profile(&profile);
        // Steps are measured with warm caches, which a plan may leave cold: what is predicted to be best need not be.
        let mut best: Option<(Duration, Plan, Followed)> = None;
        let mut late: Option<(Duration, Followed)> = None;
        let plans = self.build_plans(&variants, inputs, (&profile, goal), usize::MAX, context)?;
        for Planned { plan, .. } in plans.made {
            if let Some(slo_us) = goal.slo_us {
                // The least bytes come first; what takes longer than was predicted gives way to the next.
                let followed = self.check_plan(&variants, &plan, context)?;
                let [planned, _] = self.compare(&followed, values, context)?;
                let within = planned.as_secs_f64() * 1e6 <= slo_us;
                tracing::info!(?planned, slo_us, within, "the plan of the least bytes was tried");
                if within {
                    return Ok(Ok(followed));
                }
                if late.as_ref().is_none_or(|(least, _)| planned < *least) {
                    late = Some((planned, followed));
                }
                continue;
            }
            if !wanted && plan.predicted_us >= plan.together_us {
                continue;
            }
            let followed = self.check_plan(&variants, &plan, context)?;
            let [planned, together] = self.compare(&followed, values, context)?;
            let (rewrite, predicted_us) = (&plan.rewrite, plan.predicted_us);
            tracing::info!(rewrite, ?planned, ?together, predicted_us, "a plan was tried");
            if (wanted || planned < together) && best.as_ref().is_none_or(|(time, ..)| planned < *time) {
                best = Some((planned, plan, followed));
            }
        }
        if let Some((measured, followed)) = late {
            tracing::warn!(?measured, "the objective for the time is predicted to be met, and was not");
            return Ok(Ok(Followed { late: Some(measured), ..followed }));
        }
        let Some((_, plan, followed)) = best else { return Ok(Err(Unplanned::NotFaster)) };
        if let Some(cache) = cache
            && let Err(error) = cache.store_plan(&plan)
        {
            tracing::warn!(error = &error as &(dyn std::error::Error + 'static), "the plan is not kept");
        }
        Ok(Ok(followed))
    }

    /// The plan that was followed before for these inputs, if nothing was measured since.
    fn kept_plan(
        &self,
        cache: &ProfileCache,
        inputs: &[PlannedInput],
        context: RunContext<'_>,
    ) -> Option<Followed> {
        let model = model_hash(self.cpu_program().ok()?);
        let plan = cache.load_plan(&model, inputs, self.engine.threads(), &cache.load())?;
        let checked = self
            .facts_of(inputs)
            .and_then(|facts| self.variants(&facts, |name| name == plan.rewrite))
            .and_then(|variants| self.check_plan(&variants, &plan, context));
        checked
            .inspect_err(|error| {
                let error: &(dyn std::error::Error + 'static) = error;
                tracing::warn!(error, "the kept plan cannot be used and is made anew");
            })
            .ok()
    }

    /// The median times of a few runs along a plan and of as many without it, in turns of several: as each runs in service,
    /// behind runs of its own kind.
    fn compare(
        &self,
        followed: &Followed,
        values: &[ValueRef<'_>],
        context: RunContext<'_>,
    ) -> Result<[Duration; 2], Error> {
        let mut times = [Vec::new(), Vec::new()];
        let began = Instant::now();
        for turn in 0..TURNS {
            if turn > 0 && began.elapsed() >= TRIAL_TIME {
                break;
            }
            for (kind, times) in times.iter_mut().enumerate() {
                for at in 0..TURN {
                    let mut dropped: SmallVec<[Option<Value>; 4]> =
                        SmallVec::from_elem(None, self.outputs.len());
                    let mut slots: SmallVec<[Slot<'_>; 4]> = dropped.iter_mut().map(Slot::Made).collect();
                    let start = Instant::now();
                    if kind == 0 {
                        followed.run(values, &mut slots, &self.outputs, context)?;
                    } else {
                        self.runner.run(values, &mut slots, &self.outputs, context)?;
                    }
                    if at > 0 {
                        times.push(start.elapsed());
                    }
                }
            }
        }
        Ok(times.map(|mut times| {
            times.sort();
            times[times.len() / 2]
        }))
    }
}
