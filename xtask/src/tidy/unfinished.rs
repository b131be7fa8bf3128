//! Rule: nothing is left to be done in the code.

use super::rust_text::words;
use super::tree::Tree;
use super::{Rule, Violation};

pub(super) const RULE: Rule = Rule {
    name: "unfinished",
    reason: "What is not done is an issue with an owner, not a note that rots in a file.",
    check,
};

/// Put together here so that this file does not hold the words.
const NOTES: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
const MACROS: [&str; 2] = [concat!("to", "do"), concat!("unimple", "mented")];

fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in tree.files().iter().filter(|file| file.extension() != "md") {
        for ((line, text), (_, code)) in file.lines().zip(file.code_lines()) {
            if let Some(note) = words(text).find(|word| NOTES.contains(word)) {
                let advice = format!("`{note}`: do it, or open an issue and take the note out");
                violations.push(Violation::new(&file.path, line, advice));
            }
            let call = MACROS.iter().find(|name| code.contains(&format!("{name}!")));
            if let Some(name) = call.filter(|_| file.is_rust()) {
                let advice = format!("`{name}!`: return a typed error for what is not supported");
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
    fn notes_and_macros_are_found() {
        let (note, call) = (NOTES[0], MACROS[0]);
        let text = format!("// {note}: later\nfn f() {{ {call}!() }}\nfn {call}_list() {{}}\n");
        let tree = Tree::of(&[("a.rs", &text), ("a.py", &text), ("a.md", &text)]);
        let found: Vec<(String, usize)> =
            check(&tree).into_iter().map(|violation| (violation.path, violation.line)).collect();
        let expected = [("a.rs", 1), ("a.rs", 2), ("a.py", 1)];
        assert_eq!(found, expected.map(|(path, line)| (path.to_owned(), line)));
    }
}
