//! What is made for all steps before a `Scan`, and what stays in it.

use super::super::divided::divide;
use super::net::{Net, Numbers, assert_close, census};
use crate::graph::{Graph, ValueId};
use crate::memory::{Budget, Buffer};
use crate::ops::Scan;
use crate::ops::attributes::{Attribute, Body};
use crate::tensor::Tensor;

const SIZE: usize = 3;

/// A Scan over `x`, `shape`, along `axis`, whose body makes the next state, `[2, 3]`, and what is collected, of an
/// element and the state.
fn scan(
    shape: [usize; 3],
    axis: i64,
    step: impl Fn(&mut Net, &mut Numbers, ValueId, ValueId) -> (ValueId, ValueId),
) -> Net {
    let (mut net, mut numbers) = (Net::default(), Numbers(17));
    let count = shape.iter().product();
    let values = numbers.many(count, 1.0).into_iter().map(|v| v as f32).collect();
    let x = net.input(Tensor::new(&shape, values).expect("fits"));
    let h = net.floats(&[2, SIZE], &[0.25; 2 * SIZE]);
    let mut body = Net::default();
    let [state, element] = ["state", "element"].map(|name| {
        let id = body.graph.add_value(name);
        body.graph.inputs.push(id);
        id
    });
    let (next, seen) = step(&mut body, &mut numbers, element, state);
    body.output(next);
    body.output(seen);
    let attributes = vec![
        ("body", Attribute::Body(Body { graph: body.graph, formal_inputs: 2 })),
        ("num_scan_inputs", Attribute::Int(1)),
        ("scan_input_axes", Attribute::Ints(vec![axis])),
    ];
    net.with("Scan", attributes, &[h, x], 2).into_iter().for_each(|id| net.output(id));
    net
}

fn matrix(body: &mut Net, numbers: &mut Numbers, rows: usize, columns: usize) -> ValueId {
    let values = numbers.many(rows * columns, 0.7);
    body.floats(&[rows, columns], &values)
}

/// The graph with what could be hoisted, and how many nodes of `op` stand before the Scan and in it.
fn hoisted(net: &Net, op: &str) -> (Graph, [usize; 2]) {
    let graph = net.simplified(true);
    let mut scans = graph.nodes.iter().filter_map(|n| n.op.as_any().downcast_ref::<Scan>());
    let body = census(&scans.next().expect("a Scan").body.graph);
    let count = |of: &std::collections::BTreeMap<&'static str, usize>| of.get(op).copied().unwrap_or(0);
    let counts = [count(&census(&graph)), count(&body)];
    (graph, counts)
}

fn check(net: &Net, op: &str, before: usize, inside: usize, what: &str) {
    let expected = net.run(net.simplified(false));
    let (graph, counts) = hoisted(net, op);
    assert_close(&net.run(graph), &expected, 2e-5, what);
    assert_eq!(counts, [before, inside], "{op} before and in the Scan: {what}");
}

/// `erf(x·W + b + h·R)`, which is no operator's cell.
fn cell(body: &mut Net, numbers: &mut Numbers, x: ValueId, h: ValueId) -> (ValueId, ValueId) {
    let (w, r) = (matrix(body, numbers, SIZE, SIZE), matrix(body, numbers, SIZE, SIZE));
    let bias = matrix(body, numbers, 1, SIZE);
    let (a, b) = (body.op("MatMul", &[x, w]), body.op("MatMul", &[h, r]));
    let a = body.op("Add", &[a, bias]);
    let sum = body.op("Add", &[a, b]);
    let next = body.op("Erf", &[sum]);
    (next, body.op("Identity", &[next]))
}

#[test]
fn a_product_of_the_input_with_its_bias_is_made_before() {
    for (shape, axis) in [([5, 2, SIZE], 0), ([2, 5, SIZE], 1)] {
        let net = scan(shape, axis, cell);
        check(&net, "MatMul", 1, 1, "the product");
        check(&net, "Add", 1, 1, "its bias");
        check(&net, "Erf", 0, 1, "the function of the state");
    }
}

