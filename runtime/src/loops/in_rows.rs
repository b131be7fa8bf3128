//! How operands must lie for a kernel that works row by row, or on strips of rows side by side.

use super::affine::Affine;
use super::compose::Space;
use super::nest::{Effect, Nest, Read, Source, Stage};
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
    let along =
        |a: &Affine, axis: usize| a.terms().iter().filter(|t| columns.contains(&t.0)).eq(own(axis).terms());
    let first = pairs.next().is_some_and(|(axis, a)| along(a, axis));
    whole && first && pairs.all(|(axis, a)| *a == own(axis)) && !read.index[..outer].iter().any(crosses)
}

/// The last of the columns, along which `read` stays still.
fn run(read: &Read, columns: &Range<usize>) -> Range<usize> {
    let still = |axis: &usize| !read.index.iter().any(|a| a.terms().iter().any(|t| t.0 == *axis));
    columns.end - columns.clone().rev().take_while(still).count()..columns.end
}

/// The extents along which elements stay that move along the first of the columns, for each read that has such.
pub(super) fn runs<'n>(nest: &'n Nest, columns: &'n Range<usize>) -> impl Iterator<Item = &'n [Dim]> {
    let runs = nest.reads.iter().map(|read| run(read, columns)).filter(|run| run.start > columns.start);
    let runs = runs.map(|run| &nest.axes[run]);
    runs.filter(|run| run.iter().any(|extent| *extent != Dim::Known(1)))
}

/// Whether `read` lies in rows, or moves from element to element along the first of the columns and stays still along the
/// others, so that neighbours share elements in runs of one length.
fn lies_in_runs(read: &Read, shape: Option<&[Dim]>, axes: &[Dim], columns: &Range<usize>) -> bool {
    let end = run(read, columns).start;
    // Axes of one element behind the others change nothing.
    let single = |(a, extent): &(&Affine, &Dim)| a.terms().is_empty() && **extent == Dim::Known(1);
    let spare = shape.map_or(0, |shape| read.index.iter().zip(shape).rev().take_while(single).count());
    let kept = read.index.len() - spare;
    let read = Read { index: read.index[..kept].to_vec(), ..read.clone() };
    lies_in_rows(&read, shape.map(|shape| &shape[..kept]), axes, &(columns.start..end))
}

/// Whether all of `reads` lie in rows.
pub(super) fn all_in_rows(
    nest: &Nest,
    operands: &[usize],
    columns: &Range<usize>,
    facts: &[Option<Fact>],
) -> bool {
    all_lie(nest, operands, columns, facts, lies_in_rows)
}

fn all_lie(
    nest: &Nest,
    operands: &[usize],
    columns: &Range<usize>,
    facts: &[Option<Fact>],
    lies: impl Fn(&Read, Option<&[Dim]>, &[Dim], &Range<usize>) -> bool,
) -> bool {
    !folds_what_stands_still(nest, columns)
        && nest.reads.iter().all(|read| {
            let shape = facts[operands[read.operand]].as_ref().and_then(|f| f.tensor()?.shape.as_deref());
            lies(read, shape, &nest.axes, columns)
        })
}

/// Whether a fold combines elements of an operand as they are which are one and the same along `columns`: the kernel
/// folds what lies in memory.
fn folds_what_stands_still(nest: &Nest, columns: &Range<usize>) -> bool {
    let still = |read: &Read| !read.index.iter().any(|a| a.terms().iter().any(|t| columns.contains(&t.0)));
    nest.stages.iter().any(|stage| {
        let fold = matches!(stage.effect, Effect::Fold(_)) && stage.program.is_copy();
        fold && matches!(stage.inputs.first(), Some(Source::Read(k)) if still(&nest.reads[*k]))
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
/// are the last axes of the result or, going backwards, others of them, or the result has one element for each.
pub(super) fn row_spaces<'a>(space: &'a [Dim], row: &'a [Dim]) -> impl Iterator<Item = Space> + 'a {
    let (stored, length) = (space.len(), row.len());
    let places =
        (0..(stored + 1).saturating_sub(length)).rev().filter(move |&at| space[at..].starts_with(row));
    let within = places.map(move |at| Space::of_outputs(space.to_vec(), at..at + length, stored));
    within.chain([Space::of_outputs([space, row].concat(), stored..stored + length, stored)])
}

/// The space of a group whose result is written as `nest` writes its own, by axes of which some are a part of one of the
/// result's, when it folds along neighbours among them.
pub(super) fn divided_space(nest: &Nest) -> Option<Space> {
    let (Stage { effect: Effect::Store(index), .. }, folds) = nest.stages.split_last()? else { return None };
    let over = folds.iter().find(|f| matches!(f.effect, Effect::Fold(_)))?.over.iter();
    let row = *over.clone().min()?..over.clone().max()? + 1;
    let whole = row.len() == over.len() && index.iter().any(|a| a.terms().len() > 1);
    let (axes, stored) = (nest.axes.clone(), nest.axes.len());
    whole.then(|| Space { axes, row, stored, index: index.clone() })
}

/// How a nest that folds runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// Elements of a row are neighbours.
    Rows,
    /// Along these axes of the result, its last ones, elements of different rows are.
    Strips(Range<usize>),
}

/// The form in which `nest`, whose rows are those of `space`, reads its operands in order.
pub(super) fn form(nest: &Nest, operands: &[usize], space: &Space, facts: &[Option<Fact>]) -> Option<Form> {
    let Space { axes, row, stored, .. } = space;
    if row.is_empty() {
        return None;
    }
    if row.end == axes.len() && all_lie(nest, operands, row, facts, lies_in_runs) {
        return Some(Form::Rows);
    }
    let first = if row.start < *stored { row.end } else { 0 };
    let mut strips = (first..*stored).map(|at| at..*stored);
    let strip = strips.find(|strip| all_in_rows(nest, operands, strip, facts))?;
    Some(Form::Strips(strip))
}

/// Whether neighbours along the last of `rank` axes are neighbours in the operand, or one element.
pub(super) fn keeps_rows(read: &Read, rank: usize) -> bool {
    read.index.last().is_none_or(|last| match last.terms() {
        [] => true,
        [.., (axis, 1)] => axis + 1 == rank,
        _ => false,
    })
}
