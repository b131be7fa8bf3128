//! # ScatterND
//! `y = x`, then `y[indices[i…, :], …] = updates[i…, …]`: the last axis of `indices` holds coordinates of slices of
//! `x`; or the sum, product, maximum or minimum of what is there and the update. Of several updates of one
//! element the last one stays. Opsets 11, 13, 16 (`reduction`), 18 (`max`, `min`).

use super::attributes::NodeSpec;
use super::gather_nd::draw_tuples;
use super::{Accuracy, Op, OpDef, Replacement};
use crate::cpu::index_tuples::IndexTuples;
use crate::cpu::scatter::{Reduction, Targets, scatter};
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::{DType, MOVABLE};
use crate::error::OpError;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::reference::{RefInputs, RefTensor, RefValue, scattered};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "ScatterND",
    domain: "",
    since: &[11, 13, 16, 18],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

#[derive(Debug)]
struct ScatterNd {
    reduction: Reduction,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let named = if spec.opset >= 16 { spec.string("reduction")? } else { None };
    Ok(Arc::new(ScatterNd { reduction: Reduction::parse(named.as_deref(), spec.opset >= 18)? }))
}

impl Op for ScatterNd {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(3, 3)?;
        let x = inputs.typed(0, MOVABLE)?;
        let indices = inputs.typed(1, &[DType::I64])?;
        let updates = inputs.typed(2, &[x.dtype])?;
        if self.reduction != Reduction::None && x.dtype == DType::String {
            return Err(OpError::DType { index: 0, got: x.dtype });
        }
        if let (Some(data), Some(picked)) = (&x.shape, &indices.shape) {
            let (depth, places) = picked.split_last().ok_or_else(|| OpError::input(1, "has no axes"))?;
            if let Some(depth) = depth.known() {
                let slice = data
                    .get(depth..)
                    .ok_or_else(|| OpError::shape(format!("{depth} coordinates into {} axes", data.len())))?;
                let want: Option<Vec<usize>> = places.iter().chain(slice).map(Dim::known).collect();
                if let (Some(want), Some(got)) = (want, updates.known_shape())
                    && *want != *got
                {
                    return Err(OpError::shape(format!("updates are {got:?} instead of {want:?}")));
                }
            }
        }
        Ok(vec![TensorFact { shape: x.shape.clone(), ..TensorFact::unranked(x.dtype) }.into()])
    }

    fn replacement(&self) -> Option<Replacement> {
        (self.reduction == Reduction::None).then_some(Replacement::Slices)
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let shape = site.output_shape(0)?;
        let tuples = IndexTuples::new(&shape, &site.input_shape(1)?, 0)?;
        let reduction = self.reduction;
        Ok(Kernel::new(move |io| {
            let indices = io.input::<i64>(1)?;
            tuples.check(indices)?;
            let target = |at| tuples.place(indices, at);
            scatter(io, &shape, &Targets { run: tuples.run(), target: &target }, reduction)
        }))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let (data, indices) = (site.input_shape(0)?, site.input_shape(1)?);
        let form = families::indexed::of_tuples(&data, &indices, 0, site.dtype(1)?)?;
        families::indexed::scattered(site, form, self.reduction)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (x, indices, updates) = (inputs.tensor(0)?, inputs.tensor(1)?, inputs.tensor(2)?);
        let at = indices.to_i64s()?;
        let depth = indices.shape[indices.shape.len() - 1];
        let slice: usize = x.shape[depth..].iter().product();
        let places: Vec<usize> = (0..updates.len())
            .map(|flat| {
                let (tuple, within) = (flat / slice, flat % slice);
                let index: Vec<usize> = (0..depth)
                    .map(|c| {
                        let i = at[tuple * depth + c];
                        if i < 0 { (i + x.shape[c] as i64) as usize } else { i as usize }
                    })
                    .collect();
                RefTensor::ravel(&x.shape[..depth], &index) * slice + within
            })
            .collect();
        let how = match self.reduction {
            Reduction::None => "none",
            Reduction::Add => "add",
            Reduction::Mul => "mul",
            Reduction::Max => "max",
            Reduction::Min => "min",
        };
        Ok(vec![scattered(x, updates, &places, how)?.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let opset = *g.pick(&[11, 13, 16, 18]);
    let reductions: &[&str] = match opset {
        18 => &["none", "add", "mul", "max", "min"],
        16 => &["none", "add", "mul"],
        _ => &["none"],
    };
    let reduction = *g.pick(reductions);
    let (data, indices, _) = draw_tuples(g, false);
    let dtype = *g.pick(if reduction == "none" { MOVABLE } else { &MOVABLE[..MOVABLE.len() - 1] });
    let (places, depth) = (indices.shape().len() - 1, indices.shape()[indices.shape().len() - 1]);
    let shape = [&indices.shape()[..places], &data[depth..]].concat();
    let values = |g: &mut Gen, shape: &[usize]| match dtype {
        DType::String => g.any_tensor(dtype, shape),
        _ => g.tensor(dtype, shape),
    };
    let case = Case::new([values(g, &data), indices, values(g, &shape)]).opset(opset);
    if opset >= 16 && (reduction != "none" || g.chance(0.5)) {
        case.string("reduction", reduction)
    } else {
        case
    }
}
