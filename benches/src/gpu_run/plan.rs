//! The sections, their order and their times, and what is written of them.

use super::child::{self, End};
use super::sanitizer::{self, Verdict};
use super::table;
use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// What is run, where, and for how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The folder of the binaries and of `peers.py`.
    pub bundle: PathBuf,
    /// Where `gpu.json`, `gpu.md` and `gpu.log` go.
    pub out: PathBuf,
    /// `cuda:0` and so on, or `emulated`.
    pub device: String,
    /// Time for everything.
    pub limit: Duration,
    /// Of everything a little: what the emulator can do in seconds.
    pub small: bool,
    /// The seed of everything that is drawn.
    pub seed: u64,
}

/// One section: what it is, its program and arguments, and the most of its time.
struct Step {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
    most: Duration,
}

/// What came of the sections so far.
struct Run<'a> {
    plan: &'a Plan,
    start: Instant,
    log: File,
    sections: Map<String, Value>,
}

/// Runs everything and writes it down; whether every section passed.
pub fn run(plan: &Plan) -> Result<bool> {
    std::fs::create_dir_all(&plan.out)?;
    let log = plan.out.join("gpu.log");
    let log = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut run = Run { plan, start: Instant::now(), log, sections: Map::new() };
    // What would cost most to lose comes first; operators take what time is left.
    let [modules, kernels, constants, benches, models, operators] = plan.steps();
    run.resumed(&modules)?;
    run.resumed(&kernels)?;
    run.section(&constants)?;
    run.section(&benches)?;
    run.pytorch()?;
    run.section(&models)?;
    run.sanitizers()?;
    run.section(&operators)?;
    let _ = std::fs::remove_dir_all(run.cache());
    let seconds = run.start.elapsed().as_secs_f64();
    let passed =
        run.sections.values().all(|section| section["end"] != "failed" && section["end"] != "timed_out");
    let record = json!({
        "device": plan.device, "seed": plan.seed, "seconds": seconds, "passed": passed, "sections": run.sections,
    });
    std::fs::write(plan.out.join("gpu.json"), serde_json::to_string_pretty(&record)? + "\n")?;
    std::fs::write(plan.out.join("gpu.md"), table::render(&record))?;
    Ok(passed)
}

impl Plan {
    /// The most of a section's time; of a small run a tenth of the whole.
    fn most(&self, seconds: u64) -> Duration {
        if self.small { self.limit / 10 } else { Duration::from_secs(seconds) }
    }

    fn steps(&self) -> [Step; 6] {
        let common = |rest: &[&str]| {
            let seed = self.seed.to_string();
            let mut all = vec!["--device".to_owned(), self.device.clone(), "--seed".to_owned(), seed];
            all.extend(rest.iter().map(|&word| word.to_owned()));
            all
        };
        let suites = |name, rest: &[&str], most| Step {
            name,
            program: self.bundle.join("gpu-suites"),
            arguments: common(rest),
            most: self.most(most),
        };
        let measured = |name: &'static str, most| Step {
            name,
            program: self.bundle.join("gpu-benches"),
            arguments: vec![name.to_owned(), "--device".to_owned(), self.device.clone()],
            most: self.most(most),
        };
        let kernels: &[&str] = if self.small { &["kernels", "--cases", "1"] } else { &["kernels"] };
        let operators: &[&str] = if self.small {
            &["operators", "--cases", "1", "--operators", "Add,Softmax"]
        } else {
            &["operators", "--seconds", "60"]
        };
        [
            suites("modules", &["modules"], 150),
            suites("kernels", kernels, 120),
            measured("constants", 60),
            measured("benches", 90),
            suites("models", &["models"], 60),
            suites("operators", operators, 90),
        ]
    }
}

