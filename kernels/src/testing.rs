//! What the families' tests share: drawn numbers, and a device's memory with typed contents.

use crate::device::{BF16, F16};
use crate::element::{Element, Real};
use crate::emulator::{Memory, Options, launch};
use crate::launch::{Buffer, Device, Launch};
use std::sync::Arc;

/// The device that tests launch on.
pub(crate) const DEVICE: Device = Device { capability: 90, multiprocessors: 132, shared_bytes: 227 * 1024 };

/// Numbers drawn from a seed (SplitMix64).
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number of `from ..= to`.
    pub(crate) fn int(&mut self, from: u32, to: u32) -> u32 {
        from + (self.bits() % u64::from(to - from + 1)) as u32
    }

    pub(crate) fn chance(&mut self) -> bool {
        self.bits() & 1 == 1
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.bits() as usize % of.len()]
    }

    /// A number of −1 to 1.
    pub(crate) fn float(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub(crate) fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }
}

/// A number as an element type holds it.
pub(crate) fn rounded(element: Element, value: f32) -> f32 {
    match element {
        Element::F32 => value,
        Element::F16 => F16::narrow(value).widen(),
        Element::BF16 => BF16::narrow(value).widen(),
    }
}

/// An emulated device's memory.
pub(crate) struct Room(Arc<Memory>);

impl Room {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Memory::new(1 << 30)))
    }

    /// Unwritten memory.
    pub(crate) fn empty(&self, label: &str, bytes: u64) -> Buffer {
        Buffer { address: self.0.allocate(label, bytes).expect("room"), bytes }
    }

    pub(crate) fn upload(&self, label: &str, element: Element, values: &[f32]) -> Buffer {
        let buffer = self.empty(label, element.bytes() * values.len() as u64);
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|&value| match element {
                Element::F32 => value.to_le_bytes().to_vec(),
                Element::F16 => F16::narrow(value).to_bits().to_le_bytes().to_vec(),
                Element::BF16 => BF16::narrow(value).to_bits().to_le_bytes().to_vec(),
            })
            .collect();
        self.0.write(buffer.address, &bytes).expect("inside");
        buffer
    }

    pub(crate) fn upload_integers(&self, label: &str, values: &[i32]) -> Buffer {
        let buffer = self.empty(label, 4 * values.len() as u64);
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.0.write(buffer.address, &bytes).expect("inside");
        buffer
    }

    /// `count` elements from `from` on; all must have been written.
    pub(crate) fn read(&self, buffer: Buffer, element: Element, from: u64, count: usize) -> Vec<f32> {
        let size = element.bytes() as usize;
        let mut bytes = vec![0; count * size];
        self.0.read(buffer.address + from * element.bytes(), &mut bytes).expect("written memory");
        bytes
            .chunks(size)
            .map(|chunk| match element {
                Element::F32 => f32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]),
                Element::F16 => F16::from_bits(u16::from_le_bytes([chunk[0], chunk[1]])).widen(),
                Element::BF16 => BF16::from_bits(u16::from_le_bytes([chunk[0], chunk[1]])).widen(),
            })
            .collect()
    }

    /// Runs a launch with every check; a report fails the test.
    pub(crate) fn run(&self, prepared: &dyn Launch) {
        if let Err(report) = launch(&self.0, prepared, Options::CHECKED) {
            panic!("{report}");
        }
    }
}
