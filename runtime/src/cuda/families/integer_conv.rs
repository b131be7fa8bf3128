//! Convolutions of quantised tensors, as `conv_integer` computes them: sums of 32 bits, and bytes again by a map behind
//! them.

use super::composition::{Composition, Place};
use super::conv::axes;
use super::integer_product::Inputs;
use super::quantised::requantise;
use super::{extent, map};
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::ops::window::Span;
use recurve_kernels::conv_integer::{Buffers, Shape};
use recurve_kernels::launch::{Buffer, Launch};
use std::sync::Arc;

/// The sums of input `inputs.operands[0]` under the weights of the other one, 32-bit integers, as output 0.
pub(crate) fn sums(
    site: &GpuSite<'_>,
    groups: usize,
    spans: &[Span],
    inputs: Inputs,
) -> Result<GpuKernel, GpuReject> {
    let (shape, device) = (shape(site, groups, spans, inputs)?, site.device);
    if shape.is_empty() {
        return Ok(GpuKernel::new(|_| Ok(Vec::new())));
    }
    shape.accepts()?;
    Ok(GpuKernel::new(move |memory| {
        let zero = |of: usize| inputs.zeros[of].map_or_else(Buffer::default, |at| memory.inputs[at]);
        let buffers = Buffers {
            x: memory.inputs[inputs.operands[0]],
            x_zero: zero(0),
            w: memory.inputs[inputs.operands[1]],
            w_zero: zero(1),
            y: memory.outputs[0],
        };
        Ok(vec![Arc::new(shape.prepare(&buffers, &device)?) as Arc<dyn Launch>])
    }))
}

/// What makes bytes of sums: inputs that are the scales of both operands, that of weights perhaps one for each filter, the
/// result's scale and zero point, and perhaps a bias.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes {
    pub(crate) scales: [usize; 2],
    pub(crate) result: [usize; 2],
    pub(crate) bias: Option<usize>,
}

/// The same as bytes of the type of the result's zero point.
pub(crate) fn bytes(
    site: &GpuSite<'_>,
    groups: usize,
    spans: &[Span],
    inputs: Inputs,
    made: Bytes,
) -> Result<GpuKernel, GpuReject> {
    let y = site.output_shape(0)?;
    let count = y.iter().try_fold(4usize, |n, &extent| n.checked_mul(extent));
    let mut whole = Composition::new("convolution");
    let between = whole.between(count.ok_or_else(|| GpuReject::Form("so many elements".into()))?)?;
    if count == Some(0) {
        return Ok(GpuKernel::new(|_| Ok(Vec::new())));
    }
    let given: Vec<Place> = (0..site.inputs.0.len()).map(Place::Input).collect();
    whole.add("sums", sums(site, groups, spans, inputs)?, given, vec![between])?;
    let mut reads = vec![made.scales[0], made.scales[1], made.result[0], made.result[1]];
    reads.extend(made.bias);
    let mut operands = vec![(DType::I32, vec![(y[1] * plane_of(&y)) as u64, plane_of(&y) as u64, 1], 0)];
    for &input in &reads {
        let each = input == made.scales[1] && site.input_shape(input)?.iter().product::<usize>() != 1;
        let step = u64::from(each || made.bias == Some(input));
        operands.push((site.dtype(input)?, vec![0, step, 0], 0));
    }
    let types: Vec<DType> = operands.iter().map(|operand| operand.0).collect();
    let program = requantise(&types, site.dtype(made.result[1])?, made.bias.is_some())?;
    let space = [y[0] as u64, y[1] as u64, plane_of(&y) as u64];
    let kernel = map::launched(site, &program, &space, &operands, (0..operands.len()).collect())?;
    let mut from = vec![between];
    from.extend(reads.into_iter().map(Place::Input));
    whole.add("bytes", kernel, from, vec![Place::Output(0)])?;
    Ok(whole.finish())
}

/// Positions of a plane of the result.
fn plane_of(y: &[usize]) -> usize {
    y[2..].iter().product()
}

/// The convolution in the kernel's terms.
fn shape(site: &GpuSite<'_>, groups: usize, spans: &[Span], inputs: Inputs) -> Result<Shape, GpuReject> {
    let [x, w] = inputs.operands;
    let signed = |input: usize| match site.dtype(input)? {
        DType::I8 => Ok(true),
        DType::U8 => Ok(false),
        other => Err(GpuReject::ElementType(other)),
    };
    let signed = [signed(x)?, signed(w)?];
    let each = match inputs.zeros[1] {
        Some(zeros) => site.input_shape(zeros)?.iter().product::<usize>() != 1,
        None => false,
    };
    let (x, w) = (site.input_shape(x)?, site.input_shape(w)?);
    Ok(Shape {
        images: extent(x[0])?,
        groups: extent(groups)?,
        channels: extent(w[1])?,
        filters: extent(w[0] / groups)?,
        axes: axes(spans)?,
        signed,
        each,
    })
}
