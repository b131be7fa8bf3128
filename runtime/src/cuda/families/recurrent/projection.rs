//! The input's part of the gates, `X·Wᵀ + Wb` for all steps and directions: one product.
//!
//! W is `[directions, rows, input]`. Few rows of X by constant weights are a `gemv` over the rows of all directions, which
//! gives `[steps, directions, rows]`; all others are a `gemm` with directions as batches, which gives `[directions, steps,
//! rows]`.

use super::{B, Sizes, W, X};
use crate::cuda::families::extent;
use crate::cuda::families::tail::{From, Making, Tail};
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use recurve_kernels::element::Element;
use recurve_kernels::gemm::{self, Matrix, Problem};
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
    let kernel = if packs { packed(site, sizes, steps)? } else { whole(site, sizes, steps)? };
    Ok(Projection { kernel, gates: Gates { time, batch, direction }, reads_weights: !packs })
}

/// As `gemv`: W as it is stored and the biases of W are packed.
fn packed(site: &GpuSite<'_>, sizes: Sizes, steps: usize) -> Result<GpuKernel, GpuReject> {
    let weights = site.constant(W).cloned().ok_or(GpuReject::NoKernel)?;
    let shape = gemv::Shape {
        batch: extent(steps)?,
        rows: extent(sizes.directions * sizes.rows())?,
        depth: extent(sizes.input)?,
        weights: crate::cuda::families::element(weights.dtype())?,
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
    let kernel = kernel.with_weights(format!("gemv {:?}", shape.weights), bytes, move || {
        let mut packed = vec![0; bytes];
        gemv::pack(&shape, weights.view().bytes(), sizes.input, 1, &mut packed);
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

/// As `gemm`.
fn whole(site: &GpuSite<'_>, sizes: Sizes, steps: usize) -> Result<GpuKernel, GpuReject> {
    let Sizes { input, directions, .. } = sizes;
    let rows = sizes.rows();
    let device = site.device;
    debug_assert!(site.inputs.has(X));
    let problem = Problem {
        element: Element::F32,
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
    let tail = making.finish(site)?;
    let data = Tail::data(tail.as_ref());
    let (variant, splits) = gemm::choose(&problem, &device)?;
    let workspace = variant.workspace_bytes(&problem, splits);
    let kernel = GpuKernel::new(move |memory| {
        let (a, b, c) = (memory.inputs[0], memory.inputs[1], memory.outputs[0]);
        Tail::with(tail.as_ref(), memory, |program| {
            let operands = gemm::Operands { a, b, c, workspace: memory.workspace, program };
            let plan = variant.prepare(&problem, splits, &operands, &device)?;
            let mut launches: Vec<Arc<dyn Launch>> = vec![Arc::new(plan.product)];
            launches.extend(plan.sum.map(|sum| Arc::new(sum) as Arc<dyn Launch>));
            Ok(launches)
        })
    });
    Ok(kernel.with_workspace(workspace as usize).with_data_of(data))
}
