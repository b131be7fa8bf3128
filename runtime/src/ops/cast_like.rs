//! # CastLike
//! The first tensor in the element type of the second; see Cast. Opsets 15, 19, 21, 23, 24, 25.

use super::attributes::NodeSpec;
use super::cast::{draw_castable, draw_rounding, draw_type_of, read_rounding, reference_rounding};
use super::elementwise::{draw_shape, same_shape, with_entries};
use super::{Accuracy, Op, OpDef};
use crate::cpu::cast::narrow_cast;
use crate::cpu::narrow::{Rounding, is_narrow};
use crate::cpu::program::operator_kernel;
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::CASTABLE_LIKE;
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts};
use crate::loops::program::{Builder, Reg};
use crate::reference::{RefInputs, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "CastLike",
    domain: "",
    since: &[15, 19, 21, 23, 24, 25],
    until: None,
    dtypes: CASTABLE_LIKE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct CastLike {
    rounding: Rounding,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(CastLike { rounding: read_rounding(spec)? }))
}

impl Op for CastLike {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 2)?;
        let (x, to) = (inputs.typed(0, CASTABLE_LIKE)?, inputs.typed(1, CASTABLE_LIKE)?.dtype);
        Ok(vec![with_entries(same_shape(x, to), &[x], |e| e[0].clone()).into()])
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let (from, to) = (site.inputs.tensor(0)?.dtype, site.inputs.tensor(1)?.dtype);
        if is_narrow(from) || is_narrow(to) {
            return narrow_cast(from, to, self.rounding);
        }
        operator_kernel(self, site)
    }

    fn scalar(&self, inputs: Facts<'_>, b: &mut Builder, operands: &[Option<Reg>]) -> Option<Reg> {
        let (from, to) = (inputs.tensor(0).ok()?.dtype, inputs.tensor(1).ok()?.dtype);
        Some(b.cast(operands.first().copied().flatten()?, from, to))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        families::map::cast(site, [site.dtype(0)?, site.dtype(1)?], self.rounding)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (to, rounding) = (inputs.tensor(1)?.dtype, reference_rounding(self.rounding));
        Ok(vec![inputs.tensor(0)?.cast_rounding(to, rounding)?.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let (from, to, shape) = (draw_type_of(g, CASTABLE_LIKE), draw_type_of(g, CASTABLE_LIKE), draw_shape(g));
    let case = Case::new([draw_castable(g, from, &shape), draw_castable(g, to, &[2])]);
    draw_rounding(g, case)
}
