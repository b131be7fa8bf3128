//! What ran on the host although the model runs on a GPU.

use crate::cuda::GpuReject;
use crate::loops::Member;

/// A node without a kernel for the GPU that ran on the host between launches, over all runs since the model was loaded.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct HostTrip {
    /// The node's name, or one made from its first output.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// The nodes of the model that were fused into it, or in whose place it stands; empty for a node of the model itself.
    pub members: Vec<Member>,
    /// Why no kernel ran it.
    pub reason: GpuReject,
    /// How often it ran.
    pub calls: u64,
    /// Bytes that were copied from the GPU for it.
    pub bytes_down: u64,
    /// Bytes that it made and that were copied to the GPU.
    pub bytes_up: u64,
}
