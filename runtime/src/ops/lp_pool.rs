//! # LpPool
//! `(Σ |x|^p)^(1/p)` over each window, padding left out. Opsets 2, 11, 18 (`ceil_mode`, dilations), 22 (bfloat16).
//! Accumulated in f64.

use super::attributes::NodeSpec;
use super::max_pool::{draw_pool, pool_cost, pool_spans, pooled_dims, reference_windows, windows};
use super::window::Window;
use super::{Accuracy, Cost, Making, Op, OpDef};
use crate::cpu::number::{Number, dispatch};
use crate::cpu::pool::{Around, Gather, Pool};
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::FLOATS;
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::loops::program::{Builder, Reg};
use crate::loops::{Affine, Fold, Nest, Opaque};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "LpPool",
    domain: "",
    since: &[2, 11, 18, 22],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

#[derive(Debug)]
struct LpPool {
    window: Window,
    p: f64,
}

fn parse(node: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let window = Window::parse(node, node.opset >= 18, node.opset >= 18)?;
    window.required_kernel()?;
    Ok(Arc::new(LpPool { window, p: order(node)? }))
}

/// The `p` attribute, the order of a norm.
pub(super) fn order(node: &NodeSpec) -> Result<f64, OpError> {
    match node.int_or("p", 2)? {
        p if p > 0 => Ok(p as f64),
        other => Err(OpError::attribute("p", format!("is {other}"))),
    }
}

/// `|x|^p`.
pub(super) fn power(x: f64, p: f64) -> f64 {
    if p == 2.0 {
        x * x
    } else if p == 1.0 {
        x.abs()
    } else {
        x.abs().powf(p)
    }
}

/// `|x|^p` as a program.
pub(super) fn scalar_power(b: &mut Builder, x: Reg, p: f64) -> Reg {
    let size = b.abs(x);
    if p == 1.0 {
        return size;
    }
    let power = b.constant_as(x, p);
    b.pow(size, power)
}

/// `x^(1/p)` as a program.
pub(super) fn scalar_root(b: &mut Builder, x: Reg, p: f64) -> Reg {
    if p == 1.0 {
        return x;
    }
    if p == 2.0 {
        return b.sqrt(x);
    }
    let power = b.constant_as(x, 1.0 / p);
    b.pow(x, power)
}

struct Powers(f64);

impl<T: Number> Gather<T> for Powers {
    type State = f64;
    fn empty(&self) -> f64 {
        0.0
    }
    fn add(&self, state: f64, x: T, _: usize) -> f64 {
        state + power(x.to_f64(), self.0)
    }
}

impl Op for LpPool {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 1)?;
        let x = inputs.typed(0, FLOATS)?;
        Ok(vec![TensorFact::new(x.dtype, pooled_dims(&self.window, x.shape.as_deref())?).into()])
    }

    fn cost(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Cost {
        pool_cost(&self.window, inputs, outputs)
    }

    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        let (mut nest, x, taps) = windows(&self.window, inputs, outputs)?;
        let sum = nest.fold(Fold::Sum, &taps, &[x], |b, v| scalar_power(b, v[0], self.p))?;
        let store = (0..taps[0]).map(Affine::axis).collect();
        nest.store(store, &[], &[sum], |b, v| scalar_root(b, v[0], self.p))
    }

    fn epilogue_rows(&self, _inputs: Facts<'_>) -> Option<usize> {
        Some(2)
    }

    fn making(&self, _inputs: Facts<'_>) -> Making {
        Making::Planes
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let pool = Pool::new(&pool_spans(&self.window, &site.input_shape(0)?)?)?;
        let p = self.p;
        let (around, threads) = (Around::of(site), site.threads);
        dispatch!(site.inputs.tensor(0)?.dtype, floats, T => {
            let scratch = around.scratch::<T>(&pool, threads);
            let kernel = Kernel::new(move |io| {
            let run = around.bind::<T>(io)?;
            let context = io.context;
            let (y, scratch) = io.output_and_scratch::<T>(0)?;
            let outputs = (y, &mut [][..], scratch);
            pool.run::<T, (), _>(context, &run, outputs, &Powers(p), &|y, _, sums, _| {
                y.iter_mut().zip(sums).for_each(|(y, sum)| *y = T::from_f64(sum.powf(1.0 / p)));
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
        let pool = recurve_kernels::pool::Pool::Norm { power: self.p as f32 };
        families::pool::kernel(site, &spans, pool)
            .or_else(|reject| site.nest_or(reject, self.nest(site.inputs, site.outputs)))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let (shape, windows) = reference_windows(&pool_spans(&self.window, &x.shape)?, &x.shape);
        let data = x.as_floats()?;
        let norm =
            |w: &Vec<usize>| w.iter().map(|&i| data[i].abs().powf(self.p)).sum::<f64>().powf(1.0 / self.p);
        Ok(vec![RefTensor::floats(x.dtype, &shape, windows.iter().map(norm).collect()).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let opset = *g.pick(&[7, 11, 18, 22]);
    let dtype = if opset < 22 { *g.pick(&FLOATS[..3]) } else { *g.pick(FLOATS) };
    let mut case = draw_pool(g, opset, 18, dtype);
    if opset < 18 {
        case.attributes.retain(|(name, _)| *name != "ceil_mode");
    }
    if g.chance(0.7) { case.int("p", g.int(1, 4)) } else { case }
}
