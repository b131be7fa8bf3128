//! # LpNormalization
//! `y = x / (Σ |x|^p)^(1/p)` along `axis`, `p` being 1 or 2; 0 where the norm is 0. Opsets 1, 22 (bfloat16).
//! Accumulated in f64.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::lines::Lines;
use crate::cpu::number::{Real, dispatch};
use crate::cpu::{CpuSite, Io, Kernel};
use crate::dtype::FLOATS;
use crate::error::OpError;
use crate::exec::Looks;
use crate::graph::fact::{Fact, Facts, TensorFact, normal_axis};
use crate::loops::program::{Builder, Reg};
use crate::loops::{Affine, Fold, Nest, Opaque, Outside, Stages, extents, operand};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "LpNormalization",
    domain: "",
    since: &[1, 22],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

#[derive(Debug)]
struct LpNormalization {
    axis: i64,
    squared: bool,
}

fn parse(node: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let squared = match node.int_or("p", 2)? {
        1 => false,
        2 => true,
        other => return Err(OpError::attribute("p", format!("is {other}; 1 or 2 is meant"))),
    };
    Ok(Arc::new(LpNormalization { axis: node.int_or("axis", -1)?, squared }))
}

fn run<T: Real>(io: &mut Io<'_, '_>, lines: Lines, squared: bool) -> Result<(), OpError> {
    const STRIP: usize = 32;
    let x = io.input::<T>(0)?;
    let context = io.context;
    lines.for_each_slab(context, x, io.output::<T>(0)?, &|x, y, looks| {
        for from in (0..lines.inner).step_by(STRIP) {
            let width = STRIP.min(lines.inner - from);
            let row = |i: usize| i * lines.inner + from..i * lines.inner + from + width;
            let mut norms = [0.0; STRIP];
            for steps in Looks::steps(lines.length, width) {
                looks.past(steps.len() * width)?;
                for i in steps {
                    for (norm, x) in norms.iter_mut().zip(&x[row(i)]) {
                        let x = x.to_f64();
                        *norm += if squared { x * x } else { x.abs() };
                    }
                }
            }
            for norm in &mut norms {
                let root = if squared { norm.sqrt() } else { *norm };
                *norm = if root == 0.0 { 0.0 } else { 1.0 / root };
            }
            for steps in Looks::steps(lines.length, width) {
                looks.past(steps.len() * width)?;
                for i in steps {
                    for ((y, x), norm) in y[row(i)].iter_mut().zip(&x[row(i)]).zip(&norms) {
                        *y = T::from_f64(x.to_f64() * norm);
                    }
                }
            }
        }
        Ok(())
    })
}

impl Op for LpNormalization {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 1)?;
        let x = inputs.typed(0, FLOATS)?;
        if let Some(rank) = x.rank() {
            normal_axis(self.axis, rank)?;
        }
        Ok(vec![TensorFact { shape: x.shape.clone(), ..TensorFact::unranked(x.dtype) }.into()])
    }

    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        let axes = extents(operand(inputs, 0)?)?.to_vec();
        let axis = normal_axis(self.axis, axes.len()).map_err(|_| Opaque::Operator)?;
        let here: Vec<Affine> = (0..axes.len()).map(Affine::axis).collect();
        let mut nest = Stages::over(inputs, outputs, axes)?;
        let x = nest.read(0, here.clone(), Outside::Never)?;
        let term = |p: &mut Builder, v: Reg| if self.squared { p.mul(v, v) } else { p.abs(v) };
        let sum = nest.fold(Fold::Sum, &[axis], &[x], |p, v| term(p, v[0]))?;
        nest.store(here, &[axis], &[x, sum], |p, v| {
            let norm = if self.squared { p.sqrt(v[1]) } else { v[1] };
            let (zero, quotient) = (p.constant_as(norm, 0.0), p.div(v[0], norm));
            let nothing = p.eq(norm, zero);
            p.select(nothing, zero, quotient)
        })
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let shape = site.input_shape(0)?;
        let lines = Lines::along(&shape, normal_axis(self.axis, shape.len())?);
        let squared = self.squared;
        dispatch!(site.inputs.tensor(0)?.dtype, floats, T => {
            Ok(Kernel::new(move |io| run::<T>(io, lines, squared)))
        })
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let axis = normal_axis(self.axis, x.shape.len())?;
        let data = x.as_floats()?;
        let p = if self.squared { 2.0 } else { 1.0 };
        let mut out = Vec::new();
        for flat in 0..data.len() {
            let mut index = RefTensor::unravel(&x.shape, flat);
            let mut sum = 0.0;
            for i in 0..x.shape[axis] {
                index[axis] = i;
                sum += data[RefTensor::ravel(&x.shape, &index)].abs().powf(p);
            }
            out.push(if sum == 0.0 { 0.0 } else { data[flat] / sum.powf(1.0 / p) });
        }
        Ok(vec![RefTensor::floats(x.dtype, &x.shape, out).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let opset = *g.pick(&[7, 22]);
    let dtype = if opset < 22 { *g.pick(&FLOATS[..3]) } else { *g.pick(FLOATS) };
    let rank = g.size(1, 4);
    let shape = g.shape(rank);
    let x = if g.chance(0.1) { g.tensor_in(dtype, &shape, 0.0, 0.0) } else { g.tensor(dtype, &shape) };
    let mut case = Case::new([x]).opset(opset);
    if g.chance(0.7) {
        case = case.int("axis", g.axis(rank));
    }
    if g.chance(0.7) { case.int("p", g.int(1, 2)) } else { case }
}
