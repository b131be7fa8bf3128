//! Launches whose contract was checked.

use super::{Device, Entry, Geometry, Reject};
use crate::kernel::Kernel;

/// A launch of one entry with these parameters. The `prepare` of a kernel family makes it, which checks lengths,
/// alignments and limits of what the parameters point to.
#[derive(Clone, Copy, Debug)]
pub struct Prepared<P: 'static> {
    entry: &'static Entry<P>,
    geometry: Geometry,
    /// Multiprocessors that it was prepared for.
    multiprocessors: u32,
    params: P,
}

impl<P: Copy + Send + Sync + 'static> Prepared<P> {
    /// Checks the geometry against the entry's bounds and the device. That the parameters keep the kernel's contract has
    /// been checked by the caller.
    pub fn new(
        entry: &'static Entry<P>,
        geometry: Geometry,
        params: P,
        device: &Device,
    ) -> Result<Self, Reject> {
        geometry.check(&entry.kernel, device)?;
        Ok(Self { entry, geometry, multiprocessors: device.multiprocessors, params })
    }

    /// What was checked.
    pub fn params(&self) -> &P {
        &self.params
    }
}

/// A prepared launch of any kernel.
pub trait Launch: Send + Sync {
    /// The kernel.
    fn kernel(&self) -> &'static Kernel;
    /// The geometry.
    fn geometry(&self) -> &Geometry;
    /// The multiprocessors that its grid was made for: all, or as many as it was given.
    fn multiprocessors(&self) -> u32;
    /// The parameters in memory, as the driver takes them; they have the kernel's size.
    fn params_pointer(&self) -> *const ();
    /// What one thread does; the emulator calls it once for each.
    fn run_thread(&self);
}

impl<P: Copy + Send + Sync + 'static> Launch for Prepared<P> {
    fn kernel(&self) -> &'static Kernel {
        &self.entry.kernel
    }

    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn multiprocessors(&self) -> u32 {
        self.multiprocessors
    }

    fn params_pointer(&self) -> *const () {
        (&raw const self.params).cast()
    }

    fn run_thread(&self) {
        (self.entry.body)(self.params);
    }
}
