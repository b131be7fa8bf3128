//! Random numbers on the emulated GPU: those of the CPU, run after run.

use half::f16;
use recurve::settings::Pinning;
use recurve::testing::random_plan;
use recurve::{Device, Engine, ErrorKind, Outputs, Session, SessionBuilder, Tensor};
use recurve_tests::wire::{Message, code, fixed, floats, graph, ints, model, node, tensor, untyped};

fn builder() -> SessionBuilder {
    let engine = Engine::builder().with_threads(1).with_pinning(Pinning::None).build().expect("an engine");
    Session::builder().with_engine(&engine)
}

fn load(builder: SessionBuilder, bytes: &[u8]) -> Session {
    builder.load_bytes(bytes.to_vec()).expect("loads")
}

/// Input `x` through these nodes, whose outputs are the model's.
fn made(nodes: &[Message], outputs: &[&str], constants: &[Message]) -> Vec<u8> {
    let outputs: Vec<Message> = outputs.iter().map(|name| untyped(name)).collect();
    model(&graph(&[fixed("x", code::F32, &[3, 5, 7])], &outputs, nodes, constants)).into_bytes()
}

fn given() -> Tensor {
    Tensor::new(&[3, 5, 7], (0..105).map(|i| i as f32 / 105.0).collect()).expect("a tensor")
}

fn bytes(outputs: &Outputs, name: &str) -> Vec<u8> {
    outputs.tensor(name).expect("an output").bytes().to_vec()
}

#[test]
fn numbers_on_a_gpu_are_those_of_the_cpu() {
    let seed = |node: Message, seed: f32| node.with_float("seed", seed);
    let nodes = [
        seed(node("RandomUniformLike", &["x"], &["uniform"]), 1.5).with_float("low", -2.0),
        seed(node("RandomUniform", &[], &["wide"]), 2.5)
            .with_ints("shape", &[40])
            .with_int("dtype", code::F64),
        seed(node("RandomNormalLike", &["x"], &["normal"]), 1.5).with_float("mean", 3.0),
        seed(node("RandomNormal", &[], &["half"]), 4.0)
            .with_ints("shape", &[2, 9])
            .with_int("dtype", code::F16),
        seed(node("Bernoulli", &["x"], &["hits"]), 5.0),
        seed(node("Bernoulli", &["x"], &["truths"]), 5.0).with_int("dtype", code::BOOL),
        seed(node("RandomUniform", &[], &["none"]), 1.0).with_ints("shape", &[0, 3]),
        node("Dropout", &["x", "ratio", "train"], &["kept", "mask"]).with_int("seed", 6),
        node("Dropout", &["x", "", "train"], &["", "halved"]).with_int("seed", 7),
        node("Dropout", &["x", "ratio", "idle"], &["same", "all"]).with_int("seed", 8),
    ];
    let constants = [
        floats("ratio", &[], &[0.3]),
        tensor("train", code::BOOL, &[], &[1]),
        tensor("idle", code::BOOL, &[], &[0]),
    ];
    let exact = ["uniform", "wide", "hits", "truths", "none", "kept", "mask", "halved", "same", "all"];
    let outputs: Vec<&str> = exact.iter().copied().chain(["normal", "half"]).collect();
    let model = made(&nodes, &outputs, &constants);
    let (cpu, gpu) = (load(builder(), &model), load(builder().with_device(Device::Emulated), &model));
    let x = given();
    let mut before: Option<Outputs> = None;
    for run in 0..3 {
        let (want, got) = (cpu.run([("x", &x)]).expect("runs"), gpu.run([("x", &x)]).expect("runs"));
        for name in exact {
            assert_eq!(bytes(&got, name), bytes(&want, name), "{name}, run {run}");
        }
        let normal = |outputs: &Outputs| -> Vec<f32> {
            let mut all = outputs.tensor("normal").expect("an output").to_vec::<f32>().expect("floats");
            let half = outputs.tensor("half").expect("an output").to_vec::<f16>().expect("halves");
            all.extend(half.into_iter().map(f16::to_f32));
            all
        };
        for (at, (got, want)) in normal(&got).into_iter().zip(normal(&want)).enumerate() {
            // A unit of the type, whose last bit may be rounded twice.
            let unit = if at < 105 { 2f32.powi(-22) } else { 2f32.powi(-10) };
            assert!((got - want).abs() <= unit * (1.0 + want.abs()), "run {run}, {at}: {got} for {want}");
        }
        if let Some(before) = before {
            for name in ["uniform", "wide", "hits", "kept", "normal"] {
                assert_ne!(bytes(&before, name), bytes(&got, name), "{name}, run {run}");
            }
        }
        before = Some(got);
    }
    assert!(gpu.host_trips().is_empty());
}

