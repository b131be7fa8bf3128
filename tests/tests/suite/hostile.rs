//! Models that reach for files, memory or time that is not theirs.

use crate::outcome::{LIMIT, SOON, assert_error, bounded, fails, limited, load, run};
use recurve::{CancelToken, ErrorKind, RunOptions, Tensor};
use recurve_tests::wire::{
    Extent, Message, code, external, fixed, floats, graph, ints, model, node, tensor, untyped, value,
};
use std::path::Path;
use std::time::{Duration, Instant};

/// A model whose weight `w` lies where `entries` say.
fn with_weight(shape: &[i64], entries: &[(&str, &str)]) -> Vec<u8> {
    let nodes = [node("Add", &["x", "w"], &["y"])];
    let inputs = [fixed("x", code::F32, shape)];
    model(&graph(&inputs, &[untyped("y")], &nodes, &[external("w", code::F32, shape, entries)])).into_bytes()
}

/// Loads `bytes` as the file `model.onnx` of a folder that `prepare` fills.
fn load_in_folder(
    bytes: &[u8],
    prepare: impl FnOnce(&Path) -> std::io::Result<()>,
) -> Result<recurve::Session, recurve::Error> {
    let outside = tempfile::tempdir().expect("a folder");
    std::fs::write(outside.path().join("secret.bin"), [7; 64]).expect("written");
    let folder = outside.path().join("model");
    std::fs::create_dir(&folder).expect("made");
    prepare(&folder).expect("prepared");
    let path = folder.join("model.onnx");
    std::fs::write(&path, bytes).expect("written");
    bounded("loading", || limited().load(path))
}

