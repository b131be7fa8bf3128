//! Plans in which steps on a GPU are brought their weights in every run, through rooms that they share.

use crate::branches::{Extents, MODELS};
use crate::mixed::{engine, input, load, profiled, shapes, sped_up};
use crate::network::compare;
use recurve::plans::{Plan, PlanOptions, PlannedDevice};
use recurve::profiles::Profile;
use recurve::settings::Mode;
use recurve::times::Space;
use recurve::{Device, Engine, ErrorKind, Session};
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
