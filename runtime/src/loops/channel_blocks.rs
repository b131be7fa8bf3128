//! Channels in blocks: convolutions that follow each other compute on `[images, channels / 16, height, width, 16]`, and
//! the layout is changed once where tensors enter them and once where they leave.
//!
//! *Islands* are operators that have a form for such tensors and that values connect: convolutions and pools
//! ([`Op::in_blocks`](crate::ops::Op::in_blocks)), concatenations of channels, means over whole planes, and elementwise
//! functions, whose constants are one for all elements or one for each channel. A value may lie in blocks where it is a
//! tensor of f32 of four axes whose channels are a multiple of 16 and whose other extents, the number of images apart, are
//! known. Everything computes what it did, with sums in another order.
//!
//! An island pays where what its convolutions save exceeds what changing the layout at its border costs; both are counted
//! in operations ([`SAVED`], [`CHANGE`]).

use super::Affine;
use super::lower::extents;
use super::nest::{Nest, Outside};
use super::recovery::build::{integers, node as new_node};
use crate::cpu::blocked::BLOCK;
use crate::dtype::DType;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::graph::{Dim, Graph, Node, ValueId};
use crate::ops::InBlocks;
use crate::ops::attributes::Attribute;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The part of its operations that a convolution in blocks saves: one in so many.
const SAVED: usize = 6;
/// Operations in whose time an element changes its layout.
const CHANGE: usize = 128;
/// Operations in whose time a convolution of channels by themselves, bound by what it reads, makes an element.
const ALONE: usize = 128;
/// Convolutions of an island at least.
const LEAST: usize = 2;

/// The form of an operator for channels in blocks.
enum Form {
    /// A convolution or pool.
    Own { made: InBlocks, saved: usize },
    /// The operator as it is; constants of one element for each channel are given the extents of blocks.
    Same { per_channel: Vec<usize> },
    /// The mean over each plane.
    Mean,
}

/// What an island gains.
#[derive(Clone, Copy, Default)]
pub(super) struct Gain {
    convolutions: usize,
    /// Operations that its convolutions save, and those that it takes to change layouts.
    saved: usize,
    lost: usize,
}

impl Gain {
    fn pays(&self) -> bool {
        self.convolutions >= LEAST && self.saved > self.lost
    }
}

/// Puts what pays into blocks; `facts` are those of the graph's values. Whether anything was.
pub(crate) fn block_channels(graph: &mut Graph, facts: &[Option<Fact>]) -> bool {
    block_islands(graph, facts, &Gain::pays)
}

/// Puts the islands that `wanted` says into blocks.
pub(super) fn block_islands(
    graph: &mut Graph,
    facts: &[Option<Fact>],
    wanted: &dyn Fn(&Gain) -> bool,
) -> bool {
    let forms: Vec<Option<Form>> = graph.nodes.iter().map(|node| form(graph, node, facts)).collect();
    let islands = islands(graph, &forms, facts, wanted);
    if islands.iter().all(Option::is_none) {
        return false;
    }
    let mut rewrite = Rewrite { facts, blocked: HashMap::new(), made: Vec::new() };
    let nodes = graph.nodes.clone();
    let plain = wanted_plain(graph, &islands);
    for (at, (node, form)) in nodes.iter().zip(&forms).enumerate() {
        let put = match form {
            Some(form) if islands[at].is_some() => rewrite.node(graph, node, form, &plain),
            _ => {
                rewrite.made.push(node.clone());
                Some(())
            }
        };
        if put.is_none() {
            // Nothing of the graph's nodes has been touched.
            return false;
        }
    }
    graph.nodes = rewrite.made;
    true
}

/// Channels and elements of an image of a value that may lie in blocks.
fn planes(fact: Option<&Fact>) -> Option<(usize, usize)> {
    let fact = fact?.tensor().filter(|t| t.dtype == DType::F32)?;
    let [_, channels, height, width] = fact.shape.as_deref()? else { return None };
    let channels = channels.known().filter(|n| *n > 0 && n.is_multiple_of(BLOCK))?;
    let elements = channels.checked_mul(height.known()?)?.checked_mul(width.known()?)?;
    Some((channels, elements)).filter(|_| elements > 0)
}

