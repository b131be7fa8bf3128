//! A map program as the epilogue of a contraction: applied to each finished segment of a row of the result while it
//! is in the first cache.
//!
//! The result is seen as rows of `columns` elements: a matrix product's own rows, a convolution's channels of one image.
//! Every other operand is one element for a row or one for each column, at an offset that follows from the row.

use super::Io;
use super::program::{Epilogue, Layout, Reach};
use crate::error::OpError;
use crate::loops::program::Program;
use bytemuck::{Pod, Zeroable};
use smallvec::SmallVec;
use std::cell::RefCell;

/// Elements that are copied and computed at a time: a quarter of a first cache.
const SEGMENT: usize = 1024;

/// An epilogue bound to shapes.
#[derive(Debug)]
pub(crate) struct RowEpilogue {
    program: Epilogue,
    /// Which input of the program the contraction's result is, if it reads it.
    result: Option<usize>,
    /// In the order of the program's inputs, the result left out.
    operands: Vec<Operand>,
    /// Extents of the axes that rows run over.
    outer: Vec<usize>,
    /// Bytes of an element of the result.
    width: usize,
}

#[derive(Debug)]
struct Operand {
    /// Which input of the node.
    input: usize,
    width: usize,
    layout: Layout,
    along: bool,
}

/// A program's input.
#[derive(Debug)]
pub(crate) enum EpilogueInput {
    /// What the contraction made.
    Result,
    /// Input `.0` of the node, lying so under the result.
    Operand(usize, Layout),
}

impl RowEpilogue {
    /// `program` on a result of shape `shape` whose axes from `rows` on are the columns. `None` where an operand is
    /// neither still nor contiguous along the columns.
    pub(crate) fn new(
        program: &Program,
        inputs: Vec<EpilogueInput>,
        shape: &[usize],
        rows: usize,
    ) -> Result<Option<Self>, OpError> {
        let (outer, inner) = shape.split_at(rows);
        let mut reaches: SmallVec<[Reach; 8]> = SmallVec::new();
        let (mut result, mut operands) = (None, Vec::new());
        let mut width = 0;
        for (k, input) in inputs.into_iter().enumerate() {
            let element = program.inputs()[k].bits() / 8;
            match input {
                EpilogueInput::Result => {
                    reaches.push(Reach::Run);
                    (result, width) = (Some(k), element);
                }
                EpilogueInput::Operand(input, layout) => {
                    let Some(along) = along_columns(inner, &layout.strides[rows..]) else { return Ok(None) };
                    reaches.push(if along { Reach::Run } else { Reach::One });
                    operands.push(Operand { input, width: element, layout, along });
                }
            }
        }
        let stored = program.outputs().first().map(|o| o.dtype.bits() / 8);
        if stored != Some(width) {
            return Ok(None);
        }
        let program = Epilogue::new(program, &reaches)?;
        Ok(Some(Self { program, result, operands, outer: outer.to_vec(), width }))
    }
}

/// Whether an operand moves by one element from column to column (`Some(true)`), stands still (`Some(false)`), or
/// neither.
fn along_columns(extents: &[usize], strides: &[usize]) -> Option<bool> {
    let moving = extents.iter().zip(strides).filter(|(extent, _)| **extent != 1);
    if moving.clone().all(|(_, stride)| *stride == 0) {
        return Some(false);
    }
    let mut reach = 1;
    for (extent, stride) in moving.rev() {
        if *stride != reach {
            return None;
        }
        reach *= extent;
    }
    Some(true)
}

/// What is done to finished rows: a [`RowEpilogue`] with its operands, or nothing.
#[derive(Debug)]
pub(crate) struct Finish<'a> {
    epilogue: Option<&'a RowEpilogue>,
    operands: SmallVec<[&'a [u8]; 4]>,
}

#[derive(Clone, Copy, Zeroable, Pod)]
#[repr(C, align(64))]
struct Line([u8; 64]);

thread_local! {
    /// What a thread computes segments in: some 40 KiB, kept for its next ones.
    static SCRATCH: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

impl<'a> Finish<'a> {
    /// Leaves rows as they are.
    pub(crate) fn nothing() -> Self {
        Self { epilogue: None, operands: SmallVec::new() }
    }

    /// `epilogue`, if any, with the operands of one run.
    pub(crate) fn bind<'i: 'a>(epilogue: Option<&'a RowEpilogue>, io: &Io<'i, '_>) -> Result<Self, OpError> {
        let inputs = epilogue.map_or(&[][..], |e| &e.operands);
        let operands =
            inputs.iter().map(|o| Ok(io.tensor(o.input)?.bytes())).collect::<Result<_, OpError>>()?;
        Ok(Self { epilogue, operands })
    }

    /// Applies the program to `values`, elements of row `row` from column `column` on, in the result's own type.
    #[inline]
    pub(crate) fn apply<T: Pod>(&self, row: usize, column: usize, values: &mut [T]) -> Result<(), OpError> {
        let Some(RowEpilogue { program, result, operands, outer, width }) = self.epilogue else {
            return Ok(());
        };
        if size_of::<T>() != *width {
            return Err(OpError::internal("an epilogue of elements of another size"));
        }
        let mut starts: SmallVec<[&[u8]; 8]> = SmallVec::new();
        for (operand, bytes) in operands.iter().zip(&self.operands) {
            let (mut at, mut rest) = (operand.layout.offset, row);
            for (extent, stride) in outer.iter().zip(&operand.layout.strides).rev() {
                at += rest % extent * stride;
                rest /= extent;
            }
            at += if operand.along { column } else { 0 };
            starts.push(bytes.get(at * operand.width..).unwrap_or(&[]));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let own = program.scratch().div_ceil(64);
            let needed = own + (SEGMENT * width).div_ceil(64);
            if scratch.len() < needed {
                scratch.resize(needed, Line::zeroed());
            }
            let (scratch, copy) = scratch.split_at_mut(own);
            let (scratch, copy): (&mut [u8], &mut [u8]) =
                (bytemuck::cast_slice_mut(scratch), bytemuck::cast_slice_mut(copy));
            program.prepare(scratch);
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(values);
            for (piece, segment) in bytes.chunks_mut(SEGMENT * width).enumerate() {
                let copy = &mut copy[..segment.len()];
                copy.copy_from_slice(segment);
                let copy = &*copy;
                let mut given: SmallVec<[&[u8]; 8]> = SmallVec::new();
                for (operand, start) in operands.iter().zip(&starts) {
                    let skipped = if operand.along { piece * SEGMENT * operand.width } else { 0 };
                    given.push(start.get(skipped..).unwrap_or(&[]));
                }
                if let Some(at) = result {
                    given.insert(*at, copy);
                }
                program.apply_tile(segment.len() / width, &given, &mut [segment], scratch)?;
            }
            Ok(())
        })
    }
}
