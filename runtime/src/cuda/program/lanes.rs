//! The streams of a run along a plan: one for kernels, and one for copies in each direction, which go on beside them.
//!
//! Whoever gives work gives it in an order in which a single stream could do it. Copies leave that stream only where there
//! is something that they can go on beside: a copy to the device once kernels have been launched, a copy from it once
//! kernels have been launched behind the one that makes what is copied. Events hand over between the streams:
//!
//! - a kernel that reads what was copied waits for that copy;
//! - a copy to bytes that other kernels use waits for all that were launched so far;
//! - a copy from the device waits for the kernel that made what it reads, and the host for the copy.
//!
//! The host knows of the end of a copy by a word in pinned memory that the stream writes behind it, so that no call of the
//! driver stands between the copy and whoever goes on with it.

use crate::cuda::{Event, Gpu, GpuError, Pinned, Replay, Stream};
use crate::exec::Interrupt;
use recurve_kernels::launch::Launch;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the word is polled before the stream itself is asked, which tells of failures.
const SPIN: Duration = Duration::from_millis(1);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Lanes {
    compute: Box<dyn Stream>,
    up: Box<dyn Stream>,
    down: Box<dyn Stream>,
    /// By copy to the device beside kernels: its end, until a kernel has waited for it.
    arrived: HashMap<usize, Box<dyn Event>>,
    /// By step that is copied from, once something was launched behind it: its end.
    made: HashMap<usize, Arc<dyn Event>>,
    /// Steps that are copied from behind which nothing was launched so far.
    latest: Vec<usize>,
    /// Whether a kernel was launched in this run.
    launched: bool,
    /// The number that the next copy from the device leaves in its word.
    ticket: u32,
}

/// A copy between device memory and pinned memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    pub(super) to: u64,
    pub(super) from: u64,
    pub(super) bytes: usize,
}

impl Lanes {
    pub(super) fn new(gpu: &dyn Gpu) -> Result<Self, GpuError> {
        Ok(Self {
            compute: gpu.stream()?,
            up: gpu.stream()?,
            down: gpu.stream()?,
            arrived: HashMap::new(),
            made: HashMap::new(),
            latest: Vec::new(),
            launched: false,
            ticket: 0,
        })
    }

    /// Forgets what an earlier run gave, which has ended.
    pub(super) fn begin(&mut self) {
        self.arrived.clear();
        self.made.clear();
        self.latest.clear();
        self.launched = false;
    }

    /// Before kernels that read what these copies bring.
    pub(super) fn before(&mut self, copies: impl IntoIterator<Item = usize>) -> Result<(), GpuError> {
        if !self.latest.is_empty() {
            let event: Arc<dyn Event> = Arc::from(self.compute.record()?);
            self.made.extend(self.latest.drain(..).map(|step| (step, event.clone())));
        }
        for copy in copies {
            if let Some(event) = self.arrived.remove(&copy) {
                self.compute.wait(&*event)?;
            }
        }
        self.launched = true;
        Ok(())
    }

    /// Behind kernels that make what is copied from these steps.
    pub(super) fn behind(&mut self, steps: impl IntoIterator<Item = usize>) {
        self.latest.extend(steps);
    }

    pub(super) fn launch(&mut self, launch: &Arc<dyn Launch>) -> Result<(), GpuError> {
        self.compute.launch(launch)
    }

    pub(super) fn replay(&mut self, graph: &dyn Replay) -> Result<(), GpuError> {
        self.compute.replay(graph)
    }

    pub(super) fn capture(
        &mut self,
        work: &mut dyn FnMut(&mut dyn Stream) -> Result<(), GpuError>,
    ) -> Result<Box<dyn Replay>, GpuError> {
        self.compute.capture(work)
    }

    /// Marks the place behind the kernels launched so far.
    pub(super) fn record(&mut self) -> Result<Box<dyn Event>, GpuError> {
        self.compute.record()
    }

    /// Copy `copy` to the device; `shared` where kernels that were launched may use the bytes that it writes.
    pub(super) fn copy_up(&mut self, copy: usize, shared: bool, of: Transfer) -> Result<(), GpuError> {
        if !self.launched {
            return self.compute.copy(of.to, of.from, of.bytes);
        }
        if shared {
            let event = self.compute.record()?;
            self.up.wait(&*event)?;
        }
        self.up.copy(of.to, of.from, of.bytes)?;
        self.arrived.insert(copy, self.up.record()?);
        Ok(())
    }

    /// A copy of what step `writer` made to pinned memory; it is there when this returns. The stream writes the word at
    /// `word` behind it.
    pub(super) fn copy_down(
        &mut self,
        writer: usize,
        of: Transfer,
        (pinned, word): (&dyn Pinned, usize),
        interrupt: &Interrupt,
    ) -> Result<(), GpuError> {
        let stream = match self.made.get(&writer) {
            Some(made) => {
                self.down.wait(&**made)?;
                &mut self.down
            }
            None => &mut self.compute,
        };
        stream.copy(of.to, of.from, of.bytes)?;
        self.ticket = self.ticket.wrapping_add(1).max(1);
        if stream.write_word(pinned.address() + word as u64, self.ticket)? {
            let start = Instant::now();
            while start.elapsed() < SPIN {
                if pinned.word(word)? == self.ticket {
                    return Ok(());
                }
                interrupt.check().map_err(|_| GpuError::Interrupted)?;
                std::hint::spin_loop();
            }
        }
        stream.finish(interrupt)
    }

    /// Waits for everything that was given.
    pub(super) fn finish(&mut self, interrupt: &Interrupt) -> Result<(), GpuError> {
        // Kernels waited for the copies that they read, and the host for those that it reads; where a run was given up,
        // some may be under way.
        self.compute.finish(interrupt)?;
        if self.launched {
            self.up.finish(interrupt)?;
            self.down.finish(interrupt)?;
        }
        Ok(())
    }
}
