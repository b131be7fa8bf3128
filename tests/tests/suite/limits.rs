//! The memory limit, and what a session holds.

use crate::outcome::limited;
use recurve::{Engine, ErrorKind, Session, Tensor};
use recurve_tests::wire::{Extent, code, fixed, floats, graph, model, node, tensor, untyped, value};

/// `y = x · w` with `w` of 256 × 256.
fn product() -> Vec<u8> {
    let w = floats("w", &[256, 256], &vec![0.5; 1 << 16]);
    let inputs = [value("x", code::F32, &[Extent::Name("rows"), Extent::N(256)])];
    model(&graph(&inputs, &[untyped("y")], &[node("MatMul", &["x", "w"], &["y"]).named("product")], &[w]))
        .into_bytes()
}

#[test]
fn a_limit_below_the_weights_is_an_error_at_load_or_run() {
    // The bytes of the file are the caller's; what the engine makes of them is charged.
    let session = limited().load_bytes(product()).expect("loads");
    let held = session.memory_used();
    let x = Tensor::new(&[1, 256], vec![1f32; 256]).expect("a tensor");
    session.run([("x", &x)]).expect("runs");
    assert!(session.memory_used() >= held);
    let wide = Tensor::new(&[1 << 15, 256], vec![1f32; 1 << 23]).expect("a tensor");
    let session = limited().with_memory_limit(16 << 20).load_bytes(product()).expect("loads");
    let error = session.run([("x", &wide)]).expect_err("an output of 32 MiB");
    assert_eq!(error.kind(), ErrorKind::MemoryLimit, "{error}");
    assert!(error.to_string().contains(&(16usize << 20).to_string()), "{error}");
    session.run([("x", &x)]).expect("a small run still fits");
}

#[test]
fn an_engine_counts_all_its_sessions() {
    let engine = Engine::builder().with_threads(1).with_memory_limit(7 << 20).build().expect("an engine");
    let load = || Session::builder().with_engine(&engine).load_bytes(product());
    let first = load().expect("loads");
    let second = load().expect("loads");
    let x = Tensor::new(&[4096, 256], vec![1f32; 1 << 20]).expect("a tensor");
    let kept = first.run([("x", &x)]).expect("an output of 4 MiB");
    let error = second.run([("x", &x)]).expect_err("another one");
    assert_eq!(error.kind(), ErrorKind::MemoryLimit, "{error}");
    assert!(engine.memory_peak() <= 7 << 20);
    drop(kept);
    second.run([("x", &x)]).expect("fits now");
    drop((first, second));
    assert_eq!(engine.memory_used(), 0);
}

#[test]
fn outputs_outlive_their_session() {
    let session = limited().load_bytes(product()).expect("loads");
    let x = Tensor::new(&[1, 256], vec![2f32; 256]).expect("a tensor");
    let y = session.run([("x", &x)]).expect("runs");
    drop(session);
    assert_eq!(y.tensor("y").expect("y").as_slice::<f32>().expect("aligned")[0], 256.0);
}

#[test]
fn many_shapes_do_not_pile_up() {
    let session = limited().load_bytes(product()).expect("loads");
    let mut after_first = 0;
    for round in 0..3 {
        for rows in 1..40 {
            let x = Tensor::new(&[rows, 256], vec![1f32; rows * 256]).expect("a tensor");
            session.run([("x", &x)]).expect("runs");
        }
        if round == 0 {
            after_first = session.memory_used();
        }
    }
    assert_eq!(session.memory_used(), after_first);
}

#[test]
fn settings_that_contradict_each_other() {
    let engine = Engine::builder().with_threads(1).build().expect("an engine");
    let both = Session::builder().with_engine(&engine).with_threads(2).load_bytes(product());
    let error = both.expect_err("threads beside an engine");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("`threads`"), "{error}");
    for threads in [0, usize::MAX] {
        let error = Engine::builder().with_threads(threads).build().expect_err("no such number");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let error =
            Session::builder().with_threads(threads).load_bytes(product()).expect_err("no such number");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn convolutions_hold_no_windows_of_a_whole_image() {
    // Each window has nine positions or more, so that all windows of an image are that many times its bytes.
    let cases: [(&str, i64, &[i64], &[i64], &[(&str, &[i64])]); 5] = [
        ("3×3", code::F32, &[1, 16, 160, 160], &[8, 16, 3, 3], &[]),
        ("far apart", code::F32, &[1, 16, 160, 160], &[8, 16, 3, 3], &[("dilations", &[3, 2])]),
        ("of doubles", code::F64, &[1, 8, 160, 160], &[8, 8, 3, 3], &[]),
        ("of one axis", code::F32, &[1, 32, 16_000], &[16, 32, 9], &[]),
        ("of three axes", code::F32, &[1, 4, 40, 64, 40], &[4, 4, 3, 3, 3], &[]),
    ];
    for (name, dtype, image, window, lists) in cases {
        let size = if dtype == code::F64 { 8 } else { 4 };
        let elements = |shape: &[i64]| shape.iter().product::<i64>() as usize;
        let conv =
            lists.iter().fold(node("Conv", &["x", "w"], &["y"]), |m, (list, of)| m.with_ints(list, of));
        let w = tensor("w", dtype, window, &vec![0; elements(window) * size]);
        let bytes = model(&graph(&[fixed("x", dtype, image)], &[untyped("y")], &[conv], &[w])).into_bytes();
        let shape: Vec<usize> = image.iter().map(|&n| n as usize).collect();
        let held = elements(image) * size;
        let x = if dtype == code::F64 {
            Tensor::new(&shape, vec![1f64; elements(image)])
        } else {
            Tensor::new(&shape, vec![1f32; elements(image)])
        };
        let x = x.expect("a tensor");
        let windows = elements(&window[1..]) / image[1] as usize * held;
        // The input in another layout, the output, and what a thread works on.
        let limit = 3 * held + (2 << 20);
        assert!(limit * 2 < windows, "{name}: {limit} bytes are no limit for {windows}");
        let session = limited().with_memory_limit(limit).load_bytes(bytes).expect(name);
        let outputs = session.run([("x", &x)]).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert!(outputs.tensor("y").expect("y").len() > elements(image) / 8, "{name}");
    }
}
