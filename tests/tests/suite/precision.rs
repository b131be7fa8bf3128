//! Weights stored in another format: what a model computes with them, what it holds, and what is said of them.

use half::{bf16, f16};
use recurve::profiles::{Effort, ProfileCache, ProfileOptions};
use recurve::settings::{Devices, Pinning, Precision};
use recurve::weights::Kept;
use recurve::{Device, Engine, ErrorKind, Session, SessionBuilder, Tensor};
use recurve_tests::drawn_inputs;
use recurve_tests::wire::{Extent, Message, code, fixed, floats, graph, model, node, untyped, value};
use std::time::Duration;

/// Numbers from −1 to 1.
pub(crate) fn drawn(count: usize, seed: u64) -> Vec<f32> {
    drawn_inputs::drawn(seed, count, 1.0)
}

const STORED: [Precision; 3] = [Precision::F16, Precision::Bf16, Precision::Int8];

/// `weights` as a format has them; integers have a factor for each of the rows of `last` elements, or each column.
fn rounded(weights: &[f32], precision: Precision, last: usize, by_column: bool) -> Vec<f32> {
    let row_of = |at: usize| if by_column { at % last } else { at / last };
    let mut largest = vec![0f32; weights.len()];
    weights.iter().enumerate().for_each(|(at, w)| largest[row_of(at)] = largest[row_of(at)].max(w.abs()));
    let round = |(at, w): (usize, &f32)| match precision {
        Precision::F16 => f16::from_f32(*w).to_f32(),
        Precision::Bf16 => bf16::from_f32(*w).to_f32(),
        Precision::Int8 => {
            let factor = (f64::from(largest[row_of(at)]) / 127.0) as f32;
            (f64::from(*w) / f64::from(factor)).round_ties_even() as f32 * factor
        }
        _ => *w,
    };
    weights.iter().enumerate().map(round).collect()
}

/// Rows, of any number, through a product, a bias and a rectifier, and a second product of exchanged weights.
fn dense(first: &[f32], second: &[f32]) -> Vec<u8> {
    let constants = [
        floats("w", &[37, 83], first),
        floats("b", &[83], &drawn(83, 3)),
        floats("v", &[50, 83], second),
        floats("c", &[50], &drawn(50, 4)),
    ];
    let nodes = [
        node("MatMul", &["x", "w"], &["p"]).named("first"),
        node("Add", &["p", "b"], &["q"]),
        node("Relu", &["q"], &["r"]),
        node("Gemm", &["r", "v", "c"], &["y"]).named("second").with_int("transB", 1),
    ];
    let inputs = [value("x", code::F32, &[Extent::Name("rows"), Extent::N(37)])];
    model(&graph(&inputs, &[untyped("y")], &nodes, &constants)).into_bytes()
}

const HIDDEN: usize = 70;

/// Seven steps of one row through both directions of an LSTM.
pub(crate) fn lstm(w: &[f32], r: &[f32]) -> Message {
    let h = HIDDEN as i64;
    let constants = [floats("w", &[2, 4 * h, 19], w), floats("r", &[2, 4 * h, h], r)];
    let recurrence = node("LSTM", &["x", "w", "r"], &["y"]).named("cell").with_int("hidden_size", h);
    let inputs = [fixed("x", code::F32, &[7, 1, 19])];
    model(&graph(&inputs, &[untyped("y")], &[recurrence.with_text("direction", "bidirectional")], &constants))
}

pub(crate) fn recurrent_weights() -> [Vec<f32>; 2] {
    let scaled = |count: usize, seed| drawn(count, seed).into_iter().map(|w| w * 0.3).collect();
    [scaled(2 * 4 * HIDDEN * 19, 5), scaled(2 * 4 * HIDDEN * HIDDEN, 6)]
}

pub(crate) fn load(bytes: Vec<u8>, precision: Precision, threads: usize) -> Session {
    let engine =
        Engine::builder().with_threads(threads).with_pinning(Pinning::None).build().expect("an engine");
    let builder = Session::builder().with_engine(&engine).with_precision(precision);
    builder.load_bytes(bytes).expect("loads")
}

