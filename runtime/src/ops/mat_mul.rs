//! # MatMul
//! `y[…, i, j] = Σ_l a[…, i, l] · b[…, l, j]` as numpy's `matmul`: leading axes broadcast, a 1-D left operand
//! is a row and a 1-D right operand a column whose axis is dropped from the result. Opsets 1, 9 (integers),
//! 13 (bfloat16). Integers wrap.

use super::q_linear_mat_mul::QLinearMatMul;
use super::{Accuracy, Cost, Making, Op, OpDef, PackSite, Packed, Product};
use crate::cpu::constant_matrix::{self, ConstantMatrix};
use crate::cpu::contraction::{BatchAxis, Contraction, Left, Right, tail};
use crate::cpu::number::dispatch;
use crate::cpu::program::Layout;
use crate::cpu::row_epilogue::Finish;
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::families::product;
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact, broadcast_dims};
use crate::loops::{Affine, Fold, Nest, Opaque, Outside, Stages, broadcast_index, extents, operand};
use crate::reference::{RefData, RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "MatMul",
    domain: "",
    since: &[1, 9, 13],
    until: None,
    dtypes: DTYPES,
    accuracy: Accuracy::Reduction,
    parse: |_| Ok(Arc::new(MatMul)),
    case,
};

/// Element types of products.
pub(super) const DTYPES: &[DType] =
    &[DType::F32, DType::F64, DType::F16, DType::BF16, DType::I32, DType::I64, DType::U32, DType::U64];

#[derive(Debug)]
struct MatMul;

