//! The matrix unit: whether the processor has it and the system lets it be used, and its loop.

#![allow(
    clippy::inline_always,
    reason = "the tiles' values live from one piece of assembler to the next, which have to follow each other"
)]

use super::{Line, Place, SIDE, tile_lines};
use std::arch::asm;
use std::marker::PhantomData;
use std::sync::OnceLock;

/// Proof that the unit is there and may be used by this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unit(());

/// Bits of the eighth leaf's fourth register: tiles, and their products of bf16.
const FEATURES: u32 = 1 << 24 | 1 << 22;
/// Parts of a thread's state that the system keeps: the tiles' shapes and their data.
const STATE: u64 = 0b11 << 17;

#[allow(clippy::unused_self, reason = "holding a unit is the proof that the instructions are there")]
impl Unit {
    /// The unit of this processor. The system is asked once for leave to use it.
    pub(crate) fn detect() -> Option<Self> {
        static FOUND: OnceLock<bool> = OnceLock::new();
        FOUND.get_or_init(found).then_some(Self(()))
    }

    /// Sets the unit of this thread up.
    pub(crate) fn session(self) -> Session {
        let shapes = Shapes {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            bytes: std::array::from_fn(|tile| if tile < 8 { size_of::<Line>() as u16 } else { 0 }),
            rows: std::array::from_fn(|tile| if tile < 8 { SIDE as u8 } else { 0 }),
        };
        // SAFETY: the token exists only where the instruction is there; the shapes are those of its first palette.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const shapes, options(nostack, readonly)) }
        Session { thread: PhantomData }
    }
}

fn found() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    if !std::arch::is_x86_feature_detected!("avx512bw") || __cpuid(0).eax < 7 {
        return false;
    }
    // SAFETY: a processor with AVX-512 whose use was found to be possible has the instruction.
    let enabled = unsafe { enabled() };
    __cpuid_count(7, 0).edx & FEATURES == FEATURES && enabled & STATE == STATE && permitted()
}

#[target_feature(enable = "xsave")]
fn enabled() -> u64 {
    // SAFETY: register 0 exists wherever the instruction does.
    unsafe { std::arch::x86_64::_xgetbv(0) }
}

/// Asks the system to keep the tiles' data for threads of this process.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const REQUEST: u64 = 0x1023;
    const TILE_DATA: u64 = 18;
    let result: i64;
    // SAFETY: the call takes two numbers, touches no memory of the process, and refuses what it does not know.
    unsafe {
        asm!("syscall", inlateout("rax") ARCH_PRCTL => result, in("rdi") REQUEST, in("rsi") TILE_DATA,
            out("rcx") _, out("r11") _, options(nostack));
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// The unit of this thread, set up for tiles of 16 lines. Only one exists on a thread at a time.
#[derive(Debug)]
pub(crate) struct Session {
    thread: PhantomData<*const ()>,
}

/// How the unit is told its tiles' shapes.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    /// Bytes of a line of each tile, and its lines.
    bytes: [u16; 16],
    rows: [u8; 16],
}

