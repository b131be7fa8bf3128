//! Plans in which steps on a GPU are brought their weights in every run, through rooms that they share.

use crate::branches::{Extents, MODELS};
use crate::mixed::{engine, input, load, profiled, shapes, sped_up};
use crate::network::compare;
use recurve::plans::{Instruction, Phase, Plan, PlanOptions, PlannedDevice};
use recurve::profiles::Profile;
use recurve::settings::Mode;
use recurve::times::{NodeTimes, Space};
use recurve::{Device, Engine, ErrorKind, RunOptions, Session};
use std::time::Duration;

const SMALL: Extents = Extents { time: 6, batch: 1, hidden: 32 };

fn there(plan: &Plan) -> &PlannedDevice {
    plan.device.as_ref().expect("a GPU")
}

/// Four layers with all on the GPU, whose steps take a microsecond each, by a profile in which threads are far too slow.
fn layers(engine: &Engine) -> (Session, Profile, Plan) {
    let session = load(engine, (MODELS[1].1)(SMALL));
    let mut profile = sped_up(profiled(&session, &input(SMALL, 1)));
    for cost in profile.operators.values_mut() {
        for (_, m) in cost.lanes.iter_mut().filter(|(lane, _)| *lane != "emulated") {
            (m.median_us, m.min_us, m.p90_us) = (1e6, 1e6, 1e6);
        }
    }
    let usual = session.plan(shapes(SMALL), &profile).expect("a plan").plan;
    assert!(there(&usual).brought.is_empty(), "the least time keeps weights\n{usual}");
    (session, profile, usual)
}

fn memory(session: &Session, profile: &Profile, slo_us: f64) -> Plan {
    let slo = Duration::from_secs_f64(slo_us / 1e6);
    let options = PlanOptions::default().with_mode(Mode::Memory { slo });
    session.plan_with(shapes(SMALL), profile, options).expect("a plan").plan
}

#[test]
fn layers_share_rooms_for_their_weights_where_time_allows_it() {
    let engine = engine(2);
    let (session, profile, usual) = layers(&engine);
    let light = memory(&session, &profile, 2.0 * usual.predicted_us);
    let (all, few) = (there(&usual).bytes(), there(&light).bytes());
    assert!(few * 2 < all, "{few} bytes instead of {all}\n{light}");
    assert!(light.predicted_us <= 2.0 * usual.predicted_us, "{light}");
    assert!(light.bound_us <= light.predicted_us && usual.bound_us <= usual.predicted_us, "{light}");
    // What each of the layers is brought is there in full, and rooms are shared.
    let device = there(&light);
    let of_layer = 4 * 2 * 4 * SMALL.hidden * SMALL.hidden;
    assert_eq!(device.brought.len(), 4, "{light}");
    assert!(device.brought.iter().all(|weights| weights.bytes >= of_layer), "{light}");
    assert!(device.arena_bytes < device.brought_bytes(), "{light}");
    assert!(light.to_string().contains("is brought"), "{light}");
    let of_weights = device.copies.iter().filter(|copy| matches!(copy.space, Space::Weights(_)));
    assert!(of_weights.clone().all(|copy| copy.up && copy.name.starts_with("weights of ")), "{light}");
    assert_eq!(of_weights.count(), 4);

    // It is what is done: the same answers, the bytes that were told, and pinned memory for what is copied.
    let again = Plan::from_json(&light.to_json()).expect("its own document");
    assert_eq!(again, light);
    let mut answers = Vec::new();
    for plan in [&usual, &again] {
        session.follow(plan).expect("valid");
        for seed in [1, 2, 1] {
            answers.push(session.run([("x", &input(SMALL, seed))]).expect("runs"));
        }
        let used = session.gpu_use().expect("on a GPU");
        assert_eq!(used.weights + used.activations, there(plan).bytes() as u64);
        let alone = self::engine(2);
        let other = load(&alone, (MODELS[1].1)(SMALL));
        other.follow(plan).expect("valid");
        other.run([("x", &input(SMALL, 1))]).expect("runs");
        assert_eq!(alone.gpu_memory_peak(Device::Emulated), there(plan).bytes(), "{plan}");
        let pinned = used.pinned as usize;
        assert!((pinned >= 4 * of_layer) == (plan == &again), "{pinned} bytes are pinned\n{plan}");
    }
    for (kept, brought) in answers[..3].iter().zip(&answers[3..]) {
        let of = |of: &recurve::Outputs| of.tensor("y").expect("there").to_vec::<f32>().expect("floats");
        assert_eq!(of(kept), of(brought), "the same kernels read the same weights");
    }
    let serial = Session::builder().with_engine(&engine).load_bytes((MODELS[1].1)(SMALL)).expect("loads");
    compare("brought", &["y"], &serial.run([("x", &input(SMALL, 1))]).expect("runs"), &answers[3]);
}

