//! The form that MatMulInteger and QLinearMatMul share: operands with zero points (and scales) for the whole
//! tensor, per row of the left operand, or per column of the right one.

use super::mat_mul::batched;
use super::quantised_sum::{Sum, is_one};
use crate::cpu::contraction::BatchAxis;
use crate::cpu::integer_product::{Along, IntegerProduct};
use crate::cuda::{GpuReject, GpuSite};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::loops::{Affine, Opaque, broadcast_index, extents, operand};
use crate::reference::RefTensor;
use crate::tensor::Shape;

/// Element types of quantised operands.
pub(super) const BYTES: &[DType] = &[DType::U8, DType::I8];

/// Which side of a matrix numbers lie along.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Rows,
    Cols,
}

/// Strides of parameters of shape `shape` over the batch axes of extents `batch`, and along the side, which has
/// `extent` rows or columns.
fn along(
    index: usize,
    shape: &[usize],
    side: Side,
    extent: usize,
    batch: &[usize],
) -> Result<(Along, Vec<usize>), OpError> {
    let none = vec![0; batch.len()];
    if shape.iter().product::<usize>() == 1 {
        return Ok((Along { step: 0 }, none));
    }
    let misfit = || OpError::input(index, format!("of shape {shape:?} gives no zero points or scales"));
    let (lead, own) = match (shape, side) {
        ([own], _) => (&shape[..0], *own),
        ([lead @ .., own, 1], Side::Rows) => (lead, *own),
        ([lead @ .., 1, own], Side::Cols) => (lead, *own),
        _ => return Err(misfit()),
    };
    if (own != extent && own != 1) || lead.len() > batch.len() {
        return Err(misfit());
    }
    let mut strides = none;
    let mut stride = own;
    let skip = batch.len() - lead.len();
    for (at, &extent) in lead.iter().enumerate().rev() {
        if extent != 1 && extent != batch[skip + at] {
            return Err(misfit());
        }
        strides[skip + at] = if extent == 1 { 0 } else { stride };
        stride *= extent;
    }
    Ok((Along { step: usize::from(own != 1) }, strides))
}

/// The product of operands of shapes `a` and `b`; `params` are position and shape of their zero points, where
/// given.
pub(super) fn plan(
    a: &[usize],
    b: &[usize],
    params: [Option<(usize, &[usize])>; 2],
) -> Result<IntegerProduct, OpError> {
    let product = batched(a, b)?;
    let batch: Vec<usize> = product.batch.iter().map(|axis| axis.extent).collect();
    let part = |param: Option<(usize, &[usize])>, side, extent| match param {
        Some((index, shape)) => along(index, shape, side, extent, &batch),
        None => Ok((Along::default(), vec![0; batch.len()])),
    };
    let (rows, row_strides) = part(params[0], Side::Rows, product.m)?;
    let (cols, col_strides) = part(params[1], Side::Cols, product.n)?;
    let strides = row_strides.into_iter().zip(col_strides);
    let zero_batch =
        batch.iter().zip(strides).map(|(&extent, (a, b))| BatchAxis { extent, a, b, y: 0 }).collect();
    Ok(IntegerProduct { product, zero_batch, rows, cols })
}

/// Checks [`plan`] where the shapes of inputs `a`, `b` and their parameters are known.
pub(super) fn check_plan(inputs: Facts<'_>, [a, b]: [usize; 2], params: [usize; 2]) -> Result<(), OpError> {
    let shape = |i| Ok::<_, OpError>(inputs.optional(i)?.and_then(TensorFact::known_shape));
    let (Some(x), Some(y)) = (shape(a)?, shape(b)?) else { return Ok(()) };
    let params = [shape(params[0])?.map(|s| (params[0], s)), shape(params[1])?.map(|s| (params[1], s))];
    let params = [&params[0], &params[1]].map(|p| p.as_ref().map(|(i, s)| (*i, s.as_slice())));
    plan(&x, &y, params).map(|_| ())
}

/// [`plan`] of the inputs of a site.
pub(super) fn gpu_plan(
    site: &GpuSite<'_>,
    [a, b]: [usize; 2],
    params: [Option<usize>; 2],
) -> Result<IntegerProduct, GpuReject> {
    let shape =
        |index: Option<usize>| index.map(|at| Ok::<_, GpuReject>((at, site.input_shape(at)?))).transpose();
    let params: [Option<(usize, Shape)>; 2] = [shape(params[0])?, shape(params[1])?];
    let given = [&params[0], &params[1]].map(|p| p.as_ref().map(|(index, shape)| (*index, shape.as_slice())));
    plan(&site.input_shape(a)?, &site.input_shape(b)?, given).map_err(|_| GpuReject::NoKernel)
}

