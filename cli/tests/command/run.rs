//! `recurve run`.

use crate::{data, recurve, recurve_in, scratch, text};
use recurve_cli::Exit;

#[test]
fn text_has_names_shapes_summary_and_times() {
    let ended =
        recurve(&["run", &data("biased.onnx"), "--inputs", &data("biased_x.npz")]).with(Exit::Success);
    ended.prints("x  float32 [2, 2, 4]  from file");
    ended.prints("y  float32 [2, 2, 4]  min 0  max 7  mean ");
    ended.prints("(the first run, ");
    ended.prints("load");
    assert!(!ended.out.contains("p99"), "one time has no distribution: {}", ended.out);
    assert_eq!(ended.err, "", "nothing has to be narrated");
    let several = recurve(&["run", &data("biased.onnx"), "--inputs", &data("biased_x.npz"), "--runs", "3"]);
    several.with(Exit::Success).prints("p99");
}

#[test]
fn the_document_has_what_is_promised() {
    let ended = recurve(&[
        "run",
        &data("biased.onnx"),
        "--inputs",
        &data("biased_x.npz"),
        "--runs",
        "7",
        "--warmup",
        "2",
        "--profile-nodes",
        "--no-fusion",
        "--threads",
        "1",
        "--json",
    ])
    .with(Exit::Success);
    let document = ended.document();
    assert!(document["load_ms"].as_f64().is_some_and(|ms| ms > 0.0));
    let latency = |name: &str| document["latency_us"][name].as_f64().expect("a time");
    assert!(0.0 < latency("min") && latency("min") <= latency("p50") && latency("p50") <= latency("p99"));
    assert_eq!((&document["runs"], &document["threads"]), (&7.into(), &1.into()));
    let output = &document["outputs"][0];
    assert_eq!(output["name"], "y");
    assert_eq!(output["dtype"], "float32");
    assert_eq!(output["shape"], serde_json::json!([2, 2, 4]));
    assert_eq!(output["summary"]["max"], 7.0);
    assert_eq!(output["summary"]["not_finite"], 0);
    assert_eq!(document["inputs"][0]["source"], "file");
    let nodes = document["nodes"].as_array().expect("nodes");
    let names: Vec<&str> = nodes.iter().filter_map(|node| node["name"].as_str()).collect();
    assert_eq!(names, ["adds", "clamps"]);
    assert!(nodes.iter().all(|node| node["runs"] == 7 && node["total_us"].as_f64() > Some(0.0)), "{nodes:?}");
    if cfg!(target_os = "linux") {
        let [before, peak] = ["rss_before_load_bytes", "peak_rss_bytes"].map(|of| document[of].as_u64());
        assert!(before > Some(1 << 20) && before < peak, "{before:?} {peak:?}");
    }
    assert_eq!(ended.err, "");
}

#[test]
fn what_runs_beside_the_gpu_is_told() {
    let run = |more: &[&str]| {
        let arguments =
            ["run", &data("running.onnx"), "--device", "emulated", "--runs", "3", "--warmup", "1"];
        recurve(&[&arguments[..], more].concat())
    };
    let document = run(&["--fallback", "cpu", "--json"]).with(Exit::Success).document();
    let trips = serde_json::json!([{
        "node": "drops",
        "op": "Dropout",
        "reason": "no GPU kernel computes a dropout whose ratio is data",
        "calls": 4,
        "bytes_down": 96,
        "bytes_up": 80,
    }]);
    assert_eq!(document["host_trips"], trips);
    run(&["--fallback", "cpu"]).with(Exit::Success).prints(
        "drops  Dropout       4             96 B           80 B  no GPU kernel computes a dropout whose ratio is data",
    );
    let refused = run(&[]).with(Exit::Model);
    assert!(refused.err.contains("`drops` (Dropout"), "{}", refused.err);
    run(&[]).with(Exit::Model).says("hint: `--fallback cpu` runs such nodes on the CPU");
    let whole = recurve(&["run", &data("biased.onnx"), "--device", "emulated", "--json"]).with(Exit::Success);
    assert!(whole.document().get("host_trips").is_none());
}

#[test]
fn of_a_fused_node_beside_the_gpu_the_models_own_nodes_are_told() {
    let run = |more: &[&str]| {
        recurve(&[&["run", &data("waves.onnx"), "--device", "emulated", "--fallback", "cpu"], more].concat())
    };
    let document = run(&["--json"]).with(Exit::Success).document();
    let trip = &document["host_trips"][0];
    assert_eq!(trip["op"], "recurve:FusedMap");
    let members = serde_json::json!([{"name": "sum", "op": "Add"}, {"name": "of_sum", "op": "Cos"}]);
    assert_eq!(trip["members"], members);
    run(&[]).with(Exit::Success).prints("sum, of_sum  recurve:FusedMap");
}

