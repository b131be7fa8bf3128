//! Plans never change a result: those of the scheduler and random ones give the bits of the serial order, or, where a rewrite
//! makes products of other shapes, what rounds differently; plans that do not fit are refused.

use crate::branches::{ANY, Extents, MODELS, bidirectional, branches};
use recurve::plans::{Instruction, Phase, Plan, PlanError, PlanOptions, Timing};
use recurve::profiles::{Effort, Profile, ProfileCache, ProfileOptions};
use recurve::settings::{Mode, Pinning};
use recurve::testing::random_plan;
use recurve::{CancelToken, Engine, Error, ErrorKind, RunOptions, Session, Tensor};
use recurve_tests::wire::{code, fixed, graph, model, node, untyped};
use std::time::Duration;

pub(crate) const SMALL: Extents = Extents { time: 24, batch: 1, hidden: 16 };
/// Random plans per model; `RECURVE_RANDOM_PLANS` sets another number.
const RANDOM: u64 = 32;

pub(crate) fn quick() -> ProfileOptions {
    let effort = Effort { warm: 0, least: 1, most: 2, time: Duration::from_millis(1) };
    ProfileOptions::default().with_effort(effort)
}

pub(crate) fn engine(threads: usize) -> Engine {
    Engine::builder().with_threads(threads).with_pinning(Pinning::None).build().expect("an engine")
}

pub(crate) fn load(engine: &Engine, bytes: Vec<u8>) -> Session {
    Session::builder().with_engine(engine).load_bytes(bytes).expect("loads")
}

pub(crate) fn input(of: Extents, seed: usize) -> Tensor {
    let count: usize = of.sequence().iter().product();
    let data = (0..count).map(|i| ((i * 31 + seed * 7) % 23) as f32 / 23.0 - 0.5).collect();
    Tensor::new(&of.sequence(), data).expect("a tensor")
}

pub(crate) fn output(session: &Session, x: &Tensor) -> Vec<u32> {
    let outputs = session.run([("x", x)]).expect("runs");
    let y = outputs.tensor("y").expect("y").to_vec::<f32>().expect("floats");
    y.into_iter().map(f32::to_bits).collect()
}

/// Checks an output of a plan with this rewrite: halves and columns may take sums in another order.
#[track_caller]
pub(crate) fn agree(got: &[u32], want: &[u32], rewrite: &str, what: &str) {
    if !rewrite.contains("halves") && !rewrite.contains("columns") {
        assert_eq!(got, want, "{what}");
        return;
    }
    assert_eq!(got.len(), want.len(), "{what}");
    for (got, want) in got.iter().zip(want).map(|(a, b)| (f32::from_bits(*a), f32::from_bits(*b))) {
        assert!((got - want).abs() <= 1e-5 * (1.0 + want.abs()), "{what}: {got} instead of {want}");
    }
}

