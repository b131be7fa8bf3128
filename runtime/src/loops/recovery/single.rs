//! A cell that is written out for a single step becomes its operator, of one step: what a streaming model does
//! with its states as inputs and outputs.
//!
//! No chain of steps shows such a cell, so it is looked for from its end. The nodes that lead to a product (the
//! output of an LSTM), a sum (of a GRU) or a function (of a plain cell) are followed back through elementwise
//! functions, cuts and products with constant matrices; what they begin with is the step's input and its states. The
//! step becomes a [`Template`] of one step, the template a Scan, and that is kept where it is recognised as a cell.
//!
//! Which of two operands of products the state is changes nothing in an LSTM or a plain cell. But any layer on two
//! inputs is a plain cell, so there the state must be a constant or, as a whole, an input of the model, the result
//! one of its outputs, and what else is read made by no other layer that is written out.

use super::index::{Index, Keys, settle};
use super::order::sort_nodes;
use super::part::{element_of, part_of};
use super::roll::{self, Plan};
use super::shared::share_nodes;
use super::template::{Class, Sequence, Source, State, Template};
use super::{as_operator, is_elementwise};
use crate::graph::{Fact, Graph, KnownFacts, Node, TensorFact, ValueId};
use crate::memory::Budget;
use smallvec::SmallVec;
use std::collections::{HashMap, HashSet};

/// Nodes of a cell.
const MOST_NODES: usize = 256;
/// Products of a cell: one of the input and one of the state for each of an LSTM's four gates. What adds up more, such as
/// the residual sums of a stack of layers, is followed back no further.
const MOST_PRODUCTS: usize = 8;
/// Templates of a graph that turn out to be no cell.
const MOST_FAILURES: usize = 64;

/// Which cell a node may be the end of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Lstm,
    Gru,
    Plain,
}

/// Replaces every such cell.
pub(super) fn operators(graph: &mut Graph, keys: &mut Keys, budget: &Budget) -> bool {
    let mut failed: HashSet<ValueId> = HashSet::new();
    let copied = own_joins(graph);
    let mut changed = false;
    while replace(graph, keys, &mut failed, budget) {
        changed = true;
    }
    if copied {
        share_nodes(graph, keys);
    }
    changed
}

/// Gives each product of several that read one `[x, h]` with a constant state its own: cells of both directions that
/// begin with the same state share it.
fn own_joins(graph: &mut Graph) -> bool {
    let constant = |id: &Option<ValueId>| id.is_some_and(|id| graph.constant(id).is_some());
    let joins: Vec<(usize, ValueId)> = (graph.nodes.iter().enumerate())
        .filter(|(_, n)| n.op.joined_axis().is_some() && n.inputs.iter().any(constant))
        .filter_map(|(at, n)| Some((at, n.outputs.first().copied().flatten()?)))
        .collect();
    if joins.is_empty() || joins.len() > MOST_NODES {
        return false;
    }
    let mut made = Vec::new();
    for (at, output) in joins {
        let readers: Vec<usize> =
            (0..graph.nodes.len()).filter(|&r| graph.nodes[r].inputs.contains(&Some(output))).collect();
        if readers.iter().any(|&r| weighted_operand(graph, &graph.nodes[r], None).is_none()) {
            continue;
        }
        for &reader in readers.iter().skip(1) {
            let own = graph.add_value(graph.value(output).name.clone());
            made.push(Node { outputs: vec![Some(own)], ..graph.nodes[at].clone() });
            for id in &mut graph.nodes[reader].inputs {
                if *id == Some(output) {
                    *id = Some(own);
                }
            }
        }
    }
    graph.nodes.append(&mut made);
    sort_nodes(graph)
}