pub(crate) fn run(session: &Session, x: &Tensor) -> Vec<f32> {
    session.run([("x", x)]).expect("runs").tensor("y").expect("y").to_vec::<f32>().expect("floats")
}

pub(crate) fn close(got: &[f32], want: &[f32], what: &str) {
    assert!(want.iter().any(|v| *v != 0.0) && got.len() == want.len(), "{what}");
    for (at, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= 2e-5 * (1.0 + want.abs()), "{what} [{at}]: {got} instead of {want}");
    }
}

#[test]
fn products_of_any_rows_are_those_of_rounded_weights() {
    let (first, second) = (drawn(37 * 83, 1), drawn(50 * 83, 2));
    for precision in STORED {
        let session = load(dense(&first, &second), precision, 2);
        let stored = session.stored_weights();
        assert_eq!((stored.precision, stored.weights.len()), (precision, 2), "{stored:?}");
        assert!(stored.weights.iter().all(|w| w.kept.is_none() && w.input == 1), "{stored:?}");
        assert_eq!(stored.model_bytes(), (37 * 83 + 50 * 83) * 4);
        let wide = if precision == Precision::Int8 { 37 * 83 + 50 * 83 + (83 + 50) * 4 } else { 87 * 83 * 2 };
        assert_eq!(stored.bytes(), wide);
        let plain = dense(&rounded(&first, precision, 83, true), &rounded(&second, precision, 83, false));
        let plain = load(plain, Precision::F32, 1);
        for rows in [0, 1, 2, 4, 5, 16, 17, 40] {
            let x = Tensor::new(&[rows, 37], drawn(rows * 37, 7)).expect("a tensor");
            if rows == 0 {
                assert!(run(&session, &x).is_empty());
                continue;
            }
            close(&run(&session, &x), &run(&plain, &x), &format!("{precision}, {rows} rows"));
        }
    }
}

#[test]
fn recurrences_are_those_of_rounded_weights_on_any_number_of_threads() {
    let [w, r] = recurrent_weights();
    let x = Tensor::new(&[7, 1, 19], drawn(7 * 19, 8)).expect("a tensor");
    for precision in STORED {
        let plain = lstm(&rounded(&w, precision, 19, false), &rounded(&r, precision, HIDDEN, false));
        let want = run(&load(plain.into_bytes(), Precision::F32, 1), &x);
        let made = || lstm(&w, &r).into_bytes();
        let got = run(&load(made(), precision, 1), &x);
        close(&got, &want, &precision.to_string());
        assert_eq!(run(&load(made(), precision, 2), &x), got, "{precision}: threads change nothing");
    }
}

#[test]
fn what_a_format_cannot_hold_stays_as_it_is_and_is_told() {
    let (mut first, second) = (drawn(37 * 83, 1), drawn(50 * 83, 2));
    first[1234] = -70000.0;
    let x = Tensor::new(&[3, 37], drawn(3 * 37, 7)).expect("a tensor");
    let session = load(dense(&first, &second), Precision::F16, 1);
    let [kept, stored] = &session.stored_weights().weights[..] else { panic!("two products") };
    assert_eq!(kept.kept, Some(Kept::OutOfRange { weight: -70000.0 }));
    assert_eq!((kept.bytes, stored.kept), (kept.model_bytes, None));
    assert!(run(&session, &x).iter().all(|y| y.is_finite()));
    let plain = load(dense(&first, &rounded(&second, Precision::F16, 83, false)), Precision::F32, 1);
    close(&run(&session, &x), &run(&plain, &x), "with one matrix kept");

    let [w, mut r] = recurrent_weights();
    *r.last_mut().expect("weights") = f32::INFINITY;
    let stored = load(lstm(&w, &r).into_bytes(), Precision::Int8, 1);
    let [w, r] = &stored.stored_weights().weights[..] else { panic!("two inputs") };
    assert_eq!((w.input, w.kept, r.input), (1, None, 2));
    assert_eq!(r.kept, Some(Kept::OutOfRange { weight: f64::INFINITY }));
}