pub(crate) fn shapes(of: Extents) -> [(&'static str, [usize; 3]); 1] {
    [("x", of.sequence())]
}

pub(crate) fn profiled(session: &Session, x: &Tensor) -> Profile {
    session.profile([("x", x)], &quick()).expect("measured")
}

#[test]
fn scheduled_plans_give_the_serial_bits() {
    for (name, build) in MODELS {
        for batch in [1, 3] {
            let of = Extents { batch, ..SMALL };
            let (x, other) = (input(of, 1), input(of, 2));
            let serial = load(&engine(1), build(of));
            let (want, want_other) = (output(&serial, &x), output(&serial, &other));
            let session = load(&engine(2), build(of));
            let planning = session.plan(shapes(of), &profiled(&session, &x)).expect(name);
            session.follow(&planning.plan).expect(name);
            let rewrite = &planning.plan.rewrite;
            for _ in 0..3 {
                agree(&output(&session, &x), &want, rewrite, name);
                agree(&output(&session, &other), &want_other, rewrite, name);
            }
            let read = Plan::from_json(&planning.plan.to_json()).expect("its own document");
            assert_eq!(read, planning.plan);
        }
    }
}

#[test]
fn random_plans_give_the_serial_results() {
    let count = std::env::var("RECURVE_RANDOM_PLANS").ok().and_then(|n| n.parse().ok()).unwrap_or(RANDOM);
    let engines = [2, 3, 4].map(engine);
    let (mut halves, mut led) = (0, 0);
    for (name, build) in MODELS {
        // A batch of an odd number of rows has halves, one row has none.
        for batch in [1, 3] {
            let of = Extents { batch, ..SMALL };
            let x = input(of, 3);
            let want = output(&load(&engine(1), build(of)), &x);
            let mut parallel = 0;
            for engine in &engines {
                let session = load(engine, build(of));
                for seed in 0..count / engines.len() as u64 / batch as u64 {
                    let plan = random_plan(&session, shapes(of), seed).expect(name);
                    parallel += usize::from(plan.is_parallel());
                    assert!(batch > 1 || plan.rewrite != "batch halves", "{name}: one row in halves");
                    halves += usize::from(plan.rewrite == "batch halves");
                    led += usize::from(plan.to_string().contains("lead"));
                    session.follow(&plan).unwrap_or_else(|e| panic!("{name} {seed}: {e}\n{plan}"));
                    agree(&output(&session, &x), &want, &plan.rewrite, &format!("{name} {seed}\n{plan}"));
                }
            }
            assert!(parallel > 0, "no plan of {name} is parallel");
        }
    }
    assert!(halves > 0, "no plan has halves");
    assert!(led > 0, "no plan has steps that some of the threads share");
}

#[test]
fn steps_are_shared_by_some_of_the_threads_where_that_is_best() {
    let x = input(SMALL, 1);
    let four = engine(4);
    for count in [2, 6] {
        let name = format!("{count} branches");
        let want = output(&load(&engine(1), branches(SMALL, count)), &x);
        let session = load(&four, branches(SMALL, count));
        let mut profile = profiled(&session, &x);
        assert!(profile.operators.values().all(|o| o.lanes.contains_key("cpu:2")), "{name}: two of four");
        // Four threads on fewer cores hand over slowly.
        for m in profile.handover.values_mut().flat_map(|h| [&mut h.phase, &mut h.flag, &mut h.wake]) {
            (m.median_us, m.min_us, m.p90_us) = (1.0, 1.0, 1.0);
        }
        // Two threads make a recurrence twice as fast, and four no more than that.
        for (signature, cost) in &mut profile.operators {
            let recurrent = signature.starts_with("LSTM") || signature.starts_with("GRU");
            for (lane, m) in &mut cost.lanes {
                let us = match (recurrent, lane.as_str()) {
                    (true, "cpu:1") => 900.0,
                    (true, _) => 450.0,
                    (false, _) => 1.0,
                };
                (m.median_us, m.min_us, m.p90_us) = (us, us, us);
            }
        }
        let plan = session.plan(shapes(SMALL), &profile).expect(&name).plan;
        let shared = plan.steps.iter().filter(|step| ["cpu0-1", "cpu2-3"].contains(&&*step.place));
        let shared = shared.inspect(|step| assert_eq!(step.cost_us, 450.0, "{name}")).count();
        assert!(shared > 0, "{name}\n{plan}");
        assert!(plan.predicted_us < plan.together_us && plan.predicted_us < plan.alone_us, "{name}\n{plan}");
        session.follow(&plan).unwrap_or_else(|e| panic!("{name}: {e}\n{plan}"));
        for _ in 0..5 {
            agree(&output(&session, &x), &want, &plan.rewrite, &name);
        }
        let read = Plan::from_json(&plan.to_json()).expect("its own document");
        assert_eq!(read, plan);
    }
}

#[test]
fn pieces_of_a_sequence_give_the_serial_bits_whatever_its_length() {
    let engine_of_two = engine(2);
    let mut pieces = 0;
    // Rows are multiplied in groups of 32 at most: 33 leaves one. A matrix unit takes 128 and more of 64 terms.
    for (time, hidden) in
        [32, 33, 34, 65, 97].map(|time| (time, SMALL.hidden)).into_iter().chain([(256, 64), (310, 64)])
    {
        let of = Extents { time, hidden, ..SMALL };
        let x = input(of, 3);
        for (name, build) in MODELS {
            let want = output(&load(&engine(1), build(of)), &x);
            let session = load(&engine_of_two, build(of));
            for plan in (0..12).map(|seed| random_plan(&session, shapes(of), seed).expect(name)) {
                if plan.rewrite.contains("pieces") {
                    pieces += 1;
                    session.follow(&plan).expect(name);
                    assert_eq!(output(&session, &x), want, "{name}, {time} steps, {}", plan.rewrite);
                }
            }
        }
    }
    assert!(pieces > 40, "{pieces} plans have pieces");
}

#[test]
fn every_thread_may_follow_a_plan_at_once() {
    let of = SMALL;
    let shared = engine(2);
    let sessions: Vec<(Session, Vec<u32>)> = MODELS
        .iter()
        .map(|(name, build)| {
            let want = output(&load(&engine(1), build(of)), &input(of, 4));
            let session = load(&shared, build(of));
            session.follow(&random_plan(&session, shapes(of), 7).expect(name)).expect(name);
            (session, want)
        })
        .collect();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let sessions = &sessions;
            scope.spawn(move || {
                for round in 0..20 {
                    let (session, want) = &sessions[(thread + round) % sessions.len()];
                    assert_eq!(output(session, &input(of, 4)), *want);
                }
            });
        }
    });
}