#[test]
fn external_data_that_is_there_is_read() {
    let data: Vec<u8> = [1f32, 2.0, 3.0, 4.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let bytes = with_weight(&[2], &[("location", "w.bin"), ("offset", "4"), ("length", "8")]);
    let session =
        load_in_folder(&bytes, |folder| std::fs::write(folder.join("w.bin"), &data)).expect("loads");
    let x = Tensor::new(&[2], vec![10f32, 20.0]).expect("a tensor");
    let y = session.run([("x", &x)]).expect("runs");
    assert_eq!(y.tensor("y").expect("y").to_vec::<f32>(), Some(vec![12.0, 23.0]));
}

#[test]
fn external_data_elsewhere() {
    let invalid = ErrorKind::InvalidModel;
    let absolute = std::env::temp_dir().join("secret.bin");
    let absolute = absolute.to_string_lossy();
    let huge = u64::MAX.to_string();
    let cases: [(&[(&str, &str)], ErrorKind, &str); 13] = [
        (&[("location", "absent.bin")], ErrorKind::Io, "absent.bin"),
        (&[], invalid, "location"),
        (&[("location", "")], invalid, "no location"),
        (&[("location", &absolute)], invalid, "inside"),
        (&[("location", "a\0b")], invalid, "no path"),
        (&[("location", "../secret.bin")], invalid, "outside"),
        (&[("location", "here/../../secret.bin")], invalid, "outside"),
        (&[("location", "link.bin")], invalid, "outside"),
        (&[("location", "linked/secret.bin")], invalid, "outside"),
        (&[("location", "short.bin")], invalid, "short.bin"),
        (&[("location", "short.bin"), ("offset", &huge)], invalid, "short.bin"),
        (&[("location", "short.bin"), ("offset", "-1")], invalid, "offset"),
        (&[("location", "short.bin"), ("length", "4")], invalid, "4 bytes"),
    ];
    for (entries, kind, part) in cases {
        let result = load_in_folder(&with_weight(&[2], entries), |folder| {
            std::fs::write(folder.join("short.bin"), [0; 4])?;
            #[cfg(unix)]
            {
                std::os::unix::fs::symlink("../secret.bin", folder.join("link.bin"))?;
                std::os::unix::fs::symlink("..", folder.join("linked"))?;
            }
            Ok(())
        });
        let error = result.expect_err("data elsewhere");
        if cfg!(unix) || !part.starts_with("link") {
            assert_error(&error, kind, &["`w`", part]);
        }
    }
    // A folder, and a model that has no folder.
    let folder =
        load_in_folder(&with_weight(&[2], &[("location", "sub")]), |f| std::fs::create_dir(f.join("sub")));
    assert_error(&folder.expect_err("a folder"), ErrorKind::Io, &["`w`", "sub"]);
    let bytes = with_weight(&[2], &[("location", "w.bin")]);
    let error = limited().load_bytes(bytes).expect_err("no folder");
    assert_error(&error, invalid, &["`w`", "w.bin"]);
}

#[test]
fn external_data_of_a_lying_shape() {
    for shape in [&[1i64 << 40][..], &[1 << 40, 1 << 40]] {
        let bytes = with_weight(shape, &[("location", "w.bin")]);
        let error = load_in_folder(&bytes, |folder| std::fs::write(folder.join("w.bin"), [0; 8]));
        assert_error(&error.expect_err("2^40 elements in 8 bytes"), ErrorKind::InvalidModel, &["`w`"]);
    }
}

const HUGE: i64 = 1 << 40;

/// `y = node(x, constants...)` with `x` f32 of shape [2].
fn blown_up(node: Message, constants: &[Message]) -> Message {
    model(&graph(&[fixed("x", code::F32, &[2])], &[untyped("y")], &[node.named("blow")], constants))
}

fn x() -> Tensor {
    Tensor::new(&[2], vec![1f32, 2.0]).expect("a tensor")
}

#[test]
fn operators_that_blow_up_their_input() {
    let memory = ErrorKind::MemoryLimit;
    let wide = ints("s", &[2], &[HUGE, 2]);
    let cases = [
        ("Expand", blown_up(node("Expand", &["x", "s"], &["y"]), std::slice::from_ref(&wide))),
        ("Tile", blown_up(node("Tile", &["x", "s"], &["y"]), &[ints("s", &[1], &[HUGE])])),
        ("Pad", blown_up(node("Pad", &["x", "s"], &["y"]), &[ints("s", &[2], &[HUGE, 0])])),
        ("ConstantOfShape", blown_up(node("ConstantOfShape", &["s"], &["y"]), &[wide])),
        (
            "Range",
            blown_up(
                node("Range", &["a", "b", "c"], &["y"]),
                &[ints("a", &[], &[0]), ints("b", &[], &[HUGE]), ints("c", &[], &[1])],
            ),
        ),
    ];
    for (op, m) in cases {
        fails(m, &[("x", &x())], memory, &["`blow`", op, &LIMIT.to_string()]);
    }
}

#[test]
fn sizes_that_overflow() {
    let cases = [
        blown_up(node("Expand", &["x", "s"], &["y"]), &[ints("s", &[3], &[HUGE, HUGE, 2])]),
        blown_up(node("Tile", &["x", "s"], &["y"]), &[ints("s", &[1], &[i64::MAX])]),
        blown_up(node("Pad", &["x", "s"], &["y"]), &[ints("s", &[2], &[i64::MAX, i64::MAX])]),
        blown_up(node("ConstantOfShape", &["s"], &["y"]), &[ints("s", &[2], &[i64::MAX, i64::MAX])]),
        blown_up(
            node("Range", &["a", "b", "c"], &["y"]),
            &[ints("a", &[], &[i64::MIN]), ints("b", &[], &[i64::MAX]), ints("c", &[], &[1])],
        ),
    ];
    for m in cases {
        let result = load(m).and_then(|session| bounded("running", || run(&session, &[("x", &x())])));
        let error = result.expect_err("a size that overflows");
        let kinds = [ErrorKind::MemoryLimit, ErrorKind::InvalidModel, ErrorKind::InvalidInput];
        assert!(kinds.contains(&error.kind()), "{error:?}");
        assert_error(&error, error.kind(), &["`blow`"]);
    }
}

/// As above, with the size given by the caller, so that nothing is known at load.
#[test]
fn sizes_that_come_with_the_data() {
    for (op, code, size) in [
        ("Expand", code::I64, vec![HUGE]),
        ("Tile", code::I64, vec![HUGE]),
        ("ConstantOfShape", code::I64, vec![HUGE]),
        ("ConstantOfShape", code::I64, vec![-1]),
        ("Tile", code::I64, vec![-1]),
        ("Expand", code::I64, vec![i64::MAX]),
    ] {
        let inputs = [fixed("x", code::F32, &[1]), value("s", code, &[Extent::Name("n")])];
        let names: &[&str] = if op == "ConstantOfShape" { &["s"] } else { &["x", "s"] };
        let m = model(&graph(&inputs, &[untyped("y")], &[node(op, names, &["y"]).named("blow")], &[]));
        let session = load(m).expect("the size is not known yet");
        let x = Tensor::new(&[1], vec![1f32]).expect("a tensor");
        let s = Tensor::new(&[1], size).expect("a tensor");
        let error =
            bounded("running", || run(&session, &[("x", &x), ("s", &s)])).expect_err("a hostile size");
        let kinds = [ErrorKind::MemoryLimit, ErrorKind::InvalidInput];
        assert!(kinds.contains(&error.kind()), "{op}: {error:?}");
        assert_error(&error, error.kind(), &["`blow`", op]);
        // The session stays usable.
        let s = Tensor::new(&[1], vec![1i64]).expect("a tensor");
        run(&session, &[("x", &x), ("s", &s)]).expect("a harmless size");
    }
}

#[test]
fn initializers_without_bytes() {
    // A raw tensor of 2^40 elements and no byte, and one of no element and 2^40 rows.
    let sparse = tensor("w", code::F32, &[HUGE, 0], &[]);
    let add = node("ReduceSum", &["w"], &["y"]).named("reduce").with_int("keepdims", 0);
    let m = model(&graph(&[fixed("x", code::F32, &[2])], &[untyped("y")], &[add], &[sparse]));
    match load(m) {
        Ok(session) => {
            let y = bounded("running", || run(&session, &[("x", &x())])).expect("an empty sum");
            assert_eq!(y.tensor("y").expect("y").to_vec::<f32>(), Some(vec![0.0]));
        }
        Err(error) => assert_ne!(error.kind(), ErrorKind::Internal, "{error}"),
    }
}

#[test]
fn sparse_tensors_of_huge_extent() {
    let values = floats("w", &[1], &[1.0]);
    let indices = ints("", &[1], &[5]);
    let sparse = Message::new().message(1, &values).message(2, &indices).int(3, HUGE);
    let nodes = [node("Relu", &["w"], &["y"])];
    let g = graph(&[fixed("x", code::F32, &[2])], &[untyped("y")], &nodes, &[]).message(15, &sparse);
    let error = load(model(&g)).expect_err("2^40 elements");
    assert_error(&error, ErrorKind::MemoryLimit, &["w"]);
}

#[test]
fn doubling_again_and_again() {
    // Forty nodes of which each doubles its input.
    let mut nodes = Vec::new();
    for i in 0..40 {
        let (from, to) = (format!("v{i}"), format!("v{}", i + 1));
        nodes.push(node("Concat", &[&from, &from], &[&to]).with_int("axis", 0).named(&to));
    }
    let m = model(&graph(&[fixed("v0", code::F32, &[2])], &[untyped("v40")], &nodes, &[]));
    fails(m, &[("v0", &x())], ErrorKind::MemoryLimit, &["Concat"]);
}

/// A loop without an end: `condition` stays what it is, `h` becomes `h + h`.
pub(crate) fn endless() -> Message {
    let body = graph(
        &[fixed("i", code::I64, &[]), fixed("go", code::BOOL, &[]), fixed("h", code::F32, &[2])],
        &[untyped("go_out"), untyped("h_out")],
        &[node("Identity", &["go"], &["go_out"]), node("Add", &["h", "h"], &["h_out"])],
        &[],
    );
    let nodes = [node("Loop", &["", "go", "x"], &["y"]).named("forever").with_graph("body", &body)];
    let inputs = [fixed("x", code::F32, &[2]), fixed("go", code::BOOL, &[])];
    model(&graph(&inputs, &[untyped("y")], &nodes, &[]))
}

#[test]
fn an_endless_loop_meets_its_deadline() {
    let session = load(endless()).expect("a valid model");
    let go = Tensor::scalar(recurve::values::Bool::new(true));
    let start = Instant::now();
    let options = RunOptions::default().with_timeout(Duration::from_millis(50));
    let error = bounded("running", || session.run_with([("x", &x()), ("go", &go)], &options));
    assert_error(&error.expect_err("endless"), ErrorKind::Deadline, &["deadline"]);
    assert!(start.elapsed() < SOON / 5, "{:?}", start.elapsed());
    // A deadline that has passed already, and then a run that ends.
    let options = RunOptions::default().with_deadline(Instant::now());
    let error = session.run_with([("x", &x()), ("go", &go)], &options).expect_err("late already");
    assert_eq!(error.kind(), ErrorKind::Deadline);
    let stop = Tensor::scalar(recurve::values::Bool::new(false));
    let y = session.run([("x", &x()), ("go", &stop)]).expect("no iteration");
    assert_eq!(y.tensor("y").expect("y").to_vec::<f32>(), Some(vec![1.0, 2.0]));
}

#[test]
fn a_loop_whose_state_doubles_meets_its_deadline() {
    // The deadline passes inside a step over many MiB: no round is waited for to its end, and no limit on memory is met.
    let given = [untyped("i"), untyped("go"), untyped("h")];
    let nodes = [
        node("Identity", &["go"], &["go_out"]),
        node("Concat", &["h", "h"], &["twice"]).with_int("axis", 0),
        node("Tanh", &["twice"], &["h_out"]),
    ];
    let body = graph(&given, &[untyped("go_out"), untyped("h_out")], &nodes, &[]);
    let nodes = [node("Loop", &["", "", "x"], &["y"]).with_graph("body", &body)];
    let doubling = model(&graph(&[fixed("x", code::F32, &[2])], &[untyped("y")], &nodes, &[]));
    let session = limited().with_memory_limit(4 << 30).load_bytes(doubling.into_bytes());
    let session = session.expect("a valid model");
    let timeout = Duration::from_millis(100);
    let (options, start) = (RunOptions::default().with_timeout(timeout), Instant::now());
    let error = session.run_with([("x", &x())], &options).expect_err("endless");
    assert_error(&error, ErrorKind::Deadline, &["deadline"]);
    assert!(start.elapsed() < timeout + SOON / 5, "{:?}", start.elapsed());
}

#[test]
fn an_endless_loop_is_cancelled_from_another_thread() {
    let session = load(endless()).expect("a valid model");
    let go = Tensor::scalar(recurve::values::Bool::new(true));
    let token = CancelToken::new();
    let options = RunOptions::default().with_cancel(&token);
    let start = Instant::now();
    let error = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(50));
            token.cancel();
        });
        session.run_with([("x", &x()), ("go", &go)], &options).expect_err("cancelled")
    });
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(start.elapsed() < SOON / 5, "{:?}", start.elapsed());
    assert!(token.is_cancelled());
    // A token that is cancelled beforehand.
    assert_eq!(
        session.run_with([("x", &x()), ("go", &go)], &options).expect_err("cancelled").kind(),
        ErrorKind::Cancelled
    );
}

