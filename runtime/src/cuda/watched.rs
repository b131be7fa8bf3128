//! The emulated GPU, watched and told what goes wrong: for drills of failures.

use super::emulated::EmulatedGpu;
use super::{Event, Gpu, GpuError, Pinned, Properties, Replay, Stream};
use crate::exec::Interrupt;
use crate::testing::Gen;
use recurve_kernels::emulator::Options;
use recurve_kernels::kernel::Kernel;
use recurve_kernels::launch::{Geometry, Launch};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Failure {
    /// There is no memory left.
    Memory,
    /// The driver refuses launches, with this word.
    Launch(&'static str),
    /// A kernel fails while it runs: a sticky error, which every later call gives again.
    Sticky,
    /// Work never ends, and no call says so.
    Stuck,
    /// Whoever launches panics.
    Panic,
}

/// A GPU that does what it is told.
#[derive(Debug)]
pub(super) struct WatchedGpu {
    inner: EmulatedGpu,
    /// What it says of itself.
    properties: Mutex<&'static Properties>,
    told: Told,
}

/// What it is told, and what it has seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Told(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    failure: Option<Failure>,
    /// Calls that still go well before the failure: allocations where memory ends, else launches.
    spared: usize,
    launches: usize,
    captures: usize,
    replays: usize,
    allocations: usize,
    /// Bytes of each copy.
    copies: Vec<usize>,
    /// Blocks that are resident at once, where that is told.
    resident: Option<u32>,
    without_grids: bool,
    without_words: bool,
    without_waits: bool,
    /// What draws how long kernels are late, where they are.
    late: Option<Gen>,
    streams: usize,
    /// What each stream was given, by its number.
    given: Vec<(usize, Given)>,
}

/// Something that a stream is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Given {
    Copy,
    Kernels,
    /// A copy that is part of a graph, behind its kernels.
    Captured,
    Wait,
    Word,
    /// It waits for a word.
    Until,
    /// Not a stream: the host saw such a word.
    Seen,
    /// Not a stream: the host wrote a word that is waited for.
    Raised,
}

/// The number that stands for the host among streams.
const HOST: usize = usize::MAX;

