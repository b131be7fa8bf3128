//! Rule: a Rust file says in its first line what it is.

use super::tree::Tree;
use super::{Rule, Violation};

pub(super) const RULE: Rule = Rule {
    name: "module-header",
    reason: "A reader who opens a file learns from its first line what it holds.",
    check,
};

fn check(tree: &Tree) -> Vec<Violation> {
    let headless = tree.rust_files().filter(|file| !file.text.starts_with("//!"));
    headless.map(|file| Violation::new(&file.path, 1, "open the file with `//!` and what it holds")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_opens_with_code_is_found() {
        let tree = Tree::of(&[("a.rs", "//! A.\nfn f() {}\n"), ("b.rs", "use x;\n//! B.\n")]);
        let found = check(&tree);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path, "b.rs");
    }
}
