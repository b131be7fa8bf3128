//! `cargo xtask gpu`: everything that is to be seen on a GPU as a folder that runs on another machine: release binaries of
//! suites and measurements, and a `run.sh` that needs an NVIDIA driver and nothing else.
//!
//! The binaries hold the PTX modules, open the driver when they run, and draw all weights from seeds. Written is
//! `target/gpu-bundle`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process;
use crate::workspace::Workspace;

const FOLDER: &str = "target/gpu-bundle";
/// Most bytes of the folder, so that it is quickly sent.
const LIMIT: u64 = 40_000_000;
/// The newest version of glibc that a binary may ask for: Debian 12's.
const GLIBC: (u32, u32) = (2, 36);
/// Binaries and their packages.
const BINARIES: [(&str, &str); 3] =
    [("recurve-tests", "gpu-suites"), ("recurve-benches", "gpu-benches"), ("recurve-benches", "gpu-run")];
/// What lies beside them, from the workspace's root.
const FILES: [&str; 2] = ["benches/gpu/run.sh", "benches/gpu/peers.py"];

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let root = &workspace.root;
    let folder = root.join(FOLDER);
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    // In one call, so that what they share is built once.
    let mut cargo = process::cargo(root);
    cargo.args(["build", "--release"]);
    for (package, binary) in BINARIES {
        cargo.args(["--package", package, "--bin", binary]);
    }
    process::run(&mut cargo)?;
    for (_, binary) in BINARIES {
        // The folder is sent over networks; symbols stay with whoever built it.
        let built = target(workspace).join("release").join(binary);
        process::run(Command::new("strip").arg("-o").arg(folder.join(binary)).arg(built))?;
    }
    for file in FILES {
        copy(&root.join(file), &folder)?;
    }
    let bytes = checked(&folder)?;
    println!("gpu: {FOLDER} has {:.1} MB; on the other machine: run.sh FOLDER", bytes as f64 / 1e6);
    Ok(())
}

/// Where cargo builds.
fn target(workspace: &Workspace) -> std::path::PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace.root.join("target"), |folder| workspace.root.join(folder))
}

fn copy(file: &Path, folder: &Path) -> Result<()> {
    let name = file.file_name().context("a file has a name")?;
    std::fs::copy(file, folder.join(name)).with_context(|| format!("cannot copy {}", file.display()))?;
    Ok(())
}

/// The bytes of the folder, which are few enough, and whose binaries ask for no newer glibc.
fn checked(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in folder.read_dir()? {
        let path = entry?.path();
        let content = std::fs::read(&path)?;
        bytes += content.len() as u64;
        if let Some((major, minor)) = glibc(&content).filter(|&found| found > GLIBC) {
            let name = path.display();
            anyhow::bail!("{name} asks for glibc {major}.{minor}, newer than {}.{}", GLIBC.0, GLIBC.1);
        }
    }
    ensure!(bytes <= LIMIT, "{FOLDER} has {bytes} bytes, more than {LIMIT}");
    Ok(bytes)
}

/// The newest version of glibc that a binary names.
fn glibc(binary: &[u8]) -> Option<(u32, u32)> {
    const NAME: &[u8] = b"GLIBC_";
    let starts = binary.windows(NAME.len()).enumerate().filter(|(_, window)| *window == NAME);
    let versions = starts.filter_map(|(at, _)| {
        let rest = &binary[at + NAME.len()..];
        let length = rest.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.')?;
        let text = std::str::from_utf8(&rest[..length]).ok()?;
        let mut numbers = text.split('.').map(str::parse::<u32>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    });
    versions.max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_glibc_is_found() {
        assert_eq!(glibc(b"\0GLIBC_2.2.5\0x\0GLIBC_2.34\0GLIBC_2.9\0GLIBC_PRIVATE\0"), Some((2, 34)));
        assert_eq!(glibc(b"nothing"), None);
    }

    #[test]
    fn a_folder_that_is_too_large_or_too_new_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("a"), b"\0GLIBC_2.36\0").expect("written");
        assert_eq!(checked(folder.path()).expect("small and old"), 12);
        let new = folder.path().join("b");
        std::fs::write(&new, b"\0GLIBC_2.38\0").expect("written");
        assert!(checked(folder.path()).expect_err("too new").to_string().contains("glibc 2.38"));
        std::fs::write(&new, vec![0; LIMIT as usize]).expect("written");
        assert!(checked(folder.path()).expect_err("too large").to_string().contains("more than"));
    }
}
