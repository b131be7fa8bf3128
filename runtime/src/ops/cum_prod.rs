//! # CumProd
//! `y_t = Π x_s` over `s ≤ t` along `axis`; over `s < t` when `exclusive`; from the end when `reverse`. `f16` and
//! `bf16` accumulate in `f32`, integers wrap. Opset 26.

use super::attributes::NodeSpec;
use super::cum_sum::cumulative_nest;
use super::{Accuracy, Op, OpDef};
use crate::cpu::cumulative::Cumulative;
use crate::cpu::number::{Compute, dispatch};
use crate::cpu::strided_copy::span;
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts, TensorFact, normal_axis};
use crate::loops::{Fold, Nest, Opaque};
use crate::reference::{RefData, RefInputs, RefTensor, RefValue, wrap};
use crate::tensor::Tensor;
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "CumProd",
    domain: "",
    since: &[26],
    until: None,
    dtypes: ACCUMULATED,
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

/// What the specification takes here.
const ACCUMULATED: &[DType] =
    &[DType::F32, DType::F64, DType::F16, DType::BF16, DType::I32, DType::I64, DType::U32, DType::U64];

#[derive(Debug)]
struct CumProd {
    reverse: bool,
    exclusive: bool,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(CumProd {
        reverse: spec.flag_or("reverse", false)?,
        exclusive: spec.flag_or("exclusive", false)?,
    }))
}

impl Op for CumProd {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 2)?;
        let x = inputs.typed(0, ACCUMULATED)?;
        let axis = inputs.typed(1, &[DType::I32, DType::I64])?;
        if axis.element_count().is_some_and(|n| n != 1) {
            return Err(OpError::input(1, "is not a scalar"));
        }
        if let (Some(rank), Some([axis])) = (x.rank(), axis.as_i64s().as_deref()) {
            normal_axis(*axis, rank)?;
        }
        Ok(vec![TensorFact { shape: x.shape.clone(), ..TensorFact::unranked(x.dtype) }.into()])
    }

    fn prepared_from(&self) -> &[usize] {
        &[1]
    }

    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        let axis =
            inputs.tensor(1).ok().and_then(|a| a.as_i64s()?.first().copied()).ok_or(Opaque::Extents)?;
        cumulative_nest(inputs, outputs, Fold::Product, axis, (self.reverse, self.exclusive))
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let shape = site.output_shape(0)?;
        let axis = site.inputs.tensor(1)?.as_i64s().and_then(|v| v.first().copied());
        let axis = axis.ok_or_else(|| OpError::internal("the axis is not known"))?;
        let axis = normal_axis(axis, shape.len())?;
        let run = Cumulative {
            length: shape[axis],
            inner: span(&shape[axis + 1..]),
            reverse: self.reverse,
            exclusive: self.exclusive,
        };
        dispatch!(site.inputs.tensor(0)?.dtype, numbers, T => Ok(Kernel::new(move |io| {
            let (x, context) = (io.input::<T>(0)?, io.context);
            run.run(context, x, io.output::<T>(0)?, Compute::one(), Compute::mul)?;
            Ok(())
        })))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let shape = site.input_shape(0)?;
        let axis = site.inputs.tensor(1).ok().and_then(|axis| axis.as_i64s()?.first().copied());
        let axis = normal_axis(axis.ok_or(GpuReject::DataDependent)?, shape.len());
        let axis = axis.map_err(|_| GpuReject::NoKernel)?;
        families::lines::cumulative(site, &shape, axis, true, (self.reverse, self.exclusive))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let axis = inputs.tensor(1)?.to_i64s()?[0];
        let axis = if axis < 0 { axis + x.shape.len() as i64 } else { axis } as usize;
        // The positions whose elements meet in the output at `flat`.
        let terms = |flat: usize| {
            let index = RefTensor::unravel(&x.shape, flat);
            let (at, n) = (index[axis], x.shape[axis]);
            let range = match (self.reverse, self.exclusive) {
                (false, false) => 0..at + 1,
                (false, true) => 0..at,
                (true, false) => at..n,
                (true, true) => at + 1..n,
            };
            range.map(move |i| {
                let mut index = index.clone();
                index[axis] = i;
                RefTensor::ravel(&x.shape, &index)
            })
        };
        let all = 0..x.len();
        let data = match &x.data {
            RefData::Float(v) => RefData::Float(all.map(|f| terms(f).map(|i| v[i]).product()).collect()),
            RefData::Int(v) => {
                let one = |f| terms(f).map(|i| v[i]).fold(1, |a: i128, b| wrap(x.dtype, a * b));
                RefData::Int(all.map(one).collect())
            }
            _ => return Err(OpError::internal("CumProd of another type")),
        };
        Ok(vec![RefTensor { data, ..x.clone() }.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let rank = g.size(1, 4);
    let mut shape = g.shape(rank);
    if g.chance(0.2) {
        shape[rank - 1] = g.size(15, 40);
    }
    let dtype = *g.pick(ACCUMULATED);
    let axis = g.axis(rank);
    let axis = if g.chance(0.5) { Tensor::scalar(axis) } else { Tensor::scalar(axis as i32) };
    let case = Case::new([g.tensor_in(dtype, &shape, -1.5, 1.5), axis]);
    let case = if g.chance(0.5) { case.int("reverse", g.int(0, 1)) } else { case };
    let case = if g.chance(0.5) { case.int("exclusive", g.int(0, 1)) } else { case };
    if g.chance(0.6) { case.constant(1) } else { case }
}