fn of(facts: &[Option<Fact>], id: ValueId) -> Option<&Fact> {
    facts.get(id.index())?.as_ref()
}

/// The form of `node`, if it has one.
fn form(graph: &Graph, node: &Node, facts: &[Option<Fact>]) -> Option<Form> {
    let mut outputs = node.outputs.iter().flatten();
    let (&output, None) = (outputs.next()?, outputs.next()) else { return None };
    let (_, elements) = planes(of(facts, output))?;
    let given: Vec<Option<&Fact>> = node.inputs.iter().map(|id| id.and_then(|id| of(facts, id))).collect();
    let first = node.inputs.first().copied()??;
    let variable = |id: &ValueId| graph.constant(*id).is_none();
    if let Some(made) = node.op.in_blocks(Facts(&given)) {
        let fits = variable(&first) && (made.plain || planes(of(facts, first)).is_some());
        let saved = match made.name.name {
            "BlockedConv" => {
                let weights = given.get(1).copied().flatten()?.tensor()?.known_shape()?;
                let terms = weights[1..].iter().try_fold(2usize, |n, &d| n.checked_mul(d))?;
                let terms = if weights[1] == 1 { ALONE * SAVED } else { terms };
                elements.checked_mul(terms)? / SAVED
            }
            _ => 0,
        };
        return fits.then_some(Form::Own { made, saved });
    }
    if node.def.domain.is_empty() && node.def.name == "GlobalAveragePool" {
        return (variable(&first) && planes(of(facts, first)).is_some()).then_some(Form::Mean);
    }
    if node.op.joined_axis() == Some(1) {
        let fit = |id: &ValueId| variable(id) && planes(of(facts, *id)).is_some();
        let all = node.inputs.iter().all(|id| id.as_ref().is_some_and(fit));
        return all.then(|| Form::Same { per_channel: Vec::new() });
    }
    let fact = of(facts, output).cloned()?;
    let nest = node.op.nest(Facts(&given), std::slice::from_ref(&fact)).ok()?;
    elementwise(graph, node, facts, &nest)
}

/// The form of an operator that computes each element of its output from those at the same place.
fn elementwise(graph: &Graph, node: &Node, facts: &[Option<Fact>], nest: &Nest) -> Option<Form> {
    nest.as_map()?;
    let axes: &[Dim] = &nest.axes;
    let [_, channels, _, _] = axes else { return None };
    let channels = channels.known()?;
    let mut per_channel = Vec::new();
    for (index, id) in node.inputs.iter().enumerate() {
        let Some(id) = *id else { continue };
        let fact = of(facts, id)?.tensor()?;
        let shape = extents(fact).ok()?;
        let ahead = axes.len().checked_sub(shape.len())?;
        // Every read is at the place itself, or at the one element of an axis.
        let reads = nest.reads.iter().filter(|read| read.operand == index);
        for read in reads {
            let straight = read.index.iter().enumerate().all(|(axis, at)| {
                *at == Affine::axis(axis + ahead)
                    || shape[axis].known() == Some(1) && *at == Affine::constant(0)
            });
            if !straight || read.outside != Outside::Never {
                return None;
            }
        }
        if graph.constant(id).is_none() {
            if planes(of(facts, id))?.0 != channels {
                return None;
            }
            continue;
        }
        let known: Vec<usize> = shape.iter().map(Dim::known).collect::<Option<_>>()?;
        let others = known.iter().enumerate().filter(|(axis, _)| axis + ahead != 1);
        let of_channels = ahead <= 1 && known[1 - ahead] == channels;
        match (of_channels, others.map(|(_, extent)| extent).all(|&extent| extent == 1)) {
            (true, true) => per_channel.push(index),
            (false, true) if known.iter().all(|&extent| extent == 1) => {}
            _ => return None,
        }
    }
    Some(Form::Same { per_channel })
}

