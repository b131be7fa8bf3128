//! `cargo xtask ptx`: compiles the `kernels` room to the PTX modules of the `ptx` room and holds them to what each
//! kernel declares.
//!
//! Written are `ptx/modules/TARGET.ptx`, `ptx/manifest.json` and `docs/kernels.md`. `--check` writes nothing: it
//! compares the sources with the hash in the manifest, and, where a compiler and assemblers are at hand, builds
//! again and compares entries and spills. Tools are fetched into `target/nvptx`, by the building run only.

mod assembler;
mod compiler;
mod listing;
mod sources;
mod table;
mod targets;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use recurve_kernels::kernel::{KERNELS, Kernel};
use recurve_ptx::{EntryRecord, Manifest, ModuleRecord, Sources};

use crate::workspace::Workspace;
use assembler::{Assemblers, Disassembler};
use compiler::Compiler;
use targets::{TARGETS, Target};

const MANIFEST: &str = "ptx/manifest.json";
const MODULES: &str = "ptx/modules";
const TABLE: &str = "docs/kernels.md";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Write nothing; fail where what is committed is not what the sources give
    #[arg(long)]
    check: bool,
}

/// A module as built: its text and all that the manifest says of it.
struct Built {
    text: String,
    record: ModuleRecord,
}

pub(crate) fn run(workspace: &Workspace, options: &Options, python: &str) -> Result<()> {
    if options.check { check(workspace) } else { build(workspace, python) }
}

/// Builds every module and writes the modules, the manifest and the table.
fn build(workspace: &Workspace, python: &str) -> Result<()> {
    let root = &workspace.root;
    let tools = tools(root);
    let compiler = Compiler::find_or_fetch(&tools)?;
    let assemblers = Assemblers::find_or_fetch(&tools, python)?;
    let disassembler = Disassembler::find_or_fetch(&tools, python)?;
    let mut built = Vec::new();
    let mut files = Vec::new();
    for target in TARGETS {
        eprintln!("== {} ==", target.name);
        let compiled = compiler.compile(root, &tools, target)?;
        files.extend(compiled.files.iter().cloned());
        built.push(assembled(target, &compiled.text, &assemblers, &disassembler, &tools)?);
    }
    files.sort();
    files.dedup();
    let hash = sources::hash(root, &files, &targets::all_flags())?;
    let manifest = Manifest {
        compiler: compiler.version.clone(),
        assemblers: assemblers.versions(),
        sources: Sources { hash, files },
        modules: built.iter().map(|module| module.record.clone()).collect(),
    };
    let folder = root.join(MODULES);
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    for module in &built {
        let path = module_path(root, &module.record.target);
        std::fs::write(&path, &module.text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    std::fs::write(root.join(MANIFEST), serde_json::to_string_pretty(&manifest)? + "\n")?;
    std::fs::write(root.join(TABLE), table::render(&manifest))?;
    let entries: usize = manifest.modules.iter().map(|module| module.entries.len()).sum();
    println!("ptx: {} modules, {entries} entries, written to ptx/ and {TABLE}", manifest.modules.len());
    Ok(())
}

/// Holds what is committed against the sources, and against a new build where that can be had.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let root = &workspace.root;
    let text = std::fs::read_to_string(root.join(MANIFEST)).context("cannot read the manifest of ptx/")?;
    let manifest: Manifest = serde_json::from_str(&text).context("cannot read the manifest of ptx/")?;
    let hash = sources::hash(root, &manifest.sources.files, &targets::all_flags())?;
    ensure!(hash == manifest.sources.hash, "the kernels changed since ptx/ was built: run `cargo xtask ptx`");
    for module in &manifest.modules {
        let text = std::fs::read_to_string(module_path(root, &module.target))
            .with_context(|| format!("the module for {} is missing", module.target))?;
        ensure!(
            sources::text_hash(&text) == module.hash,
            "ptx/modules/{}.ptx is not what was built: run `cargo xtask ptx`",
            module.target
        );
    }
    let table = std::fs::read_to_string(root.join(TABLE)).unwrap_or_default();
    ensure!(table == table::render(&manifest), "{TABLE} is not the manifest's table: run `cargo xtask ptx`");
    let tools = tools(root);
    let Some(compiler) = Compiler::find(&tools)? else {
        println!("ptx: the sources are those that ptx/ was built from; no compiler at hand to build again");
        return Ok(());
    };
    let rebuilt = rebuild(root, &compiler, &tools, &manifest)?;
    println!("ptx: the sources are those that ptx/ was built from; {rebuilt}");
    Ok(())
}

/// Builds again and compares what the compiler and the assemblers make of it with what is declared.
fn rebuild(root: &Path, compiler: &Compiler, tools: &Path, manifest: &Manifest) -> Result<String> {
    let assemblers = Assemblers::find(tools)?;
    let disassembler = Disassembler::find(tools)?;
    for target in TARGETS {
        let compiled = compiler.compile(root, tools, target)?;
        let record = manifest.modules.iter().find(|module| module.target == target.name);
        let record = record.with_context(|| format!("the manifest has no module for {}", target.name))?;
        let committed: Vec<(&str, usize)> =
            record.entries.iter().map(|entry| (entry.name.as_str(), entry.params)).collect();
        if let (Some(assemblers), Some(disassembler)) = (&assemblers, &disassembler) {
            let module = assembled(target, &compiled.text, assemblers, disassembler, tools)?;
            let built: Vec<(&str, usize)> =
                module.record.entries.iter().map(|entry| (entry.name.as_str(), entry.params)).collect();
            ensure!(built == committed, "{}: a rebuild gives other entries than ptx/ has", target.name);
        } else {
            let module = listing::finish(&compiled.text, &declared(target), &omitted(target))?;
            let built: Vec<(&str, usize)> =
                module.entries.iter().map(|entry| (entry.name.as_str(), entry.params)).collect();
            ensure!(built == committed, "{}: a rebuild gives other entries than ptx/ has", target.name);
        }
    }
    Ok(match assemblers {
        Some(_) => "a rebuild has the same entries and keeps to what the kernels declare".to_owned(),
        None => "a rebuild has the same entries; no assemblers at hand".to_owned(),
    })
}

/// Gives a compiled module its bounds, assembles it with every assembler and compares each entry with its kernel.
fn assembled(
    target: &Target,
    text: &str,
    assemblers: &Assemblers,
    disassembler: &Disassembler,
    tools: &Path,
) -> Result<Built> {
    let kernels = declared(target);
    let module = listing::finish(text, &kernels, &omitted(target))?;
    let folder = tools.join("cubin");
    std::fs::create_dir_all(&folder)?;
    let source = folder.join(format!("{}.ptx", target.name));
    std::fs::write(&source, &module.text)?;
    let mut usages = Vec::new();
    let mut image = PathBuf::new();
    for assembler in assemblers.each() {
        image = folder.join(format!("{}-{}.cubin", target.name, assembler.version));
        usages.push(assembler.assemble(&source, &image, target.name)?);
    }
    let tensor = disassembler.tensor_instructions(&image)?;
    let mut entries = Vec::new();
    let mut faults = Vec::new();
    for (entry, kernel) in module.entries.iter().zip(&kernels) {
        let usage = usages.iter().map(|by_entry| by_entry.get(&entry.name).copied().unwrap_or_default());
        let record = EntryRecord {
            name: entry.name.clone(),
            params: entry.params,
            params_align: entry.params_align,
            max_threads: kernel.max_threads,
            min_blocks: kernel.min_blocks,
            dynamic_shared: kernel.shared,
            tensor_instructions: tensor.get(&entry.name).copied().unwrap_or(0),
            usage: usage.collect(),
        };
        faults.extend(departures(kernel, &record));
        entries.push(record);
    }
    if !faults.is_empty() {
        bail!("{}: {}", target.name, faults.join("; "));
    }
    let record = ModuleRecord {
        target: target.name.to_owned(),
        capability: target.capability,
        exact: target.exact,
        ptx: module.version.clone(),
        driver: target.driver,
        flags: target.flags(),
        hash: sources::text_hash(&module.text),
        entries,
    };
    Ok(Built { text: module.text, record })
}

/// Where an entry is not what its kernel declares.
fn departures(kernel: &Kernel, entry: &EntryRecord) -> Vec<String> {
    let mut found = Vec::new();
    if entry.params != kernel.params {
        found.push(format!("{} takes {} bytes, not {}", kernel.entry, entry.params, kernel.params));
    }
    for usage in entry.usage.iter().filter(|usage| usage.outside_registers() > kernel.spills) {
        let bytes = usage.outside_registers();
        found.push(format!("{} spills {bytes} bytes, {} are declared", kernel.entry, kernel.spills));
    }
    if (entry.tensor_instructions > 0) != kernel.tensor_cores {
        let count = entry.tensor_instructions;
        found.push(format!("{} has {count} tensor-core instructions", kernel.entry));
    }
    found
}

/// The kernels that a module for `target` has, by entry.
fn declared(target: &Target) -> Vec<&'static Kernel> {
    KERNELS.iter().copied().filter(|kernel| kernel.capability <= target.capability).collect()
}