#[test]
fn a_plan_that_could_give_a_wrong_result_is_refused() {
    let session = load(&engine(2), branches(SMALL, 4));
    let mut waits = 0;
    let refused = |plan: &Plan, what: &str| match session.follow(plan) {
        Err(error @ Error::Plan { .. }) => {
            assert_eq!(error.kind(), ErrorKind::InvalidPlan, "{what}");
        }
        other => panic!("{what}: {other:?}\n{plan}"),
    };
    for seed in 0..20 {
        let good = random_plan(&session, shapes(SMALL), seed).expect("a plan");
        session.follow(&good).expect("valid");
        for (p, phase) in good.phases.iter().enumerate() {
            let Phase::Apart { lists } = phase else { continue };
            for (w, list) in lists.iter().enumerate() {
                for i in 0..list.len() {
                    let mut bad = good.clone();
                    let Phase::Apart { lists } = &mut bad.phases[p] else { continue };
                    let removed = lists[w].remove(i);
                    waits += usize::from(matches!(removed, Instruction::Wait(_)));
                    // A flag that nobody waits for may go, a step or a wait may not.
                    refused(&bad, &format!("without {removed:?}"));
                }
            }
        }
        let mut bad = good.clone();
        bad.offsets.iter_mut().for_each(|offset| *offset = 0);
        refused(&bad, "all values in one place");
        bad.offsets = good.offsets.iter().map(|o| o + 8).collect();
        refused(&bad, "values that are not aligned");
        bad.offsets = vec![usize::MAX & !63; good.offsets.len()];
        refused(&bad, "values beyond all memory");
        bad.offsets.clear();
        refused(&bad, "no places");
        refused(&with(good.clone(), |p| p.phases.clear()), "no phases");
        refused(&with(good.clone(), |p| p.model = "0".to_owned()), "another model");
        refused(&with(good.clone(), |p| p.workers = 3), "another number of threads");
        refused(&with(good.clone(), |p| p.inputs.clear()), "no inputs");
        refused(&with(good.clone(), |p| p.inputs[0].dtype = "int8".to_owned()), "another type");
        refused(&with(good, |p| p.rewrite = "magic".to_owned()), "an unknown rewrite");
    }
    assert!(waits > 10, "{waits} waits were removed");
}

pub(crate) fn with(mut plan: Plan, change: impl FnOnce(&mut Plan)) -> Plan {
    change(&mut plan);
    plan
}

