//! The emulator of `recurve-kernels` as a GPU: kernels run on the host with every access checked, streams are threads
//! that do their work in order.
//!
//! A kernel at fault loses its stream, as it loses a context of the driver: what is given to it later is not done, and
//! every wait for it gives the report.

use super::{Event, Gpu, GpuError, Pinned, Properties, Replay, Stream, misaligned};
use crate::exec::Interrupt;
use recurve_kernels::emulator::{self, Memory, Options};
use recurve_kernels::launch::Launch;
use std::any::Any;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A stream that waits for a word looks at it so often.
const NAP: Duration = Duration::from_micros(10);
/// Waiting looks at the interrupt so often.
const LOOK: Duration = Duration::from_millis(5);

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct EmulatedGpu {
    properties: Properties,
    memory: Arc<Memory>,
    options: Options,
}

impl EmulatedGpu {
    /// A GPU of Hopper's kind with few multiprocessors and `memory` bytes.
    pub(crate) fn new(memory: u64, options: Options) -> Self {
        let properties = Properties {
            name: "emulated".into(),
            capability: (9, 0),
            multiprocessors: 4,
            shared_per_block: 227 << 10,
            memory,
            cooperative: true,
            driver: None,
        };
        Self { properties, memory: Arc::new(Memory::new(memory)), options }
    }
}

fn at_fault(report: &emulator::Report) -> GpuError {
    GpuError::Emulator { report: report.to_string() }
}

impl Gpu for EmulatedGpu {
    fn properties(&self) -> &Properties {
        &self.properties
    }

    fn free_memory(&self) -> Result<usize, GpuError> {
        Ok((self.properties.memory - self.memory.used()) as usize)
    }

    fn allocate(&self, bytes: usize) -> Result<u64, GpuError> {
        self.memory
            .allocate("device memory", bytes as u64)
            .map_err(|full| GpuError::OutOfMemory { requested: bytes, free: full.available as usize })
    }

    fn release(&self, address: u64) {
        // It came from `allocate`, and is released once.
        let _ = self.memory.free(address);
    }

    fn pinned(&self, bytes: usize) -> Result<Box<dyn Pinned>, GpuError> {
        let address = self
            .memory
            .allocate("pinned memory", bytes as u64)
            .map_err(|full| GpuError::OutOfMemory { requested: bytes, free: full.available as usize })?;
        Ok(Box::new(EmulatedPinned { memory: self.memory.clone(), address }))
    }

    fn stream(&self) -> Result<Box<dyn Stream>, GpuError> {
        EmulatedStream::new(self.memory.clone(), self.options).map(|s| Box::new(s) as Box<dyn Stream>)
    }

    fn resident_blocks(&self, launch: &dyn Launch) -> Result<u32, GpuError> {
        let geometry = launch.geometry();
        let by_threads = 2048 / geometry.threads().max(1);
        let by_shared = self.properties.shared_per_block / geometry.shared_bytes.max(1);
        Ok(by_threads.min(by_shared).min(32) * self.properties.multiprocessors)
    }
}

#[derive(Debug)]
struct EmulatedPinned {
    memory: Arc<Memory>,
    address: u64,
}

impl Pinned for EmulatedPinned {
    fn address(&self) -> u64 {
        self.address
    }

    fn write(&self, offset: usize, from: &[u8]) -> Result<(), GpuError> {
        self.memory.write(self.address + offset as u64, from).map_err(|report| at_fault(&report))
    }

    fn read(&self, offset: usize, to: &mut [u8]) -> Result<(), GpuError> {
        self.memory.read(self.address + offset as u64, to).map_err(|report| at_fault(&report))
    }

    fn set_word(&self, offset: usize, value: u32) -> Result<(), GpuError> {
        aligned(offset)?;
        self.write(offset, &value.to_le_bytes())
    }

    fn word(&self, offset: usize) -> Result<u32, GpuError> {
        aligned(offset)?;
        let mut word = [0; 4];
        self.read(offset, &mut word)?;
        Ok(u32::from_le_bytes(word))
    }
}

