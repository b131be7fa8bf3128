//! Tests of the command as its users run it: arguments in, streams and exit code out.

mod arrays;
mod bench;
mod check;
mod documents;
mod failures;
mod inspect;
mod lists;
mod placement;
mod plan;
mod precision;
mod readme;
mod run;

use recurve_cli::Exit;
use serde_json::Value as Json;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What one run of the command left behind.
struct Ended {
    code: i32,
    out: String,
    err: String,
}

/// Runs the command.
fn recurve(arguments: &[&str]) -> Ended {
    recurve_in(Path::new("."), arguments)
}

/// Runs the command in a folder.
fn recurve_in(folder: &Path, arguments: &[&str]) -> Ended {
    // What is measured is kept apart from the user's.
    recurve_with_cache(Path::new(env!("CARGO_TARGET_TMPDIR")), folder, arguments)
}

/// Runs the command in a folder, with a user's cache of its own.
fn recurve_with_cache(cache: &Path, folder: &Path, arguments: &[&str]) -> Ended {
    let output = Command::new(env!("CARGO_BIN_EXE_recurve"))
        .current_dir(folder)
        .args(arguments)
        .env_remove("NO_COLOR")
        .env("XDG_CACHE_HOME", cache)
        .output()
        .expect("the command starts");
    let text = |bytes| String::from_utf8(bytes).expect("the command writes UTF-8");
    Ended {
        code: output.status.code().expect("the command is not killed"),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

impl Ended {
    /// Panics with both streams unless the command ended so.
    #[track_caller]
    fn with(self, exit: Exit) -> Self {
        assert_eq!(self.code, exit as i32, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// Stdout as one document.
    #[track_caller]
    fn document(&self) -> Json {
        let document: Json = serde_json::from_str(&self.out).expect("stdout is one JSON document");
        assert_eq!(document["version"], 1);
        document
    }

    #[track_caller]
    fn says(&self, text: &str) {
        assert!(self.err.contains(text), "`{text}` is not in stderr:\n{}", self.err);
    }

    #[track_caller]
    fn prints(&self, text: &str) {
        assert!(self.out.contains(text), "`{text}` is not in stdout:\n{}", self.out);
    }
}

/// A file that `tests/data/make.py` wrote.
fn data(file: &str) -> String {
    text(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(file))
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path of text").to_owned()
}

/// A folder for one test, and a file in it that does not exist yet.
fn scratch(file: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(file);
    (folder, path)
}
