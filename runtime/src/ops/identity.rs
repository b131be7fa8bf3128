//! # Identity
//! `y = x`, a value of any kind. Opsets 1, 13, 14, 16, 19, 21, 23, 24, 25.

use super::attributes::NodeSpec;
use super::elementwise::{draw_numbers, draw_shape};
use super::{Accuracy, Op, OpDef};
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::MOVABLE;
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts};
use crate::reference::{RefInputs, RefValue};
use crate::tensor::{Sequence, Value, ValueRef};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Identity",
    domain: "",
    since: &[1, 13, 14, 16, 19, 21, 23, 24, 25],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse: |_: &NodeSpec| Ok(Arc::new(Identity)),
    case,
};

#[derive(Debug)]
struct Identity;

impl Op for Identity {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 1)?;
        Ok(vec![inputs.value(0)?.clone()])
    }

    fn alias_of(&self) -> Option<usize> {
        Some(0)
    }

    fn is_identity(&self, _: Facts<'_>, _: &[Fact]) -> bool {
        true
    }

    fn cpu(&self, _: &CpuSite<'_>) -> Result<Kernel, OpError> {
        Ok(Kernel::new(|io| match io.value(0)? {
            ValueRef::Tensor(x) => io.copy(0, x),
            other => {
                let copy = Value::copy_of(other, io.context.budget)?;
                io.make(0, copy)
            }
        }))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        Ok(vec![inputs.value(0)?.clone()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let (dtype, shape) = (*g.pick(MOVABLE), draw_shape(g));
    let tensor = |g: &mut Gen| draw_numbers(g, dtype, &shape, (-10.0, 10.0));
    let x = tensor(g);
    let mut case = Case::new([x.clone()]);
    match g.size(0, 5) {
        0 => case.inputs = vec![Some(Value::Sequence(Sequence::new(vec![x.into(), tensor(g).into()])))],
        1 => case.inputs = vec![Some(Value::Optional(Some(Arc::new(x.into()))))],
        _ => {}
    }
    case
}
