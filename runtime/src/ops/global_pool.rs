//! The form that the global pools share: all spatial axes become 1.

use super::Op;
use crate::cpu::reduce::ReducePlan;
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::{DType, FLOATS};
use crate::error::OpError;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::loops::program::{Builder, Reg};
use crate::loops::{Affine, Fold, Nest, Opaque, Outside, Stages, extents, operand};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;

use super::reduction::Folder;

/// A global pool.
#[derive(Debug)]
pub(super) struct GlobalPool {
    /// The kernel for an element type.
    pub(super) folder: fn(DType) -> Result<Folder, OpError>,
    /// Its nest.
    pub(super) nest: fn(Facts<'_>, &[Fact]) -> Result<Nest, Opaque>,
    /// The fold of it on a GPU.
    pub(super) gpu: recurve_kernels::reduce::Fold,
    /// The reference of one plane, with the operator's parameter.
    pub(super) plane: fn(&[f64]) -> f64,
}

/// The nest of a fold over the spatial axes of what `term` makes of an element; `finish` makes the result of it and the
/// number of elements.
pub(super) fn nest(
    inputs: Facts<'_>,
    outputs: &[Fact],
    fold: Fold,
    term: impl FnOnce(&mut Builder, Reg) -> Reg,
    finish: impl FnOnce(&mut Builder, Reg, f64) -> Reg,
) -> Result<Nest, Opaque> {
    let axes = extents(operand(inputs, 0)?)?.to_vec();
    let over: Vec<usize> = (2..axes.len()).collect();
    let count = over.iter().try_fold(1usize, |n, &a| n.checked_mul(axes[a].known()?));
    let count = count.ok_or(Opaque::Extents)? as f64;
    let everywhere: Vec<Affine> = (0..axes.len()).map(Affine::axis).collect();
    let mut store = everywhere[..2].to_vec();
    store.resize(axes.len(), Affine::constant(0));
    let mut nest = Stages::over(inputs, outputs, axes)?;
    let x = nest.read(0, everywhere, Outside::Never)?;
    let folded = nest.fold(fold, &over, &[x], |b, v| term(b, v[0]))?;
    nest.store(store, &[], &[folded], |b, v| finish(b, v[0], count))
}

/// The shape of the output for an input of shape `x`.
pub(super) fn pooled_dims(x: Option<&[Dim]>) -> Result<Option<Vec<Dim>>, OpError> {
    let Some(x) = x else { return Ok(None) };
    if x.len() < 2 {
        return Err(OpError::shape(format!("rank {} has no channel axis", x.len())));
    }
    let mut out = x[..2].to_vec();
    out.resize(x.len(), Dim::Known(1));
    Ok(Some(out))
}

/// The reduction over all spatial axes of an input of shape `x`.
pub(super) fn spatial_plan(x: &[usize]) -> ReducePlan {
    let spatial: Vec<bool> = (0..x.len()).map(|axis| axis >= 2).collect();
    ReducePlan::new(x, &spatial, true)
}

/// The reference: `plane` of each channel of each image.
pub(super) fn reference(x: &RefTensor, plane: impl Fn(&[f64]) -> f64) -> Result<RefTensor, OpError> {
    let data = x.as_floats()?;
    let mut shape = x.shape[..2].to_vec();
    shape.resize(x.shape.len(), 1);
    let (planes, size) = (x.shape[0] * x.shape[1], x.shape[2..].iter().product::<usize>());
    let out = (0..planes).map(|p| plane(&data[p * size..(p + 1) * size])).collect();
    Ok(RefTensor::floats(x.dtype, &shape, out))
}

impl Op for GlobalPool {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 1)?;
        let x = inputs.typed(0, FLOATS)?;
        let shape = pooled_dims(x.shape.as_deref())?;
        Ok(vec![TensorFact { shape, ..TensorFact::unranked(x.dtype) }.into()])
    }

    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        (self.nest)(inputs, outputs)
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let plan = spatial_plan(&site.input_shape(0)?);
        let folder = (self.folder)(site.inputs.tensor(0)?.dtype)?;
        Ok(Kernel::new(move |io| folder(&plan, io)))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let shape = site.input_shape(0)?;
        let spatial: Vec<bool> = (0..shape.len()).map(|axis| axis >= 2).collect();
        families::lines::reduce(site, &shape, &spatial, self.gpu)
            .or_else(|reject| site.nest_or(reject, self.nest(site.inputs, site.outputs)))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        Ok(vec![reference(inputs.tensor(0)?, self.plane)?.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Draws a use of a global pool.
pub(super) fn case(g: &mut Gen) -> Case {
    let opset = *g.pick(&[7, 22]);
    let dtype = if opset < 22 { *g.pick(&FLOATS[..3]) } else { *g.pick(FLOATS) };
    let mut shape = vec![if g.chance(0.05) { 0 } else { g.size(1, 3) }, g.size(1, 5)];
    let rank = g.size(1, 3);
    shape.extend((0..rank).map(|_| g.size(1, 9)));
    Case::new([g.tensor(dtype, &shape)]).opset(opset)
}
