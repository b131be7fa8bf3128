//! Running control flow whose way data on the device decides (`families/flow`): flags are read between parts, tensors are
//! not. Outputs that grow with the rounds come to the host behind the last one.

use super::bound::launch_all;
use super::device_step::DeviceStep;
use super::{GpuProgram, StepFailure};
use crate::cpu::RunContext;
use crate::cuda::families::flow::{
    CONDITION, Choice, Collected, Course, FLAGS, Known, LIMIT, Part, ROUND, Rounds,
};
use crate::cuda::{Block, Pinned, Stream};
use crate::error::OpError;
use crate::memory::{Buffer, Charge};
use crate::tensor::{Tensor, Value};
use recurve_kernels::launch;
use std::sync::atomic::Ordering;

/// Rounds whose slices have a place before the first one.
const FIRST_ROUNDS: usize = 16;

/// Memory for outputs that grow: it is given back when nothing on the device can be using it.
#[derive(Default)]
pub(super) struct Growing {
    blocks: Vec<Block>,
    pinned: Vec<(Box<dyn Pinned>, Charge)>,
}

/// One run of a flow.
pub(super) struct Running<'a> {
    pub(super) program: &'a GpuProgram,
    pub(super) step: &'a DeviceStep,
    pub(super) stream: &'a mut dyn Stream,
    pub(super) pinned: &'a dyn Pinned,
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
    pub(super) fn run(mut self, course: &mut Course) -> Result<(), StepFailure> {
        // Nothing of an earlier run is left that could touch them.
        for at in (0..self.step.kernel.flags()).step_by(FLAGS) {
            self.pinned.write(self.step.words.flags.unwrap_or(0) + at, &[0; FLAGS])?;
        }
        self.walk(course)
    }

    fn walk(&mut self, course: &mut Course) -> Result<(), StepFailure> {
        match course {
            Course::Part(part) => self.go(part),
            Course::Sequence(courses) => courses.iter_mut().try_for_each(|course| self.walk(course)),
            Course::Branch(choice) => {
                let Choice { flags, condition, then, otherwise } = &mut **choice;
                self.bring(*condition, (*flags, CONDITION), 1)?;
                let taken = self.read(*flags)?[CONDITION] != 0;
                self.walk(if taken { then } else { otherwise })
            }
            Course::Loop(rounds) => self.repeat(rounds),
        }
    }

    /// Gives a part to the device.
    fn go(&mut self, part: &mut Part) -> Result<(), StepFailure> {
        let Part { launches, graph, draws } = part;
        if !draws.is_empty() {
            // What it gave before may not have read these words yet.
            self.stream.finish(self.context.interrupt)?;
            for (source, word) in draws {
                self.pinned.write(self.offset(*word)?, &source.next().start().to_le_bytes())?;
            }
        }
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

    /// Copies a number, so many bytes, to this place among the flags.
    fn bring(
        &mut self,
        from: launch::Buffer,
        (flags, to): (launch::Buffer, usize),
        bytes: usize,
    ) -> Result<(), StepFailure> {
        if from.bytes != bytes as u64 || !from.is_some() {
            return Err(OpError::value("a condition or a count is not one number").into());
        }
        Ok(self.stream.copy(flags.address + to as u64, from.address, bytes)?)
    }

    /// Where these flags lie in the pinned memory.
    fn place(&self, flags: launch::Buffer) -> Result<usize, OpError> {
        if flags.bytes < FLAGS as u64 {
            return Err(OpError::internal("a flow without flags"));
        }
        self.offset(flags)
    }

    /// Where this lies in the pinned memory.
    fn offset(&self, of: launch::Buffer) -> Result<usize, OpError> {
        let offset = of.address.checked_sub(self.pinned.address()).and_then(|at| usize::try_from(at).ok());
        offset.ok_or_else(|| OpError::internal("a word of a flow outside its memory"))
    }

    /// Waits for the device and reads the flags.
    fn read(&mut self, flags: launch::Buffer) -> Result<[u8; FLAGS], StepFailure> {
        self.stream.finish(self.context.interrupt)?;
        let mut read = [0; FLAGS];
        self.pinned.read(self.place(flags)?, &mut read)?;
        self.program.flag_reads.fetch_add(1, Ordering::Relaxed);
        Ok(read)
    }

    fn repeat(&mut self, all: &mut Rounds) -> Result<(), StepFailure> {
        let flags = all.flags;
        let (limit, mut goes_on) = match (all.limit, all.begins) {
            (Known::Is(most), Known::Is(begins)) => (most, begins),
            (most, begins) => {
                if let Known::At(count) = most {
                    self.bring(count, (flags, LIMIT), 8)?;
                }
                if let Known::At(condition) = begins {
                    self.bring(condition, (flags, CONDITION), 1)?;
                }
                let read = self.read(flags)?;
                let count = read[LIMIT..LIMIT + 8].try_into().map_err(|_| OpError::internal("flags"))?;
                let limit = if let Known::Is(most) = most { most } else { i64::from_le_bytes(count) };
                (limit, if let Known::Is(begins) = begins { begins } else { read[CONDITION] != 0 })
            }
        };
        let mut growths = Vec::with_capacity(all.collected.len());
        for of in &all.collected {
            let room = usize::try_from(limit).unwrap_or(0).min(FIRST_ROUNDS);
            growths.push(self.growth(of, room)?);
        }
        self.walk(&mut all.begin)?;
        let mut done = 0usize;
        while goes_on && i64::try_from(done).is_ok_and(|done| done < limit) {
            self.context.interrupt.check()?;
            if all.numbered {
                // The round before has ended: nothing reads the number now.
                let place = self.place(flags)?;
                self.pinned.write(place + ROUND, &(done as i64).to_le_bytes())?;
            }
            self.walk(&mut all.rounds[done % 2])?;
            for (of, growth) in all.collected.iter().zip(&mut growths) {
                self.collect(of, growth, done)?;
            }
            done += 1;
            if all.decides {
                goes_on = self.read(flags)?[CONDITION] != 0;
            } else if all.numbered {
                self.stream.finish(self.context.interrupt)?;
            }
        }
        self.walk(&mut all.ends[done % 2])?;
        for (of, growth) in all.collected.iter().zip(&growths) {
            self.fetch(of, growth, done)?;
        }
        // All that was on its way has arrived.
        if !all.collected.is_empty() {
            self.growing.blocks.clear();
            self.growing.pinned.clear();
        }
        Ok(())
    }

    /// Room for `room` slices.
    fn growth(&mut self, of: &Collected, room: usize) -> Result<Growth, StepFailure> {
        let overflow = || self.context.budget.overflow();
        let bytes = slice_bytes(of).checked_mul(room).ok_or_else(overflow)?;
        self.growing.blocks.push(self.program.gpu.allocate(bytes.max(1))?);
        Ok(Growth { block: self.growing.blocks.len() - 1, room })
    }

    /// Puts the slice of round `round` behind those before it.
    fn collect(&mut self, of: &Collected, growth: &mut Growth, round: usize) -> Result<(), StepFailure> {
        let bytes = slice_bytes(of);
        if bytes == 0 {
            return Ok(());
        }
        let held = round * bytes;
        if round == growth.room {
            let larger = self.growth(of, growth.room.saturating_mul(2).max(1))?;
            let [to, from] = [&larger, &*growth].map(|growth| self.growing.blocks[growth.block].address());
            if held > 0 {
                self.stream.copy(to, from, held)?;
            }
            *growth = larger;
        }
        let to = self.growing.blocks[growth.block].address() + held as u64;
        Ok(self.stream.copy(to, of.slice.address, bytes)?)
    }

    /// Brings the slices of `rounds` rounds to the host.
    fn fetch(&mut self, of: &Collected, growth: &Growth, rounds: usize) -> Result<(), StepFailure> {
        let Some(slot) = self.step.made.get(of.output).copied().flatten() else { return Ok(()) };
        let overflow = || self.context.budget.overflow();
        let bytes = slice_bytes(of).checked_mul(rounds).ok_or_else(overflow)?;
        let mut buffer = Buffer::zeroed(bytes, self.context.budget)?;
        if bytes > 0 {
            let (pinned, charge) = self.program.pinned(bytes)?;
            let from = self.growing.blocks[growth.block].address();
            let address = pinned.address();
            self.growing.pinned.push((pinned, charge));
            self.stream.copy(address, from, bytes)?;
            self.stream.finish(self.context.interrupt)?;
            if let Some((pinned, _)) = self.growing.pinned.last() {
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

/// Bytes of a round's slice.
fn slice_bytes(of: &Collected) -> usize {
    usize::try_from(of.slice.bytes).unwrap_or(usize::MAX)
}
