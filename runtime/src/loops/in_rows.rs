//! How operands must lie for a kernel that works row by row.

use super::affine::Affine;
use super::compose::Space;
use super::nest::{Nest, Read};
use crate::graph::{Dim, Fact};
use std::ops::Range;

/// Whether `read`, of an operand of extents `shape`, stays still along the axes `columns` of `axes`, or moves from
/// element to element in their order.
pub(super) fn lies_in_rows(read: &Read, shape: Option<&[Dim]>, axes: &[Dim], columns: &Range<usize>) -> bool {
    let crosses = |a: &Affine| a.terms().iter().any(|t| columns.contains(&t.0));
    if !read.index.iter().any(crosses) {
        return true;
    }
    let (Some(outer), Some(shape)) = (read.index.len().checked_sub(columns.len()), shape) else {
        return false;
    };
    // The first of the columns' axes may be a part of the operand's.
    let whole = shape.get(outer + 1..) == axes.get(columns.start + 1..columns.end);
    let own = |axis: usize| Affine::axis(axis);
    let mut pairs = columns.clone().zip(&read.index[outer..]);
    let first = pairs.next().is_some_and(|(axis, a)| a.terms() == own(axis).terms());
    whole && first && pairs.all(|(axis, a)| *a == own(axis)) && !read.index[..outer].iter().any(crosses)
}

/// Whether all of `reads` lie in rows.
pub(super) fn all_in_rows(
    nest: &Nest,
    operands: &[usize],
    columns: &Range<usize>,
    facts: &[Option<Fact>],
) -> bool {
    nest.reads.iter().all(|read| {
        let shape = facts[operands[read.operand]].as_ref().and_then(|f| f.tensor()?.shape.as_deref());
        lies_in_rows(read, shape, &nest.axes, columns)
    })
}

/// Whether every operand is one element for the whole result or lies under it element for element.
pub(super) fn is_seamless(nest: &Nest, operands: &[usize], facts: &[Option<Fact>]) -> bool {
    nest.reads.iter().all(|read| {
        let shape = facts[operands[read.operand]].as_ref().and_then(|f| f.tensor()?.shape.as_deref());
        let still = read.index.iter().all(|a| a.terms().is_empty());
        let direct = read.index.iter().enumerate().all(|(i, a)| *a == Affine::axis(i));
        still || direct && shape == Some(nest.axes.as_slice())
    })
}

/// The spaces that a group whose result has extents `space` may have when it folds along axes of extents `row`: rows
/// are the last axes of the result, or the result has one element for each.
pub(super) fn row_spaces(space: &[Dim], row: &[Dim]) -> impl Iterator<Item = Space> {
    let stored = space.len();
    let whole = space.ends_with(row).then(|| Space { axes: space.to_vec(), row: row.len(), stored });
    let axes = [space, row].concat();
    whole.into_iter().chain([Space { axes, row: row.len(), stored }])
}
