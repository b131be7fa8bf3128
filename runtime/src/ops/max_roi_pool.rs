//! # MaxRoiPool
//! The largest element of each of `pooled_shape` bins of a region `(image, x1, y1, x2, y2)`. Corners are scaled and
//! rounded, half away from zero; bin `i` of `n` over `l` cells covers `⌊i·l/n⌋ .. ⌈(i+1)·l/n⌉`, clipped to the
//! image; an empty bin is 0. Opsets 1, 22 (bfloat16).

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::number::{Real, dispatch};
use crate::cpu::tiles::{Chunks, Lanes, for_each_tile};
use crate::cpu::{CpuSite, Io, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::FLOATS;
use crate::error::OpError;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::tensor::Shape;
use crate::testing::{Case, Gen};
use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "MaxRoiPool",
    domain: "",
    since: &[1, 22],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Clone, Copy, Debug)]
struct MaxRoiPool {
    height: usize,
    width: usize,
    scale: f64,
}

fn parse(node: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let missing = || OpError::attribute("pooled_shape", "is no pair of positive numbers");
    let shape = node.sizes("pooled_shape")?.ok_or_else(missing)?;
    let [height, width] = *shape.as_slice() else { return Err(missing()) };
    if height == 0 || width == 0 {
        return Err(missing());
    }
    Ok(Arc::new(MaxRoiPool { height, width, scale: f64::from(node.float_or("spatial_scale", 1.0)?) }))
}

/// The index of an image given as a float.
fn image(value: f64, images: usize) -> Result<usize, OpError> {
    if value >= 0.0 && value < images as f64 {
        return Ok(value as usize);
    }
    Err(OpError::value(format!("image {value} of {images} is named")))
}

impl MaxRoiPool {
    /// Cells of bin `index` of `bins` over a region from `low` to `high` (in input coordinates), clipped to
    /// `extent` cells.
    fn bin(&self, (low, high): (f64, f64), (index, bins): (usize, usize), extent: usize) -> Range<usize> {
        // Rounded corners saturate far outside any image.
        let corner = |v: f64| i128::from((v * self.scale).round().clamp(-1e15, 1e15) as i64);
        let (start, end) = (corner(low), corner(high));
        let length = (end - start + 1).max(1);
        let (index, bins) = (index as i128, bins as i128);
        let from = (start + (index * length).div_euclid(bins)).clamp(0, extent as i128);
        let to = (start - (-(index + 1) * length).div_euclid(bins)).clamp(0, extent as i128);
        from as usize..to as usize
    }

    fn run<T: Real>(&self, io: &mut Io<'_, '_>, x_shape: &Shape) -> Result<(), OpError> {
        let (x, rois) = (io.input::<T>(0)?, io.input::<T>(1)?);
        let (images, channels, h, w) = (x_shape[0], x_shape[1], x_shape[2], x_shape[3]);
        let context = io.context;
        let y = io.output::<T>(0)?;
        let plane = self.height * self.width;
        let work = y.len().saturating_mul(16);
        for_each_tile(context, work, Lanes::none(), &Chunks::new(y, plane), &|tile, y, _| {
            let (roi, channel) = (tile / channels, tile % channels);
            let [image_at, x1, y1, x2, y2] = std::array::from_fn(|i| rois[roi * 5 + i].to_f64());
            let x = &x[(image(image_at, images)? * channels + channel) * h * w..][..h * w];
            for (i, y) in y.iter_mut().enumerate() {
                let rows = self.bin((y1, y2), (i / self.width, self.height), h);
                let cols = self.bin((x1, x2), (i % self.width, self.width), w);
                let cells = rows.flat_map(|r| x[r * w..][cols.clone()].iter());
                *y = cells.copied().reduce(|a, b| if b > a { b } else { a }).unwrap_or_default();
            }
            Ok(())
        })
    }
}

impl Op for MaxRoiPool {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 2)?;
        let (x, rois) = (inputs.typed(0, FLOATS)?, inputs.tensor(1)?);
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
            Some([count, five]) if five.known().is_none_or(|n| n == 5) => count.clone(),
            Some(other) => return Err(OpError::input(1, format!("has shape {other:?}"))),
        };
        let shape = vec![count, channels, Dim::Known(self.height), Dim::Known(self.width)];
        Ok(vec![TensorFact::new(x.dtype, shape).into()])
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let (op, shape) = (*self, site.input_shape(0)?);
        dispatch!(site.inputs.tensor(0)?.dtype, floats, T => Ok(Kernel::new(move |io| op.run::<T>(io, &shape))))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        families::sampled::largest(site, [self.height, self.width], self.scale)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (x, rois) = (inputs.tensor(0)?, inputs.tensor(1)?);
        let shape = [rois.shape[0], x.shape[1], self.height, self.width];
        let rois = rois.as_floats()?;
        let mut out = Vec::new();
        for flat in 0..shape.iter().product() {
            let place = RefTensor::unravel(&shape, flat);
            let roi = &rois[place[0] * 5..][..5];
            let covers = |low: f64, high: f64, bin: usize, bins: usize, cell: usize| {
                let (start, end) = ((low * self.scale).round(), (high * self.scale).round());
                let length = (end - start + 1.0).max(1.0);
                // Exact for cells of small images: whole numbers times whole numbers.
                let from = (bin as f64 * length / bins as f64 + 1e-9).floor();
                let to = ((bin + 1) as f64 * length / bins as f64 - 1e-9).ceil();
                (cell as f64) >= start + from && (cell as f64) < start + to
            };
            let mut best: Option<f64> = None;
            for r in 0..x.shape[2] {
                for c in 0..x.shape[3] {
                    if covers(roi[2], roi[4], place[2], self.height, r)
                        && covers(roi[1], roi[3], place[3], self.width, c)
                    {
                        let at = [image(roi[0], x.shape[0])?, place[1], r, c];
                        let value = x.as_floats()?[RefTensor::ravel(&x.shape, &at)];
                        best = Some(best.map_or(value, |b| b.max(value)));
                    }
                }
            }
            out.push(best.unwrap_or(0.0));
        }
        Ok(vec![RefTensor::floats(x.dtype, &shape, out).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let opset = *g.pick(&[7, 22]);
    let dtype = if opset < 22 { *g.pick(&FLOATS[..3]) } else { *g.pick(FLOATS) };
    let x = [g.size(1, 3), g.size(1, 3), g.size(1, 9), g.size(1, 9)];
    let count = g.size(0, 4);
    let mut rois = Vec::new();
    for _ in 0..count {
        rois.push(g.size(0, x[0] - 1) as f64);
        rois.extend((0..4).map(|_| g.float(-4.0, 20.0)));
    }
    let rois = RefTensor::floats(dtype, &[count, 5], rois).to_tensor();
    let rois = rois.unwrap_or_else(|_| g.tensor(dtype, &[0, 5]));
    let mut case =
        Case::new([g.tensor(dtype, &x), rois]).opset(opset).ints("pooled_shape", &[g.int(1, 4), g.int(1, 4)]);
    if g.chance(0.7) {
        case = case.float("spatial_scale", *g.pick(&[0.5, 0.25, 1.0, 0.7]));
    }
    case
}
