//! # Shape
//! The input's extents from axis `start` to axis `end`, as `int64`. Opsets 1, 13, 15 (`start`, `end`), 19, 21, 23,
//! 24, 25.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::{DType, MOVABLE};
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts, Integer, TensorFact};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Shape",
    domain: "",
    since: &[1, 13, 15, 19, 21, 23, 24, 25],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct Shape {
    start: i64,
    end: Option<i64>,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    if spec.opset < 15 {
        return Ok(Arc::new(Shape { start: 0, end: None }));
    }
    Ok(Arc::new(Shape { start: spec.int_or("start", 0)?, end: spec.int("end")? }))
}

impl Shape {
    /// The axes that are named, of `rank`.
    fn axes(&self, rank: usize) -> std::ops::Range<usize> {
        let n = rank as i64;
        let place = |v: i64| if v < 0 { v.saturating_add(n) } else { v }.clamp(0, n) as usize;
        let (start, end) = (place(self.start), self.end.map_or(rank, place));
        start..end.max(start)
    }
}

impl Op for Shape {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 1)?;
        let Some(shape) = &inputs.tensor(0)?.shape else {
            return Ok(vec![TensorFact::ranked(DType::I64, 1).into()]);
        };
        let dims = &shape[self.axes(shape.len())];
        let values = dims.iter().cloned().map(Integer::Extent).collect();
        Ok(vec![TensorFact::known(DType::I64, &[dims.len()]).with_integers(values).into()])
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let shape = site.input_shape(0)?;
        let axes = self.axes(shape.len());
        Ok(Kernel::new(move |io| {
            for (y, &d) in io.output::<i64>(0)?.iter_mut().zip(&shape[axes.clone()]) {
                *y = d as i64;
            }
            Ok(())
        }))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let shape = &inputs.tensor(0)?.shape;
        let rank = shape.len() as i64;
        let clamp = |v: i64| (if v < 0 { v + rank } else { v }).max(0).min(rank);
        let (start, end) = (clamp(self.start), clamp(self.end.unwrap_or(rank)));
        let values: Vec<i128> = (start..end).map(|a| shape[a as usize] as i128).collect();
        Ok(vec![RefTensor::ints(DType::I64, &[values.len()], values).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let rank = g.size(0, 5);
    let shape = g.shape(rank);
    let dtype = *g.pick(MOVABLE);
    let case = Case::new([g.any_tensor(dtype, &shape)]);
    if g.chance(0.3) {
        return case.opset(*g.pick(&[7, 13]));
    }
    let bound = |g: &mut Gen| g.int(-(rank as i64) - 2, rank as i64 + 2);
    let case = if g.chance(0.7) {
        let at = bound(g);
        case.int("start", at)
    } else {
        case
    };
    if g.chance(0.7) {
        let at = bound(g);
        case.int("end", at)
    } else {
        case
    }
}
