//! `recurve inspect`.

use crate::{data, recurve, scratch, text};
use recurve_cli::Exit;
use serde_json::{Value as Json, json};

#[test]
fn text_names_everything() {
    let ended = recurve(&["inspect", &data("biased.onnx"), "--dim", "batch=8,time=16"]).with(Exit::Success);
    for text in ["x  float32 [batch, time, 4]", "make.py", "opsets", "17", "adds", "Relu", "16 B", "purpose"]
    {
        ended.prints(text);
    }
    assert_eq!(ended.err, "");
}

#[test]
fn the_document_has_work_per_node() {
    let ended = recurve(&["inspect", &data("biased.onnx"), "--dim", "batch=8,time=16", "--json"]);
    let document = ended.with(Exit::Success).document();
    assert_eq!(document["inputs"][0]["shape"], json!(["batch", "time", 4]));
    assert_eq!(document["inputs"][0]["dtype"], "float32");
    assert_eq!(document["dims"], json!(["batch", "time"]));
    assert_eq!(document["opsets"], json!([{"domain": "", "version": 17}]));
    assert_eq!(document["metadata"]["custom"], json!({"purpose": "test"}));
    assert_eq!(document["parameters"], json!({"tensors": 1, "elements": 4, "bytes": 16}));
    assert_eq!(document["operators"], json!({"Add": 1, "Relu": 1}));
    let relu = &document["nodes"][1];
    assert_eq!((&relu["name"], &relu["op"]), (&json!("clamps"), &json!("Relu")));
    assert_eq!(relu["outputs"][0]["shape"], json!([8, 16, 4]));
    // One operation per element; each of 512 floats read once and written once.
    assert_eq!((&relu["flops"], &relu["bytes"]), (&json!(512.0), &json!(4096.0)));
    let sum = |field: &str| {
        let nodes = document["nodes"].as_array().expect("nodes");
        nodes.iter().filter_map(|node| node[field].as_f64()).sum::<f64>()
    };
    assert_eq!(document["flops"].as_f64(), Some(sum("flops")));
    assert_eq!(document["bytes"].as_f64(), Some(sum("bytes")));
}

#[test]
fn fused_nodes_are_explained() {
    let arguments = ["inspect", &data("biased.onnx"), "--dim", "batch=8,time=16", "--fused"];
    recurve(&arguments).with(Exit::Success).prints("Add, Relu");
    let document = recurve(&[&arguments[..], &["--json"]].concat()).with(Exit::Success).document();
    let fused = &document["fused"][0];
    let members = json!([{"name": "adds", "op": "Add"}, {"name": "clamps", "op": "Relu"}]);
    assert_eq!((&fused["name"], &fused["members"]), (&json!("clamps"), &members));
    // An addition and a maximum for each, before and after.
    assert_eq!((&fused["flops_before"], &fused["flops_after"]), (&json!(1024.0), &json!(1024.0)));
    // 512 floats and the bias are read and 512 floats written; before, 512 more were written and read.
    assert_eq!((&fused["bytes_before"], &fused["bytes_after"]), (&json!(8208.0), &json!(4112.0)));
    assert_eq!((&document["apart"], &fused["left_out"]), (&json!([]), &json!([])));
}

#[test]
fn fused_nodes_of_bodies_are_listed_with_their_path() {
    let arguments = ["inspect", &data("looped.onnx"), "--fused"];
    let ended = recurve(&arguments).with(Exit::Success);
    ended.prints("the operator that reads it stays by itself: it runs graphs of its own");
    ended.prints("fused in turns/body\n  node ");
    ended.prints("  clamps  recurve:FusedMap ");
    ended.prints("not fused\n  node    read by  because\n  scales  turns    ");
    ended.prints("recurve:FusedMap computes element by element");
    ended.prints("operators, those in bodies of control flow included\n");
    let document = recurve(&[&arguments[..], &["--json"]].concat()).with(Exit::Success).document();
    let fused = document["fused"].as_array().expect("a list");
    assert_eq!(fused.len(), 1);
    let members = json!([{"name": "adds", "op": "Add"}, {"name": "clamps", "op": "Relu"}]);
    assert_eq!((&fused[0]["name"], &fused[0]["members"]), (&json!("turns/body/clamps"), &members));
    // Four floats and the bias are read, four written; before, four more were written and read.
    assert_eq!((&fused[0]["bytes_before"], &fused[0]["bytes_after"]), (&json!(80.0), &json!(48.0)));
    let apart = json!({"producer": "scales", "reader": "turns", "reason": document["apart"][0]["reason"]});
    assert_eq!(document["apart"], json!([apart]));
    assert_eq!(document["operators"]["recurve:FusedMap"], 1);
}

#[test]
fn a_fused_node_tells_which_neighbours_it_lacks() {
    let document = recurve(&["inspect", &data("looped.onnx"), "--json", "--fused"]).document();
    assert_eq!(document["fused"][0]["left_out"], json!([]));
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx");
    // Nodes for which nothing runs are no neighbours that could have been fused.
    let text = recurve(&["inspect", model, "--fused"]).with(Exit::Success);
    assert!(!text.out.contains("nothing runs for"), "{}", text.out);
    let document = recurve(&["inspect", model, "--json", "--fused"]).with(Exit::Success).document();
    let apart = document["apart"].as_array().expect("pairs");
    for fused in document["fused"].as_array().expect("a list") {
        let (name, members) = (fused["name"].as_str(), fused["members"].as_array().expect("members"));
        let last = members.last().and_then(|m| m["name"].as_str()).expect("a member");
        let body = name.and_then(|name| name.strip_suffix(last)).expect("the name of its last member");
        let path = |m: &Json| json!(format!("{body}{}", m["name"].as_str().expect("a name")));
        let members: Vec<Json> = members.iter().map(path).collect();
        let is_member = |end: &Json| members.contains(end);
        let across = apart.iter().filter(|pair| is_member(&pair["producer"]) != is_member(&pair["reader"]));
        let other =
            |pair: &Json| pair[if is_member(&pair["producer"]) { "reader" } else { "producer" }].clone();
        let expected: Vec<Json> =
            across.map(|pair| json!({"node": other(pair), "reason": pair["reason"]})).collect();
        assert_eq!(fused["left_out"], json!(expected));
        assert!(!expected.is_empty(), "{fused}");
    }
}

