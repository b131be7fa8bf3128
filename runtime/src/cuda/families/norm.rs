//! Normalisations of rows, and of responses across channels, as `norm` and `channels` compute them.

use super::{element, extent};
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use recurve_kernels::launch::{Buffer, Launch};
use recurve_kernels::norm::{Buffers, Shape, VARIANTS};
use recurve_kernels::{channels, element::Element};
use std::sync::Arc;

/// How rows and their parameters lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    pub(crate) rows: usize,
    pub(crate) length: usize,
    /// Rows after which parameters repeat.
    pub(crate) period: usize,
    /// Parameters from a row to the next.
    pub(crate) step: usize,
    /// Neighbouring elements of a row with one parameter.
    pub(crate) run: usize,
    pub(crate) centred: bool,
    pub(crate) epsilon: f64,
    /// Type of mean and inverse deviation, outputs 1 and 2.
    pub(crate) statistics: DType,
}

/// The rows of input 0 normalised, scaled by input 1 and shifted by input 2 where they are there.
pub(crate) fn kernel(site: &GpuSite<'_>, rows: &Rows) -> Result<GpuKernel, GpuReject> {
    if rows.rows == 0 || rows.length == 0 {
        return Ok(GpuKernel::new(|_| Ok(Vec::new())));
    }
    let parameters = if site.inputs.has(1) { element(site.dtype(1)?)? } else { element(site.dtype(0)?)? };
    if site.inputs.has(2) && element(site.dtype(2)?)? != parameters {
        return Err(GpuReject::Form("a scale and a bias of two types".into()));
    }
    let shape = Shape {
        rows: extent(rows.rows)?,
        length: extent(rows.length)?,
        period: extent(rows.period)?,
        step: extent(rows.step)?,
        run: extent(rows.run)?,
        centred: rows.centred,
        epsilon: rows.epsilon as f32,
        element: element(site.dtype(0)?)?,
        parameters,
        statistics: element(rows.statistics)?,
    };
    let (variant, device) = (VARIANTS.choose(&shape)?, site.device);
    Ok(GpuKernel::new(move |operands| {
        let of = |buffers: &[Buffer], at: usize| buffers.get(at).copied().unwrap_or_default();
        let buffers = Buffers {
            x: of(operands.inputs, 0),
            scale: of(operands.inputs, 1),
            bias: of(operands.inputs, 2),
            y: of(operands.outputs, 0),
            mean: of(operands.outputs, 1),
            inverse: of(operands.outputs, 2),
        };
        Ok(vec![Arc::new(variant.prepare(&shape, &buffers, &device)?)])
    }))
}

/// A response normalisation: factor, exponent and term, and the channels in front of and behind an element's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Response {
    pub(crate) below: usize,
    pub(crate) above: usize,
    pub(crate) alpha: f64,
    pub(crate) beta: f64,
    pub(crate) bias: f64,
}

/// Input 0 with its responses normalised across channels.
pub(crate) fn channels(site: &GpuSite<'_>, response: &Response) -> Result<GpuKernel, GpuReject> {
    let x = site.input_shape(0)?;
    let positions = x[2..].iter().try_fold(1usize, |n, &extent| n.checked_mul(extent));
    let element: Element = element(site.dtype(0)?)?;
    let most = u32::MAX as usize;
    let shape = channels::Shape {
        element,
        images: extent(x[0])?,
        channels: extent(x[1])?,
        positions: extent(positions.ok_or_else(|| GpuReject::Form("so many positions".into()))?)?,
        below: response.below.min(most) as u32,
        above: response.above.min(most) as u32,
        alpha: response.alpha as f32,
        beta: response.beta as f32,
        bias: response.bias as f32,
    };
    shape.accepts()?;
    let device = site.device;
    Ok(GpuKernel::new(move |operands| {
        let prepared = shape.prepare(operands.inputs[0], operands.outputs[0], &device)?;
        Ok(prepared.map(|prepared| Arc::new(prepared) as Arc<dyn Launch>).into_iter().collect())
    }))
}
