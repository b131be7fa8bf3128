//! The step that the steps of a chain have in common.

use crate::graph::ValueId;

/// Where an input of a step's node comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Source {
    /// The same value in every step.
    Fixed(ValueId),
    /// Output `output` of class `class`, of the same step.
    Step { class: usize, output: usize },
    /// State `0` as the previous step left it.
    Previous(usize),
    /// Sequence `0`'s element of this step.
    Element(usize),
}

/// Nodes of which every step has one.
#[derive(Clone, Debug)]
pub(super) struct Class {
    /// The node of each step; `None` where the step does without it, because its result is constant or nobody
    /// wants it.
    pub(super) nodes: Vec<Option<usize>>,
    pub(super) inputs: Vec<Option<Source>>,
}

/// A value carried from step to step: output `output` of class `class`.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) class: usize,
    pub(super) output: usize,
    /// What the first step finds; zeros when `None`.
    pub(super) initial: Option<ValueId>,
}

/// One value per step that does not depend on the steps.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Sequence {
    /// Slice `start + stride · k` of `source` along `axis` in step `k`.
    Part { source: ValueId, axis: usize, start: i64, stride: i64, drops_axis: bool },
    /// Values of their own.
    Values(Vec<ValueId>),
}

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub(super) struct Template {
    pub(super) steps: usize,
    pub(super) classes: Vec<Class>,
    pub(super) states: Vec<State>,
    pub(super) sequences: Vec<Sequence>,
}

impl Template {
    /// Classes in an order in which each stands behind those of the same step that it reads. `None` when there
    /// is none, which no graph without cycles leads to.
    pub(super) fn order(&self) -> Option<Vec<usize>> {
        let mut waits = vec![0usize; self.classes.len()];
        let mut readers: Vec<Vec<usize>> = vec![Vec::new(); self.classes.len()];
        for (at, class) in self.classes.iter().enumerate() {
            for source in class.inputs.iter().flatten() {
                if let Source::Step { class: from, .. } = *source {
                    readers[from].push(at);
                    waits[at] += 1;
                }
            }
        }
        let mut order: Vec<usize> = (0..waits.len()).filter(|&c| waits[c] == 0).collect();
        let mut next = 0;
        while let Some(&class) = order.get(next) {
            next += 1;
            for &reader in &readers[class] {
                waits[reader] -= 1;
                if waits[reader] == 0 {
                    order.push(reader);
                }
            }
        }
        (order.len() == self.classes.len()).then_some(order)
    }
}
