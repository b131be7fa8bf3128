//! The hash of what the modules are compiled from: the code of the files, without comments and tests, and the flags.

use std::path::Path;

use anyhow::{Context, Result};

use crate::tidy::rust_text;

/// Hash of the code in `files`, paths from `root`, and of `flags`. Lines that are comments or tests do not count:
/// the device code does not change with them.
pub(super) fn hash(root: &Path, files: &[String], flags: &str) -> Result<String> {
    let mut hash = Fnv::default();
    hash.write(flags);
    for file in files {
        let path = root.join(file);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {} (gone since ptx/ was built?)", path.display()))?;
        hash.write(file);
        for line in code_lines(&text) {
            hash.write(line);
        }
    }
    Ok(hash.text())
}

/// Hash of one text.
pub(super) fn text_hash(text: &str) -> String {
    let mut hash = Fnv::default();
    hash.write(text);
    hash.text()
}

fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    let tests = rust_text::test_items(&rust_text::code(text));
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    lines
        .filter(move |&(number, line)| {
            let test = tests.iter().any(|range| range.contains(number));
            !test && !line.is_empty() && !line.starts_with("//")
        })
        .map(|(_, line)| line)
}

/// FNV-1a over 128 bits: stable over platforms and releases. It guards against forgetting, not against forging.
struct Fnv(u128);

impl Default for Fnv {
    fn default() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }
}

impl Fnv {
    fn write(&mut self, text: &str) {
        for &byte in text.as_bytes().iter().chain(b"\n") {
            self.0 = (self.0 ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }

    fn text(&self) -> String {
        format!("{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_tests_do_not_count_and_code_and_flags_do() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.rs");
        let files = ["a.rs".to_owned()];
        let hash_of = |text: &str, flags: &str| {
            std::fs::write(&path, text).expect("a file");
            hash(folder.path(), &files, flags).expect("a hash")
        };
        let plain = hash_of("fn f() {}\n", "-O");
        assert_eq!(hash_of("//! A.\nfn f() {}\n#[cfg(test)]\nmod tests {\n    fn t() {}\n}\n", "-O"), plain);
        assert_ne!(hash_of("fn f() { g() }\n", "-O"), plain);
        assert_ne!(hash_of("fn f() {}\n", "-O3"), plain);
        std::fs::remove_file(&path).expect("the file is there");
        assert!(hash(folder.path(), &files, "-O").is_err());
    }

    #[test]
    fn the_hash_is_fnv_1a() {
        // One byte, the line feed that ends a text: (offset ^ 0x0a) * prime.
        let offset = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128;
        let expected = (offset ^ 0x0a).wrapping_mul((1 << 88) + 0x13b);
        assert_eq!(text_hash(""), format!("{expected:032x}"));
    }
}
