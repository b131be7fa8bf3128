//! Plans under a limit of the GPU's memory that its faster kernels exceed by their workspace: a convolution by Winograd's
//! points, and a product whose sums are split among idle multiprocessors.

use crate::emulated_models::{drawn, weights};
use crate::mixed::{engine, profiled, sped_up};
use recurve::plans::Plan;
use recurve::settings::Placement;
use recurve::{Device, Engine, Error, Session, SessionBuilder, Tensor};
use recurve_tests::wire::{code, fixed, graph, model, node, untyped};

const IMAGE: [usize; 4] = [1, 96, 15, 16];
const ROWS: [usize; 2] = [64, 512];

/// A convolution that is Winograd's where memory allows it.
fn convolution() -> Vec<u8> {
    let nodes = [node("Conv", &["x", "w"], &["y"]).with_ints("pads", &[1, 1, 1, 1])];
    let constants = [weights("w", &[64, 96, 3, 3], 1)];
    let inputs = [fixed("x", code::F32, &IMAGE.map(|n| n as i64))];
    model(&graph(&inputs, &[untyped("y")], &nodes, &constants)).into_bytes()
}

/// A product of so few columns that their sums are split, where memory allows it.
fn product() -> Vec<u8> {
    let constants = [weights("w", &[512, 64], 1)];
    let inputs = [fixed("x", code::F32, &ROWS.map(|n| n as i64))];
    let nodes = [node("MatMul", &["x", "w"], &["y"])];
    model(&graph(&inputs, &[untyped("y")], &nodes, &constants)).into_bytes()
}

/// A session of `engine` that runs all on the GPU, with at most `limit` bytes.
fn on(engine: &Engine, limit: Option<usize>, model: &[u8]) -> Session {
    let builder =
        Session::builder().with_engine(engine).with_devices("cpu,emulated".parse().expect("devices"));
    let builder = builder.with_placements([Placement::new("*", Device::Emulated)]);
    let builder = limit.into_iter().fold(builder, SessionBuilder::with_gpu_memory_limit);
    builder.load_bytes(model.to_vec()).expect("loads")
}

#[test]
fn a_plan_that_fits_only_without_winograds_workspace_is_made_without_it() {
    fits_without_workspace(&convolution(), &IMAGE);
}

#[test]
fn a_plan_that_fits_only_without_partial_sums_is_made_without_them() {
    fits_without_workspace(&product(), &ROWS);
}

fn fits_without_workspace(model: &[u8], shape: &[usize]) {
    let engine = engine(2);
    let count = shape.iter().product();
    let x = Tensor::new(shape, drawn(3, count, 1.0)).expect("a tensor");
    let shapes = [("x", shape)];
    let there = |plan: &Plan| plan.device.clone().expect("a GPU");
    let free = on(&engine, None, model);
    let profile = sped_up(profiled(&free, &x));
    let usual = free.plan(shapes, &profile).expect("a plan").plan;
    assert!(!there(&usual).lean, "{usual}");
    let all = there(&usual).bytes();
    let roomy = on(&engine, Some(all), model).plan(shapes, &profile).expect("it fits").plan;
    assert!(!there(&roomy).lean, "{roomy}");

    let limited = on(&engine, Some(all - 1), model);
    let plan = limited.plan(shapes, &profile).expect("it fits without").plan;
    assert!(there(&plan).lean && there(&plan).bytes() < all, "{plan}");
    assert!(plan.predicted_us >= usual.predicted_us, "{plan}");
    assert!(plan.to_string().contains("little workspace"), "{plan}");
    let plan = Plan::from_json(&plan.to_json()).expect("the same");
    let mut answers = Vec::new();
    for (session, plan) in [(&free, &usual), (&limited, &plan)] {
        session.follow(plan).expect("valid");
        let y = session.run([("x", &x)]).expect("runs");
        answers.push(y.tensor("y").expect("a tensor").as_slice::<f32>().expect("floats").to_vec());
        let used = session.gpu_use().expect("on a GPU");
        assert_eq!(used.weights + used.activations, there(plan).bytes() as u64);
        // All that a run along it takes is what it said.
        let alone = self::engine(2);
        let session = on(&alone, None, model);
        session.follow(plan).expect("valid");
        session.run([("x", &x)]).expect("runs");
        assert_eq!(alone.gpu_memory_peak(Device::Emulated), there(plan).bytes());
    }
    for (a, b) in answers[0].iter().zip(&answers[1]) {
        assert!((a - b).abs() <= 1e-3 * (1.0 + a.abs()), "{a} and {b}");
    }
    // What was planned with little workspace has other offsets than what takes more.
    let mut other = plan.clone();
    other.device.as_mut().expect("a GPU").lean = false;
    assert!(free.follow(&other).is_err(), "{other}");

    let least = there(&plan).bytes() - 1;
    let nothing = on(&engine, Some(least), model).plan(shapes, &profile).expect_err("too little");
    assert!(matches!(nothing, Error::Plan { .. }), "{nothing:?}");
    // The engine's own limit counts, too.
    let small = Engine::builder().with_threads(2).with_gpu_memory_limit(all - 1).build().expect("an engine");
    let plan = on(&small, None, model).plan(shapes, &profile).expect("it fits without").plan;
    assert!(there(&plan).bytes() < all && there(&plan).lean, "{plan}");
}
