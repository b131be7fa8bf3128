//! `recurve check`.

use crate::{data, recurve, scratch, text};
use recurve_cli::Exit;

fn check(expect: &str, more: &[&str]) -> crate::Ended {
    let (model, x, y) = (data("biased.onnx"), data("biased_x.npz"), data(expect));
    let mut arguments = vec!["check", &model, "--inputs", &x, "--expect", &y];
    arguments.extend(more);
    recurve(&arguments)
}

#[test]
fn equal_outputs_pass() {
    check("biased_y.npz", &[]).with(Exit::Success).prints("ok  y");
    let document =
        check("biased_y.npz", &["--json", "--rtol", "0", "--atol", "0"]).with(Exit::Success).document();
    assert_eq!(document["passed"], true);
    assert_eq!(document["cases"][0]["outputs"][0]["name"], "y");
}

#[test]
fn outputs_of_the_emulated_gpu_are_checked_too() {
    check("biased_y.npz", &["--device", "emulated"]).with(Exit::Success).prints("ok  y");
    check("biased_wrong.npz", &["--device", "emulated"]).with(Exit::OutputsDiffer);
}

#[test]
fn the_first_differing_elements_are_shown() {
    let ended = check("biased_wrong.npz", &[]).with(Exit::OutputsDiffer);
    ended.prints("differs  y");
    ended.prints("[1, 0, 2]");
    ended.says("1 of 1 outputs differ");
    ended.says("--rtol");
    let document = check("biased_wrong.npz", &["--json"]).with(Exit::OutputsDiffer).document();
    let difference = &document["cases"][0]["outputs"][0]["difference"];
    assert_eq!((&difference["what"], &difference["count"]), (&"elements".into(), &1.into()));
    assert_eq!(difference["first"][0]["index"], serde_json::json!([1, 0, 2]));
}

#[test]
fn tolerances_decide() {
    check("biased_wrong.npz", &["--atol", "1"]).with(Exit::Success);
    check("biased_wrong.npz", &["--rtol", "0.5"]).with(Exit::Success);
    check("biased_wrong.npz", &["--rtol", "-1"]).with(Exit::Usage);
    check("biased_wrong.npz", &["--atol", "nan"]).with(Exit::Usage);
}

#[test]
fn the_onnx_layout_is_read() {
    let (model, folder) = (data("biased.onnx"), data("biased_cases"));
    let ended = recurve(&["check", &model, "--onnx-test", &folder, "--json"]).with(Exit::OutputsDiffer);
    let document = ended.document();
    let cases: Vec<(&str, bool)> = document["cases"]
        .as_array()
        .expect("cases")
        .iter()
        .map(|case| (case["name"].as_str().expect("a name"), case["outputs"][0]["passed"] == true))
        .collect();
    assert_eq!(cases, [("test_data_set_0", true), ("test_data_set_1", false)]);
    let one = format!("{folder}/test_data_set_0");
    recurve(&["check", &model, "--onnx-test", &one]).with(Exit::Success).prints("ok  y");
}

#[test]
fn a_form_that_differs_is_said() {
    let (_folder, path) = scratch("y.npz");
    recurve(&["run", &data("biased.onnx"), "--dim", "batch=1", "--outputs", &text(&path), "-q"])
        .with(Exit::Success);
    let expect = text(&path);
    let ended =
        recurve(&["check", &data("biased.onnx"), "--inputs", &data("biased_x.npz"), "--expect", &expect]);
    let ended = ended.with(Exit::OutputsDiffer);
    ended.prints("shape [2, 2, 4]; [1, 1, 4] is expected");
    ended.says("hint: shapes follow from --inputs and --dim");
    assert!(!ended.err.contains("--rtol"), "{}", ended.err);
}

#[test]
fn the_same_seed_checks_across_runs() {
    let (_folder, path) = scratch("y.npz");
    let (model, path) = (data("biased.onnx"), text(&path));
    let shape = ["--dim", "batch=3", "--dim", "time=7", "-q"];
    recurve(&[&["run", &model, "--seed", "5", "--outputs", &path], &shape[..]].concat()).with(Exit::Success);
    recurve(&[&["check", &model, "--seed", "5", "--expect", &path], &shape[..]].concat()).with(Exit::Success);
    recurve(&[&["check", &model, "--seed", "6", "--expect", &path], &shape[..]].concat())
        .with(Exit::OutputsDiffer);
}

#[test]
fn what_cannot_be_compared_is_usage() {
    let model = data("biased.onnx");
    recurve(&["check", &model]).with(Exit::Usage);
    let ended = check("biased_x.npz", &[]).with(Exit::Usage);
    ended.says("expects `x`, which is no output of the model: y");
    recurve(&["check", &model, "--onnx-test", &data("")]).with(Exit::Usage).says("test_data_set_");
    recurve(&["check", &model, "--onnx-test", &data("no_such_folder")]).with(Exit::Usage);
    let both = ["check", &model, "--onnx-test", &data("biased_cases"), "--seed", "1"];
    recurve(&both).with(Exit::Usage);
}

#[test]
fn what_is_missing_is_said() {
    let ended = recurve(&["check", &data("biased.onnx")]).with(Exit::Usage);
    ended
        .says("hint: give an NPZ file with --expect, or a folder of the ONNX backend suite with --onnx-test");
    let drawn = recurve(&[
        "check",
        &data("biased.onnx"),
        "--dim",
        "batch=2,time=2",
        "--expect",
        &data("biased_y.npz"),
    ]);
    let drawn = drawn.with(Exit::OutputsDiffer);
    drawn.says("hint: inputs were drawn from a seed");
    drawn.prints("  inputs drawn from seed 0: x\n");
    let given = check("biased_y.npz", &["--json"]).with(Exit::Success).document();
    assert!(given["cases"][0].get("drawn").is_none(), "{given}");
}
