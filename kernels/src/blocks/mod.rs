//! # Products with weights of few bits in blocks
//! `Y[m, n] = program(Σ_k X[m, k] · (q[n, k] − zero[n, b(k)]) · scale[n, b(k)], …)`, `q` of 2, 4 or 8 bits, of which a block of 16 or
//! more along k, a power of two, has a scale and a zero point: packed like the weights, of X's type, or half the range.
//! Weights stay packed in memory, and become numbers in registers.
//!
//! - [`vectors`]: up to 16 rows of X, where reading the weights is all that takes time.
//! - [`tensor`]: more rows of f16 or bf16, on tensor cores.
//!
//! A number is exact: its bits under the exponent of 2²³ are a float, from which 2²³ is taken.

pub mod tensor;
pub mod vectors;

use crate::device::{Global, Plain};
use crate::element::Element;
use crate::launch::{Buffer, Reject};
use crate::wide::load_real;

/// What a launch takes of the weights.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Blocks {
    /// `[n, blocks, block · bits / 8]`.
    packed: Global<u8>,
    /// `[n, blocks]`.
    scales: Global<u8>,
    /// Null: half the range.
    zeros: Global<u8>,
    /// Bytes of a row of weights.
    row: u32,
    /// Blocks of a row.
    blocks: u32,
    /// Bytes of a row of packed zero points; 0: they are elements.
    zero_row: u32,
    /// A block has 2 to the power of this weights.
    shift: u32,
    /// Type of scales, and of zero points that are elements.
    element: u32,
    reserved: u32,
}

const _: () = assert!(size_of::<Blocks>() == 48);

/// Number `at` of a word of numbers of so many bits.
#[inline(always)]
pub(crate) fn number<const BITS: u32>(word: u32, at: u32) -> f32 {
    let bits = (word >> (BITS * at)) & ((1 << BITS) - 1);
    f32::from_bits(0x4b00_0000 | bits) - 8_388_608.0
}

impl Blocks {
    /// The scale of a row's block that has `column`, and its zero point.
    #[inline(always)]
    pub(crate) fn scale<const BITS: u32>(&self, row: u32, column: u32) -> (f32, f32) {
        let block = column >> self.shift;
        let at = (u64::from(row) * u64::from(self.blocks) + u64::from(block)) as usize;
        let zero = if self.zeros.is_null() {
            (1u32 << (BITS - 1)) as f32
        } else if self.zero_row == 0 {
            load_real(self.zeros, self.element, at)
        } else {
            let (byte, bit) = (block * BITS / 8, block * BITS % 8);
            let byte = u64::from(row) * u64::from(self.zero_row) + u64::from(byte);
            number::<BITS>(u32::from(self.zeros.load(byte as usize)) >> bit, 0)
        };
        (load_real(self.scales, self.element, at), zero)
    }

    /// The words of type `W` that begin with the weight of `row` and `column`.
    #[inline(always)]
    pub(crate) fn word<W: Plain, const BITS: u32>(&self, row: u32, column: u32) -> W {
        let at = u64::from(row) * u64::from(self.row) + u64::from(column * BITS / 8);
        self.packed.cast::<W>().load_read_only(at as usize / size_of::<W>())
    }
}

/// Where zero points are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Zeros {
    /// Half the range.
    Middle,
    /// In bytes of so many a row.
    Packed(u32),
    /// An element of X's type for each block.
    Elements,
}

/// A product as the caller describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Type of X and the scales, and of Y where there is no program.
    pub element: Element,
    /// Rows of X.
    pub m: u32,
    /// Rows of weights.
    pub n: u32,
    /// Terms of a sum.
    pub k: u32,
    /// Bits of a weight.
    pub bits: u32,
    /// Weights of a block.
    pub block: u32,
    /// The zero points.
    pub zeros: Zeros,
}

/// The memory of a launch.
#[derive(Clone, Copy, Debug)]
pub struct Buffers {
    /// X, dense.
    pub x: Buffer,
    /// The weights, `[n, blocks, block · bits / 8]`.
    pub w: Buffer,
    /// The scales, `[n, blocks]`.
    pub scales: Buffer,
    /// The zero points.
    pub zeros: Buffer,
    /// Y, dense.
    pub y: Buffer,
    /// Scratch memory, where a kernel asks for some.
    pub workspace: Buffer,
    /// What comes between the product and Y.
    pub program: Option<crate::epilogue::Program>,
}

impl Shape {
    /// Blocks of a row.
    fn blocks(&self) -> u32 {
        self.k.div_ceil(self.block.max(1))
    }

    /// Terms of a row with those that fill its last block.
    fn padded(&self) -> u64 {
        u64::from(self.blocks()) * u64::from(self.block)
    }

    /// Whether there is a kernel for such weights.
    pub fn accepts(&self) -> Result<(), Reject> {
        if !matches!(self.bits, 2 | 4 | 8) || self.block < 16 || !self.block.is_power_of_two() {
            return Err(Reject::Unsupported { what: "weights of such bits or blocks" });
        }
        if self.m == 0 || self.n == 0 || self.k == 0 {
            return Err(Reject::Unsupported { what: "a product without elements" });
        }
        let limit = i32::MAX as u64 / 32;
        for (name, got) in [("rows", self.m.into()), ("columns", self.n.into()), ("terms", self.padded())] {
            if got > limit {
                return Err(Reject::Extent { name, got, limit });
            }
        }
        Ok(())
    }

    /// Checks the weights' memory.
    fn weights(&self, buffers: &Buffers) -> Result<Blocks, Reject> {
        let (n, blocks, size) = (u64::from(self.n), u64::from(self.blocks()), self.element.bytes());
        let row = self.padded() * u64::from(self.bits) / 8;
        // Words of 16 weights are read at once.
        buffers.w.holds("w", n * row, 2 * u64::from(self.bits))?;
        buffers.scales.holds("scales", n * blocks * size, size)?;
        let zero_row = match self.zeros {
            Zeros::Middle => 0,
            Zeros::Elements => {
                buffers.zeros.holds("zeros", n * blocks * size, size)?;
                0
            }
            Zeros::Packed(bytes) => {
                let (got, needed) = (u64::from(bytes) * 8, blocks * u64::from(self.bits));
                if got < needed {
                    return Err(Reject::Length { operand: "zeros", needed, got });
                }
                buffers.zeros.holds("zeros", n * u64::from(bytes), 1)?;
                bytes
            }
        };
        let zeros = if self.zeros == Zeros::Middle { 0 } else { buffers.zeros.address };
        Ok(Blocks {
            packed: Global::from_address(buffers.w.address),
            scales: Global::from_address(buffers.scales.address),
            zeros: Global::from_address(zeros),
            row: row as u32,
            blocks: self.blocks(),
            zero_row,
            shift: self.block.trailing_zeros(),
            element: self.element as u32,
            reserved: 0,
        })
    }
}