/// The emulator's memory copies whole words where they are aligned.
fn aligned(offset: usize) -> Result<(), GpuError> {
    if offset.is_multiple_of(4) { Ok(()) } else { Err(misaligned()) }
}

impl Drop for EmulatedPinned {
    fn drop(&mut self) {
        let _ = self.memory.free(self.address);
    }
}

/// What a stream is given.
#[derive(Clone)]
enum Command {
    Copy { to: u64, from: u64, bytes: u64 },
    Word { address: u64, value: u32 },
    Until { address: u64, value: u32 },
    Launch(Arc<dyn Launch>),
    Record(Arc<EmulatedEvent>),
    Wait(Arc<EmulatedEvent>),
    All(Arc<[Command]>),
}

struct EmulatedStream {
    commands: Option<Sender<Command>>,
    /// What is recorded instead of done.
    captured: Option<Vec<Command>>,
    fault: Arc<Mutex<Option<GpuError>>>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for EmulatedStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EmulatedStream")
    }
}

/// When it was reached.
#[derive(Debug, Default)]
struct EmulatedEvent {
    reached: Mutex<Option<Instant>>,
    changed: Condvar,
}

/// See [`Replay`].
struct EmulatedGraph(Arc<[Command]>);

impl std::fmt::Debug for EmulatedGraph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EmulatedGraph({} commands)", self.0.len())
    }
}

impl Command {
    fn run(&self, memory: &Arc<Memory>, options: Options, fault: &Mutex<Option<GpuError>>) {
        let done = match self {
            // These keep others from waiting for ever, whatever became of the work.
            Self::Record(event) => return event.reach(),
            Self::Wait(event) => return event.wait(),
            Self::All(commands) => return commands.iter().for_each(|c| c.run(memory, options, fault)),
            _ if lock(fault).is_some() => return,
            Self::Copy { to, from, bytes } => memory.copy(*to, *from, *bytes),
            Self::Word { address, value } => memory.write(*address, &value.to_le_bytes()),
            Self::Until { address, value } => until(memory, *address, *value),
            Self::Launch(launch) => emulator::launch(memory, &**launch, options),
        };
        if let Err(report) = done {
            *lock(fault) = Some(at_fault(&report));
        }
    }
}

