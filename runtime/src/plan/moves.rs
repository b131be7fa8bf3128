//! What has to be copied when some steps run on a device with a memory of its own, and who touches what in which memory.
//!
//! Whatever steps write, and the inputs, lie in spaces ([`Space`]); the device holds a mirror of a space, its *room*, with
//! the same bytes at the same offsets. What one step writes is one *tensor*; it is copied once, as a whole, where somebody
//! on the other side reads any of it, and where an output of the model is made on the device. Weights that a step is brought
//! in every run have a room, too, and a copy ahead of the step. So the copies follow from who runs where and who is brought
//! its weights, and a plan can be held to them.

use super::PlanError;
use crate::exec::{Access, Accesses, Space};
use std::ops::Range;

/// One copy between the memories.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Move {
    pub(crate) space: Space,
    pub(crate) bytes: Range<usize>,
    /// To the device.
    pub(crate) up: bool,
}

/// See the module's documentation. Actions are the steps, and behind them the copies.
#[derive(Clone, Debug)]
pub(crate) struct Moves {
    pub(crate) copies: Vec<Move>,
    /// By action: the actions that it needs.
    pub(crate) needs: Vec<Vec<usize>>,
    /// By action: what it touches of the host's memory.
    pub(crate) host: Vec<Accesses>,
    /// By action: what it touches of the device's memory, each space named by the number of its room.
    pub(crate) device: Vec<Accesses>,
    /// The rooms: the mirrored space, `None` where a step has its workspace there, and the bytes.
    pub(crate) rooms: Vec<(Option<Space>, usize)>,
    /// By step: the room of its workspace.
    pub(crate) workspaces: Vec<Option<usize>>,
    /// By copy: the step that it goes on beside, where it begins between the launches of one.
    pub(crate) beside: Vec<Option<usize>>,
}

/// What is known of a bound program's steps and spaces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ground<'a> {
    /// By step.
    pub(crate) accesses: &'a [Accesses],
    /// Bytes of a space.
    pub(crate) bytes: &'a dyn SpaceBytes,
}

/// Tells how large a space is; `None` where that is not known before the run.
pub(crate) trait SpaceBytes: std::fmt::Debug {
    fn bytes_of(&self, space: Space) -> Option<usize>;
}

/// What a step on the device has there beside its operands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct There {
    /// Bytes of its workspace.
    pub(crate) workspace: usize,
    /// The weights that it is brought, where it is.
    pub(crate) weights: Option<Bring>,
}

/// Weights that are brought in every run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bring {
    /// Bytes that are copied ahead of the step.
    pub(crate) first: usize,
    /// Bytes of their room.
    pub(crate) room: usize,
    /// The step behind whose end they are copied.
    pub(crate) behind: Option<usize>,
    /// The step that they are copied beside, behind the last copy between its launches.
    pub(crate) beside: Option<usize>,
}

/// What one step writes, or an input.
struct Tensor {
    access: Access,
    writer: Option<usize>,
    copy: Option<usize>,
}

impl Moves {
    /// Where the steps on the device are those of which something is told.
    pub(crate) fn new(ground: Ground<'_>, on_device: &[Option<There>]) -> Result<Self, PlanError> {
        let Ground { accesses, bytes } = ground;
        let unknown =
            |space: Space| PlanError::invalid(format!("{space:?} has no size that is known beforehand"));
        let tensors = tensors(ground)?;
        let mut made = Self {
            copies: Vec::new(),
            needs: vec![Vec::new(); accesses.len()],
            host: vec![Accesses::default(); accesses.len()],
            device: vec![Accesses::default(); accesses.len()],
            rooms: Vec::new(),
            workspaces: vec![None; accesses.len()],
            beside: Vec::new(),
        };
        let mut tensors = tensors;
        for tensor in &mut tensors {
            let home = tensor.writer.is_some_and(|w| on_device[w].is_some());
            let read = |side: bool| {
                let mut readers = accesses.iter().zip(on_device).filter(|(_, d)| d.is_some() == side);
                readers.any(|(of, _)| of.reads.iter().any(|r| r.meets(&tensor.access)))
            };
            let output = matches!(tensor.access.space, Space::Output(_));
            if read(!home) || (home && output) {
                tensor.copy = Some(accesses.len() + made.copies.len());
                let Access { space, bytes } = tensor.access.clone();
                made.copies.push(Move { space, bytes, up: !home });
            }
        }
        for (step, of) in accesses.iter().enumerate() {
            let there = on_device[step].is_some();
            for tensor in &tensors {
                let home = tensor.writer.is_some_and(|w| on_device[w].is_some());
                if of.reads.iter().any(|r| r.meets(&tensor.access)) {
                    made.needs[step].extend(if home == there { tensor.writer } else { tensor.copy });
                }
            }
            made.needs[step].sort_unstable();
            made.needs[step].dedup();
            if there {
                let room = |access: &Access, rooms: &mut Vec<(Option<Space>, usize)>| {
                    let bytes = bytes.bytes_of(access.space).ok_or_else(|| unknown(access.space))?;
                    Ok::<_, PlanError>(Access {
                        space: room_of(access.space, bytes, rooms),
                        ..access.clone()
                    })
                };
                let mut moved = Accesses::default();
                for read in &of.reads {
                    moved.reads.push(room(read, &mut made.rooms)?);
                }
                for write in &of.writes {
                    moved.writes.push(room(write, &mut made.rooms)?);
                }
                if let Some(workspace) = on_device[step].map(|of| of.workspace).filter(|bytes| *bytes > 0) {
                    made.workspaces[step] = Some(made.rooms.len());
                    let space = Space::Tenant(made.rooms.len());
                    made.rooms.push((None, workspace));
                    moved.writes.push(Access { space, bytes: 0..workspace });
                }
                made.device[step] = moved;
            } else {
                made.host[step] = of.clone();
            }
        }
        for tensor in tensors.iter().filter(|t| t.copy.is_some()) {
            let up = tensor.writer.is_none_or(|w| on_device[w].is_none());
            made.needs.push(tensor.writer.into_iter().collect());
            let all = bytes.bytes_of(tensor.access.space).ok_or_else(|| unknown(tensor.access.space))?;
            let room = room_of(tensor.access.space, all, &mut made.rooms);
            let (own, there) =
                (vec![tensor.access.clone()], vec![Access { space: room, ..tensor.access.clone() }]);
            let (mut host, mut device) = (Accesses::default(), Accesses::default());
            if up {
                (host.reads, device.writes) = (own, there);
            } else {
                (host.writes, device.reads) = (own, there);
            }
            made.host.push(host);
            made.device.push(device);
        }
        made.beside = vec![None; made.copies.len()];
        for (step, of) in on_device.iter().enumerate() {
            if let Some(weights) = of.as_ref().and_then(|of| of.weights) {
                made.bring(step, weights, accesses.len());
            }
        }
        Ok(made)
    }

