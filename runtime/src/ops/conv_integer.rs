//! # ConvInteger
//! Conv of `x − x_zero` with `w − w_zero`, of 8-bit integers, accumulated in i32; padding counts as the zero point.
//! `x_zero` is a scalar, `w_zero` a scalar or one per filter. Opset 10.

use super::attributes::NodeSpec;
use super::conv::{loops, output_dims, parse_groups, reference_shape, reference_terms, spans};
use super::draw_window::draw_conv;
use super::mat_mul::product_cost;
use super::quantised_product::BYTES;
use super::quantised_sum::{Place, Sum, is_one};
use super::window::{Span, Window};
use super::{Accuracy, Cost, Op, OpDef};
use crate::cpu::convolution::Convolution;
use crate::cpu::integer_product::{Byte, load_zeros};
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::families::integer_conv;
use crate::cuda::families::integer_product::Inputs;
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::loops::{Affine, Nest, Opaque, extents, operand};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "ConvInteger",
    domain: "",
    since: &[10],
    until: None,
    dtypes: BYTES,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct ConvInteger {
    window: Window,
    groups: usize,
}

fn parse(node: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(ConvInteger { window: Window::parse(node, true, false)?, groups: parse_groups(node)? }))
}

/// Checks that input `index` is one number or, where `filters` are given, one per filter.
pub(super) fn check_param(inputs: Facts<'_>, index: usize, filters: Option<&Dim>) -> Result<(), OpError> {
    let Some(count) = inputs.optional(index)?.and_then(TensorFact::element_count) else { return Ok(()) };
    if count == 1 || filters.is_some_and(|f| f.known().is_none_or(|f| f == count)) {
        return Ok(());
    }
    Err(OpError::input(index, format!("has {count} elements")))
}

impl ConvInteger {
    fn kernel<X: Byte, W: Byte>(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let (x, w) = (site.input_shape(0)?, site.input_shape(1)?);
        let form = (w[1], w[0] / self.groups);
        let convolution = Convolution::new(x[0], self.groups, form, &spans(&self.window, &x, &w)?)?;
        let head = (w[0] * size_of::<f32>()).next_multiple_of(64);
        let scratch = head + convolution.integer_scratch(site.threads);
        let kernel = Kernel::new(move |io| {
            let operands = (io.input::<X>(0)?, io.input::<W>(1)?);
            let zero = io.optional_input::<X>(2)?.and_then(|z| z.first()).map_or(0.0, |z| z.wide());
            let (w_zero, context) = (io.optional(3), io.context);
            let (out, scratch) = io.output_and_scratch::<i32>(0)?;
            let (table, scratch) = scratch.split_at_mut(head);
            let w_zeros = load_zeros(w_zero, bytemuck::cast_slice_mut(table))?;
            convolution.run_integers(
                context,
                operands,
                (zero, w_zeros),
                (out, scratch),
                &|_, _, _, sums, y| {
                    y.copy_from_slice(sums);
                },
            )
        });
        Ok(kernel.with_scratch(scratch))
    }
}

