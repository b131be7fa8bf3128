//! A template becomes one `Scan`.
//!
//! It is *planned* first, which leaves the graph's nodes alone, and *applied* when it is wanted. It holds when nothing that the Scan reads depends on what it replaces, when states keep dtype and shape, and
//! when sequences of values have one dtype and shape. Values of single steps that are read elsewhere become
//! slices of a collected output, the last one of a state the Scan's final state.

use super::build::{integers, node, one};
use super::index::{Index, Keys};
use super::peel::zeros_of;
use super::reach::Reach;
use super::template::{Sequence, Source, Template};
use crate::graph::{Fact, Graph, Node, ValueId};
use crate::memory::Budget;
use crate::ops::attributes::{Attribute, Body};
use crate::tensor::Tensor;
use std::collections::{HashMap, HashSet};

/// A template's Scan that is not yet in the graph.
pub(super) struct Plan {
    /// What stands before the Scan.
    pub(super) before: Vec<Node>,
    /// The Scan, or what stands for it.
    pub(super) scan: Vec<Node>,
    /// What takes values of single steps out of it.
    pub(super) behind: Vec<Node>,
    /// What is read instead of what the nodes gave.
    pub(super) replaced: Vec<(ValueId, ValueId)>,
    /// The nodes that it stands for.
    pub(super) gone: Vec<usize>,
}

impl Plan {
    /// Puts the Scan in place of the nodes.
    pub(super) fn apply(self, graph: &mut Graph, index: &mut Index, keys: &mut Keys) {
        index.remove(graph, &self.gone);
        let made = self.before.into_iter().chain(self.scan).chain(self.behind);
        index.append(graph, keys, made.collect());
        index.redirect(graph, &self.replaced);
    }
}

/// Which classes lie in the loop: those of which a node depends on the chain. Others are kept where they are read.
pub(super) fn inside(graph: &Graph, depends: &Reach<'_>, template: &Template) -> Vec<bool> {
    let given = |n: &usize| graph.nodes[*n].outputs.iter().flatten().any(|id| depends.holds(*id));
    template.classes.iter().map(|c| c.nodes.iter().flatten().any(given)).collect()
}

/// Plans the Scan that replaces the template's nodes, those of the classes `inside`. `None`, and nothing changed but
/// values without readers, where it does not hold.
///
/// Nothing that the Scan reads depends on the nodes, so that no cycle comes of it.
pub(super) fn plan(
    graph: &mut Graph,
    index: &Index,
    facts: &[Option<Fact>],
    inside: &[bool],
    template: &Template,
    budget: &Budget,
) -> Option<Plan> {
    let mut place: HashMap<usize, (usize, usize)> = HashMap::new();
    for (at, class) in template.classes.iter().enumerate().filter(|(at, _)| inside[*at]) {
        place.extend(class.nodes.iter().enumerate().filter_map(|(k, n)| n.map(|n| (n, (at, k)))));
    }
    check(graph, index, facts, template, &place)?;

    let wanted = wanted_outside(graph, index, &place);
    let reversed = !template.sequences.is_empty() && template.sequences.iter().all(runs_backwards);
    let axis = collected_axis(template);

    // The outputs: final states, then what is collected.
    let last = template.steps - 1;
    let mut collected: Vec<(usize, usize)> = Vec::new();
    let mut uses: Vec<(ValueId, Use)> = Vec::new();
    let mut before_last: HashSet<(usize, usize)> = HashSet::new();
    before_last.extend(wanted.iter().filter(|w| w.3 != last).map(|w| (w.1, w.2)));
    for (id, class, output, step) in wanted {
        let state = template.states.iter().position(|s| (s.class, s.output) == (class, output));
        let what = match state {
            // Beside other steps, the last one is a slice like them.
            Some(state) if step == last && !before_last.contains(&(class, output)) => Use::Final(state),
            _ => {
                let known = collected.iter().position(|c| *c == (class, output));
                let at = known.unwrap_or_else(|| {
                    collected.push((class, output));
                    collected.len() - 1
                });
                Use::Step { collected: at, step }
            }
        };
        uses.push((id, what));
    }

    let mut made: Vec<Node> = Vec::new();
    let mut inputs: Vec<Option<ValueId>> = Vec::new();
    for state in &template.states {
        let first = template.classes[state.class].nodes.iter().flatten().next().copied()?;
        let like = graph.nodes[first].outputs[state.output]?;
        inputs.push(Some(match state.initial {
            Some(id) => id,
            None => {
                let zeros = zeros_of(facts, like, budget)?;
                graph.add_constant("zeros", zeros)
            }
        }));
    }
    let mut reversals = Vec::new();
    let mut input_axes = Vec::new();
    for sequence in &template.sequences {
        let (id, axis, backwards) =
            sequence_value(graph, facts, &mut made, sequence, template.steps, reversed)?;
        inputs.push(Some(id));
        input_axes.push(axis);
        reversals.push(i64::from(backwards));
    }
    if template.sequences.is_empty() {
        // A Scan counts its steps by a sequence; where none is read, one of nothing does it.
        let bytes = Tensor::new(&[template.steps], vec![0i64; template.steps]).ok()?;
        inputs.push(Some(graph.add_constant("steps", bytes)));
        input_axes.push(0);
        reversals.push(0);
    }
    let formal = inputs.len();
    let (body, captures) = body(graph, template, &collected, formal)?;
    let sequences = formal - template.states.len();
    inputs.extend(captures.iter().copied().map(Some));
    let attributes = vec![
        ("body", Attribute::Body(Body { graph: body, formal_inputs: formal })),
        ("num_scan_inputs", Attribute::Int(sequences as i64)),
        ("scan_input_axes", Attribute::Ints(input_axes)),
        ("scan_input_directions", Attribute::Ints(reversals)),
        ("scan_output_axes", Attribute::Ints(vec![axis; collected.len()])),
        ("scan_output_directions", Attribute::Ints(vec![i64::from(reversed); collected.len()])),
    ];
    let outputs = template.states.len() + collected.len();
    let scan = node(graph, "Scan", attributes, inputs, captures.len(), outputs)?;
    let results: Vec<ValueId> = scan.outputs.iter().copied().collect::<Option<_>>()?;
    let mut behind: Vec<Node> = Vec::new();
    let mut replaced: Vec<(ValueId, ValueId)> = Vec::new();
    for (id, what) in uses {
        let new = match what {
            Use::Final(state) => results[state],
            Use::Step { collected, step } => {
                let at = if reversed { last - step } else { step };
                let at = graph.add_constant("step", Tensor::scalar(at as i64));
                let from = results[template.states.len() + collected];
                one(graph, &mut behind, "Gather", vec![("axis", Attribute::Int(axis))], &[from, at])?
            }
        };
        replaced.push((id, new));
    }
    let mut gone: Vec<usize> = place.into_keys().collect();
    gone.sort_unstable();
    Some(Plan { before: made, scan: vec![scan], behind, replaced, gone })
}

