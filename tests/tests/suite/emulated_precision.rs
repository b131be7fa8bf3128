//! What a GPU makes of `tf32`, and plans over the CPU and a GPU of any precision.

use crate::precision::{biased_product, close, drawn, load, load_emulated, lstm, recurrent_weights, run};
use recurve::settings::{Pinning, Precision};
use recurve::testing::random_plan;
use recurve::weights::Kept;
use recurve::{Engine, Session, Tensor};
use recurve_tests::wire::{code, fixed, floats, graph, ints, model, model_of, node, untyped};

/// A number of 11 significant bits, halves away from zero.
fn tf32(values: &[f32]) -> Vec<f32> {
    let round = |v: &f32| f32::from_bits((v.to_bits() + 0x1000) & 0xffff_e000);
    values.iter().map(round).collect()
}

#[test]
fn products_on_a_gpu_are_those_of_rounded_factors_where_tf32_is_asked_for() {
    // At the tiles' edges and inside; the left operand over two axes of batches; the last one of rows that no piece divides.
    let cases = [
        (vec![129], 16, 128, None),
        (vec![40], 132, 260, None),
        (vec![2, 20], 96, 12, None),
        (vec![17], 1024, 4, None),
        (vec![40], 37, 84, Some(Kept::Unaligned)),
        (vec![16], 64, 64, Some(Kept::FewRows { rows: 16 })),
    ];
    for (batch, depth, columns, kept) in cases {
        let weights = drawn(depth * columns, 1);
        let shape: Vec<usize> = batch.iter().copied().chain([depth]).collect();
        let made = |w: &[f32]| biased_product(&shape, columns, w);
        let values = drawn(shape.iter().product(), 7);
        let tensor = |values: Vec<f32>| Tensor::new(&shape, values).expect("a tensor");
        let (session, plain) =
            (load_emulated(made(&weights), Precision::Tf32), load_emulated(made(&weights), Precision::F32));
        let [told] = &session.stored_weights().weights[..] else { panic!("one product") };
        assert_eq!((told.kept, told.input, told.bytes), (kept, 1, told.model_bytes), "{shape:?}");
        let x = tensor(values.clone());
        let (got, wide) = (run(&session, &x), run(&plain, &x));
        let deviation = session.deviations(&plain, [("x", &x)]).expect("runs")[0].relative;
        if kept.is_some() {
            assert_eq!((got, deviation), (wide, 0.0), "{shape:?}: as it is in f32");
            continue;
        }
        let rounded = load(made(&tf32(&weights)), Precision::F32, 1);
        close(&got, &run(&rounded, &tensor(tf32(&values))), &format!("{shape:?}"));
        assert!(0.0 < deviation && deviation < 2e-3, "{shape:?}: {deviation}");
    }
}

#[test]
fn tf32_is_about_products_of_computed_matrices_and_not_about_recurrences() {
    let inputs = [fixed("a", code::F32, &[3, 24, 40]), fixed("b", code::F32, &[3, 40, 32])];
    let nodes = [node("MatMul", &["a", "b"], &["y"])];
    let bytes = model(&graph(&inputs, &[untyped("y")], &nodes, &[])).into_bytes();
    let (a, b) = (drawn(3 * 24 * 40, 1), drawn(3 * 40 * 32, 2));
    let run_both = |session: &Session, a: &[f32], b: &[f32]| {
        let a = Tensor::new(&[3, 24, 40], a.to_vec()).expect("a tensor");
        let b = Tensor::new(&[3, 40, 32], b.to_vec()).expect("a tensor");
        let outputs = session.run([("a", &a), ("b", &b)]).expect("runs");
        outputs.tensor("y").expect("an output").as_slice::<f32>().expect("floats").to_vec()
    };
    let session = load_emulated(bytes.clone(), Precision::Tf32);
    let got = run_both(&session, &a, &b);
    assert!(session.stored_weights().weights.is_empty(), "no weights are told of");
    let plain = load(bytes, Precision::F32, 1);
    close(&got, &run_both(&plain, &tf32(&a), &tf32(&b)), "of rounded factors");
    assert_ne!(got, run_both(&plain, &a, &b));

    let [w, r] = recurrent_weights();
    let x = Tensor::new(&[7, 1, 19], drawn(7 * 19, 8)).expect("a tensor");
    let [same, wide] = [Precision::Tf32, Precision::F32].map(|p| load_emulated(lstm(&w, &r).into_bytes(), p));
    assert_eq!(run(&same, &x), run(&wide, &x), "recurrences stay as they are");
    let told: Vec<_> = same.stored_weights().weights.iter().map(|w| w.kept).collect();
    assert!(!told.is_empty() && told.iter().all(|&kept| kept == Some(Kept::NoKernel)), "{told:?}");
}

