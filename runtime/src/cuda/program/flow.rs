//! Running control flow whose way data on the device decides (`families/flow`): flags are read between parts, tensors are
//! not. Outputs that grow with the rounds come to the host behind the last one.

use super::bound::{DeviceStep, launch_all};
use super::{GpuProgram, StepFailure};
use crate::cpu::RunContext;
use crate::cuda::families::flow::{CONDITION, Collected, Course, FLAGS, Flow, Known, LIMIT, ROUND, Rounds};
use crate::cuda::site::Launches;
use crate::cuda::{Block, Pinned, Replay, Stream};
use crate::error::OpError;
use crate::memory::Buffer;
use crate::tensor::{Tensor, Value};
use std::sync::atomic::Ordering;

/// Rounds whose slices have a place before the first one.
const FIRST_ROUNDS: usize = 16;

/// One part's launches, and the same captured, once they have run.
#[derive(Default)]
pub(super) struct Part {
    pub(super) launches: Launches,
    graph: Option<Box<dyn Replay>>,
}

impl Part {
    pub(super) fn new(launches: Launches) -> Self {
        Self { launches, graph: None }
    }
}

/// Memory for outputs that grow: it is given back when nothing on the device can be using it.
#[derive(Default)]
pub(super) struct Growing {
    blocks: Vec<Block>,
    pinned: Vec<Box<dyn Pinned>>,
}

/// One run of a flow.
pub(super) struct Running<'a> {
    pub(super) program: &'a GpuProgram,
    pub(super) step: &'a DeviceStep,
    pub(super) parts: &'a mut [Part],
    pub(super) stream: &'a mut dyn Stream,
    pub(super) pinned: &'a dyn Pinned,
    pub(super) arena: &'a Block,
    pub(super) slots: &'a mut [Option<Value>],
    pub(super) growing: &'a mut Growing,
    pub(super) context: RunContext<'a>,
}

/// An output on its way: its memory, and how many rounds it has room for.
struct Growth {
    block: usize,
    room: usize,
}