#[test]
fn products_of_many_rows_keep_their_weights() {
    let w = floats("w", &[20, 30], &drawn(600, 1));
    let inputs = [fixed("x", code::F32, &[17, 20])];
    let nodes = [node("MatMul", &["x", "w"], &["y"])];
    let bytes = model(&graph(&inputs, &[untyped("y")], &nodes, &[w])).into_bytes();
    let session = load(bytes, Precision::F16, 1);
    assert_eq!(session.stored_weights().weights[0].kept, Some(Kept::ManyRows { rows: 17 }));
}

#[test]
fn narrow_weights_fit_where_wide_ones_do_not() {
    let [w, r] = recurrent_weights();
    let made = || lstm(&w, &r).into_bytes();
    let x = Tensor::new(&[7, 1, 19], drawn(7 * 19, 8)).expect("a tensor");
    let held = |precision| {
        let session = load(made(), precision, 1);
        run(&session, &x);
        session.memory_used()
    };
    let [wide, half, byte] = [Precision::F32, Precision::F16, Precision::Int8].map(held);
    // Units are padded to a multiple of 16.
    let padded = 2 * 4 * 80 * (19 + HIDDEN);
    assert_eq!(wide - half, padded * 2);
    assert!(half - byte > padded * 8 / 10, "{half} {byte}");
    let limit = |precision| {
        let builder = Session::builder().with_threads(1).with_memory_limit(padded * 3);
        builder.with_precision(precision).load_bytes(made()).map(|_| ())
    };
    assert_eq!(limit(Precision::F32).map_err(|error| error.kind()), Err(ErrorKind::MemoryLimit));
    limit(Precision::F16).expect("half of it fits");
}

#[test]
fn what_no_kernel_of_a_gpu_reads_is_refused() {
    let [w, r] = recurrent_weights();
    let refused = |builder: SessionBuilder| {
        let error = builder.load_bytes(lstm(&w, &r).into_bytes()).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("precision"), "{error}");
    };
    refused(Session::builder().with_precision(Precision::Int8).with_device(Device::Emulated));
    let mut devices = Devices::default();
    devices.gpu = Some(Device::Emulated);
    refused(Session::builder().with_precision(Precision::Int8).with_devices(devices));
    refused(Session::builder().with_precision(Precision::Tf32));
}

pub(crate) fn load_emulated(bytes: Vec<u8>, precision: Precision) -> Session {
    let builder = Session::builder().with_threads(1).with_device(Device::Emulated);
    builder.with_precision(precision).load_bytes(bytes).expect("loads")
}

/// [`load_emulated`] with a device of its own: one that sessions share gives them blocks that others have left, which may
/// be a quarter larger than what is asked for.
fn load_alone(bytes: Vec<u8>, precision: Precision) -> Session {
    let engine = Engine::builder().with_threads(1).with_pinning(Pinning::None).build().expect("an engine");
    let builder = Session::builder().with_engine(&engine).with_device(Device::Emulated);
    builder.with_precision(precision).load_bytes(bytes).expect("loads")
}

/// `values` as a 16-bit format has them.
fn narrowed(values: &[f32], precision: Precision) -> Vec<f32> {
    rounded(values, precision, 1, false)
}

const NARROW: [Precision; 2] = [Precision::F16, Precision::Bf16];

