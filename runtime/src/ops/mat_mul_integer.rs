//! # MatMulInteger
//! `y = (a − a_zero) · (b − b_zero)` as numpy's `matmul`, of 8-bit integers, accumulated in i32. Zero points are
//! for the whole tensor, per row of `a`, or per column of `b`. Opset 10.

use super::mat_mul::{product_cost, product_dims};
use super::quantised_product::{BYTES, check_plan, gpu_plan, multiplied, plan, reference_sums};
use super::{Accuracy, Cost, Op, OpDef};
use crate::cpu::integer_product::{Byte, load_zeros};
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::families::integer_product::{self, Inputs};
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::loops::{Nest, Opaque};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "MatMulInteger",
    domain: "",
    since: &[10],
    until: None,
    dtypes: BYTES,
    accuracy: Accuracy::Exact,
    parse: |_| Ok(Arc::new(MatMulInteger)),
    case,
};

#[derive(Debug)]
struct MatMulInteger;

fn kernel<A: Byte, B: Byte>(site: &CpuSite<'_>) -> Result<Kernel, OpError> {
    let shape = |i| if site.inputs.has(i) { site.input_shape(i).map(Some) } else { Ok(None) };
    let (zero_a, zero_b) = (shape(2)?, shape(3)?);
    let product = plan(
        &site.input_shape(0)?,
        &site.input_shape(1)?,
        [zero_a.as_deref().map(|s| (2, s)), zero_b.as_deref().map(|s| (3, s))],
    )?;
    let count = |s: &Option<crate::tensor::Shape>| s.as_ref().map_or(0, |s| s.iter().product::<usize>());
    let (first, second) = (count(&zero_a), count(&zero_b));
    let head = ((first + second) * size_of::<f32>()).next_multiple_of(64);
    let scratch = head + product.scratch(site.threads);
    let kernel = Kernel::new(move |io| {
        let operands = (io.input::<A>(0)?, io.input::<B>(1)?);
        let (zero_a, zero_b) = (io.optional(2), io.optional(3));
        let context = io.context;
        let (out, scratch) = io.output_and_scratch::<i32>(0)?;
        let (tables, scratch) = scratch.split_at_mut(head);
        let (left, right) = bytemuck::cast_slice_mut(tables).split_at_mut(first);
        let zeros = (load_zeros(zero_a, left)?, load_zeros(zero_b, right)?);
        product.run(context, operands, zeros, (out, scratch), &|_, _, _, sums, y| y.copy_from_slice(sums))
    });
    Ok(kernel.with_scratch(scratch))
}

impl Op for MatMulInteger {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 4)?;
        let (a, b) = (inputs.typed(0, BYTES)?, inputs.typed(1, BYTES)?);
        for (index, of) in [(2, a), (3, b)] {
            if let Some(fact) = inputs.optional(index)?.filter(|f| f.dtype != of.dtype) {
                return Err(OpError::DType { index, got: fact.dtype });
            }
        }
        check_plan(inputs, [0, 1], [2, 3])?;
        let shape = match (&a.shape, &b.shape) {
            (Some(a), Some(b)) => Some(product_dims(a, b)?),
            _ => None,
        };
        Ok(vec![TensorFact { shape, ..TensorFact::unranked(DType::I32) }.into()])
    }

    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        let zero = |index: usize| inputs.has(index).then_some(index);
        multiplied((inputs, outputs), [0, 1], [zero(2), zero(3)])?.0.nest(inputs, None)
    }

    fn cost(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Cost {
        let depth = inputs.tensor(0).ok().and_then(|a| a.shape.as_ref()?.last()?.known());
        product_cost(inputs, outputs, depth)
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        match (site.inputs.tensor(0)?.dtype, site.inputs.tensor(1)?.dtype) {
            (DType::U8, DType::U8) => kernel::<u8, u8>(site),
            (DType::U8, _) => kernel::<u8, i8>(site),
            (_, DType::U8) => kernel::<i8, u8>(site),
            _ => kernel::<i8, i8>(site),
        }
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let zero = |index: usize| site.inputs.has(index).then_some(index);
        let (operands, zeros) = ([0, 1], [zero(2), zero(3)]);
        // What its kernel does not take is a nest like any other.
        gpu_plan(site, operands, zeros)
            .and_then(|product| integer_product::sums(site, &product, Inputs { operands, zeros }))
            .or_else(|reject| site.nest_or(reject, self.nest(site.inputs, site.outputs)))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let zeros = (inputs.optional(2)?, inputs.optional(3)?);
        let (shape, sums) = reference_sums((inputs.tensor(0)?, inputs.tensor(1)?), zeros)?;
        let data = sums.into_iter().map(|s| s.sum).collect();
        Ok(vec![RefTensor::wrapped(DType::I32, &shape, data).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Shapes of operands and of their parameters (zero points or scales).
pub(super) struct Draw {
    pub(super) a: Vec<usize>,
    pub(super) b: Vec<usize>,
    pub(super) a_param: Vec<usize>,
    pub(super) b_param: Vec<usize>,
}

/// Draws the shapes of a quantised product.
pub(super) fn draw(g: &mut Gen) -> Draw {
    let (m, n) = (g.extent(), g.extent());
    let k = if g.chance(0.1) { g.size(0, 700) } else { g.extent() };
    let rank = g.size(0, 2);
    let lead = g.shape(rank);
    let (mut a, mut b) = (g.broadcastable(&lead), g.broadcastable(&lead));
    let vectors = g.size(0, 9);
    if vectors == 0 {
        a.clear();
    } else {
        a.push(m);
    }
    a.push(k);
    if vectors == 1 {
        b = vec![k];
    } else {
        b.extend([k, n]);
    }
    let mut a_param = Vec::new();
    if vectors > 1 && g.chance(0.5) {
        a_param = if a.len() == 2 && g.chance(0.5) { vec![m] } else { [&a[..a.len() - 1], &[1]].concat() };
    }
    let mut b_param = Vec::new();
    if vectors > 1 && g.chance(0.5) {
        b_param = if b.len() == 2 && g.chance(0.5) { vec![n] } else { [&b[..b.len() - 2], &[1, n]].concat() };
    }
    if g.chance(0.2) {
        a_param = vec![1];
    }
    Draw { a, b, a_param, b_param }
}

fn case(g: &mut Gen) -> Case {
    let (s, t) = (*g.pick(BYTES), *g.pick(BYTES));
    let shapes = draw(g);
    let case = Case::new([g.any_tensor(s, &shapes.a), g.any_tensor(t, &shapes.b)]).opset(10);
    let mut zero =
        |dtype, shape: &[usize]| if g.chance(0.7) { Some(g.any_tensor(dtype, shape)) } else { None };
    case.optional(zero(s, &shapes.a_param)).optional(zero(t, &shapes.b_param))
}
