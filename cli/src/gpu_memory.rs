//! What a model takes of the GPU that it ran on, in words and as part of documents.

use crate::quantity::bytes;
use recurve::GpuUse;
use serde::Serialize;

/// Bytes by what they are for, and what a run launches.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct GpuMemory {
    /// Those taken when the GPU was opened, by other processes, too.
    context_bytes: u64,
    module_bytes: u64,
    weight_bytes: u64,
    activation_bytes: u64,
    workspace_bytes: u64,
    /// Of the host's memory.
    pinned_bytes: u64,
    launches: u64,
}

impl From<GpuUse> for GpuMemory {
    fn from(of: GpuUse) -> Self {
        Self {
            context_bytes: of.context,
            module_bytes: of.modules,
            weight_bytes: of.weights,
            activation_bytes: of.activations,
            workspace_bytes: of.workspace,
            pinned_bytes: of.pinned,
            launches: of.launches,
        }
    }
}

impl GpuMemory {
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
        rows
    }
}
