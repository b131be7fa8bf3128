//! # NonZero
//! The coordinates of the elements that are not zero, in row-major order, one column each: `int64`
//! `[rank, count]`. A scalar gives no rows. Opsets 9, 13.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::number::dispatch;
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::{DType, NUMBERS_AND_BOOL};
use crate::error::OpError;
use crate::graph::dim::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::reference::{RefData, RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "NonZero",
    domain: "",
    since: &[9, 13],
    until: None,
    dtypes: NUMBERS_AND_BOOL,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct NonZero;

fn parse(_: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(NonZero))
}

impl Op for NonZero {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 1)?;
        let x = inputs.typed(0, NUMBERS_AND_BOOL)?;
        let rank = x.rank().map_or(Dim::Unknown, Dim::Known);
        Ok(vec![TensorFact::new(DType::I64, vec![rank, Dim::Unknown]).into()])
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let shape = site.input_shape(0)?;
        dispatch!(site.inputs.tensor(0)?.dtype, any, T => Ok(Kernel::new(move |io| {
            let x = io.input::<T>(0)?;
            let zero = T::default();
            let count = x.iter().filter(|&&v| v != zero).count();
            let out = io.shaped::<i64>(0, &[shape.len(), count])?;
            let found = || x.iter().enumerate().filter(|(_, v)| **v != zero).map(|(at, _)| at);
            let mut stride = 1;
            for (axis, &extent) in shape.iter().enumerate().rev() {
                for (y, at) in out[axis * count..][..count].iter_mut().zip(found()) {
                    *y = (at / stride % extent) as i64;
                }
                // All strides of a tensor that has an element are below its element count.
                stride = stride.saturating_mul(extent.max(1));
            }
            Ok(())
        })))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let is_set = |i: usize| match &x.data {
            RefData::Float(v) => v[i] != 0.0,
            RefData::Int(v) => v[i] != 0,
            RefData::Bool(v) => v[i],
            RefData::Text(v) => !v[i].is_empty(),
        };
        let places: Vec<Vec<usize>> =
            (0..x.len()).filter(|&i| is_set(i)).map(|i| RefTensor::unravel(&x.shape, i)).collect();
        let rank = x.shape.len();
        let data = (0..rank).flat_map(|axis| places.iter().map(move |p| p[axis] as i128)).collect();
        Ok(vec![RefTensor::ints(DType::I64, &[rank, places.len()], data).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let rank = g.size(0, 4);
    let shape = g.shape(rank);
    let dtype = *g.pick(NUMBERS_AND_BOOL);
    let x = if dtype.is_float() {
        let n = shape.iter().product();
        let data = (0..n).map(|_| *g.pick(&[0.0, -0.0, 1.5, f64::NAN])).collect();
        RefTensor::floats(dtype, &shape, data).to_tensor()
    } else {
        Ok(g.tensor_in(dtype, &shape, -1.0, 1.0))
    };
    let x = x.unwrap_or_else(|_| crate::tensor::Tensor::scalar(0u8));
    let case = Case::new([x]).opset(*g.pick(&[9, 13]));
    if g.chance(0.2) { case.constant(0) } else { case }
}
