//! # QLinearConv
//! `y = saturate(round((Σ (x − x_zero) · (w − w_zero) + b) · x_scale · w_scale / y_scale) + y_zero)`: Conv of 8-bit
//! integers, accumulated in i32, scaled in f64, rounded to nearest even. Scale and zero point of `w` are scalars or
//! one per filter. Opset 10.

use super::attributes::NodeSpec;
use super::conv::{check_bias, output_dims, parse_groups, spans};
use super::conv_integer::{check_param, convolved, gpu_spans, of_filters, reference_sums};
use super::draw_window::draw_conv;
use super::mat_mul::product_cost;
use super::quantised_product::BYTES;
use super::quantised_sum::Requantisation;
use super::window::Window;
use super::{Accuracy, Cost, Op, OpDef};
use crate::cpu::convolution::Convolution;
use crate::cpu::integer_product::{Byte, load_zeros, requantise};
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::families::integer_conv::{self, Bytes};
use crate::cuda::families::integer_product::Inputs;
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::loops::{Nest, Opaque};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "QLinearConv",
    domain: "",
    since: &[10],
    until: None,
    dtypes: BYTES,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
pub(super) struct QLinearConv {
    pub(super) window: Window,
    pub(super) groups: usize,
}

fn parse(node: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(QLinearConv { window: Window::parse(node, true, false)?, groups: parse_groups(node)? }))
}

impl QLinearConv {
    fn kernel<X: Byte, W: Byte, Y: Byte>(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let (x, w) = (site.input_shape(0)?, site.input_shape(3)?);
        let form = (w[1], w[0] / self.groups);
        let convolution = Convolution::new(x[0], self.groups, form, &spans(&self.window, &x, &w)?)?;
        let head = (w[0] * size_of::<f32>()).next_multiple_of(64);
        let scratch = head + convolution.integer_scratch(site.threads);
        let range = (Y::lowest().to_f64() as i64, Y::highest().to_f64() as i64);
        let kernel = Kernel::new(move |io| {
            let operands = (io.input::<X>(0)?, io.input::<W>(3)?);
            let number = |i| Ok::<f64, OpError>(io.input::<f32>(i)?.first().map_or(1.0, |&v| v.into()));
            let (x_scale, w_scales, y_scale) = (number(1)?, io.input::<f32>(4)?, number(6)?);
            let zero = io.input::<X>(2)?.first().map_or(0.0, |z| z.wide());
            let y_zero = io.input::<Y>(7)?.first().map_or(0, |z| z.to_f64() as i64);
            let bias = io.optional_input::<i32>(8)?;
            let (w_zero, context) = (io.tensor(5)?, io.context);
            let (out, scratch) = io.output_and_scratch::<Y>(0)?;
            let (table, scratch) = scratch.split_at_mut(head);
            let w_zeros = load_zeros(Some(w_zero), bytemuck::cast_slice_mut(table))?;
            let zeros = (zero, w_zeros);
            convolution.run_integers(context, operands, zeros, (out, scratch), &|_, filter, _, sums, y| {
                let w_scale = w_scales.get(filter).or(w_scales.first()).map_or(1.0, |&s| f64::from(s));
                let factor = x_scale * w_scale / y_scale;
                let bias = bias.and_then(|b| b.get(filter)).map_or(0, |&b| i64::from(b));
                for (y, &sum) in y.iter_mut().zip(sums) {
                    *y = Y::from_f64(requantise(i64::from(sum) + bias, factor, y_zero, range) as f64);
                }
            })
        });
        Ok(kernel.with_scratch(scratch))
    }
}

