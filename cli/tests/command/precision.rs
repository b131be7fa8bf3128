//! `--precision`: what weights are stored in, and what is said of it.

use crate::{data, recurve};
use recurve_cli::Exit;

/// A model with recurrences.
fn addition() -> String {
    format!("{}/../examples/addition/addition.onnx", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn formats_are_stored_and_compared_with_the_model() {
    let run = |format: &str| {
        let ended = recurve(&["run", &addition(), "--precision", format, "--json"]);
        ended.with(Exit::Success).document()
    };
    assert!(run("f32")["precision"].is_null(), "weights are those of the model");
    let mut bytes = Vec::new();
    for format in ["f16", "bf16", "int8"] {
        let precision = run(format)["precision"].clone();
        assert_eq!(precision["format"], format);
        let number = |name: &str| precision[name].as_u64().expect("a number");
        assert!(number("stored_bytes") < number("model_bytes"), "{precision}");
        bytes.push(number("stored_bytes"));
        let weights = precision["weights"].as_array().expect("weights");
        assert!(weights.iter().any(|w| w["op"] == "LSTM" && w["input"] == 2), "{precision}");
        let deviations = precision["deviations"].as_array().expect("deviations");
        assert!(deviations.iter().any(|d| d["max_relative"].as_f64().is_some()), "{precision}");
    }
    assert!(bytes[0] == bytes[1] && bytes[2] < bytes[1], "{bytes:?}");
    let ended = recurve(&["run", &addition(), "--precision", "f16"]).with(Exit::Success);
    ended.prints("outputs beside those with the model's weights\n  h_out  relative error ");
    let none = recurve(&["run", &data("biased.onnx"), "--precision", "f16"]).with(Exit::Success);
    none.prints("nothing: the model has no weights of recurrences or products");
    assert!(!none.out.contains("0 B of 0 B") && !none.out.contains("relative error"), "{}", none.out);
    let ended = recurve(&["inspect", &addition(), "--precision", "int8"]).with(Exit::Success);
    ended.prints("int8");
}

#[test]
fn other_spellings_and_integers_on_a_gpu_are_refused() {
    for wrong in ["fp16", "F16", "int4", ""] {
        let ended = recurve(&["run", &addition(), "--precision", wrong]).with(Exit::Usage);
        assert!(ended.err.contains("precision"), "{}", ended.err);
    }
    let ended = recurve(&["run", &data("biased.onnx"), "--precision", "int8", "--device", "emulated"]);
    ended.with(Exit::Usage).says("with a GPU f16, bf16 and tf32");
    let ended = recurve(&["run", &data("biased.onnx"), "--precision", "tf32"]).with(Exit::Usage);
    ended.says("is for GPUs alone");
}

#[test]
fn the_emulated_gpu_multiplies_as_tf32_and_tells_what() {
    let arguments = ["run", &addition(), "--dim", "time=40,batch=1", "--device", "emulated"];
    let run = |more: &[&str]| recurve(&[&arguments[..], more].concat()).with(Exit::Success);
    let document = run(&["--precision", "tf32", "--json"]).document();
    let precision = &document["precision"];
    assert_eq!(
        (&precision["format"], &precision["stored_bytes"]),
        (&"tf32".into(), &precision["model_bytes"])
    );
    let weights = precision["weights"].as_array().expect("weights");
    assert!(weights.iter().any(|w| w["op"] == "LSTM" && w["kept"].is_string()), "{precision}");
    assert!(!precision["deviations"].as_array().expect("deviations").is_empty(), "{precision}");
    run(&["--precision", "tf32"]).prints("multiplied as tf32");
}

#[test]
fn the_emulated_gpu_stores_weights_in_16_bits() {
    let run = |format: &str| {
        let arguments = ["run", &addition(), "--precision", format, "--device", "emulated", "--json"];
        recurve(&arguments).with(Exit::Success).document()
    };
    let document = run("bf16");
    let precision = &document["precision"];
    let number = |name: &str| precision[name].as_u64().expect("a number");
    assert!(number("stored_bytes") * 10 < number("model_bytes") * 7, "{precision}");
    let deviations = precision["deviations"].as_array().expect("deviations");
    assert!(!deviations.is_empty(), "{precision}");
    assert!(run("f32")["precision"].is_null());
}