#[test]
fn attention_on_a_gpu_is_that_of_rounded_factors_where_tf32_is_asked_for() {
    // At the edges of blocks of queries and keys, heads of keys that two heads of queries share; what begins at no multiple
    // of 16 bytes stays as it is.
    let cases =
        [(64, 33, 16, true), (65, 64, 20, true), (3, 70, 72, true), (5, 40, 132, true), (20, 40, 18, false)];
    for (queries, keys, width, rounds) in cases {
        let forms = [("q", [2, 2, queries, width]), ("k", [2, 1, keys, width]), ("v", [2, 1, keys, width])];
        let inputs = forms.map(|(name, shape)| fixed(name, code::F32, &shape.map(|n: usize| n as i64)));
        let nodes = [node("Attention", &["q", "k", "v"], &["y"]).with_int("is_causal", 1)];
        let bytes = model_of(12, &[("", 23)], &graph(&inputs, &[untyped("y")], &nodes, &[])).into_bytes();
        let run = |session: &Session, round: &dyn Fn(Vec<f32>) -> Vec<f32>| {
            let tensors = [0, 1, 2].map(|at| {
                let (name, shape) = forms[at];
                let values = round(drawn(shape.iter().product(), 7 + at as u64));
                (name, Tensor::new(&shape, values).expect("a tensor"))
            });
            let outputs = session.run(tensors.iter().map(|(name, tensor)| (*name, tensor))).expect("runs");
            outputs.tensor("y").expect("y").to_vec::<f32>().expect("floats")
        };
        let [narrow, wide] = [Precision::Tf32, Precision::F32].map(|p| load_emulated(bytes.clone(), p));
        let (got, exact) = (run(&narrow, &|v| v), run(&wide, &|v| v));
        let title = format!("{queries} queries, {keys} keys, heads of {width}");
        if !rounds {
            assert_eq!(got, exact, "{title}: as it is in f32");
            continue;
        }
        assert_ne!(got, exact, "{title}");
        // Weights, which add up to 1, are rounded, too: each by half a unit at most.
        let rounded = run(&wide, &|v| tf32(&v));
        for (got, want) in got.iter().zip(&rounded) {
            assert!((got - want).abs() <= 2f32.powi(-11) + 1e-5, "{title}: {got} for {want}");
        }
    }
}

