//! What is said of where plans run: refused where it would have no effect, and by the name of the option.

use crate::plan::{MODEL, json, root};
use crate::{data, recurve, recurve_in, recurve_with_cache, scratch, text};
use recurve_cli::Exit;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

#[test]
fn what_is_for_a_gpu_is_refused_without_one() {
    let synthetic = "runtime/profiles/h100-synthetic.json";
    let memory = ["--mode", "memory", "--slo", "5ms"];
    for command in ["plan", "run"] {
        let ended = recurve_in(&root(), &[&[command, MODEL][..], &memory].concat()).with(Exit::Usage);
        ended.says("--mode memory asks for the least memory of a GPU, and plans use cpu alone");
    }
    for (command, option, name) in [
        ("plan", &["--gpu-memory-limit", "1MiB"][..], "--gpu-memory-limit"),
        ("plan", &["--device-profile", synthetic], "--device-profile"),
        ("run", &["--gpu-memory-limit", "1MiB", "--mode", "latency"], "--gpu-memory-limit"),
    ] {
        for devices in [&[][..], &["--devices", "cpu"]] {
            let ended = recurve_in(&root(), &[&[command, MODEL][..], option, devices].concat());
            ended.with(Exit::Usage).says(&format!("{name} is for plans that may use a GPU"));
        }
    }
    let other = ["plan", MODEL, "--devices", "cpu,emulated", "--device-profile", synthetic];
    recurve_in(&root(), &other).with(Exit::Model).says("is of cuda:0, not of emulated");
}

#[test]
fn a_placement_that_cannot_be_kept_says_why() {
    let place =
        |model: &str, more: &[&str]| recurve_in(&root(), &[&["plan", model, "--no-cache"], more].concat());
    let looped = data("looped.onnx");
    let device = ["--devices", "cpu,emulated", "--place", "*=cuda:0"];
    let ended = place(&looped, &device).with(Exit::Usage);
    ended.says("--place '*=cuda:0': plans use cpu and emulated");
    ended.says("hint: --devices says what plans use");
    place(&looped, &["--place", "*=emulated"]).with(Exit::Usage).says("plans use cpu alone");
    let unknown = place(&looped, &["--place", "*=gpu"]).with(Exit::Usage);
    unknown.says("`gpu` is no device: `cpu`, `cuda:0` and `emulated` are");
    place(&looped, &["--place", "cpu"])
        .with(Exit::Usage)
        .says("a pattern of names, `=` and a device are needed");
    let inside = place(&looped, &["--place", "clamp*=cpu"]).with(Exit::Usage);
    inside.says("`clamps` is in a graph that `turns` runs, all of which runs in one place: name `turns`");
    place(&looped, &["--place", "turns=cpu"]).with(Exit::Success);
    let nothing = place(&looped, &["--place", "nothing*=cpu"]).with(Exit::Usage);
    nothing.says("no node that runs has such a name");
    nothing.says("hint: `recurve inspect MODEL` lists the names of nodes");
}

#[test]
fn a_profile_of_a_gpu_alone_is_told_where_the_threads_are_meant() {
    let synthetic = "runtime/profiles/h100-synthetic.json";
    for devices in [&[][..], &["--devices", "cpu,cuda:0"]] {
        let ended = recurve_in(&root(), &[&["plan", MODEL, "--profile", synthetic][..], devices].concat());
        let ended = ended.with(Exit::Model);
        ended.says("is of cuda:0 alone: it does not tell what operators take on the CPU");
        ended.says("hint: `recurve profile MODEL --out F.json` writes what --profile reads");
        ended.says("--device-profile");
    }
}

#[test]
fn a_plan_that_leaves_the_gpu_alone_says_that_it_takes_no_memory() {
    let plan = ["plan", MODEL, "--dim", "time=6,batch=1", "--threads", "2", "--no-cache"];
    let synthetic = ["--devices", "cpu,cuda:0", "--device-profile", "runtime/profiles/h100-synthetic.json"];
    let memory = ["--mode", "memory", "--slo", "60s"];
    let ended = recurve_in(&root(), &[&plan[..], &synthetic, &memory].concat()).with(Exit::Success);
    assert!(
        ended.out.lines().any(|l| l.contains("memory of cuda:0") && l.ends_with("0 B: nothing runs there")),
        "{}",
        ended.out
    );
}

