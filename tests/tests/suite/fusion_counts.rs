//! What fusion makes of known models: the table of the documents, and the bytes that fused chains move.

use crate::outcome::limited;
use recurve::model::{Fact, GraphInfo, NodeInfo, Source, ValueSpec};
use recurve::settings::Fusion;
use recurve_tests::fusion_counts::{ROWS, engine, page};
use recurve_tests::wire::{code, fixed, floats, graph, ints, model, node, untyped};
use std::path::Path;

#[test]
fn the_table_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let committed = std::fs::read_to_string(root.join("docs/fusion.md")).expect("docs/fusion.md");
    let (page, absent) = page(&root, &committed).expect("the models load");
    assert!(absent < ROWS.len(), "the example's row is always judged");
    if absent > 0 {
        println!("skipped: {absent} rows of docs/fusion.md, whose models are not there");
    }
    let command = "cargo run --release -p recurve-tests --bin fusion-counts -- --update";
    assert!(page == committed, "docs/fusion.md is stale: `{command}` writes\n{page}");
}

fn bytes(spec: &ValueSpec) -> f64 {
    let Fact::Tensor(tensor) = &spec.fact else { panic!("{} is no tensor", spec.name) };
    let count = tensor.known_shape().expect("a known shape").iter().product();
    tensor.dtype.bytes(count).expect("a size") as f64
}

/// Asserts that every fused chain of maps reads each of its inputs once and writes its output once; returns how many
/// there are.
fn chains_move_each_operand_once(graph: &GraphInfo) -> usize {
    let check = |node: &NodeInfo| {
        let mut count: usize = node.bodies.iter().map(chains_move_each_operand_once).sum();
        // What is known once shapes are moves nothing.
        if node.op == "recurve:FusedMap"
            && node.runs
            && let Some(cost) = node.cost
        {
            let made = |source: &&Source| matches!(source, Source::Input(_) | Source::Node { .. });
            let sources: Vec<&Source> = node.sources.iter().filter(made).collect();
            let twice = sources.iter().enumerate().any(|(at, source)| sources[..at].contains(source));
            assert!(!twice, "{} reads an input twice", node.name);
            let moved: f64 = node.inputs.iter().chain(&node.outputs).flatten().map(bytes).sum();
            assert_eq!(cost.bytes, moved, "{}", node.name);
            let unfused = node.unfused_cost.expect("known where the cost is");
            assert!(unfused.bytes > cost.bytes, "{}: {unfused:?} {cost:?}", node.name);
            count += 1;
        }
        count
    };
    graph.nodes.iter().map(check).sum()
}

#[test]
fn a_chain_reads_each_input_once_and_writes_its_output_once() {
    // Both inputs are read by two members each; between the members lie four values.
    let nodes = [
        node("Add", &["x", "bias"], &["a"]),
        node("Mul", &["a", "x"], &["b"]),
        node("Tanh", &["b"], &["c"]),
        node("Sub", &["c", "bias"], &["d"]),
        node("Sigmoid", &["d"], &["y"]),
    ];
    let bias = floats("bias", &[64], &[0.5; 64]);
    let m = model(&graph(&[fixed("x", code::F32, &[32, 64])], &[untyped("y")], &nodes, &[bias]));
    let session = limited().load_bytes(m.into_bytes()).expect("loads");
    let graph = session.graph([("x", [32, 64])]).expect("fits");
    assert_eq!(graph.nodes.len(), 1);
    assert_eq!(chains_move_each_operand_once(&graph), 1);
    let (x, bias) = (32.0 * 64.0 * 4.0, 64.0 * 4.0);
    assert_eq!(graph.nodes[0].cost.expect("known").bytes, x + bias + x);
    // Four values between, each written once and read once; and the two inputs once more.
    let before = graph.nodes[0].unfused_cost.expect("known").bytes;
    assert_eq!(before, (x + bias + x) + 8.0 * x + x + bias);
}

#[test]
fn chains_of_known_models_move_each_operand_once() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let engine = engine().expect("an engine");
    for row in &ROWS {
        if let Some(graph) = row.graph(&root, &engine, Fusion::On).expect("the model loads") {
            let count = chains_move_each_operand_once(&graph);
            println!("{}: {count} fused chains", row.name);
        }
    }
}

