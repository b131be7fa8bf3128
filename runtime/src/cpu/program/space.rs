//! The output space of a map, and how inputs lie under it.
//!
//! Axes of extent 1 are dropped and neighbours that every input walks through without a jump are merged. What is left
//! has an innermost axis; where that is long, tiles stay inside it, and an input that stands still along it is one
//! element for the tile. Where it is short, tiles are ranges of positions that cross it, and inputs that do not lie
//! in order are collected.

use super::compiled::Reach;
use crate::error::OpError;
use smallvec::SmallVec;
use std::ops::Range;

/// How one input lies under the output: the element at the output's first position, and by how many elements a step
/// along each output axis moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// First element.
    pub(crate) offset: usize,
    /// One for each axis of the output; 0 where the input is broadcast.
    pub(crate) strides: SmallVec<[usize; 6]>,
}

impl Layout {
    /// A contiguous tensor of shape `input` that broadcasts to `output`.
    pub(crate) fn broadcast(output: &[usize], input: &[usize]) -> Result<Self, OpError> {
        let misfit = || OpError::internal(format!("{input:?} does not broadcast to {output:?}"));
        // Axes of extent 1 that the output does not have add nothing.
        let surplus = input.len().saturating_sub(output.len());
        let (none, input) = input.split_at(surplus);
        if none.iter().any(|&extent| extent != 1) {
            return Err(misfit());
        }
        let lead = output.len() - input.len();
        let mut strides = SmallVec::from_elem(0, output.len());
        let mut reach = 1usize;
        for (i, &extent) in input.iter().enumerate().rev() {
            if extent != 1 {
                if extent != output[lead + i] {
                    return Err(misfit());
                }
                strides[lead + i] = reach;
                reach = reach.checked_mul(extent).ok_or_else(misfit)?;
            }
        }
        Ok(Self { offset: 0, strides })
    }

    /// A row-major tensor of shape `shape`. Beside an extent of 0 strides saturate and are never walked.
    pub(crate) fn dense(shape: &[usize]) -> Self {
        let mut strides: SmallVec<[usize; 6]> = SmallVec::from_elem(0, shape.len());
        let mut step = 1usize;
        for (stride, &extent) in strides.iter_mut().zip(shape).rev() {
            *stride = step;
            step = step.saturating_mul(extent);
        }
        Self { offset: 0, strides }
    }

    /// Whether, along the last axes, whose extents are given, the input moves by one element from position to position
    /// (`Some(true)`), stands still (`Some(false)`), or neither.
    pub(crate) fn along(&self, extents: &[usize]) -> Option<bool> {
        Self::in_order(extents, &self.strides[self.strides.len().checked_sub(extents.len())?..])
    }

    /// The same where the input may move by one element from run of positions to run, and how long runs are.
    pub(crate) fn in_runs(&self, extents: &[usize]) -> Option<(bool, usize)> {
        let strides = &self.strides[self.strides.len().checked_sub(extents.len())?..];
        let still =
            extents.iter().zip(strides).rev().take_while(|(extent, step)| **extent == 1 || **step == 0);
        let (moving, run) = extents.split_at(extents.len() - still.count());
        let along = Self::in_order(moving, &strides[..moving.len()])?;
        let run = if along { run.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent))? } else { 1 };
        Some((along, run))
    }

    /// The same along the axes `axes` of a space of these extents.
    pub(crate) fn along_only(&self, extents: &[usize], axes: &Range<usize>) -> Option<bool> {
        Self::in_order(extents.get(axes.clone())?, self.strides.get(axes.clone())?)
    }

    fn in_order(extents: &[usize], strides: &[usize]) -> Option<bool> {
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
}

/// The axes that are left, and what is known of the inputs.
#[derive(Debug)]
pub(super) struct Space {
    /// Positions.
    pub(super) len: usize,
    /// Extent of the innermost axis.
    pub(super) inner: usize,
    /// Elements by which each input moves along it.
    pub(super) steps: SmallVec<[usize; 8]>,
    /// The other axes, innermost first: extent and strides.
    outer: Vec<(usize, SmallVec<[usize; 8]>)>,
    offsets: SmallVec<[usize; 8]>,
    /// Elements that each input must have.
    pub(super) needed: SmallVec<[usize; 8]>,
    /// Whether tiles stay inside the innermost axis.
    pub(super) by_row: bool,
}

/// An innermost axis of fewer elements is crossed by tiles.
const LONG: usize = 64;

