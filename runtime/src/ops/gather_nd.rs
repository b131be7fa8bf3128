//! # GatherND
//! `y[b…, i…] = x[b…, indices[b…, i…, :], …]`: the last axis of `indices` holds coordinates of slices of `x` behind
//! its `batch_dims` leading axes. Opsets 11, 12 (`batch_dims`), 13.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::RunContext;
use crate::cpu::index_tuples::IndexTuples;
use crate::cpu::movement::{Movement, Unit, move_elements};
use crate::cpu::split::{for_each_chunk, rows_per_chunk};
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::{DType, MOVABLE};
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::tensor::Tensor;
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "GatherND",
    domain: "",
    since: &[11, 12, 13],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct GatherNd {
    batch: usize,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let batch = if spec.opset >= 12 { spec.int_or("batch_dims", 0)? } else { 0 };
    let batch =
        usize::try_from(batch).map_err(|_| OpError::attribute("batch_dims", format!("is {batch}")))?;
    Ok(Arc::new(GatherNd { batch }))
}

struct Slices<'a> {
    tuples: &'a IndexTuples,
    indices: &'a [i64],
}

impl Movement for Slices<'_> {
    fn run<T: Unit>(&self, context: RunContext<'_>, from: &[&[T]], to: &mut [T]) -> Result<(), OpError> {
        let from = from.first().copied().unwrap_or_default();
        self.tuples.check(self.indices)?;
        let run = self.tuples.run();
        if to.is_empty() {
            return Ok(());
        }
        let per = rows_per_chunk(to.len() / run, run, context.team.threads());
        for_each_chunk(context, to, per * run, |chunk, piece| {
            for (r, row) in piece.chunks_exact_mut(run).enumerate() {
                let at = self.tuples.place(self.indices, chunk * per + r);
                match row {
                    [value] => *value = from[at].clone(),
                    row => row.clone_from_slice(&from[at..at + run]),
                }
            }
        })
    }
}

impl Op for GatherNd {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 2)?;
        let x = inputs.typed(0, MOVABLE)?;
        let indices = inputs.typed(1, &[DType::I64])?;
        let (Some(data), Some(picked)) = (&x.shape, &indices.shape) else {
            return Ok(vec![TensorFact::unranked(x.dtype).into()]);
        };
        let Some((depth, places)) = picked.split_last() else {
            return Err(OpError::input(1, "has no axes"));
        };
        let batch = self.batch;
        if batch >= data.len().min(picked.len()) {
            return Err(OpError::attribute("batch_dims", format!("is {batch}, not below both ranks")));
        }
        let clash = data
            .iter()
            .zip(places)
            .take(batch)
            .find(|(d, p)| d.known().zip(p.known()).is_some_and(|(d, p)| d != p));
        if let Some((d, p)) = clash {
            return Err(OpError::shape(format!("batches of {d} and {p}")));
        }
        let Some(depth) = depth.known() else { return Ok(vec![TensorFact::unranked(x.dtype).into()]) };
        if depth > data.len() - batch {
            return Err(OpError::shape(format!("{depth} coordinates into {} axes", data.len() - batch)));
        }
        Ok(vec![TensorFact::new(x.dtype, [places, &data[batch + depth..]].concat()).into()])
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let shape = site.output_shape(0)?;
        let tuples = IndexTuples::new(&site.input_shape(0)?, &site.input_shape(1)?, self.batch)?;
        Ok(Kernel::new(move |io| {
            let indices = io.input::<i64>(1)?;
            move_elements(&Slices { tuples: &tuples, indices }, io, &[0], 0, &shape)
        }))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let (data, indices) = (site.input_shape(0)?, site.input_shape(1)?);
        let form = families::indexed::of_tuples(&data, &indices, self.batch, site.dtype(1)?)?;
        families::indexed::gathered(site, form)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (x, indices) = (inputs.tensor(0)?, inputs.tensor(1)?);
        let at = indices.to_i64s()?;
        let (places, depth) = (indices.shape.len() - 1, indices.shape[indices.shape.len() - 1]);
        let shape = [&indices.shape[..places], &x.shape[self.batch + depth..]].concat();
        let y = x.gathered(&shape, |flat| {
            let index = RefTensor::unravel(&shape, flat);
            let tuple = RefTensor::ravel(&indices.shape[..places], &index[..places]) * depth;
            let picked = (0..depth).map(|c| {
                let extent = x.shape[self.batch + c] as i64;
                let i = at[tuple + c];
                if i < 0 { (i + extent) as usize } else { i as usize }
            });
            let source: Vec<usize> = index[..self.batch]
                .iter()
                .copied()
                .chain(picked)
                .chain(index[places..].iter().copied())
                .collect();
            RefTensor::ravel(&x.shape, &source)
        });
        Ok(vec![y.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Data and coordinates into it behind `batch` leading axes.
pub(super) fn draw_tuples(g: &mut Gen, batched: bool) -> (Vec<usize>, Tensor, usize) {
    let rank = g.size(1, 4);
    let mut data = g.shape(rank);
    let batch = if batched && rank > 1 { g.size(0, (rank - 1).min(2)) } else { 0 };
    let depth = g.size(1, rank - batch);
    let more = g.size(0, 2);
    let extra = g.shape(more);
    let mut places = [&data[..batch], &extra].concat();
    if data[batch..batch + depth].contains(&0) {
        // No coordinate lies in an empty axis.
        match places.get_mut(batch) {
            Some(place) if g.chance(0.5) => *place = 0,
            _ => data[batch..batch + depth].iter_mut().for_each(|d| *d = (*d).max(1)),
        }
    }
    let count: usize = places.iter().product();
    let mut values = Vec::with_capacity(count * depth);
    for _ in 0..count {
        values.extend(data[batch..batch + depth].iter().map(|&d| g.int(-(d as i64), d as i64 - 1)));
    }
    places.push(depth);
    (data, Tensor::new(&places, values).unwrap_or_else(|_| Tensor::scalar(0i64)), batch)
}

fn case(g: &mut Gen) -> Case {
    let opset = *g.pick(&[11, 12, 13]);
    let (data, indices, batch) = draw_tuples(g, opset > 11);
    let dtype = *g.pick(MOVABLE);
    let case = Case::new([g.any_tensor(dtype, &data), indices]).opset(opset);
    if opset > 11 { case.int("batch_dims", batch as i64) } else { case }
}
