//! # QLinearMatMul
//! `y = saturate(round((a − a_zero) · (b − b_zero) · a_scale · b_scale / y_scale) + y_zero)` of 8-bit integers,
//! accumulated in i32, scaled in f64, rounded to nearest even. Zero points and scales are for the whole tensor,
//! per row of `a`, or per column of `b`. Opsets 10, 21 (16-bit scales; its 8-bit floats are refused).

use super::mat_mul::{product_cost, product_dims};
use super::mat_mul_integer::draw;
use super::quantised_product::{BYTES, check_plan, gpu_plan, multiplied, plan, reference_sums};
use super::quantised_sum::Requantisation;
use super::{Accuracy, Cost, Op, OpDef};
use crate::cpu::integer_product::{Byte, load_zeros, requantise};
use crate::cpu::moments::load_floats;
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
    name: "QLinearMatMul",
    domain: "",
    since: &[10, 21],
    until: None,
    dtypes: BYTES,
    accuracy: Accuracy::Exact,
    parse: |_| Ok(Arc::new(QLinearMatMul)),
    case,
};

#[derive(Debug)]
pub(super) struct QLinearMatMul;

/// Element types of scales.
const SCALES: &[DType] = &[DType::F32, DType::F16, DType::BF16];

fn kernel<A: Byte, B: Byte, Y: Byte>(site: &CpuSite<'_>) -> Result<Kernel, OpError> {
    let (a_param, b_param) = (site.input_shape(2)?, site.input_shape(5)?);
    let params = [Some((2, a_param.as_slice())), Some((5, b_param.as_slice()))];
    let product = plan(&site.input_shape(0)?, &site.input_shape(3)?, params)?;
    let (first, second) = (a_param.iter().product::<usize>(), b_param.iter().product::<usize>());
    let zero_bytes = ((first + second) * size_of::<f32>()).next_multiple_of(64);
    let head = zero_bytes + ((first + second) * size_of::<f64>()).next_multiple_of(64);
    let scratch = head + product.scratch(site.threads);
    let range = (Y::lowest().to_f64() as i64, Y::highest().to_f64() as i64);
    let kernel = Kernel::new(move |io| {
        let operands = (io.input::<A>(0)?, io.input::<B>(3)?);
        let (a_scale, b_scale) = (io.tensor(1)?, io.tensor(4)?);
        let (a_zero, b_zero) = (io.tensor(2)?, io.tensor(5)?);
        let mut y_scale = [1f64];
        load_floats(io.tensor(6)?, &mut y_scale)?;
        let y_zero = io.input::<Y>(7)?.first().map_or(0, |z| z.to_f64() as i64);
        let context = io.context;
        let (out, scratch) = io.output_and_scratch::<Y>(0)?;
        let (tables, scratch) = scratch.split_at_mut(head);
        let (zeros, scales) = tables.split_at_mut(zero_bytes);
        let (left, right) = bytemuck::cast_slice_mut(zeros).split_at_mut(first);
        let zeros = (load_zeros(Some(a_zero), left)?, load_zeros(Some(b_zero), right)?);
        let scales: &mut [f64] = bytemuck::cast_slice_mut(scales);
        load_floats(a_scale, &mut scales[..first])?;
        load_floats(b_scale, &mut scales[first..first + second])?;
        let (left, right) = scales.split_at(first);
        product.run(context, operands, zeros, (out, scratch), &|matrix, row, cols, sums, y| {
            let (a_at, b_at) = product.zeros_at(matrix);
            let own = left[a_at + row * product.rows.step];
            for ((j, y), &sum) in cols.zip(y).zip(sums) {
                let factor = own * right[b_at + j * product.cols.step] / y_scale[0];
                *y = Y::from_f64(requantise(sum.into(), factor, y_zero, range) as f64);
            }
        })
    });
    Ok(kernel.with_scratch(scratch))
}

