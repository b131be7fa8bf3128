//! Convolution of up to three spatial axes.
//!
//! For each image and group the output `[filters, positions]` is the product of the weights
//! `[filters, channels · taps]` and the matrix of windows `[channels · taps, positions]`. The latter is the input
//! itself for windows of one tap and stride 1; otherwise a tile of it, [`PANEL_DEPTH`] rows by a block of
//! positions, is gathered into scratch memory and multiplied, tile after tile. Groups of one channel are
//! convolved directly. Accumulation in the compute type; the order depends on shapes alone.

use super::RunContext;
use super::contraction::{LARGE_BLOCK, Panel, add_product, convert_block, cut_blocks, scratch_of};
use super::gemm::{Blocks, Matrix, MatrixMut};
use super::number::{Compute, Number};
use super::row_epilogue::Finish;
use super::tiles::{Chunks, Lanes, PARALLEL_WORK, for_each_tile};
use crate::dtype::Element;
use crate::error::OpError;
use crate::ops::window::Span;
use std::ops::Range;

/// Rows of a gathered tile.
const PANEL_DEPTH: usize = 512;
/// Columns of a gathered tile: with [`PANEL_DEPTH`] rows of f32 half of a 1 MiB L2.
const PANEL_COLS: usize = 256;
/// Blocks aimed at where windows are single elements, so that a few threads share them, and the filters of one at least.
const POINTWISE_BLOCKS: usize = 8;
const LEAST_ROWS: usize = 64;

/// How the output is computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Path {
    /// The input is the matrix of windows.
    Pointwise,
    /// One input channel per group.
    Depthwise,
    /// Tiles of windows are gathered.
    Gathered,
}

/// A convolution with its shapes known.
#[derive(Clone, Debug)]
pub(crate) struct Convolution {
    pub(super) images: usize,
    pub(super) groups: usize,
    /// Input channels of a group.
    pub(super) channels: usize,
    /// Output channels of a group.
    pub(super) filters: usize,
    spans: [Span; 3],
    path: Path,
    pub(super) block: (usize, usize),
}

type C<T> = <T as Number>::Compute;

/// Writes row `k` of a matrix of windows at some positions: matrix, row, positions, values.
pub(crate) type Sample<'a, T> =
    &'a (dyn Fn(usize, usize, &Range<usize>, &mut [<T as Number>::Compute]) + Sync);

/// Where windows come from.
enum Windows<'a, T: Panel> {
    /// The input is the matrix of windows.
    Input(&'a (dyn Fn(usize) -> Result<Matrix<'a, T>, OpError> + Sync)),
    /// They are written tile by tile.
    Sampled(Sample<'a, T>),
}

#[allow(
    clippy::expl_impl_clone_on_copy,
    reason = "a derived one would ask `T: Clone` of the reference's type"
)]
impl<T: Panel> Clone for Windows<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Panel> Copy for Windows<'_, T> {}

