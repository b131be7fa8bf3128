//! Maps into the prologue of a contraction: rows of its first operand are computed as they are read.
//!
//! Legal where the kernel makes rows itself (`Op::makes_operand`), the maps are read by nothing else, and all that they
//! read lies in rows under the operand, element for element or one element for a row. The operand may be a
//! concatenation along its rows, whose parts are then made beside each other; it is read directly by the contraction.
//!
//! What follows a product or a fold stays with it, as its epilogue or in its rows.
//!
//! It pays where writing the operand and reading it again costs more than making rows in calls of their own, and again
//! for each block of columns where rows are too few to be shared among threads. A concatenation of one row is left
//! alone: its parts are made in their places, which costs nothing.

use super::affine::Affine;
use super::apart::Apart;
use super::candidate::{Candidate, Role};
use super::compose::{Member, Operands, Space, compose};
use super::cost::operand_pays;
use super::group::Group;
use super::in_rows::all_in_rows;
use super::nest::Nest;
use crate::dtype::DType;
use crate::graph::{Dim, Fact};

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

/// Whether the contraction of `group` may and should make its first operand from the members that do.
pub(super) fn makes_operand(nodes: &[Candidate], group: &Group, facts: &[Option<Fact>]) -> Result<(), Apart> {
    let anchor =
        group.anchor.map(|at| &nodes[at]).filter(|node| node.makes_operand).ok_or(Apart::Prologue)?;
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
    let (rows, width) =
        (shape.len().checked_sub(1).ok_or(Apart::Prologue)?, anchor.space.as_ref().map_or(0, |s| s.1));
    let joined = group.operand.iter().any(|&m| nodes[m].joins.is_some());
    let along = group.operand.iter().filter_map(|&m| nodes[m].joins).all(|axis| axis == rows);
    let one_row = shape[..rows].iter().all(|d| *d == Dim::Known(1));
    if rows == 0 || !along || joined && one_row {
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
            || !all_in_rows(nest, operands, &(rank - 1..rank), facts)
        {
            return Err(Apart::Rearranged);
        }
        if !operand_pays(&stage.program, &nest.axes, width, columns) {
            return Err(Apart::Recomputed);
        }
    }
    Ok(())
}
