//! The input of a channel as planes: one for each remainder of the position over the stride that a tap has, each padded
//! so that the windows of all output positions lie inside. Position `p` of the output is element `q(p)` of a plane,
//! `q(z, y, x) = (z · H + y) · W + x` over the plane's extents, and tap `t` reads element `o(t) + q(p)` of the planes.

use crate::cpu::simd::{Lane, Level, Simd, Work};
use crate::ops::window::Span;

/// One spatial axis.
#[derive(Clone, Debug)]
struct Axis {
    span: Span,
    /// Remainders over the stride that taps have, ascending.
    phases: Vec<usize>,
    /// Extent of a plane.
    extent: usize,
}

/// How planes are made and read.
#[derive(Clone, Debug)]
pub(super) struct Planes {
    axes: [Axis; 3],
    /// Offset of each tap, in the order of the weights.
    pub(super) taps: Vec<usize>,
    /// Whether the input itself is the plane.
    pub(super) in_place: bool,
}

impl Planes {
    /// Planes for windows over at most three axes; `None` where they would have too many elements to count.
    pub(super) fn new(spatial: &[Span]) -> Option<Self> {
        let one = Span { input: 1, output: 1, kernel: 1, stride: 1, dilation: 1, begin: 0, end: 0 };
        let mut spans = [one; 3];
        let skipped = 3usize.checked_sub(spatial.len())?;
        spans[skipped..].copy_from_slice(spatial);
        let in_place =
            spans.iter().all(|s| s.kernel == 1 && s.stride == 1 && s.begin == 0 && s.output == s.input);
        if in_place {
            // One line of all positions.
            let all = spans.iter().try_fold(1usize, |n, s| n.checked_mul(s.input))?;
            spans = [one, one, Span { input: all, output: all, ..one }];
        }
        let in_place = in_place && spans[2].input >= super::tile::LEAST_IN_PLACE;
        let axes = spans.map(|span| {
            let place = |tap: usize| (tap * span.dilation % span.stride, tap * span.dilation / span.stride);
            let mut phases: Vec<usize> = (0..span.kernel).map(|tap| place(tap).0).collect();
            phases.sort_unstable();
            phases.dedup();
            let reach = (0..span.kernel).map(|tap| place(tap).1).max().unwrap_or(0);
            Axis { span, phases, extent: span.output.saturating_add(reach) }
        });
        let mut planes = Self { axes, taps: Vec::new(), in_place };
        let plane = planes.axes.iter().try_fold(1usize, |n, a| n.checked_mul(a.extent))?;
        plane.checked_mul(planes.phases())?;
        planes.taps = planes.offsets(plane);
        Some(planes)
    }

    fn offsets(&self, plane: usize) -> Vec<usize> {
        let [depth, height, width] = &self.axes;
        let tap = |axis: &Axis, tap: usize| {
            let at = tap * axis.span.dilation;
            let phase = axis.phases.iter().position(|&p| p == at % axis.span.stride).unwrap_or(0);
            (phase, at / axis.span.stride)
        };
        let mut offsets = Vec::with_capacity(depth.span.kernel * height.span.kernel * width.span.kernel);
        for (phase_z, z) in (0..depth.span.kernel).map(|t| tap(depth, t)) {
            for (phase_y, y) in (0..height.span.kernel).map(|t| tap(height, t)) {
                for (phase_x, x) in (0..width.span.kernel).map(|t| tap(width, t)) {
                    let phase = (phase_z * height.phases.len() + phase_y) * width.phases.len() + phase_x;
                    offsets.push(phase * plane + (z * height.extent + y) * width.extent + x);
                }
            }
        }
        offsets
    }

    fn phases(&self) -> usize {
        self.axes.iter().map(|a| a.phases.len()).product()
    }

    /// Elements of a channel's planes.
    pub(super) fn channel(&self) -> usize {
        self.axes.iter().fold(self.phases(), |n, a| n.saturating_mul(a.extent))
    }

    /// Elements of a channel of the input.
    pub(super) fn input(&self) -> usize {
        self.axes.iter().map(|a| a.span.input).product()
    }

    /// Output positions of a channel.
    pub(super) fn positions(&self) -> usize {
        self.axes.iter().map(|a| a.span.output).product()
    }

    /// Output positions of a line.
    pub(super) fn line(&self) -> usize {
        self.axes[2].span.output.max(1)
    }

    /// Channels of which the windows of `width` elements one behind the other are at most `bytes`, at least one.
    pub(super) fn channels_of(&self, bytes: usize, width: usize) -> usize {
        let [depth, height, width_axis] = &self.axes;
        // Each line of taps reads its own elements, and parts of two cache lines more.
        let lines = depth.span.kernel * height.span.kernel * width_axis.phases.len();
        let each = lines.saturating_mul(size_of::<f32>() * width + 128);
        (bytes / each.min(size_of::<f32>() * self.channel()).max(1)).max(1)
    }

