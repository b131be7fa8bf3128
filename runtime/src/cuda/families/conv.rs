//! Convolutions, as `conv` computes them, or `depthwise` where a filter reads one channel; of operands in 16 bits where the
//! session asks for it ([`super::narrow`]).

use super::narrow::{Rounded, Storage, bytes_as};
use super::tail::{From, Making, Tail};
use super::{element, extent};
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::ops::window::Span;
use recurve_kernels::conv::{Axis, Buffers, MOST_AXES, Shape};
use recurve_kernels::depthwise;
use recurve_kernels::element::Element;
use recurve_kernels::launch::{Buffer, Launch};
use std::sync::Arc;

/// Input 0 under the weights of input 1, over `spans`, with a bias where there is an input 2, and what the site has behind it.
pub(crate) fn kernel(site: &GpuSite<'_>, groups: usize, spans: &[Span]) -> Result<GpuKernel, GpuReject> {
    if let Some(element) = site.storage(1).narrow()
        && let Ok(kernel) = of_type(site, (element, true), groups, spans)
    {
        return Ok(kernel);
    }
    let kernel = of_type(site, (element(site.dtype(0)?)?, false), groups, spans)?;
    Ok(kernel.with_stored(site.kept(1)))
}

/// The same with operands of type `element`, to which those of the model are rounded where it is `narrow`er than theirs.
fn of_type(
    site: &GpuSite<'_>,
    (element, narrow): (Element, bool),
    groups: usize,
    spans: &[Span],
) -> Result<GpuKernel, GpuReject> {
    let (x, w) = (site.input_shape(0)?, site.input_shape(1)?);
    let shape = Shape {
        element,
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
    if narrow {
        making.keep();
    }
    let tail = making.finish(site)?;
    let mut data: Vec<Vec<u8>> = Tail::data(tail.as_ref()).into_iter().collect();
    let weights = site.constant(1).filter(|_| narrow).cloned();
    let rounded = match &weights {
        Some(_) => {
            let count = x.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent));
            let count = count.ok_or_else(|| GpuReject::Form("an input of so many elements".into()))?;
            let (rounded, program) = Rounded::new(site, (count, element), 0, data.len())?;
            data.extend(program);
            Some(rounded)
        }
        None => None,
    };
    let (device, workspace) = (site.device, rounded.as_ref().map_or(0, Rounded::workspace));
    let kernel = GpuKernel::new(move |memory| {
        let (mut x, y) = (memory.inputs[0], memory.outputs[0]);
        let w = memory.weights.first().copied().unwrap_or(memory.inputs[1]);
        let mut launches = Vec::new();
        if let Some(rounded) = &rounded {
            launches = rounded.launches(memory)?;
            x = rounded.place(memory);
        }
        launches.push(Tail::with(tail.as_ref(), memory, |program| {
            let buffers = Buffers { x, w, y, program };
            if by_channel {
                return Ok(Arc::new(depthwise::prepare(&shape, &buffers, &device)?) as Arc<dyn Launch>);
            }
            Ok(Arc::new(shape.prepare(&buffers, &device)?) as Arc<dyn Launch>)
        })?);
        Ok(launches)
    });
    let kernel = kernel.with_workspace(workspace).with_resident(Vec::new(), data);
    let Some(weights) = weights else { return Ok(kernel) };
    let bytes = weights.len() * element.bytes() as usize;
    let kernel = kernel.with_stored(Storage::Narrow(element).note(1, &weights, bytes));
    Ok(kernel.with_weights(format!("conv {element:?}"), bytes, move || bytes_as(&weights, element)))
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
    let (device, kept) = (site.device, site.kept(1));
    let kernel = GpuKernel::new(move |operands| {
        let buffers = Buffers {
            x: operands.inputs[0],
            w: operands.inputs[1],
            bias: operands.inputs.get(2).copied().unwrap_or(Buffer::default()),
            y: operands.outputs[0],
        };
        let prepared = shape.prepare(&buffers, &device)?;
        Ok(prepared.map(|prepared| Arc::new(prepared) as Arc<dyn Launch>).into_iter().collect())
    });
    Ok(kernel.with_stored(kept))
}

/// Spatial axes as kernels take them; those that are not there come first.
pub(super) fn axes(spans: &[Span]) -> Result<[Axis; MOST_AXES], GpuReject> {
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
