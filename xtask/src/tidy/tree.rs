//! The files of a checkout that the rules read, and what cargo says of its packages.

use std::path::Path;

use anyhow::{Context, Result};

use super::rust_text::{self, LineRange};
use crate::workspace::{Metadata, Workspace};

/// Every text file of the checkout, by path, and the packages.
#[derive(Debug, Default)]
pub(super) struct Tree {
    files: Vec<File>,
    pub(super) metadata: Metadata,
}

/// One text file.
#[derive(Debug)]
pub(super) struct File {
    /// Relative to the checkout's root, with `/`.
    pub(super) path: String,
    pub(super) text: String,
    /// The text with comments and the insides of literals blanked out, line for line and byte for byte.
    /// For files that are not Rust, the text itself.
    pub(super) code: String,
    /// The items under `#[cfg(test)]`.
    test_items: Vec<LineRange>,
}

/// Folders that hold no source: build outputs and caches. Hidden ones are skipped but for these two.
const SKIPPED: [&str; 2] = ["target", "__pycache__"];
const HIDDEN_BUT_OURS: [&str; 2] = [".ci", ".cargo"];
/// What the rules read: by extension, or by having none (scripts).
const EXTENSIONS: [&str; 6] = ["rs", "py", "sh", "toml", "md", ""];

impl Tree {
    pub(super) fn read(workspace: &Workspace) -> Result<Self> {
        let mut tree = Self { files: Vec::new(), metadata: Metadata::default() };
        tree.read_folder(&workspace.root, "")?;
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        tree.metadata = workspace.metadata.clone();
        Ok(tree)
    }

    fn read_folder(&mut self, folder: &Path, prefix: &str) -> Result<()> {
        let entries = folder.read_dir().with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = format!("{prefix}{name}");
            let kind = entry.file_type()?;
            let hidden = name.starts_with('.') && !HIDDEN_BUT_OURS.contains(&name.as_str());
            if hidden || SKIPPED.contains(&name.as_str()) {
                continue;
            }
            if kind.is_dir() {
                self.read_folder(&entry.path(), &format!("{path}/"))?;
            } else if kind.is_file() && EXTENSIONS.contains(&extension(&path)) {
                // A file without extension may be data; only text is a source.
                if let Ok(text) = std::fs::read_to_string(entry.path()) {
                    self.files.push(File::new(path, text));
                }
            }
        }
        Ok(())
    }

    pub(super) fn files(&self) -> &[File] {
        &self.files
    }

    pub(super) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    pub(super) fn rust_files(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.is_rust())
    }

    /// A tree of these paths and texts, for the tests of the rules.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|&(path, text)| File::new(path.to_owned(), text.to_owned()));
        Self { files: files.collect(), metadata: Metadata::default() }
    }
}

impl File {
    fn new(path: String, text: String) -> Self {
        let rust = extension(&path) == "rs";
        let code = if rust { rust_text::code(&text) } else { text.clone() };
        let test_items = if rust { rust_text::test_items(&code) } else { Vec::new() };
        Self { path, text, code, test_items }
    }

    pub(super) fn is_rust(&self) -> bool {
        self.extension() == "rs"
    }

    /// What stands behind the last point of the file's name; empty where there is none.
    pub(super) fn extension(&self) -> &str {
        extension(&self.path)
    }

    /// The file's name without its extension.
    pub(super) fn stem(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or(&self.path);
        name.rsplit_once('.').map_or(name, |(stem, _)| stem)
    }

    /// The first folder of the path: the room.
    pub(super) fn room(&self) -> &str {
        self.path.split_once('/').map_or("", |(room, _)| room)
    }

    /// Whether the file is tests from end to end: it lies under a `tests` folder, or is a `tests` module.
    pub(super) fn is_test(&self) -> bool {
        self.stem() == "tests"
            || self.stem().ends_with("_tests")
            || self.path.split('/').any(|part| part == "tests")
    }

    /// Whether this line, counted from 1, belongs to tests.
    pub(super) fn line_is_test(&self, line: usize) -> bool {
        self.is_test() || self.test_items.iter().any(|range| range.contains(line))
    }

    /// The lines of [`Self::code`], counted from 1.
    pub(super) fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// The lines of the text, counted from 1.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

fn extension(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit_once('.').map_or("", |(_, extension)| extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkout_is_read_without_its_build_outputs() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for path in ["a/src/lib.rs", "target/x.rs", ".git/x.rs", ".ci/run", "a/data.onnx", "README.md"] {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, "//! Text.\n").expect("a file");
        }
        let workspace = Workspace { root: folder.path().to_owned(), metadata: Metadata::default() };
        let tree = Tree::read(&workspace).expect("a readable checkout");
        let paths: Vec<&str> = tree.files().iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, [".ci/run", "README.md", "a/src/lib.rs"]);
    }

    #[test]
    fn test_lines_are_those_of_test_items_and_test_folders() {
        let tree = Tree::of(&[
            ("a/src/x.rs", "//! X.\nfn f() {}\n#[cfg(test)]\nmod tests {\n}\nfn g() {}\n"),
            ("tests/src/y.rs", "//! Y.\n"),
            ("a/src/x/tests.rs", "//! Z.\n"),
        ]);
        let file = &tree.files()[0];
        let test: Vec<usize> = (1..=6).filter(|&line| file.line_is_test(line)).collect();
        assert_eq!(test, [3, 4, 5]);
        assert!(tree.files()[1].is_test() && tree.files()[2].is_test());
    }
}