impl Op for ConvInteger {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 4)?;
        let (x, w) = (inputs.typed(0, BYTES)?, inputs.typed(1, BYTES)?);
        for (index, of) in [(2, x), (3, w)] {
            if let Some(fact) = inputs.optional(index)?.filter(|f| f.dtype != of.dtype) {
                return Err(OpError::DType { index, got: fact.dtype });
            }
        }
        let shape = output_dims(&self.window, self.groups, x.shape.as_deref(), w.shape.as_deref())?;
        check_param(inputs, 2, None)?;
        check_param(inputs, 3, shape.as_ref().map(|s| &s[1]).or(Some(&Dim::Unknown)))?;
        Ok(vec![TensorFact { shape, ..TensorFact::unranked(DType::I32) }.into()])
    }

    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        let zero = |index: usize| inputs.has(index).then_some(index);
        let site = (inputs, outputs);
        convolved(site, &self.window, self.groups, [0, 1], [zero(2), zero(3)])?.0.nest(inputs, None)
    }

    fn cost(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Cost {
        let weights = inputs.tensor(1).ok().and_then(TensorFact::known_shape);
        product_cost(inputs, outputs, weights.and_then(|w| crate::tensor::element_count(w.get(1..)?)))
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        match (site.inputs.tensor(0)?.dtype, site.inputs.tensor(1)?.dtype) {
            (DType::U8, DType::U8) => self.kernel::<u8, u8>(site),
            (DType::U8, _) => self.kernel::<u8, i8>(site),
            (_, DType::U8) => self.kernel::<i8, u8>(site),
            _ => self.kernel::<i8, i8>(site),
        }
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let zero = |index: usize| site.inputs.has(index).then_some(index);
        let (operands, zeros) = ([0, 1], [zero(2), zero(3)]);
        let spans = gpu_spans(site, &self.window, operands)?;
        // What its kernel does not take is a nest like any other.
        integer_conv::sums(site, self.groups, &spans, Inputs { operands, zeros })
            .or_else(|reject| site.nest_or(reject, self.nest(site.inputs, site.outputs)))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (x, w) = (inputs.tensor(0)?, inputs.tensor(1)?);
        let sums =
            reference_sums(&self.window, self.groups, (x, w), (inputs.optional(2)?, inputs.optional(3)?))?;
        Ok(vec![RefTensor::wrapped(DType::I32, &sums.0, sums.1).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The window over the spatial axes of input `x` with the taps of input `w`.
pub(super) fn gpu_spans(
    site: &GpuSite<'_>,
    window: &Window,
    [x, w]: [usize; 2],
) -> Result<Vec<Span>, GpuReject> {
    spans(window, &site.input_shape(x)?, &site.input_shape(w)?).map_err(|_| GpuReject::NoKernel)
}

/// The sum that a convolution of two quantised inputs is, their zero points perhaps among the inputs, and the place of what
/// there is one of for each filter.
pub(super) fn convolved(
    (inputs, outputs): (Facts<'_>, &[Fact]),
    window: &Window,
    groups: usize,
    [x, w]: [usize; 2],
    zeros: [Option<usize>; 2],
) -> Result<(Sum, Affine), Opaque> {
    let y = outputs.first().and_then(Fact::tensor).ok_or(Opaque::Operator)?;
    let (from, weights) = (extents(operand(inputs, x)?)?, extents(operand(inputs, w)?)?);
    let loops = loops(window, groups, from, weights, extents(y)?)?;
    let filter = loops.filter;
    let sum = Sum {
        axes: loops.axes,
        over: loops.over,
        operands: [(x, loops.at), (w, loops.tap)],
        zeros: [
            zeros[0].map(|index| (index, Vec::new())),
            zeros[1].map(|index| of_filters(inputs, index, &filter)).transpose()?,
        ],
        windows: true,
        store: loops.store,
    };
    Ok((sum, filter))
}

/// The place of input `index`, which is one element or has one for each filter.
pub(super) fn of_filters(inputs: Facts<'_>, index: usize, filter: &Affine) -> Result<Place, Opaque> {
    let one = is_one(operand(inputs, index)?)?;
    Ok((index, if one { Vec::new() } else { vec![filter.clone()] }))
}

/// Shape and elements of the reference's convolution of `x − x_zero` with `w − w_zero`.
pub(super) fn reference_sums(
    window: &Window,
    groups: usize,
    (x, w): (&RefTensor, &RefTensor),
    (x_zero, w_zero): (Option<&RefTensor>, Option<&RefTensor>),
) -> Result<(Vec<usize>, Vec<i128>), OpError> {
    let spans = spans(window, &x.shape, &w.shape)?;
    let shape = reference_shape(&spans, &x.shape, &w.shape);
    let per_filter: usize = w.shape[1..].iter().product();
    let zeros = |t: Option<&RefTensor>| t.map_or(Ok(vec![0]), |t| t.as_ints().map(<[i128]>::to_vec));
    let (x_zero, w_zero, data, weights) = (zeros(x_zero)?, zeros(w_zero)?, x.as_ints()?, w.as_ints()?);
    let mut out = vec![0; shape.iter().product()];
    reference_terms(&spans, groups, (&x.shape, &w.shape), |flat, from, to| {
        let zero = if w_zero.len() == 1 { w_zero[0] } else { w_zero[to / per_filter] };
        out[flat] += (data[from] - x_zero[0]) * (weights[to] - zero);
    });
    Ok((shape, out))
}

fn case(g: &mut Gen) -> Case {
    let (s, t) = (*g.pick(BYTES), *g.pick(BYTES));
    let draw = draw_conv(g);
    let mut case = Case::new([g.any_tensor(s, &draw.x), g.any_tensor(t, &draw.w)]).opset(10);
    case.attributes = draw.attributes;
    let zero = g.chance(0.7).then(|| g.any_tensor(s, &[]));
    let per_filter = if g.chance(0.5) { vec![] } else { vec![draw.w[0]] };
    let w_zero = g.chance(0.7).then(|| g.any_tensor(t, &per_filter));
    case.optional(zero).optional(w_zero)
}
