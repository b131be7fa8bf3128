//! `recurve ops`, `recurve env`, help and version.

use crate::{data, recurve};
use recurve_cli::Exit;
use std::process::{Command, Stdio};

#[test]
fn operators_are_listed() {
    let document = recurve(&["ops", "--json"]).with(Exit::Success).document();
    let operators = document["operators"].as_array().expect("operators");
    assert_eq!(operators.len(), recurve::testing::operators().len());
    let relu = operators.iter().find(|op| op["name"] == "Relu").expect("Relu");
    assert_eq!(relu["domain"], "");
    assert!(relu["dtypes"].as_array().is_some_and(|dtypes| dtypes.contains(&"float32".into())));
    assert!(relu["since"].as_array().is_some_and(|since| since.contains(&14.into())));
    let listed = recurve(&["ops"]).with(Exit::Success);
    listed.prints("  Relu ");
    // Every class that stands in the list is explained under it.
    for class in operators.iter().map(|op| op["accuracy"].as_str().expect("a class")) {
        listed.prints(&format!("`{class}`,"));
    }
}

#[test]
fn the_machine_is_described() {
    let document = recurve(&["env", "--json"]).with(Exit::Success).document();
    let version = document["recurve"].as_str().expect("a version");
    assert!(version.starts_with(env!("CARGO_PKG_VERSION")), "{version}");
    assert!(document["cores"].as_u64() >= Some(1));
    assert!(document["cpu_features"].is_array());
    let variables = document["variables"].as_array().expect("variables");
    let unset = |v: &&serde_json::Value| v["name"] == "NO_COLOR";
    let unset = variables.iter().find(unset).expect("NO_COLOR");
    assert!(unset["value"].is_null() && unset["default"].is_null(), "{unset}");
    recurve(&["env"]).with(Exit::Success).prints("(not set)");
}

#[test]
fn devices_are_listed_with_or_without_a_gpu() {
    let document = recurve(&["devices", "--json"]).with(Exit::Success).document();
    let devices = document["devices"].as_array().expect("devices");
    assert_eq!(
        (&devices[0]["device"], &devices[devices.len() - 1]["device"]),
        (&"cpu".into(), &"emulated".into())
    );
    // Either there are GPUs, or there is a reason.
    assert_eq!(devices.len() == 2, document["no_gpu"].is_string(), "{document}");
    let listed = recurve(&["devices"]).with(Exit::Success);
    listed.prints("emulated");
    for column in ["device", "capability", "processors", "driver", "module"] {
        listed.prints(&format!("`{column}`"));
    }
    let missing = recurve(&["run", &data("bf16.onnx"), "--device", "cuda:999"]);
    missing.with(Exit::Device).says("hint: `recurve devices` lists where models can run here");
    recurve(&["run", &data("bf16.onnx"), "--device", "gpu"]).with(Exit::Usage);
}

#[test]
fn help_and_version_go_to_stdout() {
    let version = recurve(&["--version"]).with(Exit::Success);
    // Behind it stands the commit, where there is one.
    let commit =
        version.out.strip_prefix(concat!("recurve ", env!("CARGO_PKG_VERSION"))).expect("the version");
    assert!(commit == "\n" || (commit.starts_with(" (") && commit.ends_with(")\n")), "{}", version.out);
    let all = ["run", "check", "bench", "inspect", "ops", "profile", "plan", "schedule", "devices", "env"];
    for command in all {
        let help = recurve(&[command, "--help"]).with(Exit::Success);
        help.prints("Example:\n  recurve ");
        assert_eq!(help.err, "");
        assert_eq!(recurve(&[command, "-h"]).with(Exit::Success).out, help.out);
        let wide = help.out.lines().find(|line| line.chars().count() > 104);
        assert_eq!(wide, None, "{command}");
    }
}

#[test]
fn an_option_of_another_subcommand_is_told_by_its_name() {
    let model = data("biased.onnx");
    let ended = recurve(&["run", &model, "--device-profile", "p.json"]).with(Exit::Usage);
    ended.says("unexpected argument '--device-profile'");
    ended.says("--device-profile is an option of `recurve plan`");
    assert!(!ended.err.contains("--device <DEVICE>"), "nothing else is suggested: {}", ended.err);
    let ended = recurve(&["plan", &model, "--runs=3"]).with(Exit::Usage);
    ended.says("--runs is an option of `recurve run`");
    let ended = recurve(&["run", &model, "--frobnicate"]).with(Exit::Usage);
    assert!(!ended.err.contains("is an option of"), "{}", ended.err);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_recurve"))
        .arg("ops")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    drop(child.stdout.take());
    let ended = child.wait_with_output().expect("the command ends");
    assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn a_comparison_of_schedules_is_one_document() {
    let instance = concat!(env!("CARGO_MANIFEST_DIR"), "/../scheduler/tests/data/t02.json");
    let all = ["schedule", instance, "--algorithm", "all", "--evaluations", "2000", "--json"];
    let document = recurve(&all).with(Exit::Success).document();
    assert_eq!(document["answers"].as_array().map(Vec::len), Some(7));
    let elsewhere = ["schedule", instance, "--mode", "memory", "--memory", "attic", "--slo-us", "99"];
    recurve(&elsewhere).with(Exit::Usage).says("no memory \"attic\"; it has ");
    let table = recurve(&all[..all.len() - 1]).with(Exit::Success);
    for text in
        ["makespan: from the first start to the last end, in microseconds", "/ bound: over what no", "peak: "]
    {
        table.prints(text);
    }
    for search in ["--seed", "--budget-ms", "--evaluations"] {
        let ended = recurve(&["schedule", instance, "--algorithm", "heft", search, "5"]).with(Exit::Usage);
        ended.says(&format!("{search} is for --algorithm portfolio and all, which search"));
    }
    let listing = recurve(&["schedule", instance, "--algorithm", "heft"]).with(Exit::Success);
    listing.prints("start us       end us  task or transfer\n");
    assert!(listing.out.ends_with('\n') && !listing.out.ends_with("\n\n"), "{:?}", listing.out);
}

#[test]
fn messages_that_nobody_reads_are_no_panic() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_recurve"))
        .args(["run", &data("no_such.onnx")])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    drop(child.stderr.take());
    assert_eq!(child.wait().expect("the command ends").code(), Some(Exit::Usage as i32));
}
