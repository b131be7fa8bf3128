//! `recurve profile`, `recurve plan`, and runs along plans.

use crate::{data, recurve_in, recurve_with_cache};
use recurve_cli::Exit;
use serde_json::Value as Json;
use std::path::Path;

pub(crate) const MODEL: &str = "examples/addition/addition.onnx";
const DIMS: [&str; 5] = ["--dim", "time=6,batch=1", "--threads", "2", "--no-cache"];

pub(crate) fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(crate) fn json(path: &Path) -> Json {
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
    arguments.extend(&DIMS[..4]);
    let shown = run(&arguments).with(Exit::Success);
    shown.prints("  no placement of these steps takes less than ");
    for text in ["predicted time", "measured", "each operator on all threads", "bytes written"] {
        shown.prints(text);
    }
    assert!(std::fs::read_to_string(&gantt).expect("drawn").contains("<svg"));
    let planned = json(Path::new(&plan));
    let steps = planned["steps"].as_array().expect("steps").len();
    let bars = |trace: &Json| {
        trace["traceEvents"].as_array().expect("events").iter().filter(|e| e["ph"] == "X").count()
    };
    assert!(bars(&json(Path::new(&trace))) >= steps);
    let mut arguments = vec!["plan", MODEL, "--profile", &profile, "--place", "*=cpu"];
    arguments.extend(&DIMS[..4]);
    let placed = run(&arguments).with(Exit::Success);
    for text in ["everything on one thread, without --place", "that keeps to --place takes less than"] {
        placed.prints(text);
    }
    run(&["schedule", &instance]).with(Exit::Success).prints("makespan");

    let dims = ["--dim", "time=6,batch=1", "--threads", "2"];
    let mut arguments = vec!["run", MODEL, "--plan", &plan, "--runs", "3", "--trace", &trace, "--json"];
    arguments.extend(dims);
    let along = run(&arguments).with(Exit::Success).document();
    let mut arguments = vec!["run", MODEL, "--json"];
    arguments.extend(dims);
    let without = run(&arguments).with(Exit::Success).document();
    assert_eq!(along["outputs"], without["outputs"]);
    assert!(along["plan"].as_str().is_some_and(|plan| plan.starts_with("followed")), "{along}");
    assert!(without.get("plan").is_none());
    let other = run(&["run", MODEL, "--plan", &plan, "--dim", "time=7,batch=1", "--threads", "2"]);
    let other = other.with(Exit::Model);
    other.says("the plan is for inputs");
    other.says("hint: `recurve plan MODEL --out F.json`");
    let mut later = json(Path::new(&plan));
    later["version"] = 99.into();
    std::fs::write(&plan, later.to_string()).expect("written");
    let later = run(&["run", MODEL, "--plan", &plan]).with(Exit::Model);
    later.says("it has version 99");
    assert_eq!(later.err.matches("cannot be followed").count(), 1, "it is told once: {}", later.err);
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

#[test]
fn what_would_have_no_effect_is_refused() {
    for (arguments, problem) in [
        (&["--mode", "latency", "--device", "emulated"][..], "--device runs everything in one place"),
        (&["--trace", "never.json", "--device", "emulated"], "--trace records the threads of the CPU"),
        (&["--fallback", "cpu"], "--fallback cpu is for a GPU"),
        (&["--no-cache"], "--no-cache goes with --mode latency"),
        (&["--refresh"], "--refresh goes with --mode latency"),
        (&["--refresh", "--plan", "p.json"], "--refresh goes with --mode, and not with --plan"),
        (&["--refresh", "--no-cache", "--mode", "latency"], "cannot be used with '--no-cache'"),
    ] {
        recurve_in(&root(), &[&["run", MODEL][..], arguments].concat()).with(Exit::Usage).says(problem);
    }
}

#[test]
fn kept_measurements_are_told_from_new_ones() {
    let dims = ["--dim", "time=2,batch=1", "--threads", "1"];
    let profile = |more: &[&str]| {
        recurve_in(&root(), &[&["profile", MODEL][..], &dims, more].concat()).with(Exit::Success).out
    };
    let sources =
        |text: &str, from: &str| text.lines().filter(|line| line.ends_with(&format!("  {from}"))).count();
    let first = profile(&["--refresh"]);
    assert!(!first.contains("Not measured"), "{first}");
    assert!(sources(&first, "now") > 2 && sources(&first, "cache") == 0, "{first}");
    let second = profile(&[]);
    assert_eq!(sources(&second, "now"), 0, "{second}");
    // Other runs may have added times on more threads.
    assert!(sources(&second, "cache") >= sources(&first, "now"), "{second}");
    assert_eq!(sources(&profile(&["--no-cache"]), "cache"), 0);
}

#[test]
fn two_commands_that_measure_at_once_keep_what_both_found() {
    let cache = tempfile::tempdir().expect("a folder");
    let profile = &|time: &str| {
        let dims = format!("time={time},batch=1");
        let arguments = ["profile", MODEL, "--dim", &dims, "--threads", "1"];
        recurve_with_cache(cache.path(), &root(), &arguments).with(Exit::Success).out
    };
    std::thread::scope(|scope| {
        let both = ["3", "4"].map(|time| scope.spawn(move || profile(time)));
        for measured in both {
            let text = measured.join().expect("it ends well");
            assert!(text.lines().any(|line| line.ends_with("  now")), "{text}");
        }
    });
    for time in ["3", "4"] {
        let text = profile(time);
        assert!(!text.lines().any(|line| line.ends_with("  now")), "{text}");
    }
}

#[test]
fn only_what_is_measured_now_is_said_to_scatter() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |command: &str, more: &[&str]| {
        let arguments = [&[command, MODEL, "--dim", "time=2,batch=1", "--threads"][..], more].concat();
        recurve_with_cache(folder.path(), &root(), &arguments).with(Exit::Success)
    };
    run("profile", &["1"]);
    let file = folder.path().join("recurve").read_dir().expect("kept").map(|f| f.expect("a file").path());
    let file = file.filter(|f| f.display().to_string().contains("profile-")).min().expect("a profile");
    let mut kept = json(&file);
    let wild = 1e6;
    for operator in kept["operators"].as_object_mut().expect("operators").values_mut() {
        operator["lanes"]
            .as_object_mut()
            .expect("lanes")
            .values_mut()
            .for_each(|l| l["p90_us"] = wild.into());
    }
    std::fs::write(&file, kept.to_string()).expect("written");
    for command in ["profile", "plan"] {
        let ended = run(command, &["1", "--json"]);
        assert!(!ended.err.contains("scatter"), "{command} measured nothing: {}", ended.err);
        let known = json(&file)["operators"].to_string();
        assert!(known.contains("\"p90_us\":1000000"), "{command} takes what is kept: {known}");
    }
    let anew = run("run", &["2", "--mode", "latency", "--refresh", "--json"]);
    assert!(anew.document()["plan"].is_string());
    let known = json(&file)["operators"].to_string();
    assert!(!known.contains("\"p90_us\":1000000"), "all was measured again: {known}");
}

