//! # InstanceNormalization
//! `y = (x − μ) / sqrt(σ² + ε) · scale_c + b_c`, with the moments of each channel of each image. Opsets 6, 22
//! (bfloat16).

use super::channel_norm::ChannelNorm;
use super::{Accuracy, OpDef};
use crate::dtype::FLOATS;
use crate::testing::{Case, Gen};
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "InstanceNormalization",
    domain: "",
    since: &[6, 22],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Reduction,
    parse: |node| {
        let epsilon = f64::from(node.float_or("epsilon", 1e-5)?);
        Ok(Arc::new(ChannelNorm { epsilon, groups: None, group_parameters: false }))
    },
    case,
};

fn case(g: &mut Gen) -> Case {
    let opset = *g.pick(&[7, 22]);
    let dtype = if opset < 22 { *g.pick(&FLOATS[..3]) } else { *g.pick(FLOATS) };
    let rank = g.size(3, 5);
    let shape = g.shape(rank);
    let parameters = [shape[1]];
    // An epsilon that keeps equal elements from amplifying the rounding of their mean.
    Case::new([g.tensor(dtype, &shape), g.tensor(dtype, &parameters), g.tensor(dtype, &parameters)])
        .opset(opset)
        .float("epsilon", 0.01)
}
