//! Rule: what users call and what can fail has an example.
//!
//! Looked at are the functions of the engine's crate that are `pub` and return a `Result`; those of `testing` are for
//! suites. Examples run as tests of the documentation.

use super::tree::{File, Tree};
use super::{Rule, Violation};

pub(super) const RULE: Rule = Rule {
    name: "entry-examples",
    reason: "Whoever calls something for the first time starts from a program that runs.",
    check,
};

const ROOM: &str = "runtime/src/";
const SUITES: &str = "runtime/src/testing/";

fn check(tree: &Tree) -> Vec<Violation> {
    let looked_at = |file: &&File| file.path.starts_with(ROOM) && !file.path.starts_with(SUITES);
    let mut violations = Vec::new();
    for file in tree.rust_files().filter(looked_at) {
        let code: Vec<&str> = file.code.lines().collect();
        let text: Vec<&str> = file.text.lines().collect();
        for (at, line) in code.iter().enumerate() {
            let Some(name) = entry(line) else { continue };
            let signature = code[at..].iter().take_while(|line| !line.trim_end().ends_with([';', '}']));
            let signature: String = signature.flat_map(|line| [line, " "]).collect();
            let fails = signature.split('{').next().is_some_and(|head| head.contains("-> Result<"));
            let above = text[..at].iter().rev().map(|line| line.trim());
            let told = above
                .take_while(|line| line.starts_with("///") || line.starts_with("#["))
                .any(|line| line.starts_with("/// ```"));
            if fails && !told && !file.line_is_test(at + 1) {
                let advice = format!("`{name}` has no example: show in its documentation how it is called");
                violations.push(Violation::new(&file.path, at + 1, advice));
            }
        }
    }
    violations
}

/// The name of the public function that a line begins to declare.
fn entry(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("pub ")?;
    let rest = rest.strip_prefix("unsafe ").unwrap_or(rest).strip_prefix("fn ")?;
    rest.split(['(', '<']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<usize> {
        check(&Tree::of(&[(path, text)])).into_iter().map(|violation| violation.line).collect()
    }

    #[test]
    fn a_public_function_that_can_fail_needs_an_example() {
        let text = "//! X.\nimpl X {\n    /// Loads.\n    pub fn load(\n        self,\n    ) -> Result<(), E> {\n        Ok(())\n    }\n}\n";
        assert_eq!(found("runtime/src/x.rs", text), [4]);
        let told = text.replace(
            "/// Loads.",
            "/// Loads.\n    ///\n    /// ```\n    /// x.load()?;\n    /// ```\n    #[inline]",
        );
        assert_eq!(found("runtime/src/x.rs", &told), [0; 0]);
        assert_eq!(found("runtime/src/testing/x.rs", text), [0; 0]);
        assert_eq!(found("cli/src/x.rs", text), [0; 0]);
    }

    #[test]
    fn what_cannot_fail_or_is_for_the_crate_needs_none() {
        let text = "//! X.\npub(crate) fn a() -> Result<(), E> {\n}\npub fn b(f: fn() -> u8) -> u8 {\n    let _: Result<(), E> = c();\n}\n";
        assert_eq!(found("runtime/src/x.rs", text), [0; 0]);
    }
}