impl Told {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics inside")
    }

    /// From now on everything goes well.
    pub(super) fn recover(&self) {
        self.lock().failure = None;
    }

    /// From now on this goes wrong.
    pub(super) fn fail(&self, failure: Failure) {
        self.fail_behind(failure, 0);
    }

    /// The same once `spared` more calls went well.
    pub(super) fn fail_behind(&self, failure: Failure, spared: usize) {
        let mut state = self.lock();
        (state.failure, state.spared) = (Some(failure), spared);
    }

    /// Launches so far, those that were captured left out.
    pub(super) fn launches(&self) -> usize {
        self.lock().launches
    }

    /// Graphs captured and graphs launched so far.
    pub(super) fn graphs(&self) -> [usize; 2] {
        let state = self.lock();
        [state.captures, state.replays]
    }

    /// Allocations of device memory so far.
    pub(super) fn allocations(&self) -> usize {
        self.lock().allocations
    }

    /// Bytes of each copy since this was asked last.
    pub(super) fn take_copies(&self) -> Vec<usize> {
        std::mem::take(&mut self.lock().copies)
    }

    /// So many blocks are resident at once.
    pub(super) fn keep_resident(&self, blocks: u32) {
        self.lock().resident = Some(blocks);
    }

    /// The GPU keeps no whole grid resident.
    pub(super) fn forget_grids(&self) {
        self.lock().without_grids = true;
    }

    /// Streams write no words.
    pub(super) fn forget_words(&self) {
        self.lock().without_words = true;
    }

    /// Kernels end later than they could, from now on: each by a time that is drawn when it is given, some at once.
    pub(super) fn delay(&self, seed: u64) {
        self.lock().late = Some(Gen::new(seed));
    }

    /// Streams do not wait for events.
    pub(super) fn forget_waits(&self) {
        self.lock().without_waits = true;
    }

    /// The launch, late where that is drawn.
    fn drawn(&self, launch: &Arc<dyn Launch>) -> Arc<dyn Launch> {
        let mut state = self.lock();
        let late = |g: &mut Gen| g.chance(0.5).then(|| Duration::from_micros(g.size(100, 2000) as u64));
        match state.late.as_mut().and_then(late) {
            Some(late) => Arc::new(Late { inner: launch.clone(), late, threads: AtomicU64::new(0) }),
            None => launch.clone(),
        }
    }

    /// What streams were given since this was asked before, in order, with the number of each stream.
    pub(super) fn given(&self) -> Vec<(usize, Given)> {
        std::mem::take(&mut self.lock().given)
    }

    fn note(&self, stream: usize, given: Given) {
        self.lock().given.push((stream, given));
    }

    /// Whether this goes wrong now.
    fn is(&self, failure: Failure) -> bool {
        let state = self.lock();
        state.failure == Some(failure) && state.spared == 0
    }

    /// Notes an allocation or a launch, and tells what is wrong with it.
    fn count(&self, allocation: bool) -> Option<Failure> {
        let mut state = self.lock();
        *(if allocation { &mut state.allocations } else { &mut state.launches }) += 1;
        let failure = state.failure.filter(|failure| (*failure == Failure::Memory) == allocation)?;
        if state.spared > 0 {
            state.spared -= 1;
            return None;
        }
        Some(failure)
    }

    /// Waits as long as work does not end.
    fn while_stuck(&self, interrupt: &Interrupt) -> Result<(), GpuError> {
        while self.is(Failure::Stuck) {
            interrupt.check().map_err(|_| GpuError::Interrupted)?;
            std::thread::sleep(Duration::from_millis(1));
        }
        self.check()
    }

    fn check(&self) -> Result<(), GpuError> {
        let lost = || GpuError::Lost { problem: "CUDA_ERROR_ILLEGAL_ADDRESS".into() };
        if self.is(Failure::Sticky) { Err(lost()) } else { Ok(()) }
    }
}

impl WatchedGpu {
    /// One of `memory` bytes.
    pub(super) fn new(memory: u64) -> (Self, Told) {
        let (inner, told) = (EmulatedGpu::new(memory, Options::CHECKED), Told::default());
        let properties = Mutex::new(leaked(inner.properties().clone()));
        (Self { inner, properties, told: told.clone() }, told)
    }
}

/// Properties for as long as the tests run: they are asked for by reference.
fn leaked(properties: Properties) -> &'static Properties {
    Box::leak(Box::new(properties))
}

impl Gpu for WatchedGpu {
    fn properties(&self) -> &Properties {
        let mut properties = self.properties.lock().expect("no test panics inside");
        if self.told.lock().without_grids && properties.cooperative {
            *properties = leaked(Properties { cooperative: false, ..properties.clone() });
        }
        *properties
    }

    fn free_memory(&self) -> Result<usize, GpuError> {
        self.told.check()?;
        self.inner.free_memory()
    }

    fn allocate(&self, bytes: usize) -> Result<u64, GpuError> {
        self.told.check()?;
        if self.told.count(true).is_some() {
            return Err(GpuError::OutOfMemory { requested: bytes, free: 0 });
        }
        self.inner.allocate(bytes)
    }

    fn release(&self, address: u64) {
        self.inner.release(address);
    }

    fn pinned(&self, bytes: usize) -> Result<Box<dyn Pinned>, GpuError> {
        self.told.check()?;
        Ok(Box::new(WatchedPinned { inner: self.inner.pinned(bytes)?, told: self.told.clone() }))
    }

    fn stream(&self) -> Result<Box<dyn Stream>, GpuError> {
        self.told.check()?;
        let number = {
            let mut state = self.told.lock();
            state.streams += 1;
            state.streams - 1
        };
        Ok(Box::new(WatchedStream { inner: self.inner.stream()?, told: self.told.clone(), number }))
    }

