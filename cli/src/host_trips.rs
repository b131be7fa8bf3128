//! Nodes that ran on the CPU between a GPU's launches, as `recurve run` tells of them.

use crate::quantity;
use recurve::gpu::HostTrip;
use recurve::model::Member;
use serde::Serialize;

/// One of those nodes, over the measured runs and those before them.
#[derive(Debug, Serialize)]
pub(crate) struct TripEntry {
    node: String,
    op: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    members: Vec<MemberEntry>,
    reason: String,
    calls: u64,
    bytes_down: u64,
    bytes_up: u64,
}

/// A node of the model that was fused into it.
#[derive(Debug, Serialize)]
struct MemberEntry {
    name: String,
    op: String,
}

impl From<HostTrip> for TripEntry {
    fn from(trip: HostTrip) -> Self {
        let member = |of: Member| MemberEntry { name: of.name.to_string(), op: of.op };
        Self {
            node: trip.node,
            op: trip.op,
            members: trip.members.into_iter().map(member).collect(),
            reason: trip.reason.to_string(),
            calls: trip.calls,
            bytes_down: trip.bytes_down,
            bytes_up: trip.bytes_up,
        }
    }
}

impl TripEntry {
    pub(crate) fn op(&self) -> &str {
        &self.op
    }

    /// The node, or those of the model that were fused into it.
    fn nodes(&self) -> String {
        match &self.members[..] {
            [] => self.node.clone(),
            members => members.iter().map(|member| &*member.name).collect::<Vec<_>>().join(", "),
        }
    }
}

/// The table of them, its header first.
pub(crate) fn rows(trips: &[TripEntry]) -> Vec<Vec<String>> {
    let header = ["node", "operator", "calls", "copied from GPU", "copied to GPU", "because"];
    let row = |trip: &TripEntry| {
        let [down, up] = [trip.bytes_down, trip.bytes_up].map(|bytes| quantity::bytes(bytes as f64));
        vec![trip.nodes(), trip.op.clone(), trip.calls.to_string(), down, up, trip.reason.clone()]
    };
    std::iter::once(header.map(str::to_owned).to_vec()).chain(trips.iter().map(row)).collect()
}
