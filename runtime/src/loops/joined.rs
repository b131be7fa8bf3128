//! What became of nodes that were put together before groups were made: siblings that read one operand, and the steps of a
//! sequence. The node that takes their place has the name of one of them.

use crate::graph::Node;
use crate::ops::OpName;
use std::sync::Arc;

/// A node that took the place of several.
#[derive(Clone, Debug)]
pub(crate) struct Joined {
    /// Its name; behind the names of node and body, with `/`, for one in a body.
    pub(crate) name: Arc<str>,
    /// Names and operators of those that it took the place of.
    pub(crate) members: Vec<(Arc<str>, OpName)>,
    /// The input that each of them read whole, and that is read once now.
    pub(crate) shared: Option<usize>,
}

impl Joined {
    /// Of `members`, in their order, in whose place a node of name `name` stands.
    pub(super) fn of<'a>(
        name: &Arc<str>,
        members: impl IntoIterator<Item = &'a Node>,
        shared: Option<usize>,
    ) -> Self {
        let members = members.into_iter().map(|node| (node.name.clone(), node.def)).collect();
        Self { name: name.clone(), members, shared }
    }
}
