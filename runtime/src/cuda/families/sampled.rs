//! Images read where the data says: at the positions of a grid, and in aligned regions.

use super::extent;
use crate::cpu::grid_taps::{Mode, Outside, Sampler};
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use recurve_kernels::grid_sample::{self, MOST_AXES, Sampling};
use recurve_kernels::launch::Launch;
use recurve_kernels::regions::{self, Regions};
use recurve_kernels::roi_align::{Align, Buffers};
use recurve_kernels::roi_max;
use std::sync::Arc;

/// Input 0 at the positions of input 1.
pub(crate) fn grid(site: &GpuSite<'_>, sampler: &Sampler) -> Result<GpuKernel, GpuReject> {
    let axes = sampler.extents.len();
    if axes > MOST_AXES {
        return Err(GpuReject::Form(format!("a sampling over {axes} axes")));
    }
    let mut extents = [1; MOST_AXES];
    for (to, &from) in extents.iter_mut().zip(sampler.extents.iter().rev()) {
        *to = extent(from)?;
    }
    let images = *site.input_shape(0)?.first().ok_or(GpuReject::NoKernel)?;
    let sampling = Sampling {
        mode: match sampler.mode {
            Mode::Nearest => grid_sample::Mode::Nearest,
            Mode::Linear => grid_sample::Mode::Linear,
            Mode::Cubic => grid_sample::Mode::Cubic,
        },
        outside: match sampler.outside {
            Outside::Zeros => grid_sample::Outside::Zeros,
            Outside::Border => grid_sample::Outside::Border,
            Outside::Reflection => grid_sample::Outside::Reflection,
        },
        align: sampler.align,
        images: extent(images)?,
        channels: extent(sampler.channels)?,
        extents,
        axes: axes as u32,
        places: extent(sampler.places)?,
        x: site.dtype(0)?,
        grid: site.dtype(1)?,
    };
    sampling.accepts()?;
    let device = site.device;
    Ok(GpuKernel::new(move |operands| {
        let buffers = [operands.inputs[0], operands.inputs[1], operands.outputs[0]];
        let prepared = sampling.prepare(buffers, &device)?;
        Ok(prepared.map(|prepared| Arc::new(prepared) as Arc<dyn Launch>).into_iter().collect())
    }))
}

/// The regions of input 0 that input 1 tells, in so many bins down and across.
pub(crate) fn frame(site: &GpuSite<'_>, bins: [usize; 2], scale: f64) -> Result<Regions, GpuReject> {
    let (x, regions) = (site.input_shape(0)?, site.input_shape(1)?);
    let ([images, channels, height, width], [count, _]) = (&x[..], &regions[..]) else {
        return Err(GpuReject::NoKernel);
    };
    Ok(Regions {
        count: extent(*count)?,
        images: extent(*images)?,
        channels: extent(*channels)?,
        extents: [extent(*height)?, extent(*width)?],
        bins: [extent(bins[0])?, extent(bins[1])?],
        scale,
        dtype: site.dtype(0)?,
    })
}

/// The regions that input 1 tells of the images that input 2 names.
pub(crate) fn regions(site: &GpuSite<'_>, align: Align) -> Result<GpuKernel, GpuReject> {
    align.accepts()?;
    let device = site.device;
    let kernel = GpuKernel::new(move |operands| {
        let [x, regions, images] = [0, 1, 2].map(|at| operands.inputs[at]);
        let frame = regions::Buffers { x, regions, y: operands.outputs[0], fault: operands.fault };
        let buffers = Buffers { frame, images };
        let prepared = align.prepare(&buffers, &device)?;
        Ok(prepared.map(|prepared| Arc::new(prepared) as Arc<dyn Launch>).into_iter().collect())
    });
    Ok(kernel.with_fault())
}

/// The largest elements of the regions that input 1 tells.
pub(crate) fn largest(site: &GpuSite<'_>, bins: [usize; 2], scale: f64) -> Result<GpuKernel, GpuReject> {
    let of = frame(site, bins, scale)?;
    roi_max::accepts(&of)?;
    let device = site.device;
    let kernel = GpuKernel::new(move |operands| {
        let [x, regions, y] = [operands.inputs[0], operands.inputs[1], operands.outputs[0]];
        let buffers = regions::Buffers { x, regions, y, fault: operands.fault };
        let prepared = roi_max::prepare(&of, &buffers, &device)?;
        Ok(prepared.map(|prepared| Arc::new(prepared) as Arc<dyn Launch>).into_iter().collect())
    });
    Ok(kernel.with_fault())
}
