//! Rule: a diff that a document shows is what the files hold.
//!
//! In a ```` ```diff ```` block, the lines that are added to a new file (`--- /dev/null`) are the whole file; those added
//! to another one stand in it, one below the other.

use super::tree::Tree;
use super::{Rule, Violation};

pub(super) const RULE: Rule = Rule {
    name: "documented-diff",
    reason: "A reader copies what a document shows, and it was true only when it was written.",
    check,
};

/// The lines that a block adds to one file.
#[derive(Default)]
struct Hunk {
    path: String,
    is_whole: bool,
    /// Line of the document.
    line: usize,
    added: Vec<String>,
}

fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for document in tree.files().iter().filter(|file| file.extension() == "md") {
        for hunk in hunks(&document.text) {
            let mut found =
                |advice: String| violations.push(Violation::new(&document.path, hunk.line, advice));
            let Some(file) = tree.file(&hunk.path) else {
                found(format!("there is no {}", hunk.path));
                continue;
            };
            let lines: Vec<&str> = file.text.lines().collect();
            let holds = if hunk.is_whole {
                lines == hunk.added
            } else {
                lines.windows(hunk.added.len().max(1)).any(|part| part == hunk.added)
            };
            if !holds {
                found(format!("{} is not as the diff shows it", hunk.path));
            }
        }
    }
    violations
}

fn hunks(text: &str) -> Vec<Hunk> {
    let mut hunks: Vec<Hunk> = Vec::new();
    let (mut inside, mut is_whole) = (false, false);
    for (at, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            inside = !inside && line == "```diff";
        } else if !inside {
        } else if let Some(old) = line.strip_prefix("--- ") {
            is_whole = old == "/dev/null";
        } else if let Some(path) = line.strip_prefix("+++ b/") {
            hunks.push(Hunk { path: path.to_owned(), is_whole, line: at + 1, added: Vec::new() });
        } else if let (Some(added), Some(hunk)) = (line.strip_prefix('+'), hunks.last_mut()) {
            hunk.added.push(added.to_owned());
        }
    }
    hunks
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "Like this:\n\n```diff\n--- /dev/null\n+++ b/new.rs\n+one\n+\n+two\n--- a/old.rs\n+++ b/old.rs\n+mod new;\n```\n\n```rust\n+++ b/absent.rs\n```\n";

    #[test]
    fn what_is_shown_is_compared() {
        let tree = |new, old| Tree::of(&[("PAGE.md", PAGE), ("new.rs", new), ("old.rs", old)]);
        assert_eq!(check(&tree("one\n\ntwo\n", "mod a;\nmod new;\n")), []);
        let found = check(&tree("one\n\ntwo\nthree\n", "mod a;\n"));
        assert_eq!(found.iter().map(|v| v.line).collect::<Vec<_>>(), [5, 10]);
        let found = check(&Tree::of(&[("PAGE.md", PAGE), ("old.rs", "mod new;\n")]));
        assert_eq!(found, [Violation::new("PAGE.md", 5, "there is no new.rs")]);
    }
}
