//! Files that the command reads as text, and those that it writes.

use anyhow::{Context, Result};
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

/// The text of a file.
pub(crate) fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))
}

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
    format!("cannot write `{}`", path.display())
}

/// FNV-1a over the file, eight bytes at a time.
pub(crate) fn hash_of(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let words = bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    });
    let hash = words.fold(0xcbf2_9ce4_8422_2325u64, |hash, word| (hash ^ word).wrapping_mul(0x100_0000_01b3));
    Ok(format!("{hash:016x}-{}", bytes.len()))
}
