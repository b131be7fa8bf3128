//! Rule: the environment variables that users can set are in the command's table.
//!
//! A file of the engine or of the command that reads the environment names its variables in capitals, as text; each of
//! them stands in the table. Variables of tests and tools are told by CONTRIBUTING.md.

use super::tree::{File, Tree};
use super::{Rule, Violation};

pub(super) const RULE: Rule = Rule {
    name: "environment-table",
    reason: "A variable that `recurve env` does not list changes what a program does, and nobody can know.",
    check,
};

const TABLE: &str = "cli/src/environment.rs";
const ROOMS: [&str; 3] = ["runtime/src/", "cli/src/", "scheduler/src/"];
const SUITES: &str = "runtime/src/testing/";
const CALLS: [&str; 2] = ["env::var(", "env::var_os("];

fn check(tree: &Tree) -> Vec<Violation> {
    let table = tree.file(TABLE).map_or("", |file| &file.text);
    let users =
        |file: &&File| ROOMS.iter().any(|room| file.path.starts_with(room)) && !file.path.starts_with(SUITES);
    let mut violations = Vec::new();
    for file in tree.rust_files().filter(users).filter(|file| file.path != TABLE) {
        let code = file.code_lines().filter(|(line, _)| !file.line_is_test(*line));
        if !code.map(|(_, code)| code).any(|code| CALLS.iter().any(|call| code.contains(call))) {
            continue;
        }
        for (line, text) in file.lines().filter(|(line, _)| !file.line_is_test(*line)) {
            let quoted = text.split('"').skip(1).step_by(2);
            for name in quoted.filter(|name| is_variable(name)) {
                if !table.contains(&format!("\"{name}\"")) {
                    let advice = format!("add `{name}` to {TABLE}");
                    violations.push(Violation::new(&file.path, line, advice));
                }
            }
        }
    }
    violations
}

fn is_variable(name: &str) -> bool {
    name.len() > 2
        && name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_the_table_lacks_is_found() {
        let reads = "//! X.\nfn f() {\n    let named = |name| std::env::var_os(name);\n    named(\"HOME\").or(named(\"RECURVE_X\"));\n}\n";
        let tests = "//! X.\n#[cfg(test)]\nmod tests {\n    fn f() {\n        std::env::var(\"RECURVE_SEEDS\");\n    }\n}\n";
        let tree = Tree::of(&[
            (TABLE, "const V: &str = \"HOME\";\n"),
            ("runtime/src/x.rs", reads),
            ("runtime/src/y.rs", tests),
            ("runtime/src/z.rs", "const X: &str = \"RECURVE_Y\";\n"),
            ("tests/src/x.rs", reads),
        ]);
        let found: Vec<_> = check(&tree).into_iter().map(|v| (v.path, v.line)).collect();
        assert_eq!(found, [("runtime/src/x.rs".to_owned(), 4)]);
    }
}
