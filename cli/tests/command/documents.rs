//! docs/json.md has every field of every document that `--json` prints, and no other.

use crate::placement::kept_profile;
use crate::plan::{MODEL, json, root, speed_up};
use crate::{data, recurve_in, recurve_with_cache};
use recurve_cli::Exit;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Told, but of models or machines that are not among the tests' own.
const RARE: &[&str] = &[
    "precision.weights[].kept",
    "precision.deviations",
    "precision.deviations[].output",
    "precision.deviations[].max_relative",
    "precision.deviations[].max_absolute",
    "fused[].left_out[].node",
    "fused[].left_out[].reason",
    "profile.links[].to",
    "plan.device.streams",
    "plan.device.lean",
    "plan.device.brought",
    "plan.device.brought[].step",
    "plan.device.brought[].bytes",
    "plan.device.brought[].apart",
    "plan.device.brought[].behind",
    "plan.device.brought[].beside",
];

/// The fields of each section, by its title; those that link to another section have its fields, too.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let text = std::fs::read_to_string(root().join("docs/json.md")).expect("the page");
    let mut rows: BTreeMap<&str, Vec<(Vec<&str>, &str)>> = BTreeMap::new();
    let mut title = "";
    for line in text.lines() {
        if let Some(of) = line.strip_prefix("## ") {
            title = of;
        }
        let Some((fields, what)) = line.strip_prefix("| `").and_then(|row| row.split_once("` | ")) else {
            continue;
        };
        rows.entry(title).or_default().push((fields.split("`, `").collect(), what));
    }
    let anchor = |title: &str| format!("(#{})", title.to_lowercase().replace(' ', "-"));
    fn expand(
        rows: &BTreeMap<&str, Vec<(Vec<&str>, &str)>>,
        title: &str,
        anchor: &dyn Fn(&str) -> String,
    ) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for (fields, what) in &rows[title] {
            let linked = rows.keys().find(|other| what.contains(&anchor(other)));
            for field in fields {
                all.insert((*field).to_owned());
                for inner in linked.map(|other| expand(rows, other, anchor)).unwrap_or_default() {
                    let list = if what.contains("list") { "[]" } else { "" };
                    all.insert(format!("{field}{list}.{inner}"));
                }
            }
        }
        all
    }
    let commands = rows.keys().filter(|title| title.starts_with("recurve "));
    commands.map(|title| ((*title).to_owned(), expand(&rows, title, &anchor))).collect()
}

/// What a section of the page gives as the version of what it describes.
fn told_version(title: &str) -> u64 {
    let text = std::fs::read_to_string(root().join("docs/json.md")).expect("the page");
    let (_, section) = text.split_once(&format!("\n## {title}\n")).expect("the section");
    let (_, row) = section.split_once("| `version` | ").expect("its version");
    let (version, _) = row.split_once(' ').expect("the row ends");
    version.parse().expect("a number")
}

/// Adds the fields of `value`; a name that the page has as `*` is told so.
fn collect(at: &str, value: &Json, known: &BTreeSet<String>, seen: &mut BTreeSet<String>) {
    match value {
        Json::Object(fields) => {
            for (name, value) in fields {
                let path = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
                let path = if known.contains(&path("*")) { path("*") } else { path(name) };
                seen.insert(path.clone());
                // What is for `recurve run --plan` alone has no fields of its own on the page.
                if !["phases", "space", "rates"].contains(&name.as_str()) {
                    collect(&path, value, known, seen);
                }
            }
        }
        Json::Array(items) => {
            items.iter().for_each(|item| collect(&format!("{at}[]"), item, known, seen));
        }
        _ => {}
    }
}

/// Measures a model of several steps on a GPU that is said to take long to launch, so that all of them are short there and are
/// timed together: the document of that, and one of a plan that takes their time.
fn timed_together(folder: &Path) -> [Json; 2] {
    let devices = ["--devices", "cpu,emulated", "--dim", "time=2,batch=1", "--threads", "2"];
    let run = |arguments: &[&str]| {
        recurve_with_cache(folder, &root(), &[arguments, &devices[..]].concat()).with(Exit::Success)
    };
    run(&["profile", MODEL]);
    let kept = kept_profile(folder);
    let mut known = json(&kept);
    known.as_object_mut().expect("a profile").remove("segments");
    let launch = &mut known["devices"]["emulated"]["kernel"];
    for name in ["median_us", "min_us", "p90_us"] {
        launch[name] = 1e9.into();
    }
    std::fs::write(&kept, known.to_string()).expect("written");
    let out = folder.join("together.json").display().to_string();
    let profile = run(&["profile", MODEL, "--out", &out, "--json"]).document();
    speed_up(Path::new(&out));
    let plan = ["plan", MODEL, "--profile", &out, "--place", "*=emulated"];
    run(&plan).prints("emulated in a run of ");
    [profile, run(&[&plan[..], &["--json"]].concat()).document()]
}

