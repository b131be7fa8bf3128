//! Resampling along axes: where in the input an output element lies, and the copy of the nearest elements.

use super::RunContext;
use super::movement::{Movement, Unit, of_bits};
use super::split::{for_each_chunk, rows_per_chunk};
use super::strided_copy::span;
use crate::error::OpError;
use crate::tensor::Shape;

/// How an output coordinate becomes an input coordinate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Coordinates {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    /// Half pixels in the output only.
    HalfPixelForNearest,
    CropAndResize,
}

/// Which of two neighbours is the nearest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rounding {
    PreferFloor,
    PreferCeil,
    Floor,
    Ceil,
    /// Opset 10 and Upsample: up when an axis shrinks, down otherwise.
    ByScale,
}

/// `⌊extent · scale⌋`.
pub(crate) fn scaled(extent: usize, scale: f64) -> usize {
    if scale.fract() == 0.0 {
        extent.saturating_mul(scale as usize)
    } else {
        (extent as f32 * scale as f32) as usize
    }
}

/// The tables of an axis grow with its extent, so an axis is bounded before memory is asked for.
const MOST_EXTENT: usize = 1 << 22;

/// What an axis is resized by.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Factor {
    Scale(f64),
    Size(usize),
    /// A size under a policy.
    Ratio(f64),
}

/// One axis: its extents and where the output lies in the input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct AxisScale {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) scale: f64,
    /// The output's extent before it was rounded.
    pub(crate) width: f64,
    /// The part of the input that is cropped.
    pub(crate) crop: [f64; 2],
}

impl AxisScale {
    /// An axis of `from` elements, resized by `factor` or, where it is cropped, from a part of it.
    pub(crate) fn new(from: usize, factor: Factor, crop: [f64; 2]) -> Result<Self, OpError> {
        let n = from as f64;
        let (to, scale, width) = match factor {
            Factor::Scale(scale) if crop == [0.0, 1.0] => (scaled(from, scale), scale, scale * n),
            Factor::Scale(scale) => ((n * (crop[1] - crop[0]) * scale).max(0.0) as usize, scale, scale * n),
            Factor::Size(size) => (size, size as f64 / n, size as f64),
            Factor::Ratio(scale) => ((scale * n + 0.5) as usize, scale, scale * n),
        };
        if to > MOST_EXTENT && to != from {
            return Err(OpError::unsupported(format!("an axis of {to} elements")));
        }
        if from == 0 && to > 0 {
            return Err(OpError::shape(format!("an empty axis cannot become one of {to}")));
        }
        Ok(Self { from, to, scale, width, crop })
    }

    /// An axis that stays as it is.
    pub(crate) fn whole(extent: usize) -> Self {
        Self { from: extent, to: extent, scale: 1.0, width: extent as f64, crop: [0.0, 1.0] }
    }

    pub(super) fn is_whole(&self) -> bool {
        *self == Self::whole(self.from)
    }

    /// The input coordinate of output coordinate `j`.
    pub(super) fn source(&self, j: usize, coordinates: Coordinates) -> f64 {
        let (x, last) = (j as f64, self.from as f64 - 1.0);
        let [start, end] = self.crop;
        let half_pixel = (x + 0.5) / self.scale - 0.5;
        match coordinates {
            Coordinates::PytorchHalfPixel if self.to <= 1 => 0.0,
            Coordinates::HalfPixel | Coordinates::PytorchHalfPixel => half_pixel,
            Coordinates::HalfPixelSymmetric => {
                let adjustment = self.to as f64 / self.width;
                self.from as f64 / 2.0 * (1.0 - adjustment) + half_pixel
            }
            Coordinates::AlignCorners if j == 0 || self.width == 1.0 => 0.0,
            Coordinates::AlignCorners => x * last / (self.width - 1.0),
            Coordinates::Asymmetric => x / self.scale,
            Coordinates::HalfPixelForNearest => (x + 0.5) / self.scale,
            Coordinates::CropAndResize if self.to > 1 => {
                start * last + x * (end - start) * last / (self.to as f64 - 1.0)
            }
            Coordinates::CropAndResize => 0.5 * (start + end) * last,
        }
    }

