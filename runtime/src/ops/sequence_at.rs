//! # SequenceAt
//! The item of a sequence at a position, counted from the end where negative. Opset 11.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::index::INDEX_TYPES;
use crate::cpu::{CpuSite, Io, Kernel};
use crate::dtype::{DType, MOVABLE};
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts};
use crate::reference::{RefInputs, RefValue};
use crate::tensor::{Sequence, Tensor, Value, ValueRef};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "SequenceAt",
    domain: "",
    since: &[11],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct SequenceAt;

fn parse(_: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(SequenceAt))
}

/// The fact of a sequence's items.
pub(super) fn item_fact(inputs: Facts<'_>, index: usize) -> Result<&Fact, OpError> {
    match inputs.value(index)? {
        Fact::Sequence(item) => Ok(item),
        _ => Err(OpError::input(index, "is not a sequence")),
    }
}

/// Errs unless input `index` is a position, when it is there.
pub(super) fn check_position(inputs: Facts<'_>, index: usize) -> Result<(), OpError> {
    if inputs.has(index) && inputs.typed(index, INDEX_TYPES)?.element_count().is_some_and(|n| n != 1) {
        return Err(OpError::input(index, "is not a scalar"));
    }
    Ok(())
}

/// The sequence at input `index`.
pub(super) fn sequence<'a>(io: &Io<'a, '_>, index: usize) -> Result<&'a Sequence, OpError> {
    match io.value(index)? {
        ValueRef::Sequence(s) => Ok(s),
        _ => Err(OpError::input(index, "is not a sequence")),
    }
}

/// The position that input `index` names, of `count` places; none when it is absent.
pub(super) fn position(io: &Io<'_, '_>, index: usize, count: usize) -> Result<Option<usize>, OpError> {
    let Some(view) = io.optional(index) else { return Ok(None) };
    let raw = view.to_i64s()?.first().copied().ok_or_else(|| OpError::input(index, "is empty"))?;
    let at = if raw < 0 { raw.saturating_add(count as i64) } else { raw };
    let at = usize::try_from(at).ok().filter(|&at| at < count);
    at.map(Some).ok_or_else(|| OpError::value(format!("position {raw} of {count}")))
}

impl Op for SequenceAt {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 2)?;
        check_position(inputs, 1)?;
        Ok(vec![item_fact(inputs, 0)?.clone()])
    }

    fn cpu(&self, _: &CpuSite<'_>) -> Result<Kernel, OpError> {
        Ok(Kernel::new(|io| {
            let items = sequence(io, 0)?.items();
            match position(io, 1, items.len())?.and_then(|at| items.get(at)) {
                Some(item) => {
                    let item = item.aligned(io.context.budget)?;
                    io.make(0, item)
                }
                None => Err(OpError::input(1, "is missing")),
            }
        }))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let RefValue::Sequence(items) = inputs.value(0)? else {
            return Err(OpError::internal("no sequence"));
        };
        let at = inputs.tensor(1)?.to_i64s()?[0];
        Ok(vec![items[if at < 0 { at + items.len() as i64 } else { at } as usize].clone()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A sequence of tensors of one type, at least `least` of them.
pub(super) fn draw_sequence(g: &mut Gen, least: usize) -> (Vec<Value>, DType) {
    let dtype = *g.pick(MOVABLE);
    let items = (0..g.size(least, 4)).map(|_| {
        let rank = g.size(0, 3);
        let shape = g.shape(rank);
        g.any_tensor(dtype, &shape).into()
    });
    (items.collect(), dtype)
}

/// A position among `count` places, as either index type.
pub(super) fn draw_position(g: &mut Gen, count: usize) -> Tensor {
    let at = g.axis(count);
    if g.chance(0.5) { Tensor::scalar(at) } else { Tensor::scalar(at as i32) }
}

fn case(g: &mut Gen) -> Case {
    let (items, _) = draw_sequence(g, 1);
    let position = draw_position(g, items.len());
    let mut case = Case::new([]);
    case.inputs.push(Some(Value::Sequence(Sequence::new(items))));
    let case = case.input(position);
    if g.chance(0.4) { case.constant(1) } else { case }
}
