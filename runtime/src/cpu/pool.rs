//! Pooling: every output is made from the taps of a window that lie inside the input.
//!
//! Planes `[images · channels]` of up to three spatial axes are pooled one output line at a time. Along a line
//! the taps are visited one after the other, each for all positions at which it lies inside.
//!
//! What is read may be made plane by plane ([`Around`]), by the thread that pools the plane next, and finished lines may
//! be passed through a map.

use super::blocked;
use super::contraction::scratch_of;
use super::number::{Compute, Number, is_nan};
use super::row_epilogue::{Finish, RowEpilogue};
use super::row_fill::{Filler, RowFill};
use super::tiles::{Chunks, Lanes, PARALLEL_WORK, for_each_tile};
use super::{CpuSite, Io, RunContext};
use crate::dtype::DType;
use crate::error::OpError;
use crate::ops::window::Span;
use std::sync::Arc;

/// Whether an axis counts the channels of a block, which are pooled each for itself.
fn is_of_blocks(span: &Span) -> bool {
    let of_one = span.kernel == 1 && span.stride == 1 && span.begin == 0;
    of_one && span.input == blocked::BLOCK && span.output == blocked::BLOCK
}

/// A pool with its shapes known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pool {
    /// Spans of depth, height and width.
    pub(crate) spans: [Span; 3],
}

/// What a pool makes of a window, accumulated tap by tap.
pub(crate) trait Gather<T: Number>: Sync {
    /// Accumulator of one position.
    type State: Copy + Send;
    /// Of no taps.
    fn empty(&self) -> Self::State;
    /// With element `x` at `index` of its plane.
    fn add(&self, state: Self::State, x: T, index: usize) -> Self::State;
}

/// Writes a strip of results: elements of both outputs (empty when not wanted), the states, and the plane, z, y
/// and first position.
pub(crate) type Store<'a, T, U, S> = &'a (dyn Fn(&mut [T], &mut [U], &[S], [usize; 4]) + Sync);

/// The maps around a pool.
#[derive(Clone, Debug)]
pub(crate) struct Around {
    fill: Option<Arc<RowFill>>,
    epilogue: Option<Arc<RowEpilogue>>,
}

impl Around {
    /// Those that `site` has.
    pub(crate) fn of(site: &CpuSite<'_>) -> Self {
        Self { fill: site.prologue.cloned(), epilogue: site.epilogue.cloned() }
    }

    /// Bytes of scratch memory for `threads` threads that pool planes of elements `T`.
    pub(crate) fn scratch<T>(&self, pool: &Pool, threads: usize) -> usize {
        self.fill
            .as_ref()
            .map_or(0, |_| Lanes::bytes(pool.input_plane().saturating_mul(size_of::<T>()), threads))
    }

    /// What a run reads, and what becomes of its lines.
    pub(crate) fn bind<'a, 'i: 'a, T: Number>(&'a self, io: &mut Io<'i, '_>) -> Result<Run<'a, T>, OpError> {
        let made = self.fill.as_deref().map(|fill| fill.bind(io)).transpose()?;
        let x = if made.is_some() { &[][..] } else { io.input::<T>(0)? };
        Ok(Run { x, made, finish: Finish::bind(self.epilogue.as_deref(), io)? })
    }
}

/// The operands of one run.
#[derive(Debug)]
pub(crate) struct Run<'a, T> {
    x: &'a [T],
    /// What makes planes, in the place of `x`.
    made: Option<Filler<'a>>,
    finish: Finish<'a>,
}

impl<T: Number> Run<'_, T> {
    /// A number of lines near `many` that a thread pools at a time, of planes of `lines` lines.
    fn lines(&self, many: usize, lines: usize) -> usize {
        match self.made {
            Some(_) => many.max(1).next_multiple_of(lines.max(1)),
            None => many.max(1),
        }
    }

    /// A thread's memory of `pool`, out of `scratch`.
    fn lanes<'s>(&self, pool: &Pool, scratch: &'s mut [u8]) -> Lanes<'s> {
        match self.made {
            Some(_) => Lanes::new(scratch, pool.input_plane().saturating_mul(size_of::<T>())),
            None => Lanes::none(),
        }
    }

    /// Input plane `image` of `size` elements, in `scratch` where it is made, `fresh` when it must be.
    fn plane<'p>(
        &'p self,
        image: usize,
        size: usize,
        fresh: bool,
        scratch: &'p mut [u8],
    ) -> Result<&'p [T], OpError> {
        let Some(made) = &self.made else {
            let short = || OpError::internal("a pool's input has another size than it was bound for");
            return self.x.get(image * size..).and_then(|x| x.get(..size)).ok_or_else(short);
        };
        let plane = scratch_of::<T>(scratch, size)?;
        if fresh {
            made.fill(image, plane)?;
        }
        Ok(plane)
    }
}

