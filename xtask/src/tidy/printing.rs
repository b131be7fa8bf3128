//! Rule: libraries do not print.

use super::rust_text::words;
use super::tree::{File, Tree};
use super::{Rule, Violation};

pub(super) const RULE: Rule = Rule {
    name: "printing",
    reason: "A program that links the engine owns its stdout and stderr, so only commands print.",
    check,
};

const MACROS: [&str; 5] = ["println", "eprintln", "print", "eprint", "dbg"];
const ROOMS_THAT_PRINT: [&str; 4] = ["cli", "xtask", "benches", "tests"];
const FOLDERS_THAT_PRINT: [&str; 4] = ["examples", "benches", "tests", "bin"];

fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in tree.rust_files().filter(|file| !may_print(file)) {
        for (line, code) in file.code_lines().filter(|(line, _)| !file.line_is_test(*line)) {
            let call = words(code).find(|word| MACROS.contains(word) && code.contains(&format!("{word}!")));
            if let Some(name) = call {
                let advice = format!("`{name}!` in a library: return the text or emit a tracing event");
                violations.push(Violation::new(&file.path, line, advice));
            }
        }
    }
    violations
}

fn may_print(file: &File) -> bool {
    ROOMS_THAT_PRINT.contains(&file.room())
        || file.path.split('/').any(|part| FOLDERS_THAT_PRINT.contains(&part))
        || file.path.ends_with("/src/main.rs")
        || file.stem() == "build"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printing_is_found_in_libraries_only() {
        let text = "//! X. `println!` in prose.\nfn f() {\n    println!(\"a\");\n}\n\
                    #[cfg(test)]\nmod tests {\n    fn t() { dbg!(1); }\n}\n";
        let tree = Tree::of(&[
            ("runtime/src/x.rs", text),
            ("cli/src/x.rs", text),
            ("scheduler/src/bin/soak.rs", text),
            ("scheduler/examples/x.rs", text),
            ("runtime/src/y.rs", "fn fingerprint() { print(2); }\n"),
        ]);
        let found = check(&tree);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].path.as_str(), found[0].line), ("runtime/src/x.rs", 3));
    }
}