    /// Adds the copy of what step `step` is brought, and its room.
    fn bring(&mut self, step: usize, of: Bring, steps: usize) {
        let (space, bytes) = (Space::Weights(step), 0..of.first);
        self.needs[step].push(steps + self.copies.len());
        self.needs.push(of.behind.into_iter().collect());
        self.copies.push(Move { space, bytes: bytes.clone(), up: true });
        self.beside.push(of.beside);
        let there = Access { space: Space::Tenant(self.rooms.len()), bytes: bytes.clone() };
        self.rooms.push((Some(space), of.room));
        self.device[step].reads.push(there.clone());
        self.host.push(Accesses { reads: vec![Access { space, bytes }], writes: Vec::new() });
        self.device.push(Accesses { reads: Vec::new(), writes: vec![there] });
    }

    /// By action: what comes ahead of it in the order in which a worker gives them. That is what it needs, and also that a
    /// copy stands ahead of the step that it goes on beside, and the step that it is for behind that.
    pub(crate) fn ahead(&self) -> Vec<Vec<usize>> {
        let mut ahead = self.needs.clone();
        let steps = self.needs.len() - self.copies.len();
        for (copy, beside) in self.beside.iter().enumerate() {
            if let (Some(beside), Space::Weights(step)) = (*beside, self.copies[copy].space) {
                ahead[beside].push(steps + copy);
                ahead[step].push(beside);
            }
        }
        ahead
    }

    /// The room of a space.
    pub(crate) fn room(&self, space: Space) -> Option<usize> {
        self.rooms.iter().position(|(of, _)| *of == Some(space))
    }

    /// By tenant of the host's arena: its bytes, none where nobody touches it on the host.
    pub(crate) fn host_bytes(&self, tenants: &[usize]) -> Vec<usize> {
        let mut touched = vec![false; tenants.len()];
        for access in self.host.iter().flat_map(|of| of.reads.iter().chain(&of.writes)) {
            if let Space::Tenant(tenant) = access.space {
                touched[tenant] = true;
            }
        }
        tenants.iter().zip(touched).map(|(&bytes, touched)| if touched { bytes } else { 0 }).collect()
    }
}

/// The room that mirrors `space`, added where there is none yet.
fn room_of(space: Space, bytes: usize, rooms: &mut Vec<(Option<Space>, usize)>) -> Space {
    let at = rooms.iter().position(|(of, _)| *of == Some(space)).unwrap_or_else(|| {
        rooms.push((Some(space), bytes));
        rooms.len() - 1
    });
    Space::Tenant(at)
}

/// The inputs that are read, and what every step writes.
fn tensors(Ground { accesses, bytes }: Ground<'_>) -> Result<Vec<Tensor>, PlanError> {
    let mut tensors: Vec<Tensor> = Vec::new();
    let known = |space: Space| {
        let missing = || PlanError::invalid(format!("{space:?} has no size that is known beforehand"));
        bytes.bytes_of(space).ok_or_else(missing)
    };
    for space in accesses.iter().flat_map(|of| of.reads.iter().map(|r| r.space)) {
        let input = matches!(space, Space::Input(_));
        if input && !tensors.iter().any(|t| t.access.space == space) {
            let access = Access { space, bytes: 0..known(space)? };
            tensors.push(Tensor { access, writer: None, copy: None });
        }
    }
    for (step, of) in accesses.iter().enumerate() {
        for access in &of.writes {
            let end = access.bytes.end.min(known(access.space)?);
            let access = Access { space: access.space, bytes: access.bytes.start..end };
            tensors.push(Tensor { access, writer: Some(step), copy: None });
        }
    }
    Ok(tensors)
}
