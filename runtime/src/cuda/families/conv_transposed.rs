//! Transposed convolutions: of constant weights and filters enough as convolutions for each phase of their strides, on tensor
//! cores where they apply, in 16 bits where the session asks for it ([`super::narrow`]); else a thread for each element.

use super::composition::{Composition, Place};
use super::conv::{Frame, axes};
use super::copy::size;
use super::located::bytes;
use super::map;
use super::narrow::{Storage, bytes_as};
use super::{element, extent};
use crate::cpu::strided_copy::dense_strides;
use crate::cuda::site::Launches;
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::graph::TensorFact;
use crate::graph::fact::{Fact, Facts};
use crate::loops::{Nest, Opaque};
use crate::ops::window::Span;
use crate::precision::{Kept, Precision, StoredWeights};
use recurve_kernels::conv;
use recurve_kernels::conv_transpose::phases::Phases;
use recurve_kernels::conv_transpose::{Buffers, Shape};
use recurve_kernels::copy::{Region, Side};
use recurve_kernels::element::Element;
use recurve_kernels::launch::{Buffer, Launch};
use std::sync::Arc;

/// Input 0 under the weights of input 1 the other way round: `spans` are those of the convolution that reads the result.
pub(crate) fn kernel(site: &GpuSite<'_>, groups: usize, spans: &[Span]) -> Result<GpuKernel, GpuReject> {
    let own = element(site.dtype(0)?)?;
    let narrow = site.storage(1).narrow().map(|element| (element, true));
    for of in narrow.into_iter().chain([(own, false)]) {
        let shape = shape(site, of.0, groups, spans)?;
        if let Some(kernel) = by_phases(site, &shape, of)? {
            return Ok(kernel);
        }
    }
    if site.behind.is_some() {
        return Err(GpuReject::Form("a transposed convolution with a program behind it".into()));
    }
    let shape = shape(site, own, groups, spans)?;
    shape.accepts()?;
    let device = site.device;
    let kernel = GpuKernel::new(move |operands| {
        let buffers = Buffers {
            x: operands.inputs[0],
            w: operands.inputs[1],
            bias: operands.inputs.get(2).copied().unwrap_or_default(),
            y: operands.outputs[0],
        };
        let prepared = shape.prepare(&buffers, &device)?;
        Ok(prepared.map(|prepared| Arc::new(prepared) as Arc<dyn Launch>).into_iter().collect())
    });
    Ok(kernel.with_stored(site.kept(1)))
}

