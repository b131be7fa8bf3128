//! What a section of the suites reports, as JSON.

use anyhow::{Context as _, Result};
use serde::Serialize;
use std::path::Path;

/// Failures that are shown of one suite.
const SHOWN: usize = 5;

/// One section: what was run, on what, and what came of it.
#[derive(Debug, Serialize)]
pub struct Section {
    /// Its name.
    pub section: &'static str,
    /// The device, as `--device` names it.
    pub device: String,
    /// The device's own name.
    pub name: String,
    /// The module that was loaded.
    pub module: Option<String>,
    /// The seed.
    pub seed: u64,
    /// Suites in the order in which they ran.
    pub suites: Vec<Tally>,
    /// What ended the section early.
    pub ended: Option<String>,
    /// Whether it came to its end.
    pub complete: bool,
}

/// What came of one suite.
#[derive(Debug, Default, Serialize)]
pub struct Tally {
    /// Its name.
    pub suite: String,
    /// Cases that were right.
    pub passed: u32,
    /// Cases that the device is too old or too small for, or has no kernel for.
    pub refused: u32,
    /// Cases that were wrong.
    pub failed: u32,
    /// The first of them.
    pub failures: Vec<String>,
    /// Seconds that it took.
    pub seconds: f64,
}

impl Section {
    /// Writes it as JSON.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Whether all that ran was right, and nothing was left out.
    pub fn passed(&self) -> bool {
        self.ended.is_none() && self.suites.iter().all(|suite| suite.failed == 0)
    }
}

impl Tally {
    /// Counts a failure.
    pub fn fail(&mut self, what: String) {
        self.failed += 1;
        if self.failures.len() < SHOWN {
            self.failures.push(what);
        }
    }

    /// One line.
    pub fn line(&self) -> String {
        let Self { suite, passed, refused, failed, seconds, .. } = self;
        format!("{suite}: {passed} passed, {refused} refused, {failed} failed, {seconds:.1} s")
    }
}