#[test]
fn the_page_has_every_field_of_every_document() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (profile, plan, trace, kept) = (path("p.json"), path("plan.json"), path("t.json"), path("b.json"));
    let run = |arguments: &[&str]| recurve_in(&root(), arguments);
    let (biased, x) = (data("biased.onnx"), data("biased_x.npz"));
    let t02 = "scheduler/tests/data/t02.json";
    let both = ["--devices", "cpu,emulated", "--dim", "batch=1,time=3", "--threads", "2"];

    run(&[&["profile", &biased, "--no-cache", "--out", &profile][..], &both].concat()).with(Exit::Success);
    speed_up(Path::new(&profile));
    let planned = ["plan", &biased, "--profile", &profile];
    run(&[&planned[..], &["--out", &plan], &both].concat()).with(Exit::Success);
    run(&[&["run", &biased, "--plan", &plan, "--trace", &trace][..], &both].concat()).with(Exit::Success);
    let short = ["bench", &biased, "--seconds", "0.02"];
    run(&[&short[..], &["--out", &kept]].concat()).with(Exit::Success);

    for (title, file) in [("Profile", &profile), ("Plan", &plan)] {
        assert_eq!(json(Path::new(file))["version"], told_version(title), "{title}");
    }

    let compared = [&planned[..], &["--pareto", "--compare", &trace], &both].concat();
    let measured = [&["profile", &biased, "--no-cache"][..], &both].concat();
    let against = [&short[..], &["--baseline", &kept, "--assert", "1000000%"]].concat();
    let check = ["check", &biased, "--inputs", &x, "--expect"];
    let (wrong, shorter) = (data("biased_wrong.npz"), path("y.npz"));
    run(&["run", &biased, "--outputs", &shorter]).with(Exit::Success);
    let (running, looped, found) = (data("running.onnx"), data("looped.onnx"), data("found.onnx"));
    let waves = data("waves.onnx");
    let documents: Vec<Vec<&str>> = vec![
        vec!["run", &waves, "--device", "emulated", "--fallback", "cpu"],
        vec!["run", &running, "--device", "emulated", "--fallback", "cpu", "--profile-nodes"],
        vec!["run", MODEL, "--precision", "f16"],
        vec!["run", &biased, "--mode", "latency", "--no-cache"],
        [&check[..], &[&wrong]].concat(),
        [&check[..], &[&shorter]].concat(),
        vec!["check", &biased, "--dim", "batch=2,time=2", "--expect", &wrong],
        against,
        vec!["inspect", &looped, "--fused"],
        vec!["inspect", MODEL, "--precision", "f16"],
        vec!["ops"],
        vec!["env"],
        vec!["devices"],
        measured,
        vec!["profile", &found, "--no-cache"],
        compared,
        vec!["schedule", t02, "--algorithm", "heft"],
        vec!["schedule", t02, "--mode", "memory", "--memory", "p1", "--slo-us", "99"],
    ];
    let documented = documented();
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for arguments in documents {
        let ended = run(&[&arguments[..], &["--json"]].concat());
        let section = format!("recurve {}", arguments[0]);
        assert_eq!(ended.document()["version"], told_version(&section), "{section}");
        let known = documented.get(&section).unwrap_or_else(|| panic!("{section} is not on the page"));
        collect("", &ended.document(), known, seen.entry(section).or_default());
    }
    for (section, document) in
        ["recurve profile", "recurve plan"].into_iter().zip(timed_together(folder.path()))
    {
        let seen = seen.entry(section.to_owned()).or_default();
        collect("", &document, &documented[section], seen);
    }
    assert_eq!(seen.keys().collect::<Vec<_>>(), documented.keys().collect::<Vec<_>>());
    for (section, known) in &documented {
        let seen = &seen[section];
        let untold: Vec<&String> = seen.difference(known).collect();
        assert!(untold.is_empty(), "{section}: fields that the page does not have: {untold:?}");
        let rare = |field: &&String| !RARE.contains(&field.as_str());
        let gone: Vec<&String> = known.difference(seen).filter(rare).collect();
        assert!(gone.is_empty(), "{section}: fields that no document has: {gone:?}");
    }
    let all = run(&["schedule", t02, "--algorithm", "all", "--evaluations", "200", "--json"]).document();
    let mut fields = BTreeSet::new();
    collect("", &all["answers"][0], &documented["recurve schedule"], &mut fields);
    assert!(fields.is_subset(&documented["recurve schedule"]), "{fields:?}");
}
