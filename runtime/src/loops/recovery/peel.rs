//! A first step that looks different: what a constant initial state leads to was computed when the model was
//! written.
//!
//! The chain then starts with the second step, whose states come from nodes that do what the step does, with
//! constants in place of what depends on the state alone. Such nodes are the step before the first when every
//! class's node is there, or its output is a constant equal to what the class computes from the constant initial
//! state, zeros where nothing else names one.

use super::index::Index;
use super::part::element_of;
use super::template::{Sequence, Source, Template};
use crate::cpu::RunContext;
use crate::exec::{Interrupt, Team, evaluate};
use crate::graph::{Fact, Graph, ValueId};
use crate::memory::Budget;
use crate::tensor::{Tensor, Value, ValueRef};

/// Relative difference of a constant that another engine computed.
const CLOSE: f64 = 1e-6;

/// Puts the step before the first in front of the template's, if there is one. `depends` tells what depends on
/// the chain.
pub(super) fn prepend(
    graph: &Graph,
    index: &Index,
    facts: &[Option<Fact>],
    template: &mut Template,
    budget: &Budget,
) -> Option<()> {
    let mut nodes: Vec<Option<usize>> = vec![None; template.classes.len()];
    let mut constants: Vec<Vec<(usize, Tensor)>> = vec![Vec::new(); template.classes.len()];
    let mut initial: Vec<Option<ValueId>> = vec![None; template.states.len()];
    let mut values: Vec<Option<ValueId>> = vec![None; template.sequences.len()];
    let mut open: Vec<(Source, ValueId)> = Vec::new();
    for state in &template.states {
        open.push((Source::Step { class: state.class, output: state.output }, state.initial?));
    }
    let mut made = false;
    while let Some((source, value)) = open.pop() {
        match source {
            Source::Fixed(id) => {
                if id != value {
                    return None;
                }
            }
            Source::Previous(state) => {
                if *initial[state].get_or_insert(value) != value {
                    return None;
                }
            }
            Source::Element(at) => {
                let fits = match &template.sequences[at] {
                    Sequence::Values(_) => *values[at].get_or_insert(value) == value,
                    Sequence::Part { source, axis, start, stride, drops_axis } => {
                        let part = element_of(graph, index, facts, value)?;
                        part.source == *source
                            && part.selection.axis == *axis
                            && part.selection.drops_axis == *drops_axis
                            && part.selection.start as i64 == start - stride
                    }
                };
                if !fits {
                    return None;
                }
            }
            Source::Step { class, output } => {
                if let Some(constant) = graph.constant(value) {
                    if nodes[class].is_some() {
                        return None;
                    }
                    constants[class].push((output, constant.clone()));
                    continue;
                }
                let (node, at) = index.writer(value)?;
                let like = template.classes[class].nodes.iter().flatten().next()?;
                let fits = at == output
                    && index.keys[node] == index.keys[*like]
                    && constants[class].is_empty()
                    && nodes[class].is_none_or(|n| n == node);
                if !fits {
                    return None;
                }
                if nodes[class].replace(node).is_some() {
                    continue;
                }
                made = true;
                let given = &graph.nodes[node].inputs;
                if given.len() != template.classes[class].inputs.len() {
                    return None;
                }
                for (source, given) in template.classes[class].inputs.iter().zip(given) {
                    match (source, given) {
                        (Some(source), Some(given)) => open.push((*source, *given)),
                        (None, None) => {}
                        _ => return None,
                    }
                }
            }
        }
    }
    // A step that is constant altogether tells nothing.
    if !made || !constants_fit(graph, facts, template, &constants, &initial, budget)? {
        return None;
    }
    for (class, node) in template.classes.iter_mut().zip(nodes) {
        class.nodes.insert(0, node);
    }
    for (sequence, value) in template.sequences.iter_mut().zip(values) {
        match sequence {
            Sequence::Part { start, stride, .. } => *start -= *stride,
            Sequence::Values(list) => list.insert(0, value?),
        }
    }
    for (state, initial) in template.states.iter_mut().zip(initial) {
        state.initial = initial;
    }
    template.steps += 1;
    Some(())
}

/// Whether every constant output is what its class computes from the initial states.
fn constants_fit(
    graph: &Graph,
    facts: &[Option<Fact>],
    template: &Template,
    constants: &[Vec<(usize, Tensor)>],
    initial: &[Option<ValueId>],
    budget: &Budget,
) -> Option<bool> {
    let (team, interrupt) = (Team::serial(), Interrupt::default());
    let context = RunContext { team: &team, interrupt: &interrupt, budget, times: None };
    for (class, outputs) in template.classes.iter().zip(constants) {
        if outputs.is_empty() {
            continue;
        }
        let mut inputs: Vec<Option<Value>> = Vec::with_capacity(class.inputs.len());
        for source in &class.inputs {
            let tensor = match *source {
                None => None,
                Some(Source::Fixed(id)) => Some(graph.constant(id)?.clone()),
                Some(Source::Previous(state)) => Some(match initial[state] {
                    Some(id) => graph.constant(id)?.clone(),
                    None => zeros_of(facts, template.states[state].initial?, budget)?,
                }),
                Some(Source::Step { class, output }) => {
                    Some(constants[class].iter().find(|(o, _)| *o == output)?.1.clone())
                }
                Some(Source::Element(_)) => return Some(false),
            };
            let tensor = match tensor {
                Some(t) if !t.is_aligned() => Some(Tensor::copy_of(t.view(), budget).ok()?),
                other => other,
            };
            inputs.push(tensor.map(Value::from));
        }
        let like = &graph.nodes[class.nodes.iter().flatten().next().copied()?];
        let refs: Vec<Option<ValueRef<'_>>> = inputs.iter().map(|v| v.as_ref().map(Value::as_ref)).collect();
        let wanted: Vec<bool> =
            (0..like.outputs.len()).map(|o| outputs.iter().any(|(at, _)| *at == o)).collect();
        let mut made = evaluate(&*like.op, None, &refs, &wanted, context).ok()?;
        for (output, expected) in outputs {
            let got = made.get_mut(*output)?.take()?.into_tensor()?;
            if !close(&got, expected)? {
                return Some(false);
            }
        }
    }
    Some(true)
}

/// Zeros of the dtype and shape that `id` is known to have.
pub(super) fn zeros_of(facts: &[Option<Fact>], id: ValueId, budget: &Budget) -> Option<Tensor> {
    let fact = facts.get(id.index())?.as_ref()?.tensor()?;
    let (dtype, shape) = (fact.dtype, fact.known_shape()?);
    let bytes = fact.bytes().filter(|_| dtype.is_float())?;
    let buffer = crate::memory::Buffer::zeroed(bytes, budget).ok()?;
    Tensor::from_buffer(dtype, &shape, buffer).ok()
}

/// Equal but for the order of sums.
fn close(a: &Tensor, b: &Tensor) -> Option<bool> {
    if a.dtype() != b.dtype() || a.shape() != b.shape() {
        return Some(false);
    }
    if !a.dtype().is_float() {
        return Some(a.bytes() == b.bytes());
    }
    let (a, b) = (a.to_f64s()?, b.to_f64s()?);
    let largest = b.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    Some(a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= CLOSE * largest))
}
