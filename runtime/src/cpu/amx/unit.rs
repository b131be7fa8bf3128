//! The matrix unit: whether the processor has it and the system lets it be used, and its state on a thread.

use super::{Beside, Columns, Line, Place, SIDE, Start, tiles};
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
    /// there are `sums`: of each group a row every `width` elements. There are one or two of both. `right` holds the tiles of
    /// [`Unit::split_columns`], as many as `left` has starts. `meanwhile` is called [`super::STEPS`] times for each of them, and
    /// computed beside the products.
    #[inline]
    pub(crate) fn product<const R: usize, const N: usize>(
        &mut self,
        left: Place<'_>,
        right: &[Line],
        start: Start<'_>,
        sums: ([&mut [f32]; N], usize),
        meanwhile: impl FnMut(),
    ) {
        // SAFETY: this is the session.
        unsafe { tiles::product::<R, N>(left, right, start, sums, meanwhile) }
    }

    /// The same, where the tiles of the right operand are made of `columns` beside the products of those before them, in
    /// `made`, which has room for those of two starts.
    pub(crate) fn product_apart<const R: usize, const N: usize, const W: usize>(
        &mut self,
        left: Place<'_>,
        columns: &Columns<'_, W>,
        made: &mut [Line],
        start: Start<'_>,
        sums: ([&mut [f32]; N], usize),
    ) {
        // SAFETY: this is the session, and one exists only where the processor has the features.
        unsafe { tiles::product_apart::<R, N, W>(left, columns, made, start, sums) }
    }

    /// As [`Session::product`], with a step of `beside` for each product of parts.
    pub(crate) fn product_beside<const R: usize, const N: usize, const W: usize>(
        &mut self,
        left: Place<'_>,
        right: &[Line],
        start: Start<'_>,
        sums: ([&mut [f32]; N], usize),
        beside: &mut Beside<'_, W>,
    ) {
        match beside.columns.1 {
            // SAFETY: this is the session, and one exists only where the processor has the features.
            1 => unsafe { tiles::product_beside::<R, N, 1, W>(left, right, start, sums, beside) },
            // SAFETY: as above.
            2 => unsafe { tiles::product_beside::<R, N, 2, W>(left, right, start, sums, beside) },
            _ => unreachable!("tiles are of one group of columns or two"),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: `Unit` proves that the instruction is there; it has no operand.
        unsafe { asm!("tilerelease", options(nostack, nomem)) }
    }
}
