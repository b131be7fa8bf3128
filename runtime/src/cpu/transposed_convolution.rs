//! Transposed convolution of up to three spatial axes: the adjoint of a convolution that reads the output.
//!
//! A task owns some output channels of one image and group. For each tile of input positions it multiplies the
//! transposed weights `[channels out · taps, channels in]` with the input `[channels in, positions]`, and adds
//! each row to the output positions that its tap reaches. The order of additions depends on shapes alone.

use super::RunContext;
use super::contraction::{Panel, add_product, convert_block, scratch_of};
use super::gemm::{Blocks, Matrix, MatrixMut};
use super::number::{Compute, Number};
use super::row_epilogue::Finish;
use super::tiles::{Lanes, for_each_tile};
use crate::dtype::Element;
use crate::error::OpError;
use crate::ops::window::Span;
use std::ops::Range;

/// Rows of a tile of products aimed at.
const TILE_ROWS: usize = 512;
/// Input positions of a tile at most.
const TILE_COLS: usize = 256;
/// Elements of a tile at most, as far as one output channel allows.
const TILE: usize = TILE_ROWS * TILE_COLS;
/// Depth of the panels that 16-bit floats are converted into.
const PANEL_DEPTH: usize = 256;

type C<T> = <T as Number>::Compute;

/// A transposed convolution with its shapes known.
#[derive(Clone, Debug)]
pub(crate) struct TransposedConvolution {
    images: usize,
    groups: usize,
    /// Input channels of a group.
    channels: usize,
    /// Output channels of a group.
    filters: usize,
    /// Spans of the convolution that reads the output: `input` is the extent of the output, `output` that of
    /// the input.
    spans: [Span; 3],
    /// Output channels of a task.
    rows: usize,
    /// Input positions of a tile.
    cols: usize,
}

impl TransposedConvolution {
    /// `groups` groups of `channels` input and `filters` output channels, over at most three spatial axes.
    pub(crate) fn new(
        images: usize,
        groups: usize,
        (channels, filters): (usize, usize),
        spatial: &[Span],
    ) -> Result<Self, OpError> {
        if spatial.len() > 3 {
            return Err(OpError::unsupported(format!("a convolution over {} axes", spatial.len())));
        }
        let one = Span { input: 1, output: 1, kernel: 1, stride: 1, dilation: 1, begin: 0, end: 0 };
        let mut spans = [one; 3];
        spans[3 - spatial.len()..].copy_from_slice(spatial);
        let product =
            |extent: &dyn Fn(&Span) -> usize| spans.iter().fold(1usize, |n, s| n.saturating_mul(extent(s)));
        let taps = product(&|s| s.kernel).max(1);
        // Enough tasks for a few threads, each with rows enough for the product to pay.
        let even = filters.div_ceil((16 / images.saturating_mul(groups).max(1)).max(1));
        let rows = even.clamp(1, (TILE_ROWS / taps).max(1));
        let cols = (TILE / rows.saturating_mul(taps)).clamp(1, TILE_COLS).min(product(&|s| s.output).max(1));
        Ok(Self { images, groups, channels, filters, spans, rows, cols })
    }

    fn product(&self, extent: impl Fn(&Span) -> usize) -> usize {
        self.spans.iter().fold(1usize, |n, s| n.saturating_mul(extent(s)))
    }

    /// Elements of the scratch parts: products, converted weights and input, sums.
    fn parts<T: Panel>(&self) -> [usize; 4] {
        let rows = self.rows.min(self.filters).saturating_mul(self.product(|s| s.kernel));
        let tile = rows.saturating_mul(self.cols);
        if T::DTYPE == C::<T>::DTYPE {
            return [tile, 0, 0, 0];
        }
        let depth = self.channels.min(PANEL_DEPTH);
        let sums = self.rows.min(self.filters).saturating_mul(self.product(|s| s.input));
        [tile, rows.saturating_mul(depth), depth.saturating_mul(self.cols), sums]
    }

    fn scratch_each<T: Panel>(&self) -> usize {
        let elements = self.parts::<T>().into_iter().fold(0usize, usize::saturating_add);
        elements.saturating_mul(size_of::<C<T>>())
    }

    /// Scratch bytes for `threads` threads.
    pub(crate) fn scratch<T: Panel>(&self, threads: usize) -> usize {
        Lanes::bytes(self.scratch_each::<T>(), threads)
    }

