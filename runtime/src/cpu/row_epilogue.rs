//! A map program as the epilogue of a contraction: applied to each finished block of the result while it is in a
//! cache, in segments that stay in the first one.
//!
//! The result is seen as rows of `columns` elements: a matrix product's own rows, a convolution's channels of one image.
//! Every other operand is one element for a row or one for each column, at an offset that follows from the row. Values of
//! the program besides the first are stored in outputs of their own that lie beside the result.

use super::Io;
use super::alongside::Alongside;
use super::clamp::Clamp;
use super::gemm::MatrixMut;
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
    /// Elements of a row.
    columns: usize,
    /// Whether every operand is one element for the whole result, or lies under it element for element, so that the
    /// ends of rows do not matter.
    seamless: bool,
    /// Bytes of an element of the result.
    width: usize,
    /// Of the program's values behind the first, which are stored beside the result.
    beside: SmallVec<[usize; 2]>,
    /// What the program does, where it holds the result between two bounds and nothing else.
    clamp: Option<Clamp>,
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
                    let Some(along) = layout.along(inner) else { return Ok(None) };
                    reaches.push(if along { Reach::Run } else { Reach::One });
                    operands.push(Operand { input, width: element, layout, along });
                }
            }
        }
        let mut widths = program.outputs().iter().map(|o| o.dtype.bits() / 8);
        let (stored, beside) = (widths.next(), widths.collect());
        // A program that does not read the result takes the place of one.
        let width = if result.is_some() { width } else { stored.unwrap_or(0) };
        if stored != Some(width) {
            return Ok(None);
        }
        let seamless = operands.iter().all(|o| o.layout.along(shape) == Some(o.along));
        let columns = inner.iter().product::<usize>().max(1);
        let clamp = Clamp::of(program).filter(|_| result.is_some());
        let program = Epilogue::new(program, &reaches)?;
        let outer = outer.to_vec();
        Ok(Some(Self { program, result, operands, outer, columns, seamless, width, beside, clamp }))
    }
}