/// The island of each node that is in one that is wanted.
fn islands(
    graph: &Graph,
    forms: &[Option<Form>],
    facts: &[Option<Fact>],
    wanted: &dyn Fn(&Gain) -> bool,
) -> Vec<Option<usize>> {
    let mut maker: HashMap<ValueId, usize> = HashMap::new();
    let mut root: Vec<usize> = (0..graph.nodes.len()).collect();
    for (at, node) in graph.nodes.iter().enumerate() {
        let Some(form) = &forms[at] else { continue };
        for id in inputs_in_blocks(graph, node, form) {
            if let Some(&from) = maker.get(&id) {
                let (a, b) = (find(&mut root, from), find(&mut root, at));
                root[a.max(b)] = a.min(b);
            }
        }
        // A mean leaves the blocks.
        if !matches!(form, Form::Mean) {
            node.outputs.iter().flatten().for_each(|id| _ = maker.insert(*id, at));
        }
    }
    let roots: Vec<usize> = (0..graph.nodes.len()).map(|at| find(&mut root, at)).collect();
    let mut gains: HashMap<usize, Gain> = HashMap::new();
    for (at, form) in forms.iter().enumerate() {
        let Some(Form::Own { saved, .. }) = form else { continue };
        let gain = gains.entry(roots[at]).or_default();
        gain.convolutions += usize::from(*saved > 0);
        gain.saved = gain.saved.saturating_add(*saved);
    }
    // What changes its layout at a border, counted once for each value.
    let size = |id: ValueId| planes(of(facts, id)).map_or(0, |(_, elements)| elements);
    let mut entered: Vec<(usize, ValueId)> = Vec::new();
    let mut left: Vec<ValueId> = graph.outputs.clone();
    for (at, node) in graph.nodes.iter().enumerate() {
        match &forms[at] {
            Some(form) => {
                let outside = |id: &ValueId| !maker.contains_key(id);
                entered.extend(inputs_in_blocks(graph, node, form).filter(outside).map(|id| (roots[at], id)));
            }
            None => left.extend(node.inputs.iter().flatten()),
        }
    }
    left.extend(captured(graph));
    let mut changed: Vec<(usize, ValueId)> =
        left.into_iter().filter_map(|id| Some((roots[*maker.get(&id)?], id))).chain(entered).collect();
    changed.sort_unstable_by_key(|(island, id)| (*island, id.index()));
    changed.dedup();
    for (island, id) in changed {
        let gain = gains.entry(island).or_default();
        gain.lost = gain.lost.saturating_add(size(id).saturating_mul(CHANGE));
    }
    let pays = |island: &usize| gains.get(island).is_some_and(wanted);
    (0..graph.nodes.len()).map(|at| forms[at].as_ref().map(|_| roots[at]).filter(pays)).collect()
}

fn find(root: &mut [usize], at: usize) -> usize {
    let mut at = at;
    while root[at] != at {
        root[at] = root[root[at]];
        at = root[at];
    }
    at
}

/// Values that bodies of control flow read, which are inputs of their nodes, too.
fn captured(graph: &Graph) -> impl Iterator<Item = ValueId> + '_ {
    let with_bodies = graph.nodes.iter().filter(|node| !node.op.bodies().is_empty());
    with_bodies.flat_map(|node| node.inputs.iter().flatten().copied())
}

/// The inputs that `node` reads in blocks.
fn inputs_in_blocks<'g>(
    graph: &'g Graph,
    node: &'g Node,
    form: &'g Form,
) -> impl Iterator<Item = ValueId> + 'g {
    let count = match form {
        Form::Own { made, .. } => usize::from(!made.plain),
        Form::Same { .. } => node.inputs.len(),
        Form::Mean => 1,
    };
    node.inputs.iter().take(count).flatten().copied().filter(|id| graph.constant(*id).is_none())
}

/// Values that somebody reads as models have them.
fn wanted_plain(graph: &Graph, islands: &[Option<usize>]) -> HashSet<ValueId> {
    let outside = graph.nodes.iter().zip(islands).filter(|(_, island)| island.is_none());
    let read = outside.flat_map(|(node, _)| node.inputs.iter().flatten().copied());
    read.chain(graph.outputs.iter().copied()).collect()
}

/// The nodes that take the place of a graph's.
struct Rewrite<'f> {
    facts: &'f [Option<Fact>],
    /// Values in blocks, by those that they stand for.
    blocked: HashMap<ValueId, ValueId>,
    made: Vec<Node>,
}

