//! Values that lie inside others: views without copies.
//!
//! - The same bytes under another shape ([`crate::ops::Op::alias_of`]), also where that follows from the shapes alone
//!   ([`crate::ops::Op::keeps_order`]).
//! - A contiguous part: a slice, or an output of a split, along an axis ahead of which all extents are 1
//!   ([`crate::ops::Op::selection`]). Holds for types of whole bytes.
//! - A concatenation along such an axis ([`crate::ops::Op::joined_axis`]): what is joined is written straight into its
//!   place by whoever makes it. Holds where every input is made by a step, lies nowhere else, is joined once, and is no
//!   output of the graph; and where the whole is no output either, whose memory the caller may give in any form.

use crate::graph::fact::{Fact, Facts, normal_axis};
use crate::graph::{Graph, Node, infer_node};
use crate::ops::Op;

/// For each value the one that it lies in, itself at first, and the byte at which it begins there.
#[derive(Debug)]
pub(super) struct Views {
    within: Vec<(usize, usize)>,
    /// Whether parts of it are written by several steps.
    joined: Vec<bool>,
}

impl Views {
    pub(super) fn new(values: usize) -> Self {
        Self { within: (0..values).map(|i| (i, 0)).collect(), joined: vec![false; values] }
    }

    /// The value that holds the bytes of `value`, and the byte at which they begin.
    pub(super) fn root(&self, mut value: usize) -> (usize, usize) {
        let mut at = 0;
        loop {
            let (within, offset) = self.within[value];
            at += offset;
            if within == value {
                return (value, at);
            }
            value = within;
        }
    }

    /// Says that `part` lies in `whole` from byte `offset` on.
    pub(super) fn put(&mut self, part: usize, whole: usize, offset: usize) {
        let (root, ahead) = self.root(whole);
        self.within[part] = (root, ahead + offset);
    }

    /// Says that `parts` are made in `whole`, one behind the other.
    pub(super) fn join(&mut self, whole: usize, parts: impl IntoIterator<Item = (usize, usize)>) {
        self.joined[whole] = true;
        parts.into_iter().for_each(|(part, offset)| self.put(part, whole, offset));
    }

    /// Whether `value` lies in no other.
    pub(super) fn within_itself(&self, value: usize) -> bool {
        self.within[value].0 == value
    }

    /// Whether `value` lies in itself and is not made in parts, so that it can lie in another or at the caller.
    pub(super) fn is_whole(&self, value: usize) -> bool {
        self.within_itself(value) && !self.joined[value]
    }
}

/// The input whose bytes are output 0.
pub(super) fn alias(op: &dyn Op, inputs: Facts<'_>) -> Option<usize> {
    op.alias_of().or_else(|| op.keeps_order(inputs).then_some(0))
}

/// For each node of `graph` whether nothing runs for it on inputs of these facts: it is a view, or shapes and constants
/// tell what it makes.
pub(crate) fn standing(graph: &Graph, facts: &[Option<Fact>]) -> Vec<bool> {
    let mut kept = vec![false; facts.len()];
    graph.outputs.iter().for_each(|id| kept[id.index()] = true);
    let mut known: Vec<bool> = facts.iter().map(|f| f.as_ref().is_some_and(is_known)).collect();
    // Values that a step makes where it likes: not given, and neither in others nor made in parts.
    let mut free = vec![false; facts.len()];
    let mut stands = |node: &Node| {
        let given: Vec<Option<&Fact>> =
            node.inputs.iter().map(|id| id.and_then(|id| facts[id.index()].as_ref())).collect();
        let named = || node.outputs.iter().flatten().map(|id| id.index());
        let constant = node.inputs.iter().flatten().all(|id| known[id.index()])
            && node.op.is_deterministic()
            && node.op.bodies().is_empty();
        if constant || named().all(|v| known[v]) {
            named().for_each(|v| known[v] = true);
            return true;
        }
        let fixed = |fact: &Fact| fact.tensor().is_some_and(|t| t.known_shape().is_some());
        let shaped = given.iter().flatten().all(|f| fixed(f));
        let Ok(outputs) = infer_node(&*node.op, Facts(&given)) else { return false };
        if !shaped || !outputs.iter().all(fixed) {
            return false;
        }
        if alias(&*node.op, Facts(&given)).is_some() || parts(&*node.op, Facts(&given), &outputs).is_some() {
            return true;
        }
        let once = |id: usize| node.inputs.iter().flatten().filter(|other| other.index() == id).count() == 1;
        let joins = |id: usize| free[id] && !kept[id] && once(id);
        let whole = outputs.first().filter(|_| named().all(|v| !kept[v]));
        let joined = whole.is_some_and(|whole| joints(&*node.op, Facts(&given), whole).is_some())
            && node.inputs.iter().flatten().all(|id| joins(id.index()));
        if joined {
            node.inputs.iter().flatten().for_each(|id| free[id.index()] = false);
        } else {
            named().for_each(|v| free[v] = true);
        }
        joined
    };
    graph.nodes.iter().map(&mut stands).collect()
}

/// Whether a value's content follows from the shapes of the graph's inputs.
fn is_known(fact: &Fact) -> bool {
    fact.tensor().is_some_and(|t| t.as_constant().is_some() || t.dtype.is_int() && t.as_i64s().is_some())
}

/// Bytes ahead of each output, where all of them are contiguous parts of input 0.
pub(super) fn parts(op: &dyn Op, inputs: Facts<'_>, outputs: &[Fact]) -> Option<Vec<usize>> {
    let x = inputs.tensor(0).ok()?;
    let shape = x.known_shape()?;
    let width = x.dtype.bits().checked_div(8).filter(|_| x.dtype.bits().is_multiple_of(8))?;
    let offset = |output: usize| {
        let selection = op.selection(inputs, outputs, output)?;
        let (ahead, rest) = shape.split_at_checked(selection.axis)?;
        let inner: usize = rest.get(1..)?.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        let whole = selection.step == 1 || selection.count == 1;
        let inside = selection.start.checked_add(selection.count)? <= rest[0];
        let contiguous = whole && inside && ahead.iter().all(|&d| d == 1);
        contiguous.then(|| selection.start.checked_mul(inner)?.checked_mul(width)).flatten()
    };
    (0..outputs.len()).map(offset).collect()
}

/// Bytes ahead of each input, where output 0 is the inputs one behind the other in memory.
pub(super) fn joints(op: &dyn Op, inputs: Facts<'_>, output: &Fact) -> Option<Vec<usize>> {
    let whole = output.tensor()?.known_shape()?;
    let axis = normal_axis(op.joined_axis()?, whole.len()).ok()?;
    if whole[..axis].iter().any(|&d| d != 1) || output.tensor()?.dtype.bits() % 8 != 0 {
        return None;
    }
    let mut at = 0usize;
    let mut offsets = Vec::with_capacity(inputs.len());
    for index in 0..inputs.len() {
        offsets.push(at);
        at = at.checked_add(inputs.tensor(index).ok()?.bytes()?)?;
    }
    Some(offsets)
}