/// Replaces the cells of one kind, the first of which there are any.
fn replace(graph: &mut Graph, keys: &mut Keys, failed: &mut HashSet<ValueId>, budget: &Budget) -> bool {
    let mut led_to = led_to(graph);
    if !led_to.contains(&true) {
        return false;
    }
    let mut index = Index::new(graph, keys);
    let mut known = KnownFacts::default();
    known.update(graph);
    let mut before = None;
    for kind in [Kind::Lstm, Kind::Gru, Kind::Plain] {
        for at in 0..graph.nodes.len() {
            let node = &graph.nodes[at];
            let Some(Some(end)) = node.outputs.first().copied() else { continue };
            let fits = match kind {
                Kind::Lstm => node.def.name == "Mul",
                Kind::Gru => matches!(node.def.name, "Add" | "Sub" | "Sum"),
                Kind::Plain => node.op.activation().is_some() && is_output(graph, &index, end),
            };
            if !fits || !led_to[end.index()] || failed.contains(&end) || failed.len() > MOST_FAILURES {
                continue;
            }
            let facts = known.facts();
            let Some(cone) = Cone::new(graph, &index, facts, &led_to, end, kind) else { continue };
            let templates = cone.templates(graph, &index, facts, &led_to, end, kind);
            let made =
                templates.iter().find_map(|template| replaced(graph, &index, &mut known, template, budget));
            if let Some(plan) = made {
                before.get_or_insert_with(|| (graph.nodes.clone(), graph.outputs.clone()));
                let first = graph.nodes.len();
                plan.apply(graph, &mut index, keys);
                known.learn(graph, &graph.nodes[first..]);
                // What an operator gives comes of no product.
                led_to.resize(graph.values.len(), false);
            } else if !templates.is_empty() && kind != Kind::Lstm && before.is_none() {
                failed.insert(end);
            }
        }
        // The rest is looked at with what is known now.
        if before.is_some() {
            break;
        }
    }
    settle(graph, before)
}

/// The operator in place of the template's nodes.
fn replaced(
    graph: &mut Graph,
    index: &Index,
    known: &mut KnownFacts,
    template: &Template,
    budget: &Budget,
) -> Option<Plan> {
    // Everything that the template holds is inside.
    let inside = vec![true; template.classes.len()];
    let values = graph.values.len();
    let plan = roll::plan(graph, index, known.facts(), &inside, template, budget);
    let found = plan.and_then(|plan| as_operator(graph, index, known, plan, budget).ok());
    if found.is_none() {
        graph.values.truncate(values);
        known.forget(values);
    }
    found
}

/// The operand of a product with a constant matrix.
///
/// Where both are constant, it is the one of the shape `state`.
fn weighted_operand(graph: &Graph, node: &Node, state: Option<&TensorFact>) -> Option<usize> {
    node.op.product()?;
    let is_state = |i: usize| {
        let given = node.inputs.get(i).copied().flatten().and_then(|id| graph.constant(id));
        let shape = state.and_then(TensorFact::known_shape);
        given.zip(shape).is_some_and(|(given, shape)| given.shape() == shape.as_slice())
    };
    let matrix = |i: usize| {
        let weights = node.inputs.get(i).copied().flatten().and_then(|id| graph.constant(id));
        weights.is_some_and(|t| t.shape().len() == 2 && t.len() > 1)
    };
    match (matrix(0), matrix(1)) {
        (true, true) if is_state(1) && !is_state(0) => Some(1),
        (_, true) => Some(0),
        (true, false) => Some(1),
        _ => None,
    }
}

/// For each value, whether a product with a constant matrix leads to it through what cells consist of.
fn led_to(graph: &Graph) -> Vec<bool> {
    let mut led_to = vec![false; graph.values.len()];
    for node in &graph.nodes {
        let passes = is_elementwise(node)
            || node.op.alias_of() == Some(0)
            || matches!(node.def.name, "Slice" | "Split" | "Gather");
        let led = weighted_operand(graph, node, None).is_some()
            || passes && node.inputs.iter().flatten().any(|id| led_to[id.index()]);
        if led {
            node.outputs.iter().flatten().for_each(|id| led_to[id.index()] = true);
        }
    }
    led_to
}

/// Whether `id` is an output of the graph, as it is or put together with others.
fn is_output(graph: &Graph, index: &Index, id: ValueId) -> bool {
    let mut open = vec![id];
    for _ in 0..16 {
        let Some(id) = open.pop() else { return false };
        if graph.outputs.contains(&id) {
            return true;
        }
        for reader in index.readers(id) {
            let node = &graph.nodes[reader];
            if node.op.alias_of() == Some(0) || node.op.joined_axis().is_some() {
                open.extend(node.outputs.iter().flatten());
            }
        }
    }
    false
}

/// How a value is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Elementwise,
    /// By a product with weights.
    Operand,
}

/// The nodes of a cell, and what they begin with.
struct Cone {
    /// In the order of the graph.
    nodes: Vec<usize>,
    /// What is read from outside, constants included, in the order in which it was found.
    begins: Vec<(ValueId, Role)>,
    /// Of each of `nodes` the role of what each of its inputs reads; nothing of one that is absent.
    roles: Vec<SmallVec<[Option<Role>; 4]>>,
}

