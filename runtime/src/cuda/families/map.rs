//! Maps: any nest that computes each element by itself, interpreted by the `map` family.

use super::{copy, extent};
use crate::cpu::narrow::{Rounding, is_narrow};
use crate::cpu::program::Layout;
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::TensorFact;
use crate::loops::program::{Builder, Kind, Program};
use crate::loops::{Nest, Opaque, Outside, Read, layout_of};
use recurve_kernels::codes::Conversion;
use recurve_kernels::launch::{Buffer, Launch, Reject};
use recurve_kernels::map::{self, Code, Source};
use std::sync::Arc;

/// The launches of `nest`, which is a map; `operand` gives shape and position among the node's inputs of what a read's
/// operand is. (Not generic: it would be compiled once per operator.)
pub(crate) fn kernel(
    site: &GpuSite<'_>,
    nest: &Nest,
    operand: &dyn Fn(usize) -> Result<(Vec<usize>, usize), OpError>,
) -> Result<GpuKernel, GpuReject> {
    let stage = nest.as_map().ok_or(GpuReject::NoKernel)?;
    let space = nest.axes.iter().map(|d| d.known().map(|n| n as u64)).collect::<Option<Vec<u64>>>();
    let space = space.ok_or(GpuReject::DataDependent)?;
    let program = &stage.program;
    if space.contains(&0) {
        return Ok(GpuKernel::new(|_| Ok(Vec::new())));
    }
    let against = |_| GpuReject::Form("an operand that is read against its order".into());
    if let ([read], [dtype], true) = (nest.reads.as_slice(), program.inputs(), program.is_copy()) {
        let (shape, input) = operand(read.operand).map_err(against)?;
        return copy::layout(site, *dtype, &space, (input, &shape), &read.index);
    }
    let mut reads = Vec::with_capacity(nest.reads.len());
    let mut inputs: Vec<(DType, Vec<u64>, u64)> = Vec::with_capacity(nest.reads.len());
    for (read, &dtype) in nest.reads.iter().zip(program.inputs()) {
        let Read { index, outside, .. } = read;
        if *outside != Outside::Never {
            return Err(GpuReject::Form("a read beyond an operand's edge".into()));
        }
        let (shape, input) = operand(read.operand).map_err(against)?;
        let layout = layout_of(index, &shape, space.len()).map_err(against)?;
        reads.push(input);
        let strides = layout.strides.iter().map(|&s| s as u64).collect();
        inputs.push((dtype, strides, u64::from(extent(layout.offset)?)));
    }
    launched(site, program, &space, &inputs, reads)
}

/// The launch of `program` over `space`: operand `k` is input `reads[k]`, of the type, strides and first element of
/// `inputs[k]`.
pub(super) fn launched(
    site: &GpuSite<'_>,
    program: &Program,
    space: &[u64],
    inputs: &[(DType, Vec<u64>, u64)],
    reads: Vec<usize>,
) -> Result<GpuKernel, GpuReject> {
    let operands: Vec<(DType, &[u64], u64)> = inputs.iter().map(|(d, s, o)| (*d, s.as_slice(), *o)).collect();
    let layout = map::Layout::new(space, &operands)?;
    let outputs: Vec<(usize, DType)> = program.outputs().iter().map(|o| (o.register, o.dtype)).collect();
    let source =
        Source { instructions: program.instructions(), constants: program.constants(), outputs: &outputs };
    let code = Code::new(&source, &layout)?;
    let (variant, device) = (map::VARIANTS.choose(&code)?, site.device);
    let bytes = code.bytes();
    let kernel = GpuKernel::new(move |memory| {
        let inputs: Vec<Buffer> = reads.iter().map(|&input| memory.inputs[input]).collect();
        let code_memory = *memory.data.first().ok_or(Reject::Absent { operand: "code" })?;
        let buffers = map::Buffers { code: code_memory, inputs: &inputs, outputs: memory.outputs };
        Ok(vec![Arc::new(variant.prepare(&code, &buffers, &device)?)])
    });
    Ok(kernel.with_data(bytes))
}

