//! Branches and loops that data on the emulated GPU decides: the CPU's answers, a flag for each decision, and nothing on the
//! host.

use crate::emulated_models::{compare, drawn, sessions, weights};
use recurve::{Device, ErrorKind, Fallback, RunOptions, Session, SessionBuilder, Tensor};
use recurve_tests::wire::{Extent, Message, code, floats, graph, ints, model, node, untyped, value};
use std::time::{Duration, Instant};

/// The inputs of a loop's body that carries three floats.
fn formal() -> [Message; 3] {
    [value("i", code::I64, &[]), value("go", code::BOOL, &[]), value("held", code::F32, &[Extent::N(3)])]
}

/// `held + held` until its largest element is no less than `enough`, that of `held` as a slice.
fn doubling(outputs: &[Message]) -> Message {
    graph(
        &formal(),
        outputs,
        &[
            node("Add", &["held", "held"], &["next"]),
            node("Cast", &["i"], &["number"]).with_int("to", code::F32),
            node("Add", &["held", "number"], &["slice"]),
            node("ReduceMax", &["next"], &["most"]).with_int("keepdims", 0),
            node("Less", &["most", "enough"], &["goes"]),
        ],
        &[floats("enough", &[], &[100.0])],
    )
}

fn flags(session: &Session) -> u64 {
    session.gpu_use().map_or(0, |used| used.flag_reads)
}

fn both(bytes: &[u8]) -> [Session; 2] {
    sessions(|builder: SessionBuilder| builder.load_bytes(bytes.to_vec()).expect("loads"), Fallback::Deny)
}

fn three(values: [f32; 3]) -> Tensor {
    Tensor::new(&[3], values.to_vec()).expect("a tensor")
}

#[test]
fn a_loop_goes_on_as_long_as_its_body_says() {
    let body = doubling(&[untyped("goes"), untyped("next")]);
    let nodes = [
        node("Relu", &["x"], &["start"]),
        node("Loop", &["", "", "start"], &["end"]).named("doubling").with_graph("body", &body),
        node("Neg", &["end"], &["y"]),
    ];
    let inputs = [value("x", code::F32, &[Extent::N(3)])];
    let sessions = both(&model(&graph(&inputs, &[untyped("y")], &nodes, &[])).into_bytes());
    let mut before = 0;
    // 7 doublings of 1.5, one of 60, and one of what is large already: there is no condition to begin with.
    for (first, rounds) in [(1.5, 7), (60.0, 1), (300.0, 1), (1.5, 7)] {
        compare(&sessions, &[("x", three([first, -2.0, 0.25]))]);
        let after = flags(&sessions[1]);
        assert_eq!(after - before, 2 * rounds, "a flag a round, of two runs that begin with {first}");
        before = after;
    }
    assert!(sessions[1].host_trips().is_empty());
}

#[test]
fn slices_of_rounds_grow_as_far_as_data_says() {
    let body = doubling(&[untyped("goes"), untyped("next"), untyped("slice")]);
    for limit in [None, Some(5), Some(40)] {
        let name = if limit.is_some() { "limit" } else { "" };
        let nodes = [
            node("Relu", &["x"], &["start"]),
            node("ReduceMax", &["start"], &["level"]).with_int("keepdims", 0),
            node("Less", &["level", "much"], &["begins"]),
            node("Loop", &[name, "begins", "start"], &["end", "slices"]).with_graph("body", &body),
        ];
        let constants = [ints("limit", &[], &[limit.unwrap_or(0)]), floats("much", &[], &[50.0])];
        let inputs = [value("x", code::F32, &[Extent::N(3)])];
        let outputs = [untyped("end"), untyped("slices")];
        let constants = if limit.is_some() { &constants[..] } else { &constants[1..] };
        let sessions = both(&model(&graph(&inputs, &outputs, &nodes, constants)).into_bytes());
        // No round, one, seven, and more than there is room for at first.
        for first in [60.0, 49.0, 1.5, 1e-3] {
            compare(&sessions, &[("x", three([first, -2.0, first / 4.0]))]);
        }
        let slices = |first: f32| {
            let outputs = sessions[1].run([("x", &three([first, 0.0, 0.0]))]).expect("runs");
            outputs.tensor("slices").expect("a tensor").shape().to_vec()
        };
        assert_eq!(slices(60.0), [0, 3]);
        assert_eq!(slices(1e-3), [limit.unwrap_or(17).min(17) as usize, 3]);
        assert!(sessions[1].host_trips().is_empty());
    }
}

