//! What a model takes of the GPU that it ran on, in words and as part of documents.

use crate::quantity::bytes;
use recurve::Device;
use recurve::gpu::GpuUse;
use serde::Serialize;

/// Bytes by what they are for, and what a run launches.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct GpuMemory {
    device: String,
    /// Those taken when the GPU was opened, by other processes, too.
    context_bytes: u64,
    module_bytes: u64,
    weight_bytes: u64,
    activation_bytes: u64,
    workspace_bytes: u64,
    /// Of the host's memory.
    pinned_bytes: u64,
    launches: u64,
    /// Waits for what decides between launches, over all runs.
    flag_reads: u64,
}

/// What a table of what is on `device` is headed with, or says of it.
pub(crate) fn on(device: &str) -> &'static str {
    if device == Device::Emulated.to_string() { "on the emulated GPU" } else { "on the GPU" }
}

impl GpuMemory {
    /// Of `device`.
    pub(crate) fn new(device: String, of: GpuUse) -> Self {
        Self {
            device,
            context_bytes: of.context,
            module_bytes: of.modules,
            weight_bytes: of.weights,
            activation_bytes: of.activations,
            workspace_bytes: of.workspace,
            pinned_bytes: of.pinned,
            launches: of.launches,
            flag_reads: of.flag_reads,
        }
    }

    /// What the table is headed with.
    pub(crate) fn heading(&self) -> &'static str {
        on(&self.device)
    }

    /// The rows of a table.
    pub(crate) fn rows(&self) -> Vec<Vec<String>> {
        let kinds = [
            ("the driver's context", self.context_bytes),
            ("kernels", self.module_bytes),
            ("weights", self.weight_bytes),
            ("activations", self.activation_bytes),
            ("workspace", self.workspace_bytes),
            ("of the host's memory, pinned for copies", self.pinned_bytes),
        ];
        let mut rows: Vec<Vec<String>> =
            kinds.map(|(kind, count)| vec![kind.to_owned(), bytes(count as f64)]).into();
        rows.push(vec!["launches of a run".to_owned(), self.launches.to_string()]);
        if self.flag_reads > 0 {
            rows.push(vec!["flags read".to_owned(), self.flag_reads.to_string()]);
        }
        rows
    }
}
