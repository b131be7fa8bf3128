//! The machine: memories, processors with the units they occupy, and links with their channels.
//!
//! A machine is a document of its own; an [`Instance`](crate::Instance) embeds one at its top level.

use serde::{Deserialize, Serialize};

/// Memories, processors and links.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// The memories; the first is the default home of inputs.
    pub memories: Vec<Memory>,
    /// The processors, in the order in which tasks list their costs.
    pub processors: Vec<Processor>,
    /// The directed links between memories.
    pub links: Vec<Link>,
}

/// A memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Its name.
    pub name: String,
    /// Bytes it holds; `None` = no limit.
    #[serde(default)]
    pub capacity: Option<u64>,
}

/// A processor: a lane, or a gang over several units.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Processor {
    /// Its name.
    pub name: String,
    /// The memory from which its tasks read and to which they write.
    pub memory: String,
    /// The units that it occupies while it runs; `None` = one unit with the processor's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units: Option<Vec<String>>,
}

/// A directed link between two memories.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Memory read.
    pub from: String,
    /// Memory written.
    pub to: String,
    /// Time before the first byte, in microseconds.
    pub latency_us: f64,
    /// Bytes per microsecond.
    pub bytes_per_us: f64,
    /// Transfers on one channel never overlap; `None` = they do not queue.
    #[serde(default)]
    pub channel: Option<String>,
}
