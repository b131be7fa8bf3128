//! Rule: kernels reach memory through the device library alone.

use super::rust_text::has_word;
use super::tree::{File, Tree};
use super::{Rule, Violation};

pub(super) const RULE: Rule = Rule {
    name: "kernel-memory",
    reason: "The emulator checks what goes through `Global`, `Shared` and `Distributed`, and sees nothing else.",
    check,
};

const ROOM: &str = "kernels/src/";
/// What implements the accessors, and what hands parameters to a driver.
const BELOW: [&str; 3] = ["kernels/src/device/", "kernels/src/emulator/", "kernels/src/launch/"];
const POINTERS: [&str; 2] = ["*mut ", "*const "];
const WORDS: [&str; 9] = [
    "read_volatile",
    "write_volatile",
    "get_unchecked",
    "get_unchecked_mut",
    "read_unaligned",
    "write_unaligned",
    "from_raw_parts",
    "transmute",
    "asm",
];

fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    let above = |file: &&File| file.path.starts_with(ROOM) && !BELOW.iter().any(|b| file.path.starts_with(b));
    for file in tree.rust_files().filter(above) {
        for (line, code) in file.code_lines() {
            let pointer = POINTERS.into_iter().find(|pointer| code.contains(pointer)).map(str::trim_end);
            let word = WORDS.into_iter().find(|word| has_word(code, word));
            let global = (has_word(code, "static") && has_word(code, "mut")).then_some("static mut");
            if let Some(found) = pointer.or(word).or(global) {
                let advice = format!("`{found}` in a kernel: go through `Global`, `Shared` or `Distributed`");
                violations.push(Violation::new(&file.path, line, advice));
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&Tree::of(&[(path, text)])).into_iter().map(|violation| violation.line).collect()
    }

    #[test]
    fn pointers_and_what_reads_through_them_are_found_in_kernels() {
        let text = "fn f(x: *const f32) {\n    x.read_volatile();\n    y.get_unchecked(3);\n}\nstatic mut Z: u32 = 0;\n";
        assert_eq!(lines("kernels/src/copy.rs", text), [1, 2, 3, 5]);
        assert_eq!(lines("kernels/src/map/mod.rs", "asm!(\"\");\n"), [1]);
    }

    #[test]
    fn the_library_and_ordinary_arithmetic_are_not() {
        for below in BELOW {
            assert_eq!(lines(&format!("{below}memory.rs"), "fn f(x: *mut u8) {}\n"), [0; 0]);
        }
        assert_eq!(lines("runtime/src/x.rs", "fn f(x: *mut u8) {}\n"), [0; 0]);
        assert_eq!(
            lines("kernels/src/x.rs", "// *mut f32\nlet z = x.load(3) * y;\nstatic A: u32 = 1;\n"),
            [0; 0]
        );
    }
}
