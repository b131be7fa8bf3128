//! Whether the nodes of a template read what it says, and the nodes of the last step that no lane names.

use super::super::part::element_of;
use super::super::template::{Class, Sequence, Source, State};
use super::{Aligner, Lane};
use crate::graph::ValueId;

impl Aligner<'_> {
    /// The value that `source` is in the last step.
    fn last_value(&self, source: Source) -> Option<ValueId> {
        let last = self.steps - 1;
        let value = |class: usize, output: usize, step: usize| {
            let node = self.template.classes[class].nodes[step]?;
            self.graph.nodes[node].outputs[output]
        };
        match source {
            Source::Fixed(id) => Some(id),
            Source::Step { class, output } => value(class, output, last),
            Source::Previous(state) => {
                let State { class, output, .. } = self.template.states[state];
                value(class, output, last - 1)
            }
            Source::Element(_) => None,
        }
    }

    /// The class's node of the last step, found among the readers of what it must read.
    pub(super) fn find_last(&mut self, class: usize, open: &[(usize, Lane)]) -> Option<usize> {
        let Class { nodes, inputs } = &self.template.classes[class];
        let like = nodes[self.steps - 2]?;
        let (key, outlook) = (self.index.keys[like], self.index.outlook[like]);
        let mut wanted: Vec<(usize, ValueId)> = Vec::new();
        for (input, source) in inputs.iter().enumerate() {
            let Some(source) = *source else { continue };
            match self.last_value(source) {
                Some(value) => wanted.push((input, value)),
                None if matches!(source, Source::Element(_)) => {}
                None => return None,
            }
        }
        let rank = |&(input, _): &(usize, ValueId)| !matches!(inputs[input], Some(Source::Step { .. }));
        let &(_, seed) = wanted.iter().min_by_key(|w| rank(w))?;
        let mut found: Option<usize> = None;
        for node in self.index.readers(seed) {
            *self.fuel = self.fuel.checked_sub(1)?;
            let given = &self.graph.nodes[node].inputs;
            let fits = self.index.keys[node] == key
                && given.len() == inputs.len()
                && !self.place.contains_key(&node)
                && wanted.iter().all(|&(input, value)| given[input] == Some(value))
                && open.iter().all(|(input, _)| given[*input].is_some());
            if !fits {
                continue;
            }
            let better = |n: usize| self.index.outlook[n] == outlook;
            if found.is_none_or(|f| !better(f) && better(node)) {
                found = Some(node);
            }
        }
        found
    }

    /// The class's node of step `step` reads what the sources say.
    pub(super) fn check(&self, class: usize, step: usize) -> Option<()> {
        let Class { nodes, inputs } = &self.template.classes[class];
        let Some(node) = nodes[step] else { return (step == self.steps - 1).then_some(()) };
        let value = |class: usize, output: usize, step: usize| {
            let node = self.template.classes[class].nodes[step]?;
            self.graph.nodes[node].outputs[output]
        };
        for (input, source) in inputs.iter().enumerate() {
            let given = self.graph.nodes[node].inputs[input];
            let fits = match *source {
                None => given.is_none(),
                Some(Source::Fixed(id)) => given == Some(id) && !self.depends(given),
                Some(Source::Step { class, output }) => {
                    given.is_some() && value(class, output, step) == given
                }
                Some(Source::Previous(state)) => {
                    let State { class, output, initial } = self.template.states[state];
                    given.is_some()
                        && match step.checked_sub(1) {
                            Some(before) => value(class, output, before) == given,
                            None => initial == given,
                        }
                }
                Some(Source::Element(at)) => match &self.template.sequences[at] {
                    Sequence::Values(values) => given == values.get(step).copied(),
                    Sequence::Part { source, axis, start, stride, drops_axis } => given
                        .and_then(|id| element_of(self.graph, self.index, self.facts, id))
                        .is_some_and(|p| {
                            p.source == *source
                                && p.selection.axis == *axis
                                && p.selection.drops_axis == *drops_axis
                                && p.selection.start as i64 == start + stride * step as i64
                        }),
                },
            };
            if !fits {
                return None;
            }
        }
        Some(())
    }

    /// Every node of every step reads what the template says.
    pub(super) fn verify(&self) -> Option<()> {
        for class in 0..self.template.classes.len() {
            for step in 0..self.steps {
                self.check(class, step)?;
            }
        }
        Some(())
    }
}
