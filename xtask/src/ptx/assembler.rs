//! The assemblers of two CUDA generations, and the disassembler: what a module costs, seen without a GPU.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use recurve_ptx::Usage;

use crate::process;

/// A tool of a PyPI package: `PACKAGE==VERSION`, and its path inside the wheel.
struct Wheel {
    package: &'static str,
    version: &'static str,
    tool: &'static str,
}

const PTXAS: [Wheel; 2] = [
    Wheel { package: "nvidia-cuda-nvcc-cu12", version: "12.9.86", tool: "nvidia/cuda_nvcc/bin/ptxas" },
    Wheel { package: "nvidia-cuda-nvcc", version: "13.5.37", tool: "nvidia/cu13/bin/ptxas" },
];
const NVDISASM: Wheel =
    Wheel { package: "nvidia-cuda-nvdisasm", version: "13.5.37", tool: "nvidia/cu13/bin/nvdisasm" };

impl Wheel {
    fn path(&self, tools: &Path) -> PathBuf {
        tools.join("wheels").join(format!("{}-{}", self.package, self.version)).join(self.tool)
    }

    /// The tool, downloaded and unpacked where it is not there yet.
    fn fetch(&self, tools: &Path, python: &str) -> Result<PathBuf> {
        let path = self.path(tools);
        if path.is_file() {
            return Ok(path);
        }
        let wheels = tools.join("wheels");
        let downloads = wheels.join("downloads");
        let pinned = format!("{}=={}", self.package, self.version);
        let mut pip = Command::new(python);
        pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest"]);
        process::run(pip.arg(&downloads).arg(&pinned))?;
        let prefix = format!("{}-{}-", self.package.replace('-', "_"), self.version);
        let wheel = downloads.read_dir()?.filter_map(Result::ok).map(|entry| entry.path());
        let wheel = wheel.into_iter().find(|path| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&prefix))
        });
        let wheel = wheel.with_context(|| format!("pip downloaded no wheel of {pinned}"))?;
        let folder = wheels.join(format!("{}-{}", self.package, self.version));
        process::run(Command::new(python).args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&folder))?;
        // Python's zipfile does not keep the permission to run.
        process::run(Command::new("chmod").arg("+x").arg(&path))?;
        Ok(path)
    }
}

/// One assembler.
#[derive(Debug)]
pub(super) struct Assembler {
    path: PathBuf,
    pub(super) version: &'static str,
}

/// One assembler of each CUDA generation, ascending.
#[derive(Debug)]
pub(super) struct Assemblers(Vec<Assembler>);

impl Assemblers {
    /// The assemblers, if all are there already.
    pub(super) fn find(tools: &Path) -> Result<Option<Self>> {
        let found = PTXAS.iter().map(|wheel| (wheel.path(tools), wheel.version));
        let found: Vec<Assembler> = found.map(|(path, version)| Assembler { path, version }).collect();
        let all = found.iter().all(|assembler| assembler.path.is_file());
        Ok(all.then_some(Self(found)))
    }

    pub(super) fn find_or_fetch(tools: &Path, python: &str) -> Result<Self> {
        for wheel in &PTXAS {
            wheel.fetch(tools, python)?;
        }
        Self::find(tools)?.context("the wheels hold no assembler")
    }

    pub(super) fn each(&self) -> impl Iterator<Item = &Assembler> {
        self.0.iter()
    }

    pub(super) fn versions(&self) -> Vec<String> {
        self.0.iter().map(|assembler| assembler.version.to_owned()).collect()
    }
}

impl Assembler {
    /// Assembles `source` into `image` and says what each entry takes.
    pub(super) fn assemble(
        &self,
        source: &Path,
        image: &Path,
        target: &str,
    ) -> Result<BTreeMap<String, Usage>> {
        let mut command = Command::new(&self.path);
        command.arg(format!("-arch={target}")).args(["-v", "-o"]).arg(image).arg(source);
        let output = command.output().with_context(|| format!("cannot start {}", self.path.display()))?;
        let report = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ptxas {} refuses {target}:\n{report}", self.version);
        usage_by_entry(&report).with_context(|| format!("cannot read the report of ptxas {}", self.version))
    }
}