    /// Whether tiles of `rows` filters end with the lines: where vectors of `lanes` elements throw away as little as
    /// they do between lines, and a line fills a tile of several filters; for one filter, of which storing takes as
    /// long as computing, where they throw away little more.
    pub(super) fn is_by_line(&self, lanes: usize, rows: usize) -> bool {
        let (computed, extent) = (self.line().next_multiple_of(lanes), self.axes[2].extent);
        let lines = self.axes[0].span.output * self.axes[1].span.output;
        let few = rows > 1 && self.line() <= 2 * lanes;
        lines <= 1 || (!few && 20 * computed <= if rows == 1 { 23 } else { 21 } * extent)
    }

    /// The element `q` of output position `position`.
    pub(super) fn element(&self, position: usize) -> usize {
        let [_, height, width] = &self.axes;
        let (line, x) = (position / self.line(), position % self.line());
        let outputs = height.span.output.max(1);
        ((line / outputs) * height.extent + line % outputs) * width.extent + x
    }

    /// The output position at element `q` or, where that is between lines, the next one; and how many follow one
    /// another from there, itself counted.
    pub(super) fn position(&self, q: usize) -> (usize, usize) {
        let [_, height, width] = &self.axes;
        let (mut line, mut x) = (q / width.extent, q % width.extent);
        if x >= self.line() {
            (line, x) = (line + 1, 0);
        }
        let (mut z, mut y) = (line / height.extent, line % height.extent);
        if y >= height.span.output {
            (z, y, x) = (z + 1, 0, 0);
        }
        ((z * height.span.output + y) * self.line() + x, self.line() - x)
    }

    /// Brings channel `x` of the input into its planes `to`.
    pub(super) fn fill(&self, x: &[f32], to: &mut [f32]) {
        f32::run(Level::detect(), Fill { planes: self, x, to });
    }

    #[inline(always)]
    fn fill_lines(&self, x: &[f32], to: &mut [f32]) {
        let [depth, height, width] = &self.axes;
        let inside = |axis: &Axis, phase: usize, at: usize| {
            let from = (at * axis.span.stride + phase).checked_sub(axis.span.begin)?;
            (from < axis.span.input).then_some(from)
        };
        let padded = |a: &Axis| a.span.begin > 0 || a.extent.saturating_mul(a.span.stride) > a.span.input;
        if self.axes.iter().any(padded) {
            to.fill(0.0);
        }
        let mut lines = to.chunks_exact_mut(width.extent.max(1));
        for &phase_z in &depth.phases {
            for &phase_y in &height.phases {
                for &phase_x in &width.phases {
                    // Elements of a line that come from the input.
                    let first = width.span.begin.saturating_sub(phase_x).div_ceil(width.span.stride);
                    let room = (width.span.input + width.span.begin).saturating_sub(phase_x);
                    let last = room.div_ceil(width.span.stride).min(width.extent);
                    for z in (0..depth.extent).map(|z| inside(depth, phase_z, z)) {
                        for y in (0..height.extent).map(|y| inside(height, phase_y, y)) {
                            let Some(to) = lines.next() else { return };
                            let (Some(z), Some(y), true) = (z, y, first < last) else { continue };
                            let line =
                                &x[(z * height.span.input + y) * width.span.input..][..width.span.input];
                            let line = &line[first * width.span.stride + phase_x - width.span.begin..];
                            copy(line, width.span.stride, &mut to[first..last]);
                        }
                    }
                }
            }
        }
    }

    /// Calls `line` with each line's first output position and its element.
    #[inline(always)]
    pub(super) fn lines(&self, mut line: impl FnMut(usize, usize)) {
        let [depth, height, width] = &self.axes;
        for z in 0..depth.span.output {
            for y in 0..height.span.output {
                let position = (z * height.span.output + y) * width.span.output;
                line(position, (z * height.extent + y) * width.extent);
            }
        }
    }
}

/// Every `stride`-th element.
#[inline(always)]
fn copy(from: &[f32], stride: usize, to: &mut [f32]) {
    match stride {
        1 => to.copy_from_slice(&from[..to.len()]),
        2 => {
            let (pairs, rest) = from.as_chunks::<2>();
            let (whole, last) = to.split_at_mut(to.len().min(pairs.len()));
            for (to, pair) in whole.iter_mut().zip(pairs) {
                *to = pair[0];
            }
            last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        }
        _ => to.iter_mut().zip(from.iter().step_by(stride)).for_each(|(to, from)| *to = *from),
    }
}

/// [`Planes::fill`] on an instruction set, which has instructions for elements that lie apart.
struct Fill<'s> {
    planes: &'s Planes,
    x: &'s [f32],
    to: &'s mut [f32],
}

impl Work for Fill<'_> {
    type Element = f32;
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<f32>>(self, _: S) {
        self.planes.fill_lines(self.x, self.to);
    }
}
