//! What a model gives the GPU to do: how many kernels a run launches, which bytes it takes, and by what words operators are
//! refused whose element type has no kernel.

use crate::emulated_models::{compare, drawn, sessions, weights};
use recurve::gpu::GpuReject;
use recurve::{Device, Engine, ErrorKind, Fallback, Session, SessionBuilder, Tensor};
use recurve_tests::wire::{
    Extent, Message, code, fixed, floats, graph, ints, model, model_of, node, tensor, untyped, value,
};

/// `nodes` from f32 inputs of these shapes to output `y`, over `constants`.
fn bytes_of(inputs: &[(&str, &[i64])], nodes: &[Message], constants: &[Message]) -> Vec<u8> {
    let inputs: Vec<Message> = inputs.iter().map(|(name, shape)| fixed(name, code::F32, shape)).collect();
    model(&graph(&inputs, &[untyped("y")], nodes, constants)).into_bytes()
}

/// Whether the answers are those of the CPU, and how many kernels a run launches.
fn launches(inputs: &[(&str, &[i64])], nodes: &[Message], constants: &[Message]) -> u64 {
    let bytes = bytes_of(inputs, nodes, constants);
    let both = sessions(|builder| builder.load_bytes(bytes.clone()).expect("loads"), Fallback::Deny);
    let given: Vec<(&str, Tensor)> = inputs
        .iter()
        .zip(1..)
        .map(|((name, shape), seed)| {
            let shape: Vec<usize> = shape.iter().map(|&n| n as usize).collect();
            let values = drawn(seed, shape.iter().product(), 1.0);
            (*name, Tensor::new(&shape, values).expect("a tensor"))
        })
        .collect();
    compare(&both, &given);
    assert!(both[1].host_trips().is_empty());
    both[1].gpu_use().expect("on a GPU").launches
}

#[test]
fn a_product_with_maps_behind_it_is_one_launch() {
    let behind = [
        node("MatMul", &["x", "w"], &["a"]),
        node("Add", &["a", "b"], &["c"]),
        node("Relu", &["c"], &["d"]),
        node("Mul", &["d", "z"], &["e"]),
        node("Tanh", &["e"], &["y"]),
    ];
    let constants = [weights("w", &[24, 40], 1), weights("b", &[40], 2)];
    // Few rows are a kernel of their own.
    for rows in [3, 50] {
        assert_eq!(launches(&[("x", &[rows, 24]), ("z", &[rows, 40])], &behind, &constants), 1, "{rows}");
    }
}

#[test]
fn a_convolution_of_many_channels_is_winograds_products() {
    let behind = [
        node("Conv", &["x", "w", "b"], &["a"]).with_ints("pads", &[1, 1, 1, 1]),
        node("Relu", &["a"], &["y"]),
    ];
    let constants = [weights("w", &[64, 96, 3, 3], 1), weights("b", &[64], 2)];
    // The input's transform, the products of all points, and the output's transform with what is behind it.
    assert_eq!(launches(&[("x", &[1, 96, 15, 16])], &behind, &constants), 3);
    // Of weights that are computed there is no transform.
    let inputs: [(&str, &[i64]); 2] = [("x", &[1, 96, 15, 16]), ("w", &[64, 96, 3, 3])];
    assert_eq!(launches(&inputs, &behind, &constants[1..]), 1);
}

#[test]
fn a_convolution_of_single_elements_is_a_product() {
    let behind = [node("Conv", &["x", "w", "b"], &["a"]), node("Sigmoid", &["a"], &["y"])];
    let constants = [weights("w", &[10, 12, 1, 1], 1), weights("b", &[10], 2)];
    assert_eq!(launches(&[("x", &[3, 12, 5, 7])], &behind, &constants), 1);
}

#[test]
fn a_convolution_with_maps_behind_it_is_one_launch() {
    let behind = [
        node("Conv", &["x", "w", "b"], &["a"]).with_ints("pads", &[1, 1, 1, 1]),
        node("Add", &["a", "x"], &["c"]),
        node("Relu", &["c"], &["y"]),
    ];
    let constants = [weights("w", &[6, 6, 3, 3], 1), weights("b", &[6], 2)];
    assert_eq!(launches(&[("x", &[2, 6, 7, 5])], &behind, &constants), 1);
    // Each filter of one channel: a kernel of its own.
    let alone = [behind[0].clone().with_int("group", 6), behind[1].clone(), behind[2].clone()];
    let constants = [weights("w", &[6, 1, 3, 3], 1), weights("b", &[6], 2)];
    assert_eq!(launches(&[("x", &[2, 6, 7, 5])], &alone, &constants), 1);
    // Many channels at few positions: the terms in two parts, and their sum.
    let constants = [weights("w", &[32, 32, 3, 3], 1), weights("b", &[32], 2)];
    assert_eq!(launches(&[("x", &[2, 32, 7, 5])], &behind, &constants), 2);
}

