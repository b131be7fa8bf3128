//! Properties that hold for every instance.
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use recurve_scheduler::generate::{Layered, layered, small};
use recurve_scheduler::{
    Algorithm, Bounds, Budget, Error, Instance, Problem, Processor, Random, Schedule, Search, Violation,
};

fn search(seed: u64, evaluations: u64) -> Search {
    Search { seed, budget: Budget::Evaluations(evaluations) }
}

/// Every planner's schedules.
fn plans(problem: &Problem) -> Vec<Schedule> {
    let lists = Algorithm::ALL.into_iter().filter_map(|a| a.schedule(problem));
    lists.chain(problem.least_makespan(search(3, 500)).map(|f| f.schedule)).collect()
}

/// The instance with tasks and tensors in another order.
fn permuted(instance: &Instance, seed: u64) -> Instance {
    let mut random = Random::new(seed);
    let mut other = instance.clone();
    for i in (1..other.tasks.len()).rev() {
        other.tasks.swap(i, random.below(i + 1));
    }
    for i in (1..other.tensors.len()).rev() {
        other.tensors.swap(i, random.below(i + 1));
    }
    other
}

/// The instance with all times multiplied.
fn scaled(instance: &Instance, by: f64) -> Instance {
    let mut other = instance.clone();
    for task in &mut other.tasks {
        task.cost_us.iter_mut().flatten().for_each(|c| *c *= by);
    }
    other.tensors.iter_mut().for_each(|t| t.transfer_us = t.transfer_us.map(|d| d * by));
    for link in &mut other.machine.links {
        link.latency_us *= by;
        link.bytes_per_us /= by;
    }
    other
}

