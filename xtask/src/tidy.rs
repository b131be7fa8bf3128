//! `cargo xtask tidy`: the rules of the house style that no lint checks, one file per rule.
//!
//! A rule is a pure function from the checkout's files and packages to violations, so that each is tested
//! with a planted one. To add a rule: write its file with a `RULE`, and add it to [`RULES`].

mod algorithm_words;
mod documented_commands;
mod documented_diff;
mod documented_program;
mod entry_examples;
mod environment_table;
mod facade;
mod file_ceiling;
mod file_names;
mod ignored_tests;
mod kernel_memory;
mod kernel_parts;
mod library_rooms;
mod licences;
mod line_width;
mod machine_paths;
mod macro_size;
mod module_header;
mod operator_table;
mod printing;
mod room_order;
pub(crate) mod rust_text;
mod spdx;
mod tree;
mod unfinished;
mod unsafe_files;

use std::fmt::{self, Display, Formatter};

use anyhow::{Result, bail};

use crate::workspace::Workspace;
use tree::Tree;

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Print the rules with their reasons and check nothing
    #[arg(long)]
    list: bool,
}

/// One rule of the house style.
struct Rule {
    name: &'static str,
    /// Why the rule exists, in one sentence.
    reason: &'static str,
    check: fn(&Tree) -> Vec<Violation>,
}

/// A place that breaks a rule, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Violation {
    /// Relative to the checkout's root, with `/`.
    path: String,
    /// Counted from 1.
    line: usize,
    advice: String,
}

/// Every rule, in the order of its file's name.
const RULES: &[Rule] = &[
    algorithm_words::RULE,
    documented_commands::RULE,
    documented_diff::RULE,
    documented_program::RULE,
    entry_examples::RULE,
    environment_table::RULE,
    facade::RULE,
    file_ceiling::RULE,
    file_names::RULE,
    ignored_tests::RULE,
    kernel_memory::RULE,
    kernel_parts::RULE,
    library_rooms::RULE,
    licences::RULE,
    line_width::RULE,
    machine_paths::RULE,
    macro_size::RULE,
    module_header::RULE,
    operator_table::RULE,
    printing::RULE,
    room_order::RULE,
    unfinished::RULE,
    unsafe_files::RULE,
];

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    if options.list {
        for rule in RULES {
            println!("{}: {}", rule.name, rule.reason);
        }
        return Ok(());
    }
    let tree = Tree::read(workspace)?;
    let mut count = 0;
    for rule in RULES {
        let mut violations = (rule.check)(&tree);
        violations.sort();
        for Violation { path, line, advice } in &violations {
            println!("{path}:{line}: {}: {advice}", rule.name);
        }
        if !violations.is_empty() {
            println!("    reason: {}", rule.reason);
        }
        count += violations.len();
    }
    if count > 0 {
        bail!("tidy found {count} violations");
    }
    println!("tidy: {} rules hold in {} files", RULES.len(), tree.files().len());
    Ok(())
}

impl Violation {
    fn new(path: &str, line: usize, advice: impl Display) -> Self {
        Self { path: path.to_owned(), line, advice: advice.to_string() }
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_listed_by_name_and_have_one_sentence_each() {
        assert!(RULES.is_sorted_by_key(|rule| rule.name));
        for rule in RULES {
            assert!(rule.reason.ends_with('.'), "{}", rule.name);
            assert!(!rule.reason.contains(". "), "{}", rule.name);
        }
    }

    /// Every rule has its file and every file of `tidy/` is a rule or one of the three they share.
    #[test]
    fn each_rule_has_its_file() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tidy");
        let entries = std::fs::read_dir(folder).expect("the rules' folder");
        let mut found: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().replace(".rs", ""))
            .filter(|stem| !["rust_text", "spdx", "tree"].contains(&stem.as_str()))
            .collect();
        found.sort();
        let names: Vec<String> = RULES.iter().map(|rule| rule.name.replace('-', "_")).collect();
        assert_eq!(names, found);
    }
}
