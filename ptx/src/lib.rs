//! The PTX modules of Recurve and their manifest, embedded.
//!
//! `cargo xtask ptx` writes both from the `kernels` room; nothing here is written by hand but the way to find a module.
//!
//! ```
//! let module = recurve_ptx::module_for(89).expect("a module for compute capability 8.9");
//! assert!(module.record().capability <= 89);
//! assert!(module.text().expect("the module's text").starts_with(".version"));
//! ```
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod manifest;

use std::io::Read;
use std::sync::LazyLock;

use flate2::read::ZlibDecoder;

pub use manifest::{EntryRecord, Manifest, ModuleRecord, Sources, Usage};

include!(concat!(env!("OUT_DIR"), "/modules.rs"));

static MANIFEST: LazyLock<Manifest> = LazyLock::new(|| {
    let manifest = serde_json::from_str(include_str!("../manifest.json"));
    manifest.expect("the embedded manifest is read by the tests of this crate")
});

/// One embedded module.
#[derive(Clone, Copy, Debug)]
pub struct Module {
    record: &'static ModuleRecord,
    /// From where to where its pieces lie in the unpacked stream.
    pieces: &'static [(usize, usize)],
}

/// A module that does not unpack: the binary is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// The module's target.
    pub target: &'static str,
}

impl std::fmt::Display for Damaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the embedded PTX module for {} does not unpack", self.target)
    }
}

impl std::error::Error for Damaged {}

/// What is known of the modules.
pub fn manifest() -> &'static Manifest {
    &MANIFEST
}

/// Every embedded module, by ascending compute capability.
pub fn modules() -> impl Iterator<Item = Module> {
    manifest().modules.iter().filter_map(|record| {
        let (_, pieces) = PIECES.iter().find(|(target, _)| *target == record.target)?;
        Some(Module { record, pieces })
    })
}

/// The module for processors of compute capability `10 · major + minor`: the one made for that capability alone,
/// or else that of the greatest capability that is not above it. `None`: the processor is older than any module.
pub fn module_for(compute_capability: u32) -> Option<Module> {
    let fitting = modules().filter(|module| module.record.runs_on(compute_capability));
    fitting.max_by_key(|module| (module.record.capability, module.record.exact))
}

impl Module {
    /// The manifest's record of the module.
    pub fn record(&self) -> &'static ModuleRecord {
        self.record
    }

    /// The record of an entry.
    pub fn entry(&self, name: &str) -> Option<&'static EntryRecord> {
        self.record.entry(name)
    }

    /// The module's text, for the driver.
    pub fn text(&self) -> Result<String, Damaged> {
        self.text_where(|_| true)
    }

    /// The same with the entries of one family alone: a driver compiles all that it is given, and most programs use few
    /// families.
    pub fn text_of(&self, family: &str) -> Result<String, Damaged> {
        self.text_where(|entry| family_of(entry) == family)
    }

    /// The families of the module's entries.
    pub fn families(&self) -> impl Iterator<Item = &'static str> + use<> {
        let mut before = "";
        let families = self.record.entries.iter().map(|entry| family_of(&entry.name));
        families.filter(move |&family| std::mem::replace(&mut before, family) != family)
    }

    fn text_where(&self, wanted: impl Fn(&str) -> bool) -> Result<String, Damaged> {
        let damaged = || Damaged { target: &self.record.target };
        let mut stream = String::new();
        ZlibDecoder::new(STREAM).read_to_string(&mut stream).map_err(|_| damaged())?;
        let mut text = String::new();
        for &(from, to) in self.pieces {
            let piece = stream.get(from..to).ok_or_else(damaged)?;
            // What no entry begins is for all of them.
            if entry_of(piece).is_none_or(&wanted) {
                text.push_str(piece);
            }
        }
        Ok(text)
    }
}

/// The family of an entry: the first word of its name.
pub fn family_of(entry: &str) -> &str {
    entry.split('_').next().unwrap_or(entry)
}

/// The name of the entry that a piece of a module is.
fn entry_of(piece: &str) -> Option<&str> {
    piece.strip_prefix(".visible .entry ")?.split('(').next()
}

#[cfg(test)]
mod tests;
