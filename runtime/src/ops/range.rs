//! # Range
//! `y_i = start + i·delta` for `i < max(⌈(limit − start) / delta⌉, 0)`. Floats are computed in f64 and rounded
//! once; no sum is accumulated. Opsets 11, 27 (`f16`, `bf16`; `stash_type` 1).

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::number::{Number, dispatch};
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::dim::Dim;
use crate::graph::fact::{Fact, Facts, Integer, TensorFact};
use crate::reference::{RefData, RefInputs, RefTensor, RefValue};
use crate::tensor::Tensor;
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Range",
    domain: "",
    since: &[11, 27],
    until: None,
    dtypes: RANGED,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

const RANGED: &[DType] =
    &[DType::F32, DType::F64, DType::F16, DType::BF16, DType::I16, DType::I32, DType::I64];

#[derive(Debug)]
struct Range;

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    if spec.opset >= 27 {
        // Above f32 nothing is lost, below it the specification allows f32 at least.
        let stash = spec.int_or("stash_type", 1)?;
        if !matches!(stash, 1 | 10 | 11 | 16) {
            return Err(OpError::attribute("stash_type", format!("is {stash}")));
        }
    }
    Ok(Arc::new(Range))
}

/// The three scalars, when they are known.
#[derive(Clone, Copy)]
enum Bounds {
    Float([f64; 3]),
    Int([i64; 3]),
}

impl Bounds {
    fn of(inputs: Facts<'_>) -> Result<Option<Self>, OpError> {
        let facts = [inputs.tensor(0)?, inputs.tensor(1)?, inputs.tensor(2)?];
        if !facts[0].dtype.is_float() {
            let values = facts.map(|f| f.as_i64s().and_then(|v| v.first().copied()));
            let [Some(a), Some(b), Some(c)] = values else { return Ok(None) };
            return Ok(Some(Self::Int([a, b, c])));
        }
        let mut out = [0.0; 3];
        for (o, f) in out.iter_mut().zip(facts) {
            let Some(t) = f.as_constant() else { return Ok(None) };
            *o = dispatch!(t.dtype(), floats, T => {
                let first = t.to_vec::<T>().and_then(|v| v.first().map(|v| v.to_f64()));
                first.ok_or_else(|| OpError::value("a bound is empty"))
            })?;
        }
        Ok(Some(Self::Float(out)))
    }

    fn count(self) -> Result<usize, OpError> {
        match self {
            Self::Int([_, _, 0]) => Err(OpError::value("delta is 0")),
            Self::Int([start, limit, delta]) => {
                let (span, delta) = (i128::from(limit) - i128::from(start), i128::from(delta));
                let count =
                    if delta > 0 { (span + delta - 1).div_euclid(delta) } else { (span + delta + 1) / delta };
                usize::try_from(count.max(0)).map_err(|_| OpError::value("the range is too long"))
            }
            Self::Float([start, limit, delta]) => {
                let count = ((limit - start) / delta).ceil().max(0.0);
                if delta == 0.0 || [start, limit, delta].iter().any(|v| !v.is_finite()) || count > 9e15 {
                    return Err(OpError::value(format!("no range from {start} to {limit} by {delta}")));
                }
                Ok(count as usize)
            }
        }
    }
}

