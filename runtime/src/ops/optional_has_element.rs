//! # OptionalHasElement
//! Whether an optional value holds one; from opset 18 on true for a value that is not optional, and false for an
//! absent input. Opsets 15, 18, 28.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::{Bool, DType, MOVABLE};
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::tensor::{Sequence, Tensor, Value, ValueRef};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "OptionalHasElement",
    domain: "",
    since: &[15, 18, 28],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct OptionalHasElement;

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    if spec.opset < 18 && !spec.has_input(0) {
        return Err(OpError::input(0, "is missing"));
    }
    Ok(Arc::new(OptionalHasElement))
}

impl Op for OptionalHasElement {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(0, 1)?;
        let known = if inputs.has(0) { !matches!(inputs.value(0)?, Fact::Optional(_)) } else { false };
        if inputs.has(0) && !known {
            return Ok(vec![TensorFact::known(DType::Bool, &[]).into()]);
        }
        Ok(vec![TensorFact::constant(Tensor::scalar(Bool::new(known))).into()])
    }

    fn cpu(&self, _: &CpuSite<'_>) -> Result<Kernel, OpError> {
        Ok(Kernel::new(|io| {
            let given = io.values().first().copied().flatten();
            let has = given.is_some_and(|v| !matches!(v, ValueRef::Optional(None)));
            io.shaped::<Bool>(0, &[])?.fill(Bool::new(has));
            Ok(())
        }))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let has = match inputs.0.first().copied().flatten() {
            None | Some(RefValue::Optional(None)) => false,
            Some(_) => true,
        };
        Ok(vec![RefTensor::bools(&[], vec![has]).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// An optional value, or one that is not.
pub(super) fn draw_optional(g: &mut Gen, may_be_empty: bool) -> Case {
    let dtype = *g.pick(MOVABLE);
    let rank = g.size(0, 3);
    let shape = g.shape(rank);
    let tensor = g.any_tensor(dtype, &shape);
    let value =
        if g.chance(0.5) { Value::Sequence(Sequence::new(vec![tensor.into()])) } else { tensor.into() };
    let value = match g.size(0, 3) {
        0 => value,
        1 if may_be_empty => Value::Optional(None),
        _ => Value::Optional(Some(Arc::new(value))),
    };
    let mut case = Case::new([]);
    case.inputs.push(Some(value));
    case
}

fn case(g: &mut Gen) -> Case {
    if g.chance(0.1) {
        return Case::new([]).opset(18);
    }
    let case = draw_optional(g, true);
    let optional = matches!(case.inputs[0], Some(Value::Optional(_)));
    case.opset(if optional { *g.pick(&[15, 18, 28]) } else { 18 })
}
