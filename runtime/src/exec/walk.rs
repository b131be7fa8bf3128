//! Walking through the phases of a plan with the threads of a team.
//!
//! The caller is worker 0. While another caller holds the team, a phase apart is walked through by the caller alone, in an
//! order that its flags allow: runs of several sessions share the threads, and none waits for another.

use super::flags::{Ended, Flags};
use super::team::lent::Lent;
use super::team::{Stop, Team};
use crate::plan::{Instruction, Phase};
use smallvec::SmallVec;
use std::collections::HashMap;

/// Who runs a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hands<'t> {
    /// The threads that its kernel may use.
    pub(super) team: &'t Team,
    /// The worker, where it runs on one alone.
    pub(super) worker: Option<usize>,
}

/// One worker in one phase.
struct Member<'m, M, E> {
    worker: usize,
    state: &'m mut M,
    list: &'m [Instruction],
    failed: Option<(usize, E)>,
}

/// What is walked through: phases whose flags were found to let everyone go on, see [`crate::plan::Causality`].
pub(super) struct Route<'a> {
    pub(super) phases: &'a [Phase],
    /// The steps of each phase in an order for one thread.
    pub(super) serial: &'a [Vec<usize>],
    pub(super) flags: &'a Flags,
    /// The threads of steps that one worker leads.
    pub(super) lent: &'a HashMap<usize, Lent>,
    /// Number of this run among those with these flags, from 1.
    pub(super) run: u64,
    /// Number of steps; copies are numbered behind them.
    pub(super) steps: usize,
}

/// Runs `body` for every step and copy, with the state of the worker that runs it. Where steps fail, the failure of the first of
/// them in the order of their numbers is told, and the others end soon.
pub(super) fn walk<M: Send, E: Send>(
    route: &Route<'_>,
    team: &Team,
    states: &mut [M],
    body: &(dyn Fn(&mut M, Hands<'_>, usize) -> Result<(), E> + Sync),
) -> Result<(), (usize, E)> {
    let stop = Stop::default();
    for (phase, order) in route.phases.iter().zip(route.serial) {
        let lists = match phase {
            Phase::Apart { lists } => &lists[..],
            Phase::Together { .. } => &[],
        };
        let shared = lists.iter().skip(1).any(|list| !list.is_empty());
        let gang = shared.then(|| team.gang(lists.len(), &stop)).filter(|g| g.size() == lists.len());
        let Some(gang) = gang else {
            let apart = !lists.is_empty();
            let hands = Hands { team: if apart { Team::alone() } else { team }, worker: apart.then_some(0) };
            for &step in order {
                body(&mut states[0], hands, step).map_err(|error| (step, error))?;
            }
            continue;
        };
        let pairs = states.iter_mut().zip(lists).enumerate();
        let mut members: SmallVec<[Member<'_, M, E>; 8]> =
            pairs.map(|(worker, (state, list))| Member { worker, state, list, failed: None }).collect();
        gang.run(&mut members, &|member| {
            let mut ending = EndsUnlessDone { route, done: false };
            ending.done = follow(route, member, body);
        });
        let failed = members.into_iter().filter_map(|m| m.failed).min_by_key(|(step, _)| *step);
        if let Some(failed) = failed {
            return Err(failed);
        }
    }
    Ok(())
}

/// Ends the run for all workers when one of them fails or panics.
struct EndsUnlessDone<'a> {
    route: &'a Route<'a>,
    done: bool,
}

impl Drop for EndsUnlessDone<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.route.flags.end(self.route.run);
        }
    }
}

