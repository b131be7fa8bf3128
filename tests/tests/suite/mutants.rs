//! Mutants of ten small models, and the files that once went wrong: each is loaded and run, and must end in an
//! answer or a typed error, in time and within its memory.
//!
//! `RECURVE_MUTANTS` sets how many mutants there are and `RECURVE_MUTANT_SEED` the first seed. A mutant that
//! fails is written to the test's folder under the target directory, with its seed as its name.

use crate::allocations::peak_of;
use crate::outcome::{LIMIT, SLACK, chain, limited};
use recurve::{Error, ErrorKind, RunOptions, Tensor};
use recurve_tests::drawn_inputs::small_inputs;
use recurve_tests::mutation::Mutator;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const MUTANTS: u64 = 20_000;
const THREADS: usize = 2;
const DEADLINE: Duration = Duration::from_millis(200);
/// Time from the start of loading to the end of the run, of which the deadline bounds the second part. It
/// leaves room for a machine with other work.
const HANG: Duration = Duration::from_secs(5);
/// Failures after which the rest is not tried.
const ENOUGH: usize = 20;

fn data(folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data").join(folder);
    let Ok(entries) = folder.read_dir() else { return Vec::new() };
    let mut files: Vec<(String, Vec<u8>)> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "onnx"))
        .map(|path| (name_of(&path), std::fs::read(&path).expect("a file")))
        .collect();
    files.sort();
    files
}

fn name_of(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

/// What came of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Refused,
    LoadedOnly,
    Failed,
    Ran,
}

/// Loads and runs `bytes`; `Err` says what a mutant must not do.
fn load_and_run(bytes: &[u8], seed: u64) -> Result<End, String> {
    let start = Instant::now();
    let (end, peak) = peak_of(|| catch_unwind(AssertUnwindSafe(|| end_of(bytes.to_vec(), seed))));
    let end = end.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        format!(
            "panics: {}",
            text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).into())).unwrap_or_default()
        )
    })??;
    if start.elapsed() > HANG {
        return Err(format!("takes {:?}", start.elapsed()));
    }
    if peak > LIMIT + SLACK + bytes.len() {
        return Err(format!("holds {peak} bytes"));
    }
    Ok(end)
}

fn end_of(bytes: Vec<u8>, seed: u64) -> Result<End, String> {
    let acceptable = |error: &Error| match error.kind() {
        ErrorKind::Internal => Err(chain(error)),
        _ => Ok(()),
    };
    let session = match limited().load_bytes(bytes) {
        Ok(session) => session,
        Err(error) => return acceptable(&error).map(|()| End::Refused),
    };
    let Some(inputs) = small_inputs(&session, seed) else { return Ok(End::LoadedOnly) };
    let named: Vec<(&str, &Tensor)> = session.inputs().iter().map(|spec| &*spec.name).zip(&inputs).collect();
    // Twice: the second run finds what the first left behind.
    for _ in 0..2 {
        let options = RunOptions::default().with_timeout(DEADLINE);
        match session.run_with(named.iter().copied(), &options) {
            Ok(_) => {}
            Err(error) => return acceptable(&error).map(|()| End::Failed),
        }
    }
    Ok(End::Ran)
}

#[test]
fn the_models_themselves_run() {
    let models = data("models");
    assert_eq!(models.len(), 10);
    for (name, bytes) in models {
        limited().load_bytes(bytes.clone()).unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
        for seed in 0..10 {
            let end = load_and_run(&bytes, seed);
            assert!(matches!(end, Ok(End::Ran | End::Failed)), "{name}: {end:?}");
        }
        let session = limited().load_bytes(bytes).unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
        let ran = (0..10).any(|seed| {
            let inputs = small_inputs(&session, seed).expect("small inputs");
            session.run(session.inputs().iter().map(|spec| &*spec.name).zip(&inputs)).is_ok()
        });
        assert!(ran, "{name} fails on every input");
    }
}

#[test]
fn finds_stay_fixed() {
    for (name, bytes) in data("finds") {
        for seed in 0..4 {
            let end = load_and_run(&bytes, seed);
            assert!(end.is_ok(), "{name}: {end:?}");
        }
    }
}

#[test]
fn mutants_end_in_an_answer_or_a_typed_error() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let count = number("RECURVE_MUTANTS").unwrap_or(MUTANTS);
    let first = number("RECURVE_MUTANT_SEED").unwrap_or(0);
    let models = data("models");
    let next = AtomicU64::new(first);
    let (ends, failures) = (Mutex::new([0u64; 4]), Mutex::new(Vec::new()));
    let running: [Mutex<Option<(u64, Instant)>>; THREADS] = std::array::from_fn(|_| Mutex::new(None));
    std::thread::scope(|scope| {
        let threads: Vec<_> = running
            .iter()
            .map(|running| {
                let (models, next, ends, failures) = (&models, &next, &ends, &failures);
                scope.spawn(move || {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= first + count || failures.lock().expect("no panic").len() >= ENOUGH {
                            return;
                        }
                        let (name, model) = &models[seed as usize % models.len()];
                        *running.lock().expect("no panic") = Some((seed, Instant::now()));
                        let mutant = Mutator::new(seed).mutate(model);
                        match load_and_run(&mutant, seed) {
                            Ok(end) => ends.lock().expect("no panic")[end as usize] += 1,
                            Err(what) => {
                                keep(seed, &mutant);
                                failures.lock().expect("no panic").push(format!("{seed} of {name}: {what}"));
                            }
                        }
                    }
                })
            })
            .collect();
        // A mutant that never ends would keep the test from ever failing.
        while !threads.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            std::thread::sleep(Duration::from_millis(20));
            for running in &running {
                if let Some((seed, since)) = *running.lock().expect("no panic")
                    && since.elapsed() > HANG * 12
                {
                    keep(seed, &Mutator::new(seed).mutate(&models[seed as usize % models.len()].1));
                    eprintln!("mutant {seed} hangs");
                    std::process::exit(1);
                }
            }
        }
    });
    let [refused, loaded, failed, ran] = ends.into_inner().expect("no panic");
    println!("mutants: {refused} refused at load, {loaded} only loaded, {failed} failed, {ran} ran");
    let failures = failures.into_inner().expect("no panic");
    assert!(failures.is_empty(), "{} mutants misbehave:\n{}", failures.len(), failures.join("\n"));
    // A mutator that breaks every model tests the reader alone.
    assert!(ran * 10 > count, "of {count} mutants only {ran} ran");
}

fn keep(seed: u64, mutant: &[u8]) {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("mutant-{seed}.onnx"));
    std::fs::write(path, mutant).expect("the mutant is written");
}
