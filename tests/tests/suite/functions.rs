//! Model-local functions: called, nested, recursive, multiplying.

use crate::outcome::{exceeds, load, refused};
use recurve::{ErrorKind, Tensor};
use recurve_tests::wire::{Message, code, fixed, function, graph, model, node, untyped};

fn calling(name: &str) -> Message {
    let call = node(name, &["x"], &["y"]).in_domain("local").named("call");
    model(&graph(&[fixed("x", code::F32, &[2])], &[untyped("y")], &[call], &[]))
}

#[test]
fn a_function_runs() {
    let nodes = [node("Add", &["a", "a"], &["t"]), node("Relu", &["t"], &["b"])];
    let session = load(calling("Twice").with_function(&function("Twice", &["a"], &["b"], &nodes)));
    let session = session.expect("a valid model");
    let x = Tensor::new(&[2], vec![1.5f32, -1.0]).expect("a tensor");
    let y = session.run([("x", &x)]).expect("runs");
    assert_eq!(y.tensor("y").expect("y").to_vec::<f32>(), Some(vec![3.0, 0.0]));
}

#[test]
fn recursion() {
    let itself = function("F", &["a"], &["b"], &[node("F", &["a"], &["b"]).in_domain("local")]);
    refused(calling("F").with_function(&itself), ErrorKind::InvalidModel, &["`F`"]);
    let f = function("F", &["a"], &["b"], &[node("G", &["a"], &["b"]).in_domain("local")]);
    let g = function("G", &["a"], &["b"], &[node("F", &["a"], &["b"]).in_domain("local")]);
    refused(calling("F").with_function(&f).with_function(&g), ErrorKind::InvalidModel, &["function"]);
    // Through a body of the function.
    let body = graph(&[], &[untyped("o")], &[node("F", &["a"], &["o"]).in_domain("local")], &[]);
    let conditional =
        node("If", &["a"], &["b"]).with_graph("then_branch", &body).with_graph("else_branch", &body);
    let f = function("F", &["a"], &["b"], &[conditional]);
    let call = node("F", &["x"], &["y"]).in_domain("local");
    let inputs = [fixed("x", code::BOOL, &[])];
    let m = model(&graph(&inputs, &[untyped("y")], &[call], &[])).with_function(&f);
    refused(m, ErrorKind::InvalidModel, &[]);
}

#[test]
fn expansion_that_multiplies() {
    // Each function calls the next one ten times: 10^12 nodes from a file of a few kilobytes.
    let mut m = calling("F0");
    for level in 0..12 {
        let next = format!("F{}", level + 1);
        let mut nodes = Vec::new();
        for i in 0..10 {
            let input = if i == 0 { "a".to_owned() } else { format!("v{i}") };
            let output = if i == 9 { "b".to_owned() } else { format!("v{}", i + 1) };
            nodes.push(node(&next, &[&input], &[&output]).in_domain("local"));
        }
        m = m.with_function(&function(&format!("F{level}"), &["a"], &["b"], &nodes));
    }
    let last = function("F12", &["a"], &["b"], &[node("Relu", &["a"], &["b"])]);
    exceeds(m.with_function(&last));
}

#[test]
fn functions_without_nodes_that_multiply() {
    // As above, but the innermost function is empty: no node is ever produced, the calls alone are endless.
    let mut m = calling("F0");
    for level in 0..12 {
        let next = format!("F{}", level + 1);
        let calls: Vec<Message> =
            (0..10).map(|i| node(&next, &["a"], &[&format!("v{i}")]).in_domain("local")).collect();
        m = m.with_function(&function(&format!("F{level}"), &["a"], &["b"], &calls));
    }
    exceeds(m.with_function(&function("F12", &["a"], &["b"], &[])));
}

#[test]
fn names_that_grow_with_each_call() {
    // Every level makes names longer by its own; long names at many levels are quadratic in the file.
    let long = "n".repeat(20_000);
    let mut m = calling("F0");
    for level in 0..50 {
        let inner = node(&format!("F{}", level + 1), &["a"], &["b"]).in_domain("local").named(&long);
        m = m.with_function(&function(&format!("F{level}"), &["a"], &["b"], &[inner]));
    }
    let last = function("F50", &["a"], &["b"], &[node("Relu", &["a"], &["b"])]);
    // Fifty levels are allowed: it may load, but within its memory.
    let _ = load(m.with_function(&last));
}

#[test]
fn calls_that_do_not_fit() {
    let identity = function("F", &["a"], &["b"], &[node("Relu", &["a"], &["b"])]);
    let inputs = [fixed("x", code::F32, &[2])];
    let many = node("F", &["x", "x"], &["y"]).in_domain("local").named("call");
    let m = model(&graph(&inputs, &[untyped("y")], &[many], &[])).with_function(&identity);
    refused(m, ErrorKind::InvalidModel, &["`call`", "`F`"]);
    let twice = calling("F").with_function(&identity).with_function(&identity);
    refused(twice, ErrorKind::InvalidModel, &["F", "twice"]);
    // The function never writes its output.
    let silent = function("F", &["a"], &["b"], &[node("Relu", &["a"], &["c"])]);
    refused(calling("F").with_function(&silent), ErrorKind::InvalidModel, &["`y`"]);
}
