//! # Clip
//! `y = min(max, max(min, x))`, elementwise: `max` everywhere where `min > max`; NaN stays NaN. The bounds are
//! attributes in opset 6, scalar inputs, each optional, from 11 on. Opsets 6, 11, 12, 13.

use super::attributes::NodeSpec;
use super::elementwise::{draw_numbers, draw_shape, same_shape};
use super::{Accuracy, Op, OpDef};
use crate::cpu::program::operator_kernel;
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::NUMBERS;
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts};
use crate::loops::program::{Builder, Reg};
use crate::reference::{RefData, RefInputs, RefTensor, RefValue};
use crate::tensor::Tensor;
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Clip",
    domain: "",
    since: &[6, 11, 12, 13],
    until: None,
    dtypes: NUMBERS,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

/// First version whose bounds are inputs.
const INPUTS: i64 = 11;

/// The bounds that are attributes; those that are inputs come with them.
#[derive(Debug)]
struct Clip {
    min: Option<f32>,
    max: Option<f32>,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    if spec.opset >= INPUTS {
        return Ok(Arc::new(Clip { min: None, max: None }));
    }
    Ok(Arc::new(Clip { min: spec.float("min")?, max: spec.float("max")? }))
}

impl Op for Clip {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 3)?;
        let x = inputs.typed(0, NUMBERS)?;
        for index in [1, 2].into_iter().filter(|&i| inputs.has(i)) {
            let bound = inputs.typed(index, &[x.dtype])?;
            if bound.element_count().is_some_and(|n| n != 1) {
                return Err(OpError::input(index, "is not a scalar"));
            }
        }
        Ok(vec![same_shape(x, x.dtype).into()])
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        operator_kernel(self, site)
    }

    fn scalar(&self, _: Facts<'_>, b: &mut Builder, operands: &[Option<Reg>]) -> Option<Reg> {
        let mut y = operands.first().copied().flatten()?;
        let bound = |b: &mut Builder, index: usize, attribute: Option<f32>| {
            let input = operands.get(index).copied().flatten();
            input.or_else(|| attribute.map(|v| b.constant_as(y, v.into())))
        };
        let (min, max) = (bound(b, 1, self.min), bound(b, 2, self.max));
        // A bound that is NaN bounds nothing.
        if let Some(min) = min {
            let below = b.lt(y, min);
            y = if b.is_number(min) { b.max(y, min) } else { b.select(below, min, y) };
        }
        if let Some(max) = max {
            let above = b.gt(y, max);
            y = if b.is_number(max) { b.min(y, max) } else { b.select(above, max, y) };
        }
        Some(y)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let (min, max) = (inputs.optional(1)?, inputs.optional(2)?);
        let data = match &x.data {
            RefData::Float(v) => {
                let float = |bound: Option<&RefTensor>, attribute: Option<f32>, absent: f64| match bound {
                    Some(bound) => Ok(bound.as_floats()?[0]),
                    None => Ok::<_, OpError>(attribute.map_or(absent, f64::from)),
                };
                let low = float(min, self.min, f64::NEG_INFINITY)?;
                let high = float(max, self.max, f64::INFINITY)?;
                let clip = |&x: &f64| if x.is_nan() { x } else { x.max(low).min(high) };
                RefData::Float(v.iter().map(clip).collect())
            }
            RefData::Int(v) => {
                let int = |bound: Option<&RefTensor>, absent: i128| match bound {
                    Some(bound) => Ok(bound.as_ints()?[0]),
                    None => Ok::<_, OpError>(absent),
                };
                let (low, high) = (int(min, i128::MIN)?, int(max, i128::MAX)?);
                RefData::Int(v.iter().map(|&x| x.max(low).min(high)).collect())
            }
            _ => return Err(OpError::internal("Clip of another type")),
        };
        Ok(vec![x.with_data(data).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let (dtype, shape) = (*g.pick(NUMBERS), draw_shape(g));
    let x = draw_numbers(g, dtype, &shape, (-10.0, 10.0));
    if dtype.is_float() && g.chance(0.3) {
        let mut case = Case::new([x]).opset(*g.pick(&[7, 10]));
        for name in ["min", "max"] {
            if g.chance(0.6) {
                case = case.float(name, g.float(-5.0, 5.0) as f32);
            }
        }
        return case;
    }
    let bound = |g: &mut Gen| -> Option<Tensor> { g.chance(0.7).then(|| g.tensor_in(dtype, &[], -5.0, 5.0)) };
    let (min, max) = (bound(g), bound(g));
    let mut case = Case::new([x]).optional(min).optional(max).opset(*g.pick(&[11, 12, 13, 28]));
    for index in [1, 2] {
        if case.inputs[index].is_some() && g.chance(0.5) {
            case = case.constant(index);
        }
    }
    case
}
