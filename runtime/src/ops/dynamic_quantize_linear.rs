//! # DynamicQuantizeLinear
//! Quantises `x` to u8 over its own range, widened to hold 0: `scale = (max − min) / 255`,
//! `zero = round(saturate(−min / scale))`, `y = saturate(round(x / scale) + zero)`; every step in f32, rounded to
//! nearest even. The scale of zeros alone is `1 / 255`. Opset 11.

use super::{Accuracy, Op, OpDef};
use crate::cpu::granularity::Granularity;
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "DynamicQuantizeLinear",
    domain: "",
    since: &[11],
    until: None,
    dtypes: &[DType::F32],
    accuracy: Accuracy::Exact,
    parse: |_| Ok(Arc::new(DynamicQuantizeLinear)),
    case,
};

#[derive(Debug)]
struct DynamicQuantizeLinear;

/// Scale and zero point for elements from `least` to `most`, both widened to hold 0.
fn range(least: f32, most: f32) -> (f32, f32) {
    let span = if least == most { 1.0 } else { most - least };
    let scale = span / 255.0;
    (scale, (-least / scale).clamp(0.0, 255.0).round_ties_even())
}

impl Op for DynamicQuantizeLinear {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 1)?;
        let x = inputs.typed(0, &[DType::F32])?;
        let y = TensorFact { shape: x.shape.clone(), ..TensorFact::unranked(DType::U8) };
        Ok(vec![y.into(), TensorFact::ranked(DType::F32, 0).into(), TensorFact::ranked(DType::U8, 0).into()])
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let whole = Granularity::new(&site.input_shape(0)?, &[], 0, 0)?;
        Ok(Kernel::new(move |io| {
            let x = io.input::<f32>(0)?;
            let least = x.iter().fold(0f32, |a, &b| a.min(b));
            let most = x.iter().fold(0f32, |a, &b| a.max(b));
            let (scale, zero) = range(least, most);
            let context = io.context;
            let (y, scales, zeros) = io.three_outputs::<u8, f32, u8>()?;
            scales.fill(scale);
            zeros.fill(zero as u8);
            whole.for_each_run(context, x, y, &|x, y, _| {
                for (y, x) in y.iter_mut().zip(x) {
                    *y = ((x / scale).round_ties_even() + zero).clamp(0.0, 255.0) as u8;
                }
            })
        }))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        families::quantised::dynamically(site)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let data = x.as_floats()?;
        // The operator is defined by f32 arithmetic.
        let single = |v: f64| f64::from(v as f32);
        let least = data.iter().fold(0.0, |a: f64, &b| a.min(b));
        let most = data.iter().fold(0.0, |a: f64, &b| a.max(b));
        let span = if least == most { 1.0 } else { single(most - least) };
        let scale = single(span / 255.0);
        let zero = single(-least / scale).clamp(0.0, 255.0).round_ties_even();
        let quantise = |v: &f64| (single(v / scale).round_ties_even() + zero).clamp(0.0, 255.0) as i128;
        Ok(vec![
            RefTensor::ints(DType::U8, &x.shape, data.iter().map(quantise).collect()).into(),
            RefTensor::floats(DType::F32, &[], vec![scale]).into(),
            RefTensor::ints(DType::U8, &[], vec![zero as i128]).into(),
        ])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let rank = g.size(0, 4);
    let shape = g.shape(rank);
    let (low, high) = *g.pick(&[(-10.0, 10.0), (0.0, 5.0), (-3.0, 0.0), (2.0, 3.0), (0.0, 1e-30)]);
    Case::new([g.tensor_in(DType::F32, &shape, low, high)]).opset(11).outputs(3)
}
