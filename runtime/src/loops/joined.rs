//! What became of nodes that were put together before groups were made: siblings that read one operand, and the steps of a
//! sequence. The node that takes their place has the name of one of them.

use super::Fused;
use crate::graph::Node;
use crate::ops::OpName;
use std::sync::Arc;

/// A node of the model that was fused into another.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Member {
    /// Name in the model.
    pub name: Arc<str>,
    /// Its operator.
    pub op: String,
}

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

/// The nodes of the model that `node` of the prepared graph stands for; none where it is one of them itself. `joined` tells
/// what took the place of several before groups were made.
pub(crate) fn members_of<'j>(node: &Node, joined: impl Fn(&Node) -> Option<&'j Joined>) -> Vec<Member> {
    let of_joined = |joined: &Joined| -> Vec<Member> {
        let of = |(name, def): &(Arc<str>, OpName)| Member { name: name.clone(), op: def.full_name() };
        joined.members.iter().map(of).collect()
    };
    let own = |node: &Node| vec![Member { name: node.name.clone(), op: node.def.full_name() }];
    match node.op.as_any().downcast_ref::<Fused>() {
        Some(fused) => {
            let nodes = fused.members().nodes.iter();
            nodes.flat_map(|node| joined(node).map_or_else(|| own(node), of_joined)).collect()
        }
        None => joined(node).map(of_joined).unwrap_or_default(),
    }
}
