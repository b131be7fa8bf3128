//! Files that the command writes.

use anyhow::{Context, Result};
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

/// Writes a file.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| refusal(path))
}

/// Refuses paths that cannot be written, before there is work to lose.
pub(crate) fn check<'a>(paths: impl IntoIterator<Item = &'a Option<PathBuf>>) -> Result<()> {
    for path in paths.into_iter().flatten() {
        let there = path.exists();
        OpenOptions::new().append(true).create(true).open(path).with_context(|| refusal(path))?;
        if !there {
            // It was made for the question only; what cannot be removed is written later.
            let _ = std::fs::remove_file(path);
        }
    }
    Ok(())
}

fn refusal(path: &Path) -> String {
    format!("`{}` cannot be written", path.display())
}