#[test]
fn few_rows_on_a_gpu_read_narrow_weights_and_keep_the_rest() {
    let (first, second) = (drawn(37 * 83, 1), drawn(50 * 83, 2));
    let x = Tensor::new(&[3, 37], drawn(3 * 37, 7)).expect("a tensor");
    let wide = load_alone(dense(&first, &second), Precision::F32);
    run(&wide, &x);
    assert!(wide.stored_weights().weights.is_empty());
    // Rows are padded to 16 bytes.
    let packed = |depths: [usize; 2], bytes: usize| (83 * depths[0] + 50 * depths[1]) * bytes;
    let (of_wide, of_narrow) = (packed([40, 84], 4), packed([40, 88], 2));
    for precision in NARROW {
        let session = load_alone(dense(&first, &second), precision);
        assert!(session.stored_weights().weights.is_empty(), "the number of rows is not known yet");
        let got = run(&session, &x);
        let stored = session.stored_weights();
        assert_eq!((stored.precision, stored.weights.len()), (precision, 2), "{stored:?}");
        assert!(
            stored.weights.iter().all(|w| w.kept.is_none() && w.input == 1 && !w.op.is_empty()),
            "{stored:?}"
        );
        assert_eq!((stored.model_bytes(), stored.bytes()), ((37 * 83 + 50 * 83) * 4, of_narrow));
        let plain = dense(&narrowed(&first, precision), &narrowed(&second, precision));
        close(&got, &run(&load(plain, Precision::F32, 1), &x), &precision.to_string());
        let bytes = |session: &Session| session.gpu_use().expect("a GPU").weights as usize;
        // Blocks are multiples of 512 bytes, and some of what is counted is no weight: biases and programs.
        let saved = bytes(&wide) - bytes(&session);
        let (held, narrow) = (bytes(&wide), bytes(&session));
        assert!(saved.abs_diff(of_wide - of_narrow) <= 1024, "{held} {narrow} {of_wide} {of_narrow}");
        let deviations = session.deviations(&wide, [("x", &x)]).expect("runs");
        assert!(0.0 < deviations[0].relative && deviations[0].relative < 0.02, "{deviations:?}");
    }
}

/// `x · w + b` of an `x` of this shape, as a model.
pub(crate) fn biased_product(shape: &[usize], columns: usize, w: &[f32]) -> Vec<u8> {
    let extents: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
    let dims = [(w.len() / columns) as i64, columns as i64];
    let constants = [floats("w", &dims, w), floats("b", &[columns as i64], &drawn(columns, 3))];
    let nodes = [node("MatMul", &["x", "w"], &["p"]), node("Add", &["p", "b"], &["y"])];
    let inputs = [fixed("x", code::F32, &extents)];
    model(&graph(&inputs, &[untyped("y")], &nodes, &constants)).into_bytes()
}

#[test]
fn many_rows_on_a_gpu_are_multiplied_in_the_format() {
    // Of tiles, and of rows that no piece of 16 bytes divides; one of them over two axes of batches.
    for (batch, depth, columns) in [(vec![40], 128, 256), (vec![40], 37, 83), (vec![2, 20], 96, 128)] {
        let weights = drawn(depth * columns, 1);
        let shape: Vec<usize> = batch.iter().copied().chain([depth]).collect();
        let made = |w: &[f32]| biased_product(&shape, columns, w);
        let values = drawn(shape.iter().product(), 7);
        let x = Tensor::new(&shape, values.clone()).expect("a tensor");
        for precision in NARROW {
            let session = load_emulated(made(&weights), precision);
            let stored = session.stored_weights();
            assert_eq!(stored.weights.len(), 1, "{stored:?}");
            assert_eq!((stored.weights[0].kept, stored.weights[0].input), (None, 1));
            let rounded_x = Tensor::new(&shape, narrowed(&values, precision)).expect("a tensor");
            let plain = load(made(&narrowed(&weights, precision)), Precision::F32, 1);
            close(&run(&session, &x), &run(&plain, &rounded_x), &format!("{precision} {shape:?}"));
            let bytes = session.gpu_use().expect("a GPU").weights as usize;
            assert!(bytes < weights.len() * 4, "{bytes}: the model's weights are not there beside them");
        }
    }
}

