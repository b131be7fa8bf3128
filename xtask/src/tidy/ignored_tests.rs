//! Rule: an ignored test says why.

use super::rust_text::words;
use super::tree::Tree;
use super::{Rule, Violation};

pub(super) const RULE: Rule = Rule {
    name: "ignored-tests",
    reason: "A test that is ignored without a reason is never switched on again.",
    check,
};

fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in tree.rust_files() {
        for ((line, code), (_, text)) in file.code_lines().zip(file.lines()) {
            let Some(attribute) = code.find("#[").map(|start| &code[start..]) else { continue };
            let first = words(attribute).next();
            let ignores = first == Some("ignore")
                || (first == Some("cfg_attr") && words(attribute).any(|word| word == "ignore"));
            // The reason itself is blank in the code and is looked for in the text.
            let reasoned = text
                .split_once("ignore")
                .and_then(|(_, rest)| rest.trim_start().strip_prefix('='))
                .is_some_and(|reason| !reason.trim_start().starts_with("\"\""));
            if ignores && !reasoned {
                let advice = "write `#[ignore = \"reason\"]`, or run the test";
                violations.push(Violation::new(&file.path, line, advice));
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignoring_without_a_reason_is_found() {
        let text = "#[ignore]\n#[ignore = \"needs a GPU\"]\n#[ignore = \"\"]\n#[cfg_attr(miri, ignore)]\n\
                    #[cfg_attr(miri, ignore = \"slow\")]\n// #[ignore]\n#[allow(x)]\n";
        let lines: Vec<usize> =
            check(&Tree::of(&[("a.rs", text)])).into_iter().map(|violation| violation.line).collect();
        assert_eq!(lines, [1, 3, 4]);
    }
}
