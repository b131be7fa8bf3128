//! # Col2Im
//! Columns of sliding blocks added up to the image that they were taken from: `[N, C·Πb, L]` to `[N, C, image…]`. The
//! element of block offset `k` in column `l` goes to `l·stride + k·dilation − pad` on every axis. Each pixel gathers
//! its terms in the order of the offsets, in the compute type. Opset 18.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::number::{Compute, Number, dispatch};
use crate::cpu::split::{for_each_chunk, rows_per_chunk};
use crate::cpu::strided_copy::{dense_strides, span};
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::{DType, NUMBERS};
use crate::error::OpError;
use crate::graph::dim::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::reference::{RefData, RefInputs, RefTensor, RefValue, wrap};
use crate::tensor::Tensor;
use crate::testing::{Case, Gen};
use recurve_kernels::col2im;
use smallvec::SmallVec;
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Col2Im",
    domain: "",
    since: &[18],
    until: None,
    dtypes: NUMBERS,
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

#[derive(Debug)]
struct Col2Im {
    strides: Option<Vec<usize>>,
    dilations: Option<Vec<usize>>,
    pads: Option<Vec<usize>>,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let positive = |name: &str| match spec.sizes(name)? {
        Some(v) if v.contains(&0) => Err(OpError::attribute(name, "holds 0")),
        v => Ok(v),
    };
    let (strides, dilations) = (positive("strides")?, positive("dilations")?);
    Ok(Arc::new(Col2Im { strides, dilations, pads: spec.sizes("pads")? }))
}

/// One axis of the image.
#[derive(Clone, Copy, Debug)]
struct Axis {
    image: usize,
    block: usize,
    stride: usize,
    dilation: usize,
    pad: usize,
    /// Places of the block along the axis.
    places: usize,
    /// Distance of neighbouring block offsets and places in the columns.
    steps: [usize; 2],
}

impl Col2Im {
    fn axes(&self, image: &[usize], block: &[usize]) -> Result<Vec<Axis>, OpError> {
        let rank = image.len();
        let fits = |v: &Option<Vec<usize>>, n: usize| v.as_ref().is_none_or(|v| v.len() == n);
        let listed = fits(&self.strides, rank) && fits(&self.dilations, rank) && fits(&self.pads, 2 * rank);
        if !listed || block.len() != rank || block.contains(&0) {
            return Err(OpError::value(format!("block {block:?} for image {image:?}")));
        }
        let of = |v: &Option<Vec<usize>>, a: usize, default| v.as_ref().map_or(default, |v| v[a]);
        let mut axes = Vec::with_capacity(rank);
        for a in 0..rank {
            let (stride, dilation) = (of(&self.strides, a, 1), of(&self.dilations, a, 1));
            let (pad, end) = (of(&self.pads, a, 0), of(&self.pads, a + rank, 0));
            let room = image[a].checked_add(pad).and_then(|n| n.checked_add(end));
            let reach = (block[a] - 1).checked_mul(dilation).and_then(|n| n.checked_add(1));
            let places = match room.zip(reach) {
                Some((room, reach)) if room >= reach && i64::try_from(room).is_ok() => {
                    (room - reach) / stride + 1
                }
                _ => {
                    return Err(OpError::value(format!(
                        "a block of {} in an image of {}",
                        block[a], image[a]
                    )));
                }
            };
            axes.push(Axis {
                image: image[a],
                block: block[a],
                stride,
                dilation,
                pad,
                places,
                steps: [0; 2],
            });
        }
        let places: Vec<usize> = axes.iter().map(|a| a.places).collect();
        let columns = span(&places);
        let (block_steps, place_steps) = (dense_strides(block), dense_strides(&places));
        for (axis, (b, p)) in axes.iter_mut().zip(block_steps.iter().zip(&place_steps)) {
            axis.steps = [(*b as usize).saturating_mul(columns), *p as usize];
        }
        Ok(axes)
    }
}

