//! Rule: a program that the README shows is an example of the checkout.
//!
//! Each ```` ```rust ```` block with a `main` is, word for word, the file of an example below its header; CI runs that.

use super::tree::Tree;
use super::{Rule, Violation};

pub(super) const RULE: Rule = Rule {
    name: "documented-program",
    reason: "The first program that a reader copies has to compile and give what its comments say.",
    check,
};

const README: &str = "README.md";
const EXAMPLES: &str = "examples/";

fn check(tree: &Tree) -> Vec<Violation> {
    let Some(readme) = tree.file(README) else { return Vec::new() };
    let examples: Vec<String> = tree
        .rust_files()
        .filter(|file| file.path.starts_with(EXAMPLES))
        .map(|file| body(&file.text))
        .collect();
    let mut violations = Vec::new();
    for (line, program) in programs(&readme.text) {
        if !examples.contains(&program) {
            let advice =
                format!("no file of {EXAMPLES} is this program: make it one, or correct one of them");
            violations.push(Violation::new(README, line, advice));
        }
    }
    violations
}

/// A file without its header.
fn body(text: &str) -> String {
    let lines = text.lines().skip_while(|line| line.starts_with("//!") || line.is_empty());
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// The programs of a document, with the lines that they begin in.
fn programs(text: &str) -> Vec<(usize, String)> {
    let (mut found, mut inside) = (Vec::new(), None);
    for (at, line) in text.lines().enumerate() {
        match &mut inside {
            None if line == "```rust" => inside = Some((at + 1, String::new())),
            Some(_) if line == "```" => found.extend(inside.take()),
            Some((_, program)) => program.extend([line, "\n"]),
            None => {}
        }
    }
    found.retain(|(_, program)| program.contains("fn main("));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# X\n\n```rust\nfn main() {\n    run();\n}\n```\n\n```rust\nlet part = 1;\n```\n";

    #[test]
    fn a_program_that_is_an_example_passes_and_another_is_found() {
        let found =
            |example: &str| check(&Tree::of(&[(README, PAGE), ("examples/run/main.rs", example)])).len();
        assert_eq!(found("//! Runs.\n\nfn main() {\n    run();\n}\n"), 0);
        assert_eq!(found("//! Runs.\n\nfn main() {\n    stop();\n}\n"), 1);
        assert_eq!(check(&Tree::of(&[(README, PAGE)]))[0].line, 3);
    }
}
