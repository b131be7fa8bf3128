//! Plans over threads and the emulated GPU at once: placement never changes a result beyond what the kernels differ by, and
//! what cannot be followed is refused.

use crate::branches::{Extents, MODELS};
use crate::network::{compare, random_plans};
use recurve::plans::{FrontPoint, Instruction, Phase, Plan, PlanError, PlanOptions, PlannedDevice, Timing};
use recurve::profiles::{DeviceSource, Effort, Measured, Profile, ProfileCache, ProfileOptions};
use recurve::settings::{Mode, Pinning, Placement};
use recurve::testing::random_plan;
use recurve::times::{NodeTimes, RunLane, Space};
use recurve::{Device, Engine, Error, ErrorKind, RunOptions, Session, SessionBuilder, Tensor};
use std::time::Duration;

pub(crate) const SMALL: Extents = Extents { time: 6, batch: 1, hidden: 16 };
/// Random placements per model; `RECURVE_RANDOM_PLANS` sets another number.
const RANDOM: u64 = 32;

pub(crate) fn engine(threads: usize) -> Engine {
    Engine::builder().with_threads(threads).with_pinning(Pinning::None).build().expect("an engine")
}

/// With the emulated GPU among the devices of its plans.
pub(crate) fn load(engine: &Engine, bytes: Vec<u8>) -> Session {
    let devices = "cpu,emulated".parse().expect("devices");
    Session::builder().with_engine(engine).with_devices(devices).load_bytes(bytes).expect("loads")
}

pub(crate) fn input(of: Extents, seed: usize) -> Tensor {
    let count: usize = of.sequence().iter().product();
    let data = (0..count).map(|i| ((i * 31 + seed * 7) % 23) as f32 / 23.0 - 0.5).collect();
    Tensor::new(&of.sequence(), data).expect("a tensor")
}