#[allow(clippy::unused_self, reason = "a session is the proof that this thread's tiles have their shapes")]
impl Session {
    /// `sums = start + left · right` for `16 · R` rows, which lie one behind the other, and as many groups of 16 columns as
    /// there are `sums`: of each group a row every `width` elements, which all start with `start`. There are one or
    /// two of both. `right` holds the tiles of [`Unit::split_columns`], as many as `left` has starts.
    pub(crate) fn product<const R: usize, const N: usize>(
        &mut self,
        left: Place<'_>,
        right: &[Line],
        start: &[[f32; SIDE]],
        (mut sums, width): ([&mut [f32]; N], usize),
    ) {
        const { assert!((R == 1 || R == 2) && (N == 1 || N == 2), "there are tiles for two by two") }
        let Place { lines, first, starts, plane } = left;
        let rows = R * SIDE;
        assert!(right.len() >= starts.len() * tile_lines(N), "too few tiles");
        let fits = |sums: &&mut [f32]| sums.len() >= (rows - 1) * width + SIDE;
        assert!(width >= SIDE && sums.iter().all(fits), "too few sums");
        let last = starts.iter().copied().max().unwrap_or(0) + first;
        assert!(last < lines.len() && lines.len() - last >= 2 * plane + rows, "too few lines");
        assert!(start.len() >= N, "too few columns");
        let begin = std::array::from_fn(|group| start[group].as_ptr());
        let sums = sums.each_mut().map(|sums| sums.as_mut_ptr());
        // SAFETY: `Unit` proves that the instructions are there, and a session gave the tiles their shapes. Of the left
        // operand lines up to `last + 2 · plane + rows` are read, of the right one `tile_lines` for each start, of the
        // sums all rows are written; they were asserted to lie in their slices.
        unsafe {
            load_sums::<R, N>(begin);
            for (block, start) in starts.iter().enumerate() {
                let rows = lines.as_ptr().add(first + start);
                let columns = right.as_ptr().add(block * tile_lines(N));
                terms::<R, N>(rows, plane, columns);
            }
            store_sums::<R, N>(sums, width * size_of::<f32>());
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: `Unit` proves that the instruction is there; it has no operand.
        unsafe { asm!("tilerelease", options(nostack, nomem)) }
    }
}

// Tiles 0 to 3 hold sums from `load_sums` to `store_sums`, 4 to 7 operands: 0 and 2 the first group's of the first 16 rows
// and of the second, 1 and 3 the second group's. The compiler has no values in tiles, since nothing else in a program uses
// them while a session lasts. The callers of these functions answer for the addresses.

#[inline(always)]
unsafe fn load_sums<const R: usize, const N: usize>(from: [*const f32; N]) {
    // Each row is the same.
    let stride = 0usize;
    // SAFETY: see above.
    unsafe {
        asm!("tileloadd tmm0, [{x} + {s}]", x = in(reg) from[0], s = in(reg) stride, options(nostack, readonly));
        if N == 2 {
            asm!("tileloadd tmm1, [{x} + {s}]", x = in(reg) from[1], s = in(reg) stride, options(nostack, readonly));
        }
        if R == 2 {
            asm!("tileloadd tmm2, [{x} + {s}]", x = in(reg) from[0], s = in(reg) stride, options(nostack, readonly));
        }
        if R == 2 && N == 2 {
            asm!("tileloadd tmm3, [{x} + {s}]", x = in(reg) from[1], s = in(reg) stride, options(nostack, readonly));
        }
    }
}

#[inline(always)]
unsafe fn store_sums<const R: usize, const N: usize>(to: [*mut f32; N], stride: usize) {
    // SAFETY: see above.
    unsafe {
        asm!("tilestored [{x} + {s}], tmm0", x = in(reg) to[0], s = in(reg) stride, options(nostack));
        if N == 2 {
            asm!("tilestored [{x} + {s}], tmm1", x = in(reg) to[1], s = in(reg) stride, options(nostack));
        }
        let to = to.map(|to| to.byte_add(SIDE * stride));
        if R == 2 {
            asm!("tilestored [{x} + {s}], tmm2", x = in(reg) to[0], s = in(reg) stride, options(nostack));
        }
        if R == 2 && N == 2 {
            asm!("tilestored [{x} + {s}], tmm3", x = in(reg) to[1], s = in(reg) stride, options(nostack));
        }
    }
}

/// A part of the rows.
#[inline(always)]
unsafe fn load_rows<const R: usize>(from: *const Line) {
    // SAFETY: see above.
    unsafe {
        asm!("tileloadd tmm4, [{x} + {s}]", x = in(reg) from, s = in(reg) size_of::<Line>(), options(nostack, readonly));
        if R == 2 {
            let from = from.add(SIDE);
            asm!("tileloadd tmm5, [{x} + {s}]", x = in(reg) from, s = in(reg) size_of::<Line>(), options(nostack, readonly));
        }
    }
}

/// A part of the columns.
#[inline(always)]
unsafe fn load_columns<const N: usize>(from: *const Line) {
    // SAFETY: see above.
    unsafe {
        asm!("tileloadd tmm6, [{x} + {s}]", x = in(reg) from, s = in(reg) size_of::<Line>(), options(nostack, readonly));
        if N == 2 {
            let from = from.add(SIDE);
            asm!("tileloadd tmm7, [{x} + {s}]", x = in(reg) from, s = in(reg) size_of::<Line>(), options(nostack, readonly));
        }
    }
}

#[inline(always)]
unsafe fn multiply<const R: usize, const N: usize>() {
    // SAFETY: see above; there is none.
    unsafe {
        asm!("tdpbf16ps tmm0, tmm4, tmm6", options(nostack, nomem));
        if N == 2 {
            asm!("tdpbf16ps tmm1, tmm4, tmm7", options(nostack, nomem));
        }
        if R == 2 {
            asm!("tdpbf16ps tmm2, tmm5, tmm6", options(nostack, nomem));
        }
        if R == 2 && N == 2 {
            asm!("tdpbf16ps tmm3, tmm5, tmm7", options(nostack, nomem));
        }
    }
}

/// 32 terms, the smallest products first.
#[inline(always)]
unsafe fn terms<const R: usize, const N: usize>(rows: *const Line, plane: usize, columns: *const Line) {
    // SAFETY: see above.
    unsafe {
        load_columns::<N>(columns);
        load_rows::<R>(rows);
        multiply::<R, N>();
        load_columns::<N>(columns.add(N * SIDE));
        multiply::<R, N>();
        load_rows::<R>(rows.add(plane));
        multiply::<R, N>();
        load_columns::<N>(columns.add(2 * N * SIDE));
        multiply::<R, N>();
        load_rows::<R>(rows.add(2 * plane));
        multiply::<R, N>();
        load_rows::<R>(rows);
        multiply::<R, N>();
    }
}
