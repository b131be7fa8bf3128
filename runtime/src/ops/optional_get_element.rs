//! # OptionalGetElement
//! The value in an optional one, which must not be empty; from opset 18 on also a value that is not optional, as it
//! is. Opsets 15, 18, 28.

use super::attributes::NodeSpec;
use super::optional_has_element::draw_optional;
use super::{Accuracy, Op, OpDef};
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::MOVABLE;
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts};
use crate::reference::{RefInputs, RefValue};
use crate::tensor::{Value, ValueRef};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "OptionalGetElement",
    domain: "",
    since: &[15, 18, 28],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct OptionalGetElement;

fn parse(_: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(OptionalGetElement))
}

impl Op for OptionalGetElement {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 1)?;
        Ok(vec![match inputs.value(0)? {
            Fact::Optional(kind) => (**kind).clone(),
            other => other.clone(),
        }])
    }

    fn is_identity(&self, inputs: Facts<'_>, _: &[Fact]) -> bool {
        inputs.value(0).is_ok_and(|v| !matches!(v, Fact::Optional(_)))
    }

    fn cpu(&self, _: &CpuSite<'_>) -> Result<Kernel, OpError> {
        Ok(Kernel::new(|io| match io.value(0)? {
            ValueRef::Optional(Some(held)) => {
                let held = held.aligned(io.context.budget)?;
                io.make(0, held)
            }
            ValueRef::Optional(None) => Err(OpError::value("the optional value is empty")),
            _ => io.hand_on(0, 0),
        }))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        families::coordinates::kept(site)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        Ok(vec![match inputs.value(0)? {
            RefValue::Optional(Some(held)) => (**held).clone(),
            other => other.clone(),
        }])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let case = draw_optional(g, false);
    let optional = matches!(case.inputs[0], Some(Value::Optional(_)));
    case.opset(if optional { *g.pick(&[15, 18, 28]) } else { 18 })
}
