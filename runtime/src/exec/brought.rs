//! Weights that a device is brought in every run, ahead of the step that reads them, instead of keeping them: so that steps
//! which follow each other share a *room* of its arena, as values do.
//!
//! A step whose launches are in parts that read weights of their own may have them *apart*: one turn behind the other through
//! one room, which then has the size of the largest. The first turn is copied ahead of the step, the others stand between
//! its launches. What the parts share, and what is not larger than a block of the device's memory, stays there.

use super::placed::{DeviceForm, Operand};
use crate::cuda::memory::rounded;
use crate::plan::{Bring, BroughtWeights, PlanError};

/// Weights begin at multiples of this, as they do in blocks of their own.
const ALIGNED: usize = 256;

/// Weights of a step.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Piece {
    /// The constant that is this input.
    Input(usize),
    /// These of what the kernel packed.
    Packed(usize),
}

/// What is in the room at once.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Turn {
    /// The part of the launches that it has to be there for.
    pub(crate) part: usize,
    /// With their offsets in the room, and their bytes.
    pub(crate) pieces: Vec<(Piece, usize, usize)>,
    pub(crate) bytes: usize,
}

/// See the module's documentation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Brought {
    /// In the order of their parts; there is one at least.
    pub(crate) turns: Vec<Turn>,
    /// Bytes of the room.
    pub(crate) room: usize,
}

impl Brought {
    /// Where a piece lies in the room.
    pub(crate) fn place(&self, piece: Piece) -> Option<(usize, usize)> {
        let pieces = self.turns.iter().flat_map(|turn| &turn.pieces);
        pieces.filter(|(own, ..)| *own == piece).map(|(_, offset, bytes)| (*offset, *bytes)).next()
    }

    /// Bytes that are copied in all.
    pub(crate) fn bytes(&self) -> usize {
        self.turns.iter().fold(0, |sum, turn| sum.saturating_add(turn.bytes))
    }

    /// How much of the step comes ahead of the last copy between its launches, at most: as if its `parts` took equally long.
    pub(crate) fn ahead_of_last(&self, parts: usize) -> f64 {
        let last = self.turns.last().map_or(0, |turn| turn.part);
        if parts == 0 { 1.0 } else { last as f64 / parts as f64 }
    }

    /// Bytes that are copied ahead of the step.
    pub(crate) fn first(&self) -> usize {
        self.turns.first().map_or(0, |turn| turn.bytes)
    }
}

impl DeviceForm {
    /// Lets the step be brought its weights as a plan says, where it does; the plan is refused where it says so of a step that
    /// has none.
    pub(crate) fn bring(&mut self, of: Option<&BroughtWeights>) -> Result<Option<Bring>, PlanError> {
        let Some(BroughtWeights { step, apart, behind, beside, bytes }) = of else { return Ok(None) };
        let brought = self.could_be_brought(*apart).filter(|brought| brought.bytes() == *bytes);
        let none =
            || PlanError::invalid(format!("step {step} has no {bytes} bytes of weights to be brought"));
        let brought = self.brought.insert(brought.ok_or_else(none)?);
        let (first, room) = (brought.first(), brought.room);
        Ok(Some(Bring { first, room, behind: *behind, beside: *beside }))
    }

    /// What the step could be brought, its parts `apart` where they are several; `None` where there is nothing.
    pub(crate) fn could_be_brought(&self, apart: bool) -> Option<Brought> {
        let twice = |value: usize| {
            let of = |o: &&Operand| matches!(o, Operand::Constant { value: other, .. } if *other == value);
            self.inputs.iter().chain(&self.outputs).filter(of).count() > 1
        };
        let inputs = self.inputs.iter().enumerate().filter_map(|(at, operand)| match operand {
            Operand::Constant { value, tensor, .. } if !twice(*value) => {
                Some((Piece::Input(at), tensor.view().bytes().len()))
            }
            _ => None,
        });
        let packed = self.kernel.weights().iter().enumerate().map(|(at, w)| (Piece::Packed(at), w.bytes));
        let block = rounded(1).unwrap_or(ALIGNED);
        let pieces = inputs.chain(packed).filter(|(_, bytes)| *bytes > block);
        let reads = self.kernel.part_reads().filter(|_| apart).unwrap_or_default();
        let mut turns: Vec<Turn> = Vec::new();
        for (piece, bytes) in pieces {
            let mut readers = reads.iter().enumerate().filter(|(_, of)| match piece {
                Piece::Input(at) => of.inputs.contains(&at),
                Piece::Packed(at) => of.weights.contains(&at),
            });
            let part = match (readers.next(), readers.next()) {
                (None, _) if reads.is_empty() => 0,
                (Some((part, _)), None) => part,
                _ => continue,
            };
            let at = turns.iter().position(|turn| turn.part == part).unwrap_or_else(|| {
                turns.push(Turn { part, ..Turn::default() });
                turns.len() - 1
            });
            let turn = &mut turns[at];
            turn.pieces.push((piece, turn.bytes, bytes));
            turn.bytes = turn.bytes.checked_add(bytes)?.checked_next_multiple_of(ALIGNED)?;
        }
        turns.sort_by_key(|turn| turn.part);
        let room = turns.iter().map(|turn| turn.bytes).max()?;
        Some(Brought { turns, room })
    }
}