impl Convolution {
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
        let whole = |s: &Span| s.kernel == 1 && s.stride == 1 && s.begin == 0 && s.output == s.input;
        let path = if spans.iter().all(whole) {
            Path::Pointwise
        } else if channels == 1 {
            Path::Depthwise
        } else {
            Path::Gathered
        };
        Ok(Self { images, groups, channels, filters, spans, path, block: (1, 1) }.over(path))
    }

    /// The same computed in another way.
    fn over(mut self, path: Path) -> Self {
        self.path = path;
        let positions = self.positions();
        let cols = if path == Path::Gathered { PANEL_COLS } else { 2 * PANEL_COLS };
        let most = (self.filters, positions.min(cols));
        let batch = self.images.saturating_mul(self.groups);
        self.block = match path {
            Path::Pointwise => self.cut_rows(batch),
            _ => cut_blocks(batch, most, (self.filters, positions, self.depth())),
        };
        self
    }

    /// Blocks of many positions and some filters, so that weights are brought into the product's order once for a block
    /// and not for each of many short ones.
    fn cut_rows(&self, batch: usize) -> (usize, usize) {
        let positions = self.positions().max(1);
        let parts = positions.div_ceil(2 * PANEL_COLS);
        let cols = positions.div_ceil(parts).next_multiple_of(16);
        let mut rows = self.filters.max(1);
        let count = |rows: usize| batch.saturating_mul(parts).saturating_mul(self.filters.div_ceil(rows));
        let work = |rows: usize| rows.saturating_mul(cols).saturating_mul(self.depth());
        while rows > LEAST_ROWS && (count(rows) < POINTWISE_BLOCKS || work(rows) > LARGE_BLOCK) {
            rows = (rows / 2).next_multiple_of(16);
        }
        (rows, cols)
    }

    /// The same for windows that are not read off the input as they are: see
    /// [`Convolution::run_sampled`].
    pub(crate) fn sampled(self) -> Self {
        self.over(Path::Gathered)
    }

    /// Product over the spatial axes.
    pub(super) fn product(&self, extent: impl Fn(&Span) -> usize) -> usize {
        self.spans.iter().fold(1usize, |n, s| n.saturating_mul(extent(s)))
    }

    /// Output positions of a channel.
    pub(super) fn positions(&self) -> usize {
        self.product(|s| s.output)
    }

    /// Terms of each sum.
    pub(crate) fn depth(&self) -> usize {
        self.channels.saturating_mul(self.product(|s| s.kernel))
    }

    /// Elements of the scratch parts: gathered windows, converted weights, sums.
    fn parts<T: Panel>(&self) -> [usize; 3] {
        let depth = self.depth().min(PANEL_DEPTH);
        let (rows, cols) = (self.block.0.min(self.filters), self.block.1.min(self.positions()));
        let own = T::DTYPE == C::<T>::DTYPE;
        match self.path {
            Path::Depthwise => [if own { 0 } else { self.spans[2].output }, 0, 0],
            Path::Pointwise if own => [0; 3],
            _ if own => [depth * cols, 0, 0],
            _ => [depth * cols, rows * depth, rows * cols],
        }
    }

    fn scratch_each<T: Panel>(&self) -> usize {
        self.parts::<T>().iter().sum::<usize>().saturating_mul(size_of::<C<T>>())
    }

    /// Scratch bytes for `threads` threads.
    pub(crate) fn scratch<T: Panel>(&self, threads: usize) -> usize {
        Lanes::bytes(self.scratch_each::<T>(), threads)
    }

    /// `out = x ∗ w + bias`, passed through `finish`, whose rows are the channels of all images.
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
        let work = out.len().saturating_mul(self.depth());
        let lanes = Lanes::new(scratch, self.scratch_each::<T>());
        if self.path == Path::Depthwise {
            return self.depthwise(context, (x, w, bias), (out, lanes), work, finish);
        }
        let (image, positions) = (self.channels * self.product(|s| s.input), self.positions());
        let group = |batch: usize| &x[batch * image..][..image];
        if self.path == Path::Pointwise {
            let input = |batch| Matrix::new(group(batch), (self.channels, positions), (positions, 1));
            return self.blocks(context, Windows::Input(&input), (w, bias), (out, lanes), finish);
        }
        let gather = |batch: usize, k: usize, cols: &Range<usize>, to: &mut [C<T>]| {
            self.gather(group(batch), k, cols, to, (T::widen, T::load));
        };
        self.blocks(context, Windows::Sampled(&gather), (w, bias), (out, lanes), finish)
    }

    /// `out = windows ∗ w + bias`, where `sample` writes row `k` (channel of the group, then tap) of the matrix
    /// of windows of `image · groups + group` at some positions. For a convolution made by
    /// [`Convolution::sampled`].
    pub(crate) fn run_sampled<T: Panel>(
        &self,
        context: RunContext<'_>,
        sample: Sample<'_, T>,
        (w, bias): (&[T], Option<&[T]>),
        (out, scratch): (&mut [T], &mut [u8]),
    ) -> Result<(), OpError> {
        if out.is_empty() {
            return Ok(());
        }
        let lanes = Lanes::new(scratch, self.scratch_each::<T>());
        self.blocks(context, Windows::Sampled(sample), (w, bias), (out, lanes), &Finish::nothing())
    }

    fn blocks<T: Panel>(
        &self,
        context: RunContext<'_>,
        windows: Windows<'_, T>,
        (w, bias): (&[T], Option<&[T]>),
        (out, lanes): (&mut [T], Lanes<'_>),
        finish: &Finish<'_>,
    ) -> Result<(), OpError> {
        let depth = self.depth();
        let work = out.len().saturating_mul(depth);
        let form = (self.images * self.groups, self.filters, self.positions());
        let blocks = Blocks::new(out, form, self.block)?;
        for_each_tile(context, work, lanes, &blocks, &|_, mut block, scratch| {
            let group = block.batch % self.groups;
            let w = Matrix::new(&w[group * self.filters * depth..], (self.filters, depth), (depth, 1))?
                .block(block.rows.clone(), 0..depth);
            let bias = bias.map(|b| &b[group * self.filters + block.rows.start..]);
            let parts = self.parts::<T>();
            let scratch = scratch_of::<C<T>>(scratch, parts.iter().sum())?;
            let (panel, rest) = scratch.split_at_mut(parts[0]);
            let (weights, sums) = rest.split_at_mut(parts[1]);
            let place = (block.batch, &block.cols);
            if let Some(mut out) = block.out.of_type::<C<T>>() {
                block_product(windows, w, place, (panel, weights), &mut out)?;
                add_bias(&mut out, bias);
                let row = block.batch * self.filters + block.rows.start;
                return finish.apply_block(row, block.cols.start, &mut out);
            }
            let mut sums = MatrixMut::new(sums, block.out.rows(), block.out.cols())?;
            block_product(windows, w, place, (panel, weights), &mut sums)?;
            add_bias(&mut sums, bias);
            for i in 0..sums.rows() {
                block.out.row(i).iter_mut().zip(sums.row(i)).for_each(|(y, s)| *y = T::store(*s));
            }
            Ok(())
        })
    }

    /// Row `k` of the matrix of windows at the positions `cols`.
    pub(super) fn gather<T: Copy, P: Compute>(
        &self,
        x: &[T],
        k: usize,
        cols: &Range<usize>,
        to: &mut [P],
        (widen, load): (impl Fn(&[T], &mut [P]), impl Fn(T) -> P),
    ) {
        let [depth, height, width] = &self.spans;
        let (tap, rest) = (k % width.kernel, k / width.kernel);
        let (tap_y, rest) = (rest % height.kernel, rest / height.kernel);
        let (tap_z, channel) = (rest % depth.kernel, rest / depth.kernel);
        let (inside_z, inside_y, inside) =
            (depth.positions(tap_z), height.positions(tap_y), width.positions(tap));
        let mut at = cols.start;
        while at < cols.end {
            let (line, first) = (at / width.output, at % width.output);
            let last = width.output.min(first + cols.end - at);
            let (to, z, y) = (
                &mut to[at - cols.start..at - cols.start + last - first],
                line / height.output,
                line % height.output,
            );
            at += last - first;
            let (from, until) = (inside.start.clamp(first, last), inside.end.clamp(first, last));
            if !inside_z.contains(&z) || !inside_y.contains(&y) || from >= until {
                to.fill(P::zero());
                continue;
            }
            to[..from - first].fill(P::zero());
            to[until - first..].fill(P::zero());
            let to = &mut to[from - first..until - first];
            let plane = channel * depth.input + depth.index(z, tap_z);
            let x = &x[(plane * height.input + height.index(y, tap_y)) * width.input..][..width.input];
            let x = &x[width.index(from, tap)..];
            if width.stride == 1 {
                widen(&x[..to.len()], to);
            } else {
                to.iter_mut().zip(x.iter().step_by(width.stride)).for_each(|(y, x)| *y = load(*x));
            }
        }
    }

    /// Groups of one input channel, line by line of the output.
    fn depthwise<T: Panel>(
        &self,
        context: RunContext<'_>,
        (x, w, bias): (&[T], &[T], Option<&[T]>),
        (out, lanes): (&mut [T], Lanes<'_>),
        work: usize,
        finish: &Finish<'_>,
    ) -> Result<(), OpError> {
        let [depth, height, width] = self.spans;
        let (lines, taps) = (depth.output * height.output, self.depth());
        let plane = self.product(|s| s.input);
        let filters = self.groups * self.filters;
        let many = (PARALLEL_WORK / (width.output * taps).max(1)).max(1);
        let pieces = Chunks::new(out, many * width.output);
        for_each_tile(context, work, lanes, &pieces, &|tile, out, scratch| {
            let scratch = scratch_of::<C<T>>(scratch, self.parts::<T>()[0])?;
            for (i, out) in out.chunks_mut(width.output).enumerate() {
                let line = tile * many + i;
                let (image, filter) = (line / lines / filters, line / lines % filters);
                let (z, y) = (line % lines / height.output, line % height.output);
                let x = &x[(image * self.groups + filter / self.filters) * plane..][..plane];
                let w = &w[filter * taps..][..taps];
                let bias = bias.map_or(C::<T>::zero(), |b| b[filter].load());
                if T::DTYPE == C::<T>::DTYPE {
                    let sums = bytemuck::try_cast_slice_mut(out);
                    let sums = sums.map_err(|_| OpError::internal("an output line is not aligned"))?;
                    sums.fill(bias);
                    self.depthwise_line::<T>(x, w, (z, y), sums);
                } else {
                    scratch.fill(bias);
                    self.depthwise_line::<T>(x, w, (z, y), scratch);
                    out.iter_mut().zip(&*scratch).for_each(|(y, s)| *y = T::store(*s));
                }
            }
            finish.apply_from(tile * many * width.output, out)
        })
    }

    /// Adds the taps of output line (z, y) of one channel to `sums`.
    fn depthwise_line<T: Panel>(&self, x: &[T], w: &[T], (z, y): (usize, usize), sums: &mut [C<T>]) {
        let [depth, height, width] = &self.spans;
        for tap_z in depth.taps(z) {
            for tap_y in height.taps(y) {
                let line = depth.index(z, tap_z) * height.input + height.index(y, tap_y);
                let x = &x[line * width.input..][..width.input];
                let w = &w[(tap_z * height.kernel + tap_y) * width.kernel..][..width.kernel];
                for (tap, w) in w.iter().enumerate() {
                    let inside = width.positions(tap);
                    if inside.is_empty() {
                        continue;
                    }
                    let (w, x) = (w.load(), &x[width.index(inside.start, tap)..]);
                    let sums = &mut sums[inside];
                    if width.stride == 1 {
                        sums.iter_mut().zip(x).for_each(|(s, x)| *s = s.add(w.mul(x.load())));
                    } else {
                        let x = x.iter().step_by(width.stride);
                        sums.iter_mut().zip(x).for_each(|(s, x)| *s = s.add(w.mul(x.load())));
                    }
                }
            }
        }
    }
}

/// One block of output: the rows of `w` by the positions `cols` of the matrix `batch`.
fn block_product<T: Panel>(
    windows: Windows<'_, T>,
    w: Matrix<'_, T>,
    (batch, cols): (usize, &Range<usize>),
    (panel, weights): (&mut [C<T>], &mut [C<T>]),
    out: &mut MatrixMut<'_, C<T>>,
) -> Result<(), OpError> {
    let depth = w.cols();
    let mut at = 0;
    while at < depth.max(1) {
        let many = (depth - at).min(PANEL_DEPTH);
        let w = convert_block(w.block(0..w.rows(), at..at + many), weights)?;
        let windows = match windows {
            Windows::Input(x) => convert_block(x(batch)?.block(at..at + many, cols.clone()), panel)?,
            Windows::Sampled(sample) => {
                let panel = &mut panel[..many * cols.len()];
                for (k, row) in panel.chunks_exact_mut(cols.len()).enumerate() {
                    sample(batch, at + k, cols, row);
                }
                Matrix::new(panel, (many, cols.len()), (cols.len(), 1))?
            }
        };
        add_product(out, w, windows, at > 0)?;
        at += many.max(1);
    }
    Ok(())
}

fn add_bias<T: Number>(out: &mut MatrixMut<'_, T::Compute>, bias: Option<&[T]>) {
    let Some(bias) = bias else { return };
    for (i, b) in bias.iter().enumerate().take(out.rows()) {
        let b = b.load();
        out.row(i).iter_mut().for_each(|y| *y = y.add(b));
    }
}
