//! Weights that steps are brought in every run: pinned memory that has them, written once and read by all runs, and where
//! they go.

use super::{GpuFailure, GpuProgram, Layout, Transfer, lost};
use crate::cuda::{Block, GpuError, Pinned};
use crate::exec::{Brought, DeviceForm, Operand, Piece, Space};
use crate::memory::Charge;
use std::collections::HashMap;
use std::ops::Range;

/// Bytes of a turn begin at multiples of this.
const ALIGNED: usize = 256;

/// What a piece is of: steps that are brought the same share the memory of the host.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Source {
    Value(usize),
    Packed {
        node: usize,
        form: String,
    },
    /// What was packed for one binding alone.
    Own {
        node: usize,
        at: usize,
    },
}

/// What is in a step's room at once.
#[derive(Clone, Debug)]
pub(super) struct TurnPlace {
    /// The part of the step's launches that it is there for.
    pub(super) part: usize,
    from: usize,
    bytes: usize,
}

/// The turns of a step.
#[derive(Clone, Debug)]
pub(super) struct StepWeights {
    /// The offset of their room in the device's arena, and its bytes.
    room: (usize, usize),
    turns: Vec<TurnPlace>,
}

impl StepWeights {
    /// Bytes of the arena that the turns behind the first are copied to.
    pub(super) fn written(&self) -> Option<Range<usize>> {
        let (first, bytes) = self.room;
        (self.turns.len() > 1).then_some(first..first + bytes)
    }

    /// Bytes of the arena that the first turn is in.
    pub(super) fn read(&self) -> Range<usize> {
        let bytes = self.turns.first().map_or(0, |turn| turn.bytes);
        self.room.0..self.room.0 + bytes
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Weights {
    pinned: Option<(Box<dyn Pinned>, Charge)>,
    pub(super) bytes: usize,
    /// By step.
    pub(super) steps: HashMap<usize, StepWeights>,
}

impl Weights {
    /// What `forms` say that their steps are brought.
    pub(super) fn new(
        program: &GpuProgram,
        forms: &[(usize, DeviceForm)],
        layout: &Layout<'_>,
    ) -> Result<Self, GpuFailure> {
        let mut made = Self::default();
        let mut known: HashMap<Vec<Source>, usize> = HashMap::new();
        let mut fresh: Vec<(usize, &DeviceForm, &[(Piece, usize, usize)])> = Vec::new();
        let too_large = || GpuError::Limit { requested: usize::MAX, limit: usize::MAX };
        for (step, form) in forms {
            let Some(Brought { turns, room }) = &form.brought else { continue };
            let first = (layout.space)(Space::Weights(*step)).ok_or_else(|| lost(program))?;
            let mut places = Vec::with_capacity(turns.len());
            for turn in turns {
                let of = |(piece, ..): &(Piece, usize, usize)| source(program, form, *piece);
                let key: Vec<Source> = turn.pieces.iter().map(of).collect();
                let from = match known.get(&key) {
                    Some(from) => *from,
                    None => {
                        let from = made.bytes;
                        let end = from.checked_add(turn.bytes).ok_or_else(too_large)?;
                        made.bytes = end.checked_next_multiple_of(ALIGNED).ok_or_else(too_large)?;
                        fresh.push((from, form, &turn.pieces));
                        known.insert(key, from);
                        from
                    }
                };
                places.push(TurnPlace { part: turn.part, from, bytes: turn.bytes });
            }
            made.steps.insert(*step, StepWeights { room: (first, *room), turns: places });
        }
        if made.steps.is_empty() {
            return Ok(made);
        }
        let (pinned, charge) = program.pinned(made.bytes).map_err(|failure| program.of_graph(failure))?;
        for (from, form, pieces) in fresh {
            for &(piece, offset, bytes) in pieces {
                match piece {
                    Piece::Input(at) => {
                        let Some(Operand::Constant { tensor, .. }) = form.inputs.get(at) else { continue };
                        pinned.write(from + offset, tensor.view().bytes())?;
                    }
                    Piece::Packed(at) => {
                        let Some(packed) = form.kernel.weights().get(at) else { continue };
                        let whole = |error: crate::error::OpError| program.of_graph(error.into());
                        let _charge = program.budget.charge(bytes).map_err(whole)?;
                        pinned.write(from + offset, &(packed.pack)())?;
                    }
                }
            }
        }
        made.pinned = Some((pinned, charge));
        Ok(made)
    }

    /// The copy of what step `step` is brought ahead of it.
    pub(super) fn first(&self, step: usize, arena: &Block) -> Option<Transfer> {
        let of = self.steps.get(&step)?;
        self.transfer(of, of.turns.first()?, arena)
    }

    /// The copies behind the first, each with the part that it is for.
    pub(super) fn later(&self, step: usize, arena: &Block) -> Vec<(usize, Transfer)> {
        let Some(of) = self.steps.get(&step) else { return Vec::new() };
        let later = of.turns.iter().skip(1);
        later.filter_map(|turn| Some((turn.part, self.transfer(of, turn, arena)?))).collect()
    }

    fn transfer(&self, of: &StepWeights, turn: &TurnPlace, arena: &Block) -> Option<Transfer> {
        let (pinned, _) = self.pinned.as_ref()?;
        let (to, from) = (arena.address() + of.room.0 as u64, pinned.address() + turn.from as u64);
        Some(Transfer { to, from, bytes: turn.bytes })
    }
}

fn source(program: &GpuProgram, form: &DeviceForm, piece: Piece) -> Source {
    let node = form.node;
    match piece {
        Piece::Input(at) => match form.inputs.get(at) {
            Some(Operand::Constant { value, .. }) => Source::Value(*value),
            _ => Source::Own { node, at },
        },
        Piece::Packed(at) => match form.kernel.weights().get(at).filter(|packed| packed.shared) {
            Some(packed) => Source::Packed { node: program.alike[node], form: packed.form.clone() },
            None => Source::Own { node, at },
        },
    }
}
