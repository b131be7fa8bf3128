//! Rule: `unsafe` stands only in the files that `SAFETY.md` lists, and each of those has some; rooms that read what strangers
//! wrote, or need none, forbid it.

use std::collections::BTreeMap;

use super::rust_text::has_word;
use super::tree::{File, Tree};
use super::{Rule, Violation};

pub(super) const RULE: Rule = Rule {
    name: "unsafe-files",
    reason: "Who reviews the unsafe code must know from one list where all of it is.",
    check,
};

const LIST: &str = "SAFETY.md";
/// The first files of rooms without `unsafe`.
const WITHOUT: [&str; 5] = [
    "cli/src/lib.rs",
    "ptx/src/lib.rs",
    "runtime/src/onnx/mod.rs",
    "scheduler/src/lib.rs",
    "xtask/src/main.rs",
];
const FORBIDS: &str = "#![forbid(unsafe_code)]";
const HEADING: &str = "Files that may contain `unsafe`";

fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    let list = tree.file(LIST);
    let listed = list.map(listed_files).unwrap_or_default();
    if list.is_some_and(|file| !file.lines().any(|(_, text)| is_heading(text))) {
        let advice = format!("add the heading `## {HEADING}` and below it one bullet per file");
        violations.push(Violation::new(LIST, 1, advice));
    }
    for (path, &line) in &listed {
        match tree.file(path) {
            None => violations.push(Violation::new(LIST, line, format!("`{path}` is no file: take it out"))),
            Some(file) if first_unsafe(file).is_none() => {
                violations.push(Violation::new(LIST, line, format!("`{path}` has no `unsafe`: take it out")));
            }
            Some(_) => {}
        }
    }
    for file in tree.rust_files().filter(|file| !listed.contains_key(&file.path)) {
        if let Some(line) = first_unsafe(file) {
            let advice = format!("write it without `unsafe`, or list the file in {LIST} with its argument");
            violations.push(Violation::new(&file.path, line, advice));
        }
    }
    for file in WITHOUT.iter().filter_map(|path| tree.file(path)) {
        if !file.code.contains(FORBIDS) {
            let advice = format!("write `{FORBIDS}` above the modules: this room needs no `unsafe`");
            violations.push(Violation::new(&file.path, 1, advice));
        }
    }
    violations
}

fn first_unsafe(file: &File) -> Option<usize> {
    file.code_lines().find(|(_, code)| has_word(code, "unsafe")).map(|(line, _)| line)
}

fn is_heading(text: &str) -> bool {
    text.starts_with('#') && text.trim_start_matches('#').trim() == HEADING
}

/// The bullets under the heading: the path between the first backticks, and its line.
fn listed_files(list: &File) -> BTreeMap<String, usize> {
    let below = list.lines().skip_while(|(_, text)| !is_heading(text)).skip(1);
    below
        .take_while(|(_, text)| !text.starts_with('#'))
        .filter(|(_, text)| text.starts_with("- ") || text.starts_with("* "))
        .filter_map(|(line, text)| Some((text.split('`').nth(1)?.to_owned(), line)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNSAFE: &str = "//! X.\nfn f() { unsafe { g() } }\n";
    const SAFE: &str = "//! No unsafe here.\n#![forbid(unsafe_code)]\n";

    fn found(files: &[(&str, &str)]) -> Vec<(String, usize)> {
        let violations = check(&Tree::of(files));
        violations.into_iter().map(|violation| (violation.path, violation.line)).collect()
    }

    #[test]
    fn unlisted_unsafe_is_found_with_and_without_a_list() {
        assert_eq!(found(&[("a.rs", UNSAFE), ("b.rs", SAFE)]), [("a.rs".to_owned(), 2)]);
        let list = "# Safety\n\n## Files that may contain `unsafe`\n\nText.\n\n- `a.rs`: why.\n\n## Next\n- `b.rs`\n";
        assert_eq!(
            found(&[("SAFETY.md", list), ("a.rs", UNSAFE), ("b.rs", UNSAFE)]),
            [("b.rs".to_owned(), 2)]
        );
    }

    #[test]
    fn a_list_that_is_too_long_is_found() {
        let list = "## Files that may contain `unsafe`\n- `a.rs`\n- `gone.rs`\n";
        let lines = found(&[("SAFETY.md", list), ("a.rs", SAFE)]);
        assert_eq!(lines, [("SAFETY.md".to_owned(), 2), ("SAFETY.md".to_owned(), 3)]);
    }

    #[test]
    fn a_room_without_unsafe_that_does_not_forbid_it_is_found() {
        assert_eq!(
            found(&[("runtime/src/onnx/mod.rs", "//! #![forbid(unsafe_code)]\nmod proto;\n")]).len(),
            1
        );
        assert_eq!(found(&[("runtime/src/onnx/mod.rs", SAFE), ("runtime/src/lib.rs", "//! X.\n")]), []);
    }

    #[test]
    fn a_list_without_its_heading_is_found() {
        assert_eq!(found(&[("SAFETY.md", "# Safety\n")]), [("SAFETY.md".to_owned(), 1)]);
    }
}