#[test]
fn numbers_without_a_seed_are_others_in_each_run_and_session() {
    let nodes = [node("RandomUniformLike", &["x"], &["y"]).with_float("low", 2.0).with_float("high", 3.0)];
    let model = made(&nodes, &["y"], &[]);
    let sessions = [0, 1].map(|_| load(builder().with_device(Device::Emulated), &model));
    let x = given();
    let mut seen: Vec<Vec<u8>> = Vec::new();
    for session in [&sessions[0], &sessions[1], &sessions[0]] {
        let outputs = session.run([("x", &x)]).expect("runs");
        let values = outputs.tensor("y").expect("y").to_vec::<f32>().expect("floats");
        assert!(values.iter().all(|v| (2.0..=3.0).contains(v)), "{values:?}");
        seen.push(bytes(&outputs, "y"));
    }
    assert!(seen[0] != seen[1] && seen[0] != seen[2] && seen[1] != seen[2]);
}

#[test]
fn plans_draw_the_same_wherever_they_draw() {
    let nodes = [
        node("RandomNormalLike", &["x"], &["noise"]).with_float("seed", 1.0),
        node("Add", &["x", "noise"], &["noisy"]),
        node("Softmax", &["noisy"], &["p"]),
        node("Bernoulli", &["p"], &["y"]).with_float("seed", 2.0),
    ];
    let model = made(&nodes, &["y", "noisy"], &[]);
    let cpu = load(builder(), &model);
    let x = given();
    let want = [0, 1].map(|_| cpu.run([("x", &x)]).expect("runs"));
    for seed in 0..6 {
        let session = load(builder().with_devices("cpu,emulated".parse().expect("devices")), &model);
        let plan = random_plan(&session, [("x", x.shape())], seed).expect("a plan");
        session.follow(&plan).expect("a plan that can be followed");
        for (run, want) in want.iter().enumerate() {
            let got = session.run([("x", &x)]).expect("runs");
            let of = |outputs: &Outputs, name: &str| {
                outputs.tensor(name).expect("an output").to_vec::<f32>().expect("floats")
            };
            assert_eq!(of(&got, "y"), of(want, "y"), "seed {seed}, run {run}\n{plan}");
            for (got, want) in of(&got, "noisy").into_iter().zip(of(want, "noisy")) {
                assert!((got - want).abs() <= 1e-6 * (1.0 + want.abs()), "seed {seed}, run {run}\n{plan}");
            }
        }
    }
}

/// Both devices over the same runs: the first output of each is compared bit by bit, or by a unit of its size.
fn alike(model: &[u8], runs: usize, exact: bool) -> [Session; 2] {
    let both = [load(builder(), model), load(builder().with_device(Device::Emulated), model)];
    let x = given();
    for run in 0..runs {
        let [want, got] = [0, 1].map(|at| {
            let outputs = both[at].run([("x", &x)]).expect("runs");
            outputs.tensor("y").expect("an output").to_vec::<f32>().expect("floats")
        });
        assert_eq!(got.len(), want.len(), "run {run}");
        for (at, (got, want)) in got.into_iter().zip(want).enumerate() {
            let most = if exact { 0.0 } else { 1e-5 * (1.0 + want.abs()) };
            assert!((got - want).abs() <= most, "run {run}, {at}: {got} for {want}");
        }
    }
    assert!(both[1].host_trips().is_empty());
    both
}

/// What a body of a loop takes: the number of the round, whether it goes on, and `held`.
fn formal() -> [Message; 3] {
    [fixed("i", code::I64, &[]), fixed("goes", code::BOOL, &[]), fixed("held", code::F32, &[3, 5, 7])]
}

/// `count` rounds, or as many as the body says, of a body from `x` on.
fn looped(count: &str, body: &[Message], constants: &[Message]) -> Vec<u8> {
    let body = graph(&formal(), &[untyped("on"), untyped("next")], body, constants);
    let node = node("Loop", &[count, "", "x"], &["y"]).named("loop").with_graph("body", &body);
    made(&[node], &["y"], &[ints("count", &[], &[5])])
}

#[test]
fn each_step_of_a_body_draws_anew() {
    let noise = |name: &str, seed: f32| {
        node("RandomNormalLike", &["held"], &[name]).with_float("seed", seed).with_float("scale", 0.5)
    };
    let body = [
        node("Identity", &["goes"], &["on"]),
        noise("first", 1.0),
        noise("second", 2.0),
        node("Sub", &["first", "second"], &["noise"]),
        node("Add", &["held", "noise"], &["next"]),
    ];
    let model = looped("count", &body, &[]);
    let [cpu, gpu] = alike(&model, 3, false);
    assert_eq!(gpu.gpu_use().expect("on a GPU").flag_reads, 0);
    // In a plan, too, wherever it places the loop; runs go on where those before ended.
    let x = given();
    let want = cpu.run([("x", &x)]).expect("runs");
    let want = want.tensor("y").expect("y").to_vec::<f32>().expect("floats");
    for seed in 0..4 {
        let session = load(builder().with_devices("cpu,emulated".parse().expect("devices")), &model);
        let plan = random_plan(&session, [("x", x.shape())], seed).expect("a plan");
        session.follow(&plan).expect("a plan that can be followed");
        let mut got = Vec::new();
        for _ in 0..4 {
            let outputs = session.run([("x", &x)]).expect("runs");
            got = outputs.tensor("y").expect("y").to_vec::<f32>().expect("floats");
        }
        for (got, want) in got.into_iter().zip(&want) {
            assert!((got - want).abs() <= 1e-5 * (1.0 + want.abs()), "{got} for {want}\n{plan}");
        }
    }
}