/// The sum that a product of quantised inputs is, their zero points perhaps among the inputs, and the places of the
/// parameters of rows and columns.
pub(super) fn multiplied(
    (inputs, outputs): (Facts<'_>, &[Fact]),
    [a, b]: [usize; 2],
    zeros: [Option<usize>; 2],
) -> Result<(Sum, [Vec<Affine>; 2]), Opaque> {
    let (a_shape, b_shape) = (extents(operand(inputs, a)?)?, extents(operand(inputs, b)?)?);
    let y = outputs.first().and_then(Fact::tensor).ok_or(Opaque::Operator)?;
    let mut axes = extents(y)?.to_vec();
    let (rows, cols) = (usize::from(a_shape.len() > 1), usize::from(b_shape.len() > 1));
    let depth = axes.len();
    let lead = depth - rows - cols;
    let spread = |shape: &[Dim]| broadcast_index(shape, &axes[..lead]);
    let index = |shape: &[Dim], own: &[usize]| {
        let mut index = spread(&shape[..shape.len() - own.len()])?;
        index.extend(own.iter().map(|&axis| Affine::axis(axis)));
        Ok::<_, Opaque>(index)
    };
    let last = depth - cols;
    let of_a = if rows > 0 { index(a_shape, &[lead, depth])? } else { vec![Affine::axis(depth)] };
    let of_b = if cols > 0 { index(b_shape, &[depth, last])? } else { vec![Affine::axis(depth)] };
    // Where there is a parameter for each row of one matrix, or each column, behind those of the matrices in front.
    let parameter = |index: usize, side: Side, axis: usize| {
        let fact = operand(inputs, index)?;
        if is_one(fact)? {
            return Ok(Vec::new());
        }
        let own =
            |extent: &Dim| if *extent == Dim::Known(1) { Affine::constant(0) } else { Affine::axis(axis) };
        match (extents(fact)?, side) {
            ([extent], _) => Ok(vec![own(extent)]),
            ([lead @ .., extent, _], Side::Rows) => {
                Ok([spread(lead)?, vec![own(extent), Affine::constant(0)]].concat())
            }
            ([lead @ .., _, extent], Side::Cols) => {
                Ok([spread(lead)?, vec![Affine::constant(0), own(extent)]].concat())
            }
            _ => Err(Opaque::Extents),
        }
    };
    let of = |zero: Option<usize>, side: Side, axis: usize| {
        zero.map(|index| Ok::<_, Opaque>((index, parameter(index, side, axis)?))).transpose()
    };
    let zeros = [of(zeros[0], Side::Rows, lead)?, of(zeros[1], Side::Cols, last)?];
    let places = [&zeros[0], &zeros[1]].map(|zero| zero.as_ref().map_or(Vec::new(), |zero| zero.1.clone()));
    axes.push(a_shape[a_shape.len() - 1].clone());
    let sum = Sum {
        axes,
        over: vec![depth],
        operands: [(a, of_a), (b, of_b)],
        zeros,
        windows: false,
        store: (0..depth).map(Affine::axis).collect(),
    };
    Ok((sum, places))
}

/// One element of the reference's product: its sum, and the positions of its parameters.
pub(super) struct ReferenceSum {
    pub(super) sum: i128,
    pub(super) row: usize,
    pub(super) col: usize,
}

/// Sums of `(a − za) · (b − zb)` and the shape of the output.
pub(super) fn reference_sums(
    (a, b): (&RefTensor, &RefTensor),
    (a_zero, b_zero): (Option<&RefTensor>, Option<&RefTensor>),
) -> Result<(Vec<usize>, Vec<ReferenceSum>), OpError> {
    let (mut left, mut right) = (a.shape.clone(), b.shape.clone());
    if left.len() == 1 {
        left.insert(0, 1);
    }
    if right.len() == 1 {
        right.push(1);
    }
    let (m, k, n) = (left[left.len() - 2], left[left.len() - 1], right[right.len() - 1]);
    let mut full = RefTensor::broadcast_shape(&[&left[..left.len() - 2], &right[..right.len() - 2]])?;
    full.extend([m, n]);
    let zero = |zeros: Option<&RefTensor>, at: usize| match zeros {
        Some(zeros) => zeros.as_ints().map(|v| v[at]),
        None => Ok(0),
    };
    let mut sums = Vec::new();
    for flat in 0..full.iter().product() {
        let index = RefTensor::unravel(&full, flat);
        let (lead, i, j) = (&index[..index.len() - 2], index[index.len() - 2], index[index.len() - 1]);
        let at = |l: usize, c: usize| [lead, &[l, c]].concat();
        // A vector of row parameters is a column; one of column parameters is a row as it is.
        let row = a_zero.map_or(0, |z| {
            let shape = if z.shape.len() == 1 { vec![z.shape[0], 1] } else { z.shape.clone() };
            RefTensor::broadcast_position(&shape, &at(i, 0))
        });
        let col = b_zero.map_or(0, |z| RefTensor::broadcast_position(&z.shape, &at(0, j)));
        let mut sum = 0;
        for l in 0..k {
            let x = a.as_ints()?[RefTensor::broadcast_position(&left, &at(i, l))];
            let y = b.as_ints()?[RefTensor::broadcast_position(&right, &at(l, j))];
            sum += (x - zero(a_zero, row)?) * (y - zero(b_zero, col)?);
        }
        sums.push(ReferenceSum { sum, row, col });
    }
    let mut shape = full;
    if b.shape.len() == 1 {
        shape.pop();
    }
    if a.shape.len() == 1 {
        shape.remove(shape.len() - usize::from(b.shape.len() > 1) - 1);
    }
    Ok((shape, sums))
}
