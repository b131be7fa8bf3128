//! # Optional
//! A value as an optional one, or an empty optional value of the kind that `type` names. Opsets 15, 28.

use super::attributes::{Attribute, NodeSpec};
use super::{Accuracy, Op, OpDef};
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::MOVABLE;
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::reference::{RefInputs, RefValue};
use crate::tensor::{Sequence, Value};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Optional",
    domain: "",
    since: &[15, 28],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct Optional {
    /// The kind of the value where none is given.
    kind: Option<Fact>,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let kind = spec.fact("type")?;
    if kind.is_none() && !spec.has_input(0) {
        return Err(OpError::attribute("type", "is missing"));
    }
    Ok(Arc::new(Optional { kind }))
}

impl Op for Optional {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(0, 1)?;
        let kind = match (&self.kind, inputs.has(0)) {
            (_, true) => inputs.value(0)?.clone(),
            (Some(kind), false) => kind.clone(),
            (None, false) => return Err(OpError::input(0, "is missing")),
        };
        match kind {
            Fact::Optional(_) => Err(OpError::input(0, "is optional itself")),
            kind => Ok(vec![Fact::Optional(Box::new(super::sequence_construct::without_content(kind)))]),
        }
    }

    fn cpu(&self, _: &CpuSite<'_>) -> Result<Kernel, OpError> {
        Ok(Kernel::new(|io| {
            let given = io.values().first().copied().flatten();
            let held = given.map(|v| Value::copy_of(v, io.context.budget)).transpose()?;
            io.make(0, Value::Optional(held.map(Arc::new)))
        }))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let given = if inputs.len() > 0 { Some(Box::new(inputs.value(0)?.clone())) } else { None };
        Ok(vec![RefValue::Optional(given)])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let dtype = *g.pick(MOVABLE);
    let kind: Fact = TensorFact::unranked(dtype).into();
    let rank = g.size(0, 3);
    let shape = g.shape(rank);
    let tensor = g.any_tensor(dtype, &shape);
    let case = match g.size(0, 3) {
        0 => Case::new([]).with("type", Attribute::Type(kind)),
        1 => Case::new([]).with("type", Attribute::Type(Fact::Sequence(Box::new(kind)))),
        2 => {
            let mut case = Case::new([]);
            case.inputs.push(Some(Value::Sequence(Sequence::new(vec![tensor.into()]))));
            case
        }
        _ => Case::new([tensor]),
    };
    case.opset(*g.pick(&[15, 28]))
}