#[test]
fn a_count_on_the_device_is_read_once() {
    let nodes = [node("Add", &["held", "step"], &["next"]), node("Identity", &["go"], &["goes"])];
    let body = graph(&formal(), &[untyped("goes"), untyped("next")], &nodes, &[]);
    let nodes = [
        node("ReduceMax", &["x"], &["most"]).with_int("keepdims", 0),
        node("Cast", &["most"], &["count"]).with_int("to", code::I64),
        node("Mul", &["x", "half"], &["step"]),
        node("Loop", &["count", "", "x"], &["y"]).with_graph("body", &body),
    ];
    let inputs = [value("x", code::F32, &[Extent::N(3)])];
    let constants = [floats("half", &[], &[0.5])];
    let sessions = both(&model(&graph(&inputs, &[untyped("y")], &nodes, &constants)).into_bytes());
    for count in [6.5, 1.0, 0.0, -3.0] {
        let before = flags(&sessions[1]);
        compare(&sessions, &[("x", three([count, -7.0, -9.5]))]);
        assert_eq!(flags(&sessions[1]) - before, 2, "one a run, whatever the count");
    }
}

/// `x·w` or `relu(x)` by whether the sum of `x` is positive.
fn branches(of: &str) -> [Message; 2] {
    let product = node("MatMul", &[of, "w"], &["out"]);
    let then = graph(&[], &[untyped("out")], &[product], &[weights("w", &[3, 3], 5)]);
    [then, graph(&[], &[untyped("out")], &[node("Relu", &[of], &["out"])], &[])]
}

#[test]
fn a_branch_is_taken_by_a_flag() {
    let [then, otherwise] = branches("x");
    let nodes = [
        node("ReduceSum", &["x"], &["sum"]).with_int("keepdims", 0),
        node("Greater", &["sum", "zero"], &["positive"]),
        node("If", &["positive"], &["picked"])
            .with_graph("then_branch", &then)
            .with_graph("else_branch", &otherwise),
        node("Neg", &["picked"], &["y"]),
    ];
    let inputs = [value("x", code::F32, &[Extent::N(2), Extent::N(3)])];
    let constants = [floats("zero", &[], &[0.0])];
    let sessions = both(&model(&graph(&inputs, &[untyped("y")], &nodes, &constants)).into_bytes());
    for (run, sign) in [1.0, -1.0, -1.0, 1.0].into_iter().enumerate() {
        let x = Tensor::new(&[2, 3], vec![sign * 2.0f32, -0.5, 0.25, 0.125, sign, 0.5]).expect("a tensor");
        compare(&sessions, &[("x", x)]);
        assert_eq!(flags(&sessions[1]), 2 * (run as u64 + 1));
    }
    assert!(sessions[1].host_trips().is_empty());
}

#[test]
fn a_branch_inside_a_body_is_selected_and_read_by_nobody() {
    let [then, otherwise] = branches("row");
    let body = graph(
        &[
            value("held", code::F32, &[Extent::N(1), Extent::N(3)]),
            value("slice", code::F32, &[Extent::N(3)]),
        ],
        &[untyped("next"), untyped("made")],
        &[
            node("Add", &["held", "slice"], &["row"]),
            node("ReduceSum", &["row"], &["sum"]).with_int("keepdims", 0),
            node("Greater", &["sum", "zero"], &["positive"]),
            node("If", &["positive"], &["next"])
                .with_graph("then_branch", &then)
                .with_graph("else_branch", &otherwise),
            node("Abs", &["next"], &["made"]),
        ],
        &[floats("zero", &[], &[0.0])],
    );
    let nodes = [node("Scan", &["begin", "x"], &["end", "all"]).with_int("num_scan_inputs", 1)];
    let nodes = nodes.map(|node| node.with_graph("body", &body));
    let inputs = [
        value("begin", code::F32, &[Extent::N(1), Extent::N(3)]),
        value("x", code::F32, &[Extent::N(6), Extent::N(3)]),
    ];
    let outputs = [untyped("end"), untyped("all")];
    let sessions = both(&model(&graph(&inputs, &outputs, &nodes, &[])).into_bytes());
    let begin = Tensor::new(&[1, 3], vec![0.1f32, 0.2, -0.3]).expect("a tensor");
    for seed in 0..3 {
        let x = Tensor::new(&[6, 3], drawn(seed, 18, 1.0)).expect("a tensor");
        compare(&sessions, &[("begin", begin.clone()), ("x", x)]);
    }
    assert_eq!(flags(&sessions[1]), 0);
    assert!(sessions[1].host_trips().is_empty());
}

