//! What is measured and planned is kept: shapes of one bucket are measured once, the plans that were used last are followed
//! without being made again, and what is kept by others or damaged is not relied on.

use crate::branches::{ANY, Extents, MODELS, bidirectional, branches};
use crate::planned::{SMALL, agree, engine, input, load, output, profiled, quick, shapes, with};
use recurve::profiles::ProfileCache;
use recurve::settings::{Mode, Pinning};
use recurve::testing::random_plan;
use recurve::{Engine, RunOptions, Session};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The rewrite of the plan that runs on these shapes follow, if they follow one.
fn rewrite_of(session: &Session, of: Extents) -> String {
    session.followed(shapes(of)).unwrap_or_default()
}

#[test]
fn latency_mode_measures_once_and_gives_the_serial_results() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = ProfileCache::at(folder.path().join("cache"));
    let of = SMALL;
    let x = input(of, 6);
    for (name, build) in MODELS {
        let want = output(&load(&engine(1), build(of)), &x);
        let session = Session::builder()
            .with_engine(&engine(2))
            .with_mode(Mode::Latency)
            .with_profile_cache(cache.clone())
            .load_bytes(build(of))
            .expect("loads");
        for _ in 0..3 {
            agree(&output(&session, &x), &want, &rewrite_of(&session, of), name);
        }
        // All of it is known now.
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        let options = quick().with_cache(cache.clone()).with_progress(move |_, _| {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let profile = session.profile([("x", &x)], &options).expect("known");
        assert_eq!(asked.load(Ordering::Relaxed), 0, "{name} was measured again");
        let kept = cache.load();
        assert!(!profile.operators.is_empty());
        assert!(
            profile.operators.iter().all(|(signature, cost)| kept.operators.get(signature) == Some(cost))
        );
    }
}

#[test]
fn sessions_of_an_engine_keep_what_they_measure_where_it_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = |name: &str| ProfileCache::at(folder.path().join(name));
    let engine = Engine::builder().with_threads(2).with_pinning(Pinning::None);
    let engine = engine.with_profile_cache(cache("shared")).build().expect("an engine");
    let load = |own: Option<ProfileCache>, model: Vec<u8>| {
        let builder = Session::builder().with_engine(&engine).with_mode(Mode::Latency);
        let builder = match own {
            Some(cache) => builder.with_profile_cache(cache),
            None => builder,
        };
        builder.load_bytes(model).expect("loads")
    };
    let known = |name: &str| cache(name).load().operators.len();
    output(&load(Some(cache("own")), branches(SMALL, 2)), &input(SMALL, 6));
    assert!(known("own") > 0 && known("shared") == 0);
    output(&load(None, branches(SMALL, 2)), &input(SMALL, 6));
    let first = known("shared");
    assert_eq!(first, known("own"));
    output(&load(None, bidirectional(SMALL)), &input(SMALL, 6));
    assert!(known("shared") > first, "what the engine's sessions know adds up");
}

#[test]
fn shapes_of_one_bucket_are_measured_once() {
    let any = Extents { time: ANY, ..SMALL };
    for (name, build) in
        MODELS.iter().filter(|(name, _)| name.contains("branches") || name.contains("layers"))
    {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = ProfileCache::at(folder.path());
        let serial = load(&engine(1), build(any));
        let session = Session::builder()
            .with_engine(&engine(2))
            .with_mode(Mode::Latency)
            .with_profile_cache(cache.clone())
            .load_bytes(build(any))
            .expect("loads");
        let signatures = |time: usize| {
            let of = Extents { time, ..SMALL };
            let x = input(of, time);
            for _ in 0..2 {
                let (got, want) = (output(&session, &x), output(&serial, &x));
                agree(&got, &want, &rewrite_of(&session, of), &format!("{name}, {time} steps"));
            }
            cache.load().operators.len()
        };
        let first = signatures(24);
        assert!(first > 0);
        assert_eq!(signatures(30), first, "{name}: 30 steps are like 24");
        assert_eq!(signatures(25), first, "{name}: 25 steps are like 24");
        assert!(signatures(33) > first, "{name}: 33 steps are measured");
    }
}