#[test]
fn a_longer_objective_never_takes_more_and_a_limit_is_kept_by_bringing_weights() {
    let engine = engine(2);
    let (session, profile, usual) = layers(&engine);
    let mut last = there(&usual).bytes();
    for times in [1.001, 1.2, 1.5, 2.0, 4.0] {
        let plan = memory(&session, &profile, times * usual.predicted_us);
        assert!(there(&plan).bytes() <= last, "{times}\n{plan}");
        assert!(plan.predicted_us <= times * usual.predicted_us, "{times}\n{plan}");
        last = there(&plan).bytes();
    }
    let limit = usize::midpoint(there(&usual).bytes(), last);
    let builder = Session::builder().with_engine(&engine).with_devices("cpu,emulated".parse().expect("both"));
    let limited = builder.with_gpu_memory_limit(limit).load_bytes((MODELS[1].1)(SMALL)).expect("loads");
    let plan = limited.plan(shapes(SMALL), &profile).expect("it fits").plan;
    assert!(!there(&plan).brought.is_empty() && there(&plan).bytes() <= limit, "{plan}");
    limited.follow(&plan).expect("valid");
    let want = session.run([("x", &input(SMALL, 3))]).expect("runs");
    compare("limited", &["y"], &want, &limited.run([("x", &input(SMALL, 3))]).expect("runs"));
}

/// A plan of the layers in which some copy begins between the launches of another step, by a profile in which that pays.
fn between(session: &Session, profile: &Profile, usual: &Plan) -> (Profile, Plan) {
    let mut slow = profile.clone();
    // A half of a layer's weights takes a third of its microsecond.
    for link in slow.links.iter_mut().filter(|link| link.from == "host") {
        let us = 0.01 + link.bytes as f64 * (0.33 / (16.0 * 32.0 * 32.0));
        (link.time.median_us, link.time.min_us, link.time.p90_us) = (us, us, us);
    }
    let usual = session.plan(shapes(SMALL), &slow).map_or(usual.predicted_us, |made| made.plan.predicted_us);
    let plans = (100..400).step_by(5).map(|percent| f64::from(percent) / 100.0 * usual);
    let mut plans = plans.map(|slo_us| {
        let slo = Duration::from_secs_f64(slo_us * 1.0001 / 1e6);
        let options = PlanOptions::default().with_mode(Mode::Memory { slo });
        session.plan_with(shapes(SMALL), &slow, options).expect("a plan").plan
    });
    let beside = |plan: &Plan| there(plan).brought.iter().any(|weights| weights.beside.is_some());
    let found = plans.find(|plan| plan.device.is_some() && beside(plan));
    (slow, found.expect("some objective is met by copies between launches"))
}