impl Rewrite<'_> {
    /// Channels, height and width.
    fn extents(&self, id: ValueId) -> Option<[usize; 3]> {
        let shape = of(self.facts, id)?.tensor().and_then(|t: &TensorFact| t.shape.as_deref())?;
        let [_, rest @ ..] = shape else { return None };
        let known: Vec<usize> = rest.iter().map(Dim::known).collect::<Option<_>>()?;
        known.try_into().ok()
    }

    /// `id` in blocks.
    fn blocks_of(&mut self, graph: &mut Graph, id: ValueId) -> Option<ValueId> {
        if let Some(&there) = self.blocked.get(&id) {
            return Some(there);
        }
        let [channels, height, width] = self.extents(id)?;
        let cut = self.reshape(graph, id, &[0, channels / BLOCK, BLOCK, height, width])?;
        let made = self.transpose(graph, cut, &[0, 1, 3, 4, 2])?;
        self.blocked.insert(id, made);
        Some(made)
    }

    /// The nodes that make `id` from the same in blocks.
    fn out_of_blocks(&mut self, graph: &mut Graph, blocked: ValueId, id: ValueId) -> Option<()> {
        let [channels, height, width] = self.extents(id)?;
        // A block of one position lies as its channels do.
        let turned =
            if height * width == 1 { blocked } else { self.transpose(graph, blocked, &[0, 1, 4, 2, 3])? };
        self.reshape(graph, turned, &[0, channels, height, width])?;
        self.made.last_mut()?.outputs = vec![Some(id)];
        Some(())
    }

    fn reshape(&mut self, graph: &mut Graph, from: ValueId, shape: &[usize]) -> Option<ValueId> {
        let shape: Vec<i64> = shape.iter().map(|&d| i64::try_from(d).ok()).collect::<Option<_>>()?;
        let shape = integers(graph, &shape)?;
        self.one(graph, "Reshape", Vec::new(), vec![Some(from), Some(shape)])
    }

    fn transpose(&mut self, graph: &mut Graph, from: ValueId, perm: &[i64]) -> Option<ValueId> {
        self.one(graph, "Transpose", vec![("perm", Attribute::Ints(perm.to_vec()))], vec![Some(from)])
    }

    fn one(
        &mut self,
        graph: &mut Graph,
        op: &str,
        attributes: Vec<(&str, Attribute)>,
        inputs: Vec<Option<ValueId>>,
    ) -> Option<ValueId> {
        let node = new_node(graph, op, attributes, inputs, 0, 1)?;
        let output = node.outputs[0]?;
        self.made.push(node);
        Some(output)
    }

    /// Puts what does in blocks what `node` does; outputs that are `wanted` otherwise, too.
    fn node(&mut self, graph: &mut Graph, node: &Node, form: &Form, wanted: &HashSet<ValueId>) -> Option<()> {
        let output = node.outputs.iter().flatten().copied().next()?;
        let mut inputs = node.inputs.clone();
        let read: Vec<ValueId> = inputs_in_blocks(graph, node, form).collect();
        for id in inputs.iter_mut().flatten().filter(|id| read.contains(id)) {
            *id = self.blocks_of(graph, *id)?;
        }
        if matches!(form, Form::Mean) {
            let axes = integers(graph, &[2, 3])?;
            let mean = self.one(graph, "ReduceMean", Vec::new(), vec![inputs[0], Some(axes)])?;
            return self.out_of_blocks(graph, mean, output);
        }
        let name: Arc<str> = format!("{}/blocks", graph.value(output).name).into();
        let made = graph.add_value(name);
        let mut copy = Node { inputs, outputs: vec![Some(made)], ..node.clone() };
        match form {
            Form::Own { made, .. } => (copy.op, copy.def) = (made.op.clone(), made.name),
            Form::Same { per_channel } => {
                for &index in per_channel {
                    let id = copy.inputs[index]?;
                    let tensor = graph.constant(id)?;
                    let shape = [1, tensor.len() / BLOCK, 1, 1, BLOCK];
                    let tensor = tensor.reshaped(&shape).ok()?;
                    let name = graph.value(id).name.clone();
                    copy.inputs[index] = Some(graph.add_constant(name, tensor));
                }
            }
            Form::Mean => {}
        }
        self.made.push(copy);
        self.blocked.insert(output, made);
        if wanted.contains(&output) { self.out_of_blocks(graph, made, output) } else { Some(()) }
    }
}