/// The nest that `build` makes of input 0 with zeros between its elements, `strides` of them from one to the next along its
/// spatial axes, and of the other inputs.
pub(crate) fn spread(
    site: &GpuSite<'_>,
    strides: &[usize],
    build: impl FnOnce(Facts<'_>, &[Fact]) -> Result<Nest, Opaque>,
) -> Result<GpuKernel, GpuReject> {
    let (x, dtype) = (site.input_shape(0)?, site.dtype(0)?);
    let mut wide = x.to_vec();
    for (extent, stride) in wide[2..].iter_mut().zip(strides) {
        let last = extent.checked_sub(1).and_then(|last| last.checked_mul(*stride));
        *extent = last.ok_or(GpuReject::NoKernel)? + 1;
    }
    let fact = TensorFact::known(dtype, &wide);
    let steps = |shape: &[usize]| dense_strides(shape).iter().map(|&step| step as i64).collect::<Vec<i64>>();
    let (from, mut to) = (steps(&x), steps(&wide));
    for (step, &stride) in to[2..].iter_mut().zip(strides) {
        *step *= stride as i64;
    }
    let extents: Vec<u64> = x.iter().map(|&extent| extent as u64).collect();
    let sides = [&from, &to].map(|steps| Side { first: 0, steps });
    let (region, device) = (Region::new(size(dtype)?, &extents, sides[0], sides[1])?, site.device);
    let elements = GpuKernel::new(move |memory| {
        let prepared = region.prepare(memory.inputs[0], memory.outputs[0], &device)?;
        Ok(prepared.map(|prepared| Arc::new(prepared) as Arc<dyn Launch>).into_iter().collect())
    });
    let mut given: Vec<Option<Fact>> = site.inputs.0.iter().map(|fact| fact.cloned()).collect();
    given[0] = Some(fact.into());
    let given: Vec<Option<&Fact>> = given.iter().map(Option::as_ref).collect();
    let inner = GpuSite { inputs: Facts(&given), strided: &[], ..*site };
    let kernel = map::of_nest(&inner, build(inner.inputs, inner.outputs))?;
    let mut whole = Composition::new("spread");
    let room = whole.between(bytes(dtype, &wide)?)?;
    whole.add("zeros", map::zeros(site, dtype, &wide)?, Vec::new(), vec![room])?;
    whole.add("elements", elements, vec![Place::Input(0)], vec![room])?;
    let mut places: Vec<Place> = (0..site.inputs.len()).map(Place::Input).collect();
    places[0] = room;
    whole.add("windows", kernel, places, vec![Place::Output(0)])?;
    Ok(whole.finish())
}

fn shape(site: &GpuSite<'_>, element: Element, groups: usize, spans: &[Span]) -> Result<Shape, GpuReject> {
    let (x, w) = (site.input_shape(0)?, site.input_shape(1)?);
    Ok(Shape {
        element,
        images: extent(x[0])?,
        groups: extent(groups)?,
        channels: extent(w[0] / groups)?,
        filters: extent(w[1])?,
        axes: axes(spans)?,
    })
}

/// A convolution for each phase of the strides, where that is worth it; operands rounded to the shape's type if `narrow`.
fn by_phases(
    site: &GpuSite<'_>,
    shape: &Shape,
    (element, narrow): (Element, bool),
) -> Result<Option<GpuKernel>, GpuReject> {
    let (device, factors) = (site.device, site.factors());
    let phases = Phases::choose(shape, factors, &device);
    let Some((weights, phases)) = site.constant(1).cloned().zip(phases) else { return Ok(None) };
    let (frame, data) = Frame::new(site, (element, narrow), 0)?;
    let workspace = frame.workspace;
    let stored = stored(site, &weights, &phases, (element, narrow));
    let packing = phases.clone();
    let kernel = GpuKernel::new(move |memory| {
        let w = memory.weights.first().copied().unwrap_or_default();
        frame.launches(memory, |x, program| {
            let (y, workspace) = (memory.outputs[0], Buffer::default());
            let launches = phases.prepare(&conv::Buffers { x, w, y, workspace, program }, &device)?;
            Ok(launches.into_iter().map(|launch| Arc::new(launch) as Arc<dyn Launch>).collect::<Launches>())
        })
    });
    let kernel = kernel.with_workspace(workspace).with_resident(Vec::new(), data).with_stored(stored);
    let bytes = packing.packed_bytes() as usize;
    Ok(Some(kernel.with_weights(format!("conv_transpose {element:?}"), bytes, move || {
        let dense = if narrow { bytes_as(&weights, element) } else { weights.bytes().to_vec() };
        let mut packed = vec![0; bytes];
        packing.pack(&dense, &mut packed);
        packed
    })))
}

/// What is told of the weights.
fn stored(
    site: &GpuSite<'_>,
    weights: &crate::tensor::Tensor,
    phases: &Phases,
    (element, narrow): (Element, bool),
) -> Option<StoredWeights> {
    let bytes = phases.packed_bytes() as usize;
    if narrow {
        return Storage::Narrow(element).note(1, weights, bytes);
    }
    if site.precision == Precision::Tf32 && weights.dtype() == DType::F32 {
        let kept = (phases.variant.id != "tensor_tf32").then_some(Kept::NoKernel);
        return Some(StoredWeights::unnamed(1, weights.len(), [weights.bytes().len(), bytes], kept));
    }
    site.kept(1)
}
