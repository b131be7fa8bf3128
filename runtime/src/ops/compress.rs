//! # Compress
//! The slices along `axis`, or the elements of the flattened input without it, whose entry in `condition` is true.
//! What lies beyond the condition's end is left out. Opsets 9, 11 (negative axes), 28.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::RunContext;
use crate::cpu::movement::{Movement, Unit, move_elements};
use crate::cpu::strided_copy::span;
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::{Bool, DType, MOVABLE};
use crate::error::OpError;
use crate::graph::dim::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact, normal_axis};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Compress",
    domain: "",
    since: &[9, 11, 28],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct Compress {
    axis: Option<i64>,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(Compress { axis: spec.int("axis")? }))
}

/// Of each block of `extent` runs of `inner` elements, those that the condition names.
struct Runs<'a> {
    condition: &'a [Bool],
    extent: usize,
    inner: usize,
}

impl Movement for Runs<'_> {
    fn run<T: Unit>(&self, _: RunContext<'_>, from: &[&[T]], to: &mut [T]) -> Result<(), OpError> {
        let from = from.first().copied().unwrap_or_default();
        if to.is_empty() {
            return Ok(());
        }
        let mut rows = to.chunks_exact_mut(self.inner);
        for block in from.chunks_exact(self.extent * self.inner) {
            for (run, condition) in block.chunks_exact(self.inner).zip(self.condition) {
                if condition.get()
                    && let Some(row) = rows.next()
                {
                    row.clone_from_slice(run);
                }
            }
        }
        Ok(())
    }
}

impl Op for Compress {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 2)?;
        let x = inputs.typed(0, MOVABLE)?;
        let condition = inputs.typed(1, &[DType::Bool])?;
        if condition.rank().is_some_and(|r| r != 1) {
            return Err(OpError::input(1, "is not a list"));
        }
        let Some(axis) = self.axis else { return Ok(vec![TensorFact::ranked(x.dtype, 1).into()]) };
        let Some(shape) = &x.shape else { return Ok(vec![TensorFact::unranked(x.dtype).into()]) };
        let mut shape = shape.clone();
        let axis = normal_axis(axis, shape.len())?;
        shape[axis] = Dim::Unknown;
        Ok(vec![TensorFact::new(x.dtype, shape).into()])
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let from = site.input_shape(0)?;
        let axis = self.axis.map(|a| normal_axis(a, from.len())).transpose()?;
        let (extent, inner) = match axis {
            Some(axis) => (from[axis], span(&from[axis + 1..])),
            None => (span(&from), 1),
        };
        Ok(Kernel::new(move |io| {
            let condition = io.input::<Bool>(1)?;
            if condition.iter().skip(extent).any(|c| c.get()) {
                return Err(OpError::value(format!("the condition is true beyond an axis of {extent}")));
            }
            let count = condition.iter().filter(|c| c.get()).count();
            let mut shape = from.clone();
            match axis {
                Some(axis) => shape[axis] = count,
                None => shape = [count].as_slice().into(),
            }
            move_elements(&Runs { condition, extent, inner }, io, &[0], 0, &shape)
        }))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (x, condition) = (inputs.tensor(0)?, inputs.tensor(1)?.as_bools()?);
        let picked: Vec<usize> = (0..condition.len()).filter(|&i| condition[i]).collect();
        let Some(axis) = self.axis else {
            return Ok(vec![x.gathered(&[picked.len()], |i| picked[i]).into()]);
        };
        let axis = if axis < 0 { axis + x.shape.len() as i64 } else { axis } as usize;
        let mut shape = x.shape.clone();
        shape[axis] = picked.len();
        let y = x.gathered(&shape, |flat| {
            let mut index = RefTensor::unravel(&shape, flat);
            index[axis] = picked[index[axis]];
            RefTensor::ravel(&x.shape, &index)
        });
        Ok(vec![y.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let rank = g.size(1, 4);
    let shape = g.shape(rank);
    let dtype = *g.pick(MOVABLE);
    let axis = g.axis(rank);
    let flat = g.chance(0.3);
    let extent = if flat { shape.iter().product() } else { shape[axis.rem_euclid(rank as i64) as usize] };
    let length = g.size(0, extent);
    let condition = g.any_tensor(DType::Bool, &[length]);
    let opset = if axis < 0 { 11 } else { *g.pick(&[9, 11, 28]) };
    let case = Case::new([g.any_tensor(dtype, &shape), condition]).opset(opset);
    let case = if flat { case } else { case.int("axis", axis) };
    if g.chance(0.3) { case.constant(1) } else { case }
}