pub(crate) fn shapes(of: Extents) -> [(&'static str, [usize; 3]); 1] {
    [("x", of.sequence())]
}

#[test]
fn random_placements_give_the_cpus_answers() {
    let engines = [engine(1), engine(2), engine(3)];
    for (name, build) in MODELS {
        let inputs = [input(SMALL, 1), input(SMALL, 2)];
        let serial = Session::builder().with_engine(&engine(1)).load_bytes(build(SMALL)).expect("loads");
        let want = [0, 1].map(|at| serial.run([("x", &inputs[at])]).expect("runs"));
        let (mut copied, mut both, mut gangs, mut streams) = (0, 0, 0, 0);
        let (mut brought, mut in_turns) = (0, 0);
        for (at, engine) in engines.iter().enumerate() {
            let session = load(engine, build(SMALL));
            for seed in (0..random_plans(RANDOM)).filter(|seed| *seed as usize % engines.len() == at) {
                let plan = random_plan(&session, shapes(SMALL), seed).expect(name);
                session.follow(&plan).unwrap_or_else(|e| panic!("{name}, seed {seed}: {e:?}\n{plan}"));
                let device = plan.device.as_ref().expect("a device");
                copied += device.copies.len();
                brought += device.brought.len();
                in_turns += device.brought.iter().filter(|weights| weights.apart).count();
                streams += usize::from(device.streams.iter().any(|stream| *stream != device.streams[0]));
                let together = |phase: &&Phase| matches!(phase, Phase::Together { .. });
                gangs += plan.phases.iter().filter(together).count();
                both += usize::from(!device.steps.is_empty() && device.steps.len() < plan.steps.len());
                for (x, want) in inputs.iter().zip(&want) {
                    let title = format!("{name}, seed {seed}\n{plan}");
                    let got = session.run([("x", x)]).unwrap_or_else(|e| panic!("{title}: {e:?}"));
                    compare(&title, &["y"], want, &got);
                }
            }
        }
        let all = [copied, both, gangs, streams, brought, in_turns];
        assert!(all.iter().all(|count| *count > 0), "{name}: {all:?}");
    }
}

#[test]
fn pieces_of_a_recurrence_share_its_weights_on_the_gpu() {
    let of = Extents { time: 24, ..SMALL };
    let session = load(&engine(2), (MODELS[1].1)(of));
    let x = input(of, 1);
    let (mut whole, mut pieces) = (0, 0);
    for seed in 0..80 {
        let plan = random_plan(&session, shapes(of), seed).expect("a plan");
        if plan.device.as_ref().is_some_and(|device| !device.brought.is_empty()) {
            // What is brought does not stay.
            continue;
        }
        let most = if plan.rewrite == "none" { &mut whole } else { &mut pieces };
        session.follow(&plan).expect("valid");
        session.run([("x", &x)]).expect("runs");
        *most = session.gpu_use().map_or(0, |used| used.weights).max(*most);
    }
    // Tables that each kernel has beside its weights are as large as those, for so small a model; four pieces with weights
    // of their own would take four times as much.
    assert!(pieces > 0 && pieces <= 2 * whole, "{pieces} bytes instead of {whole}");
}

/// Every plan that differs from a valid one in one place that matters.
#[test]
fn a_placement_that_could_give_a_wrong_result_is_refused() {
    let session = load(&engine(2), (MODELS[2].1)(SMALL));
    let refused = |plan: &Plan, what: &str| {
        let error = session.follow(plan).err().unwrap_or_else(|| panic!("{what} is followed\n{plan}"));
        assert_eq!(error.kind(), recurve::ErrorKind::InvalidPlan, "{what}: {error:?}");
    };
    let mut waits = 0;
    for seed in 0..12 {
        let good = random_plan(&session, shapes(SMALL), seed).expect("a plan");
        session.follow(&good).expect("valid");
        let device = good.device.clone().expect("a device");
        for at in 0..device.copies.len() {
            let mut bad = good.clone();
            bad.device.as_mut().expect("there").copies.remove(at);
            refused(&bad, "a copy less");
            let mut bad = good.clone();
            bad.device.as_mut().expect("there").copies[at].first += 4;
            refused(&bad, "another part");
            let mut bad = good.clone();
            bad.device.as_mut().expect("there").copies[at].space = Space::Tenant(9999);
            refused(&bad, "a value that is none");
        }
        let mut bad = good.clone();
        bad.device.as_mut().expect("there").steps.push(9999);
        refused(&bad, "a step that is none");
        if device.steps.len() < good.steps.len() {
            let absent = (0..good.steps.len()).find(|step| !device.steps.contains(step)).expect("one");
            let mut bad = good.clone();
            bad.device.as_mut().expect("there").steps.push(absent);
            let refusal = session.follow(&bad);
            assert!(refusal.is_err(), "a step that was not there");
        }
        for (phase, content) in good.phases.iter().enumerate() {
            let Phase::Apart { lists } = content else { continue };
            for (worker, list) in lists.iter().enumerate() {
                for (at, instruction) in list.iter().enumerate() {
                    if !matches!(instruction, Instruction::Wait(_) | Instruction::Copy(_)) {
                        continue;
                    }
                    let mut bad = good.clone();
                    let Phase::Apart { lists } = &mut bad.phases[phase] else { continue };
                    lists[worker].remove(at);
                    refused(&bad, "an instruction less");
                    waits += 1;
                }
            }
        }
        // Two rooms that are alive at once, at one place.
        if device.offsets.len() > 1 {
            let mut bad = good.clone();
            bad.device.as_mut().expect("there").offsets.fill(0);
            let fits = session.follow(&bad).is_ok();
            assert!(
                !fits || device.arena_bytes == device.offsets.iter().copied().max().unwrap_or(0),
                "{good}"
            );
        }
    }
    assert!(waits > 20, "{waits}");
}

/// A profile of the CPU and the emulated GPU.
pub(crate) fn profiled(session: &Session, x: &Tensor) -> Profile {
    let effort = Effort { warm: 0, least: 1, most: 2, time: Duration::from_millis(1) };
    let options = ProfileOptions::default().with_effort(effort);
    session.profile([("x", x)], &options).expect("measured")
}

/// `profile` with times by which the emulated GPU is worth using, whatever was measured: a hundredth of the CPU's.
pub(crate) fn sped_up(mut profile: Profile) -> Profile {
    let set = |m: &mut Measured, to: f64| {
        for us in [&mut m.median_us, &mut m.min_us, &mut m.p90_us] {
            *us = to;
        }
    };
    for cost in profile.operators.values_mut() {
        cost.lanes.iter_mut().for_each(|(lane, m)| set(m, if lane == "emulated" { 1.0 } else { 100.0 }));
    }
    for handover in profile.handover.values_mut() {
        [&mut handover.phase, &mut handover.flag, &mut handover.wake].into_iter().for_each(|m| set(m, 0.1));
    }
    profile.links.iter_mut().for_each(|link| set(&mut link.time, 0.1 + link.bytes as f64 * 1e-6));
    for device in profile.devices.values_mut() {
        let parts = [&mut device.kernel, &mut device.graph_node, &mut device.round_trip];
        parts.into_iter().flatten().for_each(|m| set(m, 0.1));
    }
    profile
}

#[test]
fn a_profile_has_the_emulated_gpu_and_says_so() {
    let session = load(&engine(2), (MODELS[0].1)(SMALL));
    let profile = profiled(&session, &input(SMALL, 1));
    let device = &profile.devices["emulated"];
    assert_eq!(device.source, DeviceSource::Emulated);
    assert!(device.kernel.is_some() && device.graph_node.is_some() && device.round_trip.is_some());
    assert!(device.rates.is_none(), "a rate that was never measured is absent");
    for (from, to) in [("host", "emulated"), ("emulated", "host")] {
        assert!(profile.links.iter().filter(|l| l.from == from && l.to == to).count() >= 2);
    }
    let there = |kind: &str| {
        let mut of_kind = profile.operators.iter().filter(|(signature, _)| signature.starts_with(kind));
        of_kind.any(|(_, cost)| cost.lanes.contains_key("emulated"))
    };
    assert!(there("LSTM"), "{:?}", profile.operators.keys().collect::<Vec<_>>());
    // To launch nothing takes a microsecond or two.
    let ran = profile.operators.iter().filter(|(signature, _)| signature.starts_with("LSTM"));
    for (signature, cost) in ran {
        let least = cost.lanes.get("emulated").map(|m| m.min_us);
        assert!(least.is_none_or(|us| us > 20.0), "{signature}: {least:?}: nothing ran");
    }
    assert_eq!(Profile::from_json(&profile.to_json()).expect("its own document"), profile);
    let mut bad = profile.clone();
    bad.devices.get_mut("emulated").expect("there").multiprocessors = 0;
    assert!(Profile::from_json(&bad.to_json()).is_err());
    let alone = ProfileOptions::default().with_cpu_alone();
    let alone = session.profile([("x", &input(SMALL, 1))], &alone).expect("measured");
    assert!(alone.devices.is_empty() && alone.links.is_empty());
}

#[test]
fn scheduled_plans_use_both_keep_objectives_and_give_the_cpus_answers() {
    let x = input(SMALL, 1);
    for (name, build) in MODELS {
        let serial = Session::builder().with_engine(&engine(1)).load_bytes(build(SMALL)).expect("loads");
        let want = serial.run([("x", &x)]).expect("runs");
        let session = load(&engine(2), build(SMALL));
        let profile = sped_up(profiled(&session, &x));
        let plan = |options| session.plan_with(shapes(SMALL), &profile, options);
        let follow = |plan: &Plan| {
            session.follow(plan).unwrap_or_else(|e| panic!("{name}: {e:?}\n{plan}"));
            compare(name, &["y"], &want, &session.run([("x", &x)]).expect("runs"));
        };
        let fastest = plan(PlanOptions::default().with_front()).expect(name);
        follow(&fastest.plan);
        let front = &fastest.front;
        let falls = |p: &[recurve::plans::FrontPoint]| {
            p[0].device_bytes < p[1].device_bytes && p[0].predicted_us > p[1].predicted_us
        };
        assert!(!front.is_empty() && front.windows(2).all(falls), "{name}: {front:?}");
        assert_eq!(front[0].device_bytes, 0, "{name}: the CPU alone takes none");
        let alone_us = fastest.plan.device_us.expect("there is a device");
        assert!(
            fastest.plan.predicted_us <= alone_us && fastest.plan.predicted_us <= fastest.plan.together_us
        );
        let timings = fastest.plan.steps.iter().filter(|step| step.place == "emulated");
        assert!(timings.clone().count() > 0, "{name}: {}", fastest.plan);
        assert!(timings.clone().all(|s| matches!(s.timing, Timing::Emulated | Timing::Estimated)));

        let bytes = |plan: &Plan| plan.device.as_ref().map_or(0, PlannedDevice::bytes);
        let mut last = usize::MAX;
        for times in [1.0, 1.5, 3.0, 1000.0] {
            let slo = Duration::from_secs_f64(fastest.plan.predicted_us * times * 1.001 / 1e6);
            let options = PlanOptions::default().with_mode(Mode::Memory { slo });
            let light = plan(options).unwrap_or_else(|e| panic!("{name}, {times}: {e:?}")).plan;
            assert!(light.predicted_us <= slo.as_secs_f64() * 1e6, "{name}, {times}\n{light}");
            assert!(bytes(&light) <= last.min(bytes(&fastest.plan)), "{name}, {times}");
            last = bytes(&light);
            if light.device.is_some() || light.workers == 2 {
                follow(&light);
            }
        }
        assert_eq!(last, 0, "{name}: with time enough nothing is on the GPU");

        let slo = Duration::from_nanos(1);
        let impossible = plan(PlanOptions::default().with_mode(Mode::Memory { slo })).expect_err("too short");
        assert_eq!(impossible.kind(), ErrorKind::Unplannable);
        let Error::Plan { source: PlanError::Slo { best_us, .. } } = impossible else {
            panic!("{impossible:?}")
        };
        assert!(best_us > 0.0 && best_us <= alone_us, "{name}: the best that can be had is told");
    }
}

#[test]
fn a_step_that_all_threads_share_stands_beside_those_of_the_gpu() {
    let x = input(SMALL, 1);
    for (name, build) in MODELS {
        let session = load(&engine(2), build(SMALL));
        let mut profile = sped_up(profiled(&session, &x));
        // Recurrences are best on both threads, and what stands between them on the GPU.
        let recurrent = |signature: &str| signature.starts_with("LSTM") || signature.starts_with("GRU");
        for (signature, cost) in &mut profile.operators {
            for (lane, m) in &mut cost.lanes {
                let us = match (recurrent(signature), lane.as_str()) {
                    (true, "cpu:2") => 5.0,
                    (true, _) => 900.0,
                    (false, "emulated") => 1.0,
                    (false, _) => 500.0,
                };
                (m.median_us, m.min_us, m.p90_us) = (us, us, us);
            }
        }
        let plan = session.plan(shapes(SMALL), &profile).expect(name).plan;
        let on = |place: &str| plan.steps.iter().filter(|step| step.place == place).count();
        assert!(on("cpu*") > 0 && on("emulated") > 0, "{name}\n{plan}");
        let serial = Session::builder().with_engine(&engine(1)).load_bytes(build(SMALL)).expect("loads");
        session.follow(&plan).expect("valid");
        for _ in 0..2 {
            let [want, got] = [&serial, &session].map(|session| session.run([("x", &x)]).expect("runs"));
            compare(name, &["y"], &want, &got);
        }
        // What is planned is what is taken, or a limit that a plan keeps would be exceeded by its run.
        let (told, used) = (plan.device.as_ref(), session.gpu_use().expect("on the GPU"));
        assert_eq!(told.map_or(0, PlannedDevice::bytes) as u64, used.weights + used.activations, "{name}");
    }
}

#[test]
fn limits_and_placements_are_kept_or_refused() {
    let x = input(SMALL, 1);
    let bytes = (MODELS[2].1)(SMALL);
    let builder = |engine: &Engine| {
        Session::builder().with_engine(engine).with_devices("cpu,emulated".parse().expect("devices"))
    };
    let engine = engine(2);
    let free = builder(&engine).load_bytes(bytes.clone()).expect("loads");
    let profile = sped_up(profiled(&free, &x));
    let all = free.plan(shapes(SMALL), &profile).expect("a plan").plan;
    let bytes_of = |plan: &Plan| plan.device.as_ref().map_or(0, PlannedDevice::bytes);
    let limit = bytes_of(&all) / 2;
    let limited = builder(&engine).with_gpu_memory_limit(limit).load_bytes(bytes.clone()).expect("loads");
    let half = limited.plan(shapes(SMALL), &profile).expect("a plan").plan;
    assert!(bytes_of(&half) <= limit && half.predicted_us >= all.predicted_us, "{half}");

    let on_cpu = all.steps.iter().find(|step| step.place == "emulated").expect("one").name.clone();
    let placed = |pattern: &str, device| {
        let session = builder(&engine).with_placements([Placement::new(pattern, device)]);
        session.load_bytes(bytes.clone()).expect("loads").plan(shapes(SMALL), &profile).map(|p| p.plan)
    };
    let kept = placed(&on_cpu, Device::Cpu).expect("a plan");
    let step = kept.steps.iter().find(|step| step.name == on_cpu);
    assert!(step.is_none_or(|step| step.place.starts_with("cpu")), "{kept}");
    let nothing = placed("*", Device::Cpu).expect("a plan");
    assert!(nothing.device.is_none(), "{nothing}");
    for (pattern, device) in [("no such node", Device::Cpu), ("*", Device::Cuda(3))] {
        let error = placed(pattern, device).expect_err("refused");
        assert!(matches!(error, Error::Plan { source: PlanError::Unplaceable { .. } }), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    // A plan that came from elsewhere is held to both.
    let follow = |builder: SessionBuilder, plan: &Plan| {
        builder.load_bytes(bytes.clone()).expect("loads").follow(plan).map_err(|error| error.kind())
    };
    let tight = builder(&engine).with_gpu_memory_limit(bytes_of(&all) - 1);
    assert_eq!(follow(tight, &all), Err(ErrorKind::InvalidPlan));
    assert_eq!(follow(builder(&engine).with_gpu_memory_limit(bytes_of(&all)), &all), Ok(()));
    let apart = builder(&engine).with_placements([Placement::new(on_cpu.as_str(), Device::Cpu)]);
    assert_eq!(follow(apart, &all), Err(ErrorKind::Unplannable));
    assert_eq!(follow(builder(&self::engine(3)), &all), Err(ErrorKind::InvalidPlan), "other threads");
    // What a limit finds is part of the curve.
    let options = PlanOptions::default().with_front();
    let front = free.plan_with(shapes(SMALL), &profile, options).expect("a plan").front;
    let beaten = |p: &FrontPoint| p.device_bytes <= limit && p.predicted_us <= half.predicted_us * 1.001;
    assert!(front.iter().any(beaten), "{front:?} {}", half.predicted_us);
    let unlimited =
        Session::builder().with_engine(&engine).with_gpu_memory_limit(1).load_bytes(bytes.clone());
    assert!(matches!(unlimited, Err(Error::Setting { name: "gpu-memory-limit", .. })));
    let unknown = free.plan(shapes(SMALL), &Profile::empty()).expect_err("nothing is known");
    assert_eq!(unknown.kind(), ErrorKind::Unplannable, "{unknown:?}");
}

#[test]
fn a_node_that_fusion_took_in_is_placed_with_what_it_is_part_of() {
    let x = input(SMALL, 1);
    let engine = engine(2);
    let mut swallowed = 0;
    for (name, build) in MODELS {
        let free = load(&engine, build(SMALL));
        let profile = sped_up(profiled(&free, &x));
        for node in free.nodes(shapes(SMALL)).expect("known shapes") {
            for member in node.members.iter().filter(|member| member.name != node.name) {
                for device in [Device::Cpu, Device::Emulated] {
                    let devices = "cpu,emulated".parse().expect("devices");
                    let builder = Session::builder().with_engine(&engine).with_devices(devices);
                    let builder = builder.with_placements([Placement::new(&*member.name, device)]);
                    let session = builder.load_bytes(build(SMALL)).expect("loads");
                    let plan = session.plan(shapes(SMALL), &profile).expect(name).plan;
                    let step = plan.steps.iter().find(|step| step.name == *node.name).expect("it runs");
                    assert_eq!(step.place == "emulated", device == Device::Emulated, "{name}\n{plan}");
                    swallowed += 1;
                }
            }
        }
    }
    assert!(swallowed > 3, "{swallowed}");
}

#[test]
fn a_placement_on_the_gpu_is_kept_though_the_cpu_takes_less_time() {
    let x = input(SMALL, 1);
    let (engine, build) = (engine(2), MODELS[2].1);
    let free = load(&engine, build(SMALL));
    let folder = tempfile::tempdir().expect("a folder");
    let cache = ProfileCache::at(folder.path());
    // The emulated GPU is slow, as it is in truth.
    cache.store(&profiled(&free, &x)).expect("kept");
    let named = |session: &Session| session.nodes(shapes(SMALL)).expect("known").into_iter().map(|n| n.name);
    let wanted =
        named(&free).find(|name| name.contains("LSTM")).or_else(|| named(&free).next()).expect("one");
    let devices = "cpu,emulated".parse().expect("devices");
    let builder = Session::builder().with_engine(&engine).with_devices(devices).with_mode(Mode::Latency);
    let builder = builder.with_placements([Placement::new(&*wanted, Device::Emulated)]);
    let session = builder.with_profile_cache(cache).load_bytes(build(SMALL)).expect("loads");
    let times = NodeTimes::with_events();
    let want = free.run([("x", &x)]).expect("runs");
    assert!(session.gpu_use().is_none(), "nothing is placed yet");
    let got = session.run([("x", &x)]).expect("runs");
    compare("placed", &["y"], &want, &got);
    session.run_with([("x", &x)], &RunOptions::default().with_node_times(&times)).expect("runs");
    assert!(session.followed(shapes(SMALL)).is_some(), "{:?}", session.unplanned(shapes(SMALL)));
    let there = |lane| times.events().iter().filter(|event| event.lane == lane).count();
    assert!(times.events().iter().any(|event| event.lane == RunLane::Device && *event.name == *wanted));
    assert!(there(RunLane::ToDevice) > 0 && there(RunLane::FromDevice) > 0);
    let taken = session.gpu_use().expect("a part of it is on the GPU");
    assert!(
        taken.weights > 0 && taken.activations > 0 && taken.pinned > 0 && taken.launches > 0,
        "{taken:?}"
    );
}

#[test]
fn no_plan_takes_less_than_its_bound() {
    let engine = engine(2);
    for (name, build) in MODELS {
        let session = load(&engine, build(SMALL));
        let mut profile = profiled(&session, &input(SMALL, 1));
        // Who launches hands nothing over, however long that takes.
        for handover in profile.handover.values_mut() {
            for m in [&mut handover.phase, &mut handover.flag, &mut handover.wake] {
                (m.median_us, m.min_us, m.p90_us) = (1e4, 1e4, 1e4);
            }
        }
        let devices = "cpu,emulated".parse().expect("devices");
        let builder = Session::builder().with_engine(&engine).with_devices(devices);
        let builder = builder.with_placements([Placement::new("*", Device::Emulated)]);
        let there = builder.load_bytes(build(SMALL)).expect("loads");
        for session in [session, there] {
            let plan = session.plan(shapes(SMALL), &profile).expect("a plan").plan;
            assert!(plan.bound_us <= plan.predicted_us, "{name}: {}\n{plan}", plan.bound_us);
        }
    }
}

#[test]
fn modes_measure_plan_and_run() {
    let x = input(SMALL, 1);
    let folder = tempfile::tempdir().expect("a folder");
    let cache = ProfileCache::at(folder.path());
    let build = MODELS[2].1;
    let serial = Session::builder().with_engine(&engine(1)).load_bytes(build(SMALL)).expect("loads");
    let want = serial.run([("x", &x)]).expect("runs");
    let session = |mode| {
        let devices = "cpu,emulated".parse().expect("devices");
        let builder = Session::builder().with_engine(&engine(2)).with_devices(devices).with_mode(mode);
        builder.with_profile_cache(cache.clone()).load_bytes(build(SMALL)).expect("loads")
    };
    for mode in [Mode::Latency, Mode::Memory { slo: Duration::from_secs(5) }] {
        let session = session(mode);
        for _ in 0..2 {
            compare(&format!("{mode:?}"), &["y"], &want, &session.run([("x", &x)]).expect("runs"));
        }
    }
    assert!(cache.load().devices.contains_key("emulated"), "what was measured is kept");
    let impossible = session(Mode::Memory { slo: Duration::from_nanos(1) });
    let error = impossible.run([("x", &x)]).expect_err("too short");
    assert!(matches!(error, Error::Plan { source: PlanError::Slo { .. } }), "{error:?}");
}