impl Run<'_> {
    fn left(&self) -> Duration {
        self.plan.limit.saturating_sub(self.start.elapsed())
    }

    /// Where the driver keeps what it made of the modules, for the processes that follow.
    fn cache(&self) -> PathBuf {
        self.plan.out.join("cache")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.plan.out.join(format!("section-{name}"))
    }

    /// Runs a program and gives how it ended, what it printed, and the JSON that it wrote.
    fn process(
        &mut self,
        program: &Path,
        arguments: &[String],
        json: bool,
        most: Duration,
    ) -> Result<(End, String, Value)> {
        let (output, record) = (self.file("output"), self.file("record"));
        let _ = std::fs::remove_file(&record);
        let limit = most.min(self.left());
        if limit.is_zero() {
            return Ok((End::NotRun, "the time was over".to_owned(), Value::Null));
        }
        let mut command = Command::new(program);
        command.args(arguments).env("CUDA_CACHE_PATH", self.cache()).env("CUDA_CACHE_MAXSIZE", "1073741824");
        if json {
            command.arg("--json").arg(&record);
        }
        let (end, printed) = child::run(&mut command, limit, &output, &mut self.log)?;
        let read = std::fs::read_to_string(&record).ok().and_then(|text| serde_json::from_str(&text).ok());
        for file in [output, record] {
            let _ = std::fs::remove_file(file);
        }
        Ok((end, printed, read.unwrap_or(Value::Null)))
    }

    fn note(&mut self, name: &str, end: &End, printed: &str, record: &Value) {
        let mut section = json!({ "end": end, "record": record });
        if *end != End::Passed {
            let last: Vec<&str> = printed.lines().rev().take(6).collect();
            section["said"] = last.into_iter().rev().collect();
        }
        self.sections.insert(name.to_owned(), section);
    }

    fn section(&mut self, step: &Step) -> Result<()> {
        let (end, printed, record) = self.process(&step.program, &step.arguments, true, step.most)?;
        self.note(step.name, &end, &printed, &record);
        Ok(())
    }

    /// A kernel that faults takes the context with it: the suites or modules behind it get a new process.
    fn resumed(&mut self, step: &Step) -> Result<()> {
        let mut arguments = step.arguments.clone();
        let mut all: Option<Value> = None;
        let mut worst = End::Passed;
        let mut said = String::new();
        loop {
            let (end, printed, mut record) = self.process(&step.program, &arguments, true, step.most)?;
            if end != End::Passed {
                (worst, said) = (end, printed);
            }
            let suites = record["suites"].as_array_mut().map(std::mem::take).unwrap_or_default();
            let last = suites.last().and_then(|suite| suite["suite"].as_str()).map(str::to_owned);
            let lost = !record["ended"].is_null();
            match all.as_mut().and_then(|all| all["suites"].as_array_mut()) {
                Some(before) => before.extend(suites),
                None => {
                    record["suites"] = Value::Array(suites);
                    all = Some(record);
                }
            }
            let (true, Some(last)) = (lost, last) else { break };
            arguments.clone_from(&step.arguments);
            arguments.extend(["--after".to_owned(), last]);
        }
        self.note(step.name, &worst, &said, &all.unwrap_or(Value::Null));
        Ok(())
    }

    /// Small cases under `compute-sanitizer`.
    fn sanitizers(&mut self) -> Result<()> {
        for tool in ["memcheck", "racecheck"] {
            let Some(program) = sanitizer::find().filter(|_| !self.plan.small) else {
                self.note(tool, &End::NotRun, "compute-sanitizer is not here", &Value::Null);
                continue;
            };
            let suites = self.plan.bundle.join("gpu-suites");
            let mut arguments: Vec<String> = vec!["--tool".into(), tool.into()];
            arguments.push(suites.to_string_lossy().into_owned());
            arguments.extend(["--device".to_owned(), self.plan.device.clone()]);
            arguments.extend(["--seed", "1", "kernels", "--cases", "2"].map(str::to_owned));
            let (end, printed, _) = self.process(&program, &arguments, false, Duration::from_mins(1))?;
            let (end, record) = match sanitizer::verdict(&printed) {
                Verdict::Errors(0) if end == End::Passed => (End::Passed, json!({ "errors": 0 })),
                Verdict::Errors(count) => (End::Failed, json!({ "errors": count })),
                Verdict::Nothing => (End::NotRun, json!({ "reason": "it does not work here" })),
            };
            self.note(tool, &end, &printed, &record);
        }
        Ok(())
    }

    /// The same measurements by PyTorch, where `python3` has it.
    fn pytorch(&mut self) -> Result<()> {
        let script = self.plan.bundle.join("peers.py").to_string_lossy().into_owned();
        let has = "import torch, sys; sys.exit(0 if torch.cuda.is_available() else 1)";
        let ask = ["-c".to_owned(), has.to_owned()];
        let python = Path::new("python3");
        let asked = if self.plan.small {
            End::NotRun
        } else {
            self.process(python, &ask, false, Duration::from_secs(40))?.0
        };
        if asked != End::Passed {
            self.note("pytorch", &End::NotRun, "python3 has no PyTorch with a GPU", &Value::Null);
            return Ok(());
        }
        let out = self.file("pytorch");
        let arguments = [script, out.to_string_lossy().into_owned()];
        let (end, printed, _) = self.process(python, &arguments, false, Duration::from_secs(90))?;
        let text = std::fs::read_to_string(&out).ok();
        let record = text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(Value::Null);
        let _ = std::fs::remove_file(out);
        // Another engine's failure is none of ours.
        let end = if end == End::Passed { End::Passed } else { End::NotRun };
        self.note("pytorch", &end, &printed, &record);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// Suites of which the second faults, models that print and fail, and operators that never end.
    const SUITES: &str = r#"#!/bin/sh
for word; do last=$word; done
suite() { echo "{\"suite\": \"$1\", \"passed\": 2, \"refused\": 0, \"failed\": $2, \"failures\": []}"; }
case "$*" in
*modules*) echo "{\"name\": \"fake\", \"suites\": [$(suite host 0)], \"ended\": null}" > "$last" ;;
*--after*) echo "{\"suites\": [$(suite c 0)], \"ended\": null}" > "$last" ;;
*kernels*) echo "{\"suites\": [$(suite a 0), $(suite b 1)], \"ended\": \"lost\"}" > "$last"; exit 1 ;;
*models*) echo "no device today"; exit 1 ;;
*operators*) exec sleep 60 ;;
esac
"#;
    const BENCHES: &str = r#"#!/bin/sh