/// What is done to finished rows: a [`RowEpilogue`] with its operands, or nothing.
#[derive(Debug)]
pub(crate) struct Finish<'a> {
    epilogue: Option<&'a RowEpilogue>,
    operands: SmallVec<[&'a [u8]; 4]>,
    alongside: Option<Alongside<'a>>,
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
        Self { epilogue: None, operands: SmallVec::new(), alongside: None }
    }

    /// `epilogue`, which reads nothing but the result.
    #[cfg(test)]
    pub(crate) fn of(epilogue: &'a RowEpilogue) -> Self {
        Self { epilogue: Some(epilogue), operands: SmallVec::new(), alongside: None }
    }

    /// `epilogue`, if any, with the operands of one run. It takes the outputs beside the first that it stores.
    pub(crate) fn bind<'i: 'a>(
        epilogue: Option<&'a RowEpilogue>,
        io: &mut Io<'i, '_>,
    ) -> Result<Self, OpError> {
        let mut bound = Self::reading(epilogue, io)?;
        if let Some(epilogue) = epilogue.filter(|e| !e.beside.is_empty()) {
            bound.alongside = Some(io.take_alongside(epilogue.width, &epilogue.beside)?);
        }
        Ok(bound)
    }

    /// The same of a map whose one value is the result.
    pub(super) fn reading<'i: 'a>(
        epilogue: Option<&'a RowEpilogue>,
        io: &Io<'i, '_>,
    ) -> Result<Self, OpError> {
        let inputs = epilogue.map_or(&[][..], |e| &e.operands);
        let operands =
            inputs.iter().map(|o| Ok(io.tensor(o.input)?.bytes())).collect::<Result<_, OpError>>()?;
        Ok(Self { epilogue, operands, alongside: None })
    }

    /// The bounds, where elements are held between two and nothing else is done to them: whoever stores them may do that in
    /// the place of [`Finish::apply_block`].
    pub(crate) fn clamp(&self) -> Option<Clamp> {
        self.epilogue.and_then(|epilogue| epilogue.clamp)
    }

    /// Applies the program to a block whose first element is element `column` of row `row`, in the result's own type.
    pub(crate) fn apply_block<T: Pod>(
        &self,
        row: usize,
        column: usize,
        block: &mut MatrixMut<'_, T>,
    ) -> Result<(), OpError> {
        let Some(epilogue) = self.epilogue else { return Ok(()) };
        if block.cols() == epilogue.columns
            && let Some(values) = block.whole()
        {
            return self.apply_from(row * epilogue.columns, values);
        }
        Self::with_scratch::<T>(epilogue, |scratch| {
            (0..block.rows()).try_for_each(|i| self.line(epilogue, row + i, column, block.row(i), scratch))
        })
    }

    /// Applies the program to the elements from `start` of the whole result on.
    pub(crate) fn apply_from<T: Pod>(&self, start: usize, values: &mut [T]) -> Result<(), OpError> {
        let Some(epilogue) = self.epilogue else { return Ok(()) };
        Self::with_scratch::<T>(epilogue, |scratch| {
            let (mut row, mut column) = (start / epilogue.columns, start % epilogue.columns);
            let mut rest = values;
            while !rest.is_empty() {
                let count = if epilogue.seamless { rest.len() } else { epilogue.columns - column };
                let (line, behind) = rest.split_at_mut(count.min(rest.len()));
                self.line(epilogue, row, column, line, scratch)?;
                (row, column, rest) = (row + 1, 0, behind);
            }
            Ok(())
        })
    }

    /// Calls `body` with memory in which constants are prepared.
    fn with_scratch<T: Pod>(
        epilogue: &RowEpilogue,
        body: impl FnOnce(&mut Scratch<'_>) -> Result<(), OpError>,
    ) -> Result<(), OpError> {
        if size_of::<T>() != epilogue.width {
            return Err(OpError::internal("an epilogue of elements of another size"));
        }
        SCRATCH.with_borrow_mut(|lines| {
            let own = epilogue.program.scratch().div_ceil(64);
            let needed = own + (SEGMENT * epilogue.width).div_ceil(64);
            if lines.len() < needed {
                lines.resize(needed, Line::zeroed());
            }
            let (registers, copy) = lines.split_at_mut(own);
            let mut scratch = Scratch {
                registers: bytemuck::cast_slice_mut(registers),
                copy: bytemuck::cast_slice_mut(copy),
            };
            epilogue.program.prepare(scratch.registers);
            body(&mut scratch)
        })
    }

    /// Applies the program to elements of row `row` from column `column` on, and of the rows behind where operands
    /// are seamless.
    fn line<T: Pod>(
        &self,
        epilogue: &RowEpilogue,
        row: usize,
        column: usize,
        values: &mut [T],
        scratch: &mut Scratch<'_>,
    ) -> Result<(), OpError> {
        let RowEpilogue { program, result, operands, outer, width, .. } = epilogue;
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
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(values);
        for (piece, segment) in bytes.chunks_mut(SEGMENT * width).enumerate() {
            let copy = &mut scratch.copy[..segment.len()];
            if result.is_some() {
                copy.copy_from_slice(segment);
            }
            let copy = &*copy;
            let mut given: SmallVec<[&[u8]; 8]> = SmallVec::new();
            for (operand, start) in operands.iter().zip(&starts) {
                let skipped = if operand.along { piece * SEGMENT * operand.width } else { 0 };
                given.push(start.get(skipped..).unwrap_or(&[]));
            }
            if let Some(at) = result {
                given.insert(*at, copy);
            }
            let count = segment.len() / width;
            match &self.alongside {
                None => program.apply_tile(count, &given, &mut [segment], scratch.registers)?,
                Some(alongside) => {
                    program.apply_tile(count, &given, &mut alongside.beside(segment)?, scratch.registers)?;
                }
            }
        }
        Ok(())
    }
}

/// Memory of a thread.
struct Scratch<'s> {
    registers: &'s mut [u8],
    /// The elements as they were.
    copy: &'s mut [u8],
}