enum Use {
    Final(usize),
    Step { collected: usize, step: usize },
}

/// Whether what the Scan would read is there before it, and states and sequences keep their form.
fn check(
    graph: &Graph,
    index: &Index,
    facts: &[Option<Fact>],
    template: &Template,
    place: &HashMap<usize, (usize, usize)>,
) -> Option<()> {
    let behind = Reach::of(graph, index, place.keys().copied());
    let free = |id: ValueId| !behind.holds(id);
    for class in &template.classes {
        for source in class.inputs.iter().flatten() {
            if let Source::Fixed(id) = source
                && !free(*id)
            {
                return None;
            }
        }
    }
    let tensor = |id: ValueId| facts.get(id.index())?.as_ref()?.tensor();
    for state in &template.states {
        let mut forms = template.classes[state.class]
            .nodes
            .iter()
            .flatten()
            .map(|&n| tensor(graph.nodes[n].outputs[state.output]?));
        let first = forms.next().flatten()?;
        let initial = match state.initial {
            Some(id) if !free(id) => return None,
            Some(id) => tensor(id)?,
            None => first,
        };
        let same = |f: Option<&crate::graph::TensorFact>| {
            f.is_none_or(|f| f.dtype == initial.dtype && (f.has_shape_of(initial) || f.rank() == Some(0)))
        };
        if !same(Some(first)) || first.rank() != initial.rank() || !forms.all(same) {
            return None;
        }
    }
    for sequence in &template.sequences {
        match sequence {
            Sequence::Part { source, .. } => {
                if !free(*source) {
                    return None;
                }
            }
            Sequence::Values(values) => {
                let first = tensor(*values.first()?)?;
                let same = |f: &crate::graph::TensorFact| {
                    f.dtype == first.dtype
                        && (f.has_shape_of(first) || f.rank() == Some(0) && first.rank() == Some(0))
                };
                if !values.iter().all(|&id| free(id) && tensor(id).is_some_and(same)) {
                    return None;
                }
            }
        }
    }
    Some(())
}

/// Outputs of the loop's nodes that are read outside, with class, output and step.
fn wanted_outside(
    graph: &Graph,
    index: &Index,
    place: &HashMap<usize, (usize, usize)>,
) -> Vec<(ValueId, usize, usize, usize)> {
    let given: HashSet<ValueId> = graph.outputs.iter().copied().collect();
    let mut nodes: Vec<usize> = place.keys().copied().collect();
    nodes.sort_unstable();
    let mut wanted = Vec::new();
    for at in nodes {
        let (class, step) = place[&at];
        for (output, id) in graph.nodes[at].outputs.iter().enumerate() {
            let Some(id) = *id else { continue };
            if given.contains(&id) || index.readers(id).any(|r| !place.contains_key(&r)) {
                wanted.push((id, class, output, step));
            }
        }
    }
    wanted
}

/// Where outputs are collected: along the axis that the sequences are read along, if it is the first or second.
fn collected_axis(template: &Template) -> i64 {
    let mut axes = template.sequences.iter().map(|s| match s {
        Sequence::Part { axis, drops_axis: true, .. } => *axis,
        _ => 0,
    });
    match axes.next() {
        Some(1) if axes.all(|a| a == 1) => 1,
        _ => 0,
    }
}