fn capped(instance: &Instance, bytes: u64) -> Instance {
    let mut other = instance.clone();
    other.machine.memories[1].capacity = Some(bytes);
    other
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn schedules_are_valid_and_replay_exactly(seed in 0u64..1_000_000, tasks in 1usize..24) {
        let instance = small(seed, tasks);
        let problem = Problem::new(&instance).unwrap();
        let bound = Bounds::new(&problem).best();
        for plan in plans(&problem) {
            let verdict = plan.validate(&instance).unwrap();
            prop_assert_eq!(verdict.makespan, plan.makespan);
            prop_assert!(bound <= plan.makespan);
            prop_assert_eq!(plan.replay(&problem), plan);
        }
    }

    #[test]
    fn the_portfolio_is_never_worse_than_one_memory_or_processor(seed in 0u64..1_000_000, tasks in 1usize..24) {
        let instance = small(seed, tasks);
        let problem = Problem::new(&instance).unwrap();
        let found = problem.least_makespan(search(1, 100)).unwrap().schedule.makespan;
        for m in 0..problem.memory_count() {
            prop_assert!(problem.all_in_memory(m).is_none_or(|s| found <= s.makespan));
        }
        for p in 0..problem.processor_count() {
            prop_assert!(problem.all_on_processor(p).is_none_or(|s| found <= s.makespan));
        }
    }

    #[test]
    fn scaling_times_by_powers_of_two_scales_everything(seed in 0u64..1_000_000, tasks in 1usize..20, power in -8i32..9) {
        let instance = small(seed, tasks);
        let by = f64::from(power).exp2();
        let (a, b) = (Problem::new(&instance).unwrap(), Problem::new(&scaled(&instance, by)).unwrap());
        prop_assert_eq!(Bounds::new(&a).best() * by, Bounds::new(&b).best());
        for (p, q) in plans(&a).into_iter().zip(plans(&b)) {
            prop_assert_eq!(p.makespan * by, q.makespan);
            prop_assert_eq!(p.processors(), q.processors());
            p.runs.iter().zip(&q.runs).for_each(|(r, s)| assert_eq!((r.start * by, r.finish * by), (s.start, s.finish)));
        }
    }

    #[test]
    fn names_do_not_matter_without_ties(seed in 0u64..1_000_000, tasks in 2usize..40) {
        // Random costs and transfers: no upward ranks tie.
        let spec = Layered { tasks, edges: 2 * tasks, cpus: 2, gpus: 1, seed };
        let mut instance = layered(spec);
        let mut random = Random::new(seed);
        for task in &mut instance.tasks {
            task.cost_us.iter_mut().flatten().for_each(|c| *c *= random.between(0.9, 1.1));
        }
        instance.tensors.iter_mut().for_each(|t| t.transfer_us = Some(random.between(1.0, 30.0)));
        instance.machine.links.iter_mut().for_each(|l| l.channel = None);
        let (a, b) = (Problem::new(&instance).unwrap(), Problem::new(&permuted(&instance, seed)).unwrap());
        for algorithm in [Algorithm::Heft, Algorithm::Cpop, Algorithm::Peft] {
            let (p, q) = (algorithm.schedule(&a).unwrap(), algorithm.schedule(&b).unwrap());
            prop_assert_eq!(p.makespan, q.makespan, "{}", algorithm.name());
        }
    }

    #[test]
    fn capacities_are_kept_or_the_error_says_so(seed in 0u64..1_000_000, tasks in 1usize..16, part in 0u64..100) {
        let instance = small(seed, tasks);
        let free = Problem::new(&instance).unwrap().least_makespan(search(1, 400)).unwrap().schedule;
        let peak = free.validate(&instance).unwrap().peak_bytes[1];
        let instance = capped(&instance, peak * part / 100);
        let problem = Problem::new(&instance).unwrap();
        for algorithm in Algorithm::ALL {
            if let Some(plan) = algorithm.schedule_within(&problem) {
                let verdict = plan.validate(&instance);
                prop_assert!(verdict.is_ok(), "{:?}", verdict);
            }
        }
        match problem.least_makespan(search(1, 400)) {
            Ok(found) => {
                prop_assert!(found.schedule.validate(&instance).is_ok());
                prop_assert_eq!(found.schedule.replay(&problem), found.schedule);
            }
            Err(Error::Capacity { capacity, reachable, bound, .. }) => {
                prop_assert!(reachable.is_none_or(|r| r > capacity));
                prop_assert!(bound.is_none_or(|b| b > capacity));
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    #[test]
    fn memory_mode_keeps_its_promises(seed in 0u64..1_000_000, tasks in 1usize..14, slack in 10u64..30) {
        let instance = small(seed, tasks);
        let problem = Problem::new(&instance).unwrap();
        let fastest = problem.least_makespan(search(1, 500)).unwrap().schedule.makespan;
        let slo = fastest * slack as f64 / 10.0;
        let frugal = problem.least_memory(1, slo, search(1, 2000)).unwrap();
        let verdict = frugal.schedule.validate(&instance).unwrap();
        prop_assert!(verdict.makespan <= slo);
        prop_assert_eq!(verdict.peak_bytes[1], frugal.peak_bytes);
        let points = &frugal.front;
        prop_assert!(points.windows(2).all(|w| w[0].peak_bytes < w[1].peak_bytes && w[0].makespan_us > w[1].makespan_us));
        prop_assert!(points.iter().any(|p| p.peak_bytes == frugal.peak_bytes && p.makespan_us == verdict.makespan));
    }

    #[test]
    fn a_broken_schedule_is_not_valid(seed in 0u64..1_000_000, tasks in 3usize..20, fault in 0usize..4) {
        let instance = small(seed, tasks);
        let problem = Problem::new(&instance).unwrap();
        let mut plan = Algorithm::HeftLinks.schedule(&problem).unwrap();
        let late = (0..plan.runs.len()).max_by(|&a, &b| plan.runs[a].start.total_cmp(&plan.runs[b].start)).unwrap();
        match fault {
            0 => plan.makespan += 1.0,
            1 => plan.runs[late].finish += 0.5,
            2 => { plan.runs.pop(); }
            _ => match plan.transfers.pop() { Some(_) => {}, None => plan.makespan -= 1.0 },
        }
        let verdict: Result<_, Violation> = plan.validate(&instance);
        prop_assert!(verdict.is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn exact_is_never_longer_and_another_processor_never_worsens_it(seed in 0u64..1_000_000, tasks in 1usize..8) {
        let instance = small(seed, tasks);
        let problem = Problem::new(&instance).unwrap();
        let Ok(Some(best)) = problem.optimum(100_000) else { return Ok(()) };
        prop_assert!(best.validate(&instance).is_ok());
        prop_assert!(Bounds::new(&problem).best() <= best.makespan);
        for plan in plans(&problem) {
            prop_assert!(best.makespan <= plan.makespan);
        }
        let mut larger = instance.clone();
        let memory = larger.machine.memories[seed as usize % 2].name.clone();
        larger.machine.processors.push(Processor { name: "more".to_owned(), memory, units: None });
        let mut random = Random::new(seed);
        for task in &mut larger.tasks {
            task.cost_us.push((random.below(3) > 0).then(|| (random.between(1.0, 20.0) * 64.0).floor() / 64.0));
        }
        if let Ok(Some(more)) = Problem::new(&larger).unwrap().optimum(200_000) {
            prop_assert!(more.makespan <= best.makespan);
        }
    }
}

#[test]
fn the_answer_depends_on_seed_and_evaluations_alone() {
    let instance = layered(Layered { tasks: 120, edges: 300, cpus: 3, gpus: 1, seed: 7 });
    let problem = Problem::new(&instance).unwrap();
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let frugal = problem.least_memory(1, 1e6, search(9, 4000)).unwrap();
            (problem.least_makespan(search(9, 6000)).unwrap(), frugal)
        })
    };
    let (one, two) = (on(1), on(2));
    assert!(one == two);
    assert!(one == on(1));
}
