//! A GPU for the cases of kernel families. Where nothing watches the kernels, memory is poisoned before and has guards
//! around it that are looked at behind every case.

use recurve::gpu::GpuError;
use recurve::testing::gpu::TestGpu;
use recurve_kernels::cases::{Failure, Machine};
use recurve_kernels::launch::{Device, Launch};
use std::sync::Arc;

/// Bytes before and behind an allocation.
const GUARD: u64 = 256;
/// What guards hold.
const MARK: u8 = 0xa5;
/// What new memory holds: NaNs of every float type.
const POISON: u8 = 0xff;

/// See the module's documentation.
#[derive(Debug)]
pub struct Guarded {
    gpu: TestGpu,
    held: Vec<Held>,
    lost: Option<GpuError>,
}

#[derive(Debug)]
struct Held {
    label: String,
    /// Of the guard before.
    start: u64,
    bytes: u64,
}

impl Guarded {
    /// A machine on this GPU.
    pub fn new(gpu: TestGpu) -> Self {
        Self { gpu, held: Vec::new(), lost: None }
    }

    /// The error that the context does not recover from.
    pub fn lost(&self) -> Option<&GpuError> {
        self.lost.as_ref()
    }

    /// The emulator watches by itself, and a guard would be memory that it takes for the allocation's.
    fn guard(&self) -> u64 {
        if self.gpu.info().driver.is_empty() { 0 } else { GUARD }
    }

    fn seen<T>(&mut self, result: Result<T, GpuError>) -> Result<T, Failure> {
        result.map_err(|error| {
            // The emulator goes on with a new stream; what has stopped for good is a driver's context.
            if matches!(error, GpuError::Lost { .. } | GpuError::Emulator { .. } | GpuError::Interrupted) {
                self.lost = Some(error.clone());
            }
            Failure::device(error)
        })
    }

    fn check(&mut self, held: &Held) -> Result<(), Failure> {
        let guard = self.guard();
        let mut marks = vec![0; guard as usize];
        for (place, start) in [("before", held.start), ("behind", held.start + guard + held.bytes)] {
            let read = self.gpu.read(start, &mut marks);
            self.seen(read)?;
            if let Some(at) = marks.iter().position(|&byte| byte != MARK) {
                let label = &held.label;
                return Err(Failure::Wrong(format!("byte {at} of the guard {place} `{label}` was written")));
            }
        }
        Ok(())
    }
}

impl Machine for Guarded {
    fn device(&self) -> Device {
        self.gpu.limits()
    }

    fn allocate(&mut self, label: &str, bytes: u64) -> Result<u64, Failure> {
        let guard = self.guard();
        let allocated = self.gpu.allocate((bytes + 2 * guard) as usize);
        let start = self.seen(allocated)?;
        self.held.push(Held { label: label.to_owned(), start, bytes });
        if guard > 0 {
            let mut image = vec![POISON; (bytes + 2 * guard) as usize];
            image[..guard as usize].fill(MARK);
            image[(guard + bytes) as usize..].fill(MARK);
            let written = self.gpu.write(start, &image);
            self.seen(written)?;
        }
        Ok(start + guard)
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Failure> {
        let written = self.gpu.write(address, bytes);
        self.seen(written)
    }

    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), Failure> {
        let read = self.gpu.read(address, bytes);
        self.seen(read)
    }

    fn launch(&mut self, launch: Arc<dyn Launch>) -> Result<(), Failure> {
        let done = self.gpu.launch(&launch).and_then(|()| self.gpu.finish());
        self.seen(done)
    }

    fn end(&mut self) -> Result<(), Failure> {
        let held = std::mem::take(&mut self.held);
        let checked = held.iter().try_for_each(|held| self.check(held));
        held.iter().for_each(|held| self.gpu.release(held.start));
        checked
    }
}