/// Positions of a line handled at once.
const STRIP: usize = 64;
/// Columns of a line whose largest elements are held at once.
const COLUMNS: usize = 256;

impl Pool {
    /// Over at most three spatial axes.
    pub(crate) fn new(spatial: &[Span]) -> Result<Self, OpError> {
        if spatial.len() > 3 {
            return Err(OpError::unsupported(format!("a pool over {} axes", spatial.len())));
        }
        let one = Span { input: 1, output: 1, kernel: 1, stride: 1, dilation: 1, begin: 0, end: 0 };
        let mut spans = [one; 3];
        spans[3 - spatial.len()..].copy_from_slice(spatial);
        Ok(Self { spans })
    }

    /// Elements of an input plane.
    pub(crate) fn input_plane(&self) -> usize {
        self.spans.iter().fold(1usize, |n, s| n.saturating_mul(s.input))
    }

    /// Elements of a window.
    pub(crate) fn taps(&self) -> usize {
        self.spans.iter().fold(1usize, |n, s| n.saturating_mul(s.kernel))
    }

    /// Pools what `run` reads by `gather`; `store` writes the results strip by strip.
    pub(crate) fn run<T: Number, U: Send, G: Gather<T>>(
        &self,
        context: RunContext<'_>,
        run: &Run<'_, T>,
        (out, second, scratch): (&mut [T], &mut [U], &mut [u8]),
        gather: &G,
        store: Store<'_, T, U, G::State>,
    ) -> Result<(), OpError> {
        let [depth, height, width] = self.spans;
        let (elements, lines, plane) =
            (out.len().max(second.len()), depth.output * height.output, self.input_plane());
        if elements == 0 {
            return Ok(());
        }
        let line_work = width.output.saturating_mul(self.taps()).max(1);
        let chunk = run.lines(PARALLEL_WORK / line_work, lines) * width.output;
        let pieces = (Chunks::new(out, chunk), Chunks::new(second, chunk));
        let work = elements.saturating_mul(self.taps());
        let lanes = run.lanes(self, scratch);
        for_each_tile(context, work, lanes, &pieces, &|tile, (out, second), scratch| {
            let many = out.len().max(second.len()) / width.output;
            for i in 0..many {
                let line = tile * (chunk / width.output) + i;
                let (image, z, y) = (line / lines, line % lines / height.output, line % height.output);
                let x = run.plane(image, plane, line.is_multiple_of(lines), scratch)?;
                for first in (0..width.output).step_by(STRIP) {
                    let count = STRIP.min(width.output - first);
                    let mut states = [gather.empty(); STRIP];
                    self.strip(x, gather, (z, y, first), &mut states[..count]);
                    let range = i * width.output + first..i * width.output + first + count;
                    let out = out.get_mut(range.clone()).unwrap_or_default();
                    let second = second.get_mut(range).unwrap_or_default();
                    store(out, second, &states[..count], [image, z, y, first]);
                }
            }
            run.finish.apply_from(tile * chunk, out)
        })
    }

    /// The largest taps of each window: the largest of each column of a line's windows first, then those of the columns.
    pub(crate) fn largest<T: Number>(
        &self,
        context: RunContext<'_>,
        run: &Run<'_, T>,
        (out, scratch): (&mut [T], &mut [u8]),
    ) -> Result<(), OpError> {
        let [depth, height, width] = self.spans;
        if T::DTYPE == DType::F32 && run.made.is_none() && is_of_blocks(&width) {
            let cast = |_| OpError::internal("elements of f32 that are none");
            let (x, out) = (bytemuck::try_cast_slice(run.x), bytemuck::try_cast_slice_mut(out));
            let (x, out) = (x.map_err(cast)?, out.map_err(cast)?);
            return blocked::largest(context, [depth, height], x, out, &run.finish);
        }
        let reach = (width.kernel - 1).saturating_mul(width.dilation).saturating_add(1);
        if reach > COLUMNS / 2 {
            let outputs = (out, &mut [][..], scratch);
            return self.run::<T, (), _>(context, run, outputs, &Largest, &|y, _, most, _| {
                y.copy_from_slice(most);
            });
        }
        let (lines, plane) = (depth.output * height.output, self.input_plane());
        let strip = (COLUMNS - reach) / width.stride + 1;
        let line_work = width.output.saturating_mul(height.kernel + width.kernel).max(1);
        let many = run.lines(PARALLEL_WORK / line_work, lines);
        let work = out.len().saturating_mul(height.kernel + width.kernel);
        let pieces = Chunks::new(out, many.saturating_mul(width.output));
        let lanes = run.lanes(self, scratch);
        for_each_tile(context, work, lanes, &pieces, &|tile, all, scratch| {
            for (i, out) in all.chunks_mut(width.output).enumerate() {
                let line = tile * many + i;
                let (image, z, y) = (line / lines, line % lines / height.output, line % height.output);
                let x = run.plane(image, plane, line.is_multiple_of(lines), scratch)?;
                for (index, out) in out.chunks_mut(strip).enumerate() {
                    let first = index * strip * width.stride;
                    let span = (out.len() - 1) * width.stride + reach;
                    let from = width.begin.saturating_sub(first).min(span);
                    let until = (width.input + width.begin).saturating_sub(first).clamp(from, span);
                    let mut columns = [T::lowest(); COLUMNS];
                    for tap_z in depth.taps(z) {
                        for tap_y in height.taps(y) {
                            let line = depth.index(z, tap_z) * height.input + height.index(y, tap_y);
                            let x = &x[line * width.input..][..width.input];
                            let x = x.get((first + from).saturating_sub(width.begin)..).unwrap_or_default();
                            for (most, &x) in columns[from..until].iter_mut().zip(x) {
                                *most = larger(*most, x);
                            }
                        }
                    }
                    for tap in 0..width.kernel {
                        let columns = columns[tap * width.dilation..].iter().step_by(width.stride);
                        for (y, &most) in out.iter_mut().zip(columns) {
                            *y = if tap == 0 { most } else { larger(*y, most) };
                        }
                    }
                }
            }
            run.finish.apply_from(tile * many * width.output, all)
        })
    }