/// A loop that writes one row per iteration, `count` times.
fn gathering(count: i64) -> Message {
    let body = graph(
        &[fixed("i", code::I64, &[]), fixed("go", code::BOOL, &[])],
        &[untyped("go_out"), untyped("row")],
        &[node("Identity", &["go"], &["go_out"]), node("Expand", &["one", "wide"], &["row"])],
        &[floats("one", &[1], &[1.0]), ints("wide", &[1], &[1 << 16])],
    );
    let nodes = [node("Loop", &["count", ""], &["y"]).named("gather").with_graph("body", &body)];
    let g = graph(&[fixed("x", code::F32, &[2])], &[untyped("y")], &nodes, &[ints("count", &[], &[count])]);
    model(&g)
}

#[test]
fn a_loop_that_gathers_without_end_meets_the_memory_limit() {
    for count in [10_000, HUGE] {
        fails(gathering(count), &[("x", &x())], ErrorKind::MemoryLimit, &["`gather`", "Loop"]);
    }
    // So many rows are not even a shape.
    fails(gathering(i64::MAX), &[("x", &x())], ErrorKind::InvalidModel, &["`gather`", "Loop"]);
}

/// Named extents of which each node makes a larger expression: load must not take what it would cost to write
/// them out.
#[test]
fn symbolic_extents_that_grow() {
    // Broadcasts of unequal symbols nest like the Fibonacci numbers.
    let mut nodes = Vec::new();
    for i in 0..200 {
        let (a, b, c) = (format!("v{i}"), format!("v{}", i + 1), format!("v{}", i + 2));
        nodes.push(node("Add", &[&a, &b], &[&c]));
    }
    let inputs = ["v0", "v1"].map(|name| value(name, code::F32, &[Extent::Name(name)]));
    let session = load(model(&graph(&inputs, &[untyped("v201")], &nodes, &[]))).expect("a valid model");
    let x = Tensor::new(&[1], vec![0f32]).expect("a tensor");
    run(&session, &[("v0", &x), ("v1", &x)]).expect("runs");

    // Sums with Fibonacci coefficients pass 2^63 after ninety nodes.
    let mut nodes = Vec::new();
    for i in 0..200 {
        let (a, b, c) = (format!("v{i}"), format!("v{}", i + 1), format!("v{}", i + 2));
        nodes.push(node("Concat", &[&a, &b], &[&c]).with_int("axis", 0));
    }
    let session = load(model(&graph(&inputs, &[untyped("v201")], &nodes, &[]))).expect("a valid model");
    let empty = Tensor::new(&[0], Vec::<f32>::new()).expect("a tensor");
    run(&session, &[("v0", &empty), ("v1", &empty)]).expect("nothing, however often, is nothing");
    let error = bounded("running", || run(&session, &[("v0", &x), ("v1", &x)])).expect_err("2^138 elements");
    assert!(matches!(error.kind(), ErrorKind::MemoryLimit | ErrorKind::InvalidInput), "{error:?}");

    // Products of sums: as many terms as subsets.
    let mut nodes = vec![node("Shape", &["v0"], &["s"]), node("Shape", &["v1"], &["t"])];
    for i in 0..60 {
        let (from, sum, to) = (format!("p{i}"), format!("q{i}"), format!("p{}", i + 1));
        let from = if i == 0 { "s" } else { &from };
        nodes.push(node("Add", &[from, "t"], &[&sum]));
        nodes.push(node("Mul", &[&sum, &sum], &[&to]));
    }
    nodes.push(node("ConstantOfShape", &["p60"], &["y"]));
    let session = load(model(&graph(&inputs, &[untyped("y")], &nodes, &[])));
    let result = session.and_then(|session| bounded("running", || run(&session, &[("v0", &x), ("v1", &x)])));
    if let Err(error) = result {
        assert_ne!(error.kind(), ErrorKind::Internal, "{error:?}");
    }
}

