//! # Reshape
//! The same elements under another shape. In the target, `-1` stands for what is left over and `0`, without
//! `allowzero`, for the input's extent on that axis. Opsets 5, 13, 14 (`allowzero`), 19, 21, 23, 24, 25.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::reshaped::reshaped_copy;
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::{DType, MOVABLE};
use crate::error::OpError;
use crate::graph::dim::Dim;
use crate::graph::fact::{Fact, Facts, Integer, TensorFact, keeps_shape};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::tensor::Tensor;
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Reshape",
    domain: "",
    since: &[5, 13, 14, 19, 21, 23, 24, 25],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct Reshape {
    allow_zero: bool,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let allow_zero = spec.opset >= 14 && spec.flag_or("allowzero", false)?;
    Ok(Arc::new(Reshape { allow_zero }))
}

impl Reshape {
    fn target(&self, data: &TensorFact, wanted: Vec<Integer>) -> Result<Vec<Dim>, OpError> {
        // Factors of the element count on either side; what is copied from the input cancels.
        let mut given: Option<Vec<Dim>> = data.shape.clone();
        let mut named: Vec<Dim> = Vec::new();
        let mut out: Vec<Dim> = Vec::with_capacity(wanted.len());
        let mut open = None;
        let mut copied = Vec::new();
        for (axis, value) in wanted.into_iter().enumerate() {
            let dim = match value {
                Integer::Extent(Dim::Known(0)) if !self.allow_zero => match &data.shape {
                    None => Dim::Unknown,
                    Some(shape) => {
                        let dim = shape.get(axis).cloned().ok_or_else(|| {
                            OpError::shape(format!("target axis {axis} copies an axis that is not there"))
                        })?;
                        copied.push(axis);
                        out.push(dim);
                        continue;
                    }
                },
                Integer::Extent(dim) => dim,
                Integer::Negative(-1) if open.is_none() => {
                    open = Some(axis);
                    out.push(Dim::Unknown);
                    continue;
                }
                Integer::Negative(-1) => return Err(OpError::value("the target has two open axes")),
                Integer::Negative(v) => return Err(OpError::value(format!("the target holds {v}"))),
            };
            named.push(dim.clone());
            out.push(dim);
        }
        // An axis that is copied contributes to both sides, known or not; with a zero among them an open axis
        // has no one answer.
        let count = |dims: &[Dim]| dims.iter().fold(Dim::Known(1), |a, d| &a * d);
        let Some(open) = open else {
            let (had, asked) = (data.shape.as_ref().and_then(|s| count(s).known()), count(&out).known());
            if had.zip(asked).is_some_and(|(had, asked)| had != asked) {
                let shape = data.shape.as_deref().unwrap_or_default();
                return Err(OpError::shape(format!("{shape:?} cannot become {out:?}")));
            }
            return Ok(out);
        };
        if out.iter().enumerate().any(|(a, d)| a != open && *d == Dim::Known(0)) {
            return Err(OpError::shape("an open axis beside an empty one has no extent"));
        }
        if let Some(given) = &mut given {
            for &axis in copied.iter().rev() {
                given.remove(axis);
            }
            named.retain(|d| match given.iter().position(|g| g == d && *d != Dim::Unknown) {
                Some(at) => {
                    given.remove(at);
                    false
                }
                None => true,
            });
            let (total, rest) = (count(given), count(&named));
            out[open] = match total.exact_div(&rest) {
                Some(extent) => extent,
                None if total.known().is_some() && rest.known().is_some() => {
                    return Err(OpError::shape(format!("{total} elements cannot be shared out over {rest}")));
                }
                None if total == Dim::Unknown || rest == Dim::Unknown => Dim::Unknown,
                None => Dim::opaque(format!("({total})/({rest})")),
            };
        }
        Ok(out)
    }
}

impl Op for Reshape {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 2)?;
        let data = inputs.typed(0, MOVABLE)?;
        let target = inputs.typed(1, &[DType::I64])?;
        if target.rank().is_some_and(|r| r != 1) {
            return Err(OpError::input(1, "is not a list"));
        }
        let Some(wanted) = target.as_integers() else {
            return Ok(vec![match target.element_count() {
                Some(rank) if rank <= super::MOST_AXES => TensorFact::ranked(data.dtype, rank).into(),
                Some(rank) => return Err(OpError::shape(format!("a target of {rank} axes"))),
                None => TensorFact::unranked(data.dtype).into(),
            }]);
        };
        let fact = TensorFact::new(data.dtype, self.target(data, wanted)?);
        Ok(vec![fact.with_content_of(data).into()])
    }

    fn is_identity(&self, inputs: Facts<'_>, outputs: &[Fact]) -> bool {
        keeps_shape(inputs, outputs)
    }

    fn alias_of(&self) -> Option<usize> {
        Some(0)
    }

    fn prepared_from(&self) -> &[usize] {
        &[1]
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        reshaped_copy(site)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let target = inputs.tensor(1)?.to_i64s()?;
        let mut shape: Vec<usize> = target
            .iter()
            .enumerate()
            .map(|(a, &v)| if v == 0 && !self.allow_zero { x.shape[a] } else { v.max(0) as usize })
            .collect();
        if let Some(open) = target.iter().position(|&v| v == -1) {
            let rest: usize = shape.iter().enumerate().filter(|(a, _)| *a != open).map(|(_, d)| d).product();
            shape[open] = x.len().checked_div(rest).unwrap_or(0);
        }
        Ok(vec![RefTensor { shape, ..x.clone() }.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let rank = g.size(0, 4);
    let shape = g.shape(rank);
    let dtype = *g.pick(MOVABLE);
    let opset = *g.pick(&[7, 13, 14, 25]);
    let allow_zero = opset >= 14 && g.chance(0.3);
    let empty = shape.contains(&0);
    // Neighbouring axes merge, and ones appear.
    let mut target: Vec<i64> = Vec::new();
    for (axis, &extent) in shape.iter().enumerate() {
        match target.len() {
            1.. if g.chance(0.3) => {
                if let Some(last) = target.last_mut() {
                    *last *= extent as i64;
                }
            }
            _ if g.chance(0.2) => target.extend([1, extent as i64]),
            _ if target.len() == axis && !allow_zero && g.chance(0.3) => target.push(0),
            _ => target.push(extent as i64),
        }
    }
    // A zero that was copied may have been merged into; multiply it out again.
    let resolved = |t: &[i64]| -> i64 {
        t.iter()
            .enumerate()
            .map(|(a, &v)| if v == 0 { shape.get(a).map_or(0, |&d| d as i64) } else { v })
            .product()
    };
    if empty && !allow_zero || resolved(&target) != shape.iter().product::<usize>() as i64 {
        target = shape.iter().map(|&d| d as i64).collect();
    }
    if !empty && !target.is_empty() && g.chance(0.5) {
        let at = g.size(0, target.len() - 1);
        target[at] = -1;
    }
    let target = Tensor::new(&[target.len()], target).unwrap_or_else(|_| Tensor::scalar(0i64));
    let case = Case::new([g.any_tensor(dtype, &shape), target]).opset(opset);
    let case = if opset >= 14 { case.int("allowzero", allow_zero.into()) } else { case };
    if g.chance(0.6) { case.constant(1) } else { case }
}