    /// `out` = adjoint convolution of `x` by `w`, plus `bias`, each block through `finish` when it is complete.
    pub(crate) fn run<T: Panel>(
        &self,
        context: RunContext<'_>,
        (x, w, bias): (&[T], &[T], Option<&[T]>),
        (out, scratch): (&mut [T], &mut [u8]),
        finish: &Finish<'_>,
    ) -> Result<(), OpError> {
        if out.is_empty() {
            return Ok(());
        }
        let (plane, positions) = (self.product(|s| s.input), self.product(|s| s.output));
        let taps = self.product(|s| s.kernel);
        let work = x.len().saturating_mul(self.filters).saturating_mul(taps);
        let lanes = Lanes::new(scratch, self.scratch_each::<T>());
        let form = (self.images * self.groups, self.filters, plane);
        let blocks = Blocks::new(out, form, (self.rows, plane))?;
        let parts = self.parts::<T>();
        for_each_tile(context, work, lanes, &blocks, &|_, mut block, scratch| {
            let group = block.batch % self.groups;
            let image = self.channels * positions;
            let x = &x[block.batch * image..][..image];
            let x = Matrix::new(x, (self.channels, positions), (positions, 1))?;
            // Element (filter · taps + tap, channel) of the transposed weights.
            let each = self.filters * taps;
            let w = &w[group * self.channels * each..];
            let w = Matrix::new(w, (each, self.channels), (1, each))?
                .block(block.rows.start * taps..block.rows.end * taps, 0..self.channels);
            let first = group * self.filters + block.rows.start;
            let bias = |i: usize| bias.map_or(C::<T>::zero(), |b| b[first + i].load());
            let scratch = scratch_of::<C<T>>(scratch, parts.iter().sum())?;
            let (products, rest) = scratch.split_at_mut(parts[0]);
            let (weights, rest) = rest.split_at_mut(parts[1]);
            let (inputs, sums) = rest.split_at_mut(parts[2]);
            let (rows, row) = (block.out.rows(), block.batch * self.filters + block.rows.start);
            if let Some(mut out) = block.out.of_type::<C<T>>() {
                (0..rows).for_each(|i| out.row(i).fill(bias(i)));
                self.tiles(context, (x, w), (products, weights, inputs), &mut out)?;
                return finish.apply_block(row, 0, &mut out);
            }
            let mut sums = MatrixMut::new(sums, rows, plane)?;
            (0..rows).for_each(|i| sums.row(i).fill(bias(i)));
            self.tiles(context, (x, w), (products, weights, inputs), &mut sums)?;
            for i in 0..rows {
                block.out.row(i).iter_mut().zip(sums.row(i)).for_each(|(y, s)| *y = T::store(*s));
            }
            finish.apply_block(row, 0, &mut block.out)
        })
    }

    #[allow(clippy::type_complexity, reason = "three scratch parts of one type")]
    fn tiles<T: Panel>(
        &self,
        context: RunContext<'_>,
        (x, w): (Matrix<'_, T>, Matrix<'_, T>),
        (products, weights, inputs): (&mut [C<T>], &mut [C<T>], &mut [C<T>]),
        out: &mut MatrixMut<'_, C<T>>,
    ) -> Result<(), OpError> {
        let (rows, taps) = (w.rows(), self.product(|s| s.kernel));
        for from in (0..x.cols()).step_by(self.cols) {
            context.interrupt.check()?;
            let cols = from..(from + self.cols).min(x.cols());
            let mut tile = MatrixMut::new(products, rows, cols.len())?;
            let mut at = 0;
            while at < self.channels.max(1) {
                let many = (self.channels - at).min(PANEL_DEPTH);
                let w = convert_block(w.block(0..rows, at..at + many), weights)?;
                let x = convert_block(x.block(at..at + many, cols.clone()), inputs)?;
                add_product(&mut tile, w, x, at > 0)?;
                at += many.max(1);
            }
            for row in 0..rows {
                self.scatter(tile.row(row), row % taps, &cols, out.row(row / taps));
            }
        }
        Ok(())
    }

    /// Adds the products of tap `tap` at the input positions `cols` to an output channel.
    fn scatter<P: Compute>(&self, from: &[P], tap: usize, cols: &Range<usize>, to: &mut [P]) {
        let [depth, height, width] = &self.spans;
        let (tap, rest) = (tap % width.kernel, tap / width.kernel);
        let (tap_y, tap_z) = (rest % height.kernel, rest / height.kernel);
        let (inside_z, inside_y, inside) =
            (depth.positions(tap_z), height.positions(tap_y), width.positions(tap));
        let mut at = cols.start;
        while at < cols.end {
            let (line, first) = (at / width.output, at % width.output);
            let last = width.output.min(first + cols.end - at);
            let source = &from[at - cols.start..][..last - first];
            let (z, y) = (line / height.output, line % height.output);
            at += last - first;
            let (begin, until) = (inside.start.clamp(first, last), inside.end.clamp(first, last));
            if !inside_z.contains(&z) || !inside_y.contains(&y) || begin >= until {
                continue;
            }
            let line = depth.index(z, tap_z) * height.input + height.index(y, tap_y);
            let to = &mut to[line * width.input..][..width.input][width.index(begin, tap)..];
            let source = &source[begin - first..until - first];
            if width.stride == 1 {
                to.iter_mut().zip(source).for_each(|(y, s)| *y = y.add(*s));
            } else {
                to.iter_mut().step_by(width.stride).zip(source).for_each(|(y, s)| *y = y.add(*s));
            }
        }
    }
}
