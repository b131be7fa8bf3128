//! What the families' tests share: random operands, a device to run on, and comparison within an accuracy class.

use crate::device::{BF16, F16, Float16};
use crate::element::Element;
use crate::emulator::{Memory, Options, launch};
use crate::launch::{Buffer, Device, Launch};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// A device of compute capability 9.0 with little else.
pub(crate) const DEVICE: Device = Device { capability: 90, multiprocessors: 4, shared_bytes: 227 * 1024 };

/// Numbers that a seed determines (SplitMix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub(crate) fn bool(&mut self) -> bool {
        self.next() & 1 == 1
    }

    /// From −1 to 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    pub(crate) fn within(&mut self, range: RangeInclusive<u32>) -> u32 {
        range.start() + (self.next() % u64::from(range.end() - range.start() + 1)) as u32
    }

    pub(crate) fn pick<T: Copy, const N: usize>(&mut self, of: [T; N]) -> T {
        of[(self.next() % N as u64) as usize]
    }

    /// One of `edges`, or anything in `range`.
    pub(crate) fn edge(&mut self, edges: &[u32], range: RangeInclusive<u32>) -> u32 {
        if self.bool() { edges[(self.next() % edges.len() as u64) as usize] } else { self.within(range) }
    }

    /// `count` values from −`scale` to `scale` that `element` holds.
    pub(crate) fn reals(&mut self, element: Element, count: usize, scale: f64) -> Reals {
        let mut reals = Reals { values: Vec::new(), bytes: Vec::new() };
        for _ in 0..count {
            reals.push(element, self.unit() * scale);
        }
        reals
    }
}

/// Values and their bytes.
pub(crate) struct Reals {
    pub(crate) values: Vec<f64>,
    pub(crate) bytes: Vec<u8>,
}

impl Reals {
    fn push(&mut self, element: Element, value: f64) {
        let (held, bytes) = Self::held(element, value);
        self.values.push(held);
        self.bytes.extend(bytes);
    }

    /// Replaces one value.
    pub(crate) fn set(&mut self, element: Element, index: usize, value: f64) {
        let (held, bytes) = Self::held(element, value);
        self.values[index] = held;
        self.bytes[index * bytes.len()..][..bytes.len()].copy_from_slice(&bytes);
    }

    /// What the type holds of a value, and its bytes.
    fn held(element: Element, value: f64) -> (f64, Vec<u8>) {
        let value = value as f32;
        let (held, bytes) = match element {
            Element::F32 => (value, value.to_bits().to_le_bytes().to_vec()),
            Element::F16 => {
                let narrow = F16::from_f32(value);
                (narrow.to_f32(), narrow.bits16().to_le_bytes().to_vec())
            }
            Element::BF16 => {
                let narrow = BF16::from_f32(value);
                (narrow.to_f32(), narrow.bits16().to_le_bytes().to_vec())
            }
        };
        (held.into(), bytes)
    }
}

/// An emulated device for one case.
pub(crate) struct Lab {
    memory: Arc<Memory>,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self { memory: Arc::new(Memory::new(1 << 32)) }
    }

    /// New memory that holds `bytes`.
    pub(crate) fn upload(&mut self, label: &str, bytes: &[u8]) -> Buffer {
        let buffer = self.room(label, bytes.len() as u64);
        self.memory.write(buffer.address, bytes).expect("inside");
        buffer
    }

    /// New memory that nobody has written.
    pub(crate) fn room(&mut self, label: &str, bytes: u64) -> Buffer {
        Buffer { address: self.memory.allocate(label, bytes).expect("room"), bytes }
    }

    /// Runs a launch; a report fails the test.
    pub(crate) fn run(&self, prepared: &dyn Launch) {
        if let Err(report) = launch(&self.memory, prepared, Options::CHECKED) {
            panic!("{report}");
        }
    }

    /// The bytes of a buffer, all of which must have been written.
    pub(crate) fn bytes(&self, buffer: Buffer) -> Vec<u8> {
        let mut bytes = vec![0; buffer.bytes as usize];
        self.memory.read(buffer.address, &mut bytes).expect("written");
        bytes
    }

    /// Its elements.
    pub(crate) fn reals(&self, buffer: Buffer, element: Element) -> Vec<f64> {
        let bytes = self.bytes(buffer);
        let half = |pair: &[u8]| u16::from_le_bytes([pair[0], pair[1]]);
        match element {
            Element::F32 => bytes
                .chunks_exact(4)
                .map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]]).into())
                .collect(),
            Element::F16 => bytes.chunks_exact(2).map(|b| F16::from_bits(half(b)).to_f32().into()).collect(),
            Element::BF16 => {
                bytes.chunks_exact(2).map(|b| BF16::from_bits(half(b)).to_f32().into()).collect()
            }
        }
    }
}

/// Holds `got` to `want` within `units` of the element type's ε, relative and absolute: 64 for reductions, 8 for single
/// elements, as the runtime's accuracy classes have it.
pub(crate) fn close(got: f64, want: f64, element: Element, units: f64, what: impl Fn() -> String) {
    let ulp = match element {
        Element::F32 => f64::from(f32::EPSILON),
        Element::F16 => 1.0 / 1024.0,
        Element::BF16 => 1.0 / 128.0,
    };
    let equal = got == want || (got.is_nan() && want.is_nan());
    assert!(
        equal || (got - want).abs() <= units * ulp * (1.0 + want.abs()),
        "{}: {got} instead of {want}",
        what()
    );
}
