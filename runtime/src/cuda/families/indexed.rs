//! Gathers and scatters by indices of several axes or one for each element, as `gather_nd` and `scatter` compute them.

use super::composition::{Composition, Place};
use super::copy::{self, size};
use crate::cpu::scatter::Reduction;
use crate::cpu::strided_copy::dense_strides;
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::graph::TensorFact;
use recurve_kernels::copy::{Region, Side};
use recurve_kernels::gather_nd;
use recurve_kernels::launch::{Launch, Reject};
use recurve_kernels::places::Form;
use recurve_kernels::scatter::{self, Meeting};
use std::sync::Arc;

/// Places of elements of a tensor of shape `data`: each index of shape `indices` replaces the place along `axis`.
pub(crate) fn of_elements(
    data: &[usize],
    indices: &[usize],
    axis: usize,
    dtype: DType,
) -> Result<Form, GpuReject> {
    let (steps, tuples) = (wide(&dense_strides(data)), wide(&dense_strides(indices)));
    let axes = (0..data.len()).map(|at| {
        let step = if at == axis { 0 } else { steps[at] };
        [indices[at] as u64, step, tuples[at]]
    });
    let axes: Vec<[u64; 3]> = axes.collect();
    let named = [[data[axis] as u64, steps[axis]]];
    Ok(Form::new(&axes, &named, (size(dtype)?, count(indices)?), count(data)?)?)
}

/// Places of slices of a tensor of shape `data`: tuples along the last axis of a tensor of shape `indices`, behind `batch`
/// axes that both share.
pub(crate) fn of_tuples(
    data: &[usize],
    indices: &[usize],
    batch: usize,
    dtype: DType,
) -> Result<Form, GpuReject> {
    let (&depth, places) = indices.split_last().ok_or(GpuReject::NoKernel)?;
    let (steps, tuples) = (wide(&dense_strides(data)), wide(&dense_strides(indices)));
    let mut axes = Vec::new();
    for (at, &extent) in places.iter().enumerate() {
        axes.push([extent as u64, if at < batch { steps[at] } else { 0 }, tuples[at]]);
    }
    for at in batch + depth..data.len() {
        axes.push([data[at] as u64, steps[at], 0]);
    }
    let named: Vec<[u64; 2]> = (batch..batch + depth).map(|at| [data[at] as u64, steps[at]]).collect();
    Ok(Form::new(&axes, &named, (size(dtype)?, count(indices)?), count(data)?)?)
}

fn wide(strides: &[isize]) -> Vec<u64> {
    strides.iter().map(|&stride| stride as u64).collect()
}

fn count(shape: &[usize]) -> Result<u64, GpuReject> {
    let count = shape.iter().try_fold(1u64, |n, &extent| n.checked_mul(extent as u64));
    count.ok_or_else(|| GpuReject::Form("so many elements".into()))
}

/// The elements of input 0 at the places that input 1 names.
pub(crate) fn gathered(site: &GpuSite<'_>, form: Form) -> Result<GpuKernel, GpuReject> {
    Ok(read(site, form)?.with_fault())
}

/// The same, of which the caller says what fault it is where a place is outside.
pub(super) fn read(site: &GpuSite<'_>, form: Form) -> Result<GpuKernel, GpuReject> {
    let (size, device) = (size(site.dtype(0)?)?, site.device);
    Ok(GpuKernel::new(move |operands| {
        let buffers = gather_nd::Buffers {
            x: operands.inputs[0],
            indices: operands.inputs[1],
            y: operands.outputs[0],
            fault: operands.fault,
        };
        let prepared = gather_nd::prepare(size, &form, &buffers, &device)?;
        Ok(prepared.map(|prepared| Arc::new(prepared) as Arc<dyn Launch>).into_iter().collect())
    }))
}

/// Input 0 with the updates of input 2 at the places that input 1 names. Where updates are combined, elements lie in whole
/// words of the workspace: those below 4 bytes are exchanged with what is around them.
pub(crate) fn scattered(
    site: &GpuSite<'_>,
    form: Form,
    reduction: Reduction,
) -> Result<GpuKernel, GpuReject> {
    let dtype = site.dtype(0)?;
    let fact = site.inputs.tensor(0).map_err(|_| GpuReject::NoKernel)?;
    let meeting = match reduction {
        Reduction::None => Meeting::Replace,
        Reduction::Add => Meeting::Add,
        Reduction::Mul => Meeting::Multiply,
        Reduction::Max => Meeting::Max,
        Reduction::Min => Meeting::Min,
    };
    let (elements, device) = (form.elements(), site.device);
    let of_elements = |bytes: u64| {
        let bytes = elements.checked_mul(bytes).and_then(|bytes| bytes.checked_next_multiple_of(4));
        let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
        bytes.ok_or_else(|| GpuReject::Form("a scatter into so many elements".into()))
    };
    let replaces = meeting == Meeting::Replace;
    let mut whole = Composition::new("scatter");
    let launch = GpuKernel::new(move |operands| {
        let buffers = scatter::Buffers {
            updates: operands.inputs[1],
            indices: operands.inputs[0],
            y: operands.outputs[0],
            claims: operands.outputs[1],
            fault: operands.fault,
        };
        let prepared = scatter::prepare(dtype, meeting, &form, &buffers, &device)?;
        Ok(prepared.into_iter().flatten().map(|prepared| Arc::new(prepared) as Arc<dyn Launch>).collect())
    });
    let launch = launch.with_fault();
    let operands = vec![Place::Input(1), Place::Input(2)];
    if replaces {
        let claims = whole.between(of_elements(4)?)?;
        whole.add("zeros", zeros(site, of_elements(4)?)?, Vec::new(), vec![claims])?;
        whole.add("data", copy::whole(site, fact)?, vec![Place::Input(0)], vec![Place::Output(0)])?;
        whole.add("updates", launch, operands, vec![Place::Output(0), claims])?;
        return Ok(whole.finish());
    }
    let words = whole.between(of_elements(u64::from(size(dtype)?))?)?;
    whole.add("zeros", zeros(site, of_elements(u64::from(size(dtype)?))?)?, Vec::new(), vec![words])?;
    whole.add("data", copy::whole(site, fact)?, vec![Place::Input(0)], vec![words])?;
    whole.add("updates", launch, operands, vec![words, Place::Nowhere])?;
    let result: &TensorFact = fact;
    whole.add("result", copy::whole(site, result)?, vec![words], vec![Place::Output(0)])?;
    Ok(whole.finish())
}

/// Zeros all over output 0, a multiple of 4 bytes.
fn zeros(site: &GpuSite<'_>, bytes: usize) -> Result<GpuKernel, GpuReject> {
    let (x, y) = (Side { first: 0, steps: &[0] }, Side { first: 0, steps: &[1] });
    let (region, device) = (Region::new(4, &[bytes as u64 / 4], x, y)?, site.device);
    let kernel = GpuKernel::new(move |operands| {
        let zero = *operands.data.first().ok_or(Reject::Absent { operand: "zero" })?;
        let prepared = region.prepare(zero, operands.outputs[0], &device)?;
        Ok(prepared.map(|prepared| Arc::new(prepared) as Arc<dyn Launch>).into_iter().collect())
    });
    Ok(kernel.with_data(vec![0; 4]))
}