#[test]
fn shapes_of_many_axes() {
    const AXES: usize = 200_000;
    let ones = ints("s", &[AXES as i64], &vec![1; AXES]);
    let permutation: Vec<i64> = (0..AXES as i64).rev().collect();
    let nodes = [
        node("Reshape", &["x", "s"], &["a"]).named("reshape"),
        node("Transpose", &["a"], &["b"]).named("transpose").with_ints("perm", &permutation),
        node("Add", &["b", "b"], &["c"]),
        node("Squeeze", &["c"], &["d"]),
        node("Unsqueeze", &["d", "axes"], &["y"]),
    ];
    let axes = ints("axes", &[AXES as i64], &permutation);
    let inputs = [fixed("x", code::F32, &[1])];
    let m = model(&graph(&inputs, &[untyped("y")], &nodes, &[ones, axes]));
    let x = Tensor::new(&[1], vec![1f32]).expect("a tensor");
    let result = load(m).and_then(|session| bounded("running", || run(&session, &[("x", &x)])));
    if let Err(error) = result {
        assert_ne!(error.kind(), ErrorKind::Internal, "{error:?}");
    }
}

#[test]
fn shape_contents_that_double() {
    // Forty concatenations of a shape with itself are 2^40 integers, all of them known at load.
    let mut nodes = vec![node("Shape", &["x"], &["v0"])];
    for i in 0..40 {
        let (from, to) = (format!("v{i}"), format!("v{}", i + 1));
        nodes.push(node("Concat", &[&from, &from], &[&to]).with_int("axis", 0));
    }
    let m = model(&graph(&[fixed("x", code::F32, &[2])], &[untyped("v40")], &nodes, &[]));
    fails(m, &[("x", &x())], ErrorKind::MemoryLimit, &["Concat"]);
}
