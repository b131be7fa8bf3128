//! # EyeLike
//! A matrix of the input's shape: ones on the diagonal `k`, zeros elsewhere, of type `dtype` or the input's.
//! Opsets 9, 22.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::number::{Number, dispatch};
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::{Bool, DType, NUMBERS_AND_BOOL};
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::reference::{RefData, RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "EyeLike",
    domain: "",
    since: &[9, 22],
    until: None,
    dtypes: NUMBERS_AND_BOOL,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct EyeLike {
    dtype: Option<DType>,
    k: i64,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let dtype = spec.dtype("dtype")?;
    if let Some(other) = dtype.filter(|d| !NUMBERS_AND_BOOL.contains(d)) {
        return Err(OpError::unsupported(format!("a matrix of {other}")));
    }
    Ok(Arc::new(EyeLike { dtype, k: spec.int_or("k", 0)? }))
}

impl Op for EyeLike {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 1)?;
        let x = inputs.typed(0, NUMBERS_AND_BOOL)?;
        if x.rank().is_some_and(|r| r != 2) {
            return Err(OpError::input(0, "is not a matrix"));
        }
        let fact = TensorFact::ranked(self.dtype.unwrap_or(x.dtype), 2);
        Ok(vec![TensorFact { shape: x.shape.clone().or(fact.shape.clone()), ..fact }.into()])
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        fn fill<T: Clone>(out: &mut [T], columns: usize, k: i64, zero: T, one: &T) {
            out.fill(zero);
            if columns == 0 {
                return;
            }
            for (i, row) in out.chunks_exact_mut(columns).enumerate() {
                let at = (i as i64).checked_add(k).and_then(|c| usize::try_from(c).ok());
                if let Some(value) = at.and_then(|c| row.get_mut(c)) {
                    *value = one.clone();
                }
            }
        }
        let (columns, k) = (site.output_shape(0)?[1], self.k);
        let dtype = self.dtype.unwrap_or(site.inputs.tensor(0)?.dtype);
        if dtype == DType::Bool {
            return Ok(Kernel::new(move |io| {
                fill(io.output::<Bool>(0)?, columns, k, Bool::new(false), &Bool::new(true));
                Ok(())
            }));
        }
        dispatch!(dtype, numbers, T => Ok(Kernel::new(move |io| {
            fill(io.output::<T>(0)?, columns, k, T::default(), &T::from_f64(1.0));
            Ok(())
        })))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        families::coordinates::eye(site, self.dtype.map_or_else(|| site.dtype(0), Ok)?, self.k)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let dtype = self.dtype.unwrap_or(x.dtype);
        let is_one = |flat: usize| {
            let index = RefTensor::unravel(&x.shape, flat);
            index[1] as i128 - index[0] as i128 == i128::from(self.k)
        };
        let ones = (0..x.len()).map(is_one);
        let data = if dtype.is_float() {
            RefData::Float(ones.map(|one| f64::from(u8::from(one))).collect())
        } else if dtype == DType::Bool {
            RefData::Bool(ones.collect())
        } else {
            RefData::Int(ones.map(i128::from).collect())
        };
        Ok(vec![RefTensor { dtype, shape: x.shape.clone(), data }.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let shape = g.shape(2);
    let dtype = *g.pick(NUMBERS_AND_BOOL);
    let case = Case::new([g.any_tensor(dtype, &shape)]).opset(*g.pick(&[9, 22]));
    let case = if g.chance(0.7) { case.dtype("dtype", *g.pick(NUMBERS_AND_BOOL)) } else { case };
    if g.chance(0.7) { case.int("k", g.int(-6, 6)) } else { case }
}
