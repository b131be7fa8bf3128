//! # Split
//! The input cut along `axis` into parts: of the given sizes, or into equal ones, the last of which is smaller
//! where `num_outputs` does not divide the extent. Opsets 2, 11, 13 (sizes as input), 18 (`num_outputs`).

use super::attributes::{IntList, KnownInts, NodeSpec};
use super::{Accuracy, Op, OpDef, Selection};
use crate::cpu::movement::move_elements;
use crate::cpu::strided_copy::{StridedCopy, dense_strides};
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::MOVABLE;
use crate::error::OpError;
use crate::graph::dim::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact, keeps_shape, normal_axis};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::tensor::{Shape, Tensor};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Split",
    domain: "",
    since: &[2, 11, 13, 18],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct Split {
    axis: i64,
    sizes: IntList,
    parts: usize,
    /// Whether equal parts may end in a smaller one.
    uneven: bool,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let sizes = IntList::parse(spec, "split", spec.opset >= 13, 1)?;
    let parts = if spec.opset >= 18 { spec.int("num_outputs")? } else { None };
    let uneven = parts.is_some();
    let parts = parts.unwrap_or(spec.outputs.len() as i64);
    let parts = usize::try_from(parts)
        .ok()
        .filter(|&p| p > 0 && p <= spec.outputs.len())
        .ok_or_else(|| OpError::attribute("num_outputs", format!("is {parts}")))?;
    if uneven && !matches!(sizes, IntList::Absent) {
        return Err(OpError::attribute("num_outputs", "is given together with sizes"));
    }
    Ok(Arc::new(Split { axis: spec.int_or("axis", 0)?, sizes, parts, uneven }))
}

impl Split {
    /// The copies of the parts of these shapes out of an input of shape `from`.
    fn copies(&self, from: &[usize], parts: &[Shape]) -> Result<Vec<StridedCopy>, OpError> {
        let axis = normal_axis(self.axis, from.len())?;
        let strides = dense_strides(from);
        let mut at = 0usize;
        let mut copies = Vec::with_capacity(parts.len());
        for shape in parts {
            copies.push(StridedCopy::new(shape, &strides, at.saturating_mul(strides[axis] as usize)));
            at = at.saturating_add(shape[axis]);
        }
        Ok(copies)
    }

    /// Extents of the parts of an axis.
    fn extents(&self, whole: &Dim, sizes: KnownInts) -> Result<Vec<Dim>, OpError> {
        let n = self.parts;
        match sizes {
            KnownInts::Unknown(_) => Ok(vec![Dim::Unknown; n]),
            KnownInts::Known(sizes) => {
                let parts: Option<Vec<usize>> = sizes.iter().map(|&s| usize::try_from(s).ok()).collect();
                let sum = parts.as_ref().and_then(|p| p.iter().try_fold(0usize, |a, &b| a.checked_add(b)));
                match (parts, whole.known()) {
                    (Some(p), whole) if p.len() == n && (whole.is_none() || whole == sum) => {
                        Ok(p.into_iter().map(Dim::Known).collect())
                    }
                    _ => Err(OpError::value(format!("an axis of {whole} does not split into {sizes:?}"))),
                }
            }
            KnownInts::Absent if !self.uneven => match (whole.known(), whole.exact_div(&Dim::Known(n))) {
                (_, Some(part)) => Ok(vec![part; n]),
                (Some(_), None) => {
                    Err(OpError::shape(format!("{whole} does not split into {n} equal parts")))
                }
                (None, None) => Ok(vec![whole.floor_div(n); n]),
            },
            KnownInts::Absent => match whole {
                Dim::Unknown => Ok(vec![Dim::Unknown; n]),
                Dim::Known(whole) => {
                    let part = whole.div_ceil(n);
                    let last = part
                        .checked_mul(n - 1)
                        .and_then(|used| whole.checked_sub(used))
                        .ok_or_else(|| OpError::shape(format!("{whole} does not split into {n} parts")))?;
                    let mut parts = vec![Dim::Known(part); n];
                    parts[n - 1] = Dim::Known(last);
                    Ok(parts)
                }
                Dim::Expr(_) => {
                    let part = whole
                        .exact_div(&Dim::Known(n))
                        .unwrap_or_else(|| whole.affine(1, n as i64 - 1).floor_div(n));
                    let last = whole - &(&part * &Dim::Known(n - 1));
                    let mut parts = vec![part; n];
                    parts[n - 1] = last;
                    Ok(parts)
                }
            },
        }
    }
}