/// Times that are next to nothing, for everything that a profile has of the CPU.
fn hurry(profile: &Path) {
    let mut document = json(profile);
    for cost in document["operators"].as_object_mut().expect("operators").values_mut() {
        for (lane, time) in cost["lanes"].as_object_mut().expect("lanes") {
            if lane.starts_with("cpu:") {
                for name in ["median_us", "min_us", "p90_us"] {
                    time[name] = 1e-4.into();
                }
            }
        }
    }
    std::fs::write(profile, document.to_string()).expect("written");
}

#[test]
fn an_objective_that_no_plan_meets_when_it_is_tried_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let biased = data("biased.onnx");
    let both = ["--devices", "cpu,emulated", "--dim", "batch=1,time=3", "--threads", "2"];
    let run =
        |arguments: &[&str]| recurve_with_cache(folder.path(), &root(), &[arguments, &both[..]].concat());
    run(&["profile", &biased]).with(Exit::Success);
    hurry(&kept_profile(folder.path()));
    let memory = |slo| run(&["run", &biased, "--mode", "memory", "--slo", slo, "--json"]).with(Exit::Success);
    // What is predicted takes less than a nanosecond, and no run does.
    let late = memory("0.01us").document();
    let told = late["plan"].as_str().expect("what became of the plan");
    assert!(told.starts_with("followed") && told.contains("; it misses the objective: it took "), "{told}");
    let met = memory("60s").document();
    assert!(!met["plan"].as_str().expect("a plan").contains("misses"), "{met}");
}

#[test]
fn plans_end_where_their_gpu_is_not_here_or_do_without_it_where_that_is_allowed() {
    let (model, there) = (data("biased.onnx"), ["--devices", "cpu,cuda:99", "--threads", "2", "--no-cache"]);
    let run = |more: &[&str]| recurve(&[&["run", &model, "--mode", "latency"][..], &there, more].concat());
    run(&[]).with(Exit::Device).says("cuda:99 cannot be used");
    run(&["--fallback", "cpu"]).with(Exit::Success).prints("without cuda:99, which failed: there is no ");
    recurve(&[&["plan", &model][..], &there].concat()).with(Exit::Device).says("cuda:99 cannot be used");
}

#[test]
fn more_threads_than_cores_are_noted() {
    let cores = std::thread::available_parallelism().expect("known").get();
    let run = |threads: usize| recurve(&["run", &data("biased.onnx"), "--threads", &threads.to_string()]);
    run(cores + 1).with(Exit::Success).says(&format!("note: {} threads share {cores} core", cores + 1));
    assert!(!run(cores).with(Exit::Success).err.contains("threads share"));
}

#[test]
fn cores_that_are_not_there_are_told() {
    let cores = std::thread::available_parallelism().expect("known").get();
    let ended = recurve(&["plan", &data("biased.onnx"), "--devices", "cpu:0-999"]).with(Exit::Usage);
    ended.says("names 1000 cores");
    let there = if cores == 1 { "`cpu:0`".to_owned() } else { format!("`cpu:0-{}`", cores - 1) };
    ended.says(&there);
}

#[test]
fn a_model_that_cannot_be_planned_says_so() {
    let ended = recurve(&["run", &data("biased.onnx"), "--mode", "latency", "--no-cache", "--threads", "1"]);
    ended.with(Exit::Success).prints("one thread without a GPU leaves nothing to place");
}

