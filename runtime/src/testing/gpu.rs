//! A GPU without a model: memory, one stream of kernels, and the device's time. For suites of kernels and measurements.

use crate::cuda::{self, Event, Gpu, GpuError, Pinned, Replay, Stream};
use crate::device::{Device, GpuInfo};
use crate::exec::Interrupt;
use recurve_kernels::launch::{Device as Limits, Launch};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes that are copied to and from the host at a time.
const PIECE: usize = 4 << 20;
/// How long work may take before it is given up: kernels that wait for each other may wait for ever.
const PATIENCE: Duration = Duration::from_mins(1);

/// See the module's documentation.
#[derive(Debug)]
pub struct TestGpu {
    stream: Box<dyn Stream>,
    staging: Box<dyn Pinned>,
    gpu: Box<dyn Gpu>,
    info: GpuInfo,
    limits: Limits,
}

/// Host memory that the device reaches.
#[derive(Debug)]
pub struct TestPinned(Box<dyn Pinned>);

/// A place in the stream.
#[derive(Debug)]
pub struct TestEvent(Box<dyn Event>);

/// Launches that were captured.
#[derive(Debug)]
pub struct TestGraph(Box<dyn Replay>);

/// The modules that GPU `device` runs, by ascending capability; none for the emulator, which runs the host's code.
pub fn modules_for(device: Device) -> Result<Vec<String>, GpuError> {
    let Device::Cuda(ordinal) = device else { return Ok(Vec::new()) };
    let gpus = crate::device::gpus()?;
    let count = gpus.len();
    let gpu = gpus.get(ordinal).ok_or(GpuError::NoSuchDevice { ordinal, count })?;
    let (major, minor) = gpu.capability;
    let fitting = recurve_ptx::modules().filter(|module| module.record().runs_on(10 * major + minor));
    Ok(fitting.map(|module| module.record().target.clone()).collect())
}

impl TestGpu {
    /// Opens `device` with the module of that name, or the one that suits it best.
    pub fn open(device: Device, module: Option<&str>) -> Result<Self, GpuError> {
        let gpu = cuda::open_with(device, module)?;
        // A kernel that the driver does not take is found now, not when somebody needs it.
        gpu.load_all()?;
        let properties = gpu.properties().clone();
        let (major, minor) = properties.capability;
        let named = |name: &str| recurve_ptx::modules().find(|m| m.record().target == name);
        let loaded = module.map_or_else(|| cuda::module(properties.capability), named);
        let target = loaded.filter(|_| properties.driver.is_some()).map(|m| m.record());
        let limits = Limits {
            // A module has the entries of its own capability.
            capability: target.map_or(10 * major + minor, |t| t.capability.min(10 * major + minor)),
            multiprocessors: properties.multiprocessors,
            shared_bytes: properties.shared_per_block,
        };
        let info = GpuInfo {
            device,
            name: properties.name,
            capability: properties.capability,
            multiprocessors: properties.multiprocessors,
            memory: properties.memory,
            driver: properties.driver.map(|version| version.to_string()).unwrap_or_default(),
            module: target.map(|t| t.target.clone()),
        };
        Ok(Self { stream: gpu.stream()?, staging: gpu.pinned(PIECE)?, gpu, info, limits })
    }

    /// What it is, and the module that is loaded.
    pub fn info(&self) -> &GpuInfo {
        &self.info
    }

    /// What launches are prepared for.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// New memory, aligned to 256 bytes, its content arbitrary.
    pub fn allocate(&self, bytes: usize) -> Result<u64, GpuError> {
        self.gpu.allocate(bytes)
    }

    /// Gives memory back, once nothing works on it.
    pub fn release(&self, address: u64) {
        self.gpu.release(address);
    }

    /// Host memory that the device reaches, zeroed.
    pub fn pinned(&self, bytes: usize) -> Result<TestPinned, GpuError> {
        Ok(TestPinned(self.gpu.pinned(bytes)?))
    }

