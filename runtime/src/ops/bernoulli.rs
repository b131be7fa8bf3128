//! # Bernoulli
//! `y = 1` with probability `p`, 0 otherwise, for each element of a tensor of probabilities, in the type of the
//! input unless `dtype` names another. Opsets 15, 22.
//!
//! `seed` fixes the sequence of outputs; without it they differ from process to process.

use super::attributes::NodeSpec;
use super::elementwise::{draw_shape, same_shape};
use super::random::source;
use super::{Accuracy, Op, OpDef};
use crate::cpu::cast::truth_as;
use crate::cpu::number::{Number, dispatch};
use crate::cpu::random::RandomSource;
use crate::cpu::split::for_each_piece;
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::{DType, FLOATS, NUMBERS_AND_BOOL};
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Bernoulli",
    domain: "",
    since: &[15, 22],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Random,
    parse,
    case,
};

#[derive(Debug)]
struct Bernoulli {
    dtype: Option<DType>,
    source: RandomSource,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let dtype = spec.dtype("dtype")?;
    if let Some(dtype) = dtype.filter(|d| !NUMBERS_AND_BOOL.contains(d)) {
        return Err(OpError::unsupported(format!("an output of {dtype}")));
    }
    Ok(Arc::new(Bernoulli { dtype, source: source(spec)? }))
}

impl Op for Bernoulli {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 1)?;
        let p = inputs.typed(0, FLOATS)?;
        Ok(vec![same_shape(p, self.dtype.unwrap_or(p.dtype)).into()])
    }

    fn is_deterministic(&self) -> bool {
        false
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        families::drawn::trials(site, &self.source)
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let source = self.source.clone();
        let from = site.inputs.tensor(0)?.dtype;
        dispatch!(from, floats, T => dispatch!(self.dtype.unwrap_or(from), any, Y => Ok(Kernel::new(move |io| {
            let (p, stream, context) = (io.input::<T>(0)?, source.next(), io.context);
            for_each_piece(context, io.output::<Y>(0)?, |start, piece| {
                for (i, y) in piece.iter_mut().enumerate() {
                    *y = truth_as(stream.uniform(start + i) < p[start + i].to_f64());
                }
            })
        }))))
    }

    /// Zeros of the right form: the outputs are random.
    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let p = inputs.tensor(0)?;
        let zeros = RefTensor::floats(p.dtype, &p.shape, vec![0.0; p.len()]);
        Ok(vec![zeros.cast(self.dtype.unwrap_or(p.dtype))?.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let (dtype, shape) = (*g.pick(FLOATS), draw_shape(g));
    let case = Case::new([g.tensor_in(dtype, &shape, 0.0, 1.0)]);
    let case = if g.chance(0.5) { case.dtype("dtype", *g.pick(NUMBERS_AND_BOOL)) } else { case };
    if g.chance(0.5) { case.float("seed", g.float(-9.0, 9.0) as f32) } else { case }
}
