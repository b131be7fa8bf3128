//! The public API: what callers pass, what they get back, and what they are told when it does not fit.

use crate::outcome::{assert_error, chain, limited};
use recurve::values::Bool;
use recurve::{DType, Error, ErrorKind, Session, Tensor, TensorMut, TensorView, Value};
use recurve_tests::wire::{Extent, Message, code, fixed, floats, graph, model, node, untyped, value};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// `sum = a + b` and `product = a * b`, both of [batch, 3], with a value between them.
fn pair() -> Session {
    let shape = [Extent::Name("batch"), Extent::N(3)];
    let inputs = [value("a", code::F32, &shape), value("b", code::F32, &shape)];
    let nodes = [
        node("Add", &["a", "b"], &["sum"]),
        node("Neg", &["a"], &["negated"]),
        node("Mul", &["negated", "b"], &["product"]),
    ];
    let m = model(&graph(&inputs, &[untyped("sum"), untyped("product")], &nodes, &[]))
        .text(2, "a producer")
        .text(3, "1.2")
        .text(4, "org.example")
        .int(5, 7)
        .text(6, "what it does")
        .with_metadata("author", "nobody")
        .with_metadata("licence", "free");
    limited().load_bytes(m.into_bytes()).expect("a valid model")
}

fn rows(batch: usize) -> Tensor {
    Tensor::new(&[batch, 3], (0..batch * 3).map(|i| i as f32).collect()).expect("a tensor")
}

/// The error of a run on these inputs, which is the caller's fault and names `parts`.
#[track_caller]
fn argument_error(session: &Session, inputs: &[(&str, &Tensor)], parts: &[&str]) {
    let error = session.run(inputs.iter().copied()).expect_err("inputs that do not fit");
    assert!(matches!(error, Error::Argument { .. }), "{error:?}");
    assert_error(&error, ErrorKind::InvalidInput, parts);
}

#[test]
fn inputs_that_do_not_fit() {
    let session = pair();
    let (a, b) = (rows(2), rows(2));
    argument_error(&session, &[("a", &a)], &["`b`", "missing"]);
    argument_error(&session, &[("a", &a), ("b", &b), ("c", &b)], &["`c`", "a, b"]);
    argument_error(&session, &[("a", &a), ("a", &a), ("b", &b)], &["`a`", "twice"]);
    argument_error(&session, &[("a", &a), ("b", &rows(3))], &["`b`", "batch", "3", "2"]);
    let wide = Tensor::new(&[2, 4], vec![0f32; 8]).expect("a tensor");
    argument_error(&session, &[("a", &a), ("b", &wide)], &["`b`", "[2, 4]"]);
    let flat = Tensor::new(&[6], vec![0f32; 6]).expect("a tensor");
    argument_error(&session, &[("a", &flat), ("b", &b)], &["`a`", "[6]"]);
    let double = Tensor::new(&[2, 3], vec![0f64; 6]).expect("a tensor");
    argument_error(&session, &[("a", &a), ("b", &double)], &["`b`", "float64", "float32"]);
    let text = Tensor::strings(&[2, 3], vec![String::new(); 6]).expect("a tensor");
    argument_error(&session, &[("a", &text), ("b", &b)], &["`a`", "string", "float32"]);
    let sequence = Value::Sequence(recurve::values::Sequence::new(vec![a.clone().into()]));
    let error = session.run([("a", sequence.as_ref()), ("b", (&b).into())]).expect_err("a sequence");
    assert_error(&error, ErrorKind::InvalidInput, &["`a`", "sequence"]);
    session.run([("a", &a), ("b", &b)]).expect("nothing of that stays behind");
}

