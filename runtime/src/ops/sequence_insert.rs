//! # SequenceInsert
//! The sequence with a tensor of its type put in at a position, counted from the end where negative; at the end
//! without one. Opset 11.

use super::attributes::NodeSpec;
use super::sequence_at::{check_position, draw_position, draw_sequence, item_fact, position, sequence};
use super::sequence_construct::without_content;
use super::{Accuracy, Op, OpDef};
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::{DType, MOVABLE};
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::graph::merge;
use crate::reference::{RefInputs, RefValue};
use crate::tensor::{Sequence, Value};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "SequenceInsert",
    domain: "",
    since: &[11],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct SequenceInsert;

fn parse(_: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(SequenceInsert))
}

impl Op for SequenceInsert {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 3)?;
        check_position(inputs, 2)?;
        inputs.tensor(1)?;
        let (held, tensor) = (item_fact(inputs, 0)?, inputs.value(1)?);
        // An empty sequence from outside does not say of what type it is, and counts as one of `f32`.
        let untyped: Fact = TensorFact::unranked(DType::F32).into();
        let item = match merge(held, tensor) {
            Some(item) => item,
            None if *held == untyped => tensor.clone(),
            None => return Err(OpError::input(1, "is not of the sequence's type")),
        };
        Ok(vec![Fact::Sequence(Box::new(without_content(item)))])
    }

    fn cpu(&self, _: &CpuSite<'_>) -> Result<Kernel, OpError> {
        Ok(Kernel::new(|io| {
            let mut items = sequence(io, 0)?.items().to_vec();
            // A position may also be the one behind the last item, which no negative number names.
            let at = match io.optional(2).map(crate::TensorView::to_i64s).transpose()?.as_deref() {
                Some([at]) if *at == items.len() as i64 => items.len(),
                _ => position(io, 2, items.len())?.unwrap_or(items.len()),
            };
            items.insert(at, Value::copy_of(io.value(1)?, io.context.budget)?);
            io.make(0, Value::Sequence(Sequence::new(items)))
        }))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let RefValue::Sequence(items) = inputs.value(0)? else {
            return Err(OpError::internal("no sequence"));
        };
        let mut items = items.clone();
        let n = items.len() as i64;
        let at =
            inputs.optional(2)?.map(crate::reference::RefTensor::to_i64s).transpose()?.map_or(n, |p| p[0]);
        items.insert(if at < 0 { at + n } else { at } as usize, inputs.value(1)?.clone());
        Ok(vec![RefValue::Sequence(items)])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let (items, dtype) = draw_sequence(g, 0);
    let rank = g.size(0, 3);
    let shape = g.shape(rank);
    let tensor = g.any_tensor(dtype, &shape);
    let position = match items.len() {
        0 => crate::tensor::Tensor::scalar(0i64),
        n if g.chance(0.2) => crate::tensor::Tensor::scalar(n as i64),
        n => draw_position(g, n),
    };
    let mut case = Case::new([]);
    case.inputs.push(Some(Value::Sequence(Sequence::new(items))));
    let case = case.input(tensor);
    if g.chance(0.7) { case.input(position) } else { case }
}
