//! # SequenceConstruct
//! The inputs, tensors of one type, as a sequence. Opset 11.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::MOVABLE;
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts};
use crate::graph::merge;
use crate::reference::{RefInputs, RefValue};
use crate::tensor::{Sequence, Value};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "SequenceConstruct",
    domain: "",
    since: &[11],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct SequenceConstruct;

fn parse(_: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(SequenceConstruct))
}

impl Op for SequenceConstruct {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        let dtype = inputs.typed(0, MOVABLE)?.dtype;
        let mut item: Fact = inputs.value(0)?.clone();
        for index in 1..inputs.len() {
            inputs.typed(index, &[dtype])?;
            item =
                merge(&item, inputs.value(index)?).ok_or_else(|| OpError::internal("items of one dtype"))?;
        }
        Ok(vec![Fact::Sequence(Box::new(without_content(item)))])
    }

    fn cpu(&self, _: &CpuSite<'_>) -> Result<Kernel, OpError> {
        Ok(Kernel::new(|io| {
            let mut items = Vec::with_capacity(io.input_count());
            for index in 0..io.input_count() {
                items.push(Value::copy_of(io.value(index)?, io.context.budget)?);
            }
            io.make(0, Value::Sequence(Sequence::new(items)))
        }))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let items = (0..inputs.len()).map(|i| inputs.value(i).cloned()).collect::<Result<_, _>>()?;
        Ok(vec![RefValue::Sequence(items)])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// An item's fact says nothing about its elements: another item may stand in its place.
pub(super) fn without_content(item: Fact) -> Fact {
    match item {
        Fact::Tensor(t) => t.with_content(crate::graph::fact::Content::Unknown).into(),
        other => other,
    }
}

fn case(g: &mut Gen) -> Case {
    let dtype = *g.pick(MOVABLE);
    let tensors: Vec<_> = (0..g.size(1, 4))
        .map(|_| {
            let rank = g.size(0, 3);
            let shape = g.shape(rank);
            g.any_tensor(dtype, &shape)
        })
        .collect();
    Case::new(tensors)
}
