//! Memory of a GPU: blocks charged to a budget, given back to a cache, since the driver takes long to allocate and waits
//! for all streams to free.

use super::link::Link;
use super::{Gpu, GpuError};
use crate::error::OpError;
use crate::memory::{Budget, Charge};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Blocks are multiples of this.
const GRAIN: usize = 512;

/// The bytes of a block that holds so many.
pub(crate) fn rounded(bytes: usize) -> Option<usize> {
    bytes.max(1).checked_next_multiple_of(GRAIN)
}

/// A GPU that is open, its limit, and blocks that nobody uses now.
#[derive(Debug)]
pub(crate) struct OpenGpu {
    /// What the caller's tensors are written and read through.
    pub(super) link: Mutex<Link>,
    gpu: Box<dyn Gpu>,
    budget: Budget,
    free: Mutex<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    /// Addresses by size, each with the charge for it.
    blocks: BTreeMap<usize, Vec<(u64, Charge)>>,
}

/// A block of device memory, its content arbitrary. Work on it must be done when it is dropped.
#[derive(Debug)]
pub(crate) struct Block {
    owner: Arc<OpenGpu>,
    address: u64,
    bytes: usize,
    size: usize,
    charge: Option<Charge>,
    /// What its holder was charged.
    _own: Option<Charge>,
}

/// `bytes` of `budget`.
fn charged(budget: &Budget, bytes: usize) -> Result<Charge, GpuError> {
    budget.charge(bytes).map_err(|error| match error {
        OpError::Memory { requested, limit } => GpuError::Limit { requested, limit },
        other => GpuError::Driver { call: "charge", problem: other.to_string() },
    })
}

impl OpenGpu {
    /// `gpu` with at most `limit` bytes for all who share it.
    pub(crate) fn new(gpu: Box<dyn Gpu>, limit: usize) -> Self {
        Self { link: Mutex::default(), gpu, budget: Budget::new(limit), free: Mutex::default() }
    }

    /// The GPU.
    pub(crate) fn gpu(&self) -> &dyn Gpu {
        &*self.gpu
    }

    /// Bytes that are held, in use or cached.
    pub(crate) fn held(&self) -> usize {
        self.budget.used()
    }

    /// Most bytes that were held at once.
    pub(crate) fn peak(&self) -> usize {
        self.budget.peak()
    }

    /// Whether `bytes` more could be given, all that is cached given up.
    pub(crate) fn check(&self, bytes: usize) -> Result<(), GpuError> {
        let cached = |(size, blocks): (&usize, &Vec<(u64, Charge)>)| size * blocks.len();
        let cached: usize = self.lock().blocks.iter().map(cached).sum();
        let held = self.budget.used().saturating_sub(cached);
        let limit = self.budget.limit();
        if bytes > limit.saturating_sub(held) {
            return Err(GpuError::Limit { requested: bytes, limit });
        }
        Ok(())
    }

    /// A block of `bytes`, from the cache where one fits that is at most a quarter larger.
    pub(crate) fn allocate(self: &Arc<Self>, bytes: usize) -> Result<Block, GpuError> {
        self.allocate_for(bytes, None)
    }

    /// The same, charged to `own`, too, for as long as it is in use. Who has a limit gets no more than was asked for.
    pub(super) fn allocate_for(
        self: &Arc<Self>,
        bytes: usize,
        own: Option<&Budget>,
    ) -> Result<Block, GpuError> {
        let refused = || GpuError::Limit { requested: bytes, limit: self.budget.limit() };
        let size = rounded(bytes).ok_or_else(refused)?;
        let most = if own.is_some() { size } else { size.saturating_add(size / 4) };
        let own = own.map(|own| charged(own, size)).transpose()?;
        let made = |address, size, charge| {
            Ok(Block { owner: self.clone(), address, bytes, size, charge: Some(charge), _own: own })
        };
        if let Some((size, address, charge)) = self.lock().take(size, most) {
            return made(address, size, charge);
        }
        match self.fresh(size) {
            Ok((address, charge)) => made(address, size, charge),
            Err(GpuError::Limit { .. } | GpuError::OutOfMemory { .. }) => {
                self.trim();
                let (address, charge) = self.fresh(size)?;
                made(address, size, charge)
            }
            Err(other) => Err(other),
        }
    }

    fn fresh(&self, size: usize) -> Result<(u64, Charge), GpuError> {
        let charge = charged(&self.budget, size)?;
        Ok((self.gpu.allocate(size)?, charge))
    }

    /// Gives all cached blocks back to the driver.
    pub(crate) fn trim(&self) {
        let blocks = std::mem::take(&mut self.lock().blocks);
        for (address, charge) in blocks.into_values().flatten() {
            self.gpu.release(address);
            drop(charge);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    /// A block of `size` bytes, and of at most so many.
    fn take(&mut self, size: usize, most: usize) -> Option<(usize, u64, Charge)> {
        let (&found, blocks) = self.blocks.range_mut(size..=most).next()?;
        let (address, charge) = blocks.pop()?;
        if blocks.is_empty() {
            self.blocks.remove(&found);
        }
        Some((found, address, charge))
    }
}

impl Block {
    /// Its address, a multiple of 256.
    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    /// The bytes that it takes of the device's memory.
    pub(crate) fn held(&self) -> usize {
        self.size
    }

    /// The bytes asked for.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(charge) = self.charge.take() {
            self.owner.lock().blocks.entry(self.size).or_default().push((self.address, charge));
        }
    }
}

impl Drop for OpenGpu {
    fn drop(&mut self) {
        self.trim();
    }
}
