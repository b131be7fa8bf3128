//! Rule: the root of the engine's crate has few names; what goes deeper has a module.

use super::rust_text::{block_end, line_of, words};
use super::tree::Tree;
use super::{Rule, Violation};

pub(super) const RULE: Rule = Rule {
    name: "facade",
    reason: "Whoever opens the documentation for the first time sees what it takes to run a model, and nothing else.",
    check,
};

const ROOT: &str = "runtime/src/lib.rs";
const MOST: usize = 19;

fn check(tree: &Tree) -> Vec<Violation> {
    let Some(file) = tree.file(ROOT) else { return Vec::new() };
    let (mut names, mut from) = (0, 0);
    let code = &file.code;
    while let Some(at) = code[from..].find("pub ").map(|offset| from + offset) {
        let rest = &code[at + "pub ".len()..];
        from = at + "pub ".len();
        if rest.starts_with("mod ") {
            let opening = rest.find(['{', ';']).map_or(code.len(), |offset| from + offset);
            from = if code[opening..].starts_with('{') { block_end(code, opening) } else { opening };
        } else if let Some(list) = rest.strip_prefix("use ") {
            let list = list.split(';').next().unwrap_or_default();
            let list = list.rsplit_once("::").map_or(list, |(_, names)| names);
            names += words(list).count();
            if names > MOST {
                let advice = format!("{names} names, {MOST} are the most: give the others a module");
                return vec![Violation::new(ROOT, line_of(code, at), advice)];
            }
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_root_are_counted_and_those_of_modules_are_not() {
        let names = |count: usize| (0..count).map(|i| format!("N{i}")).collect::<Vec<_>>().join(",\n    ");
        let root = |count| {
            let inner = names(30);
            format!(
                "//! X.\nmod a;\npub mod testing;\npub use a::{{\n    {}\n}};\npub mod b {{\n    pub use crate::a::{{{inner}}};\n}}\npub use a::Last;\n",
                names(count)
            )
        };
        assert_eq!(check(&Tree::of(&[(ROOT, &root(MOST - 1))])), []);
        let found = check(&Tree::of(&[(ROOT, &root(MOST))]));
        assert_eq!(found.len(), 1);
        assert!(found[0].advice.starts_with("20 names"), "{}", found[0].advice);
        assert_eq!(check(&Tree::of(&[(ROOT, &root(MOST + 1))])).len(), 1);
    }
}
