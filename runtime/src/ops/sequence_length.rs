//! # SequenceLength
//! The number of items of a sequence, an `int64` without axes. Opset 11.

use super::attributes::NodeSpec;
use super::sequence_at::{draw_sequence, item_fact, sequence};
use super::{Accuracy, Op, OpDef};
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::{DType, MOVABLE};
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::tensor::{Sequence, Value};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "SequenceLength",
    domain: "",
    since: &[11],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct SequenceLength;

fn parse(_: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(SequenceLength))
}

impl Op for SequenceLength {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 1)?;
        item_fact(inputs, 0)?;
        Ok(vec![TensorFact::known(DType::I64, &[]).into()])
    }

    fn cpu(&self, _: &CpuSite<'_>) -> Result<Kernel, OpError> {
        Ok(Kernel::new(|io| {
            let count = sequence(io, 0)?.items().len() as i64;
            io.shaped::<i64>(0, &[])?.fill(count);
            Ok(())
        }))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let RefValue::Sequence(items) = inputs.value(0)? else {
            return Err(OpError::internal("no sequence"));
        };
        Ok(vec![RefTensor::ints(DType::I64, &[], vec![items.len() as i128]).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let (items, _) = draw_sequence(g, 0);
    let mut case = Case::new([]);
    case.inputs.push(Some(Value::Sequence(Sequence::new(items))));
    case
}