    pub(super) fn lies_outside(&self, source: f64, coordinates: Coordinates) -> bool {
        coordinates == Coordinates::CropAndResize && !(source >= 0.0 && source <= self.from as f64 - 1.0)
    }

    pub(super) fn clamp(&self, at: f64) -> usize {
        (at.max(0.0) as usize).min(self.from.saturating_sub(1))
    }
}

/// Every output element is one input element.
#[derive(Debug)]
pub(crate) struct NearestCopy {
    /// Source of each output coordinate on each axis up to the last resized one, with the input's stride;
    /// none is the constant.
    maps: Vec<(Vec<Option<usize>>, usize)>,
    /// Elements that move as one.
    inner: usize,
    from: usize,
    constant: u64,
}

impl NearestCopy {
    /// A copy along `axes`; `constant` holds the bits of what lies outside a crop.
    pub(crate) fn new(
        axes: &[AxisScale],
        coordinates: Coordinates,
        rounding: Rounding,
        constant: u64,
    ) -> Self {
        let extents: Shape = axes.iter().map(|a| a.from).collect();
        let resized = axes.iter().rposition(|a| !a.is_whole()).map_or(0, |last| last + 1);
        let map = |axis: &AxisScale| {
            let one = |j| {
                let x = axis.source(j, coordinates);
                if axis.lies_outside(x, coordinates) {
                    return None;
                }
                let (floor, ratio) = (x.floor(), x - x.floor());
                let up = match rounding {
                    Rounding::PreferFloor => ratio > 0.5,
                    Rounding::PreferCeil => ratio >= 0.5,
                    Rounding::Floor => false,
                    Rounding::Ceil => ratio > 0.0,
                    Rounding::ByScale => axis.scale < 1.0 && ratio > 0.0,
                };
                Some(axis.clamp(floor + f64::from(u8::from(up))))
            };
            if axis.is_whole() { (0..axis.to).map(Some).collect() } else { (0..axis.to).map(one).collect() }
        };
        let maps = (0..resized).map(|a| (map(&axes[a]), span(&extents[a + 1..]))).collect();
        Self { maps, inner: span(&extents[resized..]), from: span(&extents), constant }
    }
}

impl NearestCopy {
    /// The source of each output coordinate along each axis up to the last resized one with the input's stride, the
    /// elements that move as one, and the bits of what lies outside.
    pub(crate) fn parts(&self) -> (&[(Vec<Option<usize>>, usize)], usize, u64) {
        (&self.maps, self.inner, self.constant)
    }
}

impl Movement for NearestCopy {
    fn run<T: Unit>(&self, context: RunContext<'_>, from: &[&[T]], to: &mut [T]) -> Result<(), OpError> {
        let from = from.first().copied().unwrap_or_default();
        if to.is_empty() {
            return Ok(());
        }
        if from.len() != self.from {
            return Err(OpError::internal("a resampling of another size than prepared for"));
        }
        let Some(((last, stride), outer)) = self.maps.split_last() else {
            to.clone_from_slice(from);
            return Ok(());
        };
        let (constant, inner) = (of_bits::<T>(self.constant), self.inner);
        let row = last.len() * inner;
        let per = rows_per_chunk(to.len() / row, row, context.team.threads());
        for_each_chunk(context, to, per * row, |chunk, piece| {
            for (i, row) in piece.chunks_exact_mut(row).enumerate() {
                let mut rest = chunk * per + i;
                let mut start = Some(0);
                for (map, stride) in outer.iter().rev() {
                    start = start.zip(map[rest % map.len()]).map(|(s, m)| s + m * stride);
                    rest /= map.len();
                }
                for (run, source) in row.chunks_exact_mut(inner).zip(last) {
                    match (start.zip(*source), run) {
                        (None, run) => run.fill(constant.clone()),
                        (Some((s, m)), [value]) => *value = from[s + m * stride].clone(),
                        (Some((s, m)), run) => run.clone_from_slice(&from[s + m * stride..][..inner]),
                    }
                }
            }
        })
    }
}