#[test]
fn nodes_that_are_not_measured_are_named() {
    let ended = recurve_in(&root(), &["profile", &data("found.onnx"), "--no-cache"]).with(Exit::Success);
    ended.prints("Not measured, since their shapes depend on data: `finds` (NonZero) and `moves` (Add).");
    ended.says("note: input `rate` is a single integer and was drawn as 0 or 1: give it with --inputs");
    // What takes a while is told where no bar can be seen.
    let slow = recurve_in(&root(), &["profile", &data("biased.onnx"), "--no-cache", "--threads", "1"]);
    slow.with(Exit::Success).says("measuring ");
}

#[test]
fn latency_mode_says_what_became_of_the_plan() {
    let arguments =
        ["run", MODEL, "--dim", "time=2,batch=1", "--threads", "2", "--mode", "latency", "--no-cache"];
    let ended = recurve_in(&root(), &arguments).with(Exit::Success);
    assert!(ended.out.lines().any(|line| line.trim_start().starts_with("plan ")), "{}", ended.out);
}

#[test]
fn a_document_given_where_another_is_meant_is_told_by_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |arguments: &[&str]| recurve_in(&root(), arguments);
    let file = |name: &str, fields: [&str; 2]| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("{{\"{}\": 1, \"{}\": 2}}", fields[0], fields[1])).expect("written");
        path.display().to_string()
    };
    let (plan, profile) = (file("plan.json", ["steps", "workers"]), file("p.json", ["operators", "machine"]));
    let followed = run(&["run", MODEL, "--plan", &profile]).with(Exit::Model);
    followed.says("is a profile; a plan is meant");
    followed.says("hint: `recurve plan MODEL --out F.json`");
    let planned = run(&["plan", MODEL, "--profile", &plan]).with(Exit::Model);
    planned.says("is a plan; a profile is meant");
    let scheduled = run(&["schedule", &plan]).with(Exit::Model);
    scheduled.says("is a plan; an instance for `recurve schedule` is meant");
    scheduled.says("hint: `recurve plan MODEL --emit-instance F.json`");
    let compared = run(&["bench", MODEL, "--baseline", &plan]).with(Exit::Model);
    compared.says("is a plan; a measurement of `recurve bench` is meant");
}