#[test]
fn mutated_documents_are_refused_or_harmless() {
    let of = SMALL;
    let x = input(of, 5);
    let want = output(&load(&engine(1), bidirectional(of)), &x);
    let session = load(&engine(2), bidirectional(of));
    let text = random_plan(&session, shapes(of), 1).expect("a plan").to_json();
    let digits: Vec<usize> = (0..text.len()).filter(|&i| text.as_bytes()[i].is_ascii_digit()).collect();
    let mut refused = 0;
    for (round, &at) in digits.iter().enumerate() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] = b'0' + ((bytes[at] - b'0') + 1 + (round % 8) as u8) % 10;
        let mutated = String::from_utf8(bytes).expect("digits");
        let followed = Plan::from_json(&mutated).map_err(Error::from).and_then(|plan| session.follow(&plan));
        match followed {
            Ok(()) => assert_eq!(output(&session, &x), want),
            Err(error) => {
                assert!(
                    matches!(error.kind(), ErrorKind::InvalidPlan | ErrorKind::InvalidInput),
                    "{error:?}"
                );
                refused += 1;
            }
        }
    }
    assert!(refused > 10, "{refused} of {} mutations are refused", digits.len());
    for cut in (0..text.len()).step_by(97) {
        assert!(matches!(Plan::from_json(&text[..cut]), Err(PlanError::Malformed { .. })));
    }
}

#[test]
fn what_depends_on_data_is_not_planned_and_runs() {
    let x = Tensor::new(&[4], vec![0f32, 1.0, 0.0, 2.0]).expect("a tensor");
    let nodes = [node("NonZero", &["x"], &["y"])];
    let bytes = model(&graph(&[fixed("x", code::F32, &[4])], &[untyped("y")], &nodes, &[])).into_bytes();
    let session = Session::builder()
        .with_engine(&engine(2))
        .with_mode(Mode::Latency)
        .with_profile_cache(ProfileCache::at(tempfile::tempdir().expect("a folder").path()))
        .load_bytes(bytes)
        .expect("loads");
    let outputs = session.run([("x", &x)]).expect("runs");
    assert_eq!(outputs.tensor("y").expect("y").as_slice::<i64>(), Some(&[1, 3][..]));
    let why = session.unplanned([("x", [4])]).expect("it was to be planned").to_string();
    assert!(why.contains("shapes that depend on data"), "{why}");
    assert!(session.unplanned([("x", [5])]).is_none(), "it did not run on that");
    let profile = session.profile([("x", &x)], &quick()).expect("measured");
    assert!(profile.devices.is_empty() && profile.links.is_empty());
    let error = session.plan([("x", [4])], &profile).expect_err("not planned");
    assert_eq!(error.kind(), ErrorKind::Unplannable);
}

#[test]
fn a_run_along_a_plan_can_be_cancelled_and_the_session_stays_usable() {
    let of = SMALL;
    let session = load(&engine(2), branches(of, 4));
    let x = input(of, 7);
    let want = output(&session, &x);
    session.follow(&random_plan(&session, shapes(of), 3).expect("a plan")).expect("valid");
    let token = CancelToken::new();
    token.cancel();
    for (options, kind) in [
        (RunOptions::default().with_cancel(&token), ErrorKind::Cancelled),
        (RunOptions::default().with_timeout(Duration::ZERO), ErrorKind::Deadline),
    ] {
        let ended = session.run_with([("x", &x)], &options);
        assert_eq!(ended.err().map(|e| e.kind()), Some(kind));
        assert_eq!(output(&session, &x), want);
    }
}

#[test]
fn an_estimate_stands_for_what_was_not_measured_and_says_so() {
    let session = load(&engine(2), branches(SMALL, 2));
    let measured = profiled(&session, &input(SMALL, 8));
    let longer = Extents { time: 48, ..SMALL };
    let session = load(&engine(2), branches(longer, 2));
    let planning = session.plan(shapes(longer), &measured).expect("estimated");
    assert!(planning.plan.steps.iter().any(|s| s.timing == recurve::plans::Timing::Estimated));
    let error = session.plan(shapes(longer), &Profile::empty()).expect_err("nothing to estimate from");
    assert!(matches!(error, Error::Plan { source: PlanError::Unmeasured { .. } }), "{error:?}");
}

