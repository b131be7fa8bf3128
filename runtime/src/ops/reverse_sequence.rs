//! # ReverseSequence
//! In each batch row the first `sequence_lens` elements of the time axis come in reverse order, the others stay.
//! Batch and time are the first two axes, either way round. Opset 10.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::RunContext;
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
    name: "ReverseSequence",
    domain: "",
    since: &[10, 28],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct ReverseSequence {
    /// 0 or 1; the batch is the other one.
    time: usize,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let (batch, time) = (spec.int_or("batch_axis", 1)?, spec.int_or("time_axis", 0)?);
    match (batch, time) {
        (1, 0) => Ok(Arc::new(ReverseSequence { time: 0 })),
        (0, 1) => Ok(Arc::new(ReverseSequence { time: 1 })),
        _ => Err(OpError::attribute("time_axis", format!("is {time} beside batch_axis {batch}"))),
    }
}

struct Rows<'a> {
    /// Extents of the first two axes.
    outer: [usize; 2],
    time: usize,
    lens: &'a [i64],
}

impl Movement for Rows<'_> {
    fn run<T: Unit>(&self, context: RunContext<'_>, from: &[&[T]], to: &mut [T]) -> Result<(), OpError> {
        let from = from.first().copied().unwrap_or_default();
        let (steps, batch) = (self.outer[self.time], self.outer[1 - self.time]);
        if self.lens.len() != batch || from.len() != to.len() {
            return Err(OpError::shape(format!("{} lengths for {batch} rows", self.lens.len())));
        }
        if let Some(bad) = self.lens.iter().find(|&&n| n < 0 || n > steps as i64) {
            return Err(OpError::value(format!("a length is {bad}, the time axis {steps}")));
        }
        if to.is_empty() {
            return Ok(());
        }
        let rows = steps * batch;
        let inner = to.len() / rows;
        let per = rows_per_chunk(rows, inner, context.team.threads());
        for_each_chunk(context, to, per * inner, |chunk, piece| {
            for (i, row) in piece.chunks_exact_mut(inner).enumerate() {
                let mut at = [(chunk * per + i) / self.outer[1], (chunk * per + i) % self.outer[1]];
                let len = self.lens[at[1 - self.time]] as usize;
                let step = &mut at[self.time];
                if *step < len {
                    *step = len - 1 - *step;
                }
                row.clone_from_slice(&from[(at[0] * self.outer[1] + at[1]) * inner..][..inner]);
            }
        })
    }
}

impl Op for ReverseSequence {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 2)?;
        let x = inputs.typed(0, MOVABLE)?;
        let lens = inputs.typed(1, &[DType::I64])?;
        if x.rank().is_some_and(|r| r < 2) {
            return Err(OpError::input(0, "has fewer than two axes"));
        }
        let batch = x.shape.as_ref().and_then(|s| s[1 - self.time].known());
        match (lens.known_shape(), batch) {
            (Some(shape), _) if shape.len() != 1 => return Err(OpError::input(1, "is not a list")),
            (Some(shape), Some(batch)) if shape[0] != batch => {
                return Err(OpError::shape(format!("{} lengths for {batch} rows", shape[0])));
            }
            _ => {}
        }
        Ok(vec![TensorFact { shape: x.shape.clone(), ..TensorFact::unranked(x.dtype) }.into()])
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let shape = site.output_shape(0)?;
        let (outer, time) = ([shape[0], shape[1]], self.time);
        Ok(Kernel::new(move |io| {
            let lens = io.input::<i64>(1)?;
            move_elements(&Rows { outer, time, lens }, io, &[0], 0, &shape)
        }))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        families::coordinates::reversed(site, self.time)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let lens = inputs.tensor(1)?.to_i64s()?;
        let y = x.gathered(&x.shape, |flat| {
            let mut index = RefTensor::unravel(&x.shape, flat);
            let len = lens[index[1 - self.time]] as usize;
            if index[self.time] < len {
                index[self.time] = len - index[self.time] - 1;
            }
            RefTensor::ravel(&x.shape, &index)
        });
        Ok(vec![y.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let rank = g.size(2, 4);
    let shape = g.shape(rank);
    let dtype = *g.pick(MOVABLE);
    let time = g.size(0, 1);
    let batch = shape[1 - time];
    let lens: Vec<i64> = (0..batch).map(|_| g.size(0, shape[time]) as i64).collect();
    let lens = Tensor::new(&[batch], lens).unwrap_or_else(|_| Tensor::scalar(0i64));
    let case = Case::new([g.any_tensor(dtype, &shape), lens]).opset(10);
    if time == 0 && g.chance(0.5) {
        return case;
    }
    case.int("time_axis", time as i64).int("batch_axis", 1 - time as i64)
}
