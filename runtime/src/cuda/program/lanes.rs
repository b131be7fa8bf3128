//! The streams of a run along a plan: some for kernels, and one for copies in each direction, which go on beside them. Which of
//! them does what, and what waits for what, stands in [`Order`](super::order::Order); events hand over between them.
//!
//! The host knows of the end of a copy by a word in pinned memory that the stream writes behind it, so that no call of the
//! driver stands between the copy and whoever goes on with it.

use super::order::Order;
use crate::cuda::{Event, Gpu, GpuError, Pinned, Replay, Stream};
use crate::exec::Interrupt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the word alone is polled; then the stream is asked, too, which tells of failures.
const SPIN: Duration = Duration::from_millis(1);
/// Sleep between looks after that.
const NAP: Duration = Duration::from_micros(50);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Lanes {
    streams: Vec<Box<dyn Stream>>,
    /// By stream, whether something was given to it in this run.
    used: Vec<bool>,
    /// By their numbers, once they stand in their stream in this run.
    events: Vec<Option<Arc<dyn Event>>>,
    /// The copies from the device behind which a word is written in this run.
    told: Vec<usize>,
    /// Whether streams write words, once that is known.
    words: Option<bool>,
}

/// What is written behind a copy from the device; before a run there is 0.
const DONE: u32 = 1;
/// What the host writes to let go what is held back; before a run there is 0.
pub(super) const RAISED: u32 = 1;

/// A copy between device memory and pinned memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    pub(super) to: u64,
    pub(super) from: u64,
    pub(super) bytes: usize,
}

impl Lanes {
    pub(super) fn new(gpu: &dyn Gpu, order: &Order) -> Result<Self, GpuError> {
        let count = order.kernels + 2;
        Ok(Self {
            streams: (0..count).map(|_| gpu.stream()).collect::<Result<_, _>>()?,
            used: vec![false; count],
            events: vec![None; order.events],
            told: Vec::new(),
            words: None,
        })
    }

    /// Forgets what an earlier run gave, which has ended.
    pub(super) fn begin(&mut self) {
        self.used.fill(false);
        self.events.fill(None);
        self.told.clear();
    }

    /// Lets what comes next in `stream` wait for these events.
    pub(super) fn before(&mut self, stream: usize, waits: &[usize]) -> Result<(), GpuError> {
        self.used[stream] = true;
        for &wait in waits {
            let event = self.events[wait].clone();
            let lost = || GpuError::Lost { problem: "what is waited for was never given".into() };
            self.streams[stream].wait(&*event.ok_or_else(lost)?)?;
        }
        Ok(())
    }

    /// Lets these events stand behind what `stream` was given last.
    pub(super) fn behind(
        &mut self,
        stream: usize,
        events: impl IntoIterator<Item = usize>,
    ) -> Result<(), GpuError> {
        let mut recorded: Option<Arc<dyn Event>> = None;
        for number in events {
            let event = match &recorded {
                Some(event) => event.clone(),
                None => recorded.insert(Arc::from(self.streams[stream].record()?)).clone(),
            };
            self.events[number] = Some(event);
        }
        Ok(())
    }

    /// Whether the ends of copies are told by words, as far as is known: a stream whose end has to be waited for may hold
    /// nothing back.
    pub(super) fn tells(&self) -> bool {
        self.words == Some(true)
    }

    /// Holds back what `stream` is given from here on until the word at `word` is [`RAISED`]; `false` where the GPU does not
    /// do that.
    pub(super) fn hold(&mut self, stream: usize, word: u64) -> Result<bool, GpuError> {
        self.used[stream] = true;
        self.streams[stream].wait_word(word, RAISED)
    }

    /// Lets `give` give something to a stream.
    pub(super) fn with(
        &mut self,
        stream: usize,
        give: impl FnOnce(&mut dyn Stream) -> Result<(), GpuError>,
    ) -> Result<(), GpuError> {
        give(&mut *self.streams[stream])
    }

    pub(super) fn replay(&mut self, stream: usize, graph: &dyn Replay) -> Result<(), GpuError> {
        self.streams[stream].replay(graph)
    }

    pub(super) fn capture(
        &mut self,
        stream: usize,
        work: &mut dyn FnMut(&mut dyn Stream) -> Result<(), GpuError>,
    ) -> Result<Box<dyn Replay>, GpuError> {
        self.streams[stream].capture(work)
    }

    /// Marks the place behind what `stream` was given so far.
    pub(super) fn record(&mut self, stream: usize) -> Result<Box<dyn Event>, GpuError> {
        self.streams[stream].record()
    }

    pub(super) fn copy(&mut self, stream: usize, of: Transfer) -> Result<(), GpuError> {
        self.streams[stream].copy(of.to, of.from, of.bytes)
    }

    /// Gives copy `copy` to pinned memory, and the word at `word` behind it.
    pub(super) fn give_down(
        &mut self,
        stream: usize,
        copy: usize,
        of: Transfer,
        word: u64,
    ) -> Result<(), GpuError> {
        self.copy(stream, of)?;
        let told = self.streams[stream].write_word(word, DONE)?;
        self.words = Some(told);
        self.told.extend(told.then_some(copy));
        Ok(())
    }

    /// Waits for the end of what [`Self::give_down`] gave.
    pub(super) fn await_down(
        &mut self,
        stream: usize,
        copy: usize,
        (pinned, word): (&dyn Pinned, usize),
        interrupt: &Interrupt,
    ) -> Result<(), GpuError> {
        if !self.told.contains(&copy) {
            return self.streams[stream].finish(interrupt);
        }
        // What was given behind the copy may wait for the host, so that the stream's end is not waited for.
        let start = Instant::now();
        while pinned.word(word)? != DONE {
            interrupt.check().map_err(|_| GpuError::Interrupted)?;
            if start.elapsed() < SPIN {
                std::hint::spin_loop();
            } else {
                self.streams[stream].check()?;
                std::thread::sleep(NAP);
            }
        }
        Ok(())
    }

    /// Waits for everything that was given.
    pub(super) fn finish(&mut self, interrupt: &Interrupt) -> Result<(), GpuError> {
        let used = self.streams.iter_mut().zip(&self.used).filter(|(_, used)| **used);
        used.map(|(stream, _)| stream.finish(interrupt)).fold(Ok(()), Result::and)
    }
}