#[test]
fn a_device_of_the_profile_is_part_of_the_instance() {
    let session = load(&engine(2), branches(SMALL, 2));
    let mut profile = profiled(&session, &input(SMALL, 9));
    let lanes = profile.operators.values_mut().map(|o| &mut o.lanes);
    lanes.for_each(|lanes| {
        let alone = lanes["cpu:1"];
        lanes.insert("cuda:0".to_owned(), alone);
    });
    let time = |us: f64| recurve::profiles::Measured { median_us: us, min_us: us, p90_us: us, runs: 5 };
    for (from, to) in [("host", "cuda:0"), ("cuda:0", "host")] {
        for (bytes, us) in [(1000, 11.0), (101_000, 21.0)] {
            let (from, to) = (from.to_owned(), to.to_owned());
            profile.links.push(recurve::profiles::LinkTime { from, to, bytes, time: time(us) });
        }
    }
    let planning = session.plan(shapes(SMALL), &profile).expect("planned");
    let instance: serde_json::Value = serde_json::from_str(&planning.instance).expect("a document");
    let named = |list: &str| -> Vec<String> {
        let all = instance[list].as_array().expect("a list").iter();
        all.map(|item| item["name"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(named("processors"), ["cpu0", "cpu1", "cpu*", "cuda:0"]);
    assert!(instance["tasks"].as_array().expect("tasks").iter().all(|t| {
        t["cost_us"]
            .as_array()
            .is_some_and(|costs| costs.len() == 4 && costs.iter().all(serde_json::Value::is_number))
    }));
    let links = instance["links"].as_array().expect("links");
    let up = links.iter().find(|l| l["to"] == "cuda:0").expect("a way to the device");
    let rounded = |key: &str| up[key].as_f64().expect("a number").round();
    assert_eq!((rounded("latency_us"), rounded("bytes_per_us")), (11.0, 10_000.0));
    // Nothing is placed there yet.
    assert!(planning.plan.steps.iter().all(|s| s.place.starts_with("cpu")));
}

#[test]
fn every_step_of_other_shapes_is_estimated_from_those_that_were_measured() {
    let any = Extents { time: ANY, ..SMALL };
    for (name, build) in MODELS.iter().filter(|(name, _)| name.contains("branches") || *name == "ensemble") {
        let session = load(&engine(2), build(any));
        let profile = profiled(&session, &input(SMALL, 1));
        let plan = session.plan([("x", [40, 1, SMALL.hidden])], &profile).expect(name).plan;
        assert!(plan.steps.iter().any(|step| step.timing == Timing::Estimated), "{name}\n{plan}");
    }
}

#[test]
fn what_the_model_takes_as_it_is_is_told_where_only_a_rewrite_meets_the_objective() {
    let session = load(&engine(2), bidirectional(SMALL));
    let mut profile = profiled(&session, &input(SMALL, 1));
    // Threads give nothing inside an operator, and half of one takes half.
    for cost in profile.operators.values_mut() {
        let us = 1.0 + cost.flops.unwrap_or(0.0) * 1e-2;
        cost.lanes.values_mut().for_each(|m| (m.median_us, m.min_us, m.p90_us) = (us, us, us));
    }
    for handover in profile.handover.values_mut() {
        let parts = [&mut handover.phase, &mut handover.flag, &mut handover.wake];
        parts.into_iter().for_each(|m| (m.median_us, m.min_us, m.p90_us) = (0.1, 0.1, 0.1));
    }
    let fastest = session.plan(shapes(SMALL), &profile).expect("a plan").plan;
    assert!(fastest.rewrite != "none" && fastest.predicted_us < 0.7 * fastest.alone_us, "{fastest}");
    let slo = Duration::from_secs_f64(fastest.predicted_us * 1.01 / 1e6);
    let options = PlanOptions::default().with_mode(Mode::Memory { slo });
    let light = session.plan_with(shapes(SMALL), &profile, options).expect("it is met").plan;
    assert_eq!(light.rewrite, fastest.rewrite);
    assert_eq!((light.together_us, light.alone_us), (fastest.together_us, fastest.alone_us));
}