for word; do last=$word; done
echo '{"measures": [{"name": "launch", "value": 2.5, "unit": "us"}]}' > "$last"
"#;

    #[test]
    fn each_section_survives_the_others_and_says_how_it_ended() {
        let _alone = child::ALONE.lock();
        let folder = tempfile::tempdir().expect("a folder");
        for (name, script) in [("gpu-suites", SUITES), ("gpu-benches", BENCHES)] {
            let path = folder.path().join(name);
            std::fs::write(&path, script).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("allowed");
        }
        let plan = Plan {
            bundle: folder.path().to_owned(),
            out: folder.path().join("out"),
            device: "emulated".to_owned(),
            limit: Duration::from_secs(20),
            small: true,
            seed: 5,
        };
        assert!(!run(&plan).expect("written"));
        let read = |name: &str| std::fs::read_to_string(plan.out.join(name)).expect("there");
        let record: Value = serde_json::from_str(&read("gpu.json")).expect("JSON");
        let end = |name: &str| record["sections"][name]["end"].as_str().unwrap_or("?").to_owned();
        assert_eq!(record["passed"], false);
        let ends = ["modules", "kernels", "constants", "models", "operators", "memcheck", "pytorch"].map(end);
        assert_eq!(ends, ["passed", "failed", "passed", "failed", "timed_out", "not_run", "not_run"]);
        let suites = record["sections"]["kernels"]["record"]["suites"].as_array().expect("suites");
        let names: Vec<&str> = suites.iter().filter_map(|suite| suite["suite"].as_str()).collect();
        assert_eq!(names, ["a", "b", "c"], "those behind the fault ran, too");
        assert_eq!(record["sections"]["models"]["said"], json!(["no device today"]));
        let page = read("gpu.md");
        assert!(page.contains("| kernels | failed | 6 | 0 | 1 |"), "{page}");
        assert!(
            page.contains("| launch | 2.500 | us |") && page.contains("- models: no device today"),
            "{page}"
        );
        assert!(read("gpu.log").contains("no device today\n-- Failed"));
        let left: Vec<_> = plan.out.read_dir().expect("a folder").collect();
        assert_eq!(left.len(), 3, "{left:?}");
    }
}
