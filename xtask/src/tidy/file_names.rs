//! Rule: no file, folder or module is named for being a drawer.

use super::rust_text::words;
use super::tree::Tree;
use super::{Rule, Violation};

pub(super) const RULE: Rule = Rule {
    name: "file-names",
    reason: "A file named for a concept can be found and stays whole, while a drawer takes anything.",
    check,
};

const DRAWERS: [&str; 9] =
    ["utils", "util", "utilities", "common", "helpers", "helper", "base", "misc", "stuff"];

fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in tree.files() {
        let folders = file.path.rsplit_once('/').map_or("", |(folders, _)| folders).split('/');
        for part in folders.chain([file.stem()]) {
            if DRAWERS.contains(&part) {
                let advice = format!("`{part}` names no concept: name the file or folder by what it holds");
                violations.push(Violation::new(&file.path, 1, advice));
            }
        }
        if !file.is_rust() {
            continue;
        }
        for (line, code) in file.code_lines() {
            let mut pair = words(code).zip(words(code).skip(1));
            if let Some((_, module)) = pair.find(|(word, name)| *word == "mod" && DRAWERS.contains(name)) {
                let advice = format!("`mod {module}` names no concept: name the module by what it holds");
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
    fn drawers_are_found_as_file_folder_and_module() {
        let tree = Tree::of(&[
            ("a/src/utils.rs", "//! U.\n"),
            ("a/common/mod.rs", "//! C.\n"),
            ("a/src/lib.rs", "//! L.\nmod base64;\npub(crate) mod helpers {}\n// mod misc;\n"),
            ("a/src/baseline.rs", "//! B.\n"),
        ]);
        let found: Vec<(String, usize)> =
            check(&tree).into_iter().map(|violation| (violation.path, violation.line)).collect();
        let expected = [("a/src/utils.rs", 1), ("a/common/mod.rs", 1), ("a/src/lib.rs", 3)];
        assert_eq!(found, expected.map(|(path, line)| (path.to_owned(), line)));
    }
}
