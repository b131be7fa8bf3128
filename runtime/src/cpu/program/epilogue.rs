//! A program over segments of rows that are in L1 already: the epilogue of a product.

use super::compiled::{Compiled, Reach, Rows, Tile};
use crate::cpu::simd::Level;
use crate::error::OpError;
use crate::loops::program::Program;
use smallvec::SmallVec;

/// A program for row segments.
#[derive(Debug)]
pub(crate) struct Epilogue {
    compiled: Compiled,
    reaches: SmallVec<[Reach; 8]>,
    widths: SmallVec<[usize; 8]>,
}

#[allow(dead_code, reason = "the entry of products")]
impl Epilogue {
    /// `program` on inputs of which each is one element for a segment ([`Reach::One`]: a value of the row) or one
    /// for each of its elements ([`Reach::Run`]: values of the columns, or full).
    pub(crate) fn new(program: &Program, reaches: &[Reach]) -> Result<Self, OpError> {
        if reaches.len() != program.inputs().len() || reaches.contains(&Reach::Gathered) {
            return Err(OpError::internal("the inputs of an epilogue are one element or a run each"));
        }
        let compiled = Compiled::new(Level::detect(), program, reaches)?;
        let widths = program.inputs().iter().map(|d| d.bits() / 8).collect();
        Ok(Self { compiled, reaches: SmallVec::from_slice(reaches), widths })
    }

    /// Bytes of scratch memory that a thread needs, aligned to 64.
    pub(crate) fn scratch(&self) -> usize {
        self.compiled.scratch
    }

    /// Prepares a thread's scratch memory; once before its first segment.
    pub(crate) fn prepare(&self, scratch: &mut [u8]) {
        self.compiled.prepare(scratch);
    }

    /// Computes a segment of `len` elements. Inputs begin at the segment; each output has `len` elements.
    pub(crate) fn apply_tile(
        &self,
        len: usize,
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
        scratch: &mut [u8],
    ) -> Result<(), OpError> {
        let needed = |k: usize| self.widths[k] * if self.reaches[k] == Reach::One { 1 } else { len };
        let read =
            inputs.len() == self.widths.len() && inputs.iter().enumerate().all(|(k, x)| x.len() >= needed(k));
        let widths = &self.compiled.widths;
        let written =
            outputs.len() == widths.len() && outputs.iter().zip(widths).all(|(y, w)| y.len() == len * w);
        if !read || !written || scratch.len() < self.compiled.scratch {
            return Err(OpError::internal("a segment of an epilogue has another size"));
        }
        let mut windows: SmallVec<[&[u8]; 8]> = SmallVec::from_slice(inputs);
        for at in (0..len).step_by(self.compiled.tile) {
            let count = self.compiled.tile.min(len - at);
            for ((window, bytes), (reach, width)) in
                windows.iter_mut().zip(inputs).zip(self.reaches.iter().zip(&self.widths))
            {
                *window = if *reach == Reach::One { bytes } else { &bytes[at * width..] };
            }
            let mut tile = Tile {
                len: count,
                rows: Rows::ONE,
                inputs: &windows,
                outputs,
                at,
                scratch,
                gather: &|_, _, _| {},
            };
            self.compiled.run(&mut tile);
        }
        Ok(())
    }
}