#[test]
fn rounds_that_data_ends_draw_anew_in_each() {
    // Halves a part of the elements in each round, until few are left.
    let body = [
        node("Bernoulli", &["held"], &["some"]).with_float("seed", 3.0),
        node("Mul", &["some", "half"], &["less"]),
        node("Mul", &["held", "less"], &["off"]),
        node("Sub", &["held", "off"], &["next"]),
        node("ReduceSum", &["next"], &["sum"]).with_int("keepdims", 0),
        node("Greater", &["sum", "enough"], &["on"]),
    ];
    let model = looped("", &body, &[floats("half", &[], &[0.5]), floats("enough", &[], &[12.0])]);
    let [_, gpu] = alike(&model, 3, true);
    assert!(gpu.gpu_use().expect("on a GPU").flag_reads >= 6, "several rounds in each run");
}

#[test]
fn a_branch_draws_where_it_is_taken() {
    let drawn = |op: &str, seed: f32| {
        graph(&[], &[untyped("out")], &[node(op, &["held"], &["out"]).with_float("seed", seed)], &[])
    };
    let branch = |from: &str, to: &str| {
        node("If", &[from], &[to])
            .with_graph("then_branch", &drawn("RandomUniformLike", 1.0))
            .with_graph("else_branch", &drawn("Bernoulli", 2.0))
    };
    let decided = [
        node("ReduceMax", &["held"], &["most"]).with_int("keepdims", 0),
        node("Equal", &["most", "one"], &["whole"]),
    ];
    let one = floats("one", &[], &[1.0]);
    // Inside a body: ones and zeros are followed by numbers below one, of which follow ones and zeros.
    let body =
        [&[node("Identity", &["goes"], &["on"])][..], &decided[..], &[branch("whole", "next")]].concat();
    let [_, gpu] = alike(&looped("count", &body, std::slice::from_ref(&one)), 3, true);
    assert_eq!(gpu.gpu_use().expect("on a GPU").flag_reads, 15, "one for each round");
    // In the graph, by what a first draw gives.
    let first = node("RandomUniform", &[], &["level"]).with_ints("shape", &[]).with_float("seed", 4.0);
    let nodes = [
        first,
        node("Less", &["level", "half"], &["whole"]),
        node("Identity", &["x"], &["held"]),
        branch("whole", "y"),
    ];
    alike(&made(&nodes, &["y"], &[floats("half", &[], &[0.5])]), 8, true);
}

#[test]
fn classes_are_drawn_as_on_the_cpu() {
    let scale = |factor: f32| floats("factor", &[], &[factor]);
    let nodes = |seed: f32, dtype: i64| {
        [
            node("Reshape", &["x", "rows"], &["table"]),
            node("Mul", &["table", "factor"], &["chances"]),
            node("Multinomial", &["chances"], &["classes"])
                .with_int("sample_size", 40)
                .with_int("dtype", dtype)
                .with_float("seed", seed),
            node("Cast", &["classes"], &["y"]).with_int("to", code::F32),
        ]
    };
    let rows = |rows: i64| ints("rows", &[2], &[rows, -1]);
    for (seed, count, factor) in [(1.0, 7, 9.0), (2.0, 1, 30.0), (3.0, 105, 1.0)] {
        let dtype = if count == 1 { code::I64 } else { code::I32 };
        alike(&made(&nodes(seed, dtype), &["y"], &[rows(count), scale(factor)]), 3, true);
    }
    let model = made(&nodes(4.0, code::I32), &["y"], &[rows(3), scale(f32::INFINITY)]);
    let x = given();
    for device in [Device::Cpu, Device::Emulated] {
        let session = load(builder().with_device(device), &model);
        let error = session.run([("x", &x)]).expect_err("infinite logarithms");
        assert!(format!("{error:?}").contains("holds no finite log-probabilities"), "{error:?}");
    }
    let error = builder().with_device(Device::Emulated).load_bytes(made(
        &[
            node("Slice", &["x", "none", "none", "last"], &["empty"]),
            node("Reshape", &["empty", "shape"], &["table"]).with_int("allowzero", 1),
            node("Multinomial", &["table"], &["y"]),
        ],
        &["y"],
        &[ints("none", &[1], &[0]), ints("last", &[1], &[2]), ints("shape", &[2], &[3, 0])],
    ));
    let error = error.expect_err("its shapes are the model's");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("draws among no classes"), "{error}");
}