/// The names of the other kernels; their entries are empty in the compiler's output.
fn omitted(target: &Target) -> Vec<&'static str> {
    let above = KERNELS.iter().filter(|kernel| kernel.capability > target.capability);
    above.map(|kernel| kernel.entry).collect()
}

fn tools(root: &Path) -> PathBuf {
    root.join("target").join("nvptx")
}

fn module_path(root: &Path, target: &str) -> PathBuf {
    root.join(MODULES).join(format!("{target}.ptx"))
}

#[cfg(test)]
mod tests {
    use recurve_ptx::Usage;

    use super::*;

    #[test]
    fn an_entry_that_is_not_what_its_kernel_declares_is_a_fault() {
        let kernel = Kernel::new::<[u64; 4]>("copy", 128);
        let sound = EntryRecord {
            name: "copy".to_owned(),
            params: 32,
            params_align: 8,
            max_threads: 128,
            min_blocks: 0,
            dynamic_shared: 0,
            tensor_instructions: 0,
            usage: vec![Usage { registers: 20, ..Usage::default() }],
        };
        assert!(departures(&kernel, &sound).is_empty());
        let spilled = Usage { spill_stores: 8, ..Usage::default() };
        let stacked = Usage { stack: 16, ..Usage::default() };
        for entry in [
            EntryRecord { params: 40, ..sound.clone() },
            EntryRecord { tensor_instructions: 1, ..sound.clone() },
            EntryRecord { usage: vec![spilled], ..sound.clone() },
            EntryRecord { usage: vec![stacked], ..sound.clone() },
        ] {
            assert_eq!(departures(&kernel, &entry).len(), 1, "{entry:?}");
        }
        assert!(
            departures(&kernel.with_spills(16), &EntryRecord { usage: vec![stacked], ..sound }).is_empty()
        );
    }
}
