//! `recurve inspect`.

use crate::{data, recurve};
use recurve_cli::Exit;
use serde_json::json;

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
    // 512 floats and the bias are read and 512 floats written; before, 512 more were written and read.
    assert_eq!((&fused["bytes_before"], &fused["bytes_after"]), (&json!(8208.0), &json!(4112.0)));
    assert_eq!(document["apart"], json!([]));
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
