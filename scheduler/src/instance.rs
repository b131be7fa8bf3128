//! The instance document: a machine and the graph of tasks, tensors and weights to run on it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::machine::{Link, Machine, Memory, Processor};

/// The version of the format that is read and written.
pub(crate) const VERSION: u32 = 1;

/// A machine and a graph of tasks. What a field means stands at the field, here and in [`Machine`].
///
/// # Example
/// ```
/// let text = r#"{"version": 1, "memories": [{"name": "host", "capacity": null}],
///     "processors": [{"name": "cpu0", "memory": "host"}], "links": [], "tensors": [], "weights": [],
///     "tasks": [{"name": "a", "cost_us": [2.0], "reads": [], "writes": [], "weights": [], "workspace_bytes": 0}]}"#;
/// let instance = recurve_scheduler::Instance::from_json(text)?;
/// let problem = recurve_scheduler::Problem::new(&instance)?;
/// assert_eq!(problem.task_count(), 1);
/// # Ok::<(), recurve_scheduler::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Document", into = "Document")]
pub struct Instance {
    /// Version of the document.
    pub version: u32,
    /// Memories, processors and links.
    pub machine: Machine,
    /// What tasks read and write.
    pub tensors: Vec<Tensor>,
    /// Constants that stay in the memory of the tasks that use them.
    pub weights: Vec<Weight>,
    /// The tasks.
    pub tasks: Vec<Task>,
}

/// The flat layout of the document: the machine's keys stand beside the graph's.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    memories: Vec<Memory>,
    processors: Vec<Processor>,
    links: Vec<Link>,
    tensors: Vec<Tensor>,
    weights: Vec<Weight>,
    tasks: Vec<Task>,
}

impl From<Document> for Instance {
    fn from(d: Document) -> Self {
        let machine = Machine { memories: d.memories, processors: d.processors, links: d.links };
        Self { version: d.version, machine, tensors: d.tensors, weights: d.weights, tasks: d.tasks }
    }
}

impl From<Instance> for Document {
    fn from(i: Instance) -> Self {
        let Machine { memories, processors, links } = i.machine;
        let Instance { version, tensors, weights, tasks, .. } = i;
        Self { version, memories, processors, links, tensors, weights, tasks }
    }
}

/// A tensor: written by at most one task, read by any number.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Length of one transfer, where it does not follow from the link.
    #[serde(default)]
    pub transfer_us: Option<f64>,
    /// Where an input is at time 0; `None` = the first memory.
    #[serde(default)]
    pub home: Option<String>,
    /// Memories in which the tensor must be at the end.
    #[serde(default)]
    pub needed_in: Vec<String>,
    /// Tensors with one storage count once in a memory.
    #[serde(default)]
    pub storage: Option<String>,
}

/// A constant that every memory holds in which a task uses it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weight {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: WeightBytes,
}

/// The size of a weight: the same everywhere, or one per memory (0 where none is given).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum WeightBytes {
    /// One size for all memories.
    Same(u64),
    /// A size per memory, since layouts and types differ.
    PerMemory(BTreeMap<String, u64>),
}

/// A task: it reads, runs on one processor without preemption, and writes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Its name.
    pub name: String,
    /// Its length per processor; `None` = it cannot run there.
    pub cost_us: Vec<Option<f64>>,
    /// Tensors read.
    #[serde(default)]
    pub reads: Vec<String>,
    /// Tensors written.
    #[serde(default)]
    pub writes: Vec<String>,
    /// Weights used.
    #[serde(default)]
    pub weights: Vec<String>,
    /// Bytes in its processor's memory while it runs.
    #[serde(default)]
    pub workspace_bytes: u64,
}

impl Instance {
    /// Reads a document; whether its contents make sense is found by [`Problem::new`](crate::Problem::new).
    pub fn from_json(text: &str) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        // Fields of other versions are others.
        let Versioned { version: found } = serde_json::from_str(text)?;
        if found != VERSION {
            return Err(Error::Version { found, supported: VERSION });
        }
        Ok(serde_json::from_str(text)?)
    }

    /// Reads a document from a file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::InvalidData => Error::NoText { path: path.to_owned() },
            _ => Error::Io { path: path.to_owned(), source },
        })?;
        Self::from_json(&text)
    }

    /// Writes the document.
    pub fn to_json(&self) -> Result<String, Error> {
        Ok(serde_json::to_string_pretty(self)?)
    }
}