#[test]
fn recurrences_on_a_gpu_are_those_of_rounded_weights() {
    let [w, r] = recurrent_weights();
    let values = drawn(7 * 19, 8);
    let x = Tensor::new(&[7, 1, 19], values).expect("a tensor");
    let wide = load_emulated(lstm(&w, &r).into_bytes(), Precision::F32);
    run(&wide, &x);
    for precision in NARROW {
        let plain = lstm(&narrowed(&w, precision), &narrowed(&r, precision));
        let session = load_emulated(lstm(&w, &r).into_bytes(), precision);
        close(
            &run(&session, &x),
            &run(&load(plain.into_bytes(), Precision::F32, 1), &x),
            &precision.to_string(),
        );
        let stored = session.stored_weights();
        let inputs: Vec<_> = stored.weights.iter().map(|w| (&*w.op, w.input, w.kept)).collect();
        assert_eq!(inputs, [("LSTM", 1, None), ("LSTM", 2, None)]);
        assert!(stored.bytes() <= stored.model_bytes() * 5 / 8, "{stored:?}");
        let [narrow, wide] = [&session, &wide].map(|s| s.gpu_use().expect("a GPU").weights);
        assert!(narrow * 8 < wide * 5, "{narrow} {wide}");
    }
}

#[test]
fn a_recurrence_of_many_steps_rounds_what_comes_in() {
    let [w, r] = recurrent_weights();
    let h = HIDDEN as i64;
    let made = |w: &[f32], r: &[f32]| {
        let constants = [floats("w", &[1, 3 * h, 19], w), floats("r", &[1, 3 * h, h], r)];
        let nodes = [node("GRU", &["x", "w", "r"], &["y"]).named("cell").with_int("hidden_size", h)];
        let inputs = [fixed("x", code::F32, &[9, 2, 19])];
        model(&graph(&inputs, &[untyped("y")], &nodes, &constants)).into_bytes()
    };
    let (w, r) = (&w[..3 * HIDDEN * 19], &r[..3 * HIDDEN * HIDDEN]);
    let values = drawn(9 * 2 * 19, 8);
    let tensor = |values: Vec<f32>| Tensor::new(&[9, 2, 19], values).expect("a tensor");
    for precision in NARROW {
        let session = load_emulated(made(w, r), precision);
        assert!(session.stored_weights().weights.iter().all(|w| w.kept.is_none()));
        let plain = load(made(&narrowed(w, precision), &narrowed(r, precision)), Precision::F32, 1);
        let want = run(&plain, &tensor(narrowed(&values, precision)));
        close(&run(&session, &tensor(values.clone())), &want, &precision.to_string());
    }
}

#[test]
fn convolutions_on_a_gpu_are_computed_in_the_format() {
    // Of all channels, and of one each.
    for groups in [1, 6] {
        let (channels, filters) = (6, 6);
        let count = filters * channels / groups * 9;
        let weights = drawn(count, 1);
        let made = |w: &[f32]| {
            let dims = [filters as i64, (channels / groups) as i64, 3, 3];
            let constants = [floats("w", &dims, w), floats("b", &[filters as i64], &drawn(filters, 3))];
            let convolution = node("Conv", &["x", "w", "b"], &["c"]).with_int("group", groups as i64);
            let nodes = [convolution, node("Relu", &["c"], &["y"])];
            let inputs = [fixed("x", code::F32, &[2, channels as i64, 9, 7])];
            model(&graph(&inputs, &[untyped("y")], &nodes, &constants)).into_bytes()
        };
        let shape = [2, channels, 9, 7];
        let values = drawn(shape.iter().product(), 7);
        let tensor = |values: Vec<f32>| Tensor::new(&shape, values).expect("a tensor");
        for precision in NARROW {
            let session = load_emulated(made(&weights), precision);
            let stored = session.stored_weights();
            // For tensor cores the weights of a filter over all channels are padded to 16 bytes.
            let row = count / filters * 2;
            let packed = filters * if groups == 1 { row.next_multiple_of(16) } else { row };
            assert_eq!((stored.model_bytes(), stored.bytes()), (count * 4, packed), "{stored:?}");
            let plain = load(made(&narrowed(&weights, precision)), Precision::F32, 1);
            let want = run(&plain, &tensor(narrowed(&values, precision)));
            close(&run(&session, &tensor(values.clone())), &want, &format!("{precision}, {groups} groups"));
        }
    }
}

