//! From who runs what to instructions and offsets: the copies that follow, an order that the needs allow, the lists of the
//! workers, and places in both arenas.

use crate::exec::{Accesses, Space};
use crate::plan::PlanError;
use crate::plan::causality::Causality;
use crate::plan::instruction::{Lane, Phase, phases_with_copies};
use crate::plan::memory::{Lifetimes, assign};
use crate::plan::moves::{Ground, Moves, There};
use crate::plan::streams::{Given, MOST_STREAMS, promise, turns};

/// Where a step runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Seat {
    /// In this stream of the device.
    Device(usize),
    Cpu(Lane),
}

impl Seat {
    pub(crate) fn is_device(self) -> bool {
        self.stream().is_some()
    }

    pub(crate) fn stream(self) -> Option<usize> {
        match self {
            Self::Device(stream) => Some(stream),
            Self::Cpu(_) => None,
        }
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
    /// By step: what it has on the device, were it there.
    pub(crate) there: &'a [There],
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
    let Placed { ground, tenants, seats, there, count } = placed;
    let steps = seats.len();
    let on_device: Vec<Option<There>> =
        seats.iter().zip(there).map(|(seat, of)| seat.is_device().then_some(*of)).collect();
    let moves = Moves::new(ground, &on_device)?;
    // The worker behind those of the CPU launches and copies.
    let lane = |action: usize| match seats.get(action) {
        Some(Seat::Cpu(lane)) => *lane,
        Some(Seat::Device(_)) | None => Lane::Worker(count),
    };
    let order: Vec<(usize, Lane)> = in_order(&moves.ahead(), &priority(&moves))
        .into_iter()
        .map(|action| (action, lane(action)))
        .collect();
    let (phases, _) = phases_with_copies(&order, &moves.needs, steps, count + 1)?;
    let causality = Causality::with_copies(&phases, steps, moves.copies.len(), count + 1)?;
    let beyond = || PlanError::invalid("its arena is beyond all bounds");
    let place = |(causality, workers): (&Causality, usize), bytes: &[usize], accesses: &[Accesses]| {
        let lifetimes = Lifetimes::new(causality, accesses, bytes.len(), workers);
        assign(bytes, &lifetimes).ok_or_else(beyond)
    };
    let (offsets, arena) = place((&causality, count + 1), &moves.host_bytes(tenants), &moves.host)?;
    let rooms: Vec<usize> = moves.rooms.iter().map(|(_, bytes)| *bytes).collect();
    // One stream does all in the order in which it is given.
    let several = seats.iter().any(|seat| seat.stream().is_some_and(|stream| stream > 0));
    let streams: Vec<Option<usize>> = seats.iter().map(|seat| seat.stream()).collect();
    let actions = order.iter().map(|(action, _)| *action);
    let apart = several.then(|| beside(&moves, &streams, actions));
    let there = apart.as_ref().map_or((&causality, count + 1), |(apart, streams)| (apart, *streams));
    let (device_offsets, device_arena) = place(there, &rooms, &moves.device)?;
    Ok(Assembled { moves, phases, offsets, arena, device_offsets, device_arena })
}

/// What has ended on the device when something begins there by what it needs alone, so that what streams do beside each
/// other shares no bytes: sharing would make one wait for the other.
pub(crate) fn beside(
    moves: &Moves,
    streams: &[Option<usize>],
    order: impl Iterator<Item = usize>,
) -> (Causality, usize) {
    let stream = |action: usize| match action.checked_sub(streams.len()) {
        None => streams[action],
        Some(copy) => Some(MOST_STREAMS + usize::from(!moves.copies[copy].up)),
    };
    let given = order.filter_map(|action| {
        let stream = stream(action)?;
        Some((action, Given { stream, awaited: stream > MOST_STREAMS }))
    });
    let (actions, given): (Vec<usize>, Vec<Given>) = given.unzip();
    let made = turns(&given, |at, earlier| moves.needs[actions[at]].contains(&actions[earlier]));
    promise(&given, &made, &actions, moves.needs.len())
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