/// `row + row` until its largest element is no less than `enough`: the rounds of a loop inside another body.
fn doubled(of: &str, to: &str) -> Message {
    let outputs = [untyped("goes"), untyped("next")];
    node("Loop", &["", "", of], &[to]).named("inner").with_graph("body", &doubling(&outputs))
}

/// Doublings of three floats of which the largest is `first` until one is no less than 100.
fn rounds_of(first: f32) -> u64 {
    (1..64).find(|&rounds| first * f32::powi(2.0, rounds) >= 100.0).map_or(0, |rounds| rounds as u64)
}

#[test]
fn each_step_of_a_scan_has_as_many_rounds_as_its_data_says() {
    let body = graph(
        &[value("held", code::F32, &[Extent::N(3)]), value("slice", code::F32, &[Extent::N(3)])],
        &[untyped("next"), untyped("made")],
        &[
            node("Abs", &["slice"], &["row"]),
            doubled("row", "large"),
            node("Add", &["held", "large"], &["next"]),
            node("Neg", &["large"], &["made"]),
        ],
        &[],
    );
    let nodes = [node("Scan", &["begin", "x"], &["end", "all"]).with_int("num_scan_inputs", 1)];
    let nodes = nodes.map(|node| node.with_graph("body", &body));
    let inputs =
        [value("begin", code::F32, &[Extent::N(3)]), value("x", code::F32, &[Extent::N(4), Extent::N(3)])];
    let sessions = both(&model(&graph(&inputs, &[untyped("end"), untyped("all")], &nodes, &[])).into_bytes());
    for firsts in [[1.5, 60.0, 3.0, 0.5], [60.0, 60.0, 60.0, 60.0]] {
        let before = flags(&sessions[1]);
        let x = firsts.iter().flat_map(|&first| [first, -0.25, 0.125]).collect();
        let x = Tensor::new(&[4, 3], x).expect("a tensor");
        compare(&sessions, &[("begin", three([0.5, 0.25, 1.0])), ("x", x)]);
        let rounds: u64 = firsts.into_iter().map(rounds_of).sum();
        assert_eq!(flags(&sessions[1]) - before, 2 * rounds, "a flag a round, of two runs");
    }
    assert!(sessions[1].host_trips().is_empty());
}

#[test]
fn loops_stand_in_branches_and_loops_whose_ends_data_decides() {
    // Doubles while there are rounds left, and takes the root where that is large; then once more, until it is small.
    let quiet = graph(&[], &[untyped("out")], &[node("Abs", &["next"], &["out"])], &[]);
    let loud =
        graph(&[], &[untyped("out")], &[doubled("next", "large"), node("Sqrt", &["large"], &["out"])], &[]);
    let body = graph(
        &formal(),
        &[untyped("goes"), untyped("out of either")],
        &[
            node("Cast", &["i"], &["number"]).with_int("to", code::F32),
            node("Add", &["held", "number"], &["next"]),
            node("ReduceMax", &["next"], &["most"]).with_int("keepdims", 0),
            node("Greater", &["most", "enough"], &["is large"]),
            node("If", &["is large"], &["out of either"])
                .with_graph("then_branch", &loud)
                .with_graph("else_branch", &quiet),
            node("ReduceMax", &["out of either"], &["left"]).with_int("keepdims", 0),
            node("Less", &["left", "limit"], &["goes"]),
        ],
        &[floats("enough", &[], &[4.0]), floats("limit", &[], &[9.0])],
    );
    let nodes = [
        node("Relu", &["x"], &["start"]),
        node("Loop", &["", "", "start"], &["end"]).named("outer").with_graph("body", &body),
        node("Neg", &["end"], &["y"]),
    ];
    let inputs = [value("x", code::F32, &[Extent::N(3)])];
    let sessions = both(&model(&graph(&inputs, &[untyped("y")], &nodes, &[])).into_bytes());
    for first in [0.5, 3.5, 5.0, 40.0] {
        compare(&sessions, &[("x", three([first, 0.5, -1.0]))]);
    }
    assert!(flags(&sessions[1]) > 8 && sessions[1].host_trips().is_empty());
}

