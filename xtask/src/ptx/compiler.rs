//! A compiler that makes nvptx64 code: found, or fetched and unpacked, never installed.
//!
//! In this order: the one that `RECURVE_NVPTX_RUSTC` names, rustup's nightly where it has the component `rust-src`,
//! Debian's `rustc-web` under `target/nvptx`. The ordinary cargo drives each of them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::targets::Target;
use crate::process;

const VARIABLE: &str = "RECURVE_NVPTX_RUSTC";
const TRIPLE: &str = "nvptx64-nvidia-cuda";
/// Where the sources of `core` lie below a compiler's root.
const CORE: &str = "lib/rustlib/src/rust/library/core/src/lib.rs";

/// A rustc whose root has the sources of `core`.
#[derive(Debug)]
pub(super) struct Compiler {
    rustc: PathBuf,
    /// Where its shared libraries lie, when that is not where the system looks.
    libraries: Option<PathBuf>,
    pub(super) version: String,
}

/// The compiler's output for one target.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) text: String,
    /// The files of the workspace that it was made from.
    pub(super) files: Vec<String>,
}

impl Compiler {
    /// A compiler that is there already.
    pub(super) fn find(tools: &Path) -> Result<Option<Self>> {
        if let Some(named) = std::env::var_os(VARIABLE) {
            let found = Self::new(PathBuf::from(&named), None);
            return found.map(Some).with_context(|| format!("{VARIABLE} names {}", named.display()));
        }
        let nightly = Command::new("rustup").args(["which", "--toolchain", "nightly", "rustc"]).output();
        if let Some(path) = nightly.ok().filter(|output| output.status.success()) {
            let path = PathBuf::from(String::from_utf8_lossy(&path.stdout).trim());
            if let Ok(compiler) = Self::new(path, None) {
                return Ok(Some(compiler));
            }
        }
        let root = tools.join("root");
        let rustc = root.join("usr/bin/rustc");
        if rustc.is_file() {
            return Self::new(rustc, Some(root.join("usr/lib/x86_64-linux-gnu"))).map(Some);
        }
        Ok(None)
    }

    /// A compiler that is there, or Debian's, unpacked under `tools`.
    pub(super) fn find_or_fetch(tools: &Path) -> Result<Self> {
        if let Some(compiler) = Self::find(tools)? {
            return Ok(compiler);
        }
        fetch(tools).with_context(|| {
            format!(
                "no compiler for {TRIPLE}: `rustup component add rust-src --toolchain nightly` gives one, \
                 or name one in {VARIABLE}"
            )
        })?;
        Self::find(tools)?.context("Debian's rustc-web has no rustc")
    }

