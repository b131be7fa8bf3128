//! Layouts absorbed into the reads of a contraction, and into its writes: a transpose, reshape or slice ahead of it moves
//! no element, nor does a transpose behind it.
//!
//! Legal where the operator's kernel reads the operand through any strides (`Op::strided_operands`), every reader of
//! the layout is the contraction or another such layout, each index is an affine function with no negative factor, and
//! elements stay neighbours along one of the matrix's two axes, so that packing reads whole cache lines.
//! It pays always: the copy is saved, and the kernel packs its operands in any case.
//!
//! A transpose behind it is legal where the kernel writes through any strides (`Op::writes_strided`), the last axis stays
//! the last, and nothing else reads what it turns around: finished rows are then written where they belong. It pays
//! always: rows stay whole, and the copy is saved.

use super::affine::Affine;
use super::candidate::Candidate;
use crate::graph::fact::Fact;

/// Where a contraction's operand comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct StridedOperand {
    /// The value that lies in memory.
    pub(super) value: usize,
    /// Its element, for the axes that the contraction sees.
    pub(super) index: Vec<Affine>,
}

/// The operand `value`, of `rank` axes, seen through the layouts among `members`; `None` where one of them is none.
pub(super) fn strided_operand(
    nodes: &[Candidate],
    members: &[usize],
    mut value: usize,
    rank: usize,
) -> Option<StridedOperand> {
    let mut index: Vec<Affine> = (0..rank).map(Affine::axis).collect();
    while let Some(&maker) = members.iter().find(|&&m| nodes[m].outputs.contains(&value)) {
        let nest = nodes[maker].nest.as_ref().ok().filter(|n| n.is_layout())?;
        let [read] = nest.reads.as_slice() else { return None };
        let point: Vec<Option<Affine>> = index.into_iter().map(Some).collect();
        index = read.index.iter().map(|a| a.compose(&point)).collect::<Option<_>>()?;
        value = nodes[maker].inputs.get(read.operand).copied().flatten()?;
    }
    Some(StridedOperand { value, index })
}

/// For each axis of what `node` reads the axis of what it makes that it becomes, where it does nothing but exchange axes
/// ahead of the last one: a part of a value is no exchange, though it reads like one.
pub(super) fn exchange(node: &Candidate, facts: &[Option<Fact>]) -> Option<Vec<usize>> {
    let nest = node.nest.as_ref().ok()?;
    let source = node.inputs.first().copied().flatten()?;
    let from = facts[source].as_ref()?.tensor()?.shape.as_deref()?;
    let [read] = nest.reads.as_slice() else { return None };
    let own = |a: &Affine| match a.terms() {
        [(axis, 1)] if a.offset() == 0 => Some(*axis),
        _ => None,
    };
    let axes: Vec<usize> = read.index.iter().map(own).collect::<Option<_>>()?;
    if axes.len() != from.len() || axes.iter().zip(from).any(|(&axis, extent)| nest.axes[axis] != *extent) {
        return None;
    }
    let mut seen = vec![false; nest.axes.len()];
    axes.iter().for_each(|&axis| seen[axis] = true);
    let last = axes.last()?.checked_add(1)? == nest.axes.len();
    (nest.is_layout() && last && axes.len() == seen.len() && seen.into_iter().all(|s| s)).then_some(axes)
}

/// The value that `value` lies in, behind the layouts among `members`.
pub(super) fn source_of(nodes: &[Candidate], members: &[usize], mut value: usize) -> usize {
    while let Some(&maker) = members.iter().find(|&&m| nodes[m].outputs.contains(&value)) {
        match nodes[maker].inputs.first().copied().flatten() {
            Some(before) => value = before,
            None => break,
        }
    }
    value
}

impl StridedOperand {
    /// Whether a kernel may read it so, the last two of `rank` axes being those of the matrix.
    pub(super) fn is_readable(&self, rank: usize) -> bool {
        let forward = self.index.iter().all(|a| a.offset() >= 0 && a.terms().iter().all(|t| t.1 > 0));
        let neighbours = self.index.last().is_some_and(|a| {
            let mut ones = a.terms().iter().filter(|t| t.1 == 1);
            ones.next().is_some_and(|(axis, _)| axis + 2 >= rank) && ones.next().is_none()
        });
        forward && neighbours
    }
}