#[test]
fn that_nothing_was_fused_is_said() {
    recurve(&["inspect", &data("odd_inputs.onnx"), "--fused"])
        .with(Exit::Success)
        .prints("  no neighbours were fused\n");
    let ended = recurve(&["inspect", &data("odd_inputs.onnx")]).with(Exit::Success);
    assert!(!ended.out.contains("fused"));
}

#[test]
fn a_constant_that_is_read_inside_and_outside_counts_once() {
    let document = recurve(&["inspect", &data("looped.onnx"), "--json"]).with(Exit::Success).document();
    assert_eq!(document["parameters"], json!({"tensors": 1, "elements": 4, "bytes": 16}));
}

#[test]
fn the_graph_is_drawn() {
    let (_folder, dot) = scratch("model.dot");
    let svg = dot.with_extension("svg");
    let (dot, svg) = (text(&dot), text(&svg));
    let draw = || {
        recurve(&["inspect", &data("looped.onnx"), "--fused", "--dot", &dot, "--svg", &svg])
            .with(Exit::Success);
        let read = |path: &str| std::fs::read_to_string(path).expect("a drawing");
        (read(&dot), read(&svg))
    };
    let (graph, picture) = draw();
    // The model: x, go, scales, turns, y; the body: i, go, v, two nodes, two outputs.
    assert_eq!(graph.matches("subgraph cluster_").count(), 2);
    assert!(graph.contains("label=\"turns/body\""), "{graph}");
    assert!(graph.contains("label=\"recurve:FusedMap\\nAdd, Relu\\nclamps\", tooltip=\"clamps\""), "{graph}");
    assert!(graph.contains("label=\"16 B\""), "{graph}");
    let vertices = |class: &str| picture.matches(&format!("<g class=\"{class}\">")).count();
    assert_eq!(graph.matches(", tooltip=").count(), picture.matches("<g class=").count());
    assert_eq!(graph.matches(" -> ").count(), picture.matches("<path class=\"edge\"").count());
    assert_eq!((vertices("fused"), vertices("input"), vertices("output")), (1, 5, 3));
    assert_eq!(picture.matches("<g ").count(), picture.matches("</g>").count());
    assert!(picture.contains("class=\"key\"") && picture.contains(">clamps</text>"), "{picture}");
    assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
    assert_eq!((graph, picture), draw(), "equal graphs give equal files");
}

#[test]
fn nodes_of_bodies_are_counted() {
    let document = recurve(&["inspect", &data("endless.onnx"), "--json"]).with(Exit::Success).document();
    assert_eq!(document["operators"]["Loop"], 1);
    assert_eq!(document["operators"]["Relu"], 1);
}

#[test]
fn dimensions_are_bound_or_refused() {
    let ended = recurve(&["inspect", &data("biased.onnx")]).with(Exit::Success);
    ended.says("taken as 1, since --dim does not bind them: batch, time");
    let ended = recurve(&["inspect", &data("biased.onnx"), "--dim", "bath=2"]).with(Exit::Usage);
    ended.says("no free dimension `bath`; they have batch, time");
    ended.says("hint: --dim");
    let ended = recurve(&["inspect", &data("biased.onnx"), "--dim", "batch=2,batch=3"]).with(Exit::Usage);
    ended.says("binds `batch` twice");
    for wrong in ["batch", "batch=", "=3", "batch=-1", "batch=two"] {
        recurve(&["inspect", &data("biased.onnx"), "--dim", wrong]).with(Exit::Usage);
    }
}

#[test]
fn extents_that_a_model_does_not_take_are_no_fault_of_the_model() {
    let ended = recurve(&["run", &data("windowed.onnx")]).with(Exit::Usage);
    ended.says("taken as 1, since --dim does not bind them: time");
    ended.says("`averages`");
    ended.says("--dim");
    // What is known without extents is shown, and which are needed for the rest.
    let ended = recurve(&["inspect", &data("windowed.onnx")]).with(Exit::Success);
    ended.says("no extents of 1 fit: bind with --dim, for the work of nodes: time");
    ended.prints("averages");
    for command in ["inspect", "run"] {
        recurve(&[command, &data("windowed.onnx"), "--dim", "time=4"]).with(Exit::Success);
    }
    let ended = recurve(&["inspect", &data("windowed.onnx"), "--dim", "time=2"]).with(Exit::Usage);
    ended.says("windowed.onnx` does not fit these extents of its dimensions");
}

#[test]
fn names_that_the_model_does_not_have_are_explained() {
    // The nodes of the model have no names, and go by operator and output.
    let ended = recurve(&["inspect", &data("odd_inputs.onnx")]).with(Exit::Success);
    ended.prints("A name such as `Mul(y)` is of a node without a name");
    let named = recurve(&["inspect", &data("biased.onnx")]).with(Exit::Success);
    assert!(!named.out.contains("A name such as"), "{}", named.out);
    named.prints("flops: operations of one run");
}