#[test]
fn all_that_does_not_fit_is_told_at_once() {
    let session = pair();
    let wide = Tensor::new(&[2, 4], vec![0f32; 8]).expect("a tensor");
    let told = |inputs: &[(&str, &Tensor)]| match session.run(inputs.iter().copied()) {
        Err(Error::Arguments { misfits }) => {
            misfits.iter().map(|m| format!("{} {}: {}", m.role, m.name, m.problem)).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(told(&[]), ["input a: is missing", "input b: is missing"]);
    let double = Tensor::new(&[2, 3], vec![0f64; 6]).expect("a tensor");
    assert_eq!(
        told(&[("a", &double), ("b", &wide), ("c", &wide)]),
        [
            "input c: is not one of the model's: a, b",
            "input a: is float64; float32 is expected",
            "input b: has shape [2, 4]; [batch, 3] is expected",
        ]
    );
    let mut place = [0f32; 6];
    let error = session
        .run_into([("a", &wide)], &mut [("ghost", TensorMut::new(&[2, 3], &mut place).expect("a place"))])
        .expect_err("nothing fits");
    assert_error(
        &error,
        ErrorKind::InvalidInput,
        &["3 arguments", "output `ghost`", "input `a`", "input `b`"],
    );
    let (mut one, mut two) = ([0f32; 3], [0f64; 6]);
    let (a, b) = (rows(2), rows(2));
    let error = session
        .run_into(
            [("a", &a), ("b", &b)],
            &mut [
                ("sum", TensorMut::new(&[1, 3], &mut one).expect("a place")),
                ("product", TensorMut::new(&[2, 3], &mut two).expect("a place")),
            ],
        )
        .expect_err("no place fits");
    assert_error(&error, ErrorKind::InvalidInput, &["2 arguments", "output `sum`", "output `product`"]);
}

#[test]
fn an_empty_batch_is_a_batch() {
    let session = pair();
    let y = session.run([("a", &rows(0)), ("b", &rows(0))]).expect("runs");
    assert_eq!(y.tensor("sum").expect("sum").shape(), [0, 3]);
}

#[test]
fn outputs_come_in_order_and_by_name() {
    let session = pair();
    let (a, b) = (rows(1), rows(1));
    let y = session.run([("b", &b), ("a", &a)]).expect("runs");
    assert_eq!(y.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["sum", "product"]);
    assert_eq!((y.len(), y.is_empty()), (2, false));
    assert_eq!(y.tensor("product").expect("product").to_vec::<f32>(), Some(vec![0.0, -1.0, -4.0]));
    assert!(y.get("negated").is_none());
    assert_error(&y.tensor("negated").expect_err("no output"), ErrorKind::InvalidInput, &["`negated`"]);
    assert_eq!(y.into_values().len(), 2);
}

#[test]
fn outputs_are_chosen() {
    let bytes = |_: ()| {
        let nodes = [node("Neg", &["x"], &["a"]), node("Relu", &["a"], &["b"]), node("Abs", &["b"], &["y"])];
        model(&graph(&[fixed("x", code::F32, &[2])], &[untyped("y")], &nodes, &[])).into_bytes()
    };
    let session = limited().with_outputs(&["b", "a"]).load_bytes(bytes(())).expect("loads");
    assert_eq!(session.outputs().iter().map(|o| &*o.name).collect::<Vec<_>>(), ["b", "a"]);
    let x = Tensor::new(&[2], vec![1f32, -2.0]).expect("a tensor");
    let y = session.run([("x", &x)]).expect("runs");
    assert_eq!(y.tensor("b").expect("b").to_vec::<f32>(), Some(vec![0.0, 2.0]));
    assert_eq!(y.tensor("a").expect("a").to_vec::<f32>(), Some(vec![-1.0, 2.0]));
    let error = limited().with_outputs(&["ghost"]).load_bytes(bytes(())).expect_err("no such value");
    assert_error(&error, ErrorKind::InvalidInput, &["`ghost`"]);
    // An input and a constant can be outputs too, and one value twice.
    let session = limited().with_outputs(&["x", "y"]).load_bytes(bytes(())).expect("loads");
    let y = session.run([("x", &x)]).expect("runs");
    assert_eq!(y.tensor("x").expect("x").to_vec::<f32>(), Some(vec![1.0, -2.0]));
}

#[test]
fn an_output_that_is_an_input_or_a_constant() {
    let w = floats("w", &[2], &[5.0, 6.0]);
    let m = model(&graph(&[fixed("x", code::F32, &[2])], &[untyped("x"), untyped("w")], &[], &[w]));
    let session = limited().load_bytes(m.into_bytes()).expect("loads");
    let x = Tensor::new(&[2], vec![1f32, 2.0]).expect("a tensor");
    let y = session.run([("x", &x)]).expect("runs");
    assert_eq!(y.tensor("x").expect("x").to_vec::<f32>(), Some(vec![1.0, 2.0]));
    assert_eq!(y.tensor("w").expect("w").to_vec::<f32>(), Some(vec![5.0, 6.0]));
}

#[test]
fn places_that_do_not_fit() {
    let session = pair();
    let (a, b) = (rows(2), rows(2));
    let inputs = || [("a", &a), ("b", &b)];
    let mut six = [0f32; 6];
    let mut other = [0f32; 6];
    let shape = [2, 3];

    let places = &mut [("ghost", TensorMut::new(&shape, &mut six).expect("a place"))];
    let error = session.run_into(inputs(), places).expect_err("no such output");
    assert_error(&error, ErrorKind::InvalidInput, &["output", "`ghost`", "sum, product"]);

    let places = &mut [
        ("sum", TensorMut::new(&shape, &mut six).expect("a place")),
        ("sum", TensorMut::new(&shape, &mut other).expect("a place")),
    ];
    let error = session.run_into(inputs(), places).expect_err("twice");
    assert_error(&error, ErrorKind::InvalidInput, &["`sum`", "twice"]);

    let places = &mut [("sum", TensorMut::new(&[3, 2], &mut six).expect("a place"))];
    let error = session.run_into(inputs(), places).expect_err("another shape");
    assert_error(&error, ErrorKind::InvalidInput, &["`sum`", "[2, 3]", "[3, 2]"]);

    let mut doubles = [0f64; 6];
    let places = &mut [("sum", TensorMut::new(&shape, &mut doubles).expect("a place"))];
    let error = session.run_into(inputs(), places).expect_err("another dtype");
    assert_error(&error, ErrorKind::InvalidInput, &["`sum`", "float32", "float64"]);

    // The other output is dropped.
    let places = &mut [("sum", TensorMut::new(&shape, &mut six).expect("a place"))];
    session.run_into(inputs(), places).expect("runs");
    assert_eq!(six, [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
}

#[test]
fn a_tensor_and_its_shape_must_agree() {
    assert_eq!(Tensor::new(&[2, 2], vec![0f32; 3]).expect_err("3 of 4").kind(), ErrorKind::InvalidInput);
    assert!(Tensor::new(&[usize::MAX, 2], vec![0f32; 3]).is_err());
    assert!(Tensor::strings(&[2], vec![String::new()]).is_err());
    assert!(TensorView::new(&[3], &[0f32; 2]).is_err());
    assert!(TensorMut::new(&[1], &mut [0f32; 2]).is_err());
    assert!(Tensor::from_bytes(DType::F32, &[2], vec![0; 7].into()).is_err());
    assert!(Tensor::from_bytes(DType::F32, &[usize::MAX, usize::MAX], vec![].into()).is_err());
    assert!(Tensor::from_bytes(DType::String, &[0], vec![].into()).is_err());
    let nibbles = Tensor::from_bytes(DType::U4, &[3], vec![0x21, 0x03].into()).expect("two per byte");
    assert_eq!((nibbles.len(), nibbles.bytes().len()), (3, 2));
    let t = Tensor::new(&[2], vec![1i64, 2]).expect("a tensor");
    assert_eq!((t.as_slice::<f32>(), t.as_slice::<i64>()), (None, Some(&[1, 2][..])));
    assert_eq!(t.to_vec::<f64>(), None);
}

/// Elements that no Rust type holds go in as bytes and come out as bytes, into a place of the caller's.
#[test]
fn packed_elements_are_bound_as_bytes() {
    let nodes = [
        node("Cast", &["x"], &["wide"]).with_int("to", code::F32),
        node("Neg", &["wide"], &["negative"]),
        node("Cast", &["negative"], &["y"]).with_int("to", 27),
    ];
    let made = model(&graph(&[fixed("x", 22, &[5])], &[untyped("y")], &nodes, &[]));
    let session = limited().load_bytes(made.into_bytes()).expect("loads");
    // 1, -2, 7, 0 and -8, two in a byte; -1, 2, -7, -0 and 7.5, the most there is, four in three bytes.
    let (nibbles, mut place) = ([0xe1u8, 0x07, 0x08], [0u8; 4]);
    let x = TensorView::from_bytes(DType::I4, &[5], &nibbles).expect("a view");
    let y = TensorMut::from_bytes(DType::F6E2M3, &[5], &mut place).expect("a place");
    session.run_into([("x", x)], &mut [("y", y)]).expect("runs");
    let codes = [0x28u32, 0x10, 0x3e, 0x20];
    let first = codes.iter().rev().fold(0, |bits, code| bits << 6 | code).to_le_bytes();
    assert_eq!(place, [first[0], first[1], first[2], 0x1f]);
    assert!(TensorView::from_bytes(DType::I4, &[5], &nibbles[..2]).is_err());
    assert!(TensorMut::from_bytes(DType::F6E2M3, &[5], &mut place[..3]).is_err());
    assert!(TensorView::from_bytes(DType::String, &[0], &[]).is_err());
    // Where a type needs more, bytes of the wrong alignment are no place.
    let session = pair();
    let (a, b) = (rows(2), rows(2));
    let mut bytes = [0u8; 32];
    let at = (0..2).find(|at| bytes[*at..].as_ptr().align_offset(4) != 0).expect("one of two neighbours");
    let place = TensorMut::from_bytes(DType::F32, &[2, 3], &mut bytes[at..at + 24]).expect("24 bytes");
    let places = &mut [("sum", place)];
    let error = session.run_into([("a", &a), ("b", &b)], places).expect_err("not aligned");
    assert_error(&error, ErrorKind::InvalidInput, &["`sum`", "not aligned"]);
}

#[test]
fn bytes_that_are_not_aligned_are_taken() {
    let session = pair();
    let mut raw = vec![0u8];
    raw.extend([1f32, 2.0, 3.0].iter().flat_map(|x| x.to_le_bytes()));
    let shifted = bytes::Bytes::from(raw).slice(1..);
    let a = Tensor::from_bytes(DType::F32, &[1, 3], shifted).expect("a tensor");
    let y = session.run([("a", &a), ("b", &rows(1))]).expect("runs");
    assert_eq!(y.tensor("sum").expect("sum").to_vec::<f32>(), Some(vec![1.0, 3.0, 5.0]));
}

#[test]
fn foreign_memory_is_released_once() {
    let session = pair();
    let released = Arc::new(AtomicUsize::new(0));
    let owned = vec![1f32; 3].into_boxed_slice();
    let (data, count) = (owned.as_ptr().cast(), released.clone());
    let release = Box::new(move || {
        drop(owned);
        count.fetch_add(1, Ordering::SeqCst);
    });
    // SAFETY: `owned` holds the three floats until the callback drops it.
    let a = unsafe { Tensor::from_foreign(DType::F32, &[1, 3], data, release) }.expect("a tensor");
    let y = session.run([("a", &a), ("b", &rows(1))]).expect("runs");
    assert_eq!(y.tensor("sum").expect("sum").to_vec::<f32>(), Some(vec![1.0, 2.0, 3.0]));
    assert_eq!(released.load(Ordering::SeqCst), 0);
    drop(a);
    assert_eq!(released.load(Ordering::SeqCst), 1);
}

#[test]
fn an_output_that_is_a_foreign_input_does_not_outlive_it() {
    let m = model(&graph(
        &[fixed("x", code::F32, &[2])],
        &[untyped("y")],
        &[node("Identity", &["x"], &["y"])],
        &[],
    ));
    let session = limited().load_bytes(m.into_bytes()).expect("loads");
    let released = Arc::new(AtomicUsize::new(0));
    let owned = vec![7f32, 8.0].into_boxed_slice();
    let (data, count) = (owned.as_ptr().cast(), released.clone());
    let release = Box::new(move || {
        drop(owned);
        count.fetch_add(1, Ordering::SeqCst);
    });
    // SAFETY: `owned` holds the two floats until the callback drops it.
    let x = unsafe { Tensor::from_foreign(DType::F32, &[2], data, release) }.expect("a tensor");
    let y = session.run([("x", &x)]).expect("runs");
    drop(x);
    assert_eq!(released.load(Ordering::SeqCst), 1);
    assert_eq!(y.tensor("y").expect("y").to_vec::<f32>(), Some(vec![7.0, 8.0]));
}

#[test]
fn inputs_outputs_and_metadata_are_told() {
    let session = pair();
    let names =
        |specs: &[recurve::model::ValueSpec]| specs.iter().map(|s| s.name.to_string()).collect::<Vec<_>>();
    assert_eq!(
        (names(session.inputs()), names(session.outputs())),
        (vec!["a".to_owned(), "b".to_owned()], vec!["sum".to_owned(), "product".to_owned()],)
    );
    let fact = session.outputs()[0].fact.tensor().expect("a tensor").clone();
    let shape = fact.shape.expect("a rank");
    assert_eq!((fact.dtype, shape[0].as_symbol(), shape[1].known()), (DType::F32, Some("batch"), Some(3)));
    let about = session.metadata();
    assert_eq!((about.producer.as_str(), about.producer_version.as_str()), ("a producer", "1.2"));
    assert_eq!((about.domain.as_str(), about.version), ("org.example", 7));
    assert_eq!((about.description.as_str(), about.graph.as_str()), ("what it does", "graph"));
    assert_eq!((about.ir_version, about.opsets[0].clone()), (10, (String::new(), 21)));
    let custom: Vec<(&str, &str)> = about.custom.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(custom, [("author", "nobody"), ("licence", "free")]);
    assert!(session.load_time().as_nanos() > 0);
    assert_eq!(session.engine().threads(), 1);
}

#[test]
fn kinds_have_stable_codes() {
    let codes = [
        (ErrorKind::Io, "io"),
        (ErrorKind::InvalidModel, "invalid_model"),
        (ErrorKind::Unsupported, "unsupported"),
        (ErrorKind::InvalidInput, "invalid_input"),
        (ErrorKind::MemoryLimit, "memory_limit"),
        (ErrorKind::Deadline, "deadline"),
        (ErrorKind::Cancelled, "cancelled"),
        (ErrorKind::Internal, "internal"),
        (ErrorKind::Device, "device"),
        (ErrorKind::InvalidPlan, "invalid_plan"),
        (ErrorKind::Unplannable, "unplannable"),
    ];
    for (kind, code) in codes {
        assert_eq!(kind.code(), code);
    }
}

#[test]
fn threads_may_share_what_is_shared() {
    fn shared<T: Send + Sync>() {}
    fn sent<T: Send>() {}
    shared::<Session>();
    shared::<recurve::SessionBuilder>();
    shared::<recurve::Engine>();
    shared::<recurve::RunOptions>();
    shared::<recurve::CancelToken>();
    shared::<Value>();
    shared::<Error>();
    sent::<recurve::Stream<'_>>();
    sent::<recurve::Outputs>();
    sent::<TensorMut<'_>>();
}

#[test]
fn a_file_that_is_not_there() {
    let error = limited().load("no/such/model.onnx").expect_err("no file");
    assert_error(&error, ErrorKind::Io, &["no/such/model.onnx"]);
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(limited().load(folder.path()).expect_err("a folder").kind(), ErrorKind::Io);
    let empty = folder.path().join("empty.onnx");
    std::fs::write(&empty, b"").expect("written");
    let error = limited().load(empty).expect_err("an empty file");
    assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::InvalidModel), "{error}");
}

#[test]
fn a_value_that_only_the_data_shows_to_be_wrong() {
    let inputs = [fixed("x", code::F32, &[3]), fixed("at", code::I64, &[1])];
    let nodes = [node("Gather", &["x", "at"], &["y"]).named("pick")];
    let m = model(&graph(&inputs, &[untyped("y")], &nodes, &[]));
    let session = limited().load_bytes(m.into_bytes()).expect("loads");
    let x = Tensor::new(&[3], vec![1f32, 2.0, 3.0]).expect("a tensor");
    for at in [3, -4, i64::MAX, i64::MIN] {
        let at = Tensor::new(&[1], vec![at]).expect("a tensor");
        let error = session.run([("x", &x), ("at", &at)]).expect_err("outside");
        assert!(matches!(error, Error::Run { .. }), "{error:?}");
        assert_error(&error, ErrorKind::InvalidInput, &["`pick`", "Gather"]);
    }
    let at = Tensor::new(&[1], vec![-1i64]).expect("a tensor");
    let y = session.run([("x", &x), ("at", &at)]).expect("the last");
    assert_eq!(y.tensor("y").expect("y").to_vec::<f32>(), Some(vec![3.0]));
}

#[test]
fn a_place_that_only_the_run_shows_to_be_wrong() {
    let outputs = [untyped("at"), untyped("list")];
    let nodes = [
        node("NonZero", &["x"], &["found"]),
        node("Transpose", &["found"], &["at"]),
        node("SequenceConstruct", &["x"], &["list"]),
    ];
    let m = model(&graph(&[fixed("x", code::F32, &[3])], &outputs, &nodes, &[]));
    let session = limited().load_bytes(m.into_bytes()).expect("loads");
    let x = Tensor::new(&[3], vec![1f32, 0.0, 3.0]).expect("a tensor");
    let into = |name: &str, place: TensorMut<'_>| session.run_into([("x", &x)], &mut [(name, place)]);
    let (mut wide, mut right) = ([0i64; 3], [0i64; 2]);
    let error = into("at", TensorMut::new(&[3, 1], &mut wide).expect("a place")).expect_err("two are found");
    let parts = ["`at`", "int64 [2, 1]", "int64 [3, 1]"];
    assert_error(&error, ErrorKind::InvalidInput, &parts);
    let mut floats = [0f32; 3];
    let error = into("list", TensorMut::new(&[3], &mut floats).expect("a place")).expect_err("a sequence");
    assert_error(&error, ErrorKind::InvalidInput, &["output `list`", "is a sequence", "takes a tensor"]);
    into("at", TensorMut::new(&[2, 1], &mut right).expect("a place")).expect("fits");
    assert_eq!(right, [0, 2]);
}

/// `h_out = h + x`, `y = h_out * 2`.
fn accumulator() -> Message {
    let shape = [Extent::Name("batch"), Extent::N(2)];
    let inputs = [value("x", code::F32, &shape), value("h", code::F32, &shape)];
    let nodes = [node("Add", &["x", "h"], &["h_out"]), node("Add", &["h_out", "h_out"], &["y"])];
    model(&graph(&inputs, &[untyped("y"), untyped("h_out")], &nodes, &[]))
}

#[test]
fn streams_keep_reset_and_replace_their_state() {
    let session = limited().load_bytes(accumulator().into_bytes()).expect("loads");
    let mut stream = session.stream().expect("h_out feeds h");
    assert_eq!(stream.pairs().collect::<Vec<_>>(), [("h_out", "h")]);
    assert!(stream.state("h").is_none());
    let x = Tensor::new(&[1, 2], vec![1f32, 10.0]).expect("a tensor");
    let step = |stream: &mut recurve::Stream<'_>| {
        let y = stream.run([("x", &x)]).expect("runs");
        assert_eq!(y.len(), 1);
        y.tensor("y").expect("y").to_vec::<f32>().expect("floats")
    };
    assert_eq!(step(&mut stream), [2.0, 20.0]);
    assert_eq!(step(&mut stream), [4.0, 40.0]);
    stream.reset();
    assert_eq!(step(&mut stream), [2.0, 20.0]);
    stream.set_state("h", Tensor::new(&[1, 2], vec![100f32, 0.0]).expect("a tensor")).expect("a state");
    assert_eq!(step(&mut stream), [202.0, 20.0]);
    let mut refused = |name, value: Value, parts: &[&str]| {
        let error = stream.set_state(name, value).expect_err("no such state");
        assert!(matches!(error, Error::Argument { role: "input", .. }), "{error:?}");
        assert_error(&error, ErrorKind::InvalidInput, parts);
    };
    refused("x", Tensor::scalar(1f32).into(), &["`x`", "no state", "h"]);
    let double = Tensor::new(&[1, 2], vec![0f64; 2]).expect("a tensor");
    refused("h", double.into(), &["`h`", "float64", "float32"]);
    let wide = Tensor::new(&[1, 3], vec![0f32; 3]).expect("a tensor");
    refused("h", wide.into(), &["`h`", "[1, 3]"]);
    refused("h", Tensor::scalar(0f32).into(), &["`h`", "[]"]);
    refused(
        "h",
        Value::Sequence(recurve::values::Sequence::new(Vec::new())),
        &["`h`", "a tensor is expected"],
    );
    // An error leaves the state of the last call that succeeded.
    assert!(stream.run([("y", &x)]).is_err());
    assert_eq!(step(&mut stream), [204.0, 40.0]);
}

#[test]
fn stream_pairs_that_do_not_fit() {
    let session = limited().load_bytes(accumulator().into_bytes()).expect("loads");
    session.stream_with(&[("y", "h")]).expect("any output of the same form");
    for pairs in
        [&[("ghost", "h")][..], &[("y", "ghost")], &[("y", "h"), ("h_out", "h")], &[("y", "h"), ("y", "x")]]
    {
        let error = session.stream_with(pairs).expect_err("pairs that do not fit");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    let error = pair().stream().expect_err("no output feeds an input");
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}", chain(&error));
}

#[test]
fn truth_values_are_zero_and_one() {
    let inputs = [fixed("x", code::BOOL, &[2])];
    let m = model(&graph(&inputs, &[untyped("y")], &[node("Not", &["x"], &["y"])], &[]));
    let session = limited().load_bytes(m.into_bytes()).expect("loads");
    // Any byte but 0 is true.
    let x = Tensor::from_bytes(DType::Bool, &[2], vec![0, 255].into()).expect("a tensor");
    let y = session.run([("x", &x)]).expect("runs");
    let y = y.tensor("y").expect("y").to_vec::<Bool>().expect("truth values");
    assert_eq!(y.iter().map(|b| b.get()).collect::<Vec<_>>(), [true, false]);
}