#[test]
fn the_plans_that_were_used_last_are_kept() {
    let session = load(&engine(2), branches(Extents { time: ANY, ..SMALL }, 2));
    let of = |time| [("x", [time, 1, SMALL.hidden])];
    let follow = |time| {
        session.follow(&random_plan(&session, of(time), 1).expect("a plan")).expect("valid");
    };
    (1..=8).for_each(follow);
    session.run([("x", &input(Extents { time: 1, ..SMALL }, 1))]).expect("runs");
    follow(9);
    assert!(session.followed(of(1)).is_some(), "it was used after the others");
    assert!(session.followed(of(2)).is_none(), "it is the one that was used longest ago");
    assert!(session.followed(of(3)).is_some() && session.followed(of(9)).is_some());
}

#[test]
fn a_kept_plan_is_followed_without_measuring_and_a_damaged_one_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = ProfileCache::at(folder.path());
    let latency = || {
        let builder = Session::builder().with_engine(&engine(2)).with_mode(Mode::Latency);
        builder.with_profile_cache(cache.clone()).load_bytes(branches(SMALL, 4)).expect("loads")
    };
    let x = input(SMALL, 10);
    let want = output(&load(&engine(1), branches(SMALL, 4)), &x);
    let plain = load(&engine(2), branches(SMALL, 4));
    // No scheduler would make this plan, so that following it tells that it was read.
    let strange = (0..).find_map(|seed| {
        let plan = random_plan(&plain, shapes(SMALL), seed).expect("a plan");
        // What both threads share is told of the one that leads.
        let apart = plan.is_parallel() && !plan.to_string().contains("lead");
        (apart && plan.rewrite == "none").then_some(plan)
    });
    let strange = with(strange.expect("one"), |p| p.profile = cache.load().hash());
    std::fs::write(cache.plan_file(&strange), strange.to_json()).expect("written");
    let events = |session: &Session| {
        let times = recurve::times::NodeTimes::with_events();
        let options = RunOptions::default().with_node_times(&times);
        session.run_with([("x", &x)], &options).expect("runs");
        times.events()
    };
    let session = latency();
    assert_eq!(output(&session, &x), want);
    let ran = events(&session);
    assert_eq!(ran.len(), strange.steps.len());
    assert!(ran.iter().any(|e| e.worker == Some(1)), "it runs along the plan: {ran:?}");
    assert!(!cache.file().exists(), "nothing was measured");

    let anew = Session::builder().with_engine(&engine(2)).with_mode(Mode::Latency).with_profile_refresh();
    let anew = anew.with_profile_cache(cache.clone()).load_bytes(branches(SMALL, 4)).expect("loads");
    agree(&output(&anew, &x), &want, &rewrite_of(&anew, SMALL), "measured anew");
    assert!(cache.file().exists(), "it was measured although a plan was kept");
    std::fs::remove_file(cache.file()).expect("removed");

    for text in
        ["", "{}", &strange.to_json()[..200], &strange.to_json().replace("\"workers\": 2", "\"workers\": 3")]
    {
        std::fs::write(cache.plan_file(&strange), text).expect("written");
        let session = latency();
        agree(&output(&session, &x), &want, &rewrite_of(&session, SMALL), "a damaged plan");
    }
    assert!(cache.file().exists(), "it was measured anew");
}

#[test]
fn of_a_model_whose_shapes_change_a_rewrite_stays_packed_though_no_plan_takes_it() {
    let of = Extents { time: 48, batch: 1, hidden: 64 };
    // Both directions' matrices of inputs and of states; one by itself packs them anew, as pieces of a sequence do not.
    let weights = 2 * 2 * 64 * 256 * 4;
    for (declared, stays) in [(of, false), (Extents { time: ANY, ..of }, true)] {
        let engine = engine(2);
        let session = load(&engine, bidirectional(declared));
        let mut profile = profiled(&session, &input(of, 1));
        // Nothing gains by being taken apart.
        for (lane, m) in profile.operators.values_mut().flat_map(|cost| &mut cost.lanes) {
            let us = if lane == "cpu:1" { 100.0 } else { 1.0 };
            (m.median_us, m.min_us, m.p90_us) = (us, us, us);
        }
        let before = engine.memory_used();
        let plan = session.plan(shapes(of), &profile).expect("a plan").plan;
        assert_eq!(plan.rewrite, "none", "{plan}");
        let more = engine.memory_used() - before;
        assert_eq!(more > weights / 4, stays, "{more} bytes more, {declared:?}");
    }
}
