//! Rule: a declarative macro is short and declares no module.

use super::rust_text::{block_end, has_word, line_of};
use super::tree::Tree;
use super::{Rule, Violation};

pub(super) const RULE: Rule = Rule {
    name: "macro-size",
    reason: "A macro stamps a test or an impl over types and no more: rustfmt and readers stop at its brace.",
    check,
};

const CEILING: usize = 30;

fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in tree.rust_files() {
        let code = &file.code;
        for (start, _) in code.match_indices("macro_rules!") {
            let Some(opening) = code[start..].find('{').map(|offset| start + offset) else { continue };
            let end = block_end(code, opening);
            let first = line_of(code, start);
            let lines = line_of(code, end) + 1 - first;
            if lines > CEILING {
                let advice =
                    format!("a macro of {lines} lines, {CEILING} is the ceiling: use a function or a trait");
                violations.push(Violation::new(&file.path, first, advice));
            }
            if has_word(&code[opening..end], "mod") {
                let advice = "a macro that declares a module: write the modules out";
                violations.push(Violation::new(&file.path, first, advice));
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_macros_and_declared_modules_are_found() {
        let body = "    () => {};\n".repeat(28);
        let fits = format!("macro_rules! a {{\n{body}}}\n");
        let long = format!("\nmacro_rules! a {{\n{body}\n}}\n");
        let module = "macro_rules! a { ($m:ident) => { mod $m; }; }\n";
        let tree = Tree::of(&[("fits.rs", &fits), ("long.rs", &long), ("module.rs", module)]);
        let found: Vec<(String, usize)> =
            check(&tree).into_iter().map(|violation| (violation.path, violation.line)).collect();
        assert_eq!(found, [("long.rs".to_owned(), 2), ("module.rs".to_owned(), 1)]);
    }
}