#[test]
fn copies_between_the_launches_of_another_step_change_no_answer() {
    let engine = engine(2);
    let (session, profile, usual) = layers(&engine);
    session.follow(&usual).expect("valid");
    let want: Vec<_> = [1, 2, 1].map(|seed| session.run([("x", &input(SMALL, seed))]).expect("runs")).into();
    let (_, plan) = between(&session, &profile, &usual);
    assert!(plan.to_string().contains("between the launches of step"), "{plan}");
    let again = Plan::from_json(&plan.to_json()).expect("its own document");
    assert_eq!(again, plan);
    session.follow(&again).expect("valid");
    let values = |of: &recurve::Outputs| of.tensor("y").expect("there").to_vec::<f32>().expect("floats");
    for (seed, want) in [1, 2, 1].into_iter().zip(&want) {
        let got = session.run([("x", &input(SMALL, seed))]).expect("runs");
        assert_eq!(values(&got), values(want), "seed {seed}\n{plan}");
    }
    // Where each step is timed by itself, and again as before.
    let times = NodeTimes::with_events();
    let timed = RunOptions::default().with_node_times(&times);
    let got = session.run_with([("x", &input(SMALL, 2))], &timed).expect("runs");
    assert_eq!(values(&got), values(&want[1]), "timed");
    for copy in 0..there(&plan).copies.len() {
        let name = format!("copy {copy}");
        assert_eq!(times.events().iter().filter(|event| *event.name == *name).count(), 1, "{name}\n{plan}");
    }
    let got = session.run([("x", &input(SMALL, 1))]).expect("runs");
    assert_eq!(values(&got), values(&want[0]), "behind a timed run");

    let refused = |change: &dyn Fn(&mut Plan), what: &str| {
        let mut bad = plan.clone();
        change(&mut bad);
        let error = session.follow(&bad).err().unwrap_or_else(|| panic!("{what} is followed\n{bad}"));
        assert_eq!(error.kind(), ErrorKind::InvalidPlan, "{what}: {error:?}");
    };
    let at = there(&plan).brought.iter().position(|weights| weights.beside.is_some()).expect("one");
    let beside = there(&plan).brought[at].beside.expect("a step");
    let change =
        |bad: &mut Plan, to: usize| bad.device.as_mut().expect("there").brought[at].beside = Some(to);
    refused(&|bad| change(bad, 9999), "beside no step");
    refused(&|bad| change(bad, there(&plan).brought[at].step), "beside the step that it is for");
    let at_once = |bad: &mut Plan| {
        let brought = &mut bad.device.as_mut().expect("there").brought;
        let own = brought.iter_mut().find(|weights| weights.step == beside).expect("brought");
        own.apart = false;
    };
    refused(&at_once, "beside one without copies between its launches");
    let later = |bad: &mut Plan| {
        let copies = &there(&plan).copies;
        let space = Space::Weights(there(&plan).brought[at].step);
        let copy = Instruction::Copy(copies.iter().position(|copy| copy.space == space).expect("one"));
        for phase in &mut bad.phases {
            if let Phase::Apart { lists } = phase {
                for list in lists.iter_mut().filter(|list| list.contains(&copy)) {
                    list.retain(|instruction| *instruction != copy);
                    let run = list.iter().position(|i| *i == Instruction::Run(beside)).expect("in one list");
                    list.insert(run + 1, copy);
                }
            }
        }
    };
    refused(&later, "a copy behind the step that it goes on beside");
}

#[test]
fn weights_that_could_be_wrong_are_refused() {
    let engine = engine(2);
    let (session, profile, usual) = layers(&engine);
    let good = memory(&session, &profile, 2.0 * usual.predicted_us);
    let refused = |change: &dyn Fn(&mut PlannedDevice), what: &str| {
        let mut bad = good.clone();
        change(bad.device.as_mut().expect("there"));
        let error = session.follow(&bad).err().unwrap_or_else(|| panic!("{what} is followed\n{bad}"));
        assert_eq!(error.kind(), ErrorKind::InvalidPlan, "{what}: {error:?}");
    };
    refused(&|device| device.brought.truncate(1), "a copy for nobody");
    refused(&|device| device.brought[1] = device.brought[0].clone(), "one step twice");
    refused(&|device| device.brought[0].step = 9999, "no step");
    refused(&|device| device.brought[0].bytes += 4, "more than there is");
    refused(&|device| device.offsets.fill(0), "rooms that are in use at once");
    let first = |device: &mut PlannedDevice| {
        let of = device.copies.iter_mut().find(|copy| matches!(copy.space, Space::Weights(_)));
        of.expect("one").bytes -= 256;
    };
    refused(&first, "a part of them");
    session.follow(&good).expect("valid");
}