#[test]
fn convolutions_on_a_gpu_are_those_of_rounded_factors_where_tf32_is_asked_for() {
    // Windows of 3 × 3 by groups and strides, windows of one element, terms that no piece divides, as first layers have, and
    // what tensor cores do not take.
    let cases = [
        (8, 12, 1, 3, 1, None),
        (8, 12, 2, 3, 2, None),
        (16, 20, 1, 1, 1, None),
        (5, 12, 1, 3, 1, None),
        (3, 20, 1, 3, 2, None),
        (5, 12, 1, 1, 1, None),
        (6, 6, 6, 3, 1, Some(Kept::NoKernel)),
    ];
    for (channels, filters, groups, taps, stride, kept) in cases {
        let count = filters * channels / groups * taps * taps;
        let made = |w: &[f32]| {
            let (of_group, taps) = ((channels / groups) as i64, taps as i64);
            let constants = [floats("w", &[filters as i64, of_group, taps, taps], w)];
            let convolution = node("Conv", &["x", "w"], &["c"]).with_int("group", groups as i64);
            let convolution = convolution.with_ints("strides", &[stride, stride]);
            let nodes = [convolution, node("Relu", &["c"], &["y"])];
            let inputs = [fixed("x", code::F32, &[2, channels as i64, 9, 8])];
            model(&graph(&inputs, &[untyped("y")], &nodes, &constants)).into_bytes()
        };
        let (weights, values) = (drawn(count, 1), drawn(2 * channels * 72, 7));
        let tensor = |values: Vec<f32>| Tensor::new(&[2, channels, 9, 8], values).expect("a tensor");
        let title = format!("{channels} channels, {filters} filters, {groups} groups, {taps} taps");
        let (session, plain) =
            (load_emulated(made(&weights), Precision::Tf32), load_emulated(made(&weights), Precision::F32));
        let [told] = &session.stored_weights().weights[..] else { panic!("{title}: one convolution") };
        assert_eq!((told.kept, told.input), (kept, 1), "{title}");
        // Rows of weights begin where copies of four do.
        let terms = channels / groups * taps * taps;
        let rows = if kept.is_some() { terms } else { terms.next_multiple_of(4) };
        assert_eq!(told.bytes, 4 * filters * rows, "{title}");
        let x = tensor(values.clone());
        let (got, wide) = (run(&session, &x), run(&plain, &x));
        if kept.is_some() {
            assert_eq!(got, wide, "{title}: as it is in f32");
            continue;
        }
        let rounded = load(made(&tf32(&weights)), Precision::F32, 1);
        close(&got, &run(&rounded, &tensor(tf32(&values))), &title);
        assert_ne!(got, wide, "{title}");
    }
}

#[test]
fn first_layers_and_transposed_convolutions_are_those_of_rounded_operands_in_every_precision() {
    let first = node("Conv", &["x", "w", "b"], &["c"]).with_ints("strides", &[2, 2]);
    let turned = node("ConvTranspose", &["x", "w", "b"], &["c"]).with_ints("strides", &[2, 3]);
    let turned = turned.with_ints("pads", &[1, 0, 0, 1]);
    for (name, convolution, shape) in [("first", first, [20, 3, 5, 5]), ("turned", turned, [3, 20, 4, 5])] {
        let bias = drawn(20, 3);
        let made = |w: &[f32]| {
            let constants = [floats("w", &shape, w), floats("b", &[20], &bias)];
            let nodes = [convolution.clone(), node("Relu", &["c"], &["y"])];
            let inputs = [fixed("x", code::F32, &[2, 3, 9, 8])];
            model(&graph(&inputs, &[untyped("y")], &nodes, &constants)).into_bytes()
        };
        let (weights, values) = (drawn(shape.iter().product::<i64>() as usize, 1), drawn(2 * 3 * 72, 7));
        let tensor = |values: Vec<f32>| Tensor::new(&[2, 3, 9, 8], values).expect("a tensor");
        let x = tensor(values.clone());
        let wide = run(&load(made(&weights), Precision::F32, 1), &x);
        let close_to_wide = run(&load_emulated(made(&weights), Precision::F32), &x);
        close(&close_to_wide, &wide, name);
        let half = |v: &[f32]| v.iter().map(|&v| half::f16::from_f32(v).to_f32()).collect::<Vec<f32>>();
        let brain = |v: &[f32]| v.iter().map(|&v| half::bf16::from_f32(v).to_f32()).collect::<Vec<f32>>();
        let rounds: [(Precision, &dyn Fn(&[f32]) -> Vec<f32>); 3] =
            [(Precision::Tf32, &tf32), (Precision::F16, &half), (Precision::Bf16, &brain)];
        for (precision, rounded) in rounds {
            let title = format!("{name}, {precision}");
            let session = load_emulated(made(&weights), precision);
            let [told] = &session.stored_weights().weights[..] else { panic!("{title}: one convolution") };
            assert_eq!((told.kept, told.input), (None, 1), "{title}");
            let got = run(&session, &x);
            let want = run(&load(made(&rounded(&weights)), Precision::F32, 1), &tensor(rounded(&values)));
            close(&got, &want, &title);
            assert_ne!(got, wide, "{title}");
        }
    }
}

