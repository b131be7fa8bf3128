//! # Products of few vectors with weights of few bits
//! The tiles and the order of [`gemv`], weights read so: a lane takes 8 at once, which lie in one block.
//!
//! Floor: the packed weights read once. Predicted beside it, of 4 bits: a word of 8 weights is 4 bytes and, for one vector, some
//! 8 · 5 instructions (shift, mask, exponent, zero and scale, sum) and 10 for the scale: a multiprocessor's four schedulers
//! take 12.5 clocks for the 128 bytes of a warp, which at 1.7 GHz is 17 GB/s each and 2.3 TB/s for 132 of them, below
//! the 3.3 TB/s of the memory. Nothing of this was measured.
//!
//! Grid, block and shared memory are those of `gemv`.

use super::{Blocks, Buffers, Shape, number};
use crate::device::Global;
use crate::entry;
use crate::epilogue::Epilogue;
use crate::gemv::{self, MOST, Rows, SHARED, THREADS};
use crate::launch::{Device, Entry, Prepared, Reject};

/// What a launch takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    of: gemv::Params,
    blocks: Blocks,
}

const _: () = assert!(size_of::<Params>() == 192);

/// Rows of weights of so many bits.
struct Quantised<'a, const BITS: u32>(&'a Blocks);

impl<const BITS: u32> Rows for Quantised<'_, BITS> {
    const WIDTH: usize = 8;
    type Row = u32;

    #[inline(always)]
    fn row(&self, row: usize) -> u32 {
        row as u32
    }

    #[inline(always)]
    fn load(&self, row: u32, column: u32) -> [f32; 8] {
        let words = match BITS {
            2 => [u32::from(self.0.word::<u16, BITS>(row, column)), 0],
            4 => [self.0.word::<u32, BITS>(row, column), 0],
            _ => {
                let word = self.0.word::<u64, BITS>(row, column);
                [word as u32, (word >> 32) as u32]
            }
        };
        let (scale, zero) = self.0.scale::<BITS>(row, column);
        let mut weights = [0.0; 8];
        for i in 0..8 {
            let (word, at) = if BITS == 8 { (i / 4, i % 4) } else { (0, i) };
            weights[i] = (number::<BITS>(words[word], at as u32) - zero) * scale;
        }
        weights
    }
}

/// Every thread.
#[inline(always)]
fn run<const BITS: u32, const M: usize>(p: Params) {
    gemv::multiply::<Quantised<'_, BITS>, M>(&p.of, &Quantised(&p.blocks));
}

/// The entries: bits and vectors.
macro_rules! entries {
    ($($constant:ident = $symbol:ident: $bits:literal, $m:literal;)*) => { $(
        entry!(
            /// See the module.
            $constant = $symbol(Params): run::<$bits, $m>, THREADS, with_shared(SHARED), with_min_blocks(4)
        );
    )* };
}

entries! {
    BLOCKS_VECTORS_2_1 = blocks_vectors_2_1: 2, 1;
    BLOCKS_VECTORS_2_4 = blocks_vectors_2_4: 2, 4;
    BLOCKS_VECTORS_2_16 = blocks_vectors_2_16: 2, 16;
    BLOCKS_VECTORS_4_1 = blocks_vectors_4_1: 4, 1;
    BLOCKS_VECTORS_4_4 = blocks_vectors_4_4: 4, 4;
    BLOCKS_VECTORS_4_16 = blocks_vectors_4_16: 4, 16;
    BLOCKS_VECTORS_8_1 = blocks_vectors_8_1: 8, 1;
    BLOCKS_VECTORS_8_4 = blocks_vectors_8_4: 8, 4;
    BLOCKS_VECTORS_8_16 = blocks_vectors_8_16: 8, 16;
}

/// A launch that has been checked.
pub fn prepare(shape: &Shape, buffers: &Buffers, device: &Device) -> Result<Prepared<Params>, Reject> {
    shape.accepts()?;
    if shape.m > MOST {
        return Err(Reject::Extent { name: "rows", got: shape.m.into(), limit: MOST.into() });
    }
    let (size, rows) = (shape.element.bytes(), u64::from(shape.m));
    buffers.x.holds("x", rows * u64::from(shape.k) * size, size)?;
    let blocks = shape.weights(buffers)?;
    let outputs = rows * u64::from(shape.n);
    let epilogue = Epilogue::new(buffers.program.as_ref(), buffers.y, outputs, shape.element.into())?;
    let of_bits: [&'static Entry<Params>; 3] = match shape.bits {
        2 => [&BLOCKS_VECTORS_2_1, &BLOCKS_VECTORS_2_4, &BLOCKS_VECTORS_2_16],
        4 => [&BLOCKS_VECTORS_4_1, &BLOCKS_VECTORS_4_4, &BLOCKS_VECTORS_4_16],
        _ => [&BLOCKS_VECTORS_8_1, &BLOCKS_VECTORS_8_4, &BLOCKS_VECTORS_8_16],
    };
    let (entry, most) = match shape.m {
        1 => (of_bits[0], 1),
        2..=4 => (of_bits[1], 4),
        _ => (of_bits[2], MOST),
    };
    let stride = shape.padded() as u32;
    let of = gemv::Params {
        x: Global::from_address(buffers.x.address),
        w: Global::from_address(0),
        epilogue,
        batch: shape.m,
        rows: shape.n,
        depth: shape.k,
        stride,
        chunk: gemv::chunk(most, stride),
        x_stride: shape.k,
        element: shape.element as u32,
    };
    let geometry = gemv::geometry(most, shape.n, stride, epilogue.slots());
    Prepared::new(entry, geometry, Params { of, blocks }, device)
}