#[test]
fn products_by_constant_halves_read_packed_tiles() {
    let half = 10;
    let nodes = [
        node("Cast", &["x"], &["a"]).with_int("to", half),
        node("Cast", &["w"], &["b"]).with_int("to", half),
        node("MatMul", &["a", "b"], &["c"]),
        node("Cast", &["c"], &["y"]).with_int("to", 1),
    ];
    // Small whole numbers, whose sums are exact in any order.
    let whole = |seed, count| -> Vec<f32> { drawn(seed, count, 3.0).into_iter().map(f32::round).collect() };
    for columns in [40, 37] {
        let constants = [floats("w", &[72, columns], &whole(1, 72 * columns as usize))];
        let bytes = bytes_of(&[("x", &[2, 33, 72])], &nodes, &constants);
        let both = sessions(|builder| builder.load_bytes(bytes.clone()).expect("loads"), Fallback::Deny);
        compare(&both, &[("x", Tensor::new(&[2, 33, 72], whole(2, 2 * 33 * 72)).expect("a tensor"))]);
        // 128 columns by twice 64 terms, of which these are a part.
        let used = both[1].gpu_use().expect("on a GPU");
        assert!(used.weights >= 2 * 128 * 128 && both[1].host_trips().is_empty(), "{used:?}");
    }
}

/// Frames that lie side by side are read where they are; those that overlap are written out, since kernels of products read
/// no rows that overlap.
#[test]
fn frames_that_overlap_are_written_out_for_their_transform() {
    let constants = |step: i64| [ints("step", &[], &[step]), weights("window", &[16], 1)];
    for (step, least) in [(16, 1), (20, 1), (15, 2), (5, 2), (1, 2)] {
        let nodes = [node("STFT", &["x", "step", "window"], &["y"])];
        assert_eq!(launches(&[("x", &[2, 70, 1])], &nodes, &constants(step)), least, "{step}");
    }
}

/// Weights of few bits are read packed for every 16 rows of f32, for which no tensor cores multiply; for many rows they are
/// unpacked once.
#[test]
fn weights_of_few_bits_are_read_again_for_every_sixteen_rows() {
    for (rows, least) in [(16, 1), (17, 2), (64, 4), (65, 2)] {
        let packed: Vec<u8> = (0..24 * 3 * 8).map(|at| (at * 37 % 251) as u8).collect();
        let constants = [tensor("w", code::U8, &[24, 3, 8], &packed), weights("scales", &[24, 3], 1)];
        let product = node("MatMulNBits", &["x", "w", "scales"], &["y"]).in_domain("com.microsoft");
        let product = product.with_int("K", 48).with_int("N", 24).with_int("block_size", 16);
        let inputs = [fixed("x", code::F32, &[rows, 48])];
        let opsets = [("", 21), ("com.microsoft", 1)];
        let of = graph(&inputs, &[untyped("y")], &[product], &constants);
        let bytes = model_of(10, &opsets, &of).into_bytes();
        let both = sessions(|builder| builder.load_bytes(bytes.clone()).expect("loads"), Fallback::Deny);
        let x = Tensor::new(&[rows as usize, 48], drawn(1, rows as usize * 48, 0.1)).expect("a tensor");
        compare(&both, &[("x", x)]);
        assert_eq!(both[1].gpu_use().expect("on a GPU").launches, least, "{rows} rows");
    }
}

#[test]
fn a_chain_of_maps_is_one_launch() {
    let chain = [
        node("Sub", &["x", "z"], &["a"]),
        node("Sigmoid", &["a"], &["b"]),
        node("Mul", &["b", "x"], &["c"]),
        node("Abs", &["c"], &["y"]),
    ];
    assert_eq!(launches(&[("x", &[5, 7]), ("z", &[7])], &chain, &[]), 1);
}

/// An LSTM of `hidden` units with a map behind it.
fn recurrence(hidden: i64) -> (Vec<Message>, Vec<Message>) {
    let nodes = vec![
        node("LSTM", &["x", "w", "r", "b"], &["s"]).with_int("hidden_size", hidden),
        node("Tanh", &["s"], &["y"]),
    ];
    let constants = vec![
        weights("w", &[1, 4 * hidden, 5], 1),
        weights("r", &[1, 4 * hidden, hidden], 2),
        weights("b", &[1, 8 * hidden], 3),
    ];
    (nodes, constants)
}

