//! The device during one run along a plan.
//!
//! What comes behind something that the host waits for has been given by then, where its kernels are captured and the device
//! does that, and is held back until the host, where it would give it, writes a word: no call of the driver stands between
//! what the host waits for and what goes on with that. Whatever is held back was given behind all that the host may have to
//! wait for before it writes the word, so that none of it is stuck behind it, however few queues the streams share.

use super::{PlacedSteps, State, Work};
use crate::cuda::program::lanes::{RAISED, Transfer};
use crate::cuda::program::node_error;
use crate::cuda::program::order::{Action, Order, Stretch, Turn, Unit};
use crate::cuda::{Block, Direct, Event, GpuError, GpuFailure, Pinned, Stream};
use crate::exec::Interrupt;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long work that nobody waits for any more may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// The device during one run. Work that is under way when it is dropped is waited for, but not for ever.
pub(crate) struct DeviceRun<'p> {
    placed: &'p PlacedSteps,
    /// By copy, the address where the caller has what is copied, where the device reads or writes it there.
    ends: HashMap<usize, u64>,
    direct: &'p Direct,
    state: Mutex<Option<State>>,
}

impl<'p> DeviceRun<'p> {
    pub(super) fn new(
        placed: &'p PlacedSteps,
        state: State,
        (ends, direct): (HashMap<usize, u64>, &'p Direct),
    ) -> Self {
        Self { placed, ends, direct, state: Mutex::new(Some(state)) }
    }

    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether step `number` runs here.
    pub(crate) fn has(&self, number: usize) -> bool {
        self.placed.has(number)
    }

    /// Waits for everything that was given.
    pub(crate) fn wait(&self, interrupt: &Interrupt) -> Result<(), GpuError> {
        self.lock().as_mut().map_or(Err(given_up()), |state| state.lanes.finish(interrupt))
    }

    /// Marks the place behind what was given to the stream of step `number` so far.
    pub(in crate::cuda::program) fn record(&self, number: usize) -> Result<Box<dyn Event>, GpuError> {
        let stream = self.turn(Action::Step(number))?.stream;
        self.lock().as_mut().map_or(Err(given_up()), |state| state.lanes.record(stream))
    }

    fn turn(&self, action: Action) -> Result<&Turn, GpuError> {
        let turn = self.placed.order.turns.get(&action);
        turn.ok_or_else(|| not_in_order(action))
    }

    /// Launches step `number` alone. What was to begin behind its head was copied by itself before.
    pub(crate) fn launch_alone(&self, number: usize) -> Result<(), GpuError> {
        let mut held = self.lock();
        let State { lanes, work, .. } = held.as_mut().ok_or_else(given_up)?;
        for action in [Action::Head(number), Action::Step(number)] {
            let Some(own) = work.get(&action) else { continue };
            let Turn { stream, waits, event } = self.turn(action)?;
            lanes.before(*stream, waits)?;
            own.iter().try_for_each(|work| lanes.with(*stream, |stream| work.give(stream)))?;
            lanes.behind(*stream, *event)?;
        }
        Ok(())
    }

    /// Launches the stretch that step `number` begins, where it begins one: what those behind it need is there, too. Behind
    /// its head the copies that wait for that are given.
    pub(crate) fn launch(&self, number: usize) -> Result<(), GpuError> {
        let mut held = self.lock();
        let state = held.as_mut().ok_or_else(given_up)?;
        if let Some(copies) = self.placed.order.heads.get(&number) {
            self.begin_stretch(Action::Head(number), state)?;
            copies.iter().try_for_each(|&copy| self.send(copy, false, state))?;
        }
        self.begin_stretch(Action::Step(number), state)
    }

    fn begin_stretch(&self, action: Action, state: &mut State) -> Result<(), GpuError> {
        let Order { stretches, stretch_of, .. } = &self.placed.order;
        let at = *stretch_of.get(&action).ok_or_else(|| not_in_order(action))?;
        if stretches[at].steps.first() != Some(&action) {
            return Ok(());
        }
        self.reach(Unit::Stretch(at), state)
    }

    /// Gives `unit`, or lets go of it where it was given before; what is behind it is given then, and held back.
    fn reach(&self, unit: Unit, state: &mut State) -> Result<(), GpuError> {
        let PlacedSteps { order, holds, .. } = self.placed;
        let lost = || GpuError::Lost { problem: format!("{unit:?} is in no order") };
        let at = order.unit(unit).ok_or_else(lost)?;
        if std::mem::take(&mut state.ahead[at]) {
            state.pinned.set_word(holds[at], RAISED)?;
        } else {
            self.give(unit, state)?;
        }
        for next in order.behind[at].clone() {
            // What runs for the first time is launched one by one.
            let bare = |action: &Action| state.work.get(action).is_none_or(Vec::is_empty);
            let captured = match order.units[next] {
                Unit::Stretch(at) => {
                    let Stretch { ups, steps, .. } = &order.stretches[at];
                    let from = self.sources(ups, &*state.pinned, &state.arena);
                    state.graphs[at].get(&from).is_some() || steps.iter().all(bare)
                }
                Unit::Copy(_) => true,
            };
            if !captured || state.ahead[next] || !state.holds || !state.lanes.tells() {
                break;
            }
            let word = state.pinned.address() + holds[next] as u64;
            state.holds = state.lanes.hold(self.stream(order.units[next])?, word)?;
            if state.holds {
                state.ahead[next] = true;
                self.give(order.units[next], state)?;
            }
        }
        Ok(())
    }

    fn stream(&self, unit: Unit) -> Result<usize, GpuError> {
        match unit {
            Unit::Stretch(at) => Ok(self.placed.order.stretches[at].stream),
            Unit::Copy(copy) => self.turn(Action::Copy(copy)).map(|turn| turn.stream),
        }
    }

    fn give(&self, unit: Unit, state: &mut State) -> Result<(), GpuError> {
        let State { lanes, pinned, arena, work, graphs, .. } = state;
        let transfer = |copy: usize| self.transfer(copy, &**pinned, arena);
        let at = match unit {
            Unit::Stretch(at) => at,
            Unit::Copy(copy) => {
                let Turn { stream, waits, event } = self.turn(Action::Copy(copy))?;
                lanes.before(*stream, waits)?;
                if self.placed.copies[copy].up {
                    lanes.copy(*stream, transfer(copy))?;
                    return lanes.behind(*stream, *event);
                }
                return lanes.give_down(*stream, copy, transfer(copy), self.word(copy, &**pinned));
            }
        };
        let Stretch { stream, ups, steps, down, waits, events } = &self.placed.order.stretches[at];
        lanes.before(*stream, waits)?;
        let from = self.sources(ups, &**pinned, arena);
        if let Some(graph) = graphs[at].get(&from) {
            lanes.replay(*stream, graph)?;
        } else {
            let own: Vec<&Work> = steps.iter().filter_map(|step| work.get(step)).flatten().collect();
            ups.iter().try_for_each(|&copy| lanes.copy(*stream, transfer(copy)))?;
            own.iter().try_for_each(|work| lanes.with(*stream, |stream| work.give(stream)))?;
            // What has run once is captured: the driver has loaded every kernel by then.
            if !own.is_empty() {
                let mut work = |stream: &mut dyn Stream| {
                    for Transfer { to, from, bytes } in ups.iter().map(|&copy| transfer(copy)) {
                        stream.copy(to, from, bytes)?;
                    }
                    own.iter().try_for_each(|work| work.give(stream))
                };
                graphs[at].keep(from, lanes.capture(*stream, &mut work)?);
            }
        }
        lanes.behind(*stream, events.iter().copied())?;
        down.iter()
            .try_for_each(|&copy| lanes.give_down(*stream, copy, transfer(copy), self.word(copy, &**pinned)))
    }

    /// The bytes of a copy.
    fn transfer(&self, copy: usize, pinned: &dyn Pinned, arena: &Block) -> Transfer {
        let (place, (staging, _)) = (&self.placed.copies[copy], self.placed.staging[copy]);
        let weights = place.weights.and_then(|step| self.placed.weights.first(step, arena));
        if let Some(weights) = weights {
            return weights;
        }
        let there = arena.address() + place.offset as u64;
        let here = self.ends.get(&copy).copied().unwrap_or(pinned.address() + staging as u64);
        let (to, from) = if place.up { (there, here) } else { (here, there) };
        Transfer { to, from, bytes: place.bytes }
    }

    /// Where these copies are from.
    fn sources(&self, copies: &[usize], pinned: &dyn Pinned, arena: &Block) -> Vec<u64> {
        copies.iter().map(|&copy| self.transfer(copy, pinned, arena).from).collect()
    }

    /// The address of the word that tells of the end of a copy.
    fn word(&self, copy: usize, pinned: &dyn Pinned) -> u64 {
        pinned.address() + self.placed.staging[copy].1 as u64
    }

    /// Whether a copy is given along with a stretch.
    fn goes_along(&self, copy: usize) -> bool {
        self.placed.order.stretch_of.contains_key(&Action::Copy(copy))
    }

    /// Lets go of everything: what was given ahead ends whatever it finds.
    fn let_go(&self, state: &State) -> Result<(), GpuError> {
        self.placed.holds.iter().try_for_each(|&word| state.pinned.set_word(word, RAISED))
    }

    /// Copies `from`, which may be written again when this returns, to the device; `alone` where steps are launched alone.
    pub(crate) fn up(&self, copy: usize, from: &[u8], alone: bool) -> Result<(), GpuError> {
        let mut held = self.lock();
        let state = held.as_mut().ok_or_else(given_up)?;
        state.pinned.write(self.placed.staging[copy].0, from)?;
        self.send(copy, alone, state)
    }

    /// Copies what lies where the device reaches it to the device, weights that are brought to a step or what the caller has
    /// there; `alone` as of [`Self::up`].
    pub(crate) fn bring(&self, copy: usize, alone: bool) -> Result<(), GpuError> {
        let mut held = self.lock();
        let state = held.as_mut().ok_or_else(given_up)?;
        match (self.placed.order.is_behind_head(copy), alone) {
            (false, _) => self.send(copy, alone, state),
            (true, true) => self.send_alone(copy, state),
            // It is given behind the head.
            (true, false) => Ok(()),
        }
    }

    /// Gives a copy to the device, unless it goes along with a stretch.
    fn send(&self, copy: usize, alone: bool, state: &mut State) -> Result<(), GpuError> {
        match (self.goes_along(copy), alone) {
            (true, false) => Ok(()),
            (false, false) => self.reach(Unit::Copy(copy), state),
            (_, true) => self.give(Unit::Copy(copy), state),
        }
    }

    /// Gives a copy that begins behind a head ahead of the whole step, whose head it does not wait for: each of the steps
    /// before was waited for.
    fn send_alone(&self, copy: usize, state: &mut State) -> Result<(), GpuError> {
        let Turn { stream, event, .. } = self.turn(Action::Copy(copy))?;
        let transfer = self.transfer(copy, &*state.pinned, &state.arena);
        state.lanes.before(*stream, &[])?;
        state.lanes.copy(*stream, transfer)?;
        state.lanes.behind(*stream, *event)
    }

    /// Copies from the device to `to`, behind what makes it.
    pub(crate) fn down(
        &self,
        copy: usize,
        to: &mut [u8],
        alone: bool,
        interrupt: &Interrupt,
    ) -> Result<(), GpuError> {
        let mut held = self.lock();
        let state = held.as_mut().ok_or_else(given_up)?;
        self.await_down(copy, alone, state, interrupt)?;
        state.pinned.read(self.placed.staging[copy].0, to)
    }

    /// Copies from the device to where the caller has it there. That is waited for as well: what comes behind a copy from the
    /// device relies on its end.
    pub(crate) fn down_there(&self, copy: usize, alone: bool, interrupt: &Interrupt) -> Result<(), GpuError> {
        let mut held = self.lock();
        self.await_down(copy, alone, held.as_mut().ok_or_else(given_up)?, interrupt)
    }

    fn await_down(
        &self,
        copy: usize,
        alone: bool,
        state: &mut State,
        interrupt: &Interrupt,
    ) -> Result<(), GpuError> {
        let stream = self.turn(Action::Copy(copy))?.stream;
        self.send(copy, alone, state)?;
        let (_, word) = self.placed.staging[copy];
        state.lanes.await_down(stream, copy, (&*state.pinned, word), interrupt)
    }

    /// Waits for what was given, and keeps the memory for later runs.
    pub(crate) fn end(self, interrupt: &Interrupt) -> Result<(), GpuFailure> {
        let mut held = self.lock();
        let Some(state) = &mut *held else { return Err(given_up().into()) };
        state.lanes.finish(interrupt)?;
        let mut fault = None;
        for (node, step) in self.placed.steps.values() {
            if let Some(offset) = step.words.fault {
                let mut word = [0; 4];
                state.pinned.read(offset, &mut word)?;
                fault = fault.or((word != [0; 4]).then_some((*node, step.kernel.fault_found())));
            }
        }
        let states = &self.placed.states;
        states.lock().unwrap_or_else(PoisonError::into_inner).extend(held.take());
        match fault {
            Some((node, source)) => Err(node_error(&self.placed.program.graph, node, source).into()),
            None => Ok(()),
        }
    }
}

fn not_in_order(action: Action) -> GpuError {
    GpuError::Lost { problem: format!("{action:?} is in no order") }
}

fn given_up() -> GpuError {
    GpuError::Lost { problem: "the run was given up".into() }
}

impl Drop for DeviceRun<'_> {
    fn drop(&mut self) {
        let Some(mut state) = self.lock().take() else { return };
        if self.let_go(&state).is_err() {
            self.direct.note_stuck();
            return std::mem::forget(state);
        }
        let wait = Interrupt { deadline: Some(Instant::now() + GRACE), cancel: None };
        match state.lanes.finish(&wait) {
            Ok(()) => self.placed.states.lock().unwrap_or_else(PoisonError::into_inner).push(state),
            // Work that does not end keeps its memory.
            Err(GpuError::Interrupted) => {
                self.direct.note_stuck();
                std::mem::forget(state);
            }
            Err(_) => {}
        }
    }
}

impl Work {
    fn give(&self, stream: &mut dyn Stream) -> Result<(), GpuError> {
        match self {
            Self::Launch(launch) => stream.launch(launch),
            Self::Copy(Transfer { to, from, bytes }) => stream.copy(*to, *from, *bytes),
        }
    }
}
