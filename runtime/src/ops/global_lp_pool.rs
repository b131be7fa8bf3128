//! # GlobalLpPool
//! `(Σ |x|^p)^(1/p)` of each channel over all spatial axes. Opsets 2, 22 (bfloat16). Accumulated in f64.

use super::attributes::NodeSpec;
use super::global_pool::{self, pooled_dims};
use super::lp_pool::{order, power, scalar_power, scalar_root};
use super::{Accuracy, Op, OpDef};
use crate::cpu::moments::sum_of;
use crate::cpu::number::{Number, dispatch};
use crate::cpu::tiles::{Chunks, Lanes, PARALLEL_WORK, for_each_tile};
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::FLOATS;
use crate::error::OpError;
use crate::exec::Looks;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::loops::program::Builder;
use crate::loops::{Fold, Nest, Opaque};
use crate::reference::{RefInputs, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "GlobalLpPool",
    domain: "",
    since: &[2, 22],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

#[derive(Debug)]
struct GlobalLpPool {
    p: f64,
}

fn parse(node: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(GlobalLpPool { p: order(node)? }))
}

impl Op for GlobalLpPool {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 1)?;
        let x = inputs.typed(0, FLOATS)?;
        let shape = pooled_dims(x.shape.as_deref())?;
        Ok(vec![TensorFact { shape, ..TensorFact::unranked(x.dtype) }.into()])
    }

    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        let (power, root) = (
            |b: &mut Builder, x| scalar_power(b, x, self.p),
            |b: &mut Builder, sum, _| scalar_root(b, sum, self.p),
        );
        global_pool::nest(inputs, outputs, Fold::Sum, power, root)
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let plane: usize = site.input_shape(0)?[2..].iter().product();
        let p = self.p;
        dispatch!(site.inputs.tensor(0)?.dtype, floats, T => Ok(Kernel::new(move |io| {
            let x = io.input::<T>(0)?;
            let context = io.context;
            let many = (PARALLEL_WORK / 4 / plane.max(1)).max(1);
            let pieces = Chunks::new(io.output::<T>(0)?, many);
            for_each_tile(context, 4 * x.len(), Lanes::none(), &pieces, &|tile, y, _| {
                let mut looks = Looks::new(context.interrupt);
                for (i, y) in y.iter_mut().enumerate() {
                    let x = &x[(tile * many + i) * plane..][..plane];
                    *y = T::from_f64(sum_of(x, &mut looks, |x| power(x, p))?.powf(1.0 / p));
                }
                Ok(())
            })
        })))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let norm = |v: &[f64]| v.iter().map(|v| v.abs().powf(self.p)).sum::<f64>().powf(1.0 / self.p);
        Ok(vec![global_pool::reference(inputs.tensor(0)?, norm)?.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let case = global_pool::case(g);
    if g.chance(0.7) { case.int("p", g.int(1, 4)) } else { case }
}