/// Without all extents a model is bound to its GPU by the first run, when the engine no longer knows where it came from.
#[test]
fn a_refusal_at_the_first_run_names_the_models_file() {
    let (model, y) = (data("waves.onnx"), data("waves_y.npz"));
    let first = format!("error: `{model}` cannot run");
    recurve(&["run", &model, "--device", "emulated"]).with(Exit::Model).says(&first);
    recurve(&["bench", &model, "--device", "emulated"]).with(Exit::Model).says(&first);
    let check = ["check", &model, "--device", "emulated", "--dim", "n=2", "--expect", &y];
    recurve(&check).with(Exit::Model).says(&first);
    recurve(&["run", &model, "--device", "emulated"])
        .says("node `of_sum` (recurve:FusedMap, opset 17): its kernel refuses it: axes is 17, at most 16 is");
}

#[test]
fn what_a_model_takes_of_its_gpu_is_told() {
    let model = data("biased.onnx");
    let run = |more: &[&str]| recurve(&[&["run", &model, "--dim", "batch=3,time=5"], more].concat());
    let document = run(&["--device", "emulated", "--json"]).with(Exit::Success).document();
    let gpu = &document["gpu"];
    assert_eq!((&gpu["context_bytes"], &gpu["module_bytes"]), (&0.into(), &0.into()));
    for kind in ["weight_bytes", "activation_bytes", "pinned_bytes", "launches"] {
        assert!(gpu[kind].as_u64().is_some_and(|count| count > 0), "{kind}: {gpu}");
    }
    run(&["--device", "emulated"]).with(Exit::Success).prints("launches of a run");
    assert!(run(&["--json"]).with(Exit::Success).document().get("gpu").is_none());
    let taken: u64 = ["weight_bytes", "activation_bytes", "workspace_bytes"]
        .iter()
        .map(|kind| gpu[kind].as_u64().expect("a count"))
        .sum();
    let limited = |bytes: u64| run(&["--device", "emulated", "--gpu-memory-limit", &bytes.to_string()]);
    limited(taken).with(Exit::Success);
    let refused = limited(taken - 1).with(Exit::Device);
    refused.says(&format!("bytes more would exceed the GPU memory limit of {} bytes", taken - 1));
    refused.says("hint: raise --gpu-memory-limit, or bind smaller dimensions with --dim");
    let nowhere = run(&["--gpu-memory-limit", "1MiB"]).with(Exit::Usage);
    nowhere.says("--gpu-memory-limit is for a GPU: name one with --device");
}

#[test]
fn nodes_are_timed_only_on_request() {
    let document = recurve(&["run", &data("biased.onnx"), "--json", "-q"]).with(Exit::Success).document();
    assert!(document.get("nodes").is_none());
    let ended = recurve(&["run", &data("biased.onnx"), "--profile-nodes", "--no-fusion"]).with(Exit::Success);
    ended.prints("clamps  Relu");
    let ended = recurve(&["run", &data("biased.onnx"), "--profile-nodes"]).with(Exit::Success);
    ended.prints("clamps  recurve:FusedMap");
    ended.prints("recurve:Fused… is one kernel in the place of several nodes");
    ended.prints("share");
}

#[test]
fn missing_inputs_are_drawn_from_the_seed() {
    let first = |seed: &str| {
        let ended =
            recurve(&["run", &data("biased.onnx"), "--dim", "batch=3,time=5", "--seed", seed, "--json"]);
        let document = ended.with(Exit::Success).document();
        assert_eq!(document["outputs"][0]["shape"], serde_json::json!([3, 5, 4]));
        assert_eq!(document["inputs"][0]["source"], "seed");
        document["inputs"][0]["summary"].clone()
    };
    assert_eq!(first("1"), first("1"));
    assert_ne!(first("1"), first("2"));
    let range = first("3");
    assert!(range["min"].as_f64() >= Some(-1.0) && range["max"].as_f64() < Some(1.0), "{range}");
}

#[test]
fn an_input_is_drawn_alike_whatever_else_is_given() {
    let (_folder, path) = scratch("row.npz");
    let all = recurve(&["run", &data("odd_inputs.onnx"), "--json", "-q"]).with(Exit::Success).document();
    // An archive that holds the one input only.
    let given = recurve(&["run", &data("biased.onnx"), "--outputs", &text(&path), "-q"]);
    given.with(Exit::Success);
    let stray = recurve(&["run", &data("odd_inputs.onnx"), "--inputs", &text(&path)]).with(Exit::Usage);
    stray.says("holds `y`, which is no input of the model: row, scalar");
    let partly = recurve(&["run", &data("odd_inputs.onnx"), "--inputs", &data("row.npz"), "--json"]);
    let partly = partly.with(Exit::Success).document();
    let scalar = |document: &serde_json::Value| {
        let inputs = document["inputs"].as_array().expect("inputs").clone();
        inputs.into_iter().find(|input| input["name"] == "scalar").expect("the scalar")
    };
    assert_eq!(scalar(&all), scalar(&partly));
    assert_eq!(scalar(&all)["shape"], serde_json::json!([]));
}

