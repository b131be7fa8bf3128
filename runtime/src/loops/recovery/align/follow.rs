//! What follows the steps of a cell that no operator computes: elementwise functions of what they give, made in every
//! step, join them. So a highway or an output gate that only looks at a state is computed where the state is, and what
//! the next layer reads is one output of the loop.
//!
//! A node follows where every step has one with the same operator that reads the step's value at the same place, and all
//! else that it reads, in turn, can be aligned without a new state; products may come along only where they do not depend
//! on the steps: those are better made for all steps at once, by the layer that they belong to.

use super::super::is_elementwise;
use super::super::template::Template;
use super::{Aligner, Lane, Reading};
use crate::graph::{Fact, Graph, ValueId};
use crate::loops::recovery::index::Index;
use crate::loops::recovery::reach::Reach;
use std::collections::HashMap;

/// `template` with what follows its steps; `None` where nothing does.
pub(in crate::loops::recovery) fn follow(
    graph: &Graph,
    index: &Index,
    facts: &[Option<Fact>],
    depends: &Reach<'_>,
    template: &Template,
    fuel: &mut usize,
) -> Option<Template> {
    let mut place = HashMap::new();
    for (at, class) in template.classes.iter().enumerate() {
        place.extend(class.nodes.iter().enumerate().filter_map(|(k, n)| n.map(|n| (n, (at, k)))));
    }
    let (before, steps) = (template.classes.len(), template.steps);
    let mut aligner = Aligner {
        graph,
        index,
        facts,
        depends,
        steps,
        template: template.clone(),
        place,
        named_last: Vec::new(),
        reading: Reading::SameStepFirst,
        fuel,
    };
    let mut class = 0;
    while class < aligner.template.classes.len() {
        let outputs = aligner.template.classes[class].nodes[0].map_or(0, |n| graph.nodes[n].outputs.len());
        (0..outputs).try_for_each(|output| aligner.join_readers(class, output))?;
        class += 1;
    }
    (aligner.template.classes.len() > before).then_some(())?;
    aligner.verify()?;
    Some(aligner.template)
}

impl Aligner<'_> {
    /// Takes in what reads output `output` of class `class` in every step. `None` where there is no fuel left.
    fn join_readers(&mut self, class: usize, output: usize) -> Option<()> {
        let nodes = &self.template.classes[class].nodes;
        let lane: Lane = nodes.iter().map(|n| n.and_then(|n| self.graph.nodes[n].outputs[output])).collect();
        let Some(values) = lane.into_iter().collect::<Option<Vec<ValueId>>>() else { return Some(()) };
        let firsts: Vec<usize> = self.index.readers(values[0]).collect();
        for first in firsts {
            *self.fuel = self.fuel.checked_sub(self.steps)?;
            if self.place.contains_key(&first) || !is_elementwise(&self.graph.nodes[first]) {
                continue;
            }
            let Some(nodes) = self.like(first, &values) else { continue };
            let (mark, states) = (self.mark(), self.template.states.len());
            let made = self.class(nodes, false, 1);
            let joins = |at: usize| {
                let mut nodes = self.template.classes[at].nodes.iter().flatten();
                nodes.all(|&n| {
                    let node = &self.graph.nodes[n];
                    is_elementwise(node)
                        || node.op.alias_of() == Some(0)
                        || !node.outputs.iter().any(|id| self.depends(*id))
                })
            };
            let fits = made.is_some()
                && self.template.states.len() == states
                && (mark[0]..self.template.classes.len()).all(joins);
            if !fits {
                self.forget(&mark);
            }
        }
        Some(())
    }

    /// The nodes that read the values of the other steps as node `first` does that of the first one.
    fn like(&self, first: usize, values: &[ValueId]) -> Option<Vec<Option<usize>>> {
        let (key, outlook) = (self.index.keys[first], self.index.outlook[first]);
        let at = self.graph.nodes[first].inputs.iter().position(|id| *id == Some(values[0]))?;
        let of_step = |value: &ValueId| {
            let fits = |n: &usize| {
                self.index.keys[*n] == key
                    && self.graph.nodes[*n].inputs.get(at) == Some(&Some(*value))
                    && !self.place.contains_key(n)
            };
            let mut readers = self.index.readers(*value).filter(fits);
            let same = self.index.readers(*value).filter(fits).find(|n| self.index.outlook[*n] == outlook);
            same.or_else(|| readers.next()).map(Some)
        };
        let rest = values[1..].iter().map(of_step);
        [Some(Some(first))].into_iter().chain(rest).collect()
    }
}