impl Cone {
    fn new(
        graph: &Graph,
        index: &Index,
        facts: &[Option<Fact>],
        led_to: &[bool],
        end: ValueId,
        kind: Kind,
    ) -> Option<Self> {
        // What is put together for other readers, too, is made before the cell.
        let mut apart: Vec<usize> = Vec::new();
        loop {
            let cone = Self::beside(graph, index, facts, led_to, end, kind, &apart)?;
            let shared = |at: usize| {
                let mut outputs = graph.nodes[at].outputs.iter().flatten();
                graph.nodes[at].op.joined_axis().is_some()
                    && outputs.any(|id| {
                        graph.outputs.contains(id) || index.readers(*id).any(|r| !cone.nodes.contains(&r))
                    })
            };
            let found: Vec<usize> = cone.nodes.iter().copied().filter(|&at| shared(at)).collect();
            if found.is_empty() {
                return Some(cone);
            }
            apart.extend(found);
        }
    }

    /// The cone without the nodes of `apart`.
    #[allow(clippy::too_many_arguments, reason = "the graph and what is known of it")]
    fn beside(
        graph: &Graph,
        index: &Index,
        facts: &[Option<Fact>],
        led_to: &[bool],
        end: ValueId,
        kind: Kind,
        apart: &[usize],
    ) -> Option<Self> {
        let form = facts.get(end.index())?.as_ref()?.tensor();
        let mut begins: Vec<(ValueId, Role)> = Vec::new();
        let mut inner: Vec<(usize, SmallVec<[Option<Role>; 4]>)> = Vec::new();
        let mut seen: HashSet<usize> = HashSet::new();
        let mut products = 0;
        let mut open = vec![(end, Role::Elementwise)];
        while let Some((id, role)) = open.pop() {
            let inside = (graph.constant(id).is_none())
                .then(|| index.writer(id))
                .flatten()
                .map(|(at, _)| at)
                .filter(|at| !apart.contains(at))
                .filter(|&at| is_inside(graph, index, facts, led_to, id, at, role, kind));
            let Some(at) = inside else {
                if !begins.contains(&(id, role)) {
                    begins.push((id, role));
                }
                continue;
            };
            if !seen.insert(at) {
                continue;
            }
            let node = &graph.nodes[at];
            let operand = weighted_operand(graph, node, form);
            products += usize::from(operand.is_some());
            if products > MOST_PRODUCTS || seen.len() > MOST_NODES {
                return None;
            }
            let mut roles = SmallVec::from_elem(None, node.inputs.len());
            for (input, given) in node.inputs.iter().enumerate() {
                let Some(given) = *given else { continue };
                let through = node.op.joined_axis().is_some() && role == Role::Operand;
                let of = if operand == Some(input) || through { Role::Operand } else { Role::Elementwise };
                roles[input] = Some(of);
                // Weights are no begin.
                if operand.is_none() || operand == Some(input) || graph.constant(given).is_none() {
                    open.push((given, of));
                }
            }
            inner.push((at, roles));
        }
        inner.sort_unstable_by_key(|node| node.0);
        let (nodes, roles) = inner.into_iter().unzip();
        (products > 0).then_some(Self { nodes, begins, roles })
    }

    /// What the cell may be as one step, with each choice of its states.
    fn templates(
        &self,
        graph: &Graph,
        index: &Index,
        facts: &[Option<Fact>],
        led_to: &[bool],
        end: ValueId,
        kind: Kind,
    ) -> Vec<Template> {
        let tensor = |id: ValueId| facts.get(id.index()).and_then(Option::as_ref).and_then(Fact::tensor);
        let Some(form) = tensor(end) else { return Vec::new() };
        let like_state = |id: ValueId| {
            tensor(id)
                .is_some_and(|t| t.dtype == form.dtype && t.rank() == form.rank() && t.has_shape_of(form))
        };
        let begins = |role: Role| {
            self.begins.iter().filter(move |(id, r)| *r == role && like_state(*id)).map(|(id, _)| *id)
        };
        let from_outside = |id: ValueId| graph.constant(id).is_some() || graph.inputs.contains(&id);
        // Constants first, then the inputs of the model, the later ones before: states come behind what is new.
        let mut hidden: Vec<ValueId> = begins(Role::Operand).collect();
        hidden.sort_by_key(|&id| {
            (graph.constant(id).is_none(), !from_outside(id), std::cmp::Reverse(id.index()))
        });
        let varies = self.begins.iter().filter(|(id, _)| graph.constant(*id).is_none()).count();
        let Some(&first) = hidden.first().filter(|_| varies > 0) else { return Vec::new() };
        let make = |states: &[(ValueId, Role, ValueId)]| self.template(graph, index, facts, states, kind);
        match kind {
            Kind::Plain => (self.begins.iter().all(|(id, _)| !led_to[id.index()]) && from_outside(first))
                .then(|| make(&[(first, Role::Operand, end)]))
                .flatten()
                .into_iter()
                .collect(),
            Kind::Gru => begins(Role::Elementwise)
                .filter(|id| hidden.contains(id))
                .filter_map(|h| make(&[(h, Role::Operand, end)]))
                .collect(),
            Kind::Lstm => {
                let sums = self
                    .nodes
                    .iter()
                    .filter(|&&at| matches!(graph.nodes[at].def.name, "Add" | "Sub" | "Sum"));
                let sums: Vec<ValueId> = sums
                    .filter_map(|&at| graph.nodes[at].outputs.first().copied().flatten())
                    .filter(|id| like_state(*id))
                    .collect();
                let mut all = Vec::new();
                for c in begins(Role::Elementwise).take(4) {
                    for &next in sums.iter().rev().take(4) {
                        all.extend(make(&[(first, Role::Operand, end), (c, Role::Elementwise, next)]));
                    }
                }
                all
            }
        }
    }

