//! The emulator's tests: planted bugs that must be found and named, and correct twins that must pass without a report.

mod cluster;
mod collectives;
mod copies;
mod order;
mod proxy;
mod rules;
mod speed;

use super::{Fault, Memory, Options, Report, launch};
use crate::device::Global;
use crate::kernel::Kernel;
use crate::launch::{Geometry, Launch};
use std::sync::Arc;

/// A closure as a kernel.
pub(super) struct Closure<F> {
    pub(super) geometry: Geometry,
    pub(super) body: F,
}

static KERNEL: Kernel = Kernel::new::<()>("closure", 1024);

impl<F: Fn() + Send + Sync> Launch for Closure<F> {
    fn kernel(&self) -> &'static Kernel {
        &KERNEL
    }

    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn multiprocessors(&self) -> u32 {
        1
    }

    fn params_pointer(&self) -> *const () {
        std::ptr::null()
    }

    fn run_thread(&self) {
        (self.body)();
    }
}

/// A device with one buffer.
pub(super) struct Bench {
    pub(super) memory: Arc<Memory>,
    pub(super) buffer: Global<u32>,
    pub(super) words: usize,
}

impl Bench {
    /// A buffer of `words` words, the first `written` of which are 0, 1, 2…
    pub(super) fn new(words: usize, written: usize) -> Self {
        let memory = Arc::new(Memory::new(1 << 30));
        let address = memory.allocate("buffer", 4 * words as u64).expect("room");
        let content: Vec<u8> = (0..written as u32).flat_map(u32::to_le_bytes).collect();
        memory.write(address, &content).expect("inside");
        Self { memory, buffer: Global::from_address(address), words }
    }

    pub(super) fn run(
        &self,
        geometry: Geometry,
        body: impl Fn(Global<u32>) + Send + Sync,
    ) -> Result<(), Report> {
        self.run_with(Options::CHECKED, geometry, body)
    }

    pub(super) fn run_with(
        &self,
        options: Options,
        geometry: Geometry,
        body: impl Fn(Global<u32>) + Send + Sync,
    ) -> Result<(), Report> {
        let buffer = self.buffer;
        launch(&self.memory, &Closure { geometry, body: move || body(buffer) }, options)
    }

    /// The fault that is reported.
    pub(super) fn fault(&self, geometry: Geometry, body: impl Fn(Global<u32>) + Send + Sync) -> Fault {
        *self.run(geometry, body).expect_err("a report").fault
    }

    /// One word of the buffer.
    pub(super) fn content_of(&self, index: u64) -> u32 {
        let mut word = [0; 4];
        self.memory.read(self.buffer.address() + 4 * index, &mut word).expect("written");
        u32::from_le_bytes(word)
    }

    pub(super) fn content(&self) -> Vec<u32> {
        let mut bytes = vec![0; 4 * self.words];
        self.memory.read(self.buffer.address(), &mut bytes).expect("written");
        bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
    }
}

/// One block.
pub(super) const fn block(threads: u32) -> Geometry {
    Geometry::linear(1, threads).with_shared(4096)
}