/// A copy of input 0, of type `from`, as type `to` under the axes `extents`, through which it has these strides.
pub(super) fn moved(
    site: &GpuSite<'_>,
    [from, to]: [DType; 2],
    extents: &[usize],
    strides: &[usize],
) -> Result<GpuKernel, GpuReject> {
    if extents.contains(&0) {
        return Ok(GpuKernel::new(|_| Ok(Vec::new())));
    }
    let mut builder = Builder::new(&[from]);
    let x = builder.input(0);
    let y = builder.cast(x, from, to);
    let program = builder.finish(&[(y, to)]).map_err(|_| GpuReject::NoKernel)?;
    let wide = |of: &[usize]| of.iter().map(|&v| v as u64).collect::<Vec<u64>>();
    launched(site, &program, &wide(extents), &[(from, wide(strides), 0)], vec![0])
}

/// Input 0, dense, of type `from`, as type `to`; `rounding` says how numbers are made to fit types of eight bits and fewer.
pub(crate) fn cast(
    site: &GpuSite<'_>,
    [from, to]: [DType; 2],
    rounding: Rounding,
) -> Result<GpuKernel, GpuReject> {
    let shape = site.input_shape(0)?;
    if !is_narrow(from) && !is_narrow(to) {
        if let Some(other) = [from, to].into_iter().find(|&dtype| Kind::of(dtype).is_none()) {
            return Err(GpuReject::ElementType(other));
        }
        return moved(site, [from, to], &shape, &Layout::dense(&shape).strides);
    }
    let count: usize = shape.iter().product();
    if from == to {
        let bytes = from.bytes(count).ok_or_else(|| GpuReject::Form("so many elements".into()))?;
        return copy::whole(site, &TensorFact::known(DType::U8, &[bytes]));
    }
    let conversion = Conversion { from, to, count: count as u64, rounding };
    conversion.accepts()?;
    let device = site.device;
    Ok(GpuKernel::new(move |memory| {
        let prepared = conversion.prepare([memory.inputs[0], memory.outputs[0]], &device)?;
        Ok(prepared.map(|prepared| Arc::new(prepared) as Arc<dyn Launch>).into_iter().collect())
    }))
}

/// Zeros of type `dtype`, so many.
pub(super) fn zeros(site: &GpuSite<'_>, dtype: DType, extents: &[usize]) -> Result<GpuKernel, GpuReject> {
    filled(site, dtype, extents, 0)
}

/// So many elements of type `dtype`, all of this value, which is a truth value where it is 0 or 1.
pub(crate) fn filled(
    site: &GpuSite<'_>,
    dtype: DType,
    extents: &[usize],
    value: i128,
) -> Result<GpuKernel, GpuReject> {
    if extents.contains(&0) {
        return Ok(GpuKernel::new(|_| Ok(Vec::new())));
    }
    let mut builder = Builder::new(&[]);
    let kind = Kind::of(dtype).ok_or(GpuReject::ElementType(dtype))?;
    let made =
        if kind.is_int() { builder.integer(kind, value) } else { builder.constant(kind, value as f64) };
    let program = builder.finish(&[(made, dtype)]).map_err(|_| GpuReject::NoKernel)?;
    let space: Vec<u64> = extents.iter().map(|&v| v as u64).collect();
    launched(site, &program, &space, &[], Vec::new())
}

/// The launches of an operator by its nest, as a map or, where it is none, by the `nest` family.
pub(crate) fn of_nest(site: &GpuSite<'_>, nest: Result<Nest, Opaque>) -> Result<GpuKernel, GpuReject> {
    if let Ok(nest) = &nest
        && let Ok(kernel) = kernel(site, nest, &|input| operand(site, input))
    {
        return Ok(kernel);
    }
    super::nest::of_nest(site, nest)
}

/// Shape and position of input `input` of an operator.
pub(super) fn operand(site: &GpuSite<'_>, input: usize) -> Result<(Vec<usize>, usize), OpError> {
    let shape = site.inputs.tensor(input)?.known_shape();
    Ok((shape.ok_or_else(|| OpError::internal("an operand of unknown shape"))?.to_vec(), input))
}