/// Waits until the word is `value`.
fn until(memory: &Memory, address: u64, value: u32) -> Result<(), emulator::Report> {
    let mut word = [0; 4];
    loop {
        memory.read(address, &mut word)?;
        if u32::from_le_bytes(word) == value {
            return Ok(());
        }
        std::thread::sleep(NAP);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EmulatedStream {
    fn new(memory: Arc<Memory>, options: Options) -> Result<Self, GpuError> {
        let (commands, given) = channel::<Command>();
        let fault = Arc::new(Mutex::new(None));
        let seen = fault.clone();
        let thread = std::thread::Builder::new()
            .name("emulated stream".into())
            .spawn(move || given.iter().for_each(|command| command.run(&memory, options, &seen)))
            .map_err(|e| GpuError::Driver { call: "spawn", problem: e.to_string() })?;
        Ok(Self { commands: Some(commands), captured: None, fault, thread: Some(thread) })
    }

    fn give(&mut self, command: Command) -> Result<(), GpuError> {
        if let Some(captured) = &mut self.captured {
            captured.push(command);
            return Ok(());
        }
        let gone = || GpuError::Lost { problem: "the stream's thread ended".into() };
        self.commands.as_ref().ok_or_else(gone)?.send(command).map_err(|_| gone())
    }
}

impl Stream for EmulatedStream {
    fn copy(&mut self, to: u64, from: u64, bytes: usize) -> Result<(), GpuError> {
        self.give(Command::Copy { to, from, bytes: bytes as u64 })
    }

    fn launch(&mut self, launch: &Arc<dyn Launch>) -> Result<(), GpuError> {
        self.give(Command::Launch(launch.clone()))
    }

    fn record(&mut self) -> Result<Box<dyn Event>, GpuError> {
        let event = Arc::new(EmulatedEvent::default());
        self.give(Command::Record(event.clone()))?;
        Ok(Box::new(event))
    }

    fn wait(&mut self, event: &dyn Event) -> Result<(), GpuError> {
        self.give(Command::Wait(EmulatedEvent::of(event)?.clone()))
    }

    fn write_word(&mut self, address: u64, value: u32) -> Result<bool, GpuError> {
        aligned(address as usize)?;
        self.give(Command::Word { address, value }).map(|()| true)
    }

    fn wait_word(&mut self, address: u64, value: u32) -> Result<bool, GpuError> {
        aligned(address as usize)?;
        self.give(Command::Until { address, value }).map(|()| true)
    }

    fn check(&mut self) -> Result<(), GpuError> {
        lock(&self.fault).clone().map_or(Ok(()), Err)
    }

    fn capture(
        &mut self,
        work: &mut dyn FnMut(&mut dyn Stream) -> Result<(), GpuError>,
    ) -> Result<Box<dyn Replay>, GpuError> {
        self.captured = Some(Vec::new());
        let given = work(self);
        let captured = self.captured.take().unwrap_or_default();
        given.map(|()| Box::new(EmulatedGraph(captured.into())) as Box<dyn Replay>)
    }

    fn replay(&mut self, graph: &dyn Replay) -> Result<(), GpuError> {
        let other = || GpuError::Driver { call: "replay", problem: "a graph of another GPU".into() };
        let graph = graph.as_any().downcast_ref::<EmulatedGraph>().ok_or_else(other)?;
        self.give(Command::All(graph.0.clone()))
    }

    fn finish(&mut self, interrupt: &Interrupt) -> Result<(), GpuError> {
        let end = Arc::new(EmulatedEvent::default());
        self.give(Command::Record(end.clone()))?;
        self.reach(&end, interrupt)
    }

    fn reach(&mut self, event: &dyn Event, interrupt: &Interrupt) -> Result<(), GpuError> {
        let event = EmulatedEvent::of(event)?;
        while !event.wait_for(LOOK) {
            interrupt.check().map_err(|_| GpuError::Interrupted)?;
            if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
                return Err(GpuError::Lost { problem: "the stream's thread ended".into() });
            }
        }
        lock(&self.fault).clone().map_or(Ok(()), Err)
    }
}

impl Drop for EmulatedStream {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            // Its panic was a panic of the emulator; the next wait has told.
            let _ = thread.join();
        }
    }
}

impl EmulatedEvent {
    fn of(event: &dyn Event) -> Result<&Arc<Self>, GpuError> {
        let other = GpuError::Driver { call: "event", problem: "of another GPU".into() };
        event.as_any().downcast_ref().ok_or(other)
    }

    fn reach(&self) {
        *lock(&self.reached) = Some(Instant::now());
        self.changed.notify_all();
    }

    fn wait(&self) {
        let unreached = |reached: &mut Option<Instant>| reached.is_none();
        drop(self.changed.wait_while(lock(&self.reached), unreached));
    }

    /// Whether it was reached within `time`.
    fn wait_for(&self, time: Duration) -> bool {
        let unreached = |reached: &mut Option<Instant>| reached.is_none();
        let waited = self.changed.wait_timeout_while(lock(&self.reached), time, unreached);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_some()
    }
}

