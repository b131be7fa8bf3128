//! Rule: lines of documents have at most 120 columns, tables apart.
//!
//! Documents that a program writes, those of `docs/`, and the records of measurements are not looked at.

use super::tree::Tree;
use super::{Rule, Violation};

pub(super) const RULE: Rule = Rule {
    name: "line-width",
    reason: "Documents are read in terminals and diffs as often as they are rendered.",
    check,
};

const COLUMNS: usize = 120;
const WRITTEN: [&str; 2] = ["docs/", "benches/results/"];

fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    let documents = tree.files().iter().filter(|file| file.extension() == "md");
    for document in documents.filter(|file| !WRITTEN.iter().any(|folder| file.path.starts_with(folder))) {
        for (at, line) in document.text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS && !line.starts_with('|') {
                let advice = format!("{columns} columns, {COLUMNS} are the most: break the line");
                violations.push(Violation::new(&document.path, at + 1, advice));
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_lines_are_found_and_tables_are_not() {
        let (full, wide) = ("é".repeat(COLUMNS), "é".repeat(COLUMNS + 1));
        let text = format!("{full}\n{wide}\n| {wide} |\n");
        let tree = Tree::of(&[("A.md", &text), ("docs/a.md", &wide), ("a.rs", &wide)]);
        let found = check(&tree);
        assert_eq!(found.iter().map(|v| (v.path.as_str(), v.line)).collect::<Vec<_>>(), [("A.md", 2)]);
    }
}