/// Whether the first step's value comes last in the model.
fn runs_backwards(sequence: &Sequence) -> bool {
    match sequence {
        Sequence::Part { stride, .. } => *stride < 0,
        Sequence::Values(values) => values.len() > 1 && values.windows(2).all(|pair| pair[0] > pair[1]),
    }
}

/// The sequence as a tensor with its axis, and whether it is read from the end: with `reversed`, all are, and
/// otherwise none.
fn sequence_value(
    graph: &mut Graph,
    facts: &[Option<Fact>],
    made: &mut Vec<Node>,
    sequence: &Sequence,
    steps: usize,
    reversed: bool,
) -> Option<(ValueId, i64, bool)> {
    match sequence {
        Sequence::Part { source, axis, start, stride, .. } => {
            let last = start.checked_add(stride.checked_mul(i64::try_from(steps).ok()? - 1)?)?;
            let (low, high, stride) = ((*start).min(last), (*start).max(last), *stride);
            let extent =
                facts.get(source.index())?.as_ref()?.tensor()?.shape.as_ref()?.get(*axis)?.known()?;
            if low < 0 || high >= extent as i64 {
                return None;
            }
            let whole = low == 0 && high + 1 == extent as i64 && stride.abs() == 1;
            let turned = stride < 0 && !reversed;
            if whole && !turned {
                return Some((*source, *axis as i64, reversed));
            }
            // From the last one on, an end beyond the front takes all of them.
            let bounds = if turned {
                [high, if low == 0 { i64::MIN + 1 } else { low - 1 }, *axis as i64, stride]
            } else {
                [low, high + 1, *axis as i64, stride.abs()]
            };
            let mut given = vec![*source];
            for bound in bounds {
                given.push(integers(graph, &[bound])?);
            }
            let value = one(graph, made, "Slice", Vec::new(), &given)?;
            Some((value, *axis as i64, reversed))
        }
        Sequence::Values(values) => {
            let zero = integers(graph, &[0])?;
            let mut rows = values
                .iter()
                .map(|&id| one(graph, made, "Unsqueeze", Vec::new(), &[id, zero]))
                .collect::<Option<Vec<_>>>()?;
            if reversed {
                rows.reverse();
            }
            let joined = one(graph, made, "Concat", vec![("axis", Attribute::Int(0))], &rows)?;
            Some((joined, 0, reversed))
        }
    }
}

/// The body, and the values that it captures.
fn body(
    graph: &Graph,
    template: &Template,
    collected: &[(usize, usize)],
    formal: usize,
) -> Option<(Graph, Vec<ValueId>)> {
    let mut body = Graph { name: "step".into(), ..Graph::default() };
    let given: Vec<ValueId> = (0..formal)
        .map(|i| body.add_value(if i < template.states.len() { "state" } else { "element" }))
        .collect();
    body.inputs.clone_from(&given);
    let mut nodes: Vec<Node> = Vec::new();
    // An element that keeps its axis gets it back.
    let mut elements: Vec<ValueId> = Vec::new();
    for (sequence, &id) in template.sequences.iter().zip(&given[template.states.len()..]) {
        elements.push(match sequence {
            Sequence::Part { axis, drops_axis: false, .. } => {
                let axis = integers(&mut body, &[*axis as i64])?;
                one(&mut body, &mut nodes, "Unsqueeze", Vec::new(), &[id, axis])?
            }
            _ => id,
        });
    }
    let mut fixed: HashMap<ValueId, ValueId> = HashMap::new();
    let mut captures: Vec<ValueId> = Vec::new();
    let mut places: Vec<Vec<Option<ValueId>>> = vec![Vec::new(); template.classes.len()];
    for class in template.order()? {
        let like = &graph.nodes[template.classes[class].nodes.iter().flatten().next().copied()?];
        let mut inputs = Vec::with_capacity(like.inputs.len());
        for source in &template.classes[class].inputs {
            inputs.push(match *source {
                None => None,
                Some(Source::Previous(state)) => Some(given[state]),
                Some(Source::Element(at)) => Some(elements[at]),
                Some(Source::Step { class, output }) => Some((*places[class].get(output)?)?),
                Some(Source::Fixed(id)) => Some(*fixed.entry(id).or_insert_with(|| {
                    let value = graph.value(id);
                    let inner = body.add_value(value.name.clone());
                    match &value.constant {
                        Some(t) => body.values[inner.index()].constant = Some(t.clone()),
                        None => {
                            body.inputs.push(inner);
                            captures.push(id);
                        }
                    }
                    inner
                })),
            });
        }
        // An output may be read in some steps only.
        let outputs: Vec<Option<ValueId>> =
            like.outputs.iter().map(|_| Some(body.add_value(like.name.clone()))).collect();
        places[class].clone_from(&outputs);
        nodes.push(Node { inputs, outputs, ..like.clone() });
    }
    body.nodes = nodes;
    let states = template.states.iter().map(|s| (s.class, s.output));
    body.outputs = states
        .chain(collected.iter().copied())
        .map(|(class, output)| *places[class].get(output)?)
        .collect::<Option<_>>()?;
    Some((body, captures))
}
