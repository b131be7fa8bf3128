//! Matrix products of a warpgroup, four warps in a row, from shared memory (compute capability 9.0 alone): `D += A · B`
//! with A of 64 × 64, B of 64 × 128 and f32 sums, four of PTX's `wgmma.m64n128k16`, started and waited for in one call.
//!
//! An operand lies in lines of 64 elements, 128 bytes each, in the 128-byte swizzle: eight lines are an atom of 1024 bytes,
//! aligned to that, and 16-byte piece `c` of an atom's line `r` lies at piece `c ^ r`, which is [`swizzled`]. A line runs
//! along k (*depth first*; lines one below the other are rows of A or columns of B), or along the edge, of rows of A or
//! columns of B (*edge first*; lines are terms, and every 64 elements of the edge are a block of 64 lines).
//!
//! Lane `l` of warp `w` of the warpgroup has, with `group = l / 4` and `member = l % 4`, for `j` in `0..16`:
//!
//! | sum | element |
//! |---|---|
//! | `4·j`, `4·j + 1` | row `16·w + group`, columns `8·j + 2·member + {0, 1}` |
//! | `4·j + 2`, `4·j + 3` | row `16·w + group + 8`, the same columns |
//!
//! Whoever has written an operand, or waited for its own copies, calls [`barrier::fence_async`](super::barrier::fence_async)
//! before the barrier that the warpgroup comes through.

use super::implementation as imp;
use super::shared::Shared;

/// Sums of a thread.
pub const SUMS: usize = 64;
/// Terms of a call.
pub const DEPTH: u32 = 64;

/// An operand as the instruction takes it, PTX's matrix descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    /// The 64 bits.
    pub(crate) bits: u64,
}

/// Bits of a descriptor that say: swizzled by 128 bytes.
pub(crate) const SWIZZLE_128: u64 = 1 << 62;
/// Bytes of eight lines, and of a block of 64.
const ATOM: u64 = 1024;
const BLOCK: u64 = 8 * ATOM;

/// Where 16-byte piece `piece` of line `line` lies, in pieces.
#[inline(always)]
pub fn swizzled(line: u32, piece: u32) -> u32 {
    line * 8 + (piece ^ (line % 8))
}

impl Operand {
    /// The operand whose first line begins at `first`, aligned to an atom.
    #[inline(always)]
    pub fn at(first: Shared<u16>) -> Self {
        let address = u64::from(imp::matrix::shared_bytes(first.place(0)));
        // In units of 16 bytes: where it begins, between blocks of the edge, and between atoms.
        Self { bits: (address >> 4 & 0x3fff) | (BLOCK >> 4) << 16 | (ATOM >> 4) << 32 | SWIZZLE_128 }
    }
}

/// The four descriptors of an operand's 64 terms: 16 terms are 32 bytes of every line, or, edge first, 16 lines.
#[inline(always)]
fn quarters<const EDGE: bool>(first: Operand) -> [u64; 4] {
    let step = if EDGE { (16 * 128) >> 4 } else { (16 * 2) >> 4 };
    [first.bits, first.bits + step, first.bits + 2 * step, first.bits + 3 * step]
}

macro_rules! products {
    ($($name:ident $what:literal;)*) => { $(
        #[doc = $what]
        ///
        /// `A_EDGE` and `B_EDGE`: the operand lies edge first.
        #[inline(always)]
        #[track_caller]
        pub fn $name<const A_EDGE: bool, const B_EDGE: bool>(sums: &mut [f32; SUMS], a: Operand, b: Operand) {
            imp::matrix::$name::<A_EDGE, B_EDGE>(sums, quarters::<A_EDGE>(a), quarters::<B_EDGE>(b));
        }
    )* };
}

products! {
    wgmma_f16 "f16 factors.";
    wgmma_bf16 "bf16 factors.";
}
