//! Convolutions: one channel to a filter as `depthwise`, windows of one element as the matrix products that they are, 3 × 3 at
//! stride 1 by Winograd's products where that is estimated to pay, all others as `conv`, on tensor cores where they apply; of
//! operands in 16 bits where the session asks for it ([`super::narrow`]).

use super::narrow::{Rounded, Storage, bytes_as};
use super::tail::{From, Making, Tail};
use super::{element, extent};
use crate::cuda::site::Launches;
use crate::cuda::{GpuKernel, GpuReject, GpuSite, Operands};
use crate::dtype::DType;
use crate::ops::window::Span;
use crate::precision::{Kept, Precision, StoredWeights};
use crate::tensor::Tensor;
use recurve_kernels::conv::winograd::{self, Winograd};
use recurve_kernels::conv::{self, Axis, Buffers, MOST_AXES, Shape};
use recurve_kernels::depthwise;
use recurve_kernels::element::Element;
use recurve_kernels::epilogue::Program;
use recurve_kernels::gemm::{self, Factors, Matrix, Problem};
use recurve_kernels::launch::{Buffer, Device, Launch, Reject};
use std::sync::Arc;

/// The kernels that compute a convolution.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// `depthwise`.
    ByChannel,
    /// A matrix product for each image, terms in so many parts.
    Product(Problem, &'static gemm::Variant, u32),
    /// Winograd's products, of packed weights.
    Winograd(Winograd),
    /// `conv`, terms in so many parts.
    Direct(&'static conv::Variant, u32),
}

/// What weights may be packed for: those that are constant.
#[derive(Clone, Copy, Debug)]
struct Packs {
    /// Rows that begin where copies do.
    rows: bool,
    /// Winograd's products.
    winograd: bool,
}

/// The product that a convolution of windows of one element is: filters by the channels of an image.
fn product(shape: &Shape, factors: Factors) -> Option<Problem> {
    let plain =
        |axis: &Axis| axis.kernel == 1 && axis.stride == 1 && axis.begin == 0 && axis.input == axis.output;
    if shape.groups != 1 || shape.channels == 0 || !shape.axes.iter().all(plain) {
        return None;
    }
    let n = shape.axes.iter().try_fold(1u32, |n, axis| n.checked_mul(axis.output))?;
    // Blocks along columns and batches, in up to 16 parts each, that a grid has room for.
    if n.div_ceil(64) > 65_535 || shape.images > 65_535 / 16 {
        return None;
    }
    let matrix = |row: u32, batch: u64| Matrix { transposed: false, row: row.into(), batch: [0, batch] };
    Some(Problem {
        element: shape.element,
        factors,
        m: shape.filters,
        n,
        k: shape.channels,
        batches: [1, shape.images],
        a: matrix(shape.channels, 0),
        b: matrix(n, u64::from(shape.channels) * u64::from(n)),
    })
}

impl Way {
    /// The kernels for `shape`.
    fn choose(shape: &Shape, factors: Factors, packs: Packs, device: &Device) -> Result<Self, Reject> {
        if depthwise::accepts(shape).is_ok() {
            return Ok(Self::ByChannel);
        }
        let (direct, parts) = conv::choose(shape, factors, packs.rows, device)?;
        if let Some(problem) = product(shape, factors)
            && let Ok((variant, parts)) = gemm::choose(&problem, device)
            && (direct.id.starts_with("scalar") || !variant.id.starts_with("simt"))
        {
            return Ok(Self::Product(problem, variant, parts));
        }
        match winograd::choose(shape, factors, device) {
            Some(winograd) if packs.winograd => Ok(Self::Winograd(winograd)),
            _ => Ok(Self::Direct(direct, parts)),
        }
    }

    /// Bytes of workspace.
    fn workspace(&self, shape: &Shape, device: &Device) -> Result<u64, Reject> {
        match self {
            Self::ByChannel => Ok(0),
            Self::Product(problem, variant, parts) => Ok(variant.workspace_bytes(problem, *parts)),
            Self::Winograd(winograd) => winograd.workspace_bytes(device),
            Self::Direct(variant, parts) => Ok(variant.workspace_bytes(shape, *parts)),
        }
    }

    /// The launches.
    fn launches(
        &self,
        (shape, factors): (&Shape, Factors),
        buffers: &Buffers,
        device: &Device,
    ) -> Result<Launches, Reject> {
        let Buffers { x, w, y, workspace, program } = *buffers;
        let mut launches = Launches::new();
        match self {
            Self::ByChannel => launches.push(Arc::new(depthwise::prepare(shape, buffers, device)?)),
            Self::Product(problem, variant, parts) => {
                let operands = gemm::Operands { a: w, b: x, c: y, workspace, program };
                let plan = variant.prepare(problem, *parts, &operands, device)?;
                launches.push(Arc::new(plan.product));
                launches.extend(plan.sum.map(|sum| Arc::new(sum) as Arc<dyn Launch>));
            }
            Self::Winograd(winograd) => {
                let buffers = winograd::Buffers { x, u: w, y, workspace, program };
                let plan = winograd.prepare(&buffers, device)?;
                launches.push(Arc::new(plan.input));
                launches.push(Arc::new(plan.product.product));
                launches.extend(plan.product.sum.map(|sum| Arc::new(sum) as Arc<dyn Launch>));
                launches.push(Arc::new(plan.output));
            }
            Self::Direct(variant, parts) => {
                let plan = variant.prepare(shape, (factors, *parts), buffers, device)?;
                launches.push(Arc::new(plan.product));
                launches.extend(plan.sum.map(|sum| Arc::new(sum) as Arc<dyn Launch>));
            }
        }
        Ok(launches)
    }

    /// What is told of constant weights of f32, which take so many bytes, where they may be multiplied as tf32: that they are,
    /// or why not.
    fn multiplied(&self, weights: &Tensor, bytes: usize) -> StoredWeights {
        let kept = match self {
            Self::Direct(variant, _) if variant.id == "tensor_tf32" => None,
            Self::Product(_, variant, _) if variant.id == "tf32" => None,
            Self::ByChannel => Some(Kept::NoKernel),
            _ => Some(Kept::Unaligned),
        };
        StoredWeights::unnamed(1, weights.len(), [weights.bytes().len(), bytes], kept)
    }
}

/// Input 0 under the weights of input 1, over `spans`, with a bias where there is an input 2, and what the site has behind it.
pub(crate) fn kernel(site: &GpuSite<'_>, groups: usize, spans: &[Span]) -> Result<GpuKernel, GpuReject> {
    if let Some(element) = site.storage(1).narrow()
        && let Ok(kernel) = of_type(site, (element, true), groups, spans)
    {
        return Ok(kernel);
    }
    let kernel = of_type(site, (element(site.dtype(0)?)?, false), groups, spans)?;
    // What becomes of weights that may be rounded is told with the kernel.
    let kept = if site.precision == Precision::Tf32 { None } else { site.kept(1) };
    Ok(kernel.with_stored(kept))
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
    let (device, factors) = (site.device, site.factors());
    let constant = site.constant(1).cloned();
    let packs = Packs { rows: constant.is_some(), winograd: constant.is_some() && !site.lean };
    let way = Way::choose(&shape, factors, packs, &device)?;
    let own = usize::try_from(way.workspace(&shape, &device)?)
        .map_err(|_| GpuReject::Form("a workspace of so many bytes".into()))?;
    let (frame, data) = Frame::new(site, (element, narrow), own)?;
    let workspace = frame.workspace;
    let kernel = GpuKernel::new(move |memory| {
        let w = memory.weights.first().copied().unwrap_or(memory.inputs[1]);
        frame.launches(memory, |x, program| {
            let buffers = Buffers { x, w, y: memory.outputs[0], workspace: memory.workspace, program };
            way.launches((&shape, factors), &buffers, &device)
        })
    });
    let kernel = kernel.with_workspace(workspace).with_resident(Vec::new(), data);
    let Some(weights) = constant else { return Ok(kernel) };
    if let Way::Winograd(winograd) = way {
        let (own, bytes) = (weights.bytes().len(), winograd.packed_bytes() as usize);
        let tf32 = factors == Factors::Tf32 && weights.dtype() == DType::F32;
        let kernel = kernel.with_stored(tf32.then(|| way.multiplied(&weights, own)));
        return Ok(kernel.with_weights("conv winograd", bytes, move || packed(&winograd, &weights)));
    }
    let in_rows = match way {
        Way::Direct(variant, _) if variant.is_packed(&shape) => Some(variant),
        _ => None,
    };
    let bytes = in_rows.map_or(weights.len() as u64 * element.bytes(), |v| v.weight_bytes(&shape)) as usize;
    let kernel = kernel.with_stored(match factors {
        _ if narrow => Storage::Narrow(element).note(1, &weights, bytes),
        Factors::Tf32 if weights.dtype() == DType::F32 => Some(way.multiplied(&weights, bytes)),
        _ => None,
    });
    if !narrow && in_rows.is_none() {
        return Ok(kernel);
    }
    let form = format!("conv {element:?}{}", if in_rows.is_some() { " in rows" } else { "" });
    Ok(kernel.with_weights(form, bytes, move || {
        let dense = if narrow { bytes_as(&weights, element) } else { weights.bytes().to_vec() };
        let Some(variant) = in_rows else { return dense };
        let mut rows = vec![0; bytes];
        variant.pack(&shape, &dense, &mut rows);
        rows
    }))
}

/// What stands around a convolution's kernels: X rounded to the type of narrower weights, and what comes behind the sums.
pub(super) struct Frame {
    tail: Option<Tail>,
    rounded: Option<Rounded>,
    /// Bytes, those of the kernels among them.
    pub(super) workspace: usize,
}

impl Frame {
    /// Around kernels with operands of type `element`, narrower than the model's if `narrow`, and a workspace of `own` bytes;
    /// and the kernel's data. A bias is input 2.
    pub(super) fn new(
        site: &GpuSite<'_>,
        (element, narrow): (Element, bool),
        own: usize,
    ) -> Result<(Self, Vec<Vec<u8>>), GpuReject> {
        let (x, y) = (site.input_shape(0)?, site.output_shape(0)?);
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
        let rounded = if narrow {
            let count = x.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent));
            let count = count.ok_or_else(|| GpuReject::Form("an input of so many elements".into()))?;
            let (rounded, program) = Rounded::new(site, (count, element), own, data.len())?;
            data.extend(program);
            Some(rounded)
        } else {
            None
        };
        let workspace = rounded.as_ref().map_or(own, Rounded::workspace);
        Ok((Self { tail, rounded, workspace }, data))
    }

    /// The launches that `make` gives of X and the program behind the sums, and what stands before them.
    pub(super) fn launches(
        &self,
        memory: &Operands<'_>,
        make: impl FnOnce(Buffer, Option<Program>) -> Result<Launches, Reject>,
    ) -> Result<Launches, Reject> {
        let (mut launches, mut x) = (Launches::new(), memory.inputs[0]);
        if let Some(rounded) = &self.rounded {
            launches = rounded.launches(memory)?;
            x = rounded.place(memory);
        }
        launches.extend(Tail::with(self.tail.as_ref(), memory, |program| make(x, program))?);
        Ok(launches)
    }
}

/// Weights as Winograd's products take them.
fn packed(winograd: &Winograd, weights: &Tensor) -> Vec<u8> {
    let w: Vec<f32> =
        weights.bytes().chunks_exact(size_of::<f32>()).map(bytemuck::pod_read_unaligned).collect();
    let mut u = vec![0.0f32; winograd.packed_bytes() as usize / size_of::<f32>()];
    winograd.pack(&w, &mut u);
    bytemuck::cast_slice(&u).to_vec()
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