    fn resident_blocks(&self, launch: &dyn Launch) -> Result<u32, GpuError> {
        let resident = self.told.lock().resident;
        resident.map_or_else(|| self.inner.resident_blocks(launch), Ok)
    }
}

#[derive(Debug)]
struct WatchedPinned {
    inner: Box<dyn Pinned>,
    told: Told,
}

impl Pinned for WatchedPinned {
    fn address(&self) -> u64 {
        self.inner.address()
    }

    fn write(&self, offset: usize, from: &[u8]) -> Result<(), GpuError> {
        self.inner.write(offset, from)
    }

    fn read(&self, offset: usize, to: &mut [u8]) -> Result<(), GpuError> {
        self.inner.read(offset, to)
    }

    fn set_word(&self, offset: usize, value: u32) -> Result<(), GpuError> {
        if value != 0 {
            self.told.note(HOST, Given::Raised);
        }
        self.inner.set_word(offset, value)
    }

    fn word(&self, offset: usize) -> Result<u32, GpuError> {
        let word = self.inner.word(offset)?;
        if word != 0 {
            self.told.note(HOST, Given::Seen);
        }
        Ok(word)
    }
}

#[derive(Debug)]
struct WatchedStream {
    inner: Box<dyn Stream>,
    told: Told,
    number: usize,
}

impl Stream for WatchedStream {
    fn copy(&mut self, to: u64, from: u64, bytes: usize) -> Result<(), GpuError> {
        self.told.check()?;
        self.told.lock().copies.push(bytes);
        self.told.note(self.number, Given::Copy);
        self.inner.copy(to, from, bytes)
    }

    fn launch(&mut self, launch: &Arc<dyn Launch>) -> Result<(), GpuError> {
        self.told.note(self.number, Given::Kernels);
        match self.told.count(false) {
            Some(Failure::Launch(problem)) => {
                let (kernel, problem) = (launch.kernel().entry.to_owned(), problem.to_owned());
                return Err(GpuError::Launch { kernel, problem });
            }
            Some(Failure::Panic) => panic!("planted"),
            _ => {}
        }
        // A kernel that fails, or never ends, does so behind the call that launched it.
        self.inner.launch(&self.told.drawn(launch))
    }

    fn record(&mut self) -> Result<Box<dyn Event>, GpuError> {
        self.told.check()?;
        self.inner.record()
    }

    fn wait(&mut self, event: &dyn Event) -> Result<(), GpuError> {
        self.told.note(self.number, Given::Wait);
        if self.told.lock().without_waits { Ok(()) } else { self.inner.wait(event) }
    }

    fn write_word(&mut self, address: u64, value: u32) -> Result<bool, GpuError> {
        self.told.check()?;
        self.told.note(self.number, Given::Word);
        // Whoever polls finds out what is wrong when it asks the stream.
        let missing = self.told.is(Failure::Stuck) || self.told.lock().without_words;
        if missing { Ok(false) } else { self.inner.write_word(address, value) }
    }

    fn wait_word(&mut self, address: u64, value: u32) -> Result<bool, GpuError> {
        self.told.check()?;
        let missing = self.told.is(Failure::Stuck) || self.told.lock().without_words;
        if missing {
            return Ok(false);
        }
        self.told.note(self.number, Given::Until);
        self.inner.wait_word(address, value)
    }

    fn check(&mut self) -> Result<(), GpuError> {
        self.told.check()?;
        self.inner.check()
    }

    fn capture(
        &mut self,
        work: &mut dyn FnMut(&mut dyn Stream) -> Result<(), GpuError>,
    ) -> Result<Box<dyn Replay>, GpuError> {
        self.told.check()?;
        self.told.lock().captures += 1;
        let (told, mut copies) = (&self.told, 0);
        let inner = self.inner.capture(&mut |inner| {
            let mut captured = Captured { inner, told, copies: 0 };
            let worked = work(&mut captured);
            copies = captured.copies;
            worked
        })?;
        Ok(Box::new(WatchedReplay { inner, copies }))
    }

