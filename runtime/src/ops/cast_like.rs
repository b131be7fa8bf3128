//! # CastLike
//! The first tensor in the element type of the second; see Cast. Opsets 15, 19, 21, 23, 24, 25.

use super::attributes::NodeSpec;
use super::cast::{draw_castable, read_rounding};
use super::elementwise::{draw_shape, same_shape, with_entries};
use super::{Accuracy, Op, OpDef};
use crate::cpu::cast::cast;
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::NUMBERS_AND_BOOL;
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts};
use crate::reference::{RefInputs, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "CastLike",
    domain: "",
    since: &[15, 19, 21, 23, 24, 25],
    until: None,
    dtypes: NUMBERS_AND_BOOL,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct CastLike;

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    read_rounding(spec)?;
    Ok(Arc::new(CastLike))
}

impl Op for CastLike {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 2)?;
        let (x, to) = (inputs.typed(0, NUMBERS_AND_BOOL)?, inputs.typed(1, NUMBERS_AND_BOOL)?.dtype);
        Ok(vec![with_entries(same_shape(x, to), &[x], |e| e[0].clone()).into()])
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        cast(site.inputs.tensor(0)?.dtype, site.inputs.tensor(1)?.dtype)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        Ok(vec![inputs.tensor(0)?.cast(inputs.tensor(1)?.dtype)?.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let (from, to, shape) = (*g.pick(NUMBERS_AND_BOOL), *g.pick(NUMBERS_AND_BOOL), draw_shape(g));
    let case = Case::new([draw_castable(g, from, &shape), g.tensor(to, &[2])]);
    if g.chance(0.8) { case } else { case.int("saturate", 0) }
}
