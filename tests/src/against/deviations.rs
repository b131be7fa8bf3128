//! Where ONNX Runtime is known to depart from the specification.

use anyhow::{Context, Result};
use serde::Deserialize;
use std::path::Path;

/// The committed list.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Deviations(Vec<Deviation>);

/// One departure.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Deviation {
    /// The operators, with domains.
    operators: Vec<String>,
    /// Parts of the use in words or of the mismatch, all of which occur, in whatever case.
    #[serde(default)]
    with: Vec<String>,
    /// Parts of which one occurs, where there are any.
    #[serde(default)]
    any: Vec<String>,
    /// Parts that do not occur.
    #[serde(default)]
    without: Vec<String>,
    /// What the specification says and what ONNX Runtime does.
    reason: String,
}

impl Deviations {
    /// Reads the list.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("cannot read {}", path.display()))
    }

    /// The departure that explains a difference of `operator`, described by `words`.
    pub fn find(&self, operator: &str, words: &str) -> Option<usize> {
        let words = words.to_lowercase();
        let occurs = |part: &String| words.contains(&part.to_lowercase());
        self.0.iter().position(|d| {
            d.operators.iter().any(|o| o == operator)
                && d.with.iter().all(occurs)
                && (d.any.is_empty() || d.any.iter().any(occurs))
                && !d.without.iter().any(occurs)
        })
    }

    /// The reasons in the order of the list.
    pub fn reasons(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|d| d.reason.as_str())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn list() -> Deviations {
        let text = r#"[{"operators": ["A", "B"], "with": ["NaN", "x=1"], "reason": "first"},
            {"operators": ["B"], "any": ["y", "z"], "without": ["w"], "reason": "second"}]"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn parts_say_what_a_departure_explains() {
        assert_eq!(list().find("A", "x=1: nan instead of 0"), Some(0));
        assert_eq!(list().find("A", "x=2: NaN instead of 0"), None);
        assert_eq!(list().find("B", "x=2 z"), Some(1));
        assert_eq!(list().find("B", "x=2"), None);
        assert_eq!(list().find("B", "x=2 z w"), None);
        assert_eq!(list().find("C", "x=1 NaN"), None);
    }

    #[test]
    fn the_committed_list_is_read() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/onnxruntime/deviations.json");
        let list = Deviations::read(path.as_ref()).unwrap();
        let operators = recurve::testing::operators();
        let is_named = |name: &String| operators.iter().any(|o| o.full_name() == *name);
        assert!(list.0.iter().flat_map(|d| &d.operators).all(is_named));
        assert!(list.reasons().all(|reason| reason.len() > 20));
    }
}
