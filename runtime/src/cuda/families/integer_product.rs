//! Products of quantised matrices, as `gemm::integer` computes them: sums of 32 bits, and bytes again by a map behind them.

use super::composition::{Composition, Place};
use super::quantised::requantise;
use super::{extent, map};
use crate::cpu::contraction::BatchAxis;
use crate::cpu::integer_product::IntegerProduct;
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use recurve_kernels::gemm::integer::{Buffers, Bytes, Shape};
use recurve_kernels::launch::Launch;
use std::sync::Arc;

/// Inputs that are the operands, and their zero points.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inputs {
    pub(crate) operands: [usize; 2],
    pub(crate) zeros: [Option<usize>; 2],
}

/// The sums of `product`, 32-bit integers, as output 0.
pub(crate) fn sums(
    site: &GpuSite<'_>,
    product: &IntegerProduct,
    inputs: Inputs,
) -> Result<GpuKernel, GpuReject> {
    let (shape, device) = (shape(site, product, inputs.operands)?, site.device);
    shape.accepts()?;
    Ok(GpuKernel::new(move |memory| {
        let zero = |of: usize| inputs.zeros[of].map_or_else(Default::default, |at| memory.inputs[at]);
        let buffers = Buffers {
            a: memory.inputs[inputs.operands[0]],
            a_zero: zero(0),
            b: memory.inputs[inputs.operands[1]],
            b_zero: zero(1),
            y: memory.outputs[0],
        };
        let prepared = shape.prepare(&buffers, &device)?;
        Ok(prepared.map(|prepared| Arc::new(prepared) as Arc<dyn Launch>).into_iter().collect())
    }))
}

/// The same as bytes of the type of input `result.1`, its zero point: times the scales of both operands, which lie along
/// rows and columns by `steps`, over that of input `result.0`.
pub(crate) fn bytes(
    site: &GpuSite<'_>,
    product: &IntegerProduct,
    inputs: Inputs,
    (scales, steps): ([usize; 2], [usize; 2]),
    result: (usize, usize),
) -> Result<GpuKernel, GpuReject> {
    let (m, n) = (product.product.m, product.product.n);
    let matrices = product.product.matrices();
    let count = matrices.checked_mul(m).and_then(|rows| rows.checked_mul(n)).and_then(|c| c.checked_mul(4));
    let mut whole = Composition::new("product");
    let sums_there = whole.between(count.ok_or_else(|| GpuReject::Form("so many elements".into()))?)?;
    if count == Some(0) {
        return Ok(GpuKernel::new(|_| Ok(Vec::new())));
    }
    let given: Vec<Place> = (0..site.inputs.0.len()).map(Place::Input).collect();
    whole.add("sums", sums(site, product, inputs)?, given, vec![sums_there])?;
    let reads = [scales[0], scales[1], result.0, result.1];
    let mut types = vec![DType::I32];
    for input in reads {
        types.push(site.dtype(input)?);
    }
    let program = requantise(&types, site.dtype(result.1)?, false)?;
    let strides =
        [[(m * n) as u64, n as u64, 1], [0, steps[0] as u64, 0], [0, 0, steps[1] as u64], [0; 3], [0; 3]];
    let operands: Vec<(DType, Vec<u64>, u64)> =
        types.iter().zip(strides).map(|(&dtype, strides)| (dtype, strides.to_vec(), 0)).collect();
    let space = [matrices as u64, m as u64, n as u64];
    let kernel = map::launched(site, &program, &space, &operands, (0..operands.len()).collect())?;
    let mut from = vec![sums_there];
    from.extend(reads.map(Place::Input));
    whole.add("bytes", kernel, from, vec![Place::Output(0)])?;
    Ok(whole.finish())
}

/// The product in the kernel's terms.
fn shape(site: &GpuSite<'_>, product: &IntegerProduct, operands: [usize; 2]) -> Result<Shape, GpuReject> {
    let c = &product.product;
    if product.zero_batch.iter().any(|axis| axis.a != 0 || axis.b != 0) {
        return Err(GpuReject::Form("zero points of each matrix of a batch".into()));
    }
    let [outer, inner] = match c.batch.as_slice() {
        [] => [None, None],
        [one] => [None, Some(one)],
        [outer, inner] => [Some(outer), Some(inner)],
        more => return Err(GpuReject::Form(format!("a product over {} batch axes", more.len()))),
    };
    let count = |axis: Option<&BatchAxis>| axis.map_or(Ok(1), |axis| extent(axis.extent));
    let side = |number: usize, (row, column): (usize, usize), columns: usize, each: bool| {
        if column != 1 && columns > 1 {
            return Err(GpuReject::Form("a quantised matrix whose rows are strided".into()));
        }
        let signed = match site.dtype(operands[number])? {
            DType::I8 => true,
            DType::U8 => false,
            other => return Err(GpuReject::ElementType(other)),
        };
        let stride =
            |axis: Option<&BatchAxis>| axis.map_or(0, |x| if number == 0 { x.a } else { x.b } as u64);
        Ok(Bytes { signed, row: extent(row)?, batch: [stride(outer), stride(inner)], each })
    };
    Ok(Shape {
        m: extent(c.m)?,
        n: extent(c.n)?,
        k: extent(c.k)?,
        batches: [count(outer)?, count(inner)?],
        a: side(0, c.a, c.k, product.rows.step == 1)?,
        b: side(1, c.b, c.n, product.cols.step == 1)?,
    })
}
