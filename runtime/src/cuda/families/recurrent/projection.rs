//! The input's part of the gates, `X·Wᵀ + Wb` for all steps and directions: one product.
//!
//! W is `[directions, rows, input]`. Few rows of X by constant weights are a `gemv` over the rows of all directions, which
//! gives `[steps, directions, rows]`; all others are a `gemm` with directions as batches, which gives `[directions, steps,
//! rows]`. Constant weights are in 16 bits where the session asks for it; in the second case so is X.

use super::{B, Sizes, W, X};
use crate::cuda::families::extent;
use crate::cuda::families::narrow::{Rounded, Storage, bytes_as};
use crate::cuda::families::tail::{From, Making, Tail};
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use recurve_kernels::element::Element;
use recurve_kernels::gemm::{self, Factors, Matrix, Problem};
use recurve_kernels::gemv;
use recurve_kernels::launch::Launch;
use std::sync::Arc;

/// Elements between the gates of two steps, of two sequences, and of two directions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gates {
    pub(super) time: usize,
    pub(super) batch: usize,
    pub(super) direction: usize,
}

/// The product: its inputs are X, W and B, all f32.
pub(super) struct Projection {
    pub(super) kernel: GpuKernel,
    pub(super) gates: Gates,
    /// Whether it reads W itself, not packed weights.
    pub(super) reads_weights: bool,
}

pub(super) fn new(site: &GpuSite<'_>, sizes: Sizes, batch_first: bool) -> Result<Projection, GpuReject> {
    let Sizes { time, batch, input, directions, .. } = sizes;
    let steps = time.checked_mul(batch).ok_or_else(|| GpuReject::Form("so many steps".into()))?;
    let constant_bias = !site.inputs.has(B) || site.constant(B).is_some();
    let packs = steps <= gemv::MOST as usize && input > 0 && constant_bias && site.constant(W).is_some();
    let row = if packs { directions * sizes.rows() } else { sizes.rows() };
    let (time, batch) = if batch_first { (row, time * row) } else { (batch * row, row) };
    let direction = if packs { sizes.rows() } else { steps.saturating_mul(row) };
    let narrow = site.storage(W).narrow();
    let (kernel, is_own) = if packs {
        (packed(site, sizes, steps)?, false)
    } else if let Some(element) = narrow
        && let Ok(kernel) = whole(site, sizes, steps, Some(element))
    {
        (kernel, false)
    } else {
        (whole(site, sizes, steps, None)?.with_stored(site.kept(W)), true)
    };
    Ok(Projection { kernel, gates: Gates { time, batch, direction }, reads_weights: is_own })
}

/// As `gemv`: W as it is stored and the biases of W are packed.
fn packed(site: &GpuSite<'_>, sizes: Sizes, steps: usize) -> Result<GpuKernel, GpuReject> {
    let weights = site.constant(W).cloned().ok_or(GpuReject::NoKernel)?;
    let storage = site.storage(W);
    let stored = storage.narrow().map_or_else(|| crate::cuda::families::element(weights.dtype()), Ok)?;
    let shape = gemv::Shape {
        batch: extent(steps)?,
        rows: extent(sizes.directions * sizes.rows())?,
        depth: extent(sizes.input)?,
        weights: stored,
        x: Element::F32,
        y: Element::F32,
    };
    let (variant, device) = (gemv::VARIANTS.choose(&shape)?, site.device);
    let bias = site.constant(B).cloned();
    let mut making = Making::over(DType::F32, &[steps, sizes.directions * sizes.rows()]);
    if bias.is_some() {
        let of_w = making.read(From::Weights(1), DType::F32, vec![0, 1], 0);
        let sum = making.builder.add(making.y, of_w);
        making.set(sum);
    }
    let tail = making.finish(site)?;
    let data = Tail::data(tail.as_ref());
    let kernel = GpuKernel::new(move |memory| {
        let (x, w, y) = (memory.inputs[0], memory.weights[0], memory.outputs[0]);
        let launch = Tail::with(tail.as_ref(), memory, |program| {
            variant.prepare(&shape, &gemv::Buffers { x, w, y, program }, &device)
        })?;
        Ok(vec![Arc::new(launch)])
    });
    let kernel = kernel.with_data_of(data);
    let bytes = gemv::packed_bytes(&shape) as usize;
    let kernel = kernel.with_stored(storage.note(W, &weights, bytes));
    let kernel = kernel.with_weights(format!("gemv {stored:?}"), bytes, move || {
        let mut packed = vec![0; bytes];
        gemv::pack(&shape, &bytes_as(&weights, stored), sizes.input, 1, &mut packed);
        packed
    });
    let Some(bias) = bias else { return Ok(kernel) };
    Ok(kernel.with_weights("Wb", 4 * sizes.directions * sizes.rows(), move || {
        let rows = sizes.rows();
        // Of each direction the biases of W, which stand before those of R.
        let of = |at: usize| bias.f64_at(at).unwrap_or(0.0) as f32;
        let all = (0..sizes.directions).flat_map(|d| (0..rows).map(move |row| 2 * d * rows + row));
        all.flat_map(|at| of(at).to_le_bytes()).collect()
    }))
}

