//! Aligning the steps of a chain: what is the same in all of them becomes one [`Template`].
//!
//! A *lane* holds one value per step. Starting from the chain's nodes, the lanes of their inputs are aligned:
//!
//! - all values equal, and none depends on the chain: fixed;
//! - values of a class known already, of the same step or of the step before: that class, or a state;
//! - slices of one tensor at indices that advance by a constant: an element of a sequence;
//! - written by nodes of the same operator and attributes: a class, whose inputs are aligned in turn;
//! - all but the first depend on the chain, and the first does not: a state whose values the *previous* step made.
//!   Its class is that of the later values, moved by one step; the node of the last step, which no lane holds, is
//!   looked for among the readers of what it must read;
//! - none depends on the chain: a sequence of values.
//!
//! Where the fourth rule fails, everything that it found is forgotten and the next one is tried; for what the chain
//! itself reads the fifth comes first, unless the [`Reading`] says otherwise. Whatever these rules find, every class holds one node per step that does the same to aligned inputs: being right does not rest
//! on the search.

mod follow;
mod verify;

use super::index::Index;
use super::part::element_of;
use super::reach::Reach;
use super::template::{Class, Sequence, Source, State, Template};
use crate::graph::{Fact, Graph, ValueId};
pub(super) use follow::follow;
use std::collections::HashMap;

/// Nesting of a step's nodes up to which they are aligned: the search recurses.
const DEEPEST: usize = 200;
/// Classes of a step.
const MOST_CLASSES: usize = 2000;

/// One value per step. Only that of the last step may be missing.
type Lane = Vec<Option<ValueId>>;

/// What is tried first for what the chain itself reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reading {
    /// That the step before made it.
    CarriedFirst,
    /// That the same step made it.
    SameStepFirst,
}

/// What a lane turned out to be.
enum Aligned {
    Source(Source),
    /// Unclear while the value of the last step is missing.
    Open,
}

/// Whether a lane belongs to a class.
enum Belongs {
    /// It does, as this source.
    Fits(Source),
    /// One of its values does, and the others do not agree.
    Not,
    Nowhere,
}

pub(super) struct Aligner<'a> {
    graph: &'a Graph,
    index: &'a Index,
    facts: &'a [Option<Fact>],
    /// What depends on the chain's first node.
    depends: &'a Reach<'a>,
    steps: usize,
    template: Template,
    /// Class and step of each node that has one.
    place: HashMap<usize, (usize, usize)>,
    /// Classes whose last node was set when a lane named it.
    named_last: Vec<usize>,
    reading: Reading,
    fuel: &'a mut usize,
}

/// The template of `chain`, whose first class is the chain's.
pub(super) fn align(
    graph: &Graph,
    index: &Index,
    facts: &[Option<Fact>],
    depends: &Reach<'_>,
    chain: &[usize],
    reading: Reading,
    fuel: &mut usize,
) -> Option<Template> {
    let mut aligner = Aligner {
        graph,
        index,
        facts,
        depends,
        steps: chain.len(),
        template: Template { steps: chain.len(), ..Template::default() },
        place: HashMap::new(),
        named_last: Vec::new(),
        reading,
        fuel,
    };
    let nodes: Vec<Option<usize>> = chain.iter().copied().map(Some).collect();
    aligner.class(nodes, false, 0)?;
    aligner.verify()?;
    let template = aligner.template;
    (!template.states.is_empty()).then_some(template)
}