    /// Copies to the device, behind what was given before, and waits.
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), GpuError> {
        for (index, piece) in bytes.chunks(PIECE).enumerate() {
            self.staging.write(0, piece)?;
            self.stream.copy(address + (index * PIECE) as u64, self.staging.address(), piece.len())?;
            self.finish()?;
        }
        Ok(())
    }

    /// Copies from the device, behind what was given before.
    pub fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), GpuError> {
        for (index, piece) in bytes.chunks_mut(PIECE).enumerate() {
            self.stream.copy(self.staging.address(), address + (index * PIECE) as u64, piece.len())?;
            self.finish()?;
            self.staging.read(0, piece)?;
        }
        Ok(())
    }

    /// Copies between memory of the device and pinned memory, either way, or inside the device.
    pub fn copy(&mut self, to: u64, from: u64, bytes: usize) -> Result<(), GpuError> {
        self.stream.copy(to, from, bytes)
    }

    /// Gives a launch to the stream. What it points to must be allocated until it is done.
    pub fn launch(&mut self, launch: &Arc<dyn Launch>) -> Result<(), GpuError> {
        self.stream.launch(launch)
    }

    /// Captures launches as one graph.
    pub fn capture(&mut self, launches: &[Arc<dyn Launch>]) -> Result<TestGraph, GpuError> {
        let mut work = |stream: &mut dyn Stream| launches.iter().try_for_each(|launch| stream.launch(launch));
        self.stream.capture(&mut work).map(TestGraph)
    }

    /// Does what was captured.
    pub fn replay(&mut self, graph: &TestGraph) -> Result<(), GpuError> {
        self.stream.replay(&*graph.0)
    }

    /// Marks this place in the stream.
    pub fn record(&mut self) -> Result<TestEvent, GpuError> {
        self.stream.record().map(TestEvent)
    }

    /// Waits until everything given is done.
    pub fn finish(&mut self) -> Result<(), GpuError> {
        self.stream.finish(&Interrupt { deadline: Some(Instant::now() + PATIENCE), cancel: None })
    }

    /// Blocks of `launch` that are on the device at once.
    pub fn resident_blocks(&self, launch: &dyn Launch) -> Result<u32, GpuError> {
        self.gpu.resident_blocks(launch)
    }
}

impl TestEvent {
    /// Milliseconds of the device's time since `earlier`; both must be done.
    pub fn milliseconds_since(&self, earlier: &Self) -> Result<f32, GpuError> {
        self.0.milliseconds_since(&*earlier.0)
    }
}

impl TestPinned {
    /// Its address on the device.
    pub fn address(&self) -> u64 {
        self.0.address()
    }

    /// Copies `from` to `offset`; the device must not be reading there.
    pub fn write(&self, offset: usize, from: &[u8]) -> Result<(), GpuError> {
        self.0.write(offset, from)
    }

    /// Writes a word that the device may be polling.
    pub fn set_word(&self, offset: usize, value: u32) -> Result<(), GpuError> {
        self.0.set_word(offset, value)
    }

    /// Reads a word that the device may be writing.
    pub fn word(&self, offset: usize) -> Result<u32, GpuError> {
        self.0.word(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use recurve_kernels::launch::Buffer;
    use recurve_kernels::probe::meet;

    #[test]
    fn an_emulated_gpu_launches_captures_and_meets_the_host() {
        let mut gpu = TestGpu::open(Device::Emulated, None).expect("always there");
        assert_eq!((gpu.limits().capability, gpu.info().module.as_deref()), (90, None));
        assert!(modules_for(Device::Emulated).expect("none").is_empty());
        let pinned = gpu.pinned(256).expect("room");
        pinned.write(0, &[0; 256]).expect("inside");
        pinned.set_word(0, 3).expect("inside");
        let seen = Buffer { address: gpu.allocate(4).expect("room"), bytes: 4 };
        let words = Buffer { address: pinned.address(), bytes: 256 };
        let buffers = meet::Buffers { words, seen };
        let launch: Arc<dyn Launch> = Arc::new(buffers.host_flag(3, &gpu.limits()).expect("a launch"));
        assert!(gpu.resident_blocks(&*launch).expect("asked") >= 1);
        let graph = gpu.capture(&[launch]).expect("captured");
        gpu.finish().expect("nothing to do");
        assert_eq!(pinned.word(128), Ok(0));
        let before = gpu.record().expect("an event");
        gpu.replay(&graph).expect("given");
        let after = gpu.record().expect("an event");
        let mut met = [0; 4];
        gpu.read(seen.address, &mut met).expect("written");
        assert_eq!((met, pinned.word(128)), ([3, 0, 0, 0], Ok(3)));
        assert!(after.milliseconds_since(&before).expect("both done") > 0.0);
        assert!(pinned.word(254).is_err() && pinned.set_word(3, 0).is_err());
        gpu.release(seen.address);
    }
}