    fn strip<T: Number, G: Gather<T>>(
        &self,
        x: &[T],
        gather: &G,
        (z, y, first): (usize, usize, usize),
        states: &mut [G::State],
    ) {
        let [depth, height, width] = &self.spans;
        // Only taps that some position of the strip has inside the input.
        let (low, high) = (width.taps(first + states.len() - 1).start, width.taps(first).end);
        for tap_z in depth.taps(z) {
            for tap_y in height.taps(y) {
                let line = depth.index(z, tap_z) * height.input + height.index(y, tap_y);
                for tap in low..high {
                    let inside = width.positions(tap);
                    let from = inside.start.max(first);
                    let until = inside.end.min(first + states.len());
                    if from >= until {
                        continue;
                    }
                    let base = line * width.input + width.index(from, tap);
                    let x = x[base..(line + 1) * width.input].iter().step_by(width.stride);
                    for ((i, state), &x) in states[from - first..until - first].iter_mut().enumerate().zip(x)
                    {
                        *state = gather.add(*state, x, base + i * width.stride);
                    }
                }
            }
        }
    }

    /// Taps inside the input, and inside the input with its padding, of the window at `place`.
    pub(crate) fn tap_counts(&self, place: [usize; 3]) -> (usize, usize) {
        let count = |f: &dyn Fn(&Span, usize) -> usize| {
            self.spans.iter().zip(place).map(|(s, at)| f(s, at)).product()
        };
        let padded = |s: &Span, at: usize| {
            let room = (s.input + s.begin + s.end).saturating_sub(at * s.stride);
            room.div_ceil(s.dilation).min(s.kernel)
        };
        (count(&|s, at| s.taps(at).len()), count(&padded))
    }
}

/// The sum of the taps.
#[derive(Debug)]
pub(crate) struct Sum;

impl<T: Number> Gather<T> for Sum {
    type State = T::Compute;
    fn empty(&self) -> T::Compute {
        T::Compute::zero()
    }
    fn add(&self, state: T::Compute, x: T, _: usize) -> T::Compute {
        state.add(x.load())
    }
}

/// The largest tap; NaN when there is one.
#[derive(Debug)]
pub(crate) struct Largest;

impl<T: Number> Gather<T> for Largest {
    type State = T;
    fn empty(&self) -> T {
        T::lowest()
    }
    fn add(&self, state: T, x: T, _: usize) -> T {
        larger(state, x)
    }
}

/// The larger of two; NaN when one is.
#[inline(always)]
fn larger<T: Number>(most: T, x: T) -> T {
    if x > most || is_nan(x) { x } else { most }
}

/// The largest tap and the index of the first such.
#[derive(Debug)]
pub(crate) struct LargestAt;

impl<T: Number> Gather<T> for LargestAt {
    type State = (T, usize);
    fn empty(&self) -> (T, usize) {
        (T::lowest(), usize::MAX)
    }
    fn add(&self, (most, at): (T, usize), x: T, index: usize) -> (T, usize) {
        // The first tap replaces the empty state even if it is the lowest value; a NaN stays.
        if x > most || at == usize::MAX || (is_nan(x) && !is_nan(most)) { (x, index) } else { (most, at) }
    }
}
