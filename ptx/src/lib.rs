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
        let damaged = Damaged { target: &self.record.target };
        let mut stream = String::new();
        if ZlibDecoder::new(STREAM).read_to_string(&mut stream).is_err() {
            return Err(damaged);
        }
        let pieces = self.pieces.iter().map(|&(from, to)| stream.get(from..to).ok_or(damaged.clone()));
        pieces.collect()
    }
}

#[cfg(test)]
mod tests;
