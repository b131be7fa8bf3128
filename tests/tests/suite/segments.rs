//! Short steps that follow each other on a GPU are timed together, and a plan that has them in one stream takes that time.

use crate::mixed::{engine, load, profiled, sped_up};
use recurve::plans::Plan;
use recurve::profiles::{Effort, Measured, Profile, ProfileCache, ProfileOptions};
use recurve::settings::Placement;
use recurve::{Device, Session, Tensor};
use recurve_tests::wire::{code, fixed, floats, graph, model, node, untyped};
use std::time::Duration;

const SHAPE: [usize; 2] = [4, 16];

/// Steps of which each reads what the one before it made, no two alike.
fn chain() -> Vec<u8> {
    let weights = |name: &str, shape: [i64; 2]| {
        let data: Vec<f32> = (0..shape[0] * shape[1]).map(|i| (i % 7) as f32 / 7.0 - 0.5).collect();
        floats(name, &shape, &data)
    };
    let nodes = [
        node("MatMul", &["x", "w"], &["a"]).named("first"),
        node("Softmax", &["a"], &["b"]).named("second"),
        node("MatMul", &["b", "v"], &["c"]).named("third"),
        node("LogSoftmax", &["c"], &["y"]).named("fourth"),
    ];
    let inputs = [fixed("x", code::F32, &SHAPE.map(|n| n as i64))];
    let weights = [weights("w", [16, 24]), weights("v", [24, 8])];
    model(&graph(&inputs, &[untyped("y")], &nodes, &weights)).into_bytes()
}

fn input() -> Tensor {
    Tensor::new(&SHAPE, (0..64).map(|i| (i % 11) as f32 / 11.0).collect::<Vec<f32>>()).expect("a tensor")
}

/// What a device that takes long to launch gives: every step is short there. `session` measures what `cache` does not have.
fn of_slow_launches(session: &Session, cache: &ProfileCache) -> Profile {
    let mut known = profiled(session, &input());
    known.segments.clear();
    let launch = Measured { median_us: 1e9, min_us: 1e9, p90_us: 1e9, runs: 1 };
    known.devices.get_mut("emulated").expect("measured").kernel = Some(launch);
    cache.store(&known).expect("stored");
    let effort = Effort { warm: 1, least: 3, most: 3, time: Duration::from_millis(1) };
    let options = ProfileOptions::default().with_effort(effort).with_cache(cache.clone());
    session.profile([("x", &input())], &options).expect("measured")
}

#[test]
fn steps_in_a_row_are_timed_together_and_planned_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = ProfileCache::at(folder.path());
    let engine = engine(2);
    let session = load(&engine, chain());
    let measured = of_slow_launches(&session, &cache);
    let of_all = measured.segments.iter().find(|(steps, _)| steps.split(" then ").count() == 4);
    let (steps, timed) = of_all.unwrap_or_else(|| panic!("the chain was timed: {:?}", measured.segments));
    assert!(steps.split(" then ").all(|signature| measured.operators.contains_key(signature)), "{steps}");
    let timed = timed["emulated"];
    assert!(timed.runs == 3 && timed.min_us > 0.0, "{timed:?}");
    assert_eq!(Profile::from_json(&measured.to_json()).expect("its own document"), measured);

    // What was timed is kept, though nothing else was new, and not timed again.
    assert_eq!(cache.load().segments, measured.segments);
    let options = ProfileOptions::default().with_cache(cache.clone());
    let again = session.profile([("x", &input())], &options).expect("known");
    assert_eq!(again.segments, measured.segments);

    // By itself each step takes what all of them take together.
    let own = timed.p90_us;
    let mut profile = sped_up(measured);
    for (lane, m) in profile.operators.values_mut().flat_map(|cost| &mut cost.lanes) {
        let us = if lane == "emulated" { own } else { 1000.0 * own };
        (m.median_us, m.min_us, m.p90_us) = (us, us, us);
    }
    let shapes = [("x", SHAPE)];
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-6 * b;
    let plan = session.plan(shapes, &profile).expect("a plan").plan;
    let device = plan.device.as_ref().expect("on the device");
    assert_eq!(device.steps, [0, 1, 2, 3], "{plan}");
    assert!(device.streams.iter().all(|stream| *stream == device.streams[0]), "{plan}");
    assert!(plan.steps.iter().all(|step| step.segment == 4), "{plan}");
    let together: f64 = plan.steps.iter().map(|step| step.cost_us).sum();
    assert!(close(together, timed.median_us), "{together} us instead of {timed:?}\n{plan}");
    assert_eq!(Plan::from_json(&plan.to_json()).expect("its own document"), plan);
    session.follow(&plan).expect("valid");

    // Where one of them is elsewhere, the others take their own time.
    let apart = Session::builder()
        .with_engine(&engine)
        .with_devices("cpu,emulated".parse().expect("devices"))
        .with_placements([Placement::new("third", Device::Cpu)]);
    let apart = apart.load_bytes(chain()).expect("loads").plan(shapes, &profile).expect("a plan").plan;
    let there: Vec<_> = apart.steps.iter().filter(|step| step.place == "emulated").collect();
    assert!(!there.is_empty() && there.len() < 4, "{apart}");
    assert!(there.iter().all(|step| step.segment == 0 && close(step.cost_us, own)), "{apart}");
}