/// As `gemm`, of operands rounded to `narrow` where there is one.
fn whole(
    site: &GpuSite<'_>,
    sizes: Sizes,
    steps: usize,
    narrow: Option<Element>,
) -> Result<GpuKernel, GpuReject> {
    let Sizes { input, directions, .. } = sizes;
    let rows = sizes.rows();
    let device = site.device;
    debug_assert!(site.inputs.has(X));
    let problem = Problem {
        element: narrow.unwrap_or(Element::F32),
        factors: Factors::Own,
        m: extent(steps)?,
        n: extent(rows)?,
        k: extent(input)?,
        batches: [1, extent(directions)?],
        a: Matrix { transposed: false, row: input as u64, batch: [0, 0] },
        b: Matrix { transposed: true, row: input as u64, batch: [0, (rows * input) as u64] },
    };
    let mut making = Making::over(DType::F32, &[directions, steps, rows]);
    if site.inputs.has(B) {
        let of_w = making.read(From::Input(2), DType::F32, vec![2 * rows as u64, 0, 1], 0);
        let sum = making.builder.add(making.y, of_w);
        making.set(sum);
    }
    if narrow.is_some() {
        making.keep();
    }
    let tail = making.finish(site)?;
    let mut data: Vec<Vec<u8>> = Tail::data(tail.as_ref()).into_iter().collect();
    let (variant, splits) = gemm::choose(&problem, &device)?;
    let splits = site.splits(splits);
    let mut workspace = variant.workspace_bytes(&problem, splits) as usize;
    let rounded = match narrow {
        Some(element) => {
            let (rounded, program) = Rounded::new(site, (steps * input, element), workspace, data.len())?;
            data.extend(program);
            workspace = rounded.workspace();
            Some(rounded)
        }
        None => None,
    };
    let kernel = GpuKernel::new(move |memory| {
        let (mut a, c) = (memory.inputs[0], memory.outputs[0]);
        let b = memory.weights.first().copied().unwrap_or(memory.inputs[1]);
        let mut before = Vec::new();
        if let Some(rounded) = &rounded {
            before = rounded.launches(memory)?;
            a = rounded.place(memory);
        }
        Tail::with(tail.as_ref(), memory, |program| {
            let operands = gemm::Operands { a, b, c, workspace: memory.workspace, program };
            let plan = variant.prepare(&problem, splits, &operands, &device)?;
            let mut launches = before;
            launches.push(Arc::new(plan.product) as Arc<dyn Launch>);
            launches.extend(plan.sum.map(|sum| Arc::new(sum) as Arc<dyn Launch>));
            Ok(launches)
        })
    });
    let kernel = kernel.with_workspace(workspace).with_resident(Vec::new(), data);
    let (Some(element), Some(weights)) = (narrow, site.constant(W).cloned()) else { return Ok(kernel) };
    let bytes = weights.len() * element.bytes() as usize;
    let kernel = kernel.with_stored(Storage::Narrow(element).note(W, &weights, bytes));
    Ok(kernel.with_weights(format!("W {element:?}"), bytes, move || bytes_as(&weights, element)))
}