/// The sum of the terms of pixel `at`, whose first coordinates have led to `column`.
fn gather<T: Number>(x: &[T], axes: &[Axis], at: &[usize], column: usize) -> T::Compute {
    let (Some((axis, axes)), Some((&i, at))) = (axes.split_first(), at.split_first()) else {
        return x[column].load();
    };
    let mut sum = T::Compute::zero();
    for k in 0..axis.block {
        // The place of the block that puts offset `k` on this pixel, if there is one.
        let Some(distance) = (i + axis.pad).checked_sub(k * axis.dilation) else { break };
        let place = distance / axis.stride;
        if distance % axis.stride == 0 && place < axis.places {
            sum = sum.add(gather(x, axes, at, column + k * axis.steps[0] + place * axis.steps[1]));
        }
    }
    sum
}

impl Op for Col2Im {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(3, 3)?;
        let x = inputs.typed(0, NUMBERS)?;
        let image = super::expand::shape_from(inputs.typed(1, &[DType::I64])?, 1)?;
        let block = super::expand::shape_from(inputs.typed(2, &[DType::I64])?, 2)?;
        if x.rank().is_some_and(|r| r != 3) {
            return Err(OpError::input(0, "has not three axes"));
        }
        let Some(image) = image else { return Ok(vec![TensorFact::unranked(x.dtype).into()]) };
        let known = |dims: &[Dim]| dims.iter().map(Dim::known).collect::<Option<Vec<usize>>>();
        let extent = |a: usize| x.shape.as_ref().map_or(Dim::Unknown, |s| s[a].clone());
        let block = block.and_then(|b| known(&b));
        let channels = match &block {
            Some(block) => super::depth_to_space::shared_out(&extent(1), span(block).max(1))?,
            None => Dim::Unknown,
        };
        if let (Some(image), Some(block)) = (known(&image), &block) {
            let places = self.axes(&image, block)?.iter().fold(1usize, |n, a| n.saturating_mul(a.places));
            if extent(2).known().is_some_and(|columns| columns != places) {
                return Err(OpError::shape(format!("{} columns for {places} places", extent(2))));
            }
        }
        let mut out = vec![extent(0), channels];
        out.extend(image);
        Ok(vec![TensorFact::new(x.dtype, out).into()])
    }

    fn prepared_from(&self) -> &[usize] {
        &[1, 2]
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let shape = site.output_shape(0)?;
        let from = site.input_shape(0)?;
        let block = site.inputs.tensor(2)?.as_i64s().unwrap_or_default();
        let block: Vec<usize> = block.into_iter().map(|b| usize::try_from(b).unwrap_or(0)).collect();
        let axes = self.axes(&shape[2..], &block)?;
        let (plane, source) = (span(&shape[2..]), span(&block).saturating_mul(from[2]));
        dispatch!(site.inputs.tensor(0)?.dtype, numbers, T => Ok(Kernel::new(move |io| {
            let (x, context) = (io.input::<T>(0)?, io.context);
            let out = io.output::<T>(0)?;
            if out.is_empty() {
                return Ok(());
            }
            // Terms per pixel make the work; a pixel is not below one element.
            let per = rows_per_chunk(out.len(), 1, context.team.threads());
            for_each_chunk(context, out, per, |chunk, piece| {
                let mut at: SmallVec<[usize; 4]> = SmallVec::from_elem(0, axes.len());
                for (j, y) in piece.iter_mut().enumerate() {
                    let flat = chunk * per + j;
                    let mut rest = flat % plane;
                    for (i, axis) in at.iter_mut().zip(&axes).rev() {
                        *i = rest % axis.image;
                        rest /= axis.image;
                    }
                    *y = T::store(gather(&x[flat / plane * source..][..source], &axes, &at, 0));
                }
            })?;
            Ok(())
        })))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let shape = site.output_shape(0)?;
        let block = site.constant(2).and_then(Tensor::to_vec::<i64>).ok_or(GpuReject::DataDependent)?;
        let block: Vec<usize> = block.into_iter().map(|b| usize::try_from(b).unwrap_or(0)).collect();
        let axes = self.axes(&shape[2..], &block).map_err(|_| GpuReject::NoKernel)?;
        let extent = families::extent;
        let axes = axes.into_iter().map(|axis| {
            let (image, block, places) = (extent(axis.image)?, extent(axis.block)?, extent(axis.places)?);
            let (stride, dilation) = (extent(axis.stride)?, extent(axis.dilation)?);
            Ok(col2im::Axis { image, block, stride, dilation, pad: extent(axis.pad)?, places })
        });
        let axes = axes.collect::<Result<Vec<_>, GpuReject>>()?;
        families::columns::summed(site, shape[0] * shape[1], &axes)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let sizes = |i: usize| -> Result<Vec<usize>, OpError> {
            Ok(inputs.tensor(i)?.to_i64s()?.into_iter().map(|v| v as usize).collect())
        };
        let (image, block) = (sizes(1)?, sizes(2)?);
        let rank = image.len();
        let strides = self.strides.clone().unwrap_or_else(|| vec![1; rank]);
        let dilations = self.dilations.clone().unwrap_or_else(|| vec![1; rank]);
        let pads = self.pads.clone().unwrap_or_else(|| vec![0; 2 * rank]);
        let places: Vec<usize> = (0..rank)
            .map(|a| {
                (image[a] + pads[a] + pads[a + rank] - dilations[a] * (block[a] - 1) - 1) / strides[a] + 1
            })
            .collect();
        let per_block: usize = block.iter().product();
        let channels = x.shape[1] / per_block;
        let shape = [&[x.shape[0], channels], image.as_slice()].concat();
        let mut floats = vec![0.0; shape.iter().product()];
        let mut ints = vec![0i128; shape.iter().product()];
        for flat in 0..x.len() {
            let index = RefTensor::unravel(&x.shape, flat);
            let offset = RefTensor::unravel(&block, index[1] % per_block);
            let place = RefTensor::unravel(&places, index[2]);
            let pixel: Vec<i64> = (0..rank)
                .map(|a| (place[a] * strides[a] + offset[a] * dilations[a]) as i64 - pads[a] as i64)
                .collect();
            if pixel.iter().zip(&image).any(|(&p, &n)| p < 0 || p >= n as i64) {
                continue;
            }
            let pixel: Vec<usize> = pixel.into_iter().map(|p| p as usize).collect();
            let at =
                RefTensor::ravel(&shape, &[&[index[0], index[1] / per_block], pixel.as_slice()].concat());
            match &x.data {
                RefData::Float(v) => floats[at] += v[flat],
                RefData::Int(v) => ints[at] = wrap(x.dtype, ints[at] + v[flat]),
                _ => return Err(OpError::internal("Col2Im of another type")),
            }
        }
        Ok(vec![if x.dtype.is_float() {
            RefTensor::floats(x.dtype, &shape, floats).into()
        } else {
            RefTensor::ints(x.dtype, &shape, ints).into()
        }])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let rank = *g.pick(&[2, 2, 1, 3]);
    let dtype = *g.pick(NUMBERS);
    let list = |g: &mut Gen, n: usize, low: i64, high: i64| -> Vec<i64> {
        (0..n).map(|_| g.int(low, high)).collect()
    };
    let block = list(g, rank, 1, 3);
    let (strides, dilations, pads) = (list(g, rank, 1, 3), list(g, rank, 1, 2), list(g, 2 * rank, 0, 2));
    let plain = g.chance(0.2);
    let (mut image, mut columns) = (Vec::new(), 1);
    for a in 0..rank {
        let reach = if plain { block[a] } else { dilations[a] * (block[a] - 1) + 1 };
        let pad = if plain { 0 } else { pads[a] + pads[a + rank] };
        let extent = (reach - pad).max(1) + g.int(0, 4);
        let stride = if plain { 1 } else { strides[a] };
        columns *= ((extent + pad - reach) / stride + 1) as usize;
        image.push(extent);
    }
    let per_block: i64 = block.iter().product();
    let x = g.tensor(dtype, &[g.clone().size(0, 2), per_block as usize * g.clone().size(1, 3), columns]);
    let tensor = |v: &[i64]| Tensor::new(&[rank], v.to_vec()).unwrap_or_else(|_| Tensor::scalar(0i64));
    let case = Case::new([x, tensor(&image), tensor(&block)]);
    let case = if plain {
        case
    } else {
        case.ints("strides", &strides).ints("dilations", &dilations).ints("pads", &pads)
    };
    match g.size(0, 2) {
        0 => case,
        1 => case.constant(1).constant(2),
        _ => case.constant(2),
    }
}
