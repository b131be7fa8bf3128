//! Windows as columns: added up to images, and sampled where the data moves them for a product with the weights.

use super::composition::{Composition, Place};
use super::extent;
use super::located::{Located, bytes, nothing};
use super::product::Product;
use crate::cpu::contraction::{BatchAxis, Contraction};
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::graph::TensorFact;
use crate::graph::fact::{Fact, Facts};
use crate::ops::window::Span;
use recurve_kernels::col2im::{self, Columns};
use recurve_kernels::deform::{self, Buffers, Windows};
use recurve_kernels::launch::Launch;
use std::sync::Arc;

/// What there are most axes of.
const AXES: usize = col2im::MOST_AXES;

fn too_many(axes: usize) -> GpuReject {
    GpuReject::Form(format!("windows over {axes} axes"))
}

/// Input 0 added up to `matrices` images of one channel each.
pub(crate) fn summed(
    site: &GpuSite<'_>,
    matrices: usize,
    axes: &[col2im::Axis],
) -> Result<GpuKernel, GpuReject> {
    let mut all = [col2im::Axis::NONE; AXES];
    let first = AXES.checked_sub(axes.len()).ok_or_else(|| too_many(axes.len()))?;
    all[first..].copy_from_slice(axes);
    let columns = Columns { matrices: extent(matrices)?, axes: all, dtype: site.dtype(0)? };
    columns.accepts()?;
    let device = site.device;
    Ok(GpuKernel::new(move |operands| {
        let prepared = columns.prepare([operands.inputs[0], operands.outputs[0]], &device)?;
        Ok(prepared.map(|prepared| Arc::new(prepared) as Arc<dyn Launch>).into_iter().collect())
    }))
}

/// A convolution whose taps are moved by input 2 and weighed by input 4, where there is one; inputs 0, 1 and 3 are images,
/// weights and a bias.
#[derive(Clone, Debug)]
pub(crate) struct Deformed {
    pub(crate) spans: Vec<Span>,
    /// Groups of channels that are convolved by themselves, and those that have offsets of their own.
    pub(crate) groups: usize,
    pub(crate) offset_groups: usize,
}

impl Deformed {
    fn windows(&self, site: &GpuSite<'_>, images: usize, channels: usize) -> Result<Windows, GpuReject> {
        let mut axes = [deform::Axis::NONE; AXES];
        let rank = self.spans.len();
        let first = AXES.checked_sub(rank).ok_or_else(|| too_many(rank))?;
        for (axis, span) in axes[first..].iter_mut().zip(&self.spans) {
            *axis = deform::Axis {
                input: extent(span.input)?,
                output: extent(span.output)?,
                kernel: extent(span.kernel)?,
                stride: extent(span.stride)?,
                dilation: extent(span.dilation)?,
                pad: extent(span.begin)?,
            };
        }
        Ok(Windows {
            images: extent(images)?,
            channels: extent(channels)?,
            groups: extent(self.offset_groups)?,
            axes,
            rank: rank as u32,
            dtype: site.dtype(0)?,
        })
    }

    /// The launches: columns of all channels, their products with the weights of each group, and the bias.
    pub(crate) fn kernel(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let (x, w, dtype) = (site.input_shape(0)?, site.input_shape(1)?, site.dtype(0)?);
        let (images, channels, filters, groups) = (x[0], x[1], w[0], self.groups);
        let product = |of: fn(&Span) -> usize| self.spans.iter().map(of).product::<usize>();
        let (taps, positions) = (product(|span| span.kernel), product(|span| span.output));
        if images == 0 || filters == 0 || positions == 0 {
            return Ok(nothing());
        }
        let windows = self.windows(site, images, channels)?;
        windows.accepts()?;
        let (device, masked) = (site.device, site.inputs.has(4));
        let sampled = GpuKernel::new(move |operands| {
            let [x, offsets, y] = [operands.inputs[0], operands.inputs[1], operands.outputs[0]];
            let masks = masked.then(|| operands.inputs[2]);
            let prepared = windows.prepare(&Buffers { x, offsets, masks, y }, &device)?;
            Ok(prepared.map(|prepared| Arc::new(prepared) as Arc<dyn Launch>).into_iter().collect())
        });
        let mut whole = Composition::new("");
        let columns = whole.between(bytes(dtype, &[images, channels, taps, positions])?)?;
        let mask = if masked { Place::Input(4) } else { Place::Nowhere };
        whole.add("columns", sampled, vec![Place::Input(0), Place::Input(2), mask], vec![columns])?;
        let (m, k) = (filters / groups, channels / groups * taps);
        let axis = |extent, a, b| BatchAxis { extent, a, b, y: 0 };
        let all = [axis(images, 0, channels * taps * positions), axis(groups, m * k, k * positions)];
        let batch = all.into_iter().filter(|axis| axis.extent > 1).collect();
        let contraction =
            Contraction { batch, m, n: positions, k, a: (k, 1), b: (positions, 1), y: positions }.row_major();
        let facts = [&[filters, k][..], &[images, channels * taps, positions]]
            .map(|shape| Fact::from(TensorFact::known(dtype, shape)));
        let made = [Fact::from(TensorFact::known(dtype, &[images, filters, positions]))];
        let inner = GpuSite {
            inputs: Facts(&[Some(&facts[0]), Some(&facts[1])]),
            outputs: &made,
            wanted: &[true],
            strided: &[],
            behind: None,
            ..*site
        };
        let product = Product { contraction, offsets: [0; 2], alpha: 1.0, beta: 1.0, addend: None };
        let kernel = product.kernel(&inner)?;
        let biased = site.inputs.has(3);
        let shape = [images, filters, positions];
        let sums = if biased { whole.between(bytes(dtype, &shape)?)? } else { Place::Output(0) };
        whole.add("product", kernel, vec![Place::Input(1), columns], vec![sums])?;
        if !biased {
            return Ok(whole.finish());
        }
        let mut map = Located::behind(whole, site, &shape);
        let strides = [filters * positions, positions, 1].map(|stride| stride as u64).to_vec();
        let (sum, bias) =
            (map.read(sums, dtype, strides, 0)?, map.read(Place::Input(3), dtype, vec![0, 1, 0], 0)?);
        let y = map.builder.add(sum, bias);
        Ok(map.store("bias", y, dtype, Place::Output(0))?.finish())
    }
}