impl Op for QLinearConv {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(8, 9)?;
        let (x, w, y) = (inputs.typed(0, BYTES)?, inputs.typed(3, BYTES)?, inputs.typed(7, BYTES)?);
        for (index, dtype) in
            [(1, DType::F32), (2, x.dtype), (4, DType::F32), (5, w.dtype), (6, DType::F32), (8, DType::I32)]
        {
            if let Some(fact) = inputs.optional(index)?.filter(|f| f.dtype != dtype) {
                return Err(OpError::DType { index, got: fact.dtype });
            }
        }
        let shape = output_dims(&self.window, self.groups, x.shape.as_deref(), w.shape.as_deref())?;
        let filters = shape.as_ref().map_or(Dim::Unknown, |s| s[1].clone());
        for index in [1, 2, 6, 7] {
            check_param(inputs, index, None)?;
        }
        check_param(inputs, 4, Some(&filters))?;
        check_param(inputs, 5, Some(&filters))?;
        check_bias(inputs.optional(8)?, 8, &filters)?;
        Ok(vec![TensorFact { shape, ..TensorFact::unranked(y.dtype) }.into()])
    }

    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        let (site, zeros) = ((inputs, outputs), [Some(2), Some(5)]);
        let (sum, filter) = convolved(site, &self.window, self.groups, [0, 3], zeros)?;
        let requantisation = Requantisation {
            scales: [(1, Vec::new()), of_filters(inputs, 4, &filter)?],
            result: [6, 7],
            bias: inputs.has(8).then(|| (8, vec![filter])),
        };
        sum.nest(inputs, Some(&requantisation))
    }

    fn cost(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Cost {
        let weights = inputs.tensor(3).ok().and_then(TensorFact::known_shape);
        product_cost(inputs, outputs, weights.and_then(|w| crate::tensor::element_count(w.get(1..)?)))
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let unsigned = |i| Ok::<bool, OpError>(site.inputs.tensor(i)?.dtype == DType::U8);
        match (unsigned(0)?, unsigned(3)?, unsigned(7)?) {
            (true, true, true) => self.kernel::<u8, u8, u8>(site),
            (true, true, false) => self.kernel::<u8, u8, i8>(site),
            (true, false, true) => self.kernel::<u8, i8, u8>(site),
            (true, false, false) => self.kernel::<u8, i8, i8>(site),
            (false, true, true) => self.kernel::<i8, u8, u8>(site),
            (false, true, false) => self.kernel::<i8, u8, i8>(site),
            (false, false, true) => self.kernel::<i8, i8, u8>(site),
            (false, false, false) => self.kernel::<i8, i8, i8>(site),
        }
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let (operands, zeros) = ([0, 3], [Some(2), Some(5)]);
        let spans = gpu_spans(site, &self.window, operands)?;
        let bias = site.inputs.has(8).then_some(8);
        let made = Bytes { scales: [1, 4], result: [6, 7], bias };
        // What its kernels do not take is a nest like any other.
        integer_conv::bytes(site, self.groups, &spans, Inputs { operands, zeros }, made)
            .or_else(|reject| site.nest_or(reject, self.nest(site.inputs, site.outputs)))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let operands = (inputs.tensor(0)?, inputs.tensor(3)?);
        let zeros = (inputs.optional(2)?, inputs.optional(5)?);
        let (shape, sums) = reference_sums(&self.window, self.groups, operands, zeros)?;
        let scale = |i: usize| inputs.tensor(i)?.as_floats();
        let (x_scale, w_scale, y_scale) = (scale(1)?[0], scale(4)?, scale(6)?[0]);
        let bias = inputs.optional(8)?.map(RefTensor::as_ints).transpose()?;
        let zero = inputs.tensor(7)?;
        let (least, most) = if zero.dtype == DType::U8 { (0, 255) } else { (-128, 127) };
        let mut out = Vec::new();
        for (flat, sum) in sums.into_iter().enumerate() {
            let filter = RefTensor::unravel(&shape, flat)[1];
            let own = if w_scale.len() == 1 { w_scale[0] } else { w_scale[filter] };
            let scaled = (sum + bias.map_or(0, |b| b[filter])) as f64 * (x_scale * own / y_scale);
            out.push((scaled.round_ties_even() as i128 + zero.as_ints()?[0]).clamp(least, most));
        }
        Ok(vec![RefTensor::ints(zero.dtype, &shape, out).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let (s, t, u) = (*g.pick(BYTES), *g.pick(BYTES), *g.pick(BYTES));
    let draw = draw_conv(g);
    let filters = &draw.w[..1];
    let own = if g.chance(0.5) { &[] } else { filters };
    let mut case = Case::new([
        g.any_tensor(s, &draw.x),
        g.tensor_in(DType::F32, &[], 0.01, 0.1),
        g.any_tensor(s, &[]),
        g.any_tensor(t, &draw.w),
        g.tensor_in(DType::F32, own, 0.01, 0.1),
        g.any_tensor(t, own),
        g.tensor_in(DType::F32, &[], 0.05, 0.5),
        g.any_tensor(u, &[]),
    ])
    .opset(10);
    case.attributes = draw.attributes;
    if g.chance(0.5) { case.input(g.tensor_in(DType::I32, filters, -1000.0, 1000.0)) } else { case }
}
