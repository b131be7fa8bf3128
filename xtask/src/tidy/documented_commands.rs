//! Rule: the commands that a document shows exist.
//!
//! In ```` ```console ```` blocks and in backticks: tasks of `cargo xtask`, and the packages, examples, benches and
//! binaries that cargo is told to build; in blocks also the scripts of the checkout. What `recurve` is told is run by
//! the command's own tests.

use super::tree::{File, Tree};
use super::{Rule, Violation};

pub(super) const RULE: Rule = Rule {
    name: "documented-commands",
    reason: "A command that fails is the first thing that a new reader learns.",
    check,
};

/// Declares the tasks of `cargo xtask`.
const TASKS: &str = "xtask/src/main.rs";

fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for document in tree.files().iter().filter(|file| file.extension() == "md") {
        for (line, command) in commands(document) {
            let words: Vec<&str> = command.split_whitespace().collect();
            let unknown =
                cargo_misfits(tree, &words).into_iter().chain(absent_scripts(tree, document, &words));
            violations.extend(unknown.map(|advice| Violation::new(&document.path, line, advice)));
        }
    }
    violations
}

/// Lines of the document with the commands on them.
fn commands(document: &File) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let (mut inside, mut console) = (false, false);
    for (at, line) in document.text.lines().enumerate() {
        if let Some(language) = line.strip_prefix("```") {
            inside = !inside;
            console = inside && language == "console";
        } else if let (true, Some(command)) = (console, line.strip_prefix("$ ")) {
            let command = command.split("   #").next().unwrap_or(command);
            found.extend(command.split("&&").map(|part| (at + 1, part)));
        } else if !inside {
            let quoted = line.split('`').skip(1).step_by(2);
            found.extend(quoted.filter(|text| text.starts_with("cargo ")).map(|text| (at + 1, text)));
        }
    }
    found
}

/// What `cargo` is told that does not exist.
fn cargo_misfits(tree: &Tree, words: &[&str]) -> Vec<String> {
    let Some(start) = words.iter().position(|word| *word == "cargo") else { return Vec::new() };
    let words = &words[start + 1..];
    let own = words.iter().position(|word| *word == "--").map_or(words, |end| &words[..end]);
    let mut advice = Vec::new();
    if let ["xtask", task, ..] = own
        && task.chars().all(|c| c.is_ascii_lowercase())
        && !tasks(tree).contains(&(*task).to_owned())
    {
        advice.push(format!("`cargo xtask` has no task `{task}`"));
    }
    for pair in own.windows(2) {
        let kind = match pair[0] {
            "-p" | "--package" => "package",
            "--example" => "example",
            "--bench" => "bench",
            "--bin" => "bin",
            _ => continue,
        };
        let exists = match kind {
            "package" => tree.metadata.members().any(|package| package.name == pair[1]),
            kind => tree.metadata.member_with_target(kind, pair[1]).is_some(),
        };
        if !exists {
            advice.push(format!("there is no {kind} `{}`", pair[1]));
        }
    }
    advice
}

/// The variants of `enum Task`, as clap names those of one word.
fn tasks(tree: &Tree) -> Vec<String> {
    let code = tree.file(TASKS).map_or("", |file| &file.code);
    let Some((_, declared)) = code.split_once("enum Task {") else { return Vec::new() };
    let variants = declared.lines().take_while(|line| !line.starts_with('}'));
    let code = variants.map(str::trim).filter(|line| !line.starts_with("//"));
    let names = code.filter_map(|line| line.split_once(['(', ',']).map(|(name, _)| name.to_lowercase()));
    names.collect()
}

fn absent_scripts(tree: &Tree, document: &File, words: &[&str]) -> Vec<String> {
    let folder = document.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let is_there = |path: &str| tree.file(path).is_some() || tree.file(&format!("{folder}/{path}")).is_some();
    let script = |word: &&&str| matches!(word.rsplit_once('.'), Some((_, "py" | "sh")));
    let scripts = words.iter().filter(script);
    scripts.filter(|path| !is_there(path)).map(|path| format!("there is no {path}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{Metadata, Package, Target};

    fn tree(page: &str) -> Tree {
        let main = "enum Task {\n    /// Checks\n    Tidy(tidy::Options),\n    Ci(ci::Options),\n}\n";
        let mut tree =
            Tree::of(&[("room/PAGE.md", page), (TASKS, main), ("room/make.py", ""), ("a/run.py", "")]);
        let target = Target { name: "show".to_owned(), kind: vec!["example".to_owned()] };
        let package =
            Package { id: "p".to_owned(), name: "p".to_owned(), targets: vec![target], ..Package::default() };
        tree.metadata = Metadata {
            packages: vec![package],
            workspace_members: vec!["p".to_owned()],
            ..Metadata::default()
        };
        tree
    }

    #[test]
    fn commands_that_exist_pass() {
        let page = "Run `cargo xtask tidy` or `cargo xtask TASK`.\n```console\n$ cargo xtask ci && cargo build -p p\n\
            $ A=1 cargo run --release --example show -- --bench x\n$ python make.py a/run.py   # cargo xtask no\n```\n\
            ```rust\n$ cargo xtask never\n```\n";
        assert_eq!(check(&tree(page)), []);
    }

    #[test]
    fn commands_that_do_not_are_found() {
        let page = "Run `cargo xtask tidier`.\n```console\n$ cargo build -p q && cargo run --example hide\n$ python other.py\n```\n";
        let found: Vec<_> = check(&tree(page)).into_iter().map(|v| (v.line, v.advice)).collect();
        let expected = [
            (1, "`cargo xtask` has no task `tidier`"),
            (3, "there is no package `q`"),
            (3, "there is no example `hide`"),
            (4, "there is no other.py"),
        ];
        assert_eq!(found, expected.map(|(line, advice)| (line, advice.to_owned())));
    }
}
