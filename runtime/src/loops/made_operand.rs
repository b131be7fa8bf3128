//! Maps into the prologue of a contraction, convolution or pool: the elements of its first operand are computed as they are
//! read.
//!
//! Legal where the kernel has them made (`Op::making`), the maps are read by nothing else, no other operand is made by
//! them, the operand has the type of the result, and all that they read lies in the operand's *rows*, element for
//! element or one element for a row, never backwards. Rows are those of a product's left matrix, or the planes of a
//! convolution or pool: all axes behind the channels. The left matrix may be a concatenation along its rows, whose parts
//! are then made beside each other; it is read directly by the product.
//!
//! What follows a product or a fold stays with it, as its epilogue or in its rows.
//!
//! Rows of a product pay where writing the operand and reading it again costs more than making rows in calls of their
//! own, and again for each block of columns where rows are too few to be shared among threads. A concatenation of one
//! row is left alone: its parts are made in their places, which costs nothing.
//!
//! Windows read an element once for every tap, so that making it at the tap would repeat the maps as often as windows
//! overlap. Planes are therefore made whole, each element once, by the thread that reads them next, and pay where
//! - a plane stays in that thread's cache between the two, and
//! - there are planes enough for all threads, or so little of all that one will do ([`planes_pay`]).
//!
//! A convolution over windows of one element reads its input in place: planes made for it would be written and read
//! just as the maps' result is. One that gathers windows block by block (elements other than f32, weights that are not
//! constant) would make elements again for every block. Both stay apart, each with its reason.

use super::affine::Affine;
use super::apart::Apart;
use super::candidate::{Candidate, Role};
use super::compose::{Member, Operands, Space, compose};
use super::cost::{operand_pays, planes_pay};
use super::group::Group;
use super::in_rows::all_in_rows;
use super::nest::Nest;
use crate::dtype::DType;
use crate::graph::{Dim, Fact};
use crate::ops::Making;

/// Some columns of the operand's rows: what makes them.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) nest: Nest,
    pub(super) operands: Operands,
}

/// The maps of `group` that make the first operand of its contraction, piece by piece.
pub(super) fn pieces(nodes: &[Candidate], group: &Group, facts: &[Option<Fact>]) -> Option<Vec<Piece>> {
    let anchor = &nodes[group.anchor?];
    let operand = anchor.inputs.first().copied().flatten()?;
    let joint =
        group.operand.iter().map(|&m| &nodes[m]).find(|n| n.outputs.contains(&operand) && n.joins.is_some());
    let parts = joint.map_or_else(|| Some(vec![operand]), |joint| joint.inputs.iter().copied().collect())?;
    let member = |&m: &usize| {
        let node = &nodes[m];
        let inputs = node.inputs.iter().map(|v| v.unwrap_or(usize::MAX)).collect();
        Some(Member { nest: node.nest.as_ref().ok()?.clone(), inputs, outputs: node.outputs.clone() })
    };
    let maps = group.operand.iter().filter(|m| nodes[**m].joins.is_none());
    let members: Vec<Member> = maps.map(member).collect::<Option<_>>()?;
    let dtype =
        |value: usize| facts[value].as_ref().and_then(Fact::tensor).map_or(DType::String, |t| t.dtype);
    let piece = |part: usize| {
        let shape = facts[part].as_ref()?.tensor()?.shape.clone()?;
        let (nest, operands) =
            compose(&Space::of_maps(&shape), &[(part, dtype(part))], &members, dtype).ok()?;
        Some(Piece { nest, operands })
    };
    parts.into_iter().map(piece).collect()
}

/// Whether `node`'s kernel has its first operand made.
pub(super) fn takes_made(node: &Candidate) -> bool {
    matches!(node.making, Making::Rows | Making::Planes)
}

/// The first axis of a row of an operand of `rank` axes that is made so.
pub(super) fn first_column(making: Making, rank: usize) -> Option<usize> {
    match making {
        Making::Rows => rank.checked_sub(1),
        Making::Planes => (rank > 2).then_some(2),
        Making::Nothing | Making::InPlace | Making::Windows => None,
    }
}

/// Why the first operand of `node`, a contraction, is not made in it.
pub(super) fn unmade(node: &Candidate) -> Apart {
    match node.making {
        Making::InPlace => Apart::InPlace,
        Making::Windows => Apart::Windows,
        Making::Nothing | Making::Rows | Making::Planes => Apart::Prologue,
    }
}

/// Whether the contraction of `group` may and should make its first operand from the members that do.
pub(super) fn makes_operand(nodes: &[Candidate], group: &Group, facts: &[Option<Fact>]) -> Result<(), Apart> {
    let anchor = group.anchor.map(|at| &nodes[at]).ok_or(Apart::Prologue)?;
    if !takes_made(anchor) {
        return Err(unmade(anchor));
    }
    let operand = anchor.inputs.first().copied().flatten().ok_or(Apart::Prologue)?;
    // No other operand is made, and none of them in memory as well.
    let made = |value: &usize| group.operand.iter().any(|&m| nodes[m].outputs.contains(value));
    let others = anchor.inputs[1..].iter().flatten().any(made);
    let direct = |m: &usize| nodes[*m].joins.is_none() || nodes[*m].outputs == [operand];
    let able = |m: &usize| nodes[*m].joins.is_some() || nodes[*m].role() == Role::Map;
    if others || !made(&operand) || !group.operand.iter().all(|m| direct(m) && able(m)) {
        return Err(Apart::Prologue);
    }
    let shape = facts[operand].as_ref().and_then(|f| f.tensor()?.shape.clone()).ok_or(Apart::Prologue)?;
    let planes = anchor.making == Making::Planes;
    let rows = first_column(anchor.making, shape.len()).ok_or(Apart::Prologue)?;
    let width = anchor.space.as_ref().map_or(0, |s| s.1);
    let joined = group.operand.iter().any(|&m| nodes[m].joins.is_some());
    let along = group.operand.iter().filter_map(|&m| nodes[m].joins).all(|axis| axis == rows);
    let one_row = shape[..rows].iter().all(|d| *d == Dim::Known(1));
    if rows == 0 || !along || joined && (one_row || planes) {
        return Err(Apart::Prologue);
    }
    let kinds = |value: usize| facts[value].as_ref().and_then(|f| Some(f.tensor()?.dtype));
    let same = anchor.outputs.first().is_some_and(|made| kinds(*made) == kinds(operand));
    let pieces = pieces(nodes, group, facts).filter(|_| same).ok_or(Apart::Prologue)?;
    let columns = anchor.space.as_ref().and_then(|(space, _)| space.last()).ok_or(Apart::Prologue)?;
    for Piece { nest, operands } in &pieces {
        let rank = nest.axes.len();
        let stage = nest.as_map().ok_or(Apart::Prologue)?;
        let backwards = |a: &Affine| a.terms().iter().any(|t| t.1 < 0);
        if nest.reads.iter().flat_map(|r| &r.index).any(backwards)
            || !all_in_rows(nest, operands, &(rows..rank), facts)
        {
            return Err(Apart::OutOfRows);
        }
        if planes {
            planes_pay(&nest.axes, width)?;
        } else if !operand_pays(&stage.program, &nest.axes, width, columns) {
            return Err(Apart::Recomputed);
        }
    }
    Ok(())
}
