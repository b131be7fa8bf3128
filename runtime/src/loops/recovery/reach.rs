//! What depends on given nodes, found as far as it is asked for: a step's values have few ancestors, the graph may have
//! many.

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
    nodes: RefCell<Vec<State>>,
}

impl<'a> Reach<'a> {
    /// What depends on `nodes`, their own outputs included.
    pub(super) fn of(graph: &'a Graph, index: &'a Index, nodes: impl IntoIterator<Item = usize>) -> Self {
        let mut states = vec![State::Unknown; graph.nodes.len()];
        nodes.into_iter().for_each(|at| states[at] = State::Depends);
        Self { graph, index, nodes: RefCell::new(states) }
    }

    /// Whether `id` does.
    pub(super) fn holds(&self, id: ValueId) -> bool {
        let Some((node, _)) = self.index.writer(id) else { return false };
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

    /// The nodes that node `at` reads.
    fn writers(&self, at: usize) -> impl Iterator<Item = usize> + '_ {
        let inputs = self.graph.nodes[at].inputs.iter().flatten();
        inputs.filter_map(|id| self.index.writer(*id).map(|(from, _)| from))
    }
}
