//! One computation on every element of sequences, its results stacked, becomes one computation on the sequences.
//!
//! A decoder that is written out step by step ends in such a computation: each step's state, a context beside it, one
//! product, and a concatenation of all steps' results. `concat_t f(x_t)` is `f(X)` where
//! - `f` is products by shared matrices, elementwise functions and concatenations along axes of the elements,
//! - `x_t` is element `t` of a sequence along its first axis, in order and none left out, or the same for all steps,
//! - nobody reads what lies between.
//!
//! The sums are what they were. It pays where there is a product: its weights are read once instead of once a step,
//! and one operator takes the place of one a step.

use super::joined::Joined;
use super::recovery::build::{integers, node as new_node};
use crate::graph::fact::{Fact, Facts, normal_axis};
use crate::graph::{Graph, Node, ValueId, remove_dead_code};
use crate::ops::attributes::Attribute;
use std::collections::HashMap;
use std::sync::Arc;

/// Deepest computation that is looked at.
const DEEPEST: usize = 16;

/// What a value of every step is, for all steps.
#[derive(Clone, Debug)]
enum Whole {
    /// The same in every step.
    Shared(ValueId),
    /// One of each step.
    Steps(Steps),
}

/// A value of each step as one tensor.
#[derive(Clone, Debug)]
struct Steps {
    value: ValueId,
    /// Whether all rows of all steps are below each other, or an axis ahead of those of an element counts the steps.
    flat: bool,
    /// Extents of an element.
    element: Vec<usize>,
    count: usize,
}

impl Steps {
    /// The shape of the tensor when it is `flat`, or not.
    fn shape(&self, flat: bool) -> Option<Vec<i64>> {
        let signed = |d: usize| i64::try_from(d).ok();
        let (last, rows) = self.element.split_last()?;
        if !flat {
            return [self.count].iter().chain(&self.element).map(|&d| signed(d)).collect();
        }
        let count = rows.iter().try_fold(self.count, |n, &d| n.checked_mul(d))?;
        Some(vec![signed(count)?, signed(*last)?])
    }
}

/// Stacks what can be; what became of it, if anything was.
pub(super) fn stack_steps(graph: &mut Graph, facts: &[Option<Fact>]) -> Option<Vec<Joined>> {
    let ends: Vec<usize> =
        (0..graph.nodes.len()).filter(|&at| graph.nodes[at].op.joined_axis().is_some()).collect();
    if ends.is_empty() {
        return None;
    }
    let mut readers = vec![0usize; graph.values.len()];
    let mut maker = HashMap::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().flatten().for_each(|id| readers[id.index()] += 1);
        node.outputs.iter().flatten().for_each(|id| _ = maker.insert(*id, at));
    }
    graph.outputs.iter().for_each(|id| readers[id.index()] += 1);
    let mut stacked: HashMap<usize, Vec<Node>> = HashMap::new();
    let mut report = Vec::new();
    for at in ends {
        let (made, joined) = (Vec::new(), Vec::new());
        let mut stacking =
            Stacking { graph, facts, readers: &readers, maker: &maker, made, joined, products: 0 };
        if let Some(nodes) = stacking.end(at) {
            report.append(&mut stacking.joined);
            stacked.insert(at, nodes);
        }
    }
    if stacked.is_empty() {
        return None;
    }
    for (at, node) in std::mem::take(&mut graph.nodes).into_iter().enumerate() {
        match stacked.remove(&at) {
            Some(nodes) => graph.nodes.extend(nodes),
            None => graph.nodes.push(node),
        }
    }
    remove_dead_code(graph);
    Some(report)
}

struct Stacking<'a> {
    graph: &'a mut Graph,
    facts: &'a [Option<Fact>],
    readers: &'a [usize],
    maker: &'a HashMap<ValueId, usize>,
    made: Vec<Node>,
    joined: Vec<Joined>,
    products: usize,
}