impl Op for Split {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, if matches!(self.sizes, IntList::Input(_)) { 2 } else { 1 })?;
        let x = inputs.typed(0, MOVABLE)?;
        let sizes = self.sizes.known(inputs)?;
        let Some(shape) = &x.shape else {
            return Ok(vec![TensorFact::unranked(x.dtype).into(); self.parts]);
        };
        let axis = normal_axis(self.axis, shape.len())?;
        let parts = self.extents(&shape[axis], sizes)?;
        let content = if shape.len() == 1 { x.as_integers() } else { None };
        let mut at = Some(0usize);
        let facts = parts.into_iter().map(|extent| {
            let mut shape = shape.clone();
            let end = at.zip(extent.known()).and_then(|(a, e)| a.checked_add(e));
            shape[axis] = extent;
            let fact = TensorFact::new(x.dtype, shape);
            let values = content.as_ref().zip(at.zip(end)).and_then(|(c, (a, e))| c.get(a..e));
            at = end;
            match values {
                Some(values) => fact.with_integers(values.to_vec()).into(),
                None => fact.into(),
            }
        });
        Ok(facts.collect())
    }

    fn is_identity(&self, inputs: Facts<'_>, outputs: &[Fact]) -> bool {
        keeps_shape(inputs, outputs)
    }

    fn prepared_from(&self) -> &[usize] {
        &[1]
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let parts = (0..site.outputs.len()).map(|part| site.output_shape(part));
        let parts = parts.collect::<Result<Vec<Shape>, _>>()?;
        let copies = self.copies(&site.input_shape(0)?, &parts)?;
        Ok(Kernel::new(move |io| {
            for (i, (copy, shape)) in copies.iter().zip(&parts).enumerate() {
                if io.wants(i) {
                    move_elements(copy, io, &[0], i, shape)?;
                }
            }
            Ok(())
        }))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let parts = (0..site.outputs.len()).map(|part| site.output_shape(part));
        let parts = parts.collect::<Result<Vec<Shape>, _>>()?;
        let copies = self.copies(&site.input_shape(0)?, &parts).map_err(|_| GpuReject::NoKernel)?;
        families::copy::strided(site, &copies)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let axis = if self.axis < 0 { self.axis + x.shape.len() as i64 } else { self.axis } as usize;
        let whole = x.shape[axis];
        let sizes: Vec<usize> = if let Some(sizes) = self.sizes.reference(inputs)? {
            sizes.iter().map(|&s| s as usize).collect()
        } else {
            let part = whole.div_ceil(self.parts);
            (0..self.parts).map(|i| whole.saturating_sub(i * part).min(part)).collect()
        };
        let mut start = 0;
        let mut out = Vec::new();
        for size in sizes {
            let mut shape = x.shape.clone();
            shape[axis] = size;
            let part = x.gathered(&shape, |flat| {
                let mut index = RefTensor::unravel(&shape, flat);
                index[axis] += start;
                RefTensor::ravel(&x.shape, &index)
            });
            out.push(part.into());
            start += size;
        }
        Ok(out)
    }

    fn selection(&self, inputs: Facts<'_>, outputs: &[Fact], output: usize) -> Option<Selection> {
        let axis = normal_axis(self.axis, inputs.tensor(0).ok()?.rank()?).ok()?;
        let extent = |f: &Fact| f.tensor()?.shape.as_ref()?.get(axis)?.known();
        let before: Option<Vec<usize>> = outputs.get(..output)?.iter().map(extent).collect();
        let start = before?.iter().try_fold(0usize, |a, &b| a.checked_add(b))?;
        let count = extent(outputs.get(output)?)?;
        Some(Selection { axis, start, step: 1, count, drops_axis: false })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let rank = g.size(1, 4);
    let mut shape = g.shape(rank);
    let dtype = *g.pick(MOVABLE);
    let axis = g.axis(rank);
    let along = axis.rem_euclid(rank as i64) as usize;
    let opset = *g.pick(&[7, 11, 13, 18]);
    let parts = g.size(1, 4);
    let equal = g.chance(0.4);
    let sizes: Vec<i64> = (0..parts).map(|_| g.extent() as i64).collect();
    shape[along] = match (equal, opset) {
        (false, _) => sizes.iter().sum::<i64>() as usize,
        // All parts but the last are full.
        (true, 18) => {
            let part = g.extent();
            (part * parts).saturating_sub(g.size(0, part.saturating_sub(1).min(parts - 1)))
        }
        (true, _) => g.extent() * parts,
    };
    let case = Case::new([g.any_tensor(dtype, &shape)]).opset(opset).outputs(parts).int("axis", axis);
    match (equal, opset) {
        (true, 18) => case.int("num_outputs", parts as i64),
        (true, _) => case,
        (false, 7 | 11) => case.ints("split", &sizes),
        (false, _) => {
            let case = case.input(Tensor::new(&[parts], sizes).unwrap_or_else(|_| Tensor::scalar(0i64)));
            if g.chance(0.5) { case.constant(1) } else { case }
        }
    }
}
