//! Maps: any nest that computes each element by itself, interpreted by the `map` family.

use super::extent;
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::error::OpError;
use crate::loops::{Nest, Opaque, Outside, Read, layout_of};
use recurve_kernels::launch::{Buffer, Reject};
use recurve_kernels::map::{self, Code, Layout, Source};
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
    let mut reads = Vec::with_capacity(nest.reads.len());
    let mut inputs: Vec<(DType, Vec<u64>, u64)> = Vec::with_capacity(nest.reads.len());
    for (read, &dtype) in nest.reads.iter().zip(program.inputs()) {
        let Read { index, outside, .. } = read;
        if *outside != Outside::Never {
            return Err(GpuReject::Form("a read beyond an operand's edge".into()));
        }
        let against = |_| GpuReject::Form("an operand that is read against its order".into());
        let (shape, input) = operand(read.operand).map_err(against)?;
        let layout = layout_of(index, &shape, space.len()).map_err(against)?;
        reads.push(input);
        let strides = layout.strides.iter().map(|&s| s as u64).collect();
        inputs.push((dtype, strides, u64::from(extent(layout.offset)?)));
    }
    let operands: Vec<(DType, &[u64], u64)> = inputs.iter().map(|(d, s, o)| (*d, s.as_slice(), *o)).collect();
    let layout = Layout::new(&space, &operands)?;
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

/// The launches of an operator by its nest.
pub(crate) fn of_nest(site: &GpuSite<'_>, nest: Result<Nest, Opaque>) -> Result<GpuKernel, GpuReject> {
    kernel(site, &nest.map_err(|_| GpuReject::NoKernel)?, &|input| operand(site, input))
}

/// Shape and position of input `input` of an operator.
fn operand(site: &GpuSite<'_>, input: usize) -> Result<(Vec<usize>, usize), OpError> {
    let shape = site.inputs.tensor(input)?.known_shape();
    Ok((shape.ok_or_else(|| OpError::internal("an operand of unknown shape"))?.to_vec(), input))
}