#[test]
fn a_document_of_another_version_is_told_by_that_whatever_it_has() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let run = |arguments: &[&str]| recurve_in(&root(), arguments).with(Exit::Model);
    let other = file("d.json", r#"{"version": 99, "stages": []}"#);
    for arguments in [
        ["run", MODEL, "--plan", &other],
        ["plan", MODEL, "--profile", &other],
        ["bench", MODEL, "--baseline", &other],
    ] {
        run(&arguments).says("version 99");
    }
    run(&["schedule", &other]).says("version 99");
    let trace = file("t.json", r#"{"traceEvents": 7, "otherData": {"version": 99, "ran": "it"}}"#);
    let profile = folder.path().join("p.json").display().to_string();
    let measured = ["profile", MODEL, "--dim", "time=2,batch=1", "--threads", "1", "--no-cache", "--out"];
    recurve_in(&root(), &[&measured[..], &[&profile]].concat()).with(Exit::Success);
    let compared = ["plan", MODEL, "--dim", "time=2,batch=1", "--threads", "1", "--profile", &profile];
    let ended = run(&[&compared[..], &["--compare", &trace]].concat());
    ended.says("a trace that is not read: it has version 99 instead of 1");
}

/// Gives the emulated GPU of a profile next to no time, so that it is worth using.
pub(crate) fn speed_up(profile: &Path) {
    let mut document = json(profile);
    for cost in document["operators"].as_object_mut().expect("operators").values_mut() {
        let lanes = cost["lanes"].as_object_mut().expect("lanes");
        if let Some(there) = lanes.get_mut("emulated") {
            for name in ["median_us", "min_us", "p90_us"] {
                there[name] = 1e-3.into();
            }
        }
    }
    // Absent where no step follows another that is short.
    let segments = document.get_mut("segments").and_then(Json::as_object_mut);
    for times in segments.into_iter().flat_map(|segments| segments.values_mut()) {
        for name in ["median_us", "min_us", "p90_us"] {
            times["emulated"][name] = 1e-3.into();
        }
    }
    for link in document["links"].as_array_mut().expect("links") {
        let us = link["bytes"].as_f64().expect("bytes") * 1e-9 + 1e-3;
        for name in ["median_us", "min_us", "p90_us"] {
            link["time"][name] = us.into();
        }
    }
    std::fs::write(profile, document.to_string()).expect("written");
}

/// Checks that two documents are the same but for the last places of their numbers: sums of other kernels.
fn alike(a: &Json, b: &Json) {
    match (a, b) {
        (Json::Array(x), Json::Array(y)) if x.len() == y.len() => {
            x.iter().zip(y).for_each(|(x, y)| alike(x, y));
        }
        (Json::Object(x), Json::Object(y)) if x.len() == y.len() => {
            x.iter().for_each(|(name, x)| alike(x, &y[name]));
        }
        (Json::Number(x), Json::Number(y)) => {
            let (x, y) = (x.as_f64().expect("a number"), y.as_f64().expect("a number"));
            assert!((x - y).abs() <= 1e-4 * (1.0 + y.abs()), "{x} instead of {y}");
        }
        _ => assert_eq!(a, b),
    }
}

#[test]
fn a_plan_over_threads_and_the_emulated_gpu_is_made_shown_compared_and_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let run = |arguments: &[&str]| recurve_in(&root(), arguments);
    let (profile, plan, curve, trace) = (path("p.json"), path("plan.json"), path("c.svg"), path("t.json"));
    let dims = ["--dim", "time=2,batch=1", "--threads", "2"];
    let devices = ["--devices", "cpu,emulated"];
    let with = |arguments: &[&str], more: &[&[&str]]| {
        let all: Vec<&str> = arguments.iter().chain(more.iter().copied().flatten()).copied().collect();
        run(&all)
    };
    let measured = with(&["profile", MODEL, "--out", &profile, "--no-cache"], &[&dims, &devices]);
    measured.with(Exit::Success).prints("emulated");

    // The emulated GPU is slow: one that is not here, and takes next to nothing, is worth using.
    let synthetic = "runtime/profiles/h100-synthetic.json";
    let on_gpu = ["--devices", "cpu,cuda:0", "--device-profile", synthetic, "--place", "*=cuda:0"];
    let shown = with(&["plan", MODEL, "--profile", &profile, "--place", "*=cpu"], &[&dims, &devices]);
    shown.with(Exit::Success).prints("all steps that can and may run on the emulated GPU");
    let limited =
        with(&["plan", MODEL, "--profile", &profile, "--mode", "memory", "--slo", "1us"], &[&dims, &devices]);
    let limited = limited.with(Exit::Infeasible);
    limited.says("no plan was found that takes at most 1.0 µs: the fastest takes");
    limited.says("allow more time with --slo");
    let forced = with(&["plan", MODEL, "--profile", &profile], &[&dims, &on_gpu]);
    assert!(
        forced.code == Exit::Success as i32 || forced.err.contains("does not run on cuda:0"),
        "{}",
        forced.err
    );

    speed_up(Path::new(&profile));
    let arguments =
        ["plan", MODEL, "--profile", &profile, "--out", &plan, "--pareto", "--pareto-svg", &curve];
    let shown = with(&arguments, &[&dims, &devices]).with(Exit::Success);
    for text in ["emulated", "copies", "memory of", "GPU memory against time"] {
        shown.prints(text);
    }
    assert!(std::fs::read_to_string(&curve).expect("drawn").contains("<circle"));
    let along = ["run", MODEL, "--plan", &plan, "--trace", &trace, "--json"];
    let along = with(&along, &[&dims, &devices]).with(Exit::Success).document();
    let without = with(&["run", MODEL, "--json"], &[&dims]).with(Exit::Success).document();
    alike(&along["outputs"], &without["outputs"]);
    let compared = with(&["plan", MODEL, "--profile", &profile, "--compare", &trace], &[&dims, &devices]);
    let compared = compared.with(Exit::Success);
    compared.prints("predicted and actual");
    assert!(!compared.out.contains("not in the trace"), "{}", compared.out);
    compared.prints("to emulated");
    assert!(along["gpu"]["weight_bytes"].as_u64() > Some(0), "{along}");
    let rows = |trace: &Json| -> Vec<String> {
        let events = trace["traceEvents"].as_array().expect("events").iter();
        let names = events.filter(|e| e["name"] == "thread_name");
        names.map(|e| e["args"]["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert!(rows(&json(Path::new(&trace))).iter().any(|row| row == "emulated"), "the GPU has its row");

    // The plan is drawn with its copies, and without what it does not use.
    let (gantt, drawn) = (path("g.svg"), path("d.json"));
    let draw = ["plan", MODEL, "--profile", &profile, "--gantt", &gantt, "--trace", &drawn];
    with(&draw, &[&dims, &devices]).with(Exit::Success);
    let copies = json(Path::new(&plan))["device"]["copies"].as_array().expect("copies").len();
    let events = json(Path::new(&drawn));
    let bars = events["traceEvents"].as_array().expect("events").iter();
    assert_eq!(bars.filter(|e| e["cat"] == "transfer").count(), copies);
    let picture = || std::fs::read_to_string(&gantt).expect("drawn");
    assert!(copies > 0 && picture().contains("copy to emulated"));
    with(&draw, &[&dims]).with(Exit::Success);
    let picture = picture();
    assert!(!picture.contains("emulated"), "a plan for the CPU has no row of a GPU");
    assert!(picture.contains(">predicted time ") && picture.contains("step in host"), "{picture}");

    // A trace of something else is refused by its name.
    let compare = |trace: &str| {
        with(&["plan", MODEL, "--profile", &profile, "--compare", trace], &[&dims, &devices])
            .with(Exit::Model)
    };
    let biased = data("biased.onnx");
    run(&["run", &biased, "--trace", &trace]).with(Exit::Success);
    compare(&trace).says("is the trace of another model, `biased.onnx`; this is `addition.onnx`");
    run(&["run", MODEL, "--trace", &trace, "--dim", "time=3,batch=1"]).with(Exit::Success);
    compare(&trace).says("is the trace of a run on question[3, 1]");
    with(&["run", MODEL, "--trace", &trace], &[&dims]).with(Exit::Success);
    compare(&trace).says("is the trace of a run along another plan, or none");
    compare(&drawn).says("is the trace of a plan, which tells what was predicted, not of a run");
}

#[test]
fn what_plans_may_use_is_checked() {
    for (arguments, problem) in [
        (&["plan", MODEL, "--mode", "memory"][..], "--mode memory asks for the least memory of a GPU"),
        (&["plan", MODEL, "--mode", "memory", "--devices", "cpu,emulated"], "needs an objective"),
        (&["plan", MODEL, "--profile", "p.json", "--refresh"], "cannot be used with '--refresh'"),
        (&["plan", MODEL, "--profile", "p.json", "--no-cache"], "cannot be used with '--no-cache'"),
        (&["plan", MODEL, "--profile", "p.json", "--seed", "1"], "cannot be used with '--seed <N>'"),
        (
            &["plan", MODEL, "--profile", "p.json", "--timeout", "5s"],
            "cannot be used with '--timeout <TIME>'",
        ),
        (&["plan", MODEL, "--slo", "5ms"], "--slo goes with --mode memory"),
        (&["plan", MODEL, "--pareto"], "--pareto is for plans that may use a GPU"),
        (&["plan", MODEL, "--devices", "gpu"], "`cpu`, `cpu:0-7`"),
        (&["plan", MODEL, "--devices", "cuda:0"], "without the CPU"),
        (&["plan", MODEL, "--devices", "emulated"], "`cpu,emulated` is possible"),
        (&["plan", MODEL, "--devices", "cpu", "--slo", "five"], "is no unit of time"),
        (&["run", MODEL, "--devices", "cpu,emulated"], "are for plans"),
    ] {
        recurve_in(&root(), arguments).with(Exit::Usage).says(problem);
    }
}

/// Predictions are of warm runs, so that one is traced; where it is not, or is far from what was predicted, it is told.
#[test]
fn a_warm_run_is_traced_and_a_comparison_says_where_it_was_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (profile, plan, trace) = (path("p.json"), path("plan.json"), path("t.json"));
    let biased = data("biased.onnx");
    let run = |arguments: &[&str]| {
        let both = ["--dim", "batch=1,time=3", "--threads", "1"];
        recurve_in(&root(), &[arguments, &both].concat()).with(Exit::Success)
    };
    run(&["profile", &biased, "--no-cache", "--out", &profile]);
    run(&["plan", &biased, "--profile", &profile, "--out", &plan]);
    let traced = |more: &[&str]| {
        let ran = run(&[&["run", &biased, "--trace", &trace, "--json"], more].concat()).document();
        (ran["warmup"].clone(), json(Path::new(&trace))["otherData"]["runs_before"].clone())
    };
    for (more, warmup, before) in [
        (&[][..], 3, 3),
        (&["--runs", "3"], 1, 3),
        (&["--runs", "9"], 0, 8),
        (&["--runs", "2", "--warmup", "5"], 5, 6),
        (&["--mode", "latency", "--no-cache", "--warmup", "0"], 1, 1),
    ] {
        assert_eq!(traced(more), (warmup.into(), before.into()), "{more:?}");
    }
    let compare = || {
        let ended = run(&["plan", &biased, "--profile", &profile, "--compare", &trace, "--json"]);
        (ended.document()["comparison"].clone(), ended.err)
    };
    let (first, far) = ("note: the run that was traced is the first", "note: the run took more than twice");
    assert_eq!(traced(&["--plan", &plan, "--warmup", "0"]), (0.into(), 0.into()));
    let (compared, told) = compare();
    assert!(compared["runs_before"] == 0 && told.contains(first), "{compared} {told}");
    // A trace whose run took so many times what was predicted, and that does not tell what came before it, or does.
    let mut kept = json(Path::new(&trace));
    for (times, before, cold, apart) in [
        (1.5, Json::Null, false, false),
        (2.5, Json::Null, false, true),
        (2.5, 4.into(), false, true),
        (2.5, 0.into(), true, false),
    ] {
        let events = kept["traceEvents"].as_array_mut().expect("events");
        for event in events.iter_mut().filter(|event| event["ph"] == "X") {
            event["ts"] = 0.0.into();
            event["dur"] = (times * compared["predicted_us"].as_f64().expect("a time")).into();
        }
        kept["otherData"]["runs_before"] = before.clone();
        std::fs::write(&trace, kept.to_string()).expect("written");
        let (compared, told) = compare();
        assert_eq!((told.contains(first), told.contains(far)), (cold, apart), "{times} {before}: {told}");
        assert_eq!(compared["runs_before"], before);
    }
}
