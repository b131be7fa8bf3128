//! Rule: a kernel file has its parts, in their order.
//!
//! A file with `entry!` opens with what a launch takes: the grid, its blocks of threads, and shared memory. Parameters stand
//! above the entries, and a `Params` that is declared as C lays it out has its size asserted, so that host and device
//! cannot differ on it unseen.

use super::rust_text::{has_word, line_of};
use super::tree::{File, Tree};
use super::{Rule, Violation};

pub(super) const RULE: Rule = Rule {
    name: "kernel-parts",
    reason: "Host and device agree on a launch by what the kernel's file says, in the place where readers look for it.",
    check,
};

const ROOM: &str = "kernels/src/";
/// What declares no kernels: the library that they are written over, and their cases.
const OTHERS: [&str; 4] =
    ["kernels/src/device/", "kernels/src/emulator/", "kernels/src/launch/", "kernels/src/cases/"];
/// What the header of a file with entries names, in any of these words.
const HEADER: [(&str, &[&str]); 3] =
    [("the grid", &["grid"]), ("its blocks", &["block", "thread", "warp"]), ("shared memory", &["shared"])];
const PARAMS: &str = "struct Params";

fn check(tree: &Tree) -> Vec<Violation> {
    let kernels =
        |file: &&File| file.path.starts_with(ROOM) && !OTHERS.iter().any(|of| file.path.starts_with(of));
    let mut violations = Vec::new();
    for file in tree.rust_files().filter(kernels) {
        let code = &file.code;
        let declared = code.find(PARAMS);
        if let Some(at) = declared
            && code[..at].trim_end().ends_with("pub")
            && !code.contains("assert!(size_of::<Params")
        {
            let advice = "assert the size of `Params` in a `const`, below it";
            violations.push(Violation::new(&file.path, line_of(code, at), advice));
        }
        let Some(entry) = code.find("\nentry!(").map(|at| at + 1) else { continue };
        let line = line_of(code, entry);
        if let Some(taken) = parameters(&code[entry..]).filter(|name| !has_word(&code[..entry], name)) {
            let advice = format!("an entry above its parameters: declare or import `{taken}` first");
            violations.push(Violation::new(&file.path, line, advice));
        }
        let header = file.text.lines().take_while(|line| line.starts_with("//!"));
        let header = header.collect::<Vec<_>>().join("\n").to_lowercase();
        for (what, words) in HEADER {
            if !words.iter().any(|word| header.contains(word)) {
                violations.push(Violation::new(&file.path, 1, format!("say in the header what {what} is")));
            }
        }
    }
    violations
}

/// The type of what an entry takes: `entry!(NAME = symbol(Params): …`.
fn parameters(entry: &str) -> Option<&str> {
    let (_, rest) = entry.split_once('=')?;
    let (_, rest) = rest.split_once('(')?;
    rest.split([')', '<']).next().map(|name| name.rsplit("::").next().unwrap_or(name).trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "//! Doubles. Grid: one thread an element, 256 a block; no shared memory.\n";
    const PARTS: &str =
        "#[repr(C)]\npub struct Params { x: u64 }\nconst _: () = assert!(size_of::<Params>() == 8);\n";
    const ENTRY: &str = "entry!(\n    DOUBLE = double(Params): run, 256\n);\n";

    fn found(path: &str, text: &str) -> Vec<usize> {
        check(&Tree::of(&[(path, text)])).into_iter().map(|violation| violation.line).collect()
    }

    #[test]
    fn a_kernel_with_its_parts_passes() {
        assert_eq!(found("kernels/src/double.rs", &format!("{HEAD}{PARTS}{ENTRY}")), [0; 0]);
        assert_eq!(found("kernels/src/double.rs", &format!("{HEAD}use super::Params;\n{ENTRY}")), [0; 0]);
        assert_eq!(found("kernels/src/cases/double.rs", &format!("//! X.\n{ENTRY}")), [0; 0]);
    }

    #[test]
    fn what_lacks_a_part_is_found() {
        let unsized_parts = PARTS.split("const").next().expect("the struct");
        assert_eq!(found("kernels/src/double.rs", &format!("{HEAD}{unsized_parts}{ENTRY}")), [3]);
        assert_eq!(found("kernels/src/double.rs", &format!("{HEAD}{ENTRY}{PARTS}")), [2]);
        assert_eq!(
            found("kernels/src/double.rs", &format!("//! Doubles on a grid.\n{PARTS}{ENTRY}")),
            [1, 1]
        );
    }
}
