//! Rule: a Rust file has at most 500 lines, tests apart.

use super::tree::Tree;
use super::{Rule, Violation};

pub(super) const RULE: Rule = Rule {
    name: "file-ceiling",
    reason: "A file of one concept fits a reader's head: about 300 lines, never more than 500.",
    check,
};

const CEILING: usize = 500;

fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in tree.rust_files() {
        let counted: Vec<usize> =
            file.lines().map(|(line, _)| line).filter(|&line| !file.line_is_test(line)).collect();
        if let Some(&line) = counted.get(CEILING) {
            let advice = format!(
                "{} lines without tests, {CEILING} is the ceiling: give its second concept a file",
                counted.len()
            );
            violations.push(Violation::new(&file.path, line, advice));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_above_the_ceiling_are_found_and_tests_do_not_count() {
        let code = "fn f() {}\n".repeat(CEILING);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "fn t() {}\n".repeat(100));
        let full = format!("{code}{tests}");
        let over = format!("fn one_more() {{}}\n{code}");
        let tree = Tree::of(&[("full.rs", &full), ("over.rs", &over), ("tests/over.rs", &over)]);
        let found = check(&tree);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].path.as_str(), found[0].line), ("over.rs", 501));
    }
}
