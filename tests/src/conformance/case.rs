//! What the suite's `index.json` says of each case, and the files of a case.

use anyhow::{Context, Result};
use recurve::Value;
use recurve::model::{ValueSpec, read_test_data};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The index of a suite on disk.
#[derive(Debug, Deserialize)]
pub struct Index {
    /// Version of the `onnx` package that wrote it.
    pub onnx: String,
    /// The least relative tolerance where an output is bfloat16.
    pub bfloat16_rtol: f64,
    /// Every case.
    pub cases: Vec<Case>,
}

/// One case.
#[derive(Debug, Clone, Deserialize)]
pub struct Case {
    /// Name, unique in its group.
    pub name: String,
    /// `node`, `simple`, `pytorch-converted`, `pytorch-operator` or `light`.
    pub group: String,
    /// Folder, relative to the suite.
    pub path: String,
    /// The operator that it is about; `None` for whole models.
    pub operator: Option<String>,
    /// Every operator in it.
    pub operators: Vec<String>,
    /// Every element type in it.
    pub dtypes: Vec<String>,
    /// Relative tolerance.
    pub rtol: f64,
    /// Absolute tolerance.
    pub atol: f64,
    /// Whether its outputs are one draw of many.
    pub random: bool,
    /// Number of `test_data_set_N` folders.
    pub data_sets: usize,
}

impl Index {
    /// Reads `suite/index.json`.
    pub fn read(suite: &Path) -> Result<Self> {
        let path = suite.join("index.json");
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("cannot understand {}", path.display()))
    }
}

impl Case {
    /// The operator of the report's row that the case counts in.
    pub fn row(&self) -> String {
        match (&self.operator, self.operators.as_slice()) {
            (Some(operator), _) => operator.clone(),
            (None, [only]) => only.clone(),
            _ => format!("({} models)", self.group),
        }
    }

    pub(super) fn model(&self, suite: &Path) -> PathBuf {
        suite.join(&self.path).join("model.onnx")
    }

    /// The values of data set `set` that belong to `specs`: `input_K.pb` or `output_K.pb`.
    pub(super) fn values(
        &self,
        suite: &Path,
        set: usize,
        role: &str,
        specs: &[ValueSpec],
    ) -> Result<Vec<Value>> {
        let folder = suite.join(&self.path).join(format!("test_data_set_{set}"));
        let read = |(k, spec): (usize, &ValueSpec)| {
            let path = folder.join(format!("{role}_{k}.pb"));
            let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            read_test_data(&bytes, &spec.fact).with_context(|| format!("{role} {k} of the test data"))
        };
        specs.iter().enumerate().map(read).collect()
    }
}
