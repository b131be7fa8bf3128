//! # ConcatFromSequence
//! The items of a sequence one behind the other along `axis`, or stacked along a new one where `new_axis` is 1.
//! Opset 11.

use super::attributes::NodeSpec;
use super::sequence_at::item_fact;
use super::sequence_at::sequence;
use super::{Accuracy, Op, OpDef};
use crate::cpu::concat_copy::ConcatCopy;
use crate::cpu::movement::Movement;
use crate::cpu::strided_copy::span;
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::{DType, MOVABLE};
use crate::error::OpError;
use crate::graph::dim::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact, normal_axis};
use crate::reference::{RefInputs, RefTensor, RefValue, joined};
use crate::tensor::{Sequence, Shape, Tensor, Value};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "ConcatFromSequence",
    domain: "",
    since: &[11],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct ConcatFromSequence {
    axis: i64,
    new_axis: bool,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let axis = spec.int("axis")?.ok_or_else(|| OpError::attribute("axis", "is missing"))?;
    Ok(Arc::new(ConcatFromSequence { axis, new_axis: spec.flag_or("new_axis", false)? }))
}

impl ConcatFromSequence {
    /// The output's shape, and the runs that each item gives to a row.
    fn plan(&self, items: &[&Tensor]) -> Result<(Shape, ConcatCopy), OpError> {
        let first = items.first().ok_or_else(|| OpError::value("the sequence is empty"))?;
        let mut shape: Shape = first.shape().into();
        let axis = normal_axis(self.axis, shape.len() + usize::from(self.new_axis))?;
        let inner = span(&shape[(axis + usize::from(!self.new_axis)).min(shape.len())..]);
        let mut along = 0usize;
        let mut runs = smallvec::SmallVec::new();
        for item in items {
            let fits = item.dtype() == first.dtype()
                && item.shape().len() == shape.len()
                && item
                    .shape()
                    .iter()
                    .zip(&shape)
                    .enumerate()
                    .all(|(a, (x, y))| x == y || (a == axis && !self.new_axis));
            if !fits {
                return Err(OpError::shape(format!("{first:?} and {item:?} do not concatenate")));
            }
            let extent = if self.new_axis { 1 } else { item.shape()[axis] };
            along = along.checked_add(extent).ok_or_else(|| OpError::shape("the items are too many"))?;
            runs.push(extent.saturating_mul(inner));
        }
        if self.new_axis {
            shape.insert(axis, along);
        } else {
            shape[axis] = along;
        }
        Ok((shape, ConcatCopy::new(runs)))
    }
}

impl Op for ConcatFromSequence {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 1)?;
        let item = item_fact(inputs, 0)?.tensor().ok_or_else(|| OpError::input(0, "holds no tensors"))?;
        if !MOVABLE.contains(&item.dtype) {
            return Err(OpError::DType { index: 0, got: item.dtype });
        }
        let shape = item.shape.clone().map(|mut shape| {
            let axis = normal_axis(self.axis, shape.len() + usize::from(self.new_axis))?;
            if self.new_axis {
                shape.insert(axis, Dim::Unknown);
            } else {
                shape[axis] = Dim::Unknown;
            }
            Ok(shape)
        });
        Ok(vec![TensorFact { shape: shape.transpose()?, ..TensorFact::unranked(item.dtype) }.into()])
    }

    fn cpu(&self, _: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let op = Self { axis: self.axis, new_axis: self.new_axis };
        Ok(Kernel::new(move |io| {
            let held = sequence(io, 0)?.items();
            let items: Option<Vec<&Tensor>> = held.iter().map(Value::as_tensor).collect();
            let items = items.ok_or_else(|| OpError::input(0, "holds no tensors"))?;
            let (shape, copy) = op.plan(&items)?;
            let (dtype, context) = (items[0].dtype(), io.context);
            if dtype == DType::String {
                let from: Vec<&[String]> = items.iter().map(|t| t.as_strings().unwrap_or_default()).collect();
                let mut to = vec![String::new(); span(&shape)];
                copy.run(context, &from, &mut to)?;
                let made =
                    Tensor::strings(&shape, to).map_err(|_| OpError::internal("text of another size"))?;
                return io.make(0, made.into());
            }
            // Items may lie anywhere in memory, so they are moved as bytes.
            let copy = copy.scaled(dtype.bits() / 8);
            let from: Vec<&[u8]> = items.iter().map(|t| t.bytes()).collect();
            copy.run(context, &from, io.shaped_bytes(0, dtype, &shape)?)
        }))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let RefValue::Sequence(items) = inputs.value(0)? else {
            return Err(OpError::internal("no sequence"));
        };
        let mut items: Vec<RefTensor> =
            items.iter().map(|i| i.tensor().cloned()).collect::<Result<_, _>>()?;
        let rank = items[0].shape.len() as i64 + i64::from(self.new_axis);
        let axis = if self.axis < 0 { self.axis + rank } else { self.axis };
        if self.new_axis {
            items.iter_mut().for_each(|i| i.shape.insert(axis as usize, 1));
        }
        Ok(vec![joined(&items.iter().collect::<Vec<_>>(), axis)?.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let dtype = *g.pick(MOVABLE);
    let new_axis = g.chance(0.5);
    let rank = g.size(usize::from(!new_axis), 3);
    let mut shape = g.shape(rank);
    let axis = g.axis(rank + usize::from(new_axis));
    let items = (0..g.size(1, 4)).map(|_| {
        if !new_axis {
            shape[axis.rem_euclid(rank as i64) as usize] = g.extent();
        }
        g.any_tensor(dtype, &shape).into()
    });
    let items = Sequence::new(items.collect());
    let mut case = Case::new([]).int("axis", axis);
    case.inputs.push(Some(Value::Sequence(items)));
    if new_axis || g.chance(0.3) { case.int("new_axis", new_axis.into()) } else { case }
}