#[test]
fn every_help_has_the_exit_codes() {
    for command in [&["--help"][..], &["run", "--help"], &["plan", "--help"], &["schedule", "--help"]] {
        let help = recurve(command).with(Exit::Success).out;
        let (_, codes) = help.split_once("Exit codes:").expect("the codes");
        // In the words of the README.
        let readme = std::fs::read_to_string(root().join("README.md")).expect("the page");
        let (_, told) = readme.split_once("Exit codes: ").expect("the codes");
        let (told, _) = told.split_once("\n\n").expect("a paragraph");
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let told = words(told).replace(['(', ')'], "");
        for line in codes.lines().filter(|line| !line.trim().is_empty()) {
            let code = words(line).replace(": ", " ");
            assert!(told.replace(": ", " ").contains(&code), "`{code}` is not in `{told}`");
        }
    }
}

#[test]
fn what_a_profile_lacks_is_told() {
    let (_folder, file) = scratch("p.json");
    let (model, file) = (data("biased.onnx"), text(&file));
    recurve(&["profile", &model, "--no-cache", "--threads", "2", "--out", &file]).with(Exit::Success);
    let plan = |more: &[&str]| recurve(&[&["plan", &model, "--profile", &file][..], more].concat());
    let known = plan(&["--threads", "2"]).with(Exit::Success);
    assert!(!known.err.contains("note: the profile"), "{}", known.err);
    let more = plan(&["--threads", "3"]).with(Exit::Success);
    more.says("note: the profile has times of 1 and 2 threads and none of 3");
    let there = plan(&["--threads", "2", "--devices", "cpu,emulated"]).with(Exit::Infeasible);
    there.says("hint: `recurve profile MODEL --devices cpu,emulated --out F.json` measures it");

    let mut document = json(Path::new(&file));
    document["machine"]["processor"] = "Another".into();
    std::fs::write(&file, document.to_string()).expect("written");
    let other = plan(&["--threads", "2"]).with(Exit::Success);
    other.says("note: the profile was measured on another machine: Another");
    other.prints("measured on another machine: Another");
    assert!(!other.out.contains("`measured` here"), "{}", other.out);
}

#[test]
fn a_limit_that_nothing_fits_in_is_told_with_what_is_needed() {
    let both =
        ["--devices", "cpu,emulated", "--place", "*=emulated", "--dim", "batch=1,time=3", "--no-cache"];
    let limited = ["plan", &data("biased.onnx"), "--gpu-memory-limit", "1"];
    let ended = recurve(&[&limited[..], &both].concat()).with(Exit::Infeasible);
    ended.says("no plan was found that keeps within 1 B of the memory of emulated: the least takes ");
    ended.says("hint: raise --gpu-memory-limit");
}

/// A process that profiles the model for sequences of `time` steps, and keeps what it measures in `cache`.
fn profiling(cache: &Path, time: usize) -> Child {
    Command::new(env!("CARGO_BIN_EXE_recurve"))
        .current_dir(root())
        .args(["profile", MODEL, "--threads", "1", "--quiet", "--dim", &format!("time={time},batch=1")])
        .env("XDG_CACHE_HOME", cache)
        .stdout(Stdio::null())
        .spawn()
        .expect("the command starts")
}

/// The profile in a user's cache, in which nothing else is.
pub(crate) fn kept_profile(cache: &Path) -> PathBuf {
    let files = std::fs::read_dir(cache.join("recurve")).expect("kept");
    let files = files.map(|entry| entry.expect("listed").path());
    let profiles: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    let [profile] = &profiles[..] else { panic!("{profiles:?}") };
    profile.clone()
}

#[test]
fn processes_that_profile_at_once_keep_what_each_measured() {
    let folder = tempfile::tempdir().expect("a folder");
    let times = [2, 3, 4, 5];
    let all: Vec<Child> = times.iter().map(|&time| profiling(folder.path(), time)).collect();
    for mut child in all {
        assert!(child.wait().expect("it ends").success());
    }
    let known = json(&kept_profile(folder.path()));
    let signatures: Vec<&String> = known["operators"].as_object().expect("operators").keys().collect();
    for time in times {
        let of = format!("[{time},1,");
        assert!(signatures.iter().any(|signature| signature.contains(&of)), "{time}: {signatures:?}");
    }
}