    fn replay(&mut self, graph: &dyn Replay) -> Result<(), GpuError> {
        self.told.check()?;
        self.told.lock().replays += 1;
        self.told.note(self.number, Given::Kernels);
        let WatchedReplay { inner, copies } = graph.as_any().downcast_ref().expect("one of its own");
        (0..*copies).for_each(|_| self.told.note(self.number, Given::Captured));
        self.inner.replay(&**inner)
    }

    fn reach(&mut self, event: &dyn Event, interrupt: &Interrupt) -> Result<(), GpuError> {
        self.told.while_stuck(interrupt)?;
        self.inner.reach(event, interrupt)
    }

    fn finish(&mut self, interrupt: &Interrupt) -> Result<(), GpuError> {
        self.told.while_stuck(interrupt)?;
        self.inner.finish(interrupt)
    }
}

/// What is captured of a stream: kernels that are late whenever they are replayed.
#[derive(Debug)]
struct Captured<'a> {
    inner: &'a mut dyn Stream,
    told: &'a Told,
    copies: usize,
}

/// A graph, and how many copies it has.
#[derive(Debug)]
struct WatchedReplay {
    inner: Box<dyn Replay>,
    copies: usize,
}

impl Replay for WatchedReplay {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

impl Stream for Captured<'_> {
    fn copy(&mut self, to: u64, from: u64, bytes: usize) -> Result<(), GpuError> {
        self.copies += 1;
        self.inner.copy(to, from, bytes)
    }

    fn launch(&mut self, launch: &Arc<dyn Launch>) -> Result<(), GpuError> {
        self.inner.launch(&self.told.drawn(launch))
    }

    fn record(&mut self) -> Result<Box<dyn Event>, GpuError> {
        self.inner.record()
    }

    fn wait(&mut self, event: &dyn Event) -> Result<(), GpuError> {
        self.inner.wait(event)
    }

    fn write_word(&mut self, address: u64, value: u32) -> Result<bool, GpuError> {
        self.inner.write_word(address, value)
    }

    fn wait_word(&mut self, address: u64, value: u32) -> Result<bool, GpuError> {
        self.inner.wait_word(address, value)
    }

    fn check(&mut self) -> Result<(), GpuError> {
        self.inner.check()
    }

    fn capture(
        &mut self,
        work: &mut dyn FnMut(&mut dyn Stream) -> Result<(), GpuError>,
    ) -> Result<Box<dyn Replay>, GpuError> {
        self.inner.capture(work)
    }

    fn replay(&mut self, graph: &dyn Replay) -> Result<(), GpuError> {
        self.inner.replay(graph)
    }

    fn reach(&mut self, event: &dyn Event, interrupt: &Interrupt) -> Result<(), GpuError> {
        self.inner.reach(event, interrupt)
    }

    fn finish(&mut self, interrupt: &Interrupt) -> Result<(), GpuError> {
        self.inner.finish(interrupt)
    }
}

/// A launch whose first thread begins late, every time.
struct Late {
    inner: Arc<dyn Launch>,
    late: Duration,
    threads: AtomicU64,
}

impl Launch for Late {
    fn kernel(&self) -> &'static Kernel {
        self.inner.kernel()
    }

    fn geometry(&self) -> &Geometry {
        self.inner.geometry()
    }

    fn multiprocessors(&self) -> u32 {
        self.inner.multiprocessors()
    }

    fn params_pointer(&self) -> *const () {
        self.inner.params_pointer()
    }

    fn run_thread(&self) {
        let all = self.geometry().blocks() * u64::from(self.geometry().threads());
        if self.threads.fetch_add(1, Ordering::Relaxed).is_multiple_of(all) {
            std::thread::sleep(self.late);
        }
        self.inner.run_thread();
    }
}