#[test]
fn a_function_and_a_product_of_what_was_hoisted_follow() {
    let net = scan([5, 2, SIZE], 0, |body, numbers, x, h| {
        let (w, v) = (matrix(body, numbers, SIZE, 7), matrix(body, numbers, 7, SIZE));
        let product = body.op("MatMul", &[x, w]);
        let wide = body.op("Tanh", &[product]);
        let made = body.op("MatMul", &[wide, v]);
        let sum = body.op("Add", &[made, h]);
        let next = body.op("Erf", &[sum]);
        (next, body.op("Identity", &[next]))
    });
    check(&net, "MatMul", 2, 0, "both products");
    check(&net, "Tanh", 1, 0, "the function between them");
}

#[test]
fn a_function_of_the_input_alone_stays() {
    // It would be stored and read again, for nothing.
    let net = scan([5, 2, SIZE], 0, |body, _, x, h| {
        let made = body.op("Tanh", &[x]);
        let sum = body.op("Add", &[made, h]);
        let next = body.op("Erf", &[sum]);
        (next, body.op("Identity", &[next]))
    });
    check(&net, "Tanh", 0, 1, "a function without a product");
}

#[test]
fn a_function_of_a_product_with_other_readers_stays() {
    let net = scan([5, 2, SIZE], 0, |body, numbers, x, h| {
        let w = matrix(body, numbers, SIZE, SIZE);
        let product = body.op("MatMul", &[x, w]);
        let shown = body.op("Tanh", &[product]);
        let a = body.op("Add", &[shown, h]);
        let sum = body.op("Add", &[a, product]);
        let next = body.op("Erf", &[sum]);
        (next, body.op("Identity", &[next]))
    });
    check(&net, "MatMul", 1, 0, "a product that is read twice");
    check(&net, "Tanh", 0, 1, "one of its readers");
}

#[test]
fn a_product_with_what_is_no_constant_stays() {
    let net = scan([5, 2, SIZE], 0, |body, numbers, x, h| {
        let w = matrix(body, numbers, SIZE, SIZE);
        let turned = body.op("MatMul", &[h, w]);
        let over = body.with("Transpose", vec![("perm", Attribute::Ints(vec![1, 0]))], &[turned], 1)[0];
        let scores = body.op("MatMul", &[x, over]);
        let sum = body.op("MatMul", &[scores, turned]);
        let next = body.op("Erf", &[sum]);
        (next, body.op("Identity", &[next]))
    });
    check(&net, "MatMul", 0, 3, "products of the state");
}

#[test]
fn nothing_is_made_before_a_single_step() {
    check(&scan([1, 2, SIZE], 0, cell), "MatMul", 0, 2, "one step");
}

#[test]
fn features_along_the_axis_of_time_stay() {
    // Elements are slices along the last axis; the product folds over rows of what is outside.
    check(&scan([2, SIZE, 5], 2, cell), "MatMul", 0, 2, "time last");
}

#[test]
fn what_would_be_too_large_stays() {
    // 2,048 steps of 2 rows of 20,000 columns: 312 MiB.
    const WIDTH: usize = 20_000;
    let net = scan([2048, 2, SIZE], 0, |body, numbers, x, h| {
        let (w, v) = (matrix(body, numbers, SIZE, WIDTH), matrix(body, numbers, WIDTH, SIZE));
        let wide = body.op("MatMul", &[x, w]);
        let shown = body.op("Erf", &[wide]);
        let made = body.op("MatMul", &[shown, v]);
        let sum = body.op("Add", &[made, h]);
        let next = body.op("Erf", &[sum]);
        (next, body.op("Identity", &[next]))
    });
    assert_eq!(hoisted(&net, "MatMul").1, [0, 2]);
}

#[test]
fn a_function_of_the_input_that_a_product_reads_goes_with_it() {
    let net = scan([5, 2, SIZE], 0, |body, numbers, x, h| {
        let made = body.op("Tanh", &[x]);
        cell(body, numbers, made, h)
    });
    check(&net, "MatMul", 1, 1, "the product");
    check(&net, "Tanh", 1, 0, "what it is of");
}

/// `erf([parts] · W + h)`, the parts elements of the sequence and the state.
fn of_parts(net_of: impl Fn(ValueId, ValueId) -> Vec<ValueId>, gemm: bool) -> Net {
    scan([5, 2, SIZE], 0, |body, numbers, x, h| {
        let parts = net_of(x, h);
        let depth = SIZE * parts.len();
        let joined = body.with("Concat", vec![("axis", Attribute::Int(-1))], &parts, 1)[0];
        let made = if gemm {
            let (w, bias) = (matrix(body, numbers, SIZE, depth), matrix(body, numbers, 1, SIZE));
            body.with("Gemm", vec![("transB", Attribute::Int(1))], &[joined, w, bias], 1)[0]
        } else {
            let w = matrix(body, numbers, depth, SIZE);
            body.op("MatMul", &[joined, w])
        };
        let sum = body.op("Add", &[made, h]);
        let next = body.op("Erf", &[sum]);
        (next, body.op("Identity", &[next]))
    })
}