impl Event for Arc<EmulatedEvent> {
    fn milliseconds_since(&self, earlier: &dyn Event) -> Result<f32, GpuError> {
        let at = |event: &EmulatedEvent| {
            let reached = *lock(&event.reached);
            reached.ok_or(GpuError::Driver { call: "event", problem: "not reached yet".into() })
        };
        let (start, end) = (at(EmulatedEvent::of(earlier)?)?, at(self)?);
        Ok(end.saturating_duration_since(start).as_secs_f32() * 1e3)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Replay for EmulatedGraph {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::OpenGpu;

    fn gpu() -> EmulatedGpu {
        EmulatedGpu::new(1 << 20, Options::CHECKED)
    }

    #[test]
    fn a_stream_copies_in_order_and_a_graph_copies_when_it_is_replayed() {
        let gpu = gpu();
        let mut stream = gpu.stream().expect("a stream");
        let pinned = gpu.pinned(8).expect("pinned memory");
        let device = gpu.allocate(8).expect("device memory");
        pinned.write(0, &[1, 2, 3, 4, 5, 6, 7, 8]).expect("inside");
        let before = stream.record().expect("an event");
        stream.copy(device, pinned.address(), 8).expect("given");
        let (to, from) = (pinned.address(), device + 4);
        let graph = stream.capture(&mut |stream| stream.copy(to, from, 4)).expect("captured");
        let after = stream.record().expect("an event");
        stream.finish(&Interrupt::default()).expect("done");
        assert!(after.milliseconds_since(&*before).expect("both done") >= 0.0);
        let mut seen = [0; 8];
        pinned.read(0, &mut seen).expect("written");
        assert_eq!(seen, [1, 2, 3, 4, 5, 6, 7, 8], "captured, not done");
        stream.replay(&*graph).expect("given");
        stream.finish(&Interrupt::default()).expect("done");
        pinned.read(0, &mut seen).expect("written");
        assert_eq!(seen, [5, 6, 7, 8, 5, 6, 7, 8]);
    }

    #[test]
    fn a_fault_loses_the_stream_and_is_reported_by_every_wait() {
        let gpu = gpu();
        let mut stream = gpu.stream().expect("a stream");
        let device = gpu.allocate(8).expect("device memory");
        let pinned = gpu.pinned(8).expect("pinned memory");
        stream.copy(device + 4, pinned.address(), 8).expect("given");
        let first = stream.finish(&Interrupt::default()).expect_err("out of bounds");
        assert!(
            matches!(&first, GpuError::Emulator { report } if report.contains("out of bounds")),
            "{first}"
        );
        pinned.write(0, &[7; 8]).expect("inside");
        stream.copy(device, pinned.address(), 8).expect("given");
        assert_eq!(stream.finish(&Interrupt::default()), Err(first));
        let mut other = gpu.stream().expect("another stream");
        other.copy(pinned.address(), device, 8).expect("given");
        other.finish(&Interrupt::default()).expect("another stream goes on");
        let unwritten = pinned.read(0, &mut [0; 8]).expect_err("the second copy was not done");
        assert!(unwritten.to_string().contains("never written"), "{unwritten}");
    }

    #[test]
    fn waiting_ends_when_the_run_does() {
        let gpu = gpu();
        let (mut one, mut other) = (gpu.stream().expect("a stream"), gpu.stream().expect("a stream"));
        let event = other.record().expect("an event");
        other.wait(&*event).expect("given");
        other.finish(&Interrupt::default()).expect("its own event");
        // An event that is recorded only after the wait was given up.
        let never = Arc::new(EmulatedEvent::default());
        one.wait(&never as &dyn Event).expect("given");
        let interrupt = Interrupt { deadline: Some(Instant::now()), cancel: None };
        assert_eq!(one.finish(&interrupt), Err(GpuError::Interrupted));
        never.reach();
        one.finish(&Interrupt::default()).expect("done now");
    }

    #[test]
    fn blocks_are_cached_counted_and_given_up_before_the_limit_is_an_error() {
        let open = Arc::new(OpenGpu::new(Box::new(gpu()), 4096));
        let block = open.allocate(1000).expect("fits");
        let address = block.address();
        assert_eq!((block.bytes(), open.held()), (1000, 1024));
        drop(block);
        assert_eq!(open.held(), 1024, "cached");
        let again = open.allocate(900).expect("fits");
        assert_eq!(again.address(), address);
        let large = open.allocate(3000).expect("fits beside it");
        assert_eq!(open.allocate(1).err(), Some(GpuError::Limit { requested: 512, limit: 4096 }));
        drop((again, large));
        let whole = open.allocate(4096).expect("the cache is given up");
        assert_eq!((open.held(), open.peak()), (4096, 4096));
        drop(whole);
        let open = Arc::new(OpenGpu::new(Box::new(gpu()), usize::MAX));
        let full = open.allocate(2 << 20).expect_err("more than the device has");
        assert!(matches!(full, GpuError::OutOfMemory { requested: 2_097_152, .. }), "{full}");
    }
}
