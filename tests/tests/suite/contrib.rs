//! ONNX Runtime's own operators against its answers, which `tests/data/make_contrib.py` wrote.

use recurve::model::{ValueSpec, read_test_data};
use recurve::testing::{Tolerance, compare};
use recurve::{DType, Engine, Session, Value};
use std::path::{Path, PathBuf};

fn values(folder: &Path, role: &str, specs: &[ValueSpec]) -> Vec<Value> {
    let read = |(k, spec): (usize, &ValueSpec)| {
        let bytes = std::fs::read(folder.join(format!("{role}_{k}.pb"))).expect("a file of the case");
        read_test_data(&bytes, &spec.fact).expect("well-formed data")
    };
    specs.iter().enumerate().map(read).collect()
}

/// How `folder` differs from its answers, on `threads` threads.
fn difference(folder: &Path, threads: usize) -> Option<String> {
    let engine = Engine::builder().with_threads(threads).build().expect("an engine");
    let session = Session::builder().with_engine(&engine).load(folder.join("model.onnx")).expect("loads");
    let data = folder.join("test_data_set_0");
    let inputs = values(&data, "input", session.inputs());
    let named = session.inputs().iter().map(|spec| &*spec.name).zip(&inputs);
    let outputs = session.run(named).expect("runs");
    for ((name, got), want) in outputs.iter().zip(values(&data, "output", session.outputs())) {
        let half = want.as_tensor().is_some_and(|tensor| tensor.dtype() == DType::F16);
        // Sums in another order; where h is quantised, never another level.
        let tolerance = if half {
            Tolerance { relative: 2e-3, absolute: 2e-3 }
        } else {
            Tolerance { relative: 1e-5, absolute: 2e-6 }
        };
        if let Err(mismatch) = compare(got, &want, tolerance) {
            return Some(format!("{}, output `{name}`: {mismatch}", folder.display()));
        }
    }
    None
}

#[test]
fn answers_are_those_of_onnx_runtime() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/contrib");
    let mut cases: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("the cases").map(|entry| entry.expect("an entry").path()).collect();
    cases.sort();
    assert!(cases.len() >= 16, "{cases:?}");
    let differences: Vec<String> =
        cases.iter().flat_map(|case| [1, 2].map(|threads| difference(case, threads))).flatten().collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
