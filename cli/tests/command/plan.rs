//! `recurve profile`, `recurve plan`, and runs along plans.

use crate::recurve_in;
use recurve_cli::Exit;
use serde_json::Value as Json;
use std::path::Path;

const MODEL: &str = "examples/addition/addition.onnx";
const DIMS: [&str; 5] = ["--dim", "time=6,batch=1", "--threads", "2", "--no-cache"];

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn json(path: &Path) -> Json {
    serde_json::from_str(&std::fs::read_to_string(path).expect("written")).expect("a document")
}

#[test]
fn a_model_is_profiled_planned_and_run_along_its_plan() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (profile, plan, gantt, trace, instance) =
        (path("p.json"), path("plan.json"), path("g.svg"), path("t.json"), path("i.json"));
    let run = |arguments: &[&str]| recurve_in(&root(), arguments);

    let mut arguments = vec!["profile", MODEL, "--out", &profile, "--json"];
    arguments.extend(DIMS);
    let document = run(&arguments).with(Exit::Success).document();
    let operators = document["profile"]["operators"].as_object().expect("operators");
    assert!(operators.keys().any(|signature| signature.starts_with("LSTM ")), "{document}");
    assert!(operators.values().all(|o| o["lanes"]["cpu:1"]["median_us"].as_f64() > Some(0.0)));
    assert_eq!(json(Path::new(&profile)), document["profile"]);

    let mut arguments = vec!["plan", MODEL, "--profile", &profile, "--out", &plan];
    arguments.extend(["--gantt", &gantt, "--trace", &trace, "--emit-instance", &instance]);
    arguments.extend(DIMS);
    let shown = run(&arguments).with(Exit::Success);
    for text in ["predicted", "measured", "all together"] {
        shown.prints(text);
    }
    assert!(std::fs::read_to_string(&gantt).expect("drawn").contains("<svg"));
    let planned = json(Path::new(&plan));
    let steps = planned["steps"].as_array().expect("steps").len();
    let bars = |trace: &Json| {
        trace["traceEvents"].as_array().expect("events").iter().filter(|e| e["ph"] == "X").count()
    };
    assert!(bars(&json(Path::new(&trace))) >= steps);
    run(&["schedule", &instance]).with(Exit::Success).prints("makespan");

    let dims = ["--dim", "time=6,batch=1", "--threads", "2"];
    let mut arguments = vec!["run", MODEL, "--plan", &plan, "--runs", "3", "--trace", &trace, "--json"];
    arguments.extend(dims);
    let along = run(&arguments).with(Exit::Success).document();
    let mut arguments = vec!["run", MODEL, "--json"];
    arguments.extend(dims);
    let without = run(&arguments).with(Exit::Success).document();
    assert_eq!(along["outputs"], without["outputs"]);
    assert!(bars(&json(Path::new(&trace))) >= 1);
}

#[test]
fn what_is_no_plan_or_profile_ends_with_the_code_of_documents() {
    let folder = tempfile::tempdir().expect("a folder");
    let bad = folder.path().join("bad.json");
    std::fs::write(&bad, "{}").expect("written");
    let bad = bad.display().to_string();
    let run = |arguments: &[&str]| recurve_in(&root(), arguments);
    run(&["run", MODEL, "--plan", &bad]).with(Exit::Model).says("this is no plan");
    run(&["plan", MODEL, "--profile", &bad]).with(Exit::Model).says("this is no profile");
    run(&["plan", MODEL, "--profile", "nowhere.json"]).with(Exit::Usage);
    run(&["run", MODEL, "--plan", "nowhere.json"]).with(Exit::Usage);
    run(&["run", MODEL, "--plan", &bad, "--mode", "latency"]).with(Exit::Usage);
}
