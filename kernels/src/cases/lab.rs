//! A device for one case: memory with typed contents, launches, and comparison within an accuracy class.

use super::Failure;
use super::draw::{decode, encode};
use crate::element::Element;
use crate::emulator::{Memory, Options, launch};
use crate::launch::{Buffer, Device, Launch, Prepared};
use std::sync::Arc;

/// A device that cases run on, and the memory that the case at hand holds there.
pub trait Machine {
    /// What launches are prepared for.
    fn device(&self) -> Device;

    /// New memory that nobody has written, aligned to 256 bytes; `label` names it in reports.
    fn allocate(&mut self, label: &str, bytes: u64) -> Result<u64, Failure>;

    /// Copies to the device.
    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Failure>;

    /// Copies from the device, behind all launches.
    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), Failure>;

    /// Runs a launch behind those before.
    fn launch(&mut self, launch: Arc<dyn Launch>) -> Result<(), Failure>;

    /// Ends a case: waits, gives its memory back, and fails where the memory around it was written.
    fn end(&mut self) -> Result<(), Failure>;
}

/// A device of compute capability 9.0 with little else, for the emulator.
pub const EMULATED: Device = Device { capability: 90, multiprocessors: 4, shared_bytes: 227 * 1024 };

/// The emulator with every check.
#[derive(Debug)]
pub struct Emulated(Arc<Memory>);

impl Emulated {
    /// Memory that nobody has written.
    pub fn new() -> Self {
        Self(Arc::new(Memory::new(1 << 32)))
    }
}

impl Default for Emulated {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine for Emulated {
    fn device(&self) -> Device {
        EMULATED
    }

    fn allocate(&mut self, label: &str, bytes: u64) -> Result<u64, Failure> {
        self.0.allocate(label, bytes).map_err(Failure::device)
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Failure> {
        self.0.write(address, bytes).map_err(Failure::device)
    }

    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), Failure> {
        self.0.read(address, bytes).map_err(Failure::device)
    }

    fn launch(&mut self, prepared: Arc<dyn Launch>) -> Result<(), Failure> {
        launch(&self.0, &*prepared, Options::CHECKED).map_err(Failure::device)
    }

    fn end(&mut self) -> Result<(), Failure> {
        *self = Self::new();
        Ok(())
    }
}

/// A machine as a case sees it.
pub struct Lab<'a> {
    machine: &'a mut dyn Machine,
}

impl std::fmt::Debug for Lab<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lab({:?})", self.machine.device())
    }
}

impl<'a> Lab<'a> {
    /// A lab on this machine.
    pub fn new(machine: &'a mut dyn Machine) -> Self {
        Self { machine }
    }

    /// What launches are prepared for.
    pub fn device(&self) -> Device {
        self.machine.device()
    }

    /// New memory that nobody has written.
    pub fn room(&mut self, label: &str, bytes: u64) -> Result<Buffer, Failure> {
        Ok(Buffer { address: self.machine.allocate(label, bytes)?, bytes })
    }

    /// New memory that holds `bytes`.
    pub fn upload(&mut self, label: &str, bytes: &[u8]) -> Result<Buffer, Failure> {
        let buffer = self.room(label, bytes.len() as u64)?;
        self.machine.write(buffer.address, bytes)?;
        Ok(buffer)
    }

    /// New memory that holds these elements.
    pub fn upload_floats(
        &mut self,
        label: &str,
        element: Element,
        values: &[f32],
    ) -> Result<Buffer, Failure> {
        self.upload(label, &encode(element, values))
    }

    /// The same of what may be absent.
    pub fn upload_optional(&mut self, label: &str, values: Option<&[f32]>) -> Result<Buffer, Failure> {
        values.map_or(Ok(Buffer::default()), |values| self.upload_floats(label, Element::F32, values))
    }

    /// Runs a launch.
    pub fn run<P>(&mut self, prepared: Prepared<P>) -> Result<(), Failure>
    where
        P: Copy + Send + Sync + 'static,
    {
        self.machine.launch(Arc::new(prepared))
    }

    /// The bytes of a buffer, all of which must have been written.
    pub fn bytes(&mut self, buffer: Buffer) -> Result<Vec<u8>, Failure> {
        let mut bytes = vec![0; buffer.bytes as usize];
        self.machine.read(buffer.address, &mut bytes)?;
        Ok(bytes)
    }

    /// `count` elements from element `from` on, all of which must have been written.
    pub fn floats(
        &mut self,
        buffer: Buffer,
        element: Element,
        from: u64,
        count: usize,
    ) -> Result<Vec<f32>, Failure> {
        let address = buffer.address + from * element.bytes();
        let bytes = element.bytes() * count as u64;
        Ok(decode(element, &self.bytes(Buffer { address, bytes })?))
    }
}

/// Holds `got` to `want` within `units` of the element type's ε, relative and absolute: 64 for reductions, 8 for single
/// elements, as the runtime's accuracy classes have it.
pub fn close(
    got: f64,
    want: f64,
    element: Element,
    units: f64,
    what: impl FnOnce() -> String,
) -> Result<(), Failure> {
    let ulp = match element {
        Element::F32 => f64::from(f32::EPSILON),
        Element::F16 => 1.0 / 1024.0,
        Element::BF16 => 1.0 / 128.0,
    };
    let equal = got == want || (got.is_nan() && want.is_nan());
    if equal || (got - want).abs() <= units * ulp * (1.0 + want.abs()) {
        return Ok(());
    }
    Err(Failure::Wrong(format!("{}: {got} instead of {want}", what())))
}
