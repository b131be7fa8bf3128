//! Loops over bytes of tiles, compiled once for each instruction set; which one runs is chosen when a program is bound.

#[cfg(target_arch = "x86_64")]
use super::{Avx2, Avx512};
use super::{Isa, Kind, Level, Portable};

/// A loop over bytes of tiles, compiled once for each instruction set, of which the compiler makes vectors.
pub(crate) trait TileLoop {
    /// Computes `to` from up to three operands; implementations are `#[inline(always)]`.
    fn run<I: Isa>(isa: I, to: &mut [u8], from: [&[u8]; 3]);
}

/// A [`TileLoop`] compiled for an instruction set that this processor has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Routine(unsafe fn(&mut [u8], [&[u8]; 3]));

impl Routine {
    /// Runs the loop.
    #[inline]
    pub(crate) fn call(self, to: &mut [u8], from: [&[u8]; 3]) {
        // SAFETY: only `Level::routine` makes a `Routine`, for the instruction set of a token, which exists only
        // where the processor was asked for the features; the function has no other condition.
        unsafe { (self.0)(to, from) }
    }
}

/// A [`TileLoop`] that adds up what it computes.
pub(crate) trait FoldLoop {
    /// Whether `to` is written.
    const WRITES: bool;
    /// Computes `to`, or what would be there, from up to three operands, and its sum; implementations are
    /// `#[inline(always)]`.
    fn run<I: Isa>(isa: I, to: &mut [u8], from: [&[u8]; 3]) -> f32;
}

/// A [`FoldLoop`] compiled for an instruction set that this processor has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Folding {
    run: unsafe fn(&mut [u8], [&[u8]; 3]) -> f32,
    /// Whether it writes what it adds up.
    pub(crate) writes: bool,
}

impl Folding {
    /// Runs the loop.
    #[inline]
    pub(crate) fn call(self, to: &mut [u8], from: [&[u8]; 3]) -> f32 {
        // SAFETY: as for `Routine`: only `Level::folding` makes one.
        unsafe { (self.run)(to, from) }
    }
}

impl Level {
    /// `L` compiled for this instruction set.
    pub(crate) fn routine<L: TileLoop>(self) -> Routine {
        match self.0 {
            Kind::Portable => Routine(portable_loop::<L>),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => Routine(avx2_loop::<L>),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(_) => Routine(avx512_loop::<L>),
        }
    }

    /// `L` compiled for this instruction set.
    pub(crate) fn folding<L: FoldLoop>(self) -> Folding {
        let run: unsafe fn(&mut [u8], [&[u8]; 3]) -> f32 = match self.0 {
            Kind::Portable => portable_fold::<L>,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => avx2_fold::<L>,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(_) => avx512_fold::<L>,
        };
        Folding { run, writes: L::WRITES }
    }
}

fn portable_loop<L: TileLoop>(to: &mut [u8], from: [&[u8]; 3]) {
    L::run(Portable, to, from);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2_loop<L: TileLoop>(to: &mut [u8], from: [&[u8]; 3]) {
    L::run(Avx2(()), to, from);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn avx512_loop<L: TileLoop>(to: &mut [u8], from: [&[u8]; 3]) {
    L::run(Avx512(()), to, from);
}

fn portable_fold<L: FoldLoop>(to: &mut [u8], from: [&[u8]; 3]) -> f32 {
    L::run(Portable, to, from)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2_fold<L: FoldLoop>(to: &mut [u8], from: [&[u8]; 3]) -> f32 {
    L::run(Avx2(()), to, from)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn avx512_fold<L: FoldLoop>(to: &mut [u8], from: [&[u8]; 3]) -> f32 {
    L::run(Avx512(()), to, from)
}