/// The operators of the model that `node` is made of.
fn members(node: &NodeInfo) -> Vec<&str> {
    node.members.iter().map(|member| &*member.name).collect()
}

/// Products that read one row become one product, which reads it once.
#[test]
fn what_siblings_became_is_told() {
    let nodes = ["a", "b", "c"]
        .map(|name| node("MatMul", &["x", &format!("w{name}")], &[name]).named(&format!("to_{name}")));
    let weights = [("wa", 0.5), ("wb", 1.5), ("wc", 2.5)];
    let weights = weights.map(|(name, value)| floats(name, &[32, 8], &[value; 256]));
    let outputs = ["a", "b", "c"].map(untyped);
    let m = model(&graph(&[fixed("x", code::F32, &[1, 32])], &outputs, &nodes, &weights));
    let session = limited().load_bytes(m.into_bytes()).expect("loads");
    let graph = session.graph([("x", [1, 32])]).expect("fits");
    let product = graph.nodes.iter().find(|node| node.op == "MatMul").expect("a product");
    assert_eq!(members(product), ["to_a", "to_b", "to_c"]);
    let (before, after) = (product.unfused_cost.expect("known"), product.cost.expect("known"));
    assert_eq!((before.flops, before.bytes), (after.flops, after.bytes + 2.0 * 32.0 * 4.0));
}

/// A product of each of three steps becomes one, which reads the weights once.
#[test]
fn what_stacked_steps_became_is_told() {
    let steps = ["0", "1", "2"];
    let mut nodes = Vec::new();
    for step in steps {
        let name = |value: &str| format!("{value}{step}");
        nodes.push(node("Gather", &["x", &name("at")], &[&name("taken")]));
        nodes.push(node("MatMul", &[&name("taken"), "w"], &[&name("made")]).named(&name("product")));
        nodes.push(node("Relu", &[&name("made")], &[&name("kept")]).named(&name("relu")));
    }
    nodes.push(node("Concat", &["kept0", "kept1", "kept2"], &["y"]).with_int("axis", 0));
    let mut constants = vec![floats("w", &[8, 6], &[0.5; 48])];
    constants.extend(steps.map(|step| ints(&format!("at{step}"), &[], &[step.parse().expect("a digit")])));
    let m = model(&graph(&[fixed("x", code::F32, &[3, 2, 8])], &[untyped("y")], &nodes, &constants));
    let session = limited().load_bytes(m.into_bytes()).expect("loads");
    let graph = session.graph([("x", [3, 2, 8])]).expect("fits");
    let product = graph.nodes.iter().find(|node| node.op == "recurve:FusedContraction").expect("a product");
    let steps = ["product0", "product1", "product2", "relu0", "relu1", "relu2"];
    assert_eq!(members(product)[..6], steps);
    let (before, after) = (product.unfused_cost.expect("known"), product.cost.expect("known"));
    // The result of the products is written and read, and the weights are read twice more.
    let saved = 2.0 * 3.0 * 2.0 * 6.0 * 4.0 + 2.0 * 48.0 * 4.0;
    // The shape that the result is given, two numbers, is an operand of the whole, though a view reads nothing.
    assert_eq!(before.bytes, after.bytes - 2.0 * 8.0 + saved);
}

/// What a user is told is a sentence about operators, whatever keeps two apart.
#[test]
fn why_neighbours_stay_apart_is_told_in_sentences() {
    let nodes = [
        node("Relu", &["x"], &["kept"]).named("relu"),
        node("TopK", &["kept", "k"], &["most", "places"]).named("order"),
        node("Relu", &["most"], &["y"]).named("last"),
    ];
    let m =
        model(&graph(&[fixed("x", code::F32, &[4, 8])], &[untyped("y")], &nodes, &[ints("k", &[1], &[2])]));
    let session = limited().load_bytes(m.into_bytes()).expect("loads");
    let apart = session.apart();
    let why = |producer: &str| {
        let pair = apart.iter().find(|pair| &*pair.producer == producer);
        &*pair.expect("a pair that stayed apart").reason
    };
    let sorts = "it has a kernel of its own, which takes in no other operator";
    assert_eq!(why("order"), sorts);
    assert_eq!(why("relu"), format!("the operator that reads it stays by itself: {sorts}"));
}
