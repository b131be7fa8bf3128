//! What `manifest.json` says of the modules: entries, parameters, what the assemblers made of each, and from what.

use serde::{Deserialize, Serialize};

/// The whole of `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The compiler that wrote the modules, as it names itself.
    pub compiler: String,
    /// The assemblers that accepted every module, by version; [`Usage`] follows this order.
    pub assemblers: Vec<String>,
    /// What the modules were compiled from.
    pub sources: Sources,
    /// One record per module, by ascending compute capability.
    pub modules: Vec<ModuleRecord>,
}

/// The files that the device code is compiled from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// Hash of their code and of the flags.
    pub hash: String,
    /// Paths from the workspace's root.
    pub files: Vec<String>,
}

/// One module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleRecord {
    /// The processor's name to the compiler, `sm_90a`; also the module's file name.
    pub target: String,
    /// Compute capability, as `10 · major + minor`.
    pub capability: u32,
    /// Whether the code runs on that capability only, not on later ones.
    pub exact: bool,
    /// Version of the PTX language.
    pub ptx: String,
    /// Least version of the driver's CUDA interface that reads it, as `1000 · major + 10 · minor`.
    pub driver: u32,
    /// Flags of the compiler.
    pub flags: Vec<String>,
    /// Hash of the module's text.
    pub hash: String,
    /// Entries by name.
    pub entries: Vec<EntryRecord>,
}

/// One entry of a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryRecord {
    /// The entry's name.
    pub name: String,
    /// Bytes of its one parameter.
    pub params: usize,
    /// Alignment of that parameter.
    pub params_align: usize,
    /// Most threads of a block.
    pub max_threads: u32,
    /// Blocks that must fit one multiprocessor at once; 0 where nothing is asked.
    pub min_blocks: u32,
    /// Most bytes of dynamic shared memory that a launch may ask for.
    pub dynamic_shared: u32,
    /// Tensor-core instructions in the machine code.
    pub tensor_instructions: usize,
    /// What each assembler made of it.
    pub usage: Vec<Usage>,
}

/// What an assembler says that an entry takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of a thread's stack.
    pub stack: u32,
    /// Bytes stored to make room in registers.
    pub spill_stores: u32,
    /// Bytes loaded back.
    pub spill_loads: u32,
    /// Bytes of static shared memory of a block.
    pub shared: u32,
}

impl Usage {
    /// Bytes that are not in registers: the stack, or what is spilled where there is no stack for it.
    pub fn outside_registers(&self) -> u32 {
        self.stack.max(self.spill_stores).max(self.spill_loads)
    }
}

impl ModuleRecord {
    /// The entry of this name.
    pub fn entry(&self, name: &str) -> Option<&EntryRecord> {
        self.entries.binary_search_by(|entry| entry.name.as_str().cmp(name)).ok().map(|at| &self.entries[at])
    }

    /// Whether a processor of this compute capability runs the module's code.
    pub fn runs_on(&self, capability: u32) -> bool {
        if self.exact { capability == self.capability } else { capability >= self.capability }
    }
}