#[test]
fn a_recurrence_of_few_units_is_one_launch_for_all_its_steps_behind_the_products_with_its_inputs() {
    let (nodes, constants) = recurrence(16);
    // The product for all steps, the steps, and the map.
    for time in [1, 4, 9] {
        assert_eq!(launches(&[("x", &[time, 2, 5])], &nodes, &constants), 3, "{time}");
    }
    // Of many units each step is one.
    let (nodes, constants) = recurrence(130);
    for time in [1, 4] {
        assert_eq!(launches(&[("x", &[time, 2, 5])], &nodes, &constants), 2 + time as u64, "{time}");
    }
}

#[test]
fn a_recurrence_without_steps_ends_as_it_begins() {
    for (op, gates) in [("LSTM", 4), ("GRU", 3), ("RNN", 1)] {
        let (hidden, mut inputs) = (6i64, vec!["x", "w", "r", "", "", "h"]);
        let mut outputs = vec!["all", "last"];
        if op == "LSTM" {
            inputs.push("c");
            outputs.push("cell");
        }
        let constants =
            [weights("w", &[1, gates * hidden, 5], 1), weights("r", &[1, gates * hidden, hidden], 2)];
        let nodes = [node(op, &inputs, &outputs).with_int("hidden_size", hidden)];
        let state = |name: &str| value(name, code::F32, &[Extent::N(1), Extent::N(2), Extent::N(hidden)]);
        let mut given =
            vec![value("x", code::F32, &[Extent::Name("time"), Extent::N(2), Extent::N(5)]), state("h")];
        if op == "LSTM" {
            given.push(state("c"));
        }
        let made: Vec<Message> = outputs.iter().map(|name| untyped(name)).collect();
        let bytes = model(&graph(&given, &made, &nodes, &constants)).into_bytes();
        let both = sessions(|builder| builder.load_bytes(bytes.clone()).expect("loads"), Fallback::Deny);
        let tensor = |shape: &[usize], seed| {
            Tensor::new(shape, drawn(seed, shape.iter().product(), 1.0)).expect("a tensor")
        };
        let (h, c) = (tensor(&[1, 2, 6], 1), tensor(&[1, 2, 6], 2));
        for time in [0, 3, 0] {
            let mut inputs = vec![("x", tensor(&[time, 2, 5], 3)), ("h", h.clone())];
            if op == "LSTM" {
                inputs.push(("c", c.clone()));
            }
            compare(&both, &inputs);
            if time == 0 {
                let given: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, t)| (*name, t)).collect();
                let ended = both[1].run(given).expect("runs");
                assert_eq!(ended.tensor("all").expect("there").shape(), [0, 1, 2, 6], "{op}");
                assert_eq!(ended.tensor("last").expect("there").bytes(), h.bytes(), "{op}");
            }
        }
    }
}

#[test]
fn lines_along_any_axes_are_folded_where_they_lie_or_brought_together_first() {
    let x: (&str, &[i64]) = ("x", &[3, 4, 5, 6]);
    let axes = |of: &[i64]| [ints("axes", &[of.len() as i64], of)];
    // Neighbouring axes are folded where they lie; others are brought together by a copy.
    for (of, least) in
        [(&[3][..], 1), (&[0], 1), (&[1, 2], 1), (&[0, 2], 2), (&[1, 3], 2), (&[0, 1, 3], 2), (&[0, 3], 2)]
    {
        for op in ["ReduceMean", "ReduceMax", "ReduceL2", "ReduceProd"] {
            let fold = [node(op, &["x", "axes"], &["y"])];
            assert_eq!(launches(&[x], &fold, &axes(of)), least, "{op} {of:?}");
        }
    }
    for axis in 0..4 {
        for op in ["Softmax", "LogSoftmax"] {
            assert_eq!(launches(&[x], &[node(op, &["x"], &["y"]).with_int("axis", axis)], &[]), 1, "{op}");
        }
    }
}