impl Space {
    pub(super) fn new(output: &[usize], layouts: &[Layout]) -> Result<Self, OpError> {
        let overflow = || OpError::internal("a space beyond all memory");
        if layouts.iter().any(|l| l.strides.len() != output.len()) {
            return Err(OpError::internal("a layout of another rank than the output"));
        }
        let len = output.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(overflow)?;
        let mut needed = SmallVec::new();
        for layout in layouts {
            let last =
                output.iter().zip(&layout.strides).try_fold(layout.offset, |at, (&extent, &stride)| {
                    at.checked_add(extent.saturating_sub(1).checked_mul(stride)?)
                });
            let most = last.and_then(|at| at.checked_add(1)).ok_or_else(overflow)?;
            needed.push(if len == 0 { 0 } else { most });
        }
        let mut axes: Vec<(usize, SmallVec<[usize; 8]>)> = Vec::new();
        for (axis, &extent) in output.iter().enumerate().rev() {
            if extent == 1 {
                continue;
            }
            let strides: SmallVec<[usize; 8]> = layouts.iter().map(|l| l.strides[axis]).collect();
            match axes.last_mut() {
                Some((inner, steps))
                    if strides.iter().zip(&*steps).all(|(&s, &t)| t.checked_mul(*inner) == Some(s)) =>
                {
                    *inner *= extent;
                }
                _ => axes.push((extent, strides)),
            }
        }
        let (inner, steps) =
            if axes.is_empty() { (1, SmallVec::from_elem(0, layouts.len())) } else { axes.remove(0) };
        let by_row = axes.is_empty() || inner >= LONG;
        let offsets = layouts.iter().map(|l| l.offset).collect();
        Ok(Self { len, inner, steps, outer: axes, offsets, needed, by_row })
    }

    /// How input `k` is read in a tile.
    pub(super) fn reach(&self, k: usize) -> Reach {
        let still = self.outer.iter().all(|(_, strides)| strides[k] == 0);
        match (self.by_row, self.steps[k]) {
            (true, 0) => Reach::One,
            (true, 1) => Reach::Run,
            (false, 0) if still => Reach::One,
            (false, 1) if self.is_in_order(k) => Reach::Run,
            _ => Reach::Gathered,
        }
    }

    /// Whether input `k` lies in the order of positions.
    fn is_in_order(&self, k: usize) -> bool {
        let mut reach = self.inner;
        self.outer.iter().all(|(extent, strides)| {
            let fits = strides[k] == reach;
            reach = reach.saturating_mul(*extent);
            fits
        })
    }

    /// The element of each input at `position`.
    pub(super) fn locate(&self, position: usize, elements: &mut [usize]) {
        let (along, mut rest) = (position % self.inner, position / self.inner);
        for ((element, offset), step) in elements.iter_mut().zip(&self.offsets).zip(&self.steps) {
            *element = offset + along * step;
        }
        for (extent, strides) in &self.outer {
            let i = rest % extent;
            rest /= extent;
            for (element, stride) in elements.iter_mut().zip(strides) {
                *element += i * stride;
            }
        }
    }

    /// Collects the elements, `width` bytes wide, of input `k` for the positions from `start` on.
    pub(super) fn gather(&self, k: usize, start: usize, width: usize, from: &[u8], to: &mut [u8]) {
        match width {
            1 => self.collect::<u8>(k, start, from, to),
            2 => self.collect::<u16>(k, start, from, to),
            4 => self.collect::<u32>(k, start, from, to),
            _ => self.collect::<u64>(k, start, from, to),
        }
    }

    fn collect<T: bytemuck::Pod>(&self, k: usize, start: usize, from: &[u8], to: &mut [u8]) {
        let (from, to): (&[T], &mut [T]) = (bytemuck::cast_slice(from), bytemuck::cast_slice_mut(to));
        let step = self.steps[k];
        let (mut along, mut rest) = (start % self.inner, start / self.inner);
        let mut index: SmallVec<[usize; 6]> = SmallVec::new();
        let mut base = self.offsets[k];
        for (extent, strides) in &self.outer {
            index.push(rest % extent);
            base += rest % extent * strides[k];
            rest /= extent;
        }
        let mut done = 0;
        while done < to.len() {
            let count = (self.inner - along).min(to.len() - done);
            let (run, first) = (&mut to[done..done + count], base + along * step);
            match step {
                0 => run.fill(from[first]),
                1 => run.copy_from_slice(&from[first..first + count]),
                _ => run.iter_mut().zip(from[first..].iter().step_by(step)).for_each(|(y, x)| *y = *x),
            }
            (done, along) = (done + count, 0);
            for (i, (extent, strides)) in index.iter_mut().zip(&self.outer) {
                *i += 1;
                base += strides[k];
                if *i < *extent {
                    break;
                }
                base -= extent * strides[k];
                *i = 0;
            }
        }
    }
}