#[test]
fn what_a_gpu_cannot_hold_or_read_so_stays_as_it_is_and_is_told() {
    let (first, mut second) = (drawn(37 * 83, 1), drawn(50 * 83, 2));
    second[1234] = -70000.0;
    for rows in [3, 40] {
        let x = Tensor::new(&[rows, 37], drawn(rows * 37, 7)).expect("a tensor");
        let session = load_emulated(dense(&first, &second), Precision::F16);
        assert!(run(&session, &x).iter().all(|y| y.is_finite()));
        let [stored, kept] = &session.stored_weights().weights[..] else { panic!("two products") };
        assert_eq!(kept.kept, Some(Kept::OutOfRange { weight: -70000.0 }));
        assert_eq!((kept.bytes, stored.kept), (kept.model_bytes, None));
    }
    let weights = drawn(2 * 3 * 9, 1);
    let constants = [floats("w", &[2, 3, 3, 3], &weights)];
    let nodes = [node("ConvTranspose", &["x", "w"], &["y"])];
    let inputs = [fixed("x", code::F32, &[1, 2, 4, 4])];
    let bytes = model(&graph(&inputs, &[untyped("y")], &nodes, &constants)).into_bytes();
    let session = load_emulated(bytes.clone(), Precision::Bf16);
    assert_eq!(session.stored_weights().weights[0].kept, Some(Kept::NoKernel));
    let x = Tensor::new(&[1, 2, 4, 4], drawn(32, 7)).expect("a tensor");
    close(&run(&session, &x), &run(&load(bytes, Precision::F32, 1), &x), "as in the model");
}

#[test]
fn deviations_grow_as_formats_lose_bits() {
    let [w, r] = recurrent_weights();
    let x = Tensor::new(&[7, 1, 19], drawn(7 * 19, 8)).expect("a tensor");
    let exact = load(lstm(&w, &r).into_bytes(), Precision::F32, 1);
    let of = |precision| {
        let session = load(lstm(&w, &r).into_bytes(), precision, 1);
        let all = session.deviations(&exact, [("x", &x)]).expect("runs");
        assert_eq!(all.len(), 1);
        all[0].relative
    };
    let [none, half, brain, byte] =
        [Precision::F32, Precision::F16, Precision::Bf16, Precision::Int8].map(of);
    assert_eq!(none, 0.0);
    assert!(0.0 < half && half < 2e-3 && half < brain && half < byte && brain < 0.05 && byte < 0.05);
}

#[test]
fn measurements_and_plans_of_formats_are_told_apart() {
    let [w, r] = recurrent_weights();
    let x = Tensor::new(&[7, 1, 19], drawn(7 * 19, 8)).expect("a tensor");
    let folder = tempfile::tempdir().expect("a folder");
    let cache = ProfileCache::at(folder.path());
    let effort = Effort { warm: 1, least: 1, most: 2, time: Duration::from_millis(1) };
    let options = || ProfileOptions::default().with_effort(effort).with_cache(cache.clone());
    let [wide, half] =
        [Precision::F32, Precision::F16].map(|precision| load(lstm(&w, &r).into_bytes(), precision, 2));
    let [of_wide, of_half] = [&wide, &half].map(|s| s.profile([("x", &x)], &options()).expect("measures"));
    assert!(of_wide.operators.keys().any(|k| k.starts_with("LSTM")));
    assert!(of_half.operators.keys().any(|k| k.starts_with("LSTM")));
    let shared = of_wide.operators.keys().filter(|k| of_half.operators.contains_key(*k)).count();
    assert_eq!(shared, 0);
    let plan = wide.plan([("x", x.shape())], &of_wide).expect("a plan").plan;
    wide.follow(&plan).expect("its own");
    half.follow(&plan).expect_err("a plan for other weights");
}