#[test]
fn unbound_dimensions_are_one_and_said_so() {
    let ended = recurve(&["run", &data("biased.onnx"), "--dim", "time=5"]).with(Exit::Success);
    ended.prints("float32 [1, 5, 4]");
    ended.says("taken as 1, since --dim does not bind them: batch");
    let quiet = recurve(&["run", &data("biased.onnx"), "-q"]).with(Exit::Success);
    assert_eq!(quiet.err, "");
    let given = recurve(&["run", &data("odd_inputs.onnx"), "--dim", "row.1=6"]).with(Exit::Success);
    given.prints("row     float32 [1, 6]");
}

#[test]
fn a_zero_extent_is_a_shape() {
    let ended = recurve(&["run", &data("biased.onnx"), "--dim", "batch=0,time=5", "--json"]);
    let document = ended.with(Exit::Success).document();
    assert_eq!(document["outputs"][0]["shape"], serde_json::json!([0, 5, 4]));
    assert!(document["outputs"][0]["summary"]["min"].is_null());
}

#[test]
fn logs_and_colours_come_on_request() {
    let ended = recurve(&["run", &data("biased.onnx"), "-v", "--json"]).with(Exit::Success);
    ended.says("INFO");
    ended.document();
    let plain = recurve(&["run", &data("biased.onnx")]).with(Exit::Success);
    assert!(!plain.out.contains('\x1b'), "stdout is no terminal");
    let painted = recurve(&["run", &data("biased.onnx"), "--color", "always"]).with(Exit::Success);
    painted.prints("\x1b[1moutputs\x1b[0m");
}

/// Weights that are packed take the place of those in the file: a run takes little more than one copy of them beside what
/// the command takes by itself, which is below 0.15 of 100 MB where it is built for release.
#[cfg(target_os = "linux")]
#[test]
fn a_large_model_takes_little_more_memory_than_its_weights_and_values() {
    let peak = |model: &str, dims: &str| {
        let ended = recurve(&["run", model, "--dim", dims, "--threads", "2", "--json"]).with(Exit::Success);
        ended.document()["peak_rss_bytes"].as_u64().expect("Linux tells")
    };
    let small = peak(&data("biased.onnx"), "batch=1");
    let square = 4 * 1792 * 1792;
    let lstm = [("w.bin", square), ("r.bin", square)];
    for (model, weights, dims, values, equal) in [
        ("large_lstm", &lstm[..], "time=2,batch=1", 4 * 1792, false),
        // What is there twice is let go of before it is packed.
        ("large_lstm", &lstm, "time=2,batch=1", 4 * 1792, true),
        ("large_gemm", &[("w.bin", 8192 * 4096)], "batch=1", 8192 + 4096, false),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(format!("{model}.onnx"));
        std::fs::copy(data(&format!("{model}.onnx")), &path).expect("copied");
        let mut bytes = 4 * values;
        for (file, floats) in weights {
            // Zeros that take no room on the disk, behind bytes by which the files differ.
            let path = folder.path().join(file);
            std::fs::write(&path, if equal { &[1; 4] } else { &file.as_bytes()[..4] }).expect("written");
            let made = std::fs::OpenOptions::new().write(true).open(&path).expect("there");
            made.set_len(4 * floats).expect("of this length");
            bytes += 4 * floats;
        }
        let own = peak(&text(&path), dims).saturating_sub(small);
        assert!(
            own as f64 <= 1.15 * bytes as f64,
            "{model}, equal {equal}: {own} bytes, {bytes} of weights and values"
        );
    }
}

/// The first run with a mode measures and plans; the runs that are measured come behind it.
#[test]
fn a_plan_is_made_before_the_runs_that_are_measured() {
    let root = crate::plan::root();
    let run = |more: &[&str]| {
        let arguments = ["run", crate::plan::MODEL, "--dim", "time=6,batch=1", "--threads", "2", "--json"];
        recurve_in(&root, &[&arguments[..], more].concat()).with(Exit::Success)
    };
    assert_eq!(run(&[]).document()["warmup"], 0);
    let planned = ["--mode", "latency", "--no-cache", "-v"];
    for (more, warmup) in [(&[][..], 1), (&["--warmup", "3"], 3)] {
        let ended = run(&[&planned[..], more].concat());
        assert_eq!((&ended.document()["warmup"], &ended.document()["runs"]), (&warmup.into(), &1.into()));
        // None is tried where none is predicted to gain, as may be on a busy machine; none is tried later in any case.
        let begin = ended.err.find("the runs that are measured begin");
        assert!(begin.is_some() && ended.err.rfind("a plan was tried") < begin, "{}", ended.err);
    }
}
