//! # Upsample
//! The forerunner of Resize: every axis by a scale, asymmetric coordinates, `nearest` or `linear`. Opsets 7 (scales
//! as attribute), 9 (as input); from 10 on it is deprecated, and still read.

use super::attributes::NodeSpec;
use super::resize::{Resize, Scales};
use super::{Accuracy, Op, OpDef};
use crate::dtype::{DType, MOVABLE, NUMBERS};
use crate::error::OpError;
use crate::ops::attributes::Attribute;
use crate::tensor::Tensor;
use crate::testing::{Case, Gen};
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Upsample",
    domain: "",
    since: &[7, 9],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let scales = if spec.opset >= 9 {
        Scales::Input(1)
    } else {
        Scales::Fixed(spec.floats("scales")?.ok_or_else(|| OpError::attribute("scales", "is missing"))?)
    };
    Ok(Arc::new(Resize::by_scales(spec, scales)?))
}

fn case(g: &mut Gen) -> Case {
    let rank = g.size(1, 4);
    let shape = g.shape(rank);
    let linear = g.chance(0.5);
    let dtype = *g.pick(if linear { NUMBERS } else { MOVABLE });
    let x = if dtype == DType::String {
        g.any_tensor(dtype, &shape)
    } else {
        g.tensor_in(dtype, &shape, -9.0, 9.0)
    };
    let scales: Vec<f32> = (0..rank).map(|_| *g.pick(&[1.0f32, 1.0, 1.5, 2.0, 2.3])).collect();
    let case = Case::new([x]);
    let case = if linear { case.string("mode", "linear") } else { case };
    if g.chance(0.5) {
        return case.opset(7).with("scales", Attribute::Floats(scales));
    }
    let scales = Tensor::new(&[rank], scales).unwrap_or_else(|_| Tensor::scalar(0f32));
    let case = case.opset(9).input(scales);
    if g.chance(0.6) { case.constant(1) } else { case }
}
