//! # RoiAlign
//! Pools regions `(x1, y1, x2, y2)` of images: each of `output_height × output_width` bins is sampled on a regular
//! grid, by linear interpolation between the four nearest cells, and averaged. Mode `max` takes the largest
//! weighted cell of any sample instead, as the reference implementation does. A sample further than one cell
//! outside the image is 0. Opsets 10 (no half-pixel shift), 16 (`coordinate_transformation_mode`), 22 (bfloat16).
//! Coordinates and sums in f64.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::number::{Real, dispatch};
use crate::cpu::tiles::{Chunks, Lanes, for_each_tile};
use crate::cpu::{CpuSite, Io, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::{DType, FLOATS};
use crate::error::OpError;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::tensor::{Shape, Tensor};
use crate::testing::{Case, Gen};
use recurve_kernels::roi_align::Align;
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "RoiAlign",
    domain: "",
    since: &[10, 16, 22],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

/// Samples along one side of a bin at most: more than any feature map has cells.
const MOST_SAMPLES: f64 = 65536.0;

#[derive(Clone, Copy, Debug)]
struct RoiAlign {
    height: usize,
    width: usize,
    /// Samples along each side of a bin; 0 for as many as it has cells.
    samples: usize,
    scale: f64,
    half_pixel: bool,
    largest: bool,
}

fn parse(node: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let positive = |name: &str, least: i64, default| {
        let value = node.int_or(name, default)?;
        let fits = usize::try_from(value).ok().filter(|_| value >= least);
        fits.ok_or_else(|| OpError::attribute(name, format!("is {value}")))
    };
    let half_pixel = if node.opset < 16 {
        false
    } else {
        match node.string("coordinate_transformation_mode")?.as_deref() {
            None | Some("half_pixel") => true,
            Some("output_half_pixel") => false,
            Some(other) => {
                return Err(OpError::attribute("coordinate_transformation_mode", format!("is `{other}`")));
            }
        }
    };
    let largest = match node.string("mode")?.as_deref() {
        None | Some("avg") => false,
        Some("max") => true,
        Some(other) => return Err(OpError::attribute("mode", format!("is `{other}`"))),
    };
    Ok(Arc::new(RoiAlign {
        height: positive("output_height", 1, 1)?,
        width: positive("output_width", 1, 1)?,
        samples: positive("sampling_ratio", 0, 0)?,
        scale: f64::from(node.float_or("spatial_scale", 1.0)?),
        half_pixel,
        largest,
    }))
}

/// A region along one axis: where it starts, how long a bin is, and how many samples a bin has.
#[derive(Clone, Copy, Debug)]
struct Side {
    start: f64,
    bin: f64,
    samples: usize,
}

/// Two neighbouring cells and the weight of each; the same twice at the last one.
#[derive(Clone, Copy, Debug)]
struct Between {
    cells: [usize; 2],
    weights: [f64; 2],
}

/// The cells around coordinate `at` of `extent` cells, or `None` further than one cell outside.
fn between(at: f64, extent: usize) -> Option<Between> {
    // Written so that NaN is outside.
    if !(at >= -1.0 && at <= extent as f64) || extent == 0 {
        return None;
    }
    let at = at.max(0.0);
    let low = (at as usize).min(extent - 1);
    let high = (low + 1).min(extent - 1);
    let part = if low == extent - 1 { 0.0 } else { at - low as f64 };
    Some(Between { cells: [low, high], weights: [1.0 - part, part] })
}

impl RoiAlign {
    fn side(&self, (low, high): (f64, f64), bins: usize) -> Result<Side, OpError> {
        let shift = if self.half_pixel { 0.5 } else { 0.0 };
        let start = low * self.scale - shift;
        let mut length = high * self.scale - shift - start;
        if !self.half_pixel {
            length = length.max(1.0);
        }
        let bin = length / bins as f64;
        let samples = if self.samples > 0 { self.samples as f64 } else { bin.ceil() };
        if samples > MOST_SAMPLES {
            return Err(OpError::value(format!("a region asks for {samples} samples per bin")));
        }
        // A region of negative extent has none.
        Ok(Side { start, bin, samples: samples.max(0.0) as usize })
    }

    fn run<T: Real>(&self, io: &mut Io<'_, '_>, x_shape: &Shape) -> Result<(), OpError> {
        let (x, rois, images) = (io.input::<T>(0)?, io.input::<T>(1)?, io.input::<i64>(2)?);
        let (count, channels, h, w) = (x_shape[0], x_shape[1], x_shape[2], x_shape[3]);
        let context = io.context;
        let y = io.output::<T>(0)?;
        let work = y.len().saturating_mul(64);
        let plane = self.height * self.width;
        for_each_tile(context, work, Lanes::none(), &Chunks::new(y, plane), &|tile, y, _| {
            let (roi, channel) = (tile / channels, tile % channels);
            let image = usize::try_from(images[roi]).ok().filter(|&i| i < count);
            let image =
                image.ok_or_else(|| OpError::value(format!("image {} of {count} is named", images[roi])))?;
            let [x1, y1, x2, y2] = std::array::from_fn(|i| rois[roi * 4 + i].to_f64());
            let (down, across) = (self.side((y1, y2), self.height)?, self.side((x1, x2), self.width)?);
            let x = &x[(image * channels + channel) * h * w..][..h * w];
            for (i, y) in y.iter_mut().enumerate() {
                let (row, col) = (i / self.width, i % self.width);
                let at = |side: Side, bin: usize, sample: usize| {
                    side.start + (bin as f64 + (sample as f64 + 0.5) / side.samples as f64) * side.bin
                };
                let (mut sum, mut most) = (0.0, f64::NEG_INFINITY);
                for r in 0..down.samples {
                    context.interrupt.check()?;
                    let rows = between(at(down, row, r), h);
                    for c in 0..across.samples {
                        let Some((rows, cols)) = rows.zip(between(at(across, col, c), w)) else {
                            most = most.max(0.0);
                            continue;
                        };
                        for (r, v) in rows.cells.into_iter().zip(rows.weights) {
                            for (c, u) in cols.cells.into_iter().zip(cols.weights) {
                                let term = v * u * x[r * w + c].to_f64();
                                sum += term;
                                most = most.max(term);
                            }
                        }
                    }
                }
                let samples = down.samples * across.samples;
                *y = T::from_f64(match (samples, self.largest) {
                    (0, _) => 0.0,
                    (_, true) => most,
                    (n, false) => sum / n as f64,
                });
            }
            Ok(())
        })
    }
}

impl Op for RoiAlign {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(3, 3)?;
        let (x, rois, images) =
            (inputs.typed(0, FLOATS)?, inputs.tensor(1)?, inputs.typed(2, &[DType::I64])?);
        if rois.dtype != x.dtype {
            return Err(OpError::DType { index: 1, got: rois.dtype });
        }
        let channels = match x.shape.as_deref() {
            None => Dim::Unknown,
            Some([_, channels, _, _]) => channels.clone(),
            Some(other) => return Err(OpError::input(0, format!("has rank {}", other.len()))),
        };
        let count = match rois.shape.as_deref() {
            None => Dim::Unknown,
            Some([count, four]) if four.known().is_none_or(|n| n == 4) => count.clone(),
            Some(other) => return Err(OpError::input(1, format!("has shape {other:?}"))),
        };
        match images.shape.as_deref() {
            None => {}
            Some([n]) if n.known().zip(count.known()).is_none_or(|(a, b)| a == b) => {}
            Some(other) => return Err(OpError::input(2, format!("has shape {other:?}"))),
        }
        let shape = vec![count, channels, Dim::Known(self.height), Dim::Known(self.width)];
        Ok(vec![TensorFact::new(x.dtype, shape).into()])
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let (op, shape) = (*self, site.input_shape(0)?);
        dispatch!(site.inputs.tensor(0)?.dtype, floats, T => Ok(Kernel::new(move |io| op.run::<T>(io, &shape))))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let align = Align {
            regions: families::sampled::frame(site, [self.height, self.width], self.scale)?,
            samples: families::extent(self.samples)?,
            half_pixel: self.half_pixel,
            largest: self.largest,
        };
        families::sampled::regions(site, align)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (x, rois) = (inputs.tensor(0)?, inputs.tensor(1)?);
        let images = inputs.tensor(2)?.to_i64s()?;
        let shape = [rois.shape[0], x.shape[1], self.height, self.width];
        let (height, width) = (x.shape[2] as f64, x.shape[3] as f64);
        let (rois, data) = (rois.as_floats()?, x.as_floats()?);
        let mut out = Vec::new();
        for flat in 0..shape.iter().product() {
            let place = RefTensor::unravel(&shape, flat);
            let shift = if self.half_pixel { 0.5 } else { 0.0 };
            let corner = |i: usize| rois[place[0] * 4 + i] * self.scale - shift;
            let (left, top) = (corner(0), corner(1));
            let (mut wide, mut high) = (corner(2) - left, corner(3) - top);
            if !self.half_pixel {
                (wide, high) = (wide.max(1.0), high.max(1.0));
            }
            let (bin_h, bin_w) = (high / self.height as f64, wide / self.width as f64);
            let grid = |bin: f64| if self.samples > 0 { self.samples } else { bin.ceil().max(0.0) as usize };
            let (grid_h, grid_w) = (grid(bin_h), grid(bin_w));
            let mut terms = Vec::new();
            for r in 0..grid_h {
                for c in 0..grid_w {
                    let y = top + (place[2] as f64 + (r as f64 + 0.5) / grid_h as f64) * bin_h;
                    let x_at = left + (place[3] as f64 + (c as f64 + 0.5) / grid_w as f64) * bin_w;
                    if y < -1.0 || y > height || x_at < -1.0 || x_at > width {
                        terms.push(0.0);
                        continue;
                    }
                    let (y, x_at) = (y.clamp(0.0, height - 1.0), x_at.clamp(0.0, width - 1.0));
                    for (dy, dx) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                        let near = |at: f64, upper: i32| {
                            let part = at - at.floor();
                            if upper == 1 { part } else { 1.0 - part }
                        };
                        let row = (y.floor() as usize + dy as usize).min(x.shape[2] - 1);
                        let col = (x_at.floor() as usize + dx as usize).min(x.shape[3] - 1);
                        let at = [images[place[0]] as usize, place[1], row, col];
                        terms.push(near(y, dy) * near(x_at, dx) * data[RefTensor::ravel(&x.shape, &at)]);
                    }
                }
            }
            let samples = grid_h * grid_w;
            out.push(if samples == 0 {
                0.0
            } else if self.largest {
                terms.iter().copied().fold(f64::NEG_INFINITY, f64::max)
            } else {
                terms.iter().sum::<f64>() / samples as f64
            });
        }
        Ok(vec![RefTensor::floats(x.dtype, &shape, out).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let opset = *g.pick(&[10, 16, 22]);
    let dtype = if opset < 22 { *g.pick(&FLOATS[..3]) } else { *g.pick(FLOATS) };
    let x = [g.size(1, 3), g.size(1, 3), g.size(1, 9), g.size(1, 9)];
    let count = g.size(0, 4);
    let mut rois = Vec::new();
    for _ in 0..count {
        let (left, top) = (g.float(-3.0, 8.0), g.float(-3.0, 8.0));
        rois.extend([left, top, left + g.float(0.0, 12.0), top + g.float(0.0, 12.0)]);
    }
    let rois = RefTensor::floats(dtype, &[count, 4], rois).to_tensor();
    let rois = rois.unwrap_or_else(|_| g.tensor(dtype, &[0, 4]));
    let images = (0..count).map(|_| g.int(0, x[0] as i64 - 1)).collect();
    let images = Tensor::new(&[count], images).unwrap_or_else(|_| Tensor::scalar(0i64));
    let mut case = Case::new([g.tensor(dtype, &x), rois, images])
        .opset(opset)
        .int("output_height", g.int(1, 4))
        .int("output_width", g.int(1, 4));
    if g.chance(0.6) {
        case = case.int("sampling_ratio", g.int(0, 3));
    }
    if g.chance(0.6) {
        case = case.float("spatial_scale", *g.pick(&[0.5, 0.25, 1.0, 0.7]));
    }
    if g.chance(0.6) {
        case = case.string("mode", if g.chance(0.5) { "avg" } else { "max" });
    }
    if opset >= 16 && g.chance(0.6) {
        let mode = if g.chance(0.5) { "half_pixel" } else { "output_half_pixel" };
        case = case.string("coordinate_transformation_mode", mode);
    }
    case
}