#[test]
fn slices_of_a_loop_inside_a_body_are_refused() {
    let inner = doubling(&[untyped("goes"), untyped("next"), untyped("slice")]);
    let body = graph(
        &[value("held", code::F32, &[Extent::N(3)]), value("slice", code::F32, &[Extent::N(3)])],
        &[untyped("next")],
        &[
            node("Loop", &["", "", "slice"], &["large", "slices"]).named("inner").with_graph("body", &inner),
            node("ReduceMax", &["slices"], &["most"]).with_int("keepdims", 0),
            node("Add", &["held", "most"], &["next"]),
        ],
        &[],
    );
    let nodes = [node("Scan", &["begin", "x"], &["end"]).named("outer").with_int("num_scan_inputs", 1)];
    let nodes = nodes.map(|node| node.with_graph("body", &body));
    let inputs =
        [value("begin", code::F32, &[Extent::N(3)]), value("x", code::F32, &[Extent::N(4), Extent::N(3)])];
    let bytes = model(&graph(&inputs, &[untyped("end")], &nodes, &[])).into_bytes();
    let session = Session::builder().with_device(Device::Emulated).load_bytes(bytes);
    let error = match session {
        Ok(session) => {
            let x = Tensor::new(&[4, 3], vec![1.0f32; 12]).expect("a tensor");
            session.run([("begin", &three([0.0; 3])), ("x", &x)]).expect_err("slices of no known number")
        }
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("`outer` (Scan"), "{error}");
}

#[test]
fn what_changes_its_form_by_data_is_refused() {
    let then = graph(&[], &[untyped("out")], &[node("Relu", &["x"], &["out"])], &[]);
    let otherwise =
        graph(&[], &[untyped("out")], &[node("ReduceMax", &["x"], &["out"]).with_int("keepdims", 1)], &[]);
    let nodes = [
        node("ReduceSum", &["x"], &["sum"]).with_int("keepdims", 0),
        node("Greater", &["sum", "zero"], &["positive"]),
        node("If", &["positive"], &["y"])
            .named("either")
            .with_graph("then_branch", &then)
            .with_graph("else_branch", &otherwise),
    ];
    let inputs = [value("x", code::F32, &[Extent::N(3)])];
    let bytes = model(&graph(&inputs, &[untyped("y")], &nodes, &[floats("zero", &[], &[0.0])])).into_bytes();
    let session = Session::builder().with_device(Device::Emulated).load_bytes(bytes).expect("loads");
    let error = session.run([("x", &three([1.0, 2.0, 3.0]))]).expect_err("two forms");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("`either` (If"), "{error}");
}

#[test]
fn a_loop_without_end_ends_with_the_time_that_it_has() {
    let body = graph(
        &formal(),
        &[untyped("goes"), untyped("next")],
        &[
            node("Abs", &["held"], &["next"]),
            node("ReduceMax", &["next"], &["most"]).with_int("keepdims", 0),
            node("Greater", &["most", "zero"], &["goes"]),
        ],
        &[floats("zero", &[], &[0.0])],
    );
    let nodes = [node("Loop", &["", "", "x"], &["y"]).with_graph("body", &body)];
    let inputs = [value("x", code::F32, &[Extent::N(3)])];
    let bytes = model(&graph(&inputs, &[untyped("y")], &nodes, &[])).into_bytes();
    let session = Session::builder().with_device(Device::Emulated).load_bytes(bytes).expect("loads");
    let options = RunOptions::default().with_deadline(Instant::now() + Duration::from_millis(200));
    let error = session.run_with([("x", &three([1.0, 2.0, 3.0]))], &options).expect_err("never ends");
    assert_eq!(error.kind(), ErrorKind::Deadline);
    let outputs = session.run([("x", &three([0.0, 0.0, 0.0]))]).expect("the session goes on");
    assert_eq!(outputs.tensor("y").expect("y").to_vec::<f32>(), Some(vec![0.0; 3]));
}