impl Stacking<'_> {
    /// The nodes that make what concatenation `at` does.
    fn end(&mut self, at: usize) -> Option<Vec<Node>> {
        let end = self.graph.nodes[at].clone();
        let [Some(output)] = end.outputs[..] else { return None };
        let parts: Vec<ValueId> = end.inputs.iter().copied().collect::<Option<_>>()?;
        let shape = self.shape(output)?;
        let axis = normal_axis(end.op.joined_axis()?, shape.len()).ok()?;
        // Elements behind one another along the first axis: with or without an axis of their own for the step.
        if parts.len() < 2 || axis != 0 {
            return None;
        }
        let views = parts.iter().map(|part| self.behind_view(*part)).collect::<Option<Vec<_>>>();
        let Whole::Steps(Steps { value: whole, .. }) =
            self.whole(views.as_ref().unwrap_or(&parts), DEEPEST)?
        else {
            return None;
        };
        if self.products == 0 {
            return None;
        }
        let target: Vec<i64> = shape.iter().map(|&d| i64::try_from(d).ok()).collect::<Option<_>>()?;
        let reshaped = self.reshape(whole, &target)?;
        let last = self.made.last_mut().filter(|node| node.outputs[0] == Some(reshaped))?;
        (last.outputs, last.name) = (vec![Some(output)], end.name);
        Some(std::mem::take(&mut self.made))
    }

    fn shape(&self, value: ValueId) -> Option<Vec<usize>> {
        Some(self.facts.get(value.index())?.as_ref()?.tensor()?.known_shape()?.to_vec())
    }

    /// The value that `value` is another shape of, with an axis of one element ahead; nothing else reads `value`.
    fn behind_view(&self, value: ValueId) -> Option<ValueId> {
        let node = &self.graph.nodes[*self.maker.get(&value)?];
        let from = node.inputs.first().copied().flatten()?;
        let (before, after) = (self.shape(from)?, self.shape(value)?);
        let ahead = after.split_first().is_some_and(|(first, rest)| *first == 1 && rest == before);
        (node.op.alias_of() == Some(0) && ahead && self.readers[value.index()] == 1).then_some(from)
    }

    /// The values `steps`, one of each step, as one.
    fn whole(&mut self, steps: &[ValueId], depth: usize) -> Option<Whole> {
        let (&first, rest) = steps.split_first()?;
        if rest.iter().all(|id| *id == first) {
            return Some(Whole::Shared(first));
        }
        let depth = depth.checked_sub(1)?;
        let makers: Vec<usize> = steps.iter().map(|id| self.maker.get(id).copied()).collect::<Option<_>>()?;
        if let Some(sequence) = self.sequence(&makers) {
            return Some(sequence);
        }
        let node = self.graph.nodes[makers[0]].clone();
        let alike = |at: &usize| {
            let other = &self.graph.nodes[*at];
            let same =
                Arc::ptr_eq(&other.op, &node.op) || format!("{:?}", other.op) == format!("{:?}", node.op);
            other.def == node.def && other.inputs.len() == node.inputs.len() && same
        };
        let alone = steps.iter().all(|id| self.readers[id.index()] == 1);
        if node.outputs.len() != 1 || !alone || !makers[1..].iter().all(alike) {
            return None;
        }
        let mut given = Vec::with_capacity(node.inputs.len());
        for index in 0..node.inputs.len() {
            let of_steps: Option<Vec<ValueId>> =
                makers.iter().map(|&at| self.graph.nodes[at].inputs[index]).collect();
            given.push(self.whole(&of_steps?, depth)?);
        }
        let element = self.shape(first)?;
        let is_product = node.op.product().is_some();
        let whole = if is_product {
            self.product(&node, &given, element)?
        } else if let Some(axis) = node.op.joined_axis() {
            self.joined(&given, normal_axis(axis, element.len()).ok()?, element)?
        } else {
            self.elementwise(&node, &given, element)?
        };
        let of_steps = makers.iter().map(|&at| &self.graph.nodes[at]);
        let made = self.made.last().map(|made| Joined::of(&made.name, of_steps, is_product.then_some(1)));
        self.joined.extend(made);
        Some(whole)
    }

    /// The sequence whose elements the nodes `makers` take, one after the other along its first axis.
    fn sequence(&self, makers: &[usize]) -> Option<Whole> {
        let source = self.graph.nodes[*makers.first()?].inputs.first().copied().flatten()?;
        let shape = self.shape(source)?;
        let in_order = |(step, at): (usize, &usize)| {
            let node = &self.graph.nodes[*at];
            let given: Vec<Option<&Fact>> =
                node.inputs.iter().map(|id| id.and_then(|id| self.facts.get(id.index())?.as_ref())).collect();
            let made =
                node.outputs.first().copied().flatten().and_then(|id| self.facts.get(id.index())?.clone());
            let selection = made.and_then(|made| node.op.selection(Facts(&given), &[made], 0));
            node.inputs.first() == Some(&Some(source))
                && node.outputs.len() == 1
                && selection.is_some_and(|s| s.axis == 0 && s.start == step && s.count == 1 && s.drops_axis)
        };
        let (first, element) = shape.split_first()?;
        let all = *first == makers.len() && makers.iter().enumerate().all(in_order);
        let element = element.to_vec();
        all.then_some(Whole::Steps(Steps { value: source, flat: false, element, count: makers.len() }))
    }

    /// The product of all steps' left operands and one matrix: all rows of all steps below each other.
    fn product(&mut self, node: &Node, given: &[Whole], element: Vec<usize>) -> Option<Whole> {
        let [Whole::Steps(x), Whole::Shared(weights), addends @ ..] = given else { return None };
        let shared = |addend: &Whole| match addend {
            Whole::Shared(id) => {
                let shape = self.shape(*id)?;
                // Broadcast to every row.
                shape.iter().rev().skip(1).all(|d| *d == 1).then_some(Some(*id))
            }
            Whole::Steps(_) => None,
        };
        let addends: Vec<Option<ValueId>> = addends.iter().map(shared).collect::<Option<_>>()?;
        let matrix = self.shape(*weights)?.len() == 2 && !node.op.product()?.transpose_a;
        if !matrix || x.element.len() < 2 || x.element.len() != element.len() {
            return None;
        }
        let flat = self.shaped(x, true)?;
        let inputs = [Some(flat), Some(*weights)].into_iter().chain(addends).collect();
        let made = self.graph.add_value(node.name.clone());
        self.made.push(Node { inputs, outputs: vec![Some(made)], ..node.clone() });
        self.products += 1;
        Some(Whole::Steps(Steps { value: made, flat: true, element, count: x.count }))
    }

    /// The tensor of `steps`, flat or not.
    fn shaped(&mut self, steps: &Steps, flat: bool) -> Option<ValueId> {
        if steps.flat == flat { Some(steps.value) } else { self.reshape(steps.value, &steps.shape(flat)?) }
    }

    fn joined(&mut self, given: &[Whole], axis: usize, element: Vec<usize>) -> Option<Whole> {
        let (mut inputs, mut count) = (Vec::with_capacity(given.len()), 0);
        // Rows that are put beside each other stay rows.
        let flat = element.len() >= 2 && axis + 1 == element.len();
        for whole in given {
            let Whole::Steps(steps) = whole else { return None };
            count = steps.count;
            inputs.push(Some(self.shaped(steps, flat)?));
        }
        let axis = if flat { 1 } else { i64::try_from(axis + 1).ok()? };
        let value = self.add("Concat", vec![("axis", Attribute::Int(axis))], inputs)?;
        Some(Whole::Steps(Steps { value, flat, element, count }))
    }

    fn elementwise(&mut self, node: &Node, given: &[Whole], element: Vec<usize>) -> Option<Whole> {
        let known = node.op.activation().is_some()
            || matches!(node.def.name, "Add" | "Sub" | "Mul" | "Div" | "Neg" | "Exp" | "Sqrt" | "Reciprocal");
        // Rows stay flat behind a product, whose epilogue they become, where what is broadcast is a row.
        let flat = given.iter().all(|whole| match whole {
            Whole::Shared(id) => self.shape(*id).is_some_and(|shape| shape.len() <= 1),
            Whole::Steps(steps) => steps.flat && steps.element == element,
        });
        let (mut inputs, mut count) = (Vec::with_capacity(given.len()), 0);
        for whole in given {
            inputs.push(Some(match whole {
                // The axis of steps is ahead of all axes that are broadcast.
                Whole::Shared(id) if self.shape(*id)?.len() <= element.len() => *id,
                Whole::Steps(steps) if steps.element.len() == element.len() => {
                    count = steps.count;
                    self.shaped(steps, flat)?
                }
                _ => return None,
            }));
        }
        if !known || !node.def.domain.is_empty() {
            return None;
        }
        let made = self.graph.add_value(node.name.clone());
        self.made.push(Node { inputs, outputs: vec![Some(made)], ..node.clone() });
        Some(Whole::Steps(Steps { value: made, flat, element, count }))
    }

    /// `value` in this shape. An extent of 0 would stand for one of the value's own: nothing is stacked of no elements.
    fn reshape(&mut self, value: ValueId, shape: &[i64]) -> Option<ValueId> {
        if shape.contains(&0) {
            return None;
        }
        let target = integers(self.graph, shape)?;
        self.add("Reshape", Vec::new(), vec![Some(value), Some(target)])
    }

    fn add(
        &mut self,
        op: &str,
        attributes: Vec<(&str, Attribute)>,
        inputs: Vec<Option<ValueId>>,
    ) -> Option<ValueId> {
        let node = new_node(self.graph, op, attributes, inputs, 0, 1)?;
        let output = node.outputs[0];
        self.made.push(node);
        output
    }
}
