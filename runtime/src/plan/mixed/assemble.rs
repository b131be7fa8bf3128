//! From who runs what to instructions and offsets: the copies that follow, an order that the needs allow, the lists of the
//! workers, and places in both arenas.

use crate::exec::{Accesses, Space};
use crate::plan::PlanError;
use crate::plan::causality::Causality;
use crate::plan::instruction::{Lane, Phase, phases_with_copies};
use crate::plan::memory::{Lifetimes, assign};
use crate::plan::moves::{Ground, Moves};

/// Where a step runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Seat {
    Device,
    Cpu(Lane),
}

impl Seat {
    pub(crate) fn is_device(self) -> bool {
        self == Self::Device
    }
}

/// What is placed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed<'a> {
    pub(crate) ground: Ground<'a>,
    /// Bytes of the tenants of the host's arena.
    pub(crate) tenants: &'a [usize],
    /// By step.
    pub(crate) seats: &'a [Seat],
    /// By step: bytes of its workspace on the device.
    pub(crate) workspaces: &'a [usize],
    /// Workers of the CPU; one more launches for the device.
    pub(crate) count: usize,
}

/// A placement made into what a plan consists of.
#[derive(Debug)]
pub(crate) struct Assembled {
    pub(crate) moves: Moves,
    pub(crate) phases: Vec<Phase>,
    pub(crate) offsets: Vec<usize>,
    pub(crate) arena: usize,
    pub(crate) device_offsets: Vec<usize>,
    pub(crate) device_arena: usize,
}

/// Actions are given out by `priority`, least first, among those whose needs are met.
pub(crate) fn assemble(
    placed: Placed<'_>,
    priority: impl FnOnce(&Moves) -> Vec<f64>,
) -> Result<Assembled, PlanError> {
    let Placed { ground, tenants, seats, workspaces, count } = placed;
    let steps = seats.len();
    let there: Vec<Option<usize>> =
        seats.iter().zip(workspaces).map(|(seat, &bytes)| seat.is_device().then_some(bytes)).collect();
    let moves = Moves::new(ground, &there)?;
    // The worker behind those of the CPU launches and copies.
    let lane = |action: usize| match seats.get(action) {
        Some(Seat::Cpu(lane)) => *lane,
        Some(Seat::Device) | None => Lane::Worker(count),
    };
    let order: Vec<(usize, Lane)> =
        in_order(&moves.needs, &priority(&moves)).into_iter().map(|action| (action, lane(action))).collect();
    let (phases, _) = phases_with_copies(&order, &moves.needs, steps, count + 1)?;
    let causality = Causality::with_copies(&phases, steps, moves.copies.len(), count + 1)?;
    let beyond = || PlanError::invalid("its arena is beyond all bounds");
    let place = |bytes: &[usize], accesses: &[Accesses]| {
        let lifetimes = Lifetimes::new(&causality, accesses, bytes.len(), count + 1);
        assign(bytes, &lifetimes).ok_or_else(beyond)
    };
    let (offsets, arena) = place(&moves.host_bytes(tenants), &moves.host)?;
    let rooms: Vec<usize> = moves.rooms.iter().map(|(_, bytes)| *bytes).collect();
    let (device_offsets, device_arena) = place(&rooms, &moves.device)?;
    Ok(Assembled { moves, phases, offsets, arena, device_offsets, device_arena })
}

/// Actions by their priority as far as their needs allow.
fn in_order(needs: &[Vec<usize>], priority: &[f64]) -> Vec<usize> {
    let mut left: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); needs.len()];
    for (action, of) in needs.iter().enumerate() {
        of.iter().for_each(|&needed| readers[needed].push(action));
    }
    let mut ready: Vec<usize> = (0..needs.len()).filter(|&action| left[action] == 0).collect();
    let mut order = Vec::with_capacity(needs.len());
    let first = |ready: &Vec<usize>| {
        let by = |&(_, &a): &(usize, &usize), &(_, &b): &(usize, &usize)| {
            priority[a].total_cmp(&priority[b]).then(a.cmp(&b))
        };
        ready.iter().enumerate().min_by(by).map(|(at, _)| at)
    };
    while let Some(at) = first(&ready) {
        let action = ready.swap_remove(at);
        order.push(action);
        for &reader in &readers[action] {
            left[reader] -= 1;
            if left[reader] == 0 {
                ready.push(reader);
            }
        }
    }
    order
}

/// Where the device's arena has the room of a space.
pub(crate) fn room_offset(moves: &Moves, offsets: &[usize], space: Space) -> Option<usize> {
    offsets.get(moves.room(space)?).copied()
}
