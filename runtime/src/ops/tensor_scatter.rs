//! # TensorScatter
//! `y = past`, then `y[b, …, write[b] + s, …] = update[b, …, s, …]` along `axis`: what a step adds to a cache. In
//! `circular` mode the place is taken modulo the axis's extent, in `linear` mode it must lie inside. Opset 24.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::RunContext;
use crate::cpu::movement::{Movement, Unit, move_elements};
use crate::cpu::strided_copy::span;
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
    name: "TensorScatter",
    domain: "",
    since: &[24],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct TensorScatter {
    axis: i64,
    circular: bool,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let circular = match spec.string("mode")?.as_deref() {
        None | Some("linear") => false,
        Some("circular") => true,
        Some(other) => return Err(OpError::attribute("mode", format!("is `{other}`"))),
    };
    Ok(Arc::new(TensorScatter { axis: spec.int_or("axis", -2)?, circular }))
}

/// Rows of `inner` elements: `steps` of them go into blocks of `extent`, `blocks` of which belong to a batch.
struct Rows<'a> {
    inner: usize,
    steps: usize,
    extent: usize,
    blocks: usize,
    writes: Option<&'a [i64]>,
    circular: bool,
}

impl Movement for Rows<'_> {
    fn run<T: Unit>(&self, _: RunContext<'_>, from: &[&[T]], to: &mut [T]) -> Result<(), OpError> {
        let [past, update] = from else { return Err(OpError::internal("a cache update takes two tensors")) };
        to.clone_from_slice(past);
        let (steps, extent) = (self.steps as i64, self.extent as i64);
        let inside =
            |&w: &i64| self.circular || (w >= 0 && w.checked_add(steps).is_some_and(|e| e <= extent));
        if let Some(bad) = self.writes.unwrap_or_default().iter().find(|w| !inside(w)) {
            return Err(OpError::value(format!("{steps} rows at {bad} do not fit a cache of {extent}")));
        }
        if to.is_empty() || update.is_empty() {
            return Ok(());
        }
        let (block, source) = (self.extent * self.inner, self.steps * self.inner);
        for (b, (to, update)) in to.chunks_exact_mut(block).zip(update.chunks_exact(source)).enumerate() {
            let start = self.writes.map_or(0, |w| w[b / self.blocks]);
            for (s, row) in update.chunks_exact(self.inner).enumerate() {
                let at = start.rem_euclid(extent) as usize + s;
                let at = if at >= self.extent { at - self.extent } else { at };
                to[at * self.inner..][..self.inner].clone_from_slice(row);
            }
        }
        Ok(())
    }
}

impl Op for TensorScatter {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 3)?;
        let past = inputs.typed(0, MOVABLE)?;
        let update = inputs.typed(1, &[past.dtype])?;
        if let Some(shape) = &past.shape {
            let axis = normal_axis(self.axis, shape.len())?;
            if axis == 0 {
                return Err(OpError::attribute("axis", "is the batch's"));
            }
            if update.rank().is_some_and(|r| r != shape.len()) {
                return Err(OpError::shape("cache and update differ in rank"));
            }
            for (a, (p, u)) in shape.iter().zip(update.shape.iter().flatten()).enumerate() {
                let misfit = |p: usize, u: usize| if a == axis { u > p } else { u != p };
                if p.known().zip(u.known()).is_some_and(|(p, u)| misfit(p, u)) {
                    return Err(OpError::shape(format!(
                        "axis {a} has extent {u} in the update and {p} in the cache"
                    )));
                }
            }
            if let Some(writes) = inputs.optional(2)? {
                let fits = writes
                    .known_shape()
                    .is_none_or(|w| w.len() == 1 && shape[0].known().is_none_or(|b| w[0] == b));
                if writes.dtype != DType::I64 || !fits {
                    return Err(OpError::input(2, "is not an index per batch"));
                }
            }
        }
        Ok(vec![TensorFact { shape: past.shape.clone(), ..TensorFact::unranked(past.dtype) }.into()])
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let shape = site.output_shape(0)?;
        let axis = normal_axis(self.axis, shape.len())?;
        let steps = site.input_shape(1)?[axis];
        let (inner, extent) = (span(&shape[axis + 1..]), shape[axis]);
        let blocks = span(&shape[1..axis]);
        let circular = self.circular;
        Ok(Kernel::new(move |io| {
            let writes = io.optional_input::<i64>(2)?;
            let rows = Rows { inner, steps, extent, blocks, writes, circular };
            move_elements(&rows, io, &[0, 1], 0, &shape)
        }))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let axis = normal_axis(self.axis, site.input_shape(0)?.len()).map_err(|_| GpuReject::NoKernel)?;
        families::coordinates::cache_update(site, axis, self.circular)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (past, update) = (inputs.tensor(0)?, inputs.tensor(1)?);
        let writes = inputs.optional(2)?.map(RefTensor::to_i64s).transpose()?;
        let axis = if self.axis < 0 { self.axis + past.shape.len() as i64 } else { self.axis } as usize;
        let places: Vec<usize> = (0..update.len())
            .map(|flat| {
                let mut index = RefTensor::unravel(&update.shape, flat);
                let at = writes.as_ref().map_or(0, |w| w[index[0]]) + index[axis] as i64;
                let at = if self.circular { at.rem_euclid(past.shape[axis] as i64) } else { at };
                index[axis] = at as usize;
                RefTensor::ravel(&past.shape, &index)
            })
            .collect();
        Ok(vec![scattered(past, update, &places, "none")?.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let rank = g.size(2, 4);
    let past = g.shape(rank);
    let dtype = *g.pick(MOVABLE);
    let along = g.size(1, rank - 1);
    let mut update = past.clone();
    update[along] = g.size(0, past[along]);
    let circular = g.chance(0.5);
    let room = (past[along] - update[along]) as i64;
    let writes: Vec<i64> =
        (0..past[0]).map(|_| if circular { g.int(-3, 30) } else { g.int(0, room) }).collect();
    let writes = Tensor::new(&[past[0]], writes).unwrap_or_else(|_| Tensor::scalar(0i64));
    let case = Case::new([g.any_tensor(dtype, &past), g.any_tensor(dtype, &update)]);
    let case = if g.chance(0.7) { case.input(writes) } else { case };
    let case = if circular { case.string("mode", "circular") } else { case };
    if along + 2 == rank && g.chance(0.5) {
        return case;
    }
    case.int("axis", along as i64 - if g.chance(0.5) { rank as i64 } else { 0 })
}
