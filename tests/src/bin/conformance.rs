//! Runs the ONNX backend suite and compares what is refused with the committed list.

use anyhow::Result;
use clap::Parser;
use recurve::Device;
use recurve_tests::conformance::{
    Case, Change, Index, Judge, Outcome, RefusedList, Report, Verdict, operator_table, remember_panics,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A case that takes longer than this hangs, and ends the process.
const HANG: Duration = Duration::from_mins(5);
/// Cases judged at once.
const WORKERS: usize = 2;

/// Runs every case of the suite; exits with 0 when those refused are the listed ones and no case is wrong but
/// the listed ones.
#[derive(Debug, Parser)]
struct Options {
    /// Folder that `cargo xtask conformance` wrote
    suite: PathBuf,
    /// The committed list of refused cases
    #[arg(long)]
    refused: PathBuf,
    /// Where models run; on a GPU what has no kernel may be refused, and the lists and the page are the CPU's
    #[arg(long, default_value = "cpu", conflicts_with = "update")]
    device: Device,
    /// The committed list of cases known to be wrong, each with the reason
    #[arg(long)]
    wrong: Option<PathBuf>,
    /// The committed page of what is supported; it is compared when the whole suite runs
    #[arg(long)]
    table: Option<PathBuf>,
    /// Write the list and the page for what this run refuses; reasons are kept by operator
    #[arg(long, conflicts_with = "filter")]
    update: bool,
    /// Only cases whose path or operator contains this
    #[arg(long)]
    filter: Option<String>,
    /// Write the report to this file as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Show refused cases and details in full
    #[arg(long)]
    verbose: bool,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let index = Index::read(&options.suite)?;
    let mut cases: Vec<&Case> = index
        .cases
        .iter()
        .filter(|case| {
            // Every access to memory of a network of 224 × 224 is more than the emulator sees in an hour.
            if options.device == Device::Emulated && case.group == "light" {
                return false;
            }
            let filter = options.filter.as_deref().unwrap_or("");
            case.path.contains(filter) || case.operator.as_deref().is_some_and(|o| o.contains(filter))
        })
        .collect();
    // The long ones first, so that the workers end together.
    cases.sort_by_key(|case| (case.group != "light", &case.path));
    let start = Instant::now();
    let mut verdicts = judge_all(&options, &index, &cases)?;
    verdicts.sort_by(|a, b| a.case.path.cmp(&b.case.path));

    let report = Report::new(&index.onnx, &verdicts, options.verbose);
    println!("{report}");
    println!("{:.1} s", start.elapsed().as_secs_f64());
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)? + "\n")?;
    }
    let list = RefusedList::read(&options.refused)?;
    let unlisted = unlisted_wrong(options.wrong.as_deref(), &verdicts)?;
    if options.update {
        let list = list.updated(&verdicts);
        list.write(&options.refused)?;
        if let Some(path) = &options.table {
            std::fs::write(path, operator_table(&report, &list))?;
        }
        return Ok(ExitCode::from(u8::from(unlisted)));
    }
    if options.device != Device::Cpu {
        return Ok(ExitCode::from(u8::from(unlisted)));
    }
    let changes = list.changes(&verdicts);
    for change in &changes {
        match change {
            Change::NoLongerRefused(path) => println!("no longer refused, but listed so: {path}"),
            Change::NewlyRefused(path) => println!("refused, but not listed so: {path}"),
        }
    }
    if !changes.is_empty() {
        println!("{} differs; write it again with --update", options.refused.display());
    }
    let stale = match &options.table {
        Some(path) if options.filter.is_none() => {
            std::fs::read_to_string(path).ok() != Some(operator_table(&report, &list))
        }
        _ => false,
    };
    if let (true, Some(path)) = (stale, &options.table) {
        println!("{} is not current; write it again with --update", path.display());
    }
    Ok(ExitCode::from(u8::from(unlisted || stale || !changes.is_empty())))
}

/// Whether a case is wrong that the list does not have, or the list has one that is not wrong any more.
fn unlisted_wrong(list: Option<&Path>, verdicts: &[Verdict]) -> Result<bool> {
    let known: BTreeMap<String, String> = match list {
        Some(path) => serde_json::from_str(&std::fs::read_to_string(path)?)?,
        None => BTreeMap::new(),
    };
    let mut differs = false;
    for verdict in verdicts {
        let path = &verdict.case.path;
        let wrong = matches!(verdict.outcome, Outcome::Wrong { .. });
        match (wrong, known.get(path)) {
            (true, None) => println!("wrong, but not listed so: {path}"),
            (false, Some(_)) => println!("no longer wrong, but listed so: {path}"),
            _ => continue,
        }
        differs = true;
    }
    Ok(differs)
}

fn judge_all(options: &Options, index: &Index, cases: &[&Case]) -> Result<Vec<Verdict>> {
    remember_panics();
    let verdicts = Mutex::new(Vec::with_capacity(cases.len()));
    let next = AtomicUsize::new(0);
    let running: Mutex<Vec<Option<(&str, Instant)>>> = Mutex::new(vec![None; WORKERS]);
    let judges: Vec<Judge> = (0..WORKERS)
        .map(|_| Judge::new(options.suite.clone(), index.bfloat16_rtol, options.device))
        .collect::<Result<_, _>>()?;
    std::thread::scope(|scope| {
        let workers: Vec<_> = judges
            .iter()
            .enumerate()
            .map(|(worker, judge)| {
                let (verdicts, next, running) = (&verdicts, &next, &running);
                let set = move |state| {
                    if let Ok(mut running) = running.lock() {
                        running[worker] = state;
                    }
                };
                scope.spawn(move || {
                    while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                        set(Some((&case.path, Instant::now())));
                        let verdict = judge.judge(case);
                        set(None);
                        if let Ok(mut verdicts) = verdicts.lock() {
                            verdicts.push(verdict);
                        }
                    }
                })
            })
            .collect();
        while !workers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            std::thread::sleep(Duration::from_millis(20));
            let Ok(running) = running.lock() else { continue };
            let hung = running.iter().flatten().find(|(_, since)| since.elapsed() > HANG);
            if let Some((path, _)) = hung {
                eprintln!("{path} hangs: neither answer nor error after {} s", HANG.as_secs());
                std::process::exit(2);
            }
        }
    });
    Ok(verdicts.into_inner().unwrap_or_default())
}