impl Op for Range {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(3, 3)?;
        let start = inputs.typed(0, RANGED)?;
        let facts = [start, inputs.typed(1, &[start.dtype])?, inputs.typed(2, &[start.dtype])?];
        if let Some(index) = facts.iter().position(|f| f.element_count().is_some_and(|n| n != 1)) {
            return Err(OpError::input(index, "is not a scalar"));
        }
        if let Some(bounds) = Bounds::of(inputs)? {
            let count = bounds.count()?;
            let fact = TensorFact::known(start.dtype, &[count]);
            return Ok(vec![
                match bounds {
                    Bounds::Int([first, _, delta]) if count <= 1024 => fact
                        .with_integers((0..count as i64).map(|i| Integer::from(first + i * delta)).collect()),
                    _ => fact,
                }
                .into(),
            ]);
        }
        let scalar = |f: &TensorFact| f.as_integers().and_then(|v| v.into_iter().next());
        let extent = match facts.map(scalar) {
            [
                Some(Integer::Extent(start)),
                Some(Integer::Extent(limit)),
                Some(Integer::Extent(Dim::Known(1))),
            ] => match (start, limit) {
                (Dim::Known(0), limit) => limit,
                (Dim::Unknown, _) | (_, Dim::Unknown) => Dim::Unknown,
                (start, limit) => Dim::opaque(format!("max({limit}-({start}),0)")),
            },
            _ => Dim::Unknown,
        };
        Ok(vec![TensorFact::new(start.dtype, vec![extent]).into()])
    }

    fn prepared_from(&self) -> &[usize] {
        &[0, 1, 2]
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let bounds = Bounds::of(site.inputs)?.ok_or_else(|| OpError::internal("bounds are not known"))?;
        let dtype = site.inputs.tensor(0)?.dtype;
        match bounds {
            Bounds::Float([start, _, delta]) => dispatch!(dtype, floats, T => Ok(Kernel::new(move |io| {
                for (i, y) in io.output::<T>(0)?.iter_mut().enumerate() {
                    *y = T::from_f64(start + i as f64 * delta);
                }
                Ok(())
            }))),
            Bounds::Int([start, _, delta]) => dispatch!(dtype, ints, T => Ok(Kernel::new(move |io| {
                for (i, y) in io.output::<T>(0)?.iter_mut().enumerate() {
                    // Every element lies between the bounds, so it fits the type.
                    *y = start.wrapping_add((i as i64).wrapping_mul(delta)) as T;
                }
                Ok(())
            }))),
        }
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (start, limit, delta) = (inputs.tensor(0)?, inputs.tensor(1)?, inputs.tensor(2)?);
        let mut n = 0;
        let data = if start.dtype.is_float() {
            let (start, limit, delta) = (start.as_floats()?[0], limit.as_floats()?[0], delta.as_floats()?[0]);
            let count = ((limit - start) / delta).ceil().max(0.0) as usize;
            n += count;
            RefData::Float((0..count).map(|i| start + i as f64 * delta).collect())
        } else {
            let (mut at, limit, delta) = (start.as_ints()?[0], limit.as_ints()?[0], delta.as_ints()?[0]);
            let mut values = Vec::new();
            while (delta > 0 && at < limit) || (delta < 0 && at > limit) {
                values.push(at);
                at += delta;
                n += 1;
            }
            RefData::Int(values)
        };
        Ok(vec![RefTensor { dtype: start.dtype, shape: vec![n], data }.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let dtype = *g.pick(RANGED);
    let opset = if matches!(dtype, DType::F16 | DType::BF16) || g.chance(0.3) { 27 } else { 11 };
    let scalar = |g: &mut Gen, low: f64, high: f64| match dtype {
        // Bounds are rounded to the type before they are used.
        DType::F16 | DType::BF16 | DType::F32 | DType::F64 => {
            let value = g.float(low, high);
            RefTensor::floats(dtype, &[], vec![value])
        }
        _ => RefTensor::ints(dtype, &[], vec![i128::from(g.int(low as i64, high as i64))]),
    };
    let (start, limit) = (scalar(g, -20.0, 20.0), scalar(g, -20.0, 20.0));
    let sign = if g.chance(0.5) { -1.0 } else { 1.0 };
    let delta = if sign < 0.0 { scalar(g, -5.0, -1.0) } else { scalar(g, 1.0, 5.0) };
    let made = [start, limit, delta].map(|t| t.to_tensor().unwrap_or_else(|_| Tensor::scalar(0i64)));
    let case = Case::new(made).opset(opset);
    match g.size(0, 2) {
        0 => case,
        1 => case.constant(0).constant(1).constant(2),
        _ => case.constant(0).constant(2),
    }
}
