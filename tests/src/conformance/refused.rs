//! The committed list of refused cases: which, and why, per refused operator.

use super::judge::{Outcome, Verdict};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The list, by the operator that is refused.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RefusedList {
    operators: BTreeMap<String, Refused>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Refused {
    reason: String,
    /// Paths of the cases.
    cases: BTreeSet<String>,
}

/// A difference between the list and a run.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// The case is on the list, but was not refused.
    NoLongerRefused(String),
    /// The case was refused, but is not on the list.
    NewlyRefused(String),
}

impl RefusedList {
    /// Reads the list at `path`; a file that is not there is an empty list.
    pub fn read(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = std::fs::read_to_string(path)?;
        serde_json::from_str(&text).with_context(|| format!("cannot understand {}", path.display()))
    }

    /// Writes the list to `path`.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The list for `verdicts`, with this list's reasons where it has them.
    pub fn updated(&self, verdicts: &[Verdict]) -> Self {
        let mut updated = Self::default();
        for verdict in verdicts {
            let Outcome::Refused { operator, reason } = &verdict.outcome else { continue };
            let reason = self.operators.get(operator).map_or(reason, |known| &known.reason);
            let row = updated
                .operators
                .entry(operator.clone())
                .or_insert_with(|| Refused { reason: reason.clone(), cases: BTreeSet::new() });
            row.cases.insert(verdict.case.path.clone());
        }
        updated
    }

    /// Each refused operator with the reason and the number of cases.
    pub fn reasons(&self) -> impl Iterator<Item = (&str, &str, usize)> {
        self.operators.iter().map(|(name, row)| (name.as_str(), row.reason.as_str(), row.cases.len()))
    }

    /// How `verdicts` differ from the list. Cases that were not judged do not count.
    pub fn changes(&self, verdicts: &[Verdict]) -> Vec<Change> {
        let listed: BTreeSet<&String> = self.operators.values().flat_map(|row| &row.cases).collect();
        let change = |verdict: &Verdict| {
            let path = &verdict.case.path;
            match (listed.contains(path), matches!(verdict.outcome, Outcome::Refused { .. })) {
                (true, false) => Some(Change::NoLongerRefused(path.clone())),
                (false, true) => Some(Change::NewlyRefused(path.clone())),
                _ => None,
            }
        };
        verdicts.iter().filter_map(change).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::Closeness;
    use std::time::Duration;

    fn verdict(path: &str, outcome: Outcome) -> Verdict {
        let text = format!(
            r#"{{"name": "n", "group": "node", "path": "{path}", "operator": null, "operators": [],
                "dtypes": [], "rtol": 0.0, "atol": 0.0, "random": false, "data_sets": 1}}"#
        );
        let case = serde_json::from_str(&text).expect("a case");
        Verdict { case, outcome, closeness: Closeness::Suite, time: Duration::ZERO }
    }

    fn refused(operator: &str) -> Outcome {
        Outcome::Refused { operator: operator.into(), reason: "generated".into() }
    }

    #[test]
    fn changes_are_found_and_reasons_are_kept() {
        let text = r#"{"Adam": {"reason": "written by hand", "cases": ["a", "b"]}}"#;
        let list: RefusedList = serde_json::from_str(text).expect("a list");
        let verdicts =
            [verdict("a", refused("Adam")), verdict("b", Outcome::Pass), verdict("c", refused("Sgd"))];
        let changes = list.changes(&verdicts);
        assert_eq!(changes, [Change::NoLongerRefused("b".into()), Change::NewlyRefused("c".into())]);
        let updated = list.updated(&verdicts);
        assert_eq!(updated.operators["Adam"].reason, "written by hand");
        assert_eq!(updated.operators["Sgd"].reason, "generated");
        assert!(updated.changes(&verdicts).is_empty());
    }
}
