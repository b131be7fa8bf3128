//! A device, what was measured on it, and how time is taken.

use recurve::Device;
use recurve::gpu::GpuError;
use recurve::testing::gpu::TestGpu;
use recurve_kernels::launch::{Buffer, Launch, Reject};
use serde::Serialize;
use std::sync::Arc;

/// One number.
#[derive(Clone, Debug, Serialize)]
pub struct Measure {
    /// What it is of; the same words name it in what other engines report.
    pub name: String,
    /// The median.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// The part of the measured copy bandwidth that it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of_copy: Option<f64>,
}

/// Why something was not measured.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The device.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// A kernel does not apply.
    #[error("{0}")]
    Refused(#[from] Reject),
    /// A result that cannot be.
    #[error("{0}")]
    Wrong(String),
}

/// A device and the measurements on it.
pub struct Bench {
    /// The device.
    pub gpu: TestGpu,
    /// Whether sizes are tiny and times mean nothing.
    pub tiny: bool,
    /// What was measured.
    pub measures: Vec<Measure>,
    /// What could not be.
    pub failures: Vec<String>,
    /// Bytes per second of a copy kernel, reads and writes counted.
    pub copy: Option<f64>,
    told: fn(&Measure),
    /// Behind every attempt it hears of all.
    written: Box<dyn Fn(&Record<'_>)>,
    held: Vec<u64>,
}

/// All that was measured so far.
#[derive(Debug, Serialize)]
pub struct Record<'a> {
    device: String,
    name: &'a str,
    driver: &'a str,
    module: Option<&'a str>,
    measures: &'a [Measure],
    failures: &'a [String],
}

impl std::fmt::Debug for Bench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bench({:?})", self.record())
    }
}

impl Bench {
    /// On this device; `told` hears of every number, `written` of all so far behind every attempt.
    pub fn new(gpu: TestGpu, told: fn(&Measure), written: impl Fn(&Record<'_>) + 'static) -> Self {
        let tiny = gpu.info().device == Device::Emulated;
        let (measures, failures, held) = (Vec::new(), Vec::new(), Vec::new());
        Self { gpu, tiny, measures, failures, copy: None, told, written: Box::new(written), held }
    }

    /// All so far.
    pub fn record(&self) -> Record<'_> {
        let info = self.gpu.info();
        Record {
            device: info.device.to_string(),
            name: &info.name,
            driver: &info.driver,
            module: info.module.as_deref(),
            measures: &self.measures,
            failures: &self.failures,
        }
    }

    /// A size, or the one that the emulator can do.
    pub fn size<T>(&self, full: T, tiny: T) -> T {
        if self.tiny { tiny } else { full }
    }

    /// Measures one thing; that it fails is noted, and ends everything only where the device is lost.
    pub fn attempt(&mut self, what: &str, run: fn(&mut Self) -> Result<(), Fault>) -> Result<(), Fault> {
        let result = run(self);
        for address in std::mem::take(&mut self.held) {
            self.gpu.release(address);
        }
        let outcome = match result {
            Err(Fault::Gpu(
                error @ (GpuError::Lost { .. } | GpuError::Interrupted | GpuError::Emulator { .. }),
            )) => {
                self.failures.push(format!("{what}: {error}"));
                Err(error.into())
            }
            Err(fault) => {
                self.failures.push(format!("{what}: {fault}"));
                Ok(())
            }
            Ok(()) => Ok(()),
        };
        (self.written)(&self.record());
        outcome
    }

    /// Notes a number.
    pub fn note(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        let measure = Measure { name: name.into(), value, unit, of_copy: None };
        (self.told)(&measure);
        self.measures.push(measure);
    }

    /// Notes a bandwidth, beside that of a copy.
    pub fn note_bandwidth(&mut self, name: impl Into<String>, bytes: u64, seconds: f64) {
        let rate = bytes as f64 / seconds;
        let of_copy = self.copy.map(|copy| rate / copy);
        let measure = Measure { name: name.into(), value: rate / 1e9, unit: "GB/s", of_copy };
        (self.told)(&measure);
        self.measures.push(measure);
    }

    /// New memory until the attempt ends.
    pub fn room(&mut self, bytes: u64) -> Result<Buffer, Fault> {
        let address = self.gpu.allocate(bytes as usize)?;
        self.held.push(address);
        Ok(Buffer { address, bytes })
    }

    /// New memory with these bytes.
    pub fn upload(&mut self, bytes: &[u8]) -> Result<Buffer, Fault> {
        let buffer = self.room(bytes.len() as u64)?;
        self.gpu.write(buffer.address, bytes)?;
        Ok(buffer)
    }

    /// New memory that repeats `pattern`.
    pub fn filled(&mut self, bytes: u64, pattern: &[u8]) -> Result<Buffer, Fault> {
        let buffer = self.room(bytes)?;
        let piece: Vec<u8> = pattern.iter().copied().cycle().take(bytes.min(1 << 20) as usize).collect();
        self.gpu.write(buffer.address, &piece)?;
        let mut done = piece.len() as u64;
        while done < bytes {
            let next = done.min(bytes - done);
            self.gpu.copy(buffer.address + done, buffer.address, next as usize)?;
            done += next;
        }
        self.gpu.finish()?;
        Ok(buffer)
    }

    /// Median seconds of the device's time for `work`.
    pub fn seconds(
        &mut self,
        work: &mut dyn FnMut(&mut TestGpu) -> Result<(), GpuError>,
    ) -> Result<f64, Fault> {
        let (warm, samples) = self.size((3, 15), (0, 2));
        let mut taken = Vec::new();
        for sample in 0..warm + samples {
            let before = self.gpu.record()?;
            work(&mut self.gpu)?;
            let after = self.gpu.record()?;
            self.gpu.finish()?;
            if sample >= warm {
                taken.push(f64::from(after.milliseconds_since(&before)?) / 1e3);
            }
        }
        Ok(median(&mut taken))
    }

    /// Median seconds for one of these launches, given `rounds` times over as one graph: no launch of the host's is in it.
    pub fn of_graph(&mut self, launches: &[Arc<dyn Launch>], rounds: usize) -> Result<f64, Fault> {
        let rounds = self.size(rounds, 1);
        let all: Vec<Arc<dyn Launch>> = (0..rounds).flat_map(|_| launches.iter().cloned()).collect();
        let graph = self.gpu.capture(&all)?;
        let seconds = self.seconds(&mut |gpu| gpu.replay(&graph))?;
        Ok(seconds / all.len() as f64)
    }
}

/// The middle one.
pub(super) fn median(taken: &mut [f64]) -> f64 {
    taken.sort_by(f64::total_cmp);
    taken.get(taken.len() / 2).copied().unwrap_or(f64::NAN)
}