/// The shape of the product of operands of shapes `a` and `b`.
pub(super) fn product_dims(a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>, OpError> {
    let (Some(inner_a), Some(first_b)) = (a.last(), b.first()) else {
        return Err(OpError::shape("a scalar has no matrix product"));
    };
    let inner_b = if b.len() > 1 { &b[b.len() - 2] } else { first_b };
    if let (Some(x), Some(y)) = (inner_a.known(), inner_b.known())
        && x != y
    {
        return Err(OpError::shape(format!("inner extents {x} and {y} differ")));
    }
    let batch = |s: &[Dim]| s[..s.len().saturating_sub(2)].to_vec();
    let mut out = broadcast_dims(&[&batch(a), &batch(b)])?;
    if a.len() > 1 {
        out.push(a[a.len() - 2].clone());
    }
    if b.len() > 1 {
        out.push(b[b.len() - 1].clone());
    }
    Ok(out)
}

/// The same product with the batch axes that only the left side has as further rows, where they lie so in memory.
fn merged(mut out: Contraction) -> Result<Contraction, OpError> {
    out.batch.retain(|axis| axis.extent != 1);
    while let Some(axis) = out.batch.last().copied()
        && axis.b == 0
        && (out.m == 1 || axis.a == out.m.saturating_mul(out.a.0) && axis.y == out.m.saturating_mul(out.y))
    {
        if out.m == 1 {
            (out.a.0, out.y) = (axis.a, axis.y);
        }
        out.m *= axis.extent;
        out.batch.pop();
    }
    Ok(out)
}

/// The product of row-major operands of known shapes, with all their batch axes.
pub(super) fn batched(a: &[usize], b: &[usize]) -> Result<Contraction, OpError> {
    strided((a, &Layout::dense(a).strides), (b, &Layout::dense(b).strides), None)
}

/// The same of operands with these strides, and of a result with these where it is not row-major.
fn strided(
    (a, a_strides): (&[usize], &[usize]),
    (b, b_strides): (&[usize], &[usize]),
    y_strides: Option<&[usize]>,
) -> Result<Contraction, OpError> {
    let scalar = || OpError::shape("a scalar has no matrix product");
    let (&k, &last_b) = (a.last().ok_or_else(scalar)?, b.last().ok_or_else(scalar)?);
    let m = if a.len() > 1 { a[a.len() - 2] } else { 1 };
    let (n, depth) = if b.len() > 1 { (last_b, b[b.len() - 2]) } else { (1, last_b) };
    if depth != k {
        return Err(OpError::shape(format!("inner extents {k} and {depth} differ")));
    }
    let (batch_a, batch_b) = (&a[..a.len().saturating_sub(2)], &b[..b.len().saturating_sub(2)]);
    let rank = batch_a.len().max(batch_b.len());
    let at = |batch: &[usize], axis: usize| (axis + batch.len()).checked_sub(rank);
    let extent = |batch: &[usize], axis: usize| at(batch, axis).map_or(1, |at| batch[at]);
    let stride = |batch: &[usize], strides: &[usize], axis: usize| match at(batch, axis) {
        Some(at) if batch[at] != 1 => strides[at],
        _ => 0,
    };
    let mut axes = Vec::with_capacity(rank);
    for axis in 0..rank {
        let (x, y) = (extent(batch_a, axis), extent(batch_b, axis));
        if x != y && x != 1 && y != 1 {
            return Err(OpError::shape(format!("batch extents {x} and {y} do not broadcast")));
        }
        let extent = if x == 1 { y } else { x };
        axes.push(BatchAxis {
            extent,
            a: stride(batch_a, a_strides, axis),
            b: stride(batch_b, b_strides, axis),
            y: 0,
        });
    }
    // A vector is a row on the left and a column on the right.
    let along =
        |strides: &[usize], from_end: usize| strides.len().checked_sub(from_end).map_or(0, |at| strides[at]);
    let of_b =
        if b.len() > 1 { (along(b_strides, 2), along(b_strides, 1)) } else { (along(b_strides, 1), 1) };
    let of_a = (along(a_strides, 2), along(a_strides, 1));
    let mut product = Contraction { batch: axes, m, n, k, a: of_a, b: of_b, y: n }.row_major();
    // Only results of matrices are written otherwise than row by row.
    if let Some((strides, &row)) = y_strides.and_then(|strides| Some((strides, strides.get(rank)?))) {
        product.batch.iter_mut().zip(strides).for_each(|(axis, &stride)| axis.y = stride);
        product.y = row;
    }
    Ok(product)
}

/// Work of a product whose left operand has shape `a`.
pub(super) fn product_cost(inputs: Facts<'_>, outputs: &[Fact], depth: Option<usize>) -> Cost {
    let count = |f: &Fact| f.tensor().and_then(TensorFact::element_count).unwrap_or(0) as f64;
    let bytes = |f: &Fact| f.tensor().and_then(TensorFact::bytes).unwrap_or(0) as f64;
    let written = outputs.first().map_or(0.0, bytes);
    let flops = 2.0 * outputs.first().map_or(0.0, count) * depth.unwrap_or(0) as f64;
    Cost { flops, bytes: written + inputs.0.iter().flatten().map(|f| bytes(f)).sum::<f64>() }
}

impl Op for MatMul {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 2)?;
        let (a, b) = (inputs.typed(0, DTYPES)?, inputs.tensor(1)?);
        if a.dtype != b.dtype {
            return Err(OpError::DType { index: 1, got: b.dtype });
        }
        let shape = match (&a.shape, &b.shape) {
            (Some(a), Some(b)) => Some(product_dims(a, b)?),
            _ => None,
        };
        Ok(vec![TensorFact { shape, ..TensorFact::unranked(a.dtype) }.into()])
    }

    fn cost(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Cost {
        let depth = inputs.tensor(0).ok().and_then(|a| a.shape.as_ref()?.last()?.known());
        product_cost(inputs, outputs, depth)
    }

    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        let (a, b) = (extents(operand(inputs, 0)?)?, extents(operand(inputs, 1)?)?);
        let mut axes = extents(outputs.first().and_then(Fact::tensor).ok_or(Opaque::Operator)?)?.to_vec();
        let depth = axes.len();
        let lead = depth - usize::from(a.len() > 1) - usize::from(b.len() > 1);
        let index = |shape: &[Dim], own: &[usize]| -> Result<Vec<Affine>, Opaque> {
            let mut index = broadcast_index(&shape[..shape.len() - own.len()], &axes[..lead])?;
            index.extend(own.iter().map(|&axis| Affine::axis(axis)));
            Ok(index)
        };
        let last = depth - usize::from(b.len() > 1);
        let a_index = if a.len() > 1 { index(a, &[lead, depth])? } else { vec![Affine::axis(depth)] };
        let b_index = if b.len() > 1 { index(b, &[depth, last])? } else { vec![Affine::axis(depth)] };
        axes.push(a[a.len() - 1].clone());
        let mut nest = Stages::over(inputs, outputs, axes)?;
        let (a, b) = (nest.read(0, a_index, Outside::Never)?, nest.read(1, b_index, Outside::Never)?);
        let sum = nest.fold(Fold::Sum, &[depth], &[a, b], |p, v| p.mul(v[0], v[1]))?;
        nest.store((0..depth).map(Affine::axis).collect(), &[], &[sum], |_, v| v[0])
    }

    fn epilogue_rows(&self, inputs: Facts<'_>) -> Option<usize> {
        let (a, b) = (inputs.tensor(0).ok()?.rank()?, inputs.tensor(1).ok()?.rank()?);
        (a >= 2 && b >= 2).then(|| a.max(b) - 1)
    }

    fn strided_operands(&self) -> usize {
        2
    }

    fn making(&self, _inputs: Facts<'_>) -> Making {
        Making::Rows
    }

    fn writes_strided(&self) -> bool {
        true
    }

    fn pack(&self, site: &PackSite<'_>) -> Result<Option<Packed>, OpError> {
        let rows = site.inputs.optional(0)?.and_then(|a| {
            let shape = a.shape.as_ref()?;
            let rows = &shape[..shape.len().saturating_sub(1)];
            rows.iter().try_fold(1usize, |n, dim| n.checked_mul(dim.known()?))
        });
        constant_matrix::pack(site, 1, false, rows)
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let (a, b) = (site.input_layout(0)?, site.input_layout(1)?);
        let shapes = (site.input_shape(0)?, site.input_shape(1)?);
        let written = site.written.map(|layout| layout.strides.as_slice());
        let product = merged(strided((&shapes.0, &a.strides), (&shapes.1, &b.strides), written)?)?;
        let (epilogue, fill) = (site.epilogue.cloned(), site.prologue.cloned());
        dispatch!(site.inputs.tensor(0)?.dtype, numbers, T => {
            let constant = site.packed_as::<ConstantMatrix>();
            let scratch = product.scratch::<T>(site.threads, fill.is_some(), constant.as_deref());
            let kernel = Kernel::new(move |io| {
                let right = match &constant {
                    Some(matrix) => Right::Constant(matrix),
                    None => Right::Given(tail(io.input::<T>(1)?, b.offset)),
                };
                let filler = fill.as_deref().map(|fill| fill.bind(io)).transpose()?;
                let make = |row: usize, rows: &mut [T]| filler.as_ref().map_or(Ok(()), |f| f.fill(row, rows));
                let left = match filler {
                    Some(_) => Left::Made(&make),
                    None => Left::Given(tail(io.input::<T>(0)?, a.offset)),
                };
                let finish = Finish::bind(epilogue.as_deref(), io)?;
                let context = io.context;
                product.run_from(context, (left, right), io.output_and_scratch::<T>(0)?, &|row, col, y| {
                    finish.apply_block(row, col, y)
                })
            });
            Ok(kernel.with_scratch(scratch))
        })
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let shapes = (site.input_shape(0)?, site.input_shape(1)?);
        let (a, b) = (site.input_layout(0)?, site.input_layout(1)?);
        let contraction = strided((&shapes.0, &a.strides), (&shapes.1, &b.strides), None);
        let contraction = contraction.and_then(merged).map_err(|_| GpuReject::NoKernel)?;
        let offsets = [a.offset, b.offset];
        let product = product::Product { contraction, offsets, alpha: 1.0, beta: 1.0, addend: None };
        product.kernel(site).or_else(|reject| site.of_nest(reject, || self.nest(site.inputs, site.outputs)))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (a, b) = (inputs.tensor(0)?, inputs.tensor(1)?);
        Ok(vec![reference_product(a, b)?.into()])
    }

    fn quantised(&self) -> Option<(Arc<dyn Op>, &'static str)> {
        Some((Arc::new(QLinearMatMul), "QLinearMatMul"))
    }

    fn product(&self) -> Option<Product> {
        Some(Product { alpha: 1.0, beta: 0.0, transpose_a: false, transpose_b: false })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn reference_product(a: &RefTensor, b: &RefTensor) -> Result<RefTensor, OpError> {
    let mut a_shape = a.shape.clone();
    let mut b_shape = b.shape.clone();
    if a_shape.len() == 1 {
        a_shape.insert(0, 1);
    }
    if b_shape.len() == 1 {
        b_shape.push(1);
    }
    let (a_lead, a_matrix) = a_shape.split_at(a_shape.len() - 2);
    let (b_lead, b_matrix) = b_shape.split_at(b_shape.len() - 2);
    let lead = RefTensor::broadcast_shape(&[a_lead, b_lead])?;
    let (m, k, n) = (a_matrix[0], a_matrix[1], b_matrix[1]);
    let count: usize = lead.iter().product::<usize>() * m * n;
    let mut pairs: Vec<Vec<(usize, usize)>> = Vec::with_capacity(count);
    for at in 0..count {
        let index = RefTensor::unravel(&lead, at / (m * n));
        let a_at = RefTensor::broadcast_position(a_lead, &index) * m * k + at % (m * n) / n * k;
        let b_at = RefTensor::broadcast_position(b_lead, &index) * k * n + at % n;
        pairs.push((0..k).map(|l| (a_at + l, b_at + l * n)).collect());
    }
    let mut shape = lead;
    if a.shape.len() > 1 {
        shape.push(m);
    }
    if b.shape.len() > 1 {
        shape.push(n);
    }
    match (&a.data, &b.data) {
        (RefData::Float(x), RefData::Float(y)) => {
            let sum = |p: Vec<(usize, usize)>| p.into_iter().map(|(i, j)| x[i] * y[j]).sum();
            Ok(RefTensor::floats(a.dtype, &shape, pairs.into_iter().map(sum).collect()))
        }
        (RefData::Int(x), RefData::Int(y)) => {
            let sum = |p: Vec<(usize, usize)>| {
                p.into_iter().fold(0i128, |s, (i, j)| s.wrapping_add(x[i].wrapping_mul(y[j])))
            };
            Ok(RefTensor::wrapped(a.dtype, &shape, pairs.into_iter().map(sum).collect()))
        }
        _ => Err(OpError::internal("a product of operands of different kinds")),
    }
}

fn case(g: &mut Gen) -> Case {
    let dtype = *g.pick(DTYPES);
    let (m, n) =
        if g.chance(0.1) { (g.extent(), g.size(0, 300)) } else { (g.positive_extent(), g.positive_extent()) };
    let k = if g.chance(0.1) { g.size(0, 600) } else { g.extent() };
    let rank = g.size(0, 2);
    let lead = g.shape(rank);
    let (mut a, mut b) = (g.broadcastable(&lead), g.broadcastable(&lead));
    match g.size(0, 5) {
        0 => (a, b) = (vec![k], vec![k]),
        1 => {
            a = vec![k];
            b.extend([k, n]);
        }
        2 => {
            a.extend([m, k]);
            b = vec![k];
        }
        _ => {
            a.extend([m, k]);
            b.extend([k, n]);
        }
    }
    let case = if dtype.is_int() {
        Case::new([g.any_tensor(dtype, &a), g.any_tensor(dtype, &b)])
    } else {
        // Long sums of smaller terms, so that rounding stays within the class.
        let bound = if k > 64 { 0.5 } else { 2.0 };
        Case::new([g.tensor_in(dtype, &a, -bound, bound), g.tensor_in(dtype, &b, -bound, bound)])
    };
    if g.chance(0.5) { case.constant(1) } else { case }
}
