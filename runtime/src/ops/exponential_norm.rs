//! The form that Softmax, LogSoftmax and Hardmax share: one axis from opset 13 on (default −1); before that the
//! tensor is flattened to `[before axis, from axis on]` (default 1) and each row normalised.

use super::Op;
use super::attributes::NodeSpec;
use crate::cpu::lines::Lines;
use crate::cpu::number::dispatch;
use crate::cpu::program::{RowKernel, RowLayout};
use crate::cpu::softmax::{Form, row_program, softmax};
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::{DType, FLOATS};
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts, TensorFact, normal_axis};
use crate::loops::{Affine, Fold, Nest, Opaque, Outside, Stages, extents, operand};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use smallvec::smallvec;
use std::any::Any;
use std::sync::Arc;

#[derive(Debug)]
struct ExponentialNorm {
    axis: i64,
    /// Opset below 13.
    flatten: bool,
    form: Form,
    line: fn(&[f64]) -> Vec<f64>,
}

/// Parses the operator of `form`; `line` is its reference for one line.
pub(super) fn parse(
    node: &NodeSpec,
    form: Form,
    line: fn(&[f64]) -> Vec<f64>,
) -> Result<Arc<dyn Op>, OpError> {
    let flatten = node.opset < 13;
    let axis = node.int_or("axis", if flatten { 1 } else { -1 })?;
    Ok(Arc::new(ExponentialNorm { axis, flatten, form, line }))
}

impl ExponentialNorm {
    /// The axis, which may be the rank where it is flattened at.
    fn axis(&self, rank: usize) -> Result<usize, OpError> {
        if self.flatten && (self.axis == rank as i64 || rank == 0) {
            return Ok(rank);
        }
        normal_axis(self.axis, rank)
    }

    /// What is normalised.
    fn lines(&self, shape: &[usize]) -> Result<Lines, OpError> {
        let axis = self.axis(shape.len())?;
        Ok(if self.flatten { Lines::from(shape, axis) } else { Lines::along(shape, axis) })
    }
}

impl Op for ExponentialNorm {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 1)?;
        let x = inputs.typed(0, FLOATS)?;
        if let Some(rank) = x.rank() {
            self.axis(rank)?;
        }
        Ok(vec![TensorFact { shape: x.shape.clone(), ..TensorFact::unranked(x.dtype) }.into()])
    }

    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        let axes = extents(operand(inputs, 0)?)?.to_vec();
        let axis = self.axis(axes.len()).map_err(|_| Opaque::Operator)?;
        let over: Vec<usize> = if self.flatten { (axis..axes.len()).collect() } else { vec![axis] };
        let here: Vec<Affine> = (0..axes.len()).map(Affine::axis).collect();
        let mut nest = Stages::over(inputs, outputs, axes)?;
        let x = nest.read(0, here.clone(), Outside::Never)?;
        let most = nest.fold(Fold::Max, &over, &[x], |_, v| v[0])?;
        let sum = nest.fold(Fold::Sum, &over, &[x, most], |p, v| {
            let relative = p.sub(v[0], v[1]);
            p.exp(relative)
        })?;
        let form = self.form;
        match form {
            Form::Softmax => nest.store(here, &over, &[x, most, sum], |p, v| {
                let relative = p.sub(v[0], v[1]);
                let power = p.exp(relative);
                let scale = p.recip(v[2]);
                p.mul(power, scale)
            }),
            Form::LogSoftmax => nest.store(here, &over, &[x, most, sum], |p, v| {
                let relative = p.sub(v[0], v[1]);
                let log = p.log(v[2]);
                p.sub(relative, log)
            }),
            // Which of equal elements is the first is no scalar question.
            Form::Hardmax => Err(Opaque::Operator),
        }
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let shape = site.input_shape(0)?;
        let lines = self.lines(&shape)?;
        let (form, dtype) = (self.form, site.inputs.tensor(0)?.dtype);
        if lines.inner == 1
            && let Some(program) = row_program(form, dtype, lines.length)?
        {
            let layout = RowLayout::plain(lines.length);
            let kernel = RowKernel::new(&program, [lines.outer, lines.length], &[layout], site.threads)?;
            return Ok(kernel.into_kernel(smallvec![0]));
        }
        dispatch!(site.inputs.tensor(0)?.dtype, floats, T => Ok(Kernel::new(move |io| {
            let x = io.input::<T>(0)?;
            let context = io.context;
            softmax(context, lines, form, x, io.output(0)?)
        })))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let shape = site.input_shape(0)?;
        let lines = self.lines(&shape).map_err(|_| GpuReject::NoKernel)?;
        match self.form {
            Form::Softmax => families::lines::softmax(site, lines, false),
            Form::LogSoftmax => families::lines::softmax(site, lines, true),
            Form::Hardmax => families::coordinates::hardmax(site, lines),
        }
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let axis = self.axis(x.shape.len())?;
        let inner: usize = if self.flatten { 1 } else { x.shape[axis + 1..].iter().product() };
        let length: usize = if self.flatten { x.shape[axis..].iter().product() } else { x.shape[axis] };
        let data = x.as_floats()?;
        let mut out = vec![0.0; data.len()];
        for start in (0..data.len()).filter(|i| (i / inner).is_multiple_of(length)) {
            let places: Vec<usize> = (0..length).map(|i| start + i * inner).collect();
            let line: Vec<f64> = places.iter().map(|&i| data[i]).collect();
            for (place, value) in places.into_iter().zip((self.line)(&line)) {
                out[place] = value;
            }
        }
        Ok(vec![RefTensor::floats(x.dtype, &x.shape, out).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Draws a use of one of these operators.
pub(super) fn case(g: &mut Gen) -> Case {
    let opset = *g.pick(&[7, 11, 13, 13, 13]);
    let dtype = if opset < 13 { *g.pick(&FLOATS[..3]) } else { *g.pick(FLOATS) };
    debug_assert!(opset >= 13 || dtype != DType::BF16);
    let rank = g.size(1, 4);
    let mut shape = g.shape(rank);
    if g.chance(0.1) {
        shape[rank - 1] = g.size(30, 100);
    }
    let x = g.tensor_in(dtype, &shape, -10.0, 10.0);
    let case = Case::new([x]).opset(opset);
    if g.chance(0.2) {
        return case;
    }
    let axis = g.axis(rank);
    case.int("axis", if opset < 11 && axis < 0 { axis + rank as i64 } else { axis })
}
