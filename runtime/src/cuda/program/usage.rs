//! What a model takes of its GPU.

use super::GpuProgram;
use crate::cuda::memory::rounded;
use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// Bytes of a GPU's memory by what they are for, and what a run gives the GPU to do: for the shapes that the model was bound
/// to last. See [`Session::gpu_use`](crate::Session::gpu_use).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct GpuUse {
    /// Bytes that were taken when the engine opened the GPU: its context, and what other processes hold there.
    pub context: u64,
    /// Bytes that the kernels took which the engine's sessions have loaded.
    pub modules: u64,
    /// Bytes of constants in the forms in which kernels read them, programs and tables, of all shapes bound so far.
    pub weights: u64,
    /// Bytes of inputs, outputs and what lies between them.
    pub activations: u64,
    /// Bytes that kernels need beside them.
    pub workspace: u64,
    /// Bytes of the host's memory that the GPU reaches, through which inputs and outputs pass.
    pub pinned: u64,
    /// Kernels that a run launches; of branches and loops that data decides, each part once.
    pub launches: u64,
    /// How often, since the model was loaded, the host waited for the GPU and read the few bytes that decide which branch
    /// is taken or whether a loop goes on.
    pub flag_reads: u64,
}

impl GpuProgram {
    /// What it takes; none before it is bound.
    pub(crate) fn usage(&self) -> Option<GpuUse> {
        let overhead = self.gpu.gpu().overhead();
        let bindings = self.bindings.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, last) = bindings.first()?;
        // What several bindings read is there once.
        let mut weights: BTreeMap<u64, u64> = BTreeMap::new();
        let held = bindings.iter().flat_map(|(_, bound)| &bound.resident);
        weights.extend(held.map(|block| (block.address(), block.held() as u64)));
        let arena = rounded(last.arena).unwrap_or(last.arena);
        Some(GpuUse {
            context: overhead.context,
            modules: overhead.modules,
            weights: weights.values().sum(),
            activations: last.values as u64,
            workspace: arena.saturating_sub(last.values) as u64,
            pinned: last.pinned as u64,
            launches: last.launches as u64,
            flag_reads: self.flag_reads.load(Ordering::Relaxed),
        })
    }
}
