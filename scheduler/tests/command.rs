//! The `schedule` command from outside: documents, files and exit codes.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::{Command, Output};

use recurve_scheduler::{Instance, Memory};

fn schedule(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_schedule")).args(args).output().unwrap()
}

fn json(args: &[&str]) -> serde_json::Value {
    let output = schedule(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn one_document_on_standard_output() {
    let answer = json(&["tests/data/t02.json", "--algorithm", "heft", "--json"]);
    assert_eq!(answer["version"], 1);
    assert_eq!(answer["algorithm"], "heft");
    assert_eq!(answer["makespan_us"], 80.0);
    // What sums of times leave in the last places is not printed.
    assert_eq!(answer["lower_bound_us"], 41.0);
    assert_eq!(answer["tasks"].as_array().unwrap().len(), 10);
    assert!(answer.get("front").is_none());
    let all = json(&["tests/data/t02.json", "--algorithm", "all", "--evaluations", "20000", "--json"]);
    assert_eq!(all["version"], 1);
    let all = all["answers"].as_array().unwrap();
    assert_eq!(all.len(), 7);
    assert_eq!(all[0]["makespan_us"], 73.0);
    let text = schedule(&["tests/data/t02.json", "--evaluations", "20000"]).stdout;
    assert!(String::from_utf8(text).unwrap().contains("in 200 replays: half within 7"));
}

#[test]
fn memory_mode_prints_a_front() {
    let args = [
        "tests/data/i5.json",
        "--mode",
        "memory",
        "--memory",
        "p1",
        "--slo-us",
        "40",
        "--evaluations",
        "2000",
    ];
    let answer = json(&[&args[..], &["--json"]].concat());
    assert_eq!(answer["peak_bytes"]["p1"], 0);
    assert!(!answer["front"].as_array().unwrap().is_empty());
    let answer = json(&[&args[..], &["--json", "--algorithm", "exact"]].concat());
    assert_eq!(answer["algorithm"], "exact");
}

#[test]
fn charts_and_traces_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let (svg, trace) = (folder.path().join("out.svg"), folder.path().join("out.json"));
    let paths = [svg.to_str().unwrap(), trace.to_str().unwrap()];
    json(&["tests/data/t02.json", "--algorithm", "heft", "--json", "--gantt", paths[0], "--trace", paths[1]]);
    let svg = std::fs::read_to_string(svg).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("time in µs") && svg.contains("t10"));
    let trace: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(trace).unwrap()).unwrap();
    let spans = trace["traceEvents"].as_array().unwrap().iter().filter(|e| e["ph"] == "X").count();
    assert_eq!(spans, 10 + 9);
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let code = |args: &[&str]| schedule(args).status.code().unwrap();
    assert_eq!(code(&["tests/data/t02.json", "--algorithm", "sorcery"]), 2);
    assert_eq!(code(&["tests/data/t02.json", "--mode", "memory"]), 2);
    let elsewhere = ["tests/data/t02.json", "--mode", "memory", "--memory", "attic", "--slo-us", "99"];
    assert_eq!(code(&elsewhere), 2);
    assert!(String::from_utf8_lossy(&schedule(&elsewhere).stderr).contains("no memory \"attic\"; it has "));
    assert_eq!(code(&["Cargo.toml"]), 3);
    assert_eq!(code(&["tests/data/absent.json"]), 4);
    let folder = tempfile::tempdir().unwrap();
    let bytes = folder.path().join("bytes.json");
    std::fs::write(&bytes, [0xff, 0xfe, 0x00]).unwrap();
    let output = schedule(&[bytes.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("bytes.json is no document: it is not text"));
    // What nothing would read is refused, and so are times that are none.
    assert_eq!(code(&["tests/data/t02.json", "--memory", "p1"]), 2);
    assert_eq!(code(&["tests/data/t02.json", "--slo-us", "99"]), 2);
    for slo in ["nan", "inf", "0"] {
        assert_eq!(code(&["tests/data/t02.json", "--mode", "memory", "--memory", "p1", "--slo-us", slo]), 2);
    }
    let slo = ["--mode", "memory", "--memory", "p1", "--slo-us", "10", "--evaluations", "500"];
    let output = schedule(&[&["tests/data/t02.json"], &slo[..]].concat());
    assert_eq!(output.status.code(), Some(5));
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: "));
}

#[test]
fn a_capacity_that_nothing_fits_is_infeasible() {
    let folder = tempfile::tempdir().unwrap();
    let mut instance = Instance::read("tests/data/i5.json".as_ref()).unwrap();
    instance.machine.memories =
        ["p1", "p2"].map(|m| Memory { name: m.to_owned(), capacity: Some(100) }).to_vec();
    instance.tasks[0].workspace_bytes = 101;
    let path = folder.path().join("tight.json");
    std::fs::write(&path, instance.to_json().unwrap()).unwrap();
    let path = path.to_str().unwrap();
    for algorithm in [&["portfolio", "--evaluations", "500"][..], &["heft"], &["heft-links"]] {
        assert_eq!(schedule(&[&[path, "--algorithm"], algorithm].concat()).status.code(), Some(5));
    }
}

#[test]
fn the_instance_of_the_readme_is_one() {
    let readme = std::fs::read_to_string("README.md").unwrap();
    let shown = readme.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("instance.json");
    std::fs::write(&path, shown).unwrap();
    // 4096 bytes take 6.164 µs to the GPU, where the task takes 8.
    let answer = json(&[path.to_str().unwrap(), "--algorithm", "exact", "--json"]);
    assert_eq!(answer["makespan_us"].as_f64().map(|us| (us * 1e3).round()), Some(14_164.0));
}
