//! # Trilu
//! Of each matrix the elements on and above (`upper`) or on and below the diagonal `k`; all others become zero.
//! Opset 14.

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
use crate::reference::{RefData, RefInputs, RefTensor, RefValue};
use crate::tensor::Tensor;
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Trilu",
    domain: "",
    since: &[14],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct Trilu {
    upper: bool,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(Trilu { upper: spec.flag_or("upper", true)? }))
}

struct Triangles {
    rows: usize,
    columns: usize,
    upper: bool,
    k: i64,
}

impl Movement for Triangles {
    fn run<T: Unit>(&self, context: RunContext<'_>, from: &[&[T]], to: &mut [T]) -> Result<(), OpError> {
        let from = from.first().copied().unwrap_or_default();
        if to.is_empty() {
            return Ok(());
        }
        let columns = self.columns;
        let per = rows_per_chunk(to.len() / columns, columns, context.team.threads());
        for_each_chunk(context, to, per * columns, |chunk, piece| {
            for (i, row) in piece.chunks_exact_mut(columns).enumerate() {
                let at = chunk * per + i;
                let source = &from[at * columns..][..columns];
                // The first column on the diagonal, and the first one right of it.
                let diagonal = ((at % self.rows) as i64).saturating_add(self.k);
                let cut = diagonal.saturating_add(i64::from(!self.upper)).clamp(0, columns as i64) as usize;
                let (left, right) = row.split_at_mut(cut);
                if self.upper {
                    left.fill(T::default());
                    right.clone_from_slice(&source[cut..]);
                } else {
                    left.clone_from_slice(&source[..cut]);
                    right.fill(T::default());
                }
            }
        })
    }
}

impl Op for Trilu {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 2)?;
        let x = inputs.typed(0, MOVABLE)?;
        if x.rank().is_some_and(|r| r < 2) {
            return Err(OpError::input(0, "is not a matrix"));
        }
        if inputs.has(1) && inputs.typed(1, &[DType::I64])?.element_count().is_some_and(|n| n != 1) {
            return Err(OpError::input(1, "is not a scalar"));
        }
        Ok(vec![TensorFact { shape: x.shape.clone(), ..TensorFact::unranked(x.dtype) }.into()])
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let shape = site.output_shape(0)?;
        let (rows, columns) = (shape[shape.len() - 2], shape[shape.len() - 1]);
        let upper = self.upper;
        Ok(Kernel::new(move |io| {
            let k = io.optional_input::<i64>(1)?.and_then(|k| k.first().copied()).unwrap_or(0);
            move_elements(&Triangles { rows, columns, upper, k }, io, &[0], 0, &shape)
        }))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        families::coordinates::triangle(site, self.upper)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let k = inputs.optional(1)?.map(|k| k.as_ints().map(|v| v[0])).transpose()?.unwrap_or(0);
        let mut y = x.clone();
        for flat in 0..x.len() {
            let index = RefTensor::unravel(&x.shape, flat);
            let (row, column) = (index[index.len() - 2] as i128, index[index.len() - 1] as i128);
            let kept = if self.upper { column - row >= k } else { column - row <= k };
            if !kept {
                match &mut y.data {
                    RefData::Float(v) => v[flat] = 0.0,
                    RefData::Int(v) => v[flat] = 0,
                    RefData::Bool(v) => v[flat] = false,
                    RefData::Text(v) => v[flat] = String::new(),
                }
            }
        }
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
    let k = if g.chance(0.1) { *g.pick(&[i64::MIN, i64::MAX]) } else { g.int(-6, 6) };
    let case = Case::new([g.any_tensor(dtype, &shape)]);
    let case = if g.chance(0.8) { case.input(Tensor::scalar(k)) } else { case };
    if g.chance(0.7) { case.int("upper", g.int(0, 1)) } else { case }
}
