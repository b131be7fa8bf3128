//! What depends on given nodes, found as far as it is asked for, and no further back than their place in the graph: a
//! step's values have few ancestors there, the graph may have many.

use super::index::Index;
use crate::graph::{Graph, ValueId};
use std::cell::RefCell;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Unknown,
    Entered,
    Depends,
    Free,
}

/// See the module's documentation.
pub(super) struct Reach<'a> {
    graph: &'a Graph,
    index: &'a Index,
    /// What has a smaller number in the index's order does not depend on them.
    least: u32,
    nodes: RefCell<Vec<State>>,
}

impl<'a> Reach<'a> {
    /// What depends on `nodes`, their own outputs included.
    pub(super) fn of(graph: &'a Graph, index: &'a Index, nodes: impl IntoIterator<Item = usize>) -> Self {
        let mut states = vec![State::Unknown; graph.nodes.len()];
        let mut least = u32::MAX;
        for at in nodes {
            states[at] = State::Depends;
            least = least.min(index.order(at));
        }
        Self { graph, index, least, nodes: RefCell::new(states) }
    }

    /// Whether `id` does.
    pub(super) fn holds(&self, id: ValueId) -> bool {
        let Some((node, _)) = self.index.writer(id) else { return false };
        if self.index.order(node) < self.least {
            return false;
        }
        let mut states = self.nodes.borrow_mut();
        let mut open = vec![node];
        while let Some(&at) = open.last() {
            match states[at] {
                State::Unknown | State::Entered if self.writers(at).any(|w| states[w] == State::Depends) => {
                    states[at] = State::Depends;
                }
                State::Unknown => {
                    states[at] = State::Entered;
                    open.extend(self.writers(at).filter(|&w| states[w] == State::Unknown));
                }
                State::Entered => states[at] = State::Free,
                State::Depends | State::Free => {
                    open.pop();
                }
            }
        }
        states[node] == State::Depends
    }

    /// The nodes that node `at` reads and that may depend on those given.
    fn writers(&self, at: usize) -> impl Iterator<Item = usize> + '_ {
        let inputs = self.graph.nodes[at].inputs.iter().flatten();
        let writers = inputs.filter_map(|id| self.index.writer(*id).map(|(from, _)| from));
        writers.filter(|&from| self.index.order(from) >= self.least)
    }
}