#[test]
fn the_part_of_a_product_that_takes_the_input_is_made_before() {
    for gemm in [false, true] {
        let inside = if gemm { "Gemm" } else { "MatMul" };
        let products = |net: &Net| {
            let (_, [before, step]) = hoisted(net, "MatMul");
            (before, step + if gemm { hoisted(net, "Gemm").1[1] } else { 0 })
        };
        for (parts, before) in [
            (of_parts(|x, h| vec![x, h], gemm), 1),
            (of_parts(|x, h| vec![h, x], gemm), 1),
            (of_parts(|x, h| vec![x, h, h, x], gemm), 2),
        ] {
            let expected = parts.run(parts.simplified(false));
            assert_close(&parts.run(parts.simplified(true)), &expected, 2e-5, inside);
            assert_eq!(products(&parts), (before, 1), "{inside}: parts of the input and of the state");
        }
    }
}

#[test]
fn a_product_of_the_input_between_what_a_step_makes_stays() {
    check(&of_parts(|x, h| vec![h, x, h], false), "MatMul", 0, 1, "the input in the middle");
    check(&of_parts(|_, h| vec![h, h], false), "MatMul", 0, 1, "the state alone");
}

#[test]
fn a_product_whose_part_would_be_too_large_for_all_steps_is_left_whole() {
    // 2,048 steps of 2 rows of 20,000 columns: 312 MiB.
    const WIDTH: usize = 20_000;
    let of_steps = |steps| {
        scan([steps, 2, SIZE], 0, |body, numbers, x, h| {
            let (w, v) = (matrix(body, numbers, 2 * SIZE, WIDTH), matrix(body, numbers, WIDTH, SIZE));
            let joined = body.with("Concat", vec![("axis", Attribute::Int(-1))], &[x, h], 1)[0];
            let wide = body.op("MatMul", &[joined, w]);
            let made = body.op("MatMul", &[wide, v]);
            let next = body.op("Erf", &[made]);
            (next, body.op("Identity", &[next]))
        })
    };
    for op in ["MatMul", "Concat", "Add"] {
        let whole = if op == "MatMul" { [0, 2] } else { [0, usize::from(op == "Concat")] };
        let divided = if op == "MatMul" { [1, 2] } else { [0, usize::from(op == "Add")] };
        assert_eq!(hoisted(&of_steps(2048), op).1, whole, "{op}");
        assert_eq!(hoisted(&of_steps(20), op).1, divided, "{op} where its part fits");
    }
}

#[test]
fn a_product_that_memory_does_not_suffice_to_divide_is_left_whole() {
    let body = || {
        let (mut body, mut numbers) = (Net::default(), Numbers(3));
        let [x, h] = ["x", "h"].map(|name| body.graph.add_value(name));
        body.graph.inputs.extend([x, h]);
        let w = matrix(&mut body, &mut numbers, 2 * SIZE, SIZE);
        let joined = body.with("Concat", vec![("axis", Attribute::Int(-1))], &[x, h], 1)[0];
        let made = body.op("MatMul", &[joined, w]);
        body.output(made);
        (body.graph, x)
    };
    // Two matrices of 3 rows of 3 columns: neither fits, one does, both do.
    let counted = Budget::unlimited();
    let held = Buffer::zeroed(4 * SIZE * SIZE, &counted).expect("memory");
    let one = counted.used();
    drop(held);
    for (limit, divided) in [(one - 1, false), (2 * one - 1, false), (2 * one, true)] {
        let (mut graph, x) = body();
        let before = graph.values.len();
        let budget = Budget::new(limit);
        divide(&mut graph, |id, _| (id == x).then_some((2, SIZE)), &budget);
        assert_eq!(graph.values.len() > before, divided, "{limit}");
        assert_eq!(!census(&graph).contains_key("Concat"), divided, "{limit}");
        assert_eq!(budget.used(), if divided { 2 * one } else { 0 }, "{limit}");
    }
}
