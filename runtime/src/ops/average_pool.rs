//! # AveragePool
//! The mean of each window: over the elements inside the input, or with `count_include_pad` over those inside
//! the input and its padding. Opsets 7, 10 (`ceil_mode`), 11, 19 (dilations), 22 (bfloat16).

use super::attributes::NodeSpec;
use super::max_pool::{draw_pool, pool_cost, pool_spans, pooled_dims, reference_windows, windows};
use super::window::{Span, Window};
use super::{Accuracy, Cost, InBlocks, Making, Op, OpDef, OpName};
use crate::cpu::number::{Compute, Number, dispatch};
use crate::cpu::pool::{self, Around, Sum};
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::{DType, FLOATS};
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::loops::{Affine, Fold, Nest, Opaque, operand};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use recurve_kernels::pool::Pool;
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "AveragePool",
    domain: "",
    since: &[7, 10, 11, 19, 22],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

#[derive(Debug)]
struct AveragePool {
    window: Window,
    with_padding: bool,
}

fn parse(node: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let window = Window::parse(node, node.opset >= 19, node.opset >= 10)?;
    window.required_kernel()?;
    Ok(Arc::new(AveragePool { window, with_padding: node.flag_or("count_include_pad", false)? }))
}

impl Op for AveragePool {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 1)?;
        let x = inputs.typed(0, FLOATS)?;
        Ok(vec![TensorFact::new(x.dtype, pooled_dims(&self.window, x.shape.as_deref())?).into()])
    }

    fn cost(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Cost {
        pool_cost(&self.window, inputs, outputs)
    }

    /// The sum over the count of taps inside; with padding the count must be that of the whole window everywhere.
    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        let (mut nest, x, taps) = windows(&self.window, inputs, outputs)?;
        let store = (0..taps[0]).map(Affine::axis).collect();
        let sum = nest.fold(Fold::Sum, &taps, &[x], |_, v| v[0])?;
        if !self.with_padding {
            let count = nest.fold(Fold::Sum, &taps, &[x], |p, v| p.constant_as(v[0], 1.0))?;
            return nest.store(store, &[], &[sum, count], |p, v| p.div(v[0], v[1]));
        }
        let x = operand(inputs, 0)?.known_shape().ok_or(Opaque::Extents)?;
        let spans = pool_spans(&self.window, &x).map_err(|_| Opaque::Extents)?;
        let whole = |s: &Span| {
            let last = s.output.saturating_sub(1) * s.stride + (s.kernel - 1) * s.dilation;
            last < s.input + s.begin + s.end
        };
        if !spans.iter().all(whole) {
            return Err(Opaque::Operator);
        }
        let count = spans.iter().map(|s| s.kernel as f64).product();
        nest.store(store, &[], &[sum], |p, v| {
            let count = p.constant_as(v[0], count);
            p.div(v[0], count)
        })
    }

    fn in_blocks(&self, _inputs: Facts<'_>) -> Option<InBlocks> {
        let op = AveragePool { window: self.window.over_blocks(), with_padding: self.with_padding };
        let name = OpName { domain: "", name: DEF.name };
        (self.window.kernel.len() == 2).then(|| InBlocks { op: Arc::new(op), name, plain: false })
    }

    fn epilogue_rows(&self, _inputs: Facts<'_>) -> Option<usize> {
        Some(2)
    }

    fn making(&self, _inputs: Facts<'_>) -> Making {
        Making::Planes
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let pool = pool::Pool::new(&pool_spans(&self.window, &site.input_shape(0)?)?)?;
        let with_padding = self.with_padding;
        let (around, threads) = (Around::of(site), site.threads);
        dispatch!(site.inputs.tensor(0)?.dtype, floats, T => {
            let scratch = around.scratch::<T>(&pool, threads);
            let kernel = Kernel::new(move |io| {
            let run = around.bind::<T>(io)?;
            let context = io.context;
            let (y, scratch) = io.output_and_scratch::<T>(0)?;
            let outputs = (y, &mut [][..], scratch);
            pool.run::<T, (), _>(context, &run, outputs, &Sum, &|y, _, sums, [_, z, line, first]| {
                for (i, (y, sum)) in y.iter_mut().zip(sums).enumerate() {
                    let (inside, padded) = pool.tap_counts([z, line, first + i]);
                    let count = if with_padding { padded } else { inside };
                    *y = T::store(sum.div(<T as Number>::Compute::from_f64(count as f64)));
                }
            })
        });
            Ok(kernel.with_scratch(scratch))
        })
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        if site.behind.is_some() {
            return Err(GpuReject::Form("a pool with a program behind it".into()));
        }
        let spans = pool_spans(&self.window, &site.input_shape(0)?).map_err(|_| GpuReject::NoKernel)?;
        families::pool::kernel(site, &spans, Pool::Mean { padded: self.with_padding })
            .or_else(|reject| site.nest_or(reject, self.nest(site.inputs, site.outputs)))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let spans = pool_spans(&self.window, &x.shape)?;
        let (shape, windows) = reference_windows(&spans, &x.shape);
        let data = x.as_floats()?;
        let mut out = Vec::new();
        for (flat, window) in windows.iter().enumerate() {
            let mut count = window.len();
            if self.with_padding {
                let place = RefTensor::unravel(&shape, flat);
                count = 1;
                for (axis, s) in spans.iter().enumerate() {
                    let taps = (0..s.kernel)
                        .filter(|t| place[axis + 2] * s.stride + t * s.dilation < s.input + s.begin + s.end);
                    count *= taps.count();
                }
            }
            out.push(window.iter().map(|&i| data[i]).sum::<f64>() / count as f64);
        }
        Ok(vec![RefTensor::floats(x.dtype, &shape, out).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let opset = *g.pick(&[7, 10, 11, 19, 22]);
    let dtype = *g.pick(FLOATS);
    let dtype = if opset < 22 && dtype == DType::BF16 { DType::F32 } else { dtype };
    let case = draw_pool(g, opset, 19, dtype);
    if g.chance(0.6) { case.int("count_include_pad", g.int(0, 1)) } else { case }
}