/// Reads ptxas's report:
///
/// ```text
/// ptxas info    : Compiling entry function 'copy' for 'sm_90a'
/// ptxas info    : Function properties for copy
///     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
/// ptxas info    : Used 10 registers, used 0 barriers, 16 bytes smem
/// ```
fn usage_by_entry(report: &str) -> Result<BTreeMap<String, Usage>> {
    let mut usages = BTreeMap::new();
    let mut entry: Option<String> = None;
    let mut usage = Usage::default();
    for line in report.lines() {
        if let Some((_, tail)) = line.split_once("Compiling entry function '") {
            entry = tail.split_once('\'').map(|(name, _)| name.to_owned());
            usage = Usage::default();
        } else if entry.is_some() && line.contains("bytes stack frame") {
            usage.stack = number_before(line, "bytes stack frame")?;
            usage.spill_stores = number_before(line, "bytes spill stores")?;
            usage.spill_loads = number_before(line, "bytes spill loads")?;
        } else if let Some((_, tail)) = line.split_once("Used ") {
            let Some(name) = entry.take() else { bail!("registers of no entry: `{line}`") };
            usage.registers = number_before(tail, "registers")?;
            usage.shared = if tail.contains("bytes smem") { number_before(tail, "bytes smem")? } else { 0 };
            usages.insert(name, usage);
        }
    }
    Ok(usages)
}

/// The number that stands before `unit`.
fn number_before(line: &str, unit: &str) -> Result<u32> {
    let (before, _) = line.split_once(unit).with_context(|| format!("`{line}` does not say {unit}"))?;
    let digits = before.trim_end().rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().with_context(|| format!("`{line}`: no number before {unit}"))
}

/// Reads machine code.
#[derive(Debug)]
pub(super) struct Disassembler {
    path: PathBuf,
}

impl Disassembler {
    pub(super) fn find(tools: &Path) -> Result<Option<Self>> {
        let path = NVDISASM.path(tools);
        Ok(path.is_file().then_some(Self { path }))
    }

    pub(super) fn find_or_fetch(tools: &Path, python: &str) -> Result<Self> {
        Ok(Self { path: NVDISASM.fetch(tools, python)? })
    }

    /// Tensor-core instructions of each entry of an image.
    pub(super) fn tensor_instructions(&self, image: &Path) -> Result<BTreeMap<String, usize>> {
        let output = Command::new(&self.path).arg("-c").arg(image).output();
        let output = output.with_context(|| format!("cannot start {}", self.path.display()))?;
        let report = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "nvdisasm cannot read {}:\n{report}", image.display());
        Ok(tensor_counts(&String::from_utf8_lossy(&output.stdout)))
    }
}

/// Counts `HMMA` and `HGMMA` below each `.section .text.NAME`.
fn tensor_counts(listing: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let mut entry = String::new();
    for line in listing.lines() {
        if let Some((_, tail)) = line.split_once(".section\t.text.") {
            tail.split(',').next().unwrap_or_default().trim_matches('"').clone_into(&mut entry);
        }
        if line.contains(" HMMA.") || line.contains(" HGMMA.") {
            *counts.entry(entry.clone()).or_insert(0) += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_of_either_generation_is_read() {
        let report = "ptxas info    : 0 bytes gmem\n\
            ptxas info    : Compiling entry function 'copy' for 'sm_90a'\n\
            ptxas info    : Function properties for copy\n\
            \x20   8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads\n\
            ptxas info    : Used 10 registers, used 1 barriers, 8 bytes cumulative stack size, 1024 bytes smem\n\
            ptxas info    : Compile time = 2.0 ms\n\
            ptxas info    : Compiling entry function 'axpy' for 'sm_90a'\n\
            ptxas info    : Function properties for axpy\n\
            \x20   0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n\
            ptxas info    : Used 255 registers, 376 bytes cmem[0]\n";
        let usages = usage_by_entry(report).expect("a report");
        let copy = Usage { registers: 10, stack: 8, spill_stores: 4, spill_loads: 12, shared: 1024 };
        assert_eq!(usages["copy"], copy);
        assert_eq!(usages["axpy"], Usage { registers: 255, ..Usage::default() });
        assert!(usage_by_entry("ptxas info    : Used 10 registers").is_err());
    }

    #[test]
    fn tensor_instructions_are_counted_by_entry() {
        let listing = "\t.section\t.text.gemm_f16,\"ax\",@progbits\n  /*0010*/  HMMA.16816.F32 R4, R8, R10, R4 ;\n\
            \x20 /*0020*/  HMMA.16816.F32 R4, R8, R10, R4 ;\n\t.section\t.text.copy,\"ax\",@progbits\n  /*0010*/  MOV R1, R2 ;\n";
        let counts = tensor_counts(listing);
        assert_eq!(counts.get("gemm_f16"), Some(&2));
        assert_eq!(counts.get("copy"), None);
    }
}
