//! Rule: no file names a folder of somebody's machine.

use super::tree::Tree;
use super::{Rule, Violation};

pub(super) const RULE: Rule =
    Rule { name: "machine-paths", reason: "A path that exists on one machine works for nobody else.", check };

/// Put together here so that this file does not hold the paths.
const FOLDERS: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];

fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in tree.files() {
        for (line, text) in file.lines() {
            for folder in FOLDERS.iter().filter(|folder| starts_a_path(text, folder)) {
                let advice = format!("`{folder}…`: take the path from an argument or from the checkout");
                violations.push(Violation::new(&file.path, line, advice));
            }
        }
    }
    violations
}

/// Whether `folder` stands in `text` as the start of a path, not in the middle of a longer one.
fn starts_a_path(text: &str, folder: &str) -> bool {
    text.match_indices(folder).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._~-}>*".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_paths_are_found_and_relative_ones_are_not() {
        for folder in FOLDERS {
            let text =
                format!("a = \"{folder}x\"\nfile://{folder}x\nhttps://example.org{folder}x\n..{folder}x\n");
            let tree = Tree::of(&[("a.py", &text)]);
            let lines: Vec<usize> = check(&tree).into_iter().map(|violation| violation.line).collect();
            assert_eq!(lines, [1, 2], "{folder}");
        }
    }
}
