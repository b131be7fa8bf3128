//! Pools over windows, as `pool` computes them.

use super::{element, extent};
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::ops::window::Span;
use recurve_kernels::conv::{Axis, MOST_AXES};
use recurve_kernels::launch::{Buffer, Launch};
use recurve_kernels::pool::{Buffers, Kind, Pool, Shape};
use std::sync::Arc;

/// `pool` of input 0 over `spans`.
pub(crate) fn kernel(site: &GpuSite<'_>, spans: &[Span], pool: Pool) -> Result<GpuKernel, GpuReject> {
    let x = site.input_shape(0)?;
    let many = || GpuReject::Form(format!("a pool over {} axes", spans.len()));
    let first = MOST_AXES.checked_sub(spans.len()).ok_or_else(many)?;
    let (mut axes, mut ends) = ([Axis::NONE; MOST_AXES], [0; MOST_AXES]);
    for (at, span) in (first..).zip(spans) {
        axes[at] = Axis {
            input: extent(span.input)?,
            output: extent(span.output)?,
            kernel: extent(span.kernel)?,
            stride: extent(span.stride)?,
            dilation: extent(span.dilation)?,
            begin: extent(span.begin)?,
        };
        ends[at] = extent(span.end)?;
    }
    let kind = match site.dtype(0)? {
        DType::I8 => Kind::I8,
        DType::U8 => Kind::U8,
        dtype => Kind::Real(element(dtype)?),
    };
    let planes = x[0].checked_mul(x[1]).ok_or_else(|| GpuReject::Form("so many planes".into()))?;
    let shape = Shape { kind, pool, planes: extent(planes)?, axes, ends };
    shape.accepts()?;
    let device = site.device;
    Ok(GpuKernel::new(move |operands| {
        let buffers = Buffers {
            x: operands.inputs[0],
            y: operands.outputs[0],
            places: operands.outputs.get(1).copied().unwrap_or(Buffer::default()),
        };
        let prepared = shape.prepare(&buffers, &device)?;
        Ok(prepared.map(|prepared| Arc::new(prepared) as Arc<dyn Launch>).into_iter().collect())
    }))
}
