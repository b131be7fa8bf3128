//! Test data in the layout of the ONNX backend suite: folders `test_data_set_N` with `input_K.pb` and
//! `output_K.pb`, K counting the model's inputs and outputs.

use crate::failure::UsageError;
use anyhow::{Context, Result};
use recurve::model::{ValueSpec, read_test_data};
use recurve::{Session, Value};
use std::path::{Path, PathBuf};

/// One data set.
#[derive(Debug)]
pub(crate) struct DataSet {
    pub(crate) name: String,
    pub(crate) inputs: Vec<(String, Value)>,
    pub(crate) expected: Vec<(String, Value)>,
}

/// The data sets in `folder`, or `folder` itself where it is one.
pub(crate) fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read `{}`", folder.display()))?;
    let mut sets: Vec<(u64, PathBuf)> = Vec::new();
    let mut is_set = false;
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read `{}`", folder.display()))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        is_set |= position(&name, "input_").or(position(&name, "output_")).is_some();
        if let Some(number) = name.strip_prefix("test_data_set_").and_then(|number| number.parse().ok()) {
            sets.push((number, path));
        }
    }
    if is_set {
        return Ok(vec![folder.to_owned()]);
    }
    if sets.is_empty() {
        let problem = format!("`{}` holds neither test_data_set_* nor input_*.pb", folder.display());
        return Err(UsageError::new(problem).hint("--onnx-test takes such a folder").into());
    }
    sets.sort();
    Ok(sets.into_iter().map(|(_, path)| path).collect())
}

/// Reads one data set for the model of `session`.
pub(crate) fn read(folder: &Path, session: &Session) -> Result<DataSet> {
    let inputs = values(folder, "input_", session.inputs())?;
    let expected = values(folder, "output_", session.outputs())?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(DataSet { name, inputs, expected })
}

fn values(folder: &Path, prefix: &str, specs: &[ValueSpec]) -> Result<Vec<(String, Value)>> {
    let context = |path: &Path| format!("cannot read `{}`", path.display());
    let mut found: Vec<(usize, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| context(folder))? {
        let path = entry.with_context(|| context(folder))?.path();
        if let Some(at) = position(&path.file_name().unwrap_or_default().to_string_lossy(), prefix) {
            found.push((at, path));
        }
    }
    found.sort();
    let mut values = Vec::with_capacity(found.len());
    for (at, path) in found {
        let Some(spec) = specs.get(at) else {
            let problem = format!("`{}`: the model has {} such values", path.display(), specs.len());
            return Err(UsageError::new(problem).into());
        };
        let bytes = std::fs::read(&path).with_context(|| context(&path))?;
        let value = read_test_data(&bytes, &spec.fact).with_context(|| context(&path))?;
        values.push((spec.name.to_string(), value));
    }
    Ok(values)
}

/// K of `input_K.pb`.
fn position(file: &str, prefix: &str) -> Option<usize> {
    file.strip_prefix(prefix)?.strip_suffix(".pb")?.parse().ok()
}