impl Aligner<'_> {
    fn depends(&self, id: Option<ValueId>) -> bool {
        id.is_some_and(|id| self.depends.holds(id))
    }

    fn place(&self, id: Option<ValueId>) -> Option<(usize, usize, usize)> {
        let (node, output) = self.index.writer(id?)?;
        let (class, step) = *self.place.get(&node)?;
        Some((class, output, step))
    }

    fn align(&mut self, lane: &Lane, closed: bool, depth: usize) -> Option<Aligned> {
        *self.fuel = self.fuel.checked_sub(lane.len())?;
        if depth > DEEPEST {
            return None;
        }
        match self.known_class(lane) {
            Belongs::Fits(source) => return Some(Aligned::Source(source)),
            Belongs::Not => return None,
            Belongs::Nowhere => {}
        }
        let full = lane.last().is_some_and(Option::is_some);
        if !full {
            return if self.depends(lane[0]) {
                self.class_of(lane, closed, depth).map(Aligned::Source)
            } else {
                Some(Aligned::Open)
            };
        }
        let dependent = lane.iter().any(|&id| self.depends(id));
        if lane.iter().all(|id| *id == lane[0]) {
            return (!dependent).then_some(Aligned::Source(Source::Fixed(lane[0]?)));
        }
        if !dependent && let Some(source) = self.element(lane) {
            return Some(Aligned::Source(source));
        }
        let mark = self.mark();
        // What the chain itself reads is a state rather than the end of a step that began in its middle, unless
        // the last step would not make it.
        let carried = dependent && !self.depends(lane[0]) && lane[1..].iter().all(|&id| self.depends(id));
        let at_chain = depth == 1;
        if carried && at_chain && self.reading == Reading::CarriedFirst {
            if let Some(source) = self.carried(lane, closed, depth, true) {
                return Some(Aligned::Source(source));
            }
            self.forget(&mark);
        }
        if let Some(source) = self.class_of(lane, closed || !dependent, depth) {
            return Some(Aligned::Source(source));
        }
        self.forget(&mark);
        if dependent {
            if !carried {
                return None;
            }
            return self.carried(lane, closed, depth, false).map(Aligned::Source);
        }
        let values: Vec<ValueId> = lane.iter().copied().collect::<Option<_>>()?;
        // Other weights in every step are no sequence of inputs.
        let matrix = |id: &ValueId| {
            self.graph.constant(*id).is_some_and(|t| t.shape().iter().filter(|&&d| d > 1).count() > 1)
        };
        if values.iter().any(matrix) {
            return None;
        }
        // Products of sequences are aligned only where all of it ends in sequences; otherwise the product is one.
        if closed && !values.iter().all(|&id| self.index.writer(id).is_none()) {
            return None;
        }
        Some(Aligned::Source(self.sequence(Sequence::Values(values))))
    }

    /// The lane as a state: all but its first value are made by the step before.
    fn carried(&mut self, lane: &Lane, closed: bool, depth: usize, to_the_end: bool) -> Option<Source> {
        let mut made: Lane = lane[1..].to_vec();
        made.push(None);
        let Source::Step { class, output } = self.class_of(&made, closed, depth)? else { return None };
        if to_the_end && self.template.classes[class].nodes[self.steps - 1].is_none() {
            return None;
        }
        self.state(class, output, lane[0])
    }

    /// Whether the lane's values belong to a known class.
    fn known_class(&mut self, lane: &Lane) -> Belongs {
        let probe = usize::from(lane.get(1).is_some_and(Option::is_some));
        let Some((class, output, step)) = self.place(lane[probe]) else { return Belongs::Nowhere };
        let last = self.steps - 1;
        if step == probe {
            for k in 0..self.steps {
                if lane[k].is_none() || self.place(lane[k]) == Some((class, output, k)) {
                    continue;
                }
                // The class may not know its last node yet.
                let node = lane[k].and_then(|id| self.index.writer(id));
                let fits = k == last
                    && self.template.classes[class].nodes[last].is_none()
                    && node.is_some_and(|(n, o)| {
                        let like = self.template.classes[class].nodes[0];
                        o == output
                            && !self.place.contains_key(&n)
                            && like.is_some_and(|l| self.index.keys[l] == self.index.keys[n])
                    });
                let (true, Some((node, _))) = (fits, node) else { return Belongs::Not };
                self.template.classes[class].nodes[last] = Some(node);
                self.place.insert(node, (class, last));
                self.named_last.push(class);
            }
            return Belongs::Fits(Source::Step { class, output });
        }
        let previous = step + 1 == probe
            && class != 0
            && (1..self.steps)
                .all(|k| lane[k].is_none() || self.place(lane[k]) == Some((class, output, k - 1)));
        let state = if previous { self.state(class, output, lane[0]) } else { None };
        state.map_or(Belongs::Not, Belongs::Fits)
    }

    fn state(&mut self, class: usize, output: usize, initial: Option<ValueId>) -> Option<Source> {
        if self.depends(initial) {
            return None;
        }
        let same = |s: &State| s.class == class && s.output == output;
        if let Some(at) = self.template.states.iter().position(same) {
            return (self.template.states[at].initial == initial).then_some(Source::Previous(at));
        }
        self.template.states.push(State { class, output, initial });
        Some(Source::Previous(self.template.states.len() - 1))
    }

    fn sequence(&mut self, sequence: Sequence) -> Source {
        let known = self.template.sequences.iter().position(|s| *s == sequence);
        Source::Element(known.unwrap_or_else(|| {
            self.template.sequences.push(sequence);
            self.template.sequences.len() - 1
        }))
    }

    /// The lane as slices of one tensor. The value of the last step may be missing.
    fn element(&mut self, lane: &[Option<ValueId>]) -> Option<Source> {
        let part = |id: &Option<ValueId>| element_of(self.graph, self.index, self.facts, (*id)?);
        let (first, second) = (part(lane.first()?)?, part(lane.get(1)?)?);
        let (start, stride) =
            (first.selection.start as i64, second.selection.start as i64 - first.selection.start as i64);
        if stride == 0 || self.depends(Some(first.source)) {
            return None;
        }
        for (k, id) in lane.iter().enumerate() {
            if id.is_none() {
                continue;
            }
            let at = part(id)?;
            let expected = start + stride * k as i64;
            let fits = at.source == first.source
                && at.selection.axis == first.selection.axis
                && at.selection.drops_axis == first.selection.drops_axis
                && at.selection.start as i64 == expected;
            if !fits {
                return None;
            }
        }
        let (source, axis, drops_axis) = (first.source, first.selection.axis, first.selection.drops_axis);
        Some(self.sequence(Sequence::Part { source, axis, start, stride, drops_axis }))
    }

    /// The class of the nodes that write the lane.
    fn class_of(&mut self, lane: &Lane, closed: bool, depth: usize) -> Option<Source> {
        let mut output = None;
        let mut nodes = Vec::with_capacity(lane.len());
        for id in lane {
            let Some(id) = id else {
                nodes.push(None);
                continue;
            };
            let (node, at) = self.index.writer(*id)?;
            if output.is_some_and(|o| o != at) {
                return None;
            }
            output = Some(at);
            nodes.push(Some(node));
        }
        let output = output?;
        let class = self.class(nodes, closed, depth)?;
        Some(Source::Step { class, output })
    }

    fn class(&mut self, nodes: Vec<Option<usize>>, closed: bool, depth: usize) -> Option<usize> {
        let last = self.steps - 1;
        let first = nodes[0]?;
        let key = self.index.keys[first];
        let arity = self.graph.nodes[first].inputs.len();
        let fits = |n: usize| self.index.keys[n] == key && self.graph.nodes[n].inputs.len() == arity;
        if key & 1 == 1 || !nodes.iter().flatten().all(|&n| fits(n) && !self.place.contains_key(&n)) {
            return None;
        }
        let class = self.template.classes.len();
        if class >= MOST_CLASSES {
            return None;
        }
        for (step, node) in nodes.iter().enumerate() {
            if let Some(node) = node
                && self.place.insert(*node, (class, step)).is_some()
            {
                // One node in two steps; what was inserted is forgotten with the class.
                self.template.classes.push(Class { nodes: nodes.clone(), inputs: Vec::new() });
                return None;
            }
        }
        self.template.classes.push(Class { nodes, inputs: vec![None; arity] });
        let mut open: Vec<(usize, Lane)> = Vec::new();
        for input in 0..arity {
            let mut lane = self.lane(class, input)?;
            if lane.iter().all(Option::is_none) {
                continue;
            }
            if lane[last].is_none() && self.template.classes[class].nodes[last].is_some() {
                // Its node has become known since.
                lane = self.lane(class, input)?;
            }
            match self.align(&lane, closed, depth + 1)? {
                Aligned::Source(source) => self.template.classes[class].inputs[input] = Some(source),
                Aligned::Open => open.push((input, lane)),
            }
        }
        if self.template.classes[class].nodes[last].is_none()
            && let Some(node) = self.find_last(class, &open)
        {
            self.template.classes[class].nodes[last] = Some(node);
            self.place.insert(node, (class, last));
        }
        let known = self.template.classes[class].nodes[last].is_some();
        for (input, mut lane) in open {
            if known {
                lane = self.lane(class, input)?;
            }
            let source = if known {
                match self.align(&lane, closed, depth + 1)? {
                    Aligned::Source(source) => source,
                    Aligned::Open => return None,
                }
            } else {
                self.without_last(&lane[..last])?
            };
            self.template.classes[class].inputs[input] = Some(source);
        }
        if known {
            self.check(class, last)?;
        }
        Some(class)
    }

    /// The values of input `input` of the class's nodes.
    fn lane(&self, class: usize, input: usize) -> Option<Lane> {
        let nodes = &self.template.classes[class].nodes;
        let lane: Lane = nodes.iter().map(|n| n.and_then(|n| self.graph.nodes[n].inputs[input])).collect();
        let given = lane.iter().filter(|id| id.is_some()).count();
        let there = nodes.iter().filter(|n| n.is_some()).count();
        (given == 0 || given == there).then_some(lane)
    }

    /// What a lane is whose last step nobody computes.
    fn without_last(&mut self, lane: &[Option<ValueId>]) -> Option<Source> {
        if lane.len() < 2 || lane.iter().any(|&id| self.depends(id)) {
            return None;
        }
        if lane.iter().all(|id| *id == lane[0]) {
            return lane[0].map(Source::Fixed);
        }
        self.element(lane)
    }

    fn mark(&self) -> [usize; 4] {
        let t = &self.template;
        [t.classes.len(), t.states.len(), t.sequences.len(), self.named_last.len()]
    }

    fn forget(&mut self, &[classes, states, sequences, named]: &[usize; 4]) {
        let last = self.steps - 1;
        for class in self.named_last.drain(named..) {
            if let Some(node) = self.template.classes[class].nodes[last].take() {
                self.place.remove(&node);
            }
        }
        for (class, dropped) in self.template.classes.iter().enumerate().skip(classes) {
            for node in dropped.nodes.iter().flatten() {
                if self.place.get(node).is_some_and(|(c, _)| *c == class) {
                    self.place.remove(node);
                }
            }
        }
        self.template.classes.truncate(classes);
        self.template.states.truncate(states);
        self.template.sequences.truncate(sequences);
    }
}
