//! Malformed instances are refused with the error that names the fault.
#![allow(clippy::unwrap_used, reason = "tests")]

use recurve_scheduler::{Error, ErrorKind, Instance, Kind, Problem, Tensor};

fn t02() -> Instance {
    Instance::read("tests/data/t02.json".as_ref()).unwrap()
}

/// The error for t02 with a change.
fn refused(change: impl FnOnce(&mut Instance)) -> Error {
    let mut instance = t02();
    change(&mut instance);
    let error = Problem::new(&instance).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Document);
    error
}

#[test]
fn a_cycle() {
    let error = refused(|i| i.tasks[0].reads.push("t9-t10".to_owned()));
    assert!(matches!(&error, Error::Cycle { task, .. } if task == "t1"), "{error}");
    let error = refused(|i| i.tasks[0].reads.push("t1-t2".to_owned()));
    assert!(matches!(error, Error::Cycle { length: 1, .. }));
}

#[test]
fn unknown_names() {
    let kind = |error| match error {
        Error::Unknown { kind, .. } => kind,
        other => panic!("{other}"),
    };
    assert_eq!(kind(refused(|i| i.tasks[1].reads.push("nothing".to_owned()))), Kind::Tensor);
    assert_eq!(kind(refused(|i| i.tasks[1].weights.push("nothing".to_owned()))), Kind::Weight);
    assert_eq!(kind(refused(|i| i.tensors[0].needed_in.push("nothing".to_owned()))), Kind::Memory);
    assert_eq!(kind(refused(|i| i.tensors[0].home = Some("nothing".to_owned()))), Kind::Memory);
    assert_eq!(kind(refused(|i| i.machine.links[0].to = "nothing".to_owned())), Kind::Memory);
    assert_eq!(kind(refused(|i| i.machine.processors[0].memory = "nothing".to_owned())), Kind::Memory);
}

#[test]
fn repeated_names() {
    let kind = |error| match error {
        Error::Duplicate { kind, .. } => kind,
        other => panic!("{other}"),
    };
    assert_eq!(kind(refused(|i| i.tasks[1].name = "t1".to_owned())), Kind::Task);
    assert_eq!(kind(refused(|i| i.tensors[1].name = i.tensors[0].name.clone())), Kind::Tensor);
    assert_eq!(kind(refused(|i| i.machine.memories[1].name = "p1".to_owned())), Kind::Memory);
    assert_eq!(kind(refused(|i| i.machine.links[1] = i.machine.links[0].clone())), Kind::Link);
}

#[test]
fn numbers_out_of_range() {
    for bad in [f64::NAN, -1.0, f64::INFINITY] {
        assert!(matches!(refused(|i| i.tasks[0].cost_us[0] = Some(bad)), Error::Number { .. }));
        assert!(matches!(refused(|i| i.tensors[0].transfer_us = Some(bad)), Error::Number { .. }));
        assert!(matches!(refused(|i| i.machine.links[0].latency_us = bad), Error::Number { .. }));
        assert!(matches!(refused(|i| i.machine.links[0].bytes_per_us = bad), Error::Number { .. }));
    }
    assert!(matches!(refused(|i| i.machine.links[0].bytes_per_us = 0.0), Error::Number { .. }));
    for text in ["NaN", "-1e999", "1e999"] {
        let text = t02().to_json().unwrap().replacen("14.0", text, 1);
        assert!(matches!(Instance::from_json(&text), Err(Error::Json(_))));
    }
}

#[test]
fn sums_that_overflow() {
    assert!(matches!(refused(|i| i.tasks[0].cost_us[0] = Some(1e300)), Error::Overflow { .. }));
    assert!(matches!(refused(|i| i.tensors[0].bytes = u64::MAX), Error::Overflow { .. }));
    let error = refused(|i| i.tasks.iter_mut().for_each(|t| t.workspace_bytes = u64::MAX / 2));
    assert!(matches!(error, Error::Overflow { .. }));
    let error = refused(|i| {
        i.machine.links.iter_mut().for_each(|l| l.bytes_per_us = f64::MIN_POSITIVE);
        i.tensors.iter_mut().for_each(|t| (t.transfer_us, t.bytes) = (None, 1));
    });
    assert!(matches!(error, Error::Overflow { .. }));
}