    /// The template with `states`: what each is before the step, how it is read, and after it.
    fn template(
        &self,
        graph: &Graph,
        index: &Index,
        facts: &[Option<Fact>],
        states: &[(ValueId, Role, ValueId)],
        kind: Kind,
    ) -> Option<Template> {
        let mut template = Template { steps: 1, ..Template::default() };
        let class_of: HashMap<usize, usize> = self.nodes.iter().enumerate().map(|(c, at)| (*at, c)).collect();
        let written = |id: ValueId| {
            let (at, output) = index.writer(id)?;
            Some((*class_of.get(&at)?, output))
        };
        for &(initial, _, after) in states {
            let (class, output) = written(after)?;
            template.states.push(State { class, output, initial: Some(initial) });
        }
        for (&at, roles) in self.nodes.iter().zip(&self.roles) {
            let mut inputs = Vec::new();
            for (input, given) in graph.nodes[at].inputs.iter().enumerate() {
                let Some(id) = *given else {
                    inputs.push(None);
                    continue;
                };
                let role = (*roles.get(input)?)?;
                let state = states.iter().position(|s| s.0 == id && (s.1 == role || kind == Kind::Gru));
                inputs.push(Some(if let Some((class, output)) = written(id) {
                    Source::Step { class, output }
                } else if let Some(state) = state {
                    Source::Previous(state)
                } else if graph.constant(id).is_some() {
                    Source::Fixed(id)
                } else {
                    let sequence = match element_of(graph, index, facts, id) {
                        Some(part) if part.selection.drops_axis => Sequence::Part {
                            source: part.source,
                            axis: part.selection.axis,
                            start: i64::try_from(part.selection.start).ok()?,
                            stride: 1,
                            drops_axis: true,
                        },
                        _ => Sequence::Values(vec![id]),
                    };
                    let known = template.sequences.iter().position(|s| *s == sequence);
                    Source::Element(known.unwrap_or_else(|| {
                        template.sequences.push(sequence);
                        template.sequences.len() - 1
                    }))
                }));
            }
            template.classes.push(Class { nodes: vec![Some(at)], inputs });
        }
        Some(template)
    }
}

/// Whether node `at`, which writes `id`, is part of a cell that reads it as `role`.
#[allow(clippy::too_many_arguments, reason = "the graph and what is known of it")]
fn is_inside(
    graph: &Graph,
    index: &Index,
    facts: &[Option<Fact>],
    led_to: &[bool],
    id: ValueId,
    at: usize,
    role: Role,
    kind: Kind,
) -> bool {
    let node = &graph.nodes[at];
    let from = node.inputs.first().copied().flatten();
    if role == Role::Operand {
        // `[x, h]`, and `r ⊙ h` of a GRU.
        return node.op.joined_axis().is_some() || kind == Kind::Gru && node.def.name == "Mul";
    }
    if weighted_operand(graph, node, None).is_some() || is_elementwise(node) {
        return true;
    }
    if !from.is_some_and(|id| led_to[id.index()]) {
        return false;
    }
    match part_of(graph, index, facts, id) {
        // A step of a product made for all of them; a gate of those that lie along an axis of their own is inside.
        Some(part) if part.selection.drops_axis => {
            index.writer(part.source).is_some_and(|(from, _)| graph.nodes[from].op.alias_of() == Some(0))
        }
        Some(_) => true,
        None => node.op.alias_of() == Some(0),
    }
}
