//! Inputs and outputs that a run reads and writes where the caller has them on a device.

use std::sync::atomic::{AtomicBool, Ordering};

/// By input and by output of the graph, its address on the device, where it is read or written there; what is beyond the
/// lists is not.
#[derive(Debug, Default)]
pub(crate) struct Direct {
    inputs: Vec<Option<u64>>,
    outputs: Vec<Option<u64>>,
    /// Whether work that may use them was given up and has not ended.
    stuck: AtomicBool,
}

impl Direct {
    pub(crate) fn new(inputs: Vec<Option<u64>>, outputs: Vec<Option<u64>>) -> Self {
        Self { inputs, outputs, stuck: AtomicBool::new(false) }
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.inputs.iter().chain(&self.outputs).all(Option::is_none)
    }

    /// The address of input `index`.
    pub(crate) fn input(&self, index: usize) -> Option<u64> {
        self.inputs.get(index).copied().flatten()
    }

    /// The address of output `index`.
    pub(crate) fn output(&self, index: usize) -> Option<u64> {
        self.outputs.get(index).copied().flatten()
    }

    /// Notes that work was given up that does not end.
    pub(crate) fn note_stuck(&self) {
        self.stuck.store(true, Ordering::Relaxed);
    }

    /// Whether that was noted.
    pub(crate) fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::Relaxed)
    }
}