#[test]
fn two_writers() {
    let error = refused(|i| i.tasks[9].writes.push("t1-t2".to_owned()));
    assert!(matches!(&error, Error::TwoWriters { first, second, .. } if first == "t1" && second == "t10"));
}

#[test]
fn a_task_that_runs_nowhere() {
    let error = refused(|i| i.tasks[4].cost_us.fill(None));
    assert!(matches!(&error, Error::Nowhere { task } if task == "t5"));
    // It could run on p1 alone, and no link leads there.
    let error = refused(|i| {
        i.tasks[4].cost_us[1..].fill(None);
        i.tasks[0].cost_us[0] = None;
        i.machine.links.retain(|l| l.to != "p1");
    });
    assert!(matches!(error, Error::Nowhere { .. }), "{error}");
    let error = refused(|i| {
        let (home, needed_in) = (Some("p2".to_owned()), vec!["p1".to_owned()]);
        i.tensors.push(Tensor { name: "x".to_owned(), home, needed_in, ..Tensor::default() });
        i.machine.links.retain(|l| l.to != "p1");
    });
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}

#[test]
fn cost_counts_and_versions() {
    assert!(matches!(
        refused(|i| i.tasks[0].cost_us.truncate(2)),
        Error::CostCount { expected: 3, found: 2, .. }
    ));
    assert!(matches!(refused(|i| i.version = 2), Error::Version { found: 2, supported: 1 }));
}

#[test]
fn a_million_edges_to_one_task() {
    let error = refused(|i| {
        for e in 0..1_000_000 {
            let name = format!("e{e}");
            i.tasks[9].reads.push(name.clone());
            i.tensors.push(Tensor { name, ..Tensor::default() });
        }
    });
    assert!(matches!(error, Error::TooMany { count: 1_000_003, .. }), "{error}");
}

#[test]
fn text_that_is_no_instance() {
    let good = t02().to_json().unwrap();
    let bad = [
        String::new(),
        "[]".to_owned(),
        good[..good.len() / 2].to_owned(),
        good.replacen("\"version\": 1,", "\"version\": 1, \"speed\": 2,", 1),
        good.replacen("\"bytes\": 0", "\"bytes\": -1", 1),
        good.replacen("\"bytes\": 0", "\"bytes\": 1.5", 1),
        good.replacen("\"capacity\": null", "\"size\": null", 1),
    ];
    for text in bad {
        assert!(matches!(Instance::from_json(&text), Err(Error::Json(_))), "{text:.80}");
    }
    let error = Instance::read("tests/data/absent.json".as_ref()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
}

#[test]
fn a_document_survives_the_round_trip() {
    for name in ["t02", "a14", "i5"] {
        let text = std::fs::read_to_string(format!("tests/data/{name}.json")).unwrap();
        let instance = Instance::from_json(&text).unwrap();
        assert_eq!(Instance::from_json(&instance.to_json().unwrap()).unwrap(), instance);
        let (a, b): (serde_json::Value, serde_json::Value) = (
            serde_json::from_str(&text).unwrap(),
            serde_json::from_str(&instance.to_json().unwrap()).unwrap(),
        );
        assert_eq!(a, b);
    }
}

#[test]
fn empty_graphs_have_empty_schedules() {
    let mut instance = t02();
    instance.tasks.clear();
    instance.tensors.clear();
    let problem = Problem::new(&instance).unwrap();
    let search = recurve_scheduler::Search { seed: 0, budget: recurve_scheduler::Budget::Evaluations(10) };
    assert_eq!(problem.least_makespan(search).unwrap().schedule.makespan, 0.0);
}
