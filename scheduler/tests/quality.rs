//! Planted optima, adversarial instances and the comparison with CP-SAT, in the reduced form for every run; the
//! full tables come from the examples.
#![allow(clippy::unwrap_used, reason = "tests")]

use recurve_scheduler::generate::{CpuTasks, Planted, planted, recurrent};
use recurve_scheduler::{Budget, Instance, Problem, Search};

mod cases;

fn search(evaluations: u64) -> Search {
    Search { seed: 1, budget: Budget::Evaluations(evaluations) }
}

#[test]
fn planted_optima_are_nearly_reached() {
    for cpu_tasks in [CpuTasks::Faster, CpuTasks::Slower] {
        let mut sum = 0.0;
        for i in 0..12u64 {
            let rho = [1.2, 2.0, 4.0][i as usize % 3];
            let spec = Planted {
                tasks: 20 + 6 * i as usize,
                cpus: 1 + i as usize / 4,
                rho,
                cpu_tasks,
                seed: 900 + i,
            };
            let (instance, optimum) = planted(spec);
            let problem = Problem::new(&instance).unwrap();
            let found = problem.least_makespan(search(60_000)).unwrap().schedule;
            let verdict = found.validate(&instance).unwrap();
            assert!(verdict.makespan >= optimum && verdict.makespan <= 1.12 * optimum, "{spec:?}");
            sum += verdict.makespan / optimum;
        }
        assert!(sum / 12.0 <= 1.03, "{cpu_tasks:?}: mean {}", sum / 12.0);
    }
}

#[test]
fn adversarial_instances_stay_within_a_tenth() {
    let mut count = 0;
    for entry in std::fs::read_dir("tests/data/adversarial").unwrap() {
        let instance = Instance::read(&entry.unwrap().path()).unwrap();
        let problem = Problem::new(&instance).unwrap();
        let optimum = problem.optimum(5_000_000).unwrap().unwrap();
        let found = problem.least_makespan(search(50_000)).unwrap().schedule;
        assert!(found.makespan <= 1.10 * optimum.makespan);
        assert_eq!(found.validate(&instance).unwrap().makespan, found.makespan);
        count += 1;
    }
    assert_eq!(count, 10);
}

#[test]
fn proved_optima_of_small_recurrent_graphs_are_nearly_reached() {
    let text = std::fs::read_to_string("benches/results/cp_sat_grids.json").unwrap();
    let solved: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (name, spec) in cases::recurrent_cases() {
        let row = &solved[&name];
        if row["proved"] == true && spec.transfer_us == 12.0 {
            let instance = recurrent(spec);
            let problem = Problem::new(&instance).unwrap();
            let found = problem.least_makespan(search(40_000)).unwrap().schedule.makespan;
            let optimum = row["value_us"].as_f64().unwrap();
            assert!(found >= optimum - 1e-6 && found <= 1.03 * optimum, "{name}: {found} of {optimum}");
        }
    }
}
