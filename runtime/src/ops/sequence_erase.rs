//! # SequenceErase
//! The sequence without the item at a position, counted from the end where negative; without the last item where
//! no position is given. Opset 11.

use super::attributes::NodeSpec;
use super::sequence_at::{check_position, draw_position, draw_sequence, item_fact, position, sequence};
use super::{Accuracy, Op, OpDef};
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::MOVABLE;
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts};
use crate::reference::{RefInputs, RefValue};
use crate::tensor::{Sequence, Value};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "SequenceErase",
    domain: "",
    since: &[11],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct SequenceErase;

fn parse(_: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(SequenceErase))
}

impl Op for SequenceErase {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 2)?;
        check_position(inputs, 1)?;
        item_fact(inputs, 0)?;
        Ok(vec![inputs.value(0)?.clone()])
    }

    fn cpu(&self, _: &CpuSite<'_>) -> Result<Kernel, OpError> {
        Ok(Kernel::new(|io| {
            let held = sequence(io, 0)?;
            let mut items = held.items().to_vec();
            let last = items.len().checked_sub(1).ok_or_else(|| OpError::value("the sequence is empty"))?;
            items.remove(position(io, 1, items.len())?.unwrap_or(last));
            io.make(0, Value::Sequence(held.with_items(items)))
        }))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let RefValue::Sequence(items) = inputs.value(0)? else {
            return Err(OpError::internal("no sequence"));
        };
        let mut items = items.clone();
        let at =
            inputs.optional(1)?.map(crate::reference::RefTensor::to_i64s).transpose()?.map_or(-1, |p| p[0]);
        items.remove(if at < 0 { at + items.len() as i64 } else { at } as usize);
        Ok(vec![RefValue::Sequence(items)])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let (items, _) = draw_sequence(g, 1);
    let position = draw_position(g, items.len());
    let mut case = Case::new([]);
    case.inputs.push(Some(Value::Sequence(Sequence::new(items))));
    if g.chance(0.7) { case.input(position) } else { case }
}
