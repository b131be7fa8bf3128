//! Convolutions, as `conv` computes them, or `depthwise` where a filter reads one channel.

use super::tail::{From, Making, Tail};
use super::{element, extent};
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::ops::window::Span;
use recurve_kernels::conv::{Axis, Buffers, MOST_AXES, Shape};
use recurve_kernels::depthwise;
use recurve_kernels::launch::{Buffer, Launch};
use std::sync::Arc;

/// Input 0 under the weights of input 1, over `spans`, with a bias where there is an input 2, and what the site has behind it.
pub(crate) fn kernel(site: &GpuSite<'_>, groups: usize, spans: &[Span]) -> Result<GpuKernel, GpuReject> {
    let (x, w) = (site.input_shape(0)?, site.input_shape(1)?);
    let shape = Shape {
        element: element(site.dtype(0)?)?,
        images: extent(x[0])?,
        groups: extent(groups)?,
        channels: extent(w[1])?,
        filters: extent(w[0] / groups)?,
        axes: axes(spans)?,
    };
    if shape.is_empty() {
        return Ok(GpuKernel::new(|_| Ok(Vec::new())));
    }
    shape.accepts()?;
    let by_channel = depthwise::accepts(&shape).is_ok();
    let y = site.output_shape(0)?;
    let mut making = Making::over(site.dtype(0)?, &y);
    if site.inputs.has(2) {
        let strides = (0..y.len()).map(|axis| u64::from(axis == 1)).collect();
        let bias = making.read(From::Input(2), site.dtype(2)?, strides, 0);
        let sum = making.builder.add(making.y, bias);
        making.set(sum);
    }
    let tail = making.finish(site)?;
    let (device, data) = (site.device, Tail::data(tail.as_ref()));
    let kernel = GpuKernel::new(move |memory| {
        let (x, w, y) = (memory.inputs[0], memory.inputs[1], memory.outputs[0]);
        let launch: Arc<dyn Launch> = Tail::with(tail.as_ref(), memory, |program| {
            let buffers = Buffers { x, w, y, program };
            if by_channel {
                return Ok(Arc::new(depthwise::prepare(&shape, &buffers, &device)?) as Arc<dyn Launch>);
            }
            Ok(Arc::new(shape.prepare(&buffers, &device)?) as Arc<dyn Launch>)
        })?;
        Ok(vec![launch])
    });
    Ok(kernel.with_data_of(data))
}

/// Input 0 under the weights of input 1 the other way round: `spans` are those of the convolution that reads the result.
pub(crate) fn transposed(site: &GpuSite<'_>, groups: usize, spans: &[Span]) -> Result<GpuKernel, GpuReject> {
    use recurve_kernels::conv_transpose::{Buffers, Shape};
    let (x, w) = (site.input_shape(0)?, site.input_shape(1)?);
    let shape = Shape {
        element: element(site.dtype(0)?)?,
        images: extent(x[0])?,
        groups: extent(groups)?,
        channels: extent(w[0] / groups)?,
        filters: extent(w[1])?,
        axes: axes(spans)?,
    };
    shape.accepts()?;
    let device = site.device;
    Ok(GpuKernel::new(move |operands| {
        let buffers = Buffers {
            x: operands.inputs[0],
            w: operands.inputs[1],
            bias: operands.inputs.get(2).copied().unwrap_or(Buffer::default()),
            y: operands.outputs[0],
        };
        let prepared = shape.prepare(&buffers, &device)?;
        Ok(prepared.map(|prepared| Arc::new(prepared) as Arc<dyn Launch>).into_iter().collect())
    }))
}

/// Spatial axes as kernels take them; those that are not there come first.
fn axes(spans: &[Span]) -> Result<[Axis; MOST_AXES], GpuReject> {
    let first = MOST_AXES.checked_sub(spans.len());
    let first = first.ok_or_else(|| GpuReject::Form(format!("a convolution over {} axes", spans.len())))?;
    let mut axes = [Axis::NONE; MOST_AXES];
    for (axis, span) in axes[first..].iter_mut().zip(spans) {
        *axis = Axis {
            input: extent(span.input)?,
            output: extent(span.output)?,
            kernel: extent(span.kernel)?,
            stride: extent(span.stride)?,
            dilation: extent(span.dilation)?,
            begin: extent(span.begin)?,
        };
    }
    Ok(axes)
}