    fn new(rustc: PathBuf, libraries: Option<PathBuf>) -> Result<Self> {
        let ask = |arguments: &[&str]| -> Result<String> {
            let mut command = Command::new(&rustc);
            if let Some(folder) = &libraries {
                command.env("LD_LIBRARY_PATH", folder);
            }
            let output = command.args(arguments).output();
            let output = output.with_context(|| format!("cannot start {}", rustc.display()))?;
            ensure!(output.status.success(), "{} fails: {}", rustc.display(), output.status);
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let root = ask(&["--print", "sysroot"])?;
        ensure!(Path::new(&root).join(CORE).is_file(), "{root} has no sources of `core`");
        let verbose = ask(&["-vV"])?;
        let line = verbose.lines().next().unwrap_or_default().to_owned();
        let llvm = verbose.lines().find(|line| line.starts_with("LLVM")).unwrap_or_default().to_owned();
        Ok(Self { version: format!("{line}, {llvm}"), rustc, libraries })
    }

    /// Compiles the `kernels` room for one target.
    pub(super) fn compile(&self, root: &Path, tools: &Path, target: &Target) -> Result<Compiled> {
        let folder = tools.join("build").join(target.name);
        let mut cargo = process::cargo(root);
        cargo
            .args(["rustc", "--quiet", "--package", "recurve-kernels", "--lib", "--crate-type", "cdylib"])
            .args(["--release", "--target", TRIPLE, "-Zbuild-std=core", "--target-dir"])
            .arg(&folder)
            .args(["--", "--emit=asm,dep-info"])
            .env("RUSTC", &self.rustc)
            // Unstable flags and features: this target has no stable ones.
            .env("RUSTC_BOOTSTRAP", "1")
            // Link-time optimisation leaves one complete module; there is nothing to link.
            .env("CARGO_TARGET_NVPTX64_NVIDIA_CUDA_LINKER", "/bin/true")
            .env("CARGO_ENCODED_RUSTFLAGS", target.flags().join("\u{1f}"))
            .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
            .env("CARGO_PROFILE_RELEASE_LTO", "fat")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
            .env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "false")
            .env("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "false")
            .env_remove("RUSTUP_TOOLCHAIN")
            .env_remove("RUSTC_WRAPPER");
        if let Some(libraries) = &self.libraries {
            cargo.env("LD_LIBRARY_PATH", libraries);
        }
        process::run(&mut cargo)?;
        let outputs = folder.join(TRIPLE).join("release").join("deps");
        let read = |extension: &str| {
            let path = outputs.join(format!("recurve_kernels.{extension}"));
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        Ok(Compiled { text: read("s")?, files: dependencies(&read("d")?, root) })
    }
}

/// The sources that a dep-info file names, as paths from the workspace's root.
fn dependencies(info: &str, root: &Path) -> Vec<String> {
    let line = info.lines().find(|line| line.contains(": ")).unwrap_or_default();
    let files = line.split_once(": ").map_or("", |(_, files)| files).split_whitespace();
    let relative = files.map(|file| Path::new(file).strip_prefix(root).unwrap_or(Path::new(file)));
    relative.map(|file| file.to_string_lossy().into_owned()).collect()
}

/// Downloads and unpacks Debian's `rustc-web` with the libraries that its version needs.
fn fetch(tools: &Path) -> Result<()> {
    let downloads = tools.join("debs");
    std::fs::create_dir_all(&downloads)?;
    let mut packages = vec!["rustc-web".to_owned(), "rust-web-src".to_owned()];
    // rustc-web needs libstd-rust-web-dev, that libstd-rust-web-VERSION, and that the LLVM it was built with.
    let mut at = 0;
    while at < packages.len() {
        let needed = debian_dependencies(&packages[at])?;
        let ours = |name: &String| name.starts_with("libstd-rust-web") || name.starts_with("libllvm");
        let fresh: Vec<String> =
            needed.into_iter().filter(|name| ours(name) && !packages.contains(name)).collect();
        packages.extend(fresh);
        at += 1;
    }
    let mut download = Command::new("apt-get");
    download.arg("download").args(&packages).current_dir(&downloads);
    process::run(&mut download).context("is the list of packages current (`apt-get update`)?")?;
    let unpacked = tools.join("unpacked");
    for entry in downloads.read_dir()? {
        process::run(Command::new("dpkg").arg("-x").arg(entry?.path()).arg(&unpacked))?;
    }
    // Renamed last, so that an interrupted fetch does not count.
    std::fs::rename(&unpacked, tools.join("root"))?;
    Ok(())
}

fn debian_dependencies(package: &str) -> Result<Vec<String>> {
    let output = Command::new("apt-cache").args(["depends", "--important", package]).output();
    let output = output.context("cannot start apt-cache: this is not Debian")?;
    if !output.status.success() {
        bail!("Debian's package lists have no {package} (`apt-get update`?)");
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().filter_map(|line| line.trim().strip_prefix("Depends: ")).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_paths_from_the_root() {
        let info = "/w/target/deps/k.d: kernels/src/lib.rs /w/kernels/src/a.rs\n\nkernels/src/lib.rs:\n";
        assert_eq!(dependencies(info, Path::new("/w")), ["kernels/src/lib.rs", "kernels/src/a.rs"]);
    }
}
