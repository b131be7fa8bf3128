//! # ConstantOfShape
//! A tensor of the given shape, every element `value`; an `f32` zero without it. Opsets 9, 20, 21, 23, 24, 25.

use super::attributes::Attribute;
use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::{DType, NUMBERS_AND_BOOL};
use crate::error::OpError;
use crate::graph::fact::{Content, Fact, Facts, Integer, TensorFact};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::tensor::Tensor;
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "ConstantOfShape",
    domain: "",
    since: &[9, 20, 21, 23, 24, 25],
    until: None,
    dtypes: &[DType::I64],
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct ConstantOfShape {
    /// One element.
    value: Tensor,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let value = spec.tensor("value")?.unwrap_or_else(|| Tensor::scalar(0f32));
    if value.len() != 1 {
        return Err(OpError::attribute("value", format!("has {} elements", value.len())));
    }
    if !NUMBERS_AND_BOOL.contains(&value.dtype()) {
        return Err(OpError::unsupported(format!("a value of {}", value.dtype())));
    }
    Ok(Arc::new(ConstantOfShape { value }))
}

impl Op for ConstantOfShape {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 1)?;
        let dtype = self.value.dtype();
        let Some(shape) = super::expand::shape_from(inputs.typed(0, &[DType::I64])?, 0)? else {
            return Ok(vec![TensorFact::unranked(dtype).into()]);
        };
        let fact = TensorFact::new(dtype, shape);
        let one = self.value.view().to_i64s().ok().and_then(|v| v.first().copied());
        Ok(vec![
            match (one, fact.element_count(), fact.rank()) {
                (Some(one), Some(n), Some(0 | 1)) if n <= 1024 => {
                    fact.with_integers(vec![Integer::from(one); n])
                }
                // A scalar of any type.
                (_, Some(1), _) => {
                    let shape = fact.known_shape().unwrap_or_default();
                    let constant = self.value.reshaped(&shape)?;
                    fact.with_content(Content::Constant(constant))
                }
                _ => fact,
            }
            .into(),
        ])
    }

    fn prepared_from(&self) -> &[usize] {
        &[0]
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let shape = site.output_shape(0)?;
        let value = self.value.clone();
        Ok(Kernel::new(move |io| {
            let out = io.shaped_bytes(0, value.dtype(), &shape)?;
            let one = value.bytes();
            if one.iter().all(|b| b == &one[0]) {
                out.fill(one[0]);
            } else {
                out.chunks_exact_mut(one.len()).for_each(|element| element.copy_from_slice(one));
            }
            Ok(())
        }))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let shape: Vec<usize> = inputs.tensor(0)?.to_i64s()?.into_iter().map(|v| v as usize).collect();
        Ok(vec![RefTensor::from_tensor(&self.value)?.gathered(&shape, |_| 0).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let rank = g.size(0, 4);
    let shape: Vec<i64> = g.shape(rank).iter().map(|&d| d as i64).collect();
    let dtype = *g.pick(NUMBERS_AND_BOOL);
    let shape = Tensor::new(&[rank], shape).unwrap_or_else(|_| Tensor::scalar(0i64));
    let value = g.any_tensor(dtype, &[1]);
    let case = Case::new([shape]).opset(*g.pick(&[9, 25]));
    let case = if g.chance(0.8) { case.with("value", Attribute::Tensor(value)) } else { case };
    if g.chance(0.4) { case.constant(0) } else { case }
}