/// Does what is on the member's list; whether it came to its end.
fn follow<M, E>(
    route: &Route<'_>,
    member: &mut Member<'_, M, E>,
    body: &(dyn Fn(&mut M, Hands<'_>, usize) -> Result<(), E> + Sync),
) -> bool {
    let (flags, run) = (route.flags, route.run);
    let hands = Hands { team: Team::alone(), worker: Some(member.worker) };
    for instruction in member.list {
        match *instruction {
            Instruction::Wait(flag) => {
                if flags.wait(flag, run).is_err() {
                    return false;
                }
            }
            Instruction::Run(_) | Instruction::Copy(_) => {
                let step = instruction.action(route.steps);
                let Some(step) = step.filter(|_| !flags.is_ended(run)) else { return false };
                if let Err(error) = body(member.state, hands, step) {
                    member.failed = Some((step, error));
                    return false;
                }
            }
            Instruction::Signal(flag) => flags.raise(flag, run),
            Instruction::Lead { step, .. } => {
                let Some(lent) = route.lent.get(&step) else { return false };
                let worker = Some(member.worker);
                let state = &mut *member.state;
                match lent.lead(flags, run, |team| body(state, Hands { team, worker }, step)) {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        member.failed = Some((step, error));
                        return false;
                    }
                    Err(Ended) => return false,
                }
            }
            Instruction::Lend(step) => {
                let Some(lent) = route.lent.get(&step) else { return false };
                if lent.lend(member.worker, flags, run).is_err() {
                    return false;
                }
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::super::course::led;
    use super::*;
    use crate::plan::{Causality, Lane, phases};
    use crate::testing::Gen;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    /// A random plan over steps that do nothing.
    struct Plan {
        needs: Vec<Vec<usize>>,
        phases: Vec<Phase>,
        causality: Causality,
        workers: usize,
    }

    /// Most instructions of a plan.
    const MOST: usize = 50;

    fn plan(g: &mut Gen) -> Plan {
        loop {
            let drawn = any_plan(g);
            if drawn.lists().map(<[Instruction]>::len).sum::<usize>() <= MOST {
                return drawn;
            }
        }
    }

    fn any_plan(g: &mut Gen) -> Plan {
        let (steps, workers) = (g.size(1, 20), g.size(2, 4));
        let needs: Vec<Vec<usize>> = (0..steps)
            .map(|step| (0..g.size(0, 2).min(step)).map(|_| g.size(0, step - 1)).collect())
            .collect();
        let order: Vec<(usize, Lane)> = (0..steps)
            .map(|step| {
                let lane = match g.size(0, 9) {
                    0 => Lane::All,
                    1 => {
                        let threads = g.size(2, workers);
                        Lane::Some { first: g.size(0, workers - threads), threads }
                    }
                    _ => Lane::Worker(g.size(0, workers - 1)),
                };
                (step, lane)
            })
            .collect();
        let (phases, _) = phases(&order, &needs, workers).expect("an order");
        let causality = Causality::of(&phases, steps, workers).expect("valid");
        Plan { needs, phases, causality, workers }
    }

    impl Plan {
        /// What each worker does in each phase apart.
        fn lists(&self) -> impl Iterator<Item = &[Instruction]> {
            let lists = self.phases.iter().filter_map(|phase| match phase {
                Phase::Apart { lists } => Some(lists),
                Phase::Together { .. } => None,
            });
            lists.flatten().map(|list| &list[..])
        }

        /// By step, whether its worker waits right ahead of it or right behind it, or raises a flag behind it: what it takes
        /// then delays one side of a wait.
        fn at_waits(&self) -> Vec<bool> {
            let mut at = vec![false; self.needs.len()];
            for pair in self.lists().flat_map(|list| list.windows(2)) {
                match *pair {
                    [Instruction::Wait(_), Instruction::Run(step) | Instruction::Lead { step, .. }]
                    | [
                        Instruction::Run(step) | Instruction::Lead { step, .. },
                        Instruction::Wait(_) | Instruction::Signal(_),
                    ] => {
                        at[step] = true;
                    }
                    _ => {}
                }
            }
            at
        }

        /// Flags, and threads of steps that are led.
        fn state(&self, spin: Duration) -> (Flags, HashMap<usize, Lent>) {
            let (led, flags) = led(&self.phases, &self.causality);
            let lent = led.into_iter().map(|(step, led)| (step, Lent::new(led, spin)));
            (Flags::new(flags, spin), lent.collect())
        }

        fn route<'a>(&'a self, (flags, lent): &'a (Flags, HashMap<usize, Lent>), run: u64) -> Route<'a> {
            Route {
                phases: &self.phases,
                serial: &self.causality.serial,
                flags,
                lent,
                run,
                steps: self.needs.len(),
            }
        }
    }

    fn pause(micros: u64) {
        let start = Instant::now();
        while start.elapsed() < Duration::from_micros(micros) {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn ten_thousand_runs_with_delays_end_with_every_need_kept() {
        let mut g = Gen::new(8);
        let teams = [2, 3, 4].map(|threads| Team::new(threads, false));
        let mut led = 0;
        let (mut runs, mut delayed) = (0, 0);
        while runs < 10_000 {
            let plan = plan(&mut g);
            let at_waits = plan.at_waits();
            led += crate::plan::led_steps(&plan.phases).len();
            delayed += at_waits.iter().filter(|at| **at).count();
            let team = &teams[plan.workers - 2];
            // Who never polls parks at every wait.
            let spin = if g.chance(0.5) { Duration::ZERO } else { Duration::from_micros(20) };
            let state = plan.state(spin);
            let done: Vec<AtomicU64> = plan.needs.iter().map(|_| AtomicU64::new(0)).collect();
            for run in 1..=10 {
                let delays: Vec<u64> = at_waits
                    .iter()
                    .map(|at| if *at || g.chance(0.2) { g.size(0, 30) as u64 } else { 0 })
                    .collect();
                let mut states = vec![(); plan.workers];
                walk(&plan.route(&state, run), team, &mut states, &|_, _, step| {
                    pause(delays[step]);
                    for &needed in &plan.needs[step] {
                        assert_eq!(done[needed].load(Ordering::Relaxed), run, "{needed} before {step}");
                    }
                    done[step].store(run, Ordering::Relaxed);
                    Ok::<(), ()>(())
                })
                .expect("no step fails");
                assert!(done.iter().all(|d| d.load(Ordering::Relaxed) == run), "all steps ran");
                runs += 1;
            }
        }
        assert!(delayed > 1000 && led > 500, "{delayed} steps stand at waits, {led} are led");
    }

    #[test]
    fn a_failure_or_panic_ends_the_run_and_nothing_else() {
        let mut g = Gen::new(5);
        let team = Team::new(4, false);
        for round in 0..300 {
            let plan = plan(&mut g);
            let state = plan.state(Duration::ZERO);
            let bad = g.size(0, plan.needs.len() - 1);
            let mut states = vec![(); plan.workers];
            let failing = |_: &mut (), _: Hands<'_>, step: usize| {
                assert!(round % 2 == 0 || step != bad, "planted");
                if step == bad { Err("planted") } else { Ok(()) }
            };
            let ended =
                catch_unwind(AssertUnwindSafe(|| walk(&plan.route(&state, 1), &team, &mut states, &failing)));
            match ended {
                Ok(result) => assert_eq!(result, Err((bad, "planted"))),
                Err(_) => assert_eq!(round % 2, 1),
            }
            let ran = AtomicUsize::new(0);
            let result = walk(&plan.route(&state, 2), &team, &mut states, &|_, _, _| {
                ran.fetch_add(1, Ordering::Relaxed);
                Ok::<(), ()>(())
            });
            assert_eq!((result, ran.load(Ordering::Relaxed)), (Ok(()), plan.needs.len()));
        }
    }

    #[test]
    fn callers_beside_each_other_share_a_team() {
        let team = Team::new(4, false);
        std::thread::scope(|scope| {
            for seed in 0..4 {
                let team = &team;
                scope.spawn(move || {
                    let mut g = Gen::new(seed);
                    for _ in 0..100 {
                        let plan = plan(&mut g);
                        let state = plan.state(Duration::from_micros(5));
                        let done: Vec<AtomicU64> = plan.needs.iter().map(|_| AtomicU64::new(0)).collect();
                        let mut states = vec![(); plan.workers];
                        let result = walk(&plan.route(&state, 1), team, &mut states, &|_, _, step| {
                            let kept = plan.needs[step].iter().all(|&n| done[n].load(Ordering::Relaxed) == 1);
                            done[step].store(1, Ordering::Relaxed);
                            if kept { Ok(()) } else { Err(()) }
                        });
                        assert_eq!(result, Ok(()));
                    }
                });
            }
        });
    }
}
