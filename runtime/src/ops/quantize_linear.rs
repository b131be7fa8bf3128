//! # QuantizeLinear
//! `y = saturate(round(x / y_scale) + y_zero)`, rounded to nearest even; the quotient is rounded to the type of
//! `y_scale`, or to `precision`. Scales are for the tensor, per index of `axis`, or per `block_size` of them.
//! Opsets 10, 13 (axis), 19, 21 (blocks, 16-bit results), 23, 24, 25, 28. Results below 8 bits and of 8-bit floats
//! are refused.

use super::attributes::NodeSpec;
use super::{Accuracy, LinearQuantisation, Op, OpDef};
use crate::cpu::granularity::{Granularity, Parameters};
use crate::cpu::integer_product::load_zeros;
use crate::cpu::moments::load_floats;
use crate::cpu::number::{Number, dispatch};
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::{DType, nearest_bf16, nearest_f16};
use crate::error::OpError;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact, normal_axis};
use crate::loops::program::quantised::quantised;
use crate::loops::{Affine, Nest, Opaque, Scalar, broadcast_index, elementwise_at, operand};
use crate::reference::{RefData, RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use half::{bf16, f16};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "QuantizeLinear",
    domain: "",
    since: &[10, 13, 19, 21, 23, 24, 25, 28],
    until: None,
    dtypes: DTYPES,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

const DTYPES: &[DType] = &[DType::F32, DType::F16, DType::BF16, DType::I32];
const SCALES: &[DType] = &[DType::F32, DType::F16, DType::BF16];
const RESULTS: &[DType] = &[DType::U8, DType::I8, DType::U16, DType::I16];

#[derive(Debug)]
struct QuantizeLinear {
    axis: i64,
    block: usize,
    /// Type of the result where no zero point tells it.
    result: Option<DType>,
    /// Type of the quotient where it is not the scale's.
    precision: Option<DType>,
}

fn parse(node: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    if node.opset >= 19 {
        // It concerns 8-bit floats alone.
        node.flag_or("saturate", true)?;
    }
    let result = if node.opset >= 21 { optional_dtype(node, "output_dtype")? } else { None };
    if let Some(dtype) = result.filter(|d| !RESULTS.contains(d)) {
        return Err(OpError::unsupported(format!("a result of {dtype}")));
    }
    let precision = if node.opset >= 23 { optional_dtype(node, "precision")? } else { None };
    if let Some(dtype) = precision.filter(|d| !SCALES.contains(d)) {
        return Err(OpError::unsupported(format!("a precision of {dtype}")));
    }
    Ok(Arc::new(QuantizeLinear {
        axis: if node.opset >= 13 { node.int_or("axis", 1)? } else { 1 },
        block: if node.opset >= 21 { block_size(node)? } else { 0 },
        result,
        precision,
    }))
}

/// An element type given by its number, 0 standing for none.
pub(super) fn optional_dtype(node: &NodeSpec, name: &str) -> Result<Option<DType>, OpError> {
    if node.int_or(name, 0)? == 0 { Ok(None) } else { node.dtype(name) }
}

/// The `block_size` attribute.
pub(super) fn block_size(node: &NodeSpec) -> Result<usize, OpError> {
    let size = node.int_or("block_size", 0)?;
    usize::try_from(size).map_err(|_| OpError::attribute("block_size", format!("is {size}")))
}

/// Checks shapes of scale and zero point against the tensor's, as far as they are known.
pub(super) fn check_granularity(inputs: Facts<'_>, axis: i64, block: usize) -> Result<(), OpError> {
    let shape = |i| Ok::<_, OpError>(inputs.optional(i)?.and_then(TensorFact::known_shape));
    let (x, scale, zero) = (shape(0)?, shape(1)?, shape(2)?);
    if let (Some(x), Some(scale)) = (x, &scale) {
        Granularity::new(&x, scale, axis, block)?;
    }
    let count = |s: &[usize]| s.iter().product::<usize>();
    if scale.as_deref().zip(zero.as_deref()).is_some_and(|(s, z)| count(s) != count(z)) {
        return Err(OpError::input(2, "has another shape than the scale"));
    }
    Ok(())
}

/// The nest of `scalar` on an element, its scale and its zero point: of the tensor, or per index of `axis`. Blocks lie at
/// quotients of places.
pub(super) fn beside_scales(
    inputs: Facts<'_>,
    outputs: &[Fact],
    (axis, block): (i64, usize),
    scalar: Scalar<'_>,
) -> Result<Nest, Opaque> {
    let place = |input: usize, shape: &[Dim], axes: &[Dim]| match shape {
        _ if input == 0 => broadcast_index(shape, axes),
        _ if block != 0 => Err(Opaque::Places),
        [] => Ok(Vec::new()),
        [Dim::Known(1)] => Ok(vec![Affine::constant(0)]),
        [extent] => {
            let axis = if axes.len() == 1 { Ok(0) } else { normal_axis(axis, axes.len()) };
            let axis = axis.map_err(|_| Opaque::Extents)?;
            if axes[axis] == *extent { Ok(vec![Affine::axis(axis)]) } else { Err(Opaque::Extents) }
        }
        _ => Err(Opaque::Extents),
    };
    elementwise_at(inputs, outputs, &place, scalar)
}

/// `value` rounded to `dtype`.
fn rounded(value: f32, dtype: DType) -> f32 {
    match dtype {
        DType::F16 => f16::from_f32(value).to_f32(),
        DType::BF16 => bf16::from_f32(value).to_f32(),
        _ => value,
    }
}

fn moved<Y: Number>(quotient: f32, zero: f32) -> Y {
    let sum = i64::from(quotient.round_ties_even() as i32) + zero as i64;
    Y::from_f64(sum as f64)
}

fn kernel<X: Number, Y: Number>(granularity: Granularity, precision: DType) -> Kernel {
    let count = granularity.count;
    let kernel = Kernel::new(move |io| {
        let (x, scale, zero) = (io.input::<X>(0)?, io.tensor(1)?, io.optional(2));
        let context = io.context;
        let (out, scratch) = io.output_and_scratch::<Y>(0)?;
        let tables: &mut [f32] = bytemuck::cast_slice_mut(&mut scratch[..2 * count * size_of::<f32>()]);
        let (scales, zeros) = tables.split_at_mut(count);
        load_floats(scale, scales)?;
        for s in scales.iter_mut() {
            *s = rounded(*s, precision);
        }
        let (scales, zeros) = (&*scales, load_zeros(zero, zeros)?);
        let zero_at = |i: usize| zeros.get(i).copied().unwrap_or(0.0);
        // A type that the quotient is not rounded to after the division needs no rounding before it.
        let exact = precision == DType::F32;
        let load = |x: &X| {
            let x = x.to_f64() as f32;
            if exact { x } else { rounded(x, precision) }
        };
        let divide = |x: &X, scale: f32| {
            let quotient = load(x) / scale;
            if exact { quotient } else { rounded(quotient, precision) }
        };
        granularity.for_each_run(context, x, out, &|x, out, parameters| match parameters {
            Parameters::One(at) => {
                let (scale, zero) = (scales[at], zero_at(at));
                out.iter_mut().zip(x).for_each(|(y, x)| *y = moved(divide(x, scale), zero));
            }
            Parameters::From(at) => {
                for (i, (y, x)) in out.iter_mut().zip(x).enumerate() {
                    *y = moved(divide(x, scales[at + i]), zero_at(at + i));
                }
            }
        })
    });
    kernel.with_scratch(2 * count * size_of::<f32>())
}

impl Op for QuantizeLinear {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 3)?;
        let x = inputs.typed(0, DTYPES)?;
        inputs.typed(1, SCALES)?;
        let zero = if inputs.has(2) { Some(inputs.typed(2, RESULTS)?.dtype) } else { None };
        if zero.zip(self.result).is_some_and(|(a, b)| a != b) {
            return Err(OpError::attribute("output_dtype", "is not the zero point's type"));
        }
        check_granularity(inputs, self.axis, self.block)?;
        let dtype = zero.or(self.result).unwrap_or(DType::U8);
        Ok(vec![TensorFact { shape: x.shape.clone(), ..TensorFact::unranked(dtype) }.into()])
    }

    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        let (from, scale) = (operand(inputs, 0)?.dtype, operand(inputs, 1)?.dtype);
        let result = outputs.first().and_then(Fact::tensor).ok_or(Opaque::Operator)?.dtype;
        let precision = self.precision.unwrap_or(scale);
        beside_scales(inputs, outputs, (self.axis, self.block), &|b, given| {
            let operands = [((*given.first()?)?, from), ((*given.get(1)?)?, scale)];
            quantised(b, operands, given.get(2).copied().flatten(), precision, result)
        })
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let scale = site.inputs.tensor(1)?.dtype;
        let granularity =
            Granularity::new(&site.input_shape(0)?, &site.input_shape(1)?, self.axis, self.block)?;
        let precision = self.precision.unwrap_or(scale);
        let result = site.outputs.first().and_then(Fact::tensor).map_or(DType::U8, |t| t.dtype);
        dispatch!(site.inputs.tensor(0)?.dtype, numbers, X => Ok(match result {
            DType::I8 => kernel::<X, i8>(granularity, precision),
            DType::I16 => kernel::<X, i16>(granularity, precision),
            DType::U16 => kernel::<X, u16>(granularity, precision),
            _ => kernel::<X, u8>(granularity, precision),
        }))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let zero = site.inputs.has(2).then(|| site.dtype(2)).transpose()?;
        let result = zero.or(self.result).unwrap_or(DType::U8);
        let precision = self.precision.map_or_else(|| site.dtype(1), Ok)?;
        families::quantised::quantise(site, (self.axis, self.block), precision, result)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (x, scale, zero) = (inputs.tensor(0)?, inputs.tensor(1)?, inputs.optional(2)?);
        let result = zero.map(|z| z.dtype).or(self.result).unwrap_or(DType::U8);
        let (least, most) = match result {
            DType::I8 => (-128, 127),
            DType::I16 => (-32768, 32767),
            DType::U16 => (0, 65535),
            _ => (0, 255),
        };
        let precision = self.precision.unwrap_or(scale.dtype);
        // The specification names the type in which the division is rounded.
        let round = |v: f64| match precision {
            DType::F16 => nearest_f16(v).to_f64(),
            DType::BF16 => nearest_bf16(v).to_f64(),
            _ => f64::from(v as f32),
        };
        let values: Vec<f64> = match &x.data {
            RefData::Float(v) => v.clone(),
            _ => x.as_ints()?.iter().map(|&v| v as f64).collect(),
        };
        let places = reference_places(&x.shape, &scale.shape, self.axis, self.block);
        let mut out = Vec::new();
        for (value, at) in values.into_iter().zip(places) {
            let quotient = round(round(value) / round(scale.as_floats()?[at]));
            let zero = zero.map_or(Ok(0), |z| z.as_ints().map(|z| z[at]))?;
            out.push((quotient.round_ties_even() as i128 + zero).clamp(least, most));
        }
        Ok(vec![RefTensor::ints(result, &x.shape, out).into()])
    }

    fn linear_quantisation(&self) -> Option<LinearQuantisation> {
        (self.block == 0 && self.precision.is_none())
            .then_some(LinearQuantisation::Quantise { axis: self.axis })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// For every element of a tensor of shape `x`, the position of its scale.
pub(super) fn reference_places(x: &[usize], scale: &[usize], axis: i64, block: usize) -> Vec<usize> {
    let count = x.iter().product();
    if scale.is_empty() || (scale == [1] && block == 0) {
        return vec![0; count];
    }
    let axis = if x.len() == 1 {
        0
    } else if axis < 0 {
        (axis + x.len() as i64) as usize
    } else {
        axis as usize
    };
    let place = |flat| {
        let mut index = RefTensor::unravel(x, flat);
        if block == 0 {
            return index[axis];
        }
        index[axis] /= block;
        RefTensor::ravel(scale, &index)
    };
    (0..count).map(place).collect()
}

/// Shapes, axis and block size of a quantised tensor.
pub(super) struct Draw {
    pub(super) x: Vec<usize>,
    pub(super) scale: Vec<usize>,
    pub(super) axis: Option<i64>,
    pub(super) block: Option<usize>,
}

/// Draws the granularity of a (de)quantisation in version `opset`.
pub(super) fn draw_granularity(g: &mut Gen, opset: i64) -> Draw {
    let rank = g.size(0, 4);
    let x = g.shape(rank);
    let tensor = Draw { x: x.clone(), scale: Vec::new(), axis: None, block: None };
    if opset < 13 || rank < 2 || g.chance(0.3) {
        return tensor;
    }
    let axis = g.axis(rank);
    let at = if axis < 0 { axis + rank as i64 } else { axis } as usize;
    if opset < 21 || g.chance(0.5) {
        return Draw { scale: vec![x[at]], axis: Some(axis), ..tensor };
    }
    let block = g.size(1, 4);
    let mut scale = x;
    scale[at] = scale[at].div_ceil(block);
    Draw { scale, axis: Some(axis), block: Some(block), ..tensor }
}

/// The number of an element type in the model format.
pub(super) fn dtype_code(dtype: DType) -> i64 {
    match dtype {
        DType::F32 => 1,
        DType::U8 => 2,
        DType::I8 => 3,
        DType::U16 => 4,
        DType::I16 => 5,
        DType::F16 => 10,
        DType::BF16 => 16,
        _ => 0,
    }
}

fn case(g: &mut Gen) -> Case {
    let opset = *g.pick(DEF.since);
    let dtypes: &[DType] = if opset < 19 { &[DType::F32, DType::I32] } else { DTYPES };
    let dtype = *g.pick(dtypes);
    let scale_type = match dtype {
        DType::I32 => DType::F32,
        _ if opset < 23 => dtype,
        _ => *g.pick(SCALES),
    };
    let result = *g.pick(if opset < 21 { &RESULTS[..2] } else { RESULTS });
    let draw = draw_granularity(g, opset);
    let high = if dtype == DType::I32 { 2000.0 } else { 40.0 };
    let mut case = Case::new([
        g.tensor_in(dtype, &draw.x, -high, high),
        g.tensor_in(scale_type, &draw.scale, 0.05, 0.5),
    ])
    .opset(opset);
    if let Some(axis) = draw.axis {
        case = case.int("axis", axis);
    }
    if let Some(block) = draw.block {
        case = case.int("block_size", block as i64);
    }
    let with_zero = g.chance(0.6);
    if with_zero {
        case = case.input(g.any_tensor(result, &draw.scale));
    }
    if opset >= 21 && g.chance(0.5) {
        case = case.int("output_dtype", dtype_code(result));
    }
    if opset >= 23 && g.chance(0.3) {
        case = case.int("precision", dtype_code(*g.pick(SCALES)));
    }
    if opset >= 19 && g.chance(0.2) { case.int("saturate", 1) } else { case }
}
