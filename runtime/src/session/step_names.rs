//! The names of the model's nodes that a step of a program stands for.
//!
//! Fusion puts several nodes into one, siblings become one product, and a rewrite takes one apart whose parts are named
//! behind it: whoever names a node of the model means the step that it went into, or those that it became.

use crate::exec::{Bound, Program};
use crate::graph::{Graph, Node};
use crate::loops::{Fused, Joined, Report};
use std::collections::HashMap;

/// A name that the model has, but no step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Unplaced {
    /// Of a node in a body of the node `of`.
    InBody { name: String, of: String },
    /// Of a node for which no kernel runs.
    Nothing { name: String },
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct StepNames<'a> {
    joined: HashMap<&'a str, &'a Joined>,
    /// The nodes of the prepared model, by name.
    nodes: HashMap<&'a str, &'a Node>,
    own: &'a Graph,
}

impl<'a> StepNames<'a> {
    /// Of the prepared graph `own`, which was fused as `report` says.
    pub(super) fn new(own: &'a Graph, report: &'a Report) -> Self {
        Self {
            joined: report.joined.iter().map(|joined| (&*joined.name, joined)).collect(),
            nodes: own.nodes.iter().map(|node| (&*node.name, node)).collect(),
            own,
        }
    }

    /// The names of step `step` of `bound`, its own first.
    pub(super) fn of(&self, bound: &Bound, program: &Program, step: usize) -> Vec<String> {
        let mut names = vec![bound.step_name(program, step).0];
        let Some(node) = bound.step_node(program, step) else { return names };
        self.add(node, &mut names);
        if !self.nodes.contains_key(&*node.name) {
            // Of a rewrite: `NODE/PART`, where the name of a node may hold `/`, too.
            let before = node.name.rmatch_indices('/').map(|(at, _)| &node.name[..at]);
            if let Some(whole) = before.into_iter().find_map(|name| self.nodes.get(name)) {
                names.push(whole.name.to_string());
                self.add(whole, &mut names);
            }
        }
        names
    }

    /// The first name that `fits` of those that no step has.
    pub(super) fn unplaced(&self, fits: impl Fn(&str) -> bool) -> Option<Unplaced> {
        let mut names = Vec::new();
        for node in &self.own.nodes {
            let in_bodies = node.op.bodies().into_iter().find_map(|body| named(&body.graph, &fits));
            if let Some(name) = in_bodies {
                return Some(Unplaced::InBody { name, of: node.name.to_string() });
            }
            self.add(node, &mut names);
        }
        names.into_iter().find(|name| fits(name)).map(|name| Unplaced::Nothing { name })
    }

    fn add(&self, node: &Node, names: &mut Vec<String>) {
        let mut own = |node: &Node| {
            names.push(node.name.to_string());
            let members = self.joined.get(&*node.name).into_iter().flat_map(|joined| &joined.members);
            names.extend(members.map(|(name, _)| name.to_string()));
        };
        match node.op.as_any().downcast_ref::<Fused>() {
            Some(fused) => fused.members().nodes.iter().for_each(own),
            None => own(node),
        }
    }
}

/// The first name of a node in `graph` and its bodies that `fits`.
fn named(graph: &Graph, fits: &impl Fn(&str) -> bool) -> Option<String> {
    graph.nodes.iter().find_map(|node| {
        let members = node.op.as_any().downcast_ref::<Fused>().map(Fused::members);
        let inner = node.op.bodies().into_iter().map(|body| &body.graph).chain(members);
        let own = fits(&node.name).then(|| node.name.to_string());
        own.or_else(|| inner.into_iter().find_map(|graph| named(graph, fits)))
    })
}
