//! # Scatter
//! The older name of ScatterElements without a reduction. Opsets 9 and 10; in 11 it is deprecated, and still
//! read.

use super::attributes::NodeSpec;
use super::scatter_elements::{ScatterElements, draw_scatter};
use super::{Accuracy, Op, OpDef};
use crate::cpu::scatter::Reduction;
use crate::dtype::MOVABLE;
use crate::error::OpError;
use crate::testing::{Case, Gen};
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Scatter",
    domain: "",
    since: &[9],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(ScatterElements { axis: spec.int_or("axis", 0)?, reduction: Reduction::None }))
}

fn case(g: &mut Gen) -> Case {
    let (tensors, axis) = draw_scatter(g, "none");
    Case::new(tensors).opset(9).int("axis", axis)
}
