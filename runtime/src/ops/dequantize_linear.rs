//! # DequantizeLinear
//! `y = (x − x_zero) · x_scale`, in the type of `x_scale` or of `output_dtype`. Scales are for the tensor, per index
//! of `axis`, or per `block_size` of them. Opsets 10, 13 (axis), 19, 21 (blocks, 16-bit inputs), 23, 24, 25, 28.
//! Inputs below 8 bits and of 8-bit floats are refused.

use super::attributes::NodeSpec;
use super::quantize_linear::{
    beside_scales, block_size, check_granularity, draw_granularity, dtype_code, optional_dtype,
    reference_places,
};
use super::{Accuracy, LinearQuantisation, Op, OpDef};
use crate::cpu::granularity::{Granularity, Parameters};
use crate::cpu::integer_product::load_zeros;
use crate::cpu::moments::load_floats;
use crate::cpu::number::{Number, dispatch};
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::loops::program::quantised::dequantised;
use crate::loops::{Nest, Opaque, operand};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use half::{bf16, f16};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "DequantizeLinear",
    domain: "",
    since: &[10, 13, 19, 21, 23, 24, 25, 28],
    until: None,
    dtypes: DTYPES,
    accuracy: Accuracy::Elementwise,
    parse,
    case,
};

const DTYPES: &[DType] = &[DType::U8, DType::I8, DType::U16, DType::I16, DType::I32];
const SCALES: &[DType] = &[DType::F32, DType::F16, DType::BF16];

#[derive(Debug)]
struct DequantizeLinear {
    axis: i64,
    block: usize,
    /// Type of the result where it is not the scale's.
    result: Option<DType>,
}

fn parse(node: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let result = if node.opset >= 23 { optional_dtype(node, "output_dtype")? } else { None };
    if let Some(dtype) = result.filter(|d| !SCALES.contains(d)) {
        return Err(OpError::unsupported(format!("a result of {dtype}")));
    }
    Ok(Arc::new(DequantizeLinear {
        axis: if node.opset >= 13 { node.int_or("axis", 1)? } else { 1 },
        block: if node.opset >= 21 { block_size(node)? } else { 0 },
        result,
    }))
}

fn kernel<X: Number, Y: Number>(granularity: Granularity) -> Kernel {
    let count = granularity.count;
    let kernel = Kernel::new(move |io| {
        let (x, scale, zero) = (io.input::<X>(0)?, io.tensor(1)?, io.optional(2));
        let context = io.context;
        let (out, scratch) = io.output_and_scratch::<Y>(0)?;
        let tables: &mut [f32] = bytemuck::cast_slice_mut(&mut scratch[..2 * count * size_of::<f32>()]);
        let (scales, zeros) = tables.split_at_mut(count);
        load_floats(scale, scales)?;
        let (scales, zeros) = (&*scales, load_zeros(zero, zeros)?);
        // Zero points are small, so that the difference is exact in f64 even for 32-bit inputs.
        let zero_at = |i: usize| zeros.get(i).copied().map_or(0.0, f64::from);
        let value = |x: &X, scale: f32, zero: f64| Y::from_f64(f64::from((x.to_f64() - zero) as f32 * scale));
        granularity.for_each_run(context, x, out, &|x, out, parameters| match parameters {
            Parameters::One(at) => {
                let (scale, zero) = (scales[at], zero_at(at));
                out.iter_mut().zip(x).for_each(|(y, x)| *y = value(x, scale, zero));
            }
            Parameters::From(at) => {
                for (i, (y, x)) in out.iter_mut().zip(x).enumerate() {
                    *y = value(x, scales[at + i], zero_at(at + i));
                }
            }
        })
    });
    kernel.with_scratch(2 * count * size_of::<f32>())
}

impl Op for DequantizeLinear {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 3)?;
        let (x, scale) = (inputs.typed(0, DTYPES)?, inputs.typed(1, SCALES)?);
        if let Some(zero) = inputs.optional(2)?.filter(|z| z.dtype != x.dtype) {
            return Err(OpError::DType { index: 2, got: zero.dtype });
        }
        check_granularity(inputs, self.axis, self.block)?;
        let dtype = self.result.unwrap_or(scale.dtype);
        Ok(vec![TensorFact { shape: x.shape.clone(), ..TensorFact::unranked(dtype) }.into()])
    }

    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        let from = operand(inputs, 0)?.dtype;
        beside_scales(inputs, outputs, (self.axis, self.block), &|b, given| {
            let (x, scale) = ((*given.first()?)?, (*given.get(1)?)?);
            Some(dequantised(b, (x, from), scale, given.get(2).copied().flatten()))
        })
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let granularity =
            Granularity::new(&site.input_shape(0)?, &site.input_shape(1)?, self.axis, self.block)?;
        let result = self.result.unwrap_or(site.inputs.tensor(1)?.dtype);
        dispatch!(site.inputs.tensor(0)?.dtype, ints, X => Ok(match result {
            DType::F16 => kernel::<X, f16>(granularity),
            DType::BF16 => kernel::<X, bf16>(granularity),
            _ => kernel::<X, f32>(granularity),
        }))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let result = self.result.map_or_else(|| site.dtype(1), Ok)?;
        families::quantised::dequantise(site, (self.axis, self.block), result)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (x, scale, zero) = (inputs.tensor(0)?, inputs.tensor(1)?, inputs.optional(2)?);
        let places = reference_places(&x.shape, &scale.shape, self.axis, self.block);
        let mut out = Vec::new();
        for (&value, at) in x.as_ints()?.iter().zip(places) {
            let zero = zero.map_or(Ok(0), |z| z.as_ints().map(|z| z[at]))?;
            out.push((value - zero) as f64 * scale.as_floats()?[at]);
        }
        Ok(vec![RefTensor::floats(self.result.unwrap_or(scale.dtype), &x.shape, out).into()])
    }

    fn linear_quantisation(&self) -> Option<LinearQuantisation> {
        (self.block == 0 && self.result.is_none())
            .then_some(LinearQuantisation::Dequantise { axis: self.axis })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let opset = *g.pick(DEF.since);
    let dtypes: &[DType] = if opset < 21 { &[DType::U8, DType::I8, DType::I32] } else { DTYPES };
    let dtype = *g.pick(dtypes);
    let scale_type = if opset < 19 { DType::F32 } else { *g.pick(SCALES) };
    let draw = draw_granularity(g, opset);
    let mut case =
        Case::new([g.any_tensor(dtype, &draw.x), g.tensor_in(scale_type, &draw.scale, 0.001, 0.1)])
            .opset(opset);
    if let Some(axis) = draw.axis {
        case = case.int("axis", axis);
    }
    if let Some(block) = draw.block {
        case = case.int("block_size", block as i64);
    }
    if dtype != DType::I32 && g.chance(0.6) {
        case = case.input(g.any_tensor(dtype, &draw.scale));
    }
    if opset >= 23 && g.chance(0.4) { case.int("output_dtype", dtype_code(*g.pick(SCALES))) } else { case }
}
