//! # ScatterElements
//! `y = x`, then `y[index[i, j, k], j, k] = updates[i, j, k]` for `axis` 0, and so for the others; or the sum,
//! product, maximum or minimum of what is there and the update. Of several updates of one element the last one
//! stays. Opsets 11, 13, 16 (`reduction`), 18 (`max`, `min`). Text has no reduction; truth values add as "or" and
//! multiply as "and".

use super::attributes::NodeSpec;
use super::gather_elements::{ElementPlaces, check_elements, draw_elements};
use super::{Accuracy, Op, OpDef, Replacement};
use crate::cpu::index::{INDEX_TYPES, Indices};
use crate::cpu::scatter::{Reduction, Targets, scatter};
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::{DType, MOVABLE};
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts, TensorFact, normal_axis};
use crate::reference::{RefInputs, RefTensor, RefValue, scattered};
use crate::tensor::Tensor;
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "ScatterElements",
    domain: "",
    since: &[11, 13, 16, 18],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

#[derive(Debug)]
pub(super) struct ScatterElements {
    pub(super) axis: i64,
    pub(super) reduction: Reduction,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let named = if spec.opset >= 16 { spec.string("reduction")? } else { None };
    let reduction = Reduction::parse(named.as_deref(), spec.opset >= 18)?;
    Ok(Arc::new(ScatterElements { axis: spec.int_or("axis", 0)?, reduction }))
}

impl Op for ScatterElements {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(3, 3)?;
        let x = inputs.typed(0, MOVABLE)?;
        let indices = inputs.typed(1, INDEX_TYPES)?;
        let updates = inputs.typed(2, &[x.dtype])?;
        if self.reduction != Reduction::None && x.dtype == DType::String {
            return Err(OpError::DType { index: 0, got: x.dtype });
        }
        check_elements(x, indices, self.axis)?;
        match (indices.known_shape(), updates.known_shape()) {
            (Some(i), Some(u)) if i != u => Err(OpError::shape(format!("indices {i:?} for updates {u:?}"))),
            _ => Ok(vec![TensorFact { shape: x.shape.clone(), ..TensorFact::unranked(x.dtype) }.into()]),
        }
    }

    fn replacement(&self) -> Option<Replacement> {
        (self.reduction == Reduction::None).then_some(Replacement::Elements { axis: self.axis })
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let shape = site.output_shape(0)?;
        let places = ElementPlaces::new(&shape, &site.input_shape(1)?, normal_axis(self.axis, shape.len())?);
        let reduction = self.reduction;
        Ok(Kernel::new(move |io| {
            let indices = Indices::new(io.tensor(1)?)?;
            places.check(indices)?;
            let target = |at| places.place(indices, at);
            scatter(io, &shape, &Targets { run: 1, target: &target }, reduction)
        }))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let (data, indices) = (site.input_shape(0)?, site.input_shape(1)?);
        let axis = normal_axis(self.axis, data.len()).map_err(|_| GpuReject::NoKernel)?;
        let form = families::indexed::of_elements(&data, &indices, axis, site.dtype(1)?)?;
        families::indexed::scattered(site, form, self.reduction)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (x, indices, updates) = (inputs.tensor(0)?, inputs.tensor(1)?, inputs.tensor(2)?);
        let at = indices.to_i64s()?;
        let axis = if self.axis < 0 { self.axis + x.shape.len() as i64 } else { self.axis } as usize;
        let places: Vec<usize> = (0..at.len())
            .map(|flat| {
                let mut index = RefTensor::unravel(&indices.shape, flat);
                index[axis] = if at[flat] < 0 { at[flat] + x.shape[axis] as i64 } else { at[flat] } as usize;
                RefTensor::ravel(&x.shape, &index)
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

/// Data, indices and updates of a case, with the axis.
pub(super) fn draw_scatter(g: &mut Gen, reduction: &str) -> ([Tensor; 3], i64) {
    let (data, picked, axis) = draw_elements(g);
    let n = data[axis.rem_euclid(data.len() as i64) as usize] as f64;
    let dtype = loop {
        let dtype = *g.pick(MOVABLE);
        if reduction == "none" || dtype != DType::String {
            break dtype;
        }
    };
    let kind = *g.pick(&[DType::I32, DType::I64]);
    let indices = g.tensor_in(kind, &picked, -n, n - 1.0);
    let values = |g: &mut Gen, shape: &[usize]| match dtype {
        DType::String => g.any_tensor(dtype, shape),
        _ => g.tensor(dtype, shape),
    };
    ([values(g, &data), indices, values(g, &picked)], axis)
}

fn case(g: &mut Gen) -> Case {
    let opset = *g.pick(&[11, 13, 16, 18]);
    let reductions: &[&str] = match opset {
        18 => &["none", "add", "mul", "max", "min"],
        16 => &["none", "add", "mul"],
        _ => &["none"],
    };
    let reduction = *g.pick(reductions);
    let (tensors, axis) = draw_scatter(g, reduction);
    let case = Case::new(tensors).opset(opset).int("axis", axis);
    if opset >= 16 && (reduction != "none" || g.chance(0.5)) {
        case.string("reduction", reduction)
    } else {
        case
    }
}