impl Running<'_> {
    /// Runs it.
    pub(super) fn run(mut self, flow: &Flow) -> Result<(), StepFailure> {
        // Nothing of an earlier run is left that could touch them.
        self.pinned.write(self.flags()?, &[0; FLAGS])?;
        match &flow.course {
            Course::Branch { condition } => {
                self.bring(*condition, CONDITION, 1)?;
                let taken = self.flag(CONDITION)?;
                self.go(usize::from(taken))
            }
            Course::Loop(rounds) => self.repeat(rounds),
        }
    }

    /// Gives part `part` to the device.
    fn go(&mut self, part: usize) -> Result<(), StepFailure> {
        let Some(Part { launches, graph }) = self.parts.get_mut(part) else {
            return Err(OpError::internal("a part that is none").into());
        };
        match graph {
            Some(graph) => self.stream.replay(&**graph)?,
            None if launches.is_empty() => {}
            None => {
                let own = std::slice::from_ref(launches);
                launch_all(self.stream, own)?;
                *graph = Some(self.stream.capture(&mut |stream| launch_all(stream, own))?);
            }
        }
        Ok(())
    }

    /// Copies input `input`, so many bytes, to this place among the flags.
    fn bring(&mut self, input: usize, to: usize, bytes: usize) -> Result<(), StepFailure> {
        let place = self.step.inputs.get(input).and_then(|place| place.address(self.arena));
        let (from, there) = place.ok_or_else(|| OpError::internal("a flag that is nowhere"))?;
        if there != bytes {
            return Err(OpError::value("a condition or a count is not one number").into());
        }
        let flags = self.pinned.address() + self.flags()? as u64;
        Ok(self.stream.copy(flags + to as u64, from, bytes)?)
    }

    fn flags(&self) -> Result<usize, OpError> {
        self.step.flags.ok_or_else(|| OpError::internal("a flow without flags"))
    }

    /// Waits for the device and reads the flags.
    fn read(&mut self) -> Result<[u8; FLAGS], StepFailure> {
        self.stream.finish(self.context.interrupt)?;
        let mut flags = [0; FLAGS];
        self.pinned.read(self.flags()?, &mut flags)?;
        self.program.flag_reads.fetch_add(1, Ordering::Relaxed);
        Ok(flags)
    }

    /// The same, and gives the truth value at this place.
    fn flag(&mut self, at: usize) -> Result<bool, StepFailure> {
        Ok(self.read()?[at] != 0)
    }

    fn repeat(&mut self, rounds: &Rounds) -> Result<(), StepFailure> {
        let (limit, mut goes_on) = match (rounds.limit, rounds.begins) {
            (Known::Is(most), Known::Is(begins)) => (most, begins),
            (most, begins) => {
                if let Known::Input(input) = most {
                    self.bring(input, LIMIT, 8)?;
                }
                if let Known::Input(input) = begins {
                    self.bring(input, CONDITION, 1)?;
                }
                let flags = self.read()?;
                let count = flags[LIMIT..LIMIT + 8].try_into().map_err(|_| OpError::internal("flags"))?;
                let limit = if let Known::Is(most) = most { most } else { i64::from_le_bytes(count) };
                (limit, if let Known::Is(begins) = begins { begins } else { flags[CONDITION] != 0 })
            }
        };
        let mut growths = Vec::with_capacity(rounds.collected.len());
        for of in &rounds.collected {
            let room = usize::try_from(limit).unwrap_or(0).min(FIRST_ROUNDS);
            growths.push(self.growth(of, room)?);
        }
        self.go(0)?;
        let mut done = 0usize;
        while goes_on && i64::try_from(done).is_ok_and(|done| done < limit) {
            self.context.interrupt.check()?;
            if rounds.numbered {
                // The round before has ended: nothing reads the number now.
                self.pinned.write(self.flags()? + ROUND, &(done as i64).to_le_bytes())?;
            }
            self.go(1 + done % 2)?;
            for (of, growth) in rounds.collected.iter().zip(&mut growths) {
                self.collect(of, growth, done)?;
            }
            done += 1;
            if rounds.ends {
                goes_on = self.flag(CONDITION)?;
            } else if rounds.numbered {
                self.stream.finish(self.context.interrupt)?;
            }
        }
        self.go(3 + done % 2)?;
        for (of, growth) in rounds.collected.iter().zip(&growths) {
            self.fetch(of, growth, done)?;
        }
        // All that was on its way has arrived.
        if !rounds.collected.is_empty() {
            self.growing.blocks.clear();
            self.growing.pinned.clear();
        }
        Ok(())
    }

    /// Room for `room` slices.
    fn growth(&mut self, of: &Collected, room: usize) -> Result<Growth, StepFailure> {
        let bytes = of.bytes.checked_mul(room).ok_or_else(|| self.context.budget.overflow())?;
        self.growing.blocks.push(self.program.gpu.allocate(bytes.max(1))?);
        Ok(Growth { block: self.growing.blocks.len() - 1, room })
    }

    /// Puts the slice of round `round` behind those before it.
    fn collect(&mut self, of: &Collected, growth: &mut Growth, round: usize) -> Result<(), StepFailure> {
        if of.bytes == 0 {
            return Ok(());
        }
        let held = round * of.bytes;
        if round == growth.room {
            let larger = self.growth(of, growth.room.saturating_mul(2).max(1))?;
            let [to, from] = [&larger, &*growth].map(|growth| self.growing.blocks[growth.block].address());
            if held > 0 {
                self.stream.copy(to, from, held)?;
            }
            *growth = larger;
        }
        let (workspace, _) = self
            .step
            .workspace
            .address(self.arena)
            .ok_or_else(|| OpError::internal("a flow without workspace"))?;
        let to = self.growing.blocks[growth.block].address() + held as u64;
        Ok(self.stream.copy(to, workspace + of.offset as u64, of.bytes)?)
    }

    /// Brings the slices of `rounds` rounds to the host.
    fn fetch(&mut self, of: &Collected, growth: &Growth, rounds: usize) -> Result<(), StepFailure> {
        let Some(slot) = self.step.made.get(of.output).copied().flatten() else { return Ok(()) };
        let overflow = || self.context.budget.overflow();
        let bytes = of.bytes.checked_mul(rounds).ok_or_else(overflow)?;
        let mut buffer = Buffer::zeroed(bytes, self.context.budget)?;
        if bytes > 0 {
            let pinned = self.program.gpu.gpu().pinned(bytes)?;
            let from = self.growing.blocks[growth.block].address();
            let address = pinned.address();
            self.growing.pinned.push(pinned);
            self.stream.copy(address, from, bytes)?;
            self.stream.finish(self.context.interrupt)?;
            if let Some(pinned) = self.growing.pinned.last() {
                pinned.read(0, buffer.bytes_mut())?;
            }
        } else {
            self.stream.finish(self.context.interrupt)?;
        }
        let shape: Vec<usize> = [rounds].into_iter().chain(of.shape.iter().copied()).collect();
        self.slots[slot] = Some(Tensor::from_buffer(of.dtype, &shape, buffer)?.into());
        Ok(())
    }
}
