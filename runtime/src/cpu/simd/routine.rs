//! Loops over bytes of tiles, compiled once for each instruction set; which one runs is chosen when a program is bound.
//!
//! A loop runs over one tile or over those of neighbouring rows: choosing and starting it costs as much as some vectors
//! of work, and rows are short.

#[cfg(target_arch = "x86_64")]
use super::{Avx2, Avx512};
use super::{Isa, Kind, Level, Portable};

/// A loop over bytes of tiles, compiled once for each instruction set, of which the compiler makes vectors.
pub(crate) trait TileLoop {
    /// Computes `to` from up to three operands; implementations are `#[inline(always)]`.
    fn run<I: Isa>(isa: I, to: &mut [u8], from: [&[u8]; 3]);
}

/// How what a loop writes or reads lies in rows.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Span {
    /// Bytes of a row's tile.
    pub(crate) bytes: usize,
    /// Bytes from row to row.
    pub(crate) step: usize,
}

/// Tiles of neighbouring rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Across {
    /// Rows.
    pub(crate) rows: usize,
    /// What is written.
    pub(crate) to: Span,
    /// The operands.
    pub(crate) from: [Span; 3],
}

impl Across {
    /// One tile.
    #[inline(always)]
    fn single(to: &[u8], from: &[&[u8]; 3]) -> Self {
        let all = |bytes: &[u8]| Span { bytes: bytes.len(), step: 0 };
        Self { rows: 1, to: all(to), from: [all(from[0]), all(from[1]), all(from[2])] }
    }

    /// What is written and read of row `row`.
    #[inline(always)]
    fn row<'r>(&self, row: usize, to: &'r mut [u8], from: &[&'r [u8]; 3]) -> (&'r mut [u8], [&'r [u8]; 3]) {
        let operand = |k: usize| &from[k][row * self.from[k].step..][..self.from[k].bytes];
        (&mut to[row * self.to.step..][..self.to.bytes], [operand(0), operand(1), operand(2)])
    }
}

/// A [`TileLoop`] compiled for an instruction set that this processor has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Routine(unsafe fn(&mut [u8], [&[u8]; 3], &Across));

impl Routine {
    /// Runs the loop.
    #[inline]
    pub(crate) fn call(self, to: &mut [u8], from: [&[u8]; 3]) {
        let single = Across::single(to, &from);
        self.call_rows(to, from, &single);
    }

    /// Runs the loop on one row after the other.
    #[inline]
    pub(crate) fn call_rows(self, to: &mut [u8], from: [&[u8]; 3], across: &Across) {
        // SAFETY: only `Level::routine` makes a `Routine`, for the instruction set of a token, which exists only
        // where the processor was asked for the features; the function has no other condition.
        unsafe { (self.0)(to, from, across) }
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
    run: unsafe fn(&mut [u8], [&[u8]; 3], &Across, &mut [f32]),
    /// Whether it writes what it adds up.
    pub(crate) writes: bool,
}

impl Folding {
    /// Runs the loop on one row after the other, of which each has a sum.
    #[inline]
    pub(crate) fn call_rows(self, to: &mut [u8], from: [&[u8]; 3], across: &Across, sums: &mut [f32]) {
        // SAFETY: as for `Routine`: only `Level::folding` makes one.
        unsafe { (self.run)(to, from, across, sums) }
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
        let run: unsafe fn(&mut [u8], [&[u8]; 3], &Across, &mut [f32]) = match self.0 {
            Kind::Portable => portable_fold::<L>,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => avx2_fold::<L>,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(_) => avx512_fold::<L>,
        };
        Folding { run, writes: L::WRITES }
    }
}

#[inline(always)]
fn each_row<L: TileLoop, I: Isa>(isa: I, to: &mut [u8], from: [&[u8]; 3], across: &Across) {
    for row in 0..across.rows {
        let (to, from) = across.row(row, to, &from);
        L::run(isa, to, from);
    }
}

#[inline(always)]
fn fold_rows<L: FoldLoop, I: Isa>(
    isa: I,
    to: &mut [u8],
    from: [&[u8]; 3],
    across: &Across,
    sums: &mut [f32],
) {
    for (row, sum) in sums.iter_mut().enumerate().take(across.rows) {
        let (to, from) = across.row(row, to, &from);
        *sum = L::run(isa, to, from);
    }
}

fn portable_loop<L: TileLoop>(to: &mut [u8], from: [&[u8]; 3], across: &Across) {
    each_row::<L, _>(Portable, to, from, across);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2_loop<L: TileLoop>(to: &mut [u8], from: [&[u8]; 3], across: &Across) {
    each_row::<L, _>(Avx2(()), to, from, across);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn avx512_loop<L: TileLoop>(to: &mut [u8], from: [&[u8]; 3], across: &Across) {
    each_row::<L, _>(Avx512(()), to, from, across);
}

fn portable_fold<L: FoldLoop>(to: &mut [u8], from: [&[u8]; 3], across: &Across, sums: &mut [f32]) {
    fold_rows::<L, _>(Portable, to, from, across, sums);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2_fold<L: FoldLoop>(to: &mut [u8], from: [&[u8]; 3], across: &Across, sums: &mut [f32]) {
    fold_rows::<L, _>(Avx2(()), to, from, across, sums);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn avx512_fold<L: FoldLoop>(to: &mut [u8], from: [&[u8]; 3], across: &Across, sums: &mut [f32]) {
    fold_rows::<L, _>(Avx512(()), to, from, across, sums);
}