#[test]
fn the_bytes_that_are_told_are_those_that_the_gpu_gave() {
    let (nodes, constants) = recurrence(16);
    let bytes = bytes_of(&[("x", &[6, 2, 5])], &nodes, &constants);
    let engine = Engine::builder().with_threads(1).build().expect("an engine");
    let builder = Session::builder().with_engine(&engine).with_device(Device::Emulated);
    let session = builder.load_bytes(bytes.clone()).expect("loads");
    let before = session.gpu_use().expect("its shapes are known when it is loaded");
    let x = Tensor::new(&[6, 2, 5], drawn(1, 60, 1.0)).expect("a tensor");
    for _ in 0..3 {
        session.run([("x", &x)]).expect("runs");
    }
    let told = session.gpu_use().expect("bound");
    assert_eq!(told, before);
    // X and Y, and what the product leaves for the steps.
    assert!(told.activations >= 4 * (60 + 6 * 2 * 16), "{told:?}");
    assert!(told.workspace >= 4 * 6 * 2 * 64, "{told:?}");
    assert!(told.weights >= 4 * (64 * 5 + 64 * 16) && told.pinned > 0, "{told:?}");
    assert_eq!((told.context, told.modules), (0, 0), "the emulator has neither");
    let all = (told.weights + told.activations + told.workspace) as usize;
    assert_eq!(engine.gpu_memory_peak(Device::Emulated), all);
    let limited = |bytes: usize| Engine::builder().with_gpu_memory_limit(bytes).build().expect("an engine");
    let load = |limit: usize| {
        let (engine, bytes) = (limited(limit), bytes.clone());
        Session::builder().with_engine(&engine).with_device(Device::Emulated).load_bytes(bytes)
    };
    load(all).expect("it fits").run([("x", &x)]).expect("as it was told");
    let refused = load(all - 1).expect_err("its shapes are the model's, and they do not fit");
    assert_eq!(refused.kind(), ErrorKind::Device);
    assert!(Session::builder().load_bytes(bytes.clone()).expect("on the CPU").gpu_use().is_none());
}

#[test]
fn what_fits_only_without_winograds_workspace_is_bound_without_it() {
    let nodes = [node("Conv", &["x", "w"], &["y"]).with_ints("pads", &[1, 1, 1, 1])];
    let constants = [weights("w", &[64, 96, 3, 3], 1)];
    let bytes = bytes_of(&[("x", &[1, 96, 15, 16])], &nodes, &constants);
    let on = |limit: usize| {
        let engine =
            Engine::builder().with_threads(1).with_gpu_memory_limit(limit).build().expect("an engine");
        let builder = Session::builder().with_engine(&engine).with_device(Device::Emulated);
        (engine, builder.load_bytes(bytes.clone()))
    };
    let x = Tensor::new(&[1, 96, 15, 16], drawn(3, 96 * 15 * 16, 1.0)).expect("a tensor");
    let (engine, session) = on(1 << 30);
    let session = session.expect("it fits");
    let y = session.run([("x", &x)]).expect("runs");
    let told = session.gpu_use().expect("on a GPU");
    assert_eq!(told.launches, 3, "Winograd's");
    let all = (told.weights + told.activations + told.workspace) as usize;
    assert_eq!(engine.gpu_memory_peak(Device::Emulated), all);
    let (engine, session) = on(all - 1);
    let session = session.expect("it fits without");
    let other = session.run([("x", &x)]).expect("runs");
    let told = session.gpu_use().expect("on a GPU");
    assert_ne!(told.launches, 3, "not Winograd's");
    let less = (told.weights + told.activations + told.workspace) as usize;
    assert!(
        less < all && engine.gpu_memory_peak(Device::Emulated) == less,
        "{told:?}, {all} with Winograd's"
    );
    let [y, other] = [&y, &other].map(|outputs| outputs.tensor("y").expect("a tensor"));
    let (y, other) = (y.as_slice::<f32>().expect("floats"), other.as_slice::<f32>().expect("floats"));
    for (a, b) in y.iter().zip(other) {
        assert!((a - b).abs() <= 1e-3 * (1.0 + a.abs()), "{a} and {b}");
    }
    assert_eq!(on(less - 1).1.expect_err("too little").kind(), ErrorKind::Device);
}

#[test]
fn an_operator_of_types_without_a_kernel_is_refused_by_type_with_what_to_do() {
    let inputs = [fixed("x", code::F64, &[3, 4]), fixed("scale", code::F32, &[4])];
    let node = node("RMSNormalization", &["x", "scale"], &["y"]).named("refused");
    let bytes = model_of(10, &[("", 23)], &graph(&inputs, &[untyped("y")], &[node], &[])).into_bytes();
    let load = |builder: SessionBuilder| builder.with_device(Device::Emulated).load_bytes(bytes.clone());
    let error = load(Session::builder()).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let words = error.to_string();
    for part in ["`refused` (RMSNormalization", "float64", "with `Fallback::Cpu` it runs on the CPU"] {
        assert!(words.contains(part), "{words}");
    }
    let session = load(Session::builder().with_fallback(Fallback::Cpu)).expect("with leave");
    let x = drawn(2, 12, 0.5).into_iter().map(f64::from).collect::<Vec<f64>>();
    let x = Tensor::new(&[3, 4], x).expect("a tensor");
    let scale = Tensor::new(&[4], drawn(3, 4, 0.5)).expect("a tensor");
    session.run([("x", &x), ("scale", &scale)]).expect("runs");
    let trips = session.host_trips();
    let reason = trips.first().map(|trip| &trip.reason);
    assert!(matches!(reason, Some(GpuReject::ElementType(_))), "{reason:?}");
}
