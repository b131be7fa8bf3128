//! What holds for every option of every subcommand: that its help says what it does, in which unit, and what it excludes,
//! and that the documentation names no option that there is not.

use crate::arguments::Arguments;
use clap::{Arg, Command, CommandFactory};
use std::collections::BTreeSet;
use std::path::Path;

/// Every option with the subcommand that it belongs to.
fn options() -> Vec<(Command, Arg)> {
    let mut root = Arguments::command();
    root.build();
    let of = |command: &Command| {
        let own: Vec<(Command, Arg)> =
            command.get_arguments().map(|a| (command.clone(), a.clone())).collect();
        own
    };
    let all: Vec<(Command, Arg)> =
        root.get_subcommands().filter(|c| c.get_name() != "help").flat_map(of).collect();
    assert!(all.len() > 80, "{}", all.len());
    all
}

fn help_of(option: &Arg) -> String {
    let help = option.get_long_help().or(option.get_help());
    help.map(ToString::to_string).unwrap_or_default()
}

fn called(command: &Command, option: &Arg) -> String {
    format!("{} {}", command.get_name(), option.get_long().unwrap_or(option.get_id().as_str()))
}

#[test]
fn every_option_says_what_it_does_and_in_which_unit() {
    // What is written for a value, and a word of which the help has at least one.
    let units: &[(&str, &[&str])] = &[
        ("BYTES", &["MiB"]),
        ("TIME", &["ms"]),
        ("S", &["seconds"]),
        ("MS", &["milliseconds"]),
        ("US", &["microseconds"]),
        ("P%", &["per cent"]),
    ];
    let mut met = BTreeSet::new();
    for (command, option) in options() {
        let (name, help) = (called(&command, &option), help_of(&option));
        assert!(!help.is_empty(), "{name} has no help");
        let values = option.get_value_names().unwrap_or_default();
        for (value, words) in units {
            if option.get_action().takes_values() && values.iter().any(|v| v.as_str() == *value) {
                met.insert(*value);
                let lower = help.to_lowercase();
                assert!(words.iter().any(|word| lower.contains(&word.to_lowercase())), "{name}: {help}");
            }
        }
    }
    assert_eq!(met.len(), units.len(), "{met:?}");
}

#[test]
fn options_that_exclude_each_other_say_so() {
    let mut pairs = 0;
    for (command, option) in options() {
        for other in command.get_arg_conflicts_with(&option) {
            let Some((own, other_name)) = option.get_long().zip(other.get_long()) else { continue };
            pairs += 1;
            let told = help_of(&option).contains(&format!("--{other_name}"))
                || help_of(other).contains(&format!("--{own}"));
            assert!(told, "{}: nothing says that it excludes --{other_name}", called(&command, &option));
        }
    }
    assert!(pairs > 10, "{pairs}");
}

/// Options of other commands that the documentation shows.
const FOREIGN: &[&str] = &[
    "bench", "bin", "example", "locked", "model", "open", "path", "peer", "release", "rounds", "test",
    "update",
];

#[test]
fn the_documentation_names_no_option_that_is_not() {
    let known: BTreeSet<String> =
        options().iter().filter_map(|(_, option)| option.get_long().map(str::to_owned)).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = vec![root.join("README.md"), root.join("scheduler/README.md")];
    files.extend(
        ["docs/fusion.md", "docs/gpu.md", "docs/json.md", "docs/operators.md"].map(|file| root.join(file)),
    );
    let mut seen = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).expect("documentation");
        for (at, _) in text.match_indices("--") {
            let before = text[..at].chars().next_back().unwrap_or(' ');
            let name: String =
                text[at + 2..].chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
            let name = name.trim_end_matches('-');
            if name.is_empty() || !matches!(before, ' ' | '`' | '(' | '\n' | '[') {
                continue;
            }
            seen += 1;
            assert!(known.contains(name) || FOREIGN.contains(&name), "{}: --{name}", file.display());
        }
    }
    assert!(seen > 40, "{seen}");
}