impl Op for QLinearMatMul {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(8, 8)?;
        let (a, b, y) = (inputs.typed(0, BYTES)?, inputs.typed(3, BYTES)?, inputs.typed(7, BYTES)?);
        for (index, of) in [(2, a), (5, b)] {
            let fact = inputs.tensor(index)?;
            if fact.dtype != of.dtype {
                return Err(OpError::DType { index, got: fact.dtype });
            }
        }
        for (scale, zero) in [(1, 2), (4, 5), (6, 7)] {
            let (s, z) = (inputs.typed(scale, SCALES)?.known_shape(), inputs.tensor(zero)?.known_shape());
            if s.as_deref()
                .zip(z.as_deref())
                .is_some_and(|(s, z)| s.iter().product::<usize>() != z.iter().product::<usize>())
            {
                return Err(OpError::input(scale, "has another shape than its zero point"));
            }
        }
        if y_count(inputs)? != 1 {
            return Err(OpError::unsupported("a scale of the output that is no scalar"));
        }
        check_plan(inputs, [0, 3], [2, 5])?;
        let shape = match (&a.shape, &b.shape) {
            (Some(a), Some(b)) => Some(product_dims(a, b)?),
            _ => None,
        };
        Ok(vec![TensorFact { shape, ..TensorFact::unranked(y.dtype) }.into()])
    }

    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        let (sum, [rows, cols]) = multiplied((inputs, outputs), [0, 3], [Some(2), Some(5)])?;
        let requantisation = Requantisation { scales: [(1, rows), (4, cols)], result: [6, 7], bias: None };
        sum.nest(inputs, Some(&requantisation))
    }

    fn cost(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Cost {
        let depth = inputs.tensor(0).ok().and_then(|a| a.shape.as_ref()?.last()?.known());
        product_cost(inputs, outputs, depth)
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let unsigned = |i| Ok::<bool, OpError>(site.inputs.tensor(i)?.dtype == DType::U8);
        match (unsigned(0)?, unsigned(3)?, unsigned(7)?) {
            (true, true, true) => kernel::<u8, u8, u8>(site),
            (true, true, false) => kernel::<u8, u8, i8>(site),
            (true, false, true) => kernel::<u8, i8, u8>(site),
            (true, false, false) => kernel::<u8, i8, i8>(site),
            (false, true, true) => kernel::<i8, u8, u8>(site),
            (false, true, false) => kernel::<i8, u8, i8>(site),
            (false, false, true) => kernel::<i8, i8, u8>(site),
            (false, false, false) => kernel::<i8, i8, i8>(site),
        }
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let (operands, zeros) = ([0, 3], [Some(2), Some(5)]);
        let matrices = gpu_plan(site, operands, zeros).and_then(|product| {
            let scales = gpu_plan(site, operands, [Some(1), Some(4)])?;
            if scales.zero_batch.iter().any(|axis| axis.a != 0 || axis.b != 0) {
                return Err(GpuReject::NoKernel);
            }
            let along = ([1, 4], [scales.rows.step, scales.cols.step]);
            integer_product::bytes(site, &product, Inputs { operands, zeros }, along, (6, 7))
        });
        // What its kernels do not take is a nest like any other.
        matrices.or_else(|reject| site.nest_or(reject, self.nest(site.inputs, site.outputs)))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (a_zero, b_zero) = (inputs.tensor(2)?, inputs.tensor(5)?);
        let operands = (inputs.tensor(0)?, inputs.tensor(3)?);
        let (shape, sums) = reference_sums(operands, (Some(a_zero), Some(b_zero)))?;
        let scale = |i: usize| inputs.tensor(i)?.as_floats();
        let (a_scale, b_scale, y_scale) = (scale(1)?, scale(4)?, scale(6)?[0]);
        let zero = inputs.tensor(7)?;
        let (least, most) = if zero.dtype == DType::U8 { (0, 255) } else { (-128, 127) };
        let mut out = Vec::new();
        for s in sums {
            let scaled = s.sum as f64 * (a_scale[s.row] * b_scale[s.col] / y_scale);
            out.push((scaled.round_ties_even() as i128 + zero.as_ints()?[0]).clamp(least, most));
        }
        Ok(vec![RefTensor::ints(zero.dtype, &shape, out).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Elements of the output's scale; 1 while that is not known.
fn y_count(inputs: Facts<'_>) -> Result<usize, OpError> {
    Ok(inputs.tensor(6)?.element_count().unwrap_or(1))
}

fn case(g: &mut Gen) -> Case {
    let opset = *g.pick(&[10, 21]);
    let scale_type = if opset < 21 { DType::F32 } else { *g.pick(SCALES) };
    let (s, t, u) = (*g.pick(BYTES), *g.pick(BYTES), *g.pick(BYTES));
    let shapes = draw(g);
    let scale = |g: &mut Gen, shape: &[usize]| g.tensor_in(scale_type, shape, 0.01, 0.1);
    Case::new([
        g.any_tensor(s, &shapes.a),
        scale(g, &shapes.a_param),
        g.any_tensor(s, &shapes.a_param),
        g.any_tensor(t, &shapes.b),
        scale(g, &shapes.b_param),
        g.any_tensor(t, &shapes.b_param),
        scale(g, &[]),
        g.any_tensor(u, &[]),
    ])
    .opset(opset)
}