#[test]
fn steps_of_plans_over_a_gpu_have_the_precision_where_they_run() {
    let weights = drawn(16 * 8 * 9, 1);
    let (first, second) = (drawn(48 * 40, 2), drawn(40 * 12, 3));
    let constants = [
        floats("w", &[16, 8, 3, 3], &weights),
        floats("first", &[48, 40], &first),
        floats("second", &[40, 12], &second),
    ];
    let nodes = [
        node("Conv", &["x", "w"], &["a"]).named("window"),
        node("Relu", &["a"], &["b"]),
        node("Reshape", &["b", "rows"], &["c"]),
        node("MatMul", &["c", "first"], &["d"]).named("many"),
        node("Tanh", &["d"], &["e"]),
        node("ReduceMean", &["e", "first axis"], &["f"]).with_int("keepdims", 1),
        node("MatMul", &["f", "second"], &["y"]).named("few"),
    ];
    let constants: Vec<_> = constants
        .into_iter()
        .chain([ints("rows", &[2], &[-1, 48]), ints("first axis", &[1], &[0])])
        .collect();
    let inputs = [fixed("x", code::F32, &[1, 8, 8, 8])];
    let bytes = model(&graph(&inputs, &[untyped("y")], &nodes, &constants)).into_bytes();
    let x = Tensor::new(&[1, 8, 8, 8], drawn(8 * 64, 7)).expect("a tensor");
    let want = run(&load(bytes.clone(), Precision::F32, 1), &x);
    for precision in [Precision::F16, Precision::Bf16, Precision::Tf32] {
        let engine =
            Engine::builder().with_threads(1).with_pinning(Pinning::None).build().expect("an engine");
        let builder = Session::builder().with_engine(&engine).with_precision(precision);
        let devices = "cpu,emulated".parse().expect("devices");
        let session = builder.with_devices(devices).load_bytes(bytes.clone()).expect("loads");
        assert_eq!(session.stored_weights().precision, precision);
        let (mut narrow, mut wide) = (0, 0);
        for seed in 0..12 {
            let plan = random_plan(&session, [("x", x.shape())], seed).expect("a plan");
            session.follow(&plan).unwrap_or_else(|e| panic!("{precision}, seed {seed}: {e:?}"));
            let got = run(&session, &x);
            let bound = if precision == Precision::Bf16 { 2e-2 } else { 3e-3 };
            for (got, want) in got.iter().zip(&want) {
                assert!(
                    (got - want).abs() <= bound * (1.0 + want.abs()),
                    "{precision}: {got}, {want}\n{plan}"
                );
            }
            let told = session.stored_weights().weights;
            let of_window = told.iter().filter(|there| there.weights == weights.len());
            let window = of_window.collect::<Vec<_>>();
            // A convolution's weights are narrow on the GPU alone.
            match window[..] {
                [there] => {
                    assert_eq!(there.kept, None, "{told:?}");
                    narrow += 1;
                }
                [] => wide += 1,
                _ => panic!("told twice: {told:?}"),
            }
        }
        let told = session.stored_weights();
        assert!(narrow > 0 && wide > 0, "{precision}: {narrow} on the GPU, {wide} on the CPU: {told:?}");
    }
}
