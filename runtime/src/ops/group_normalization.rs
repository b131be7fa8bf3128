//! # GroupNormalization
//! `y = (x − μ) / sqrt(σ² + ε) · scale + b`, with the moments of each group of channels of each image. Opsets 18
//! (parameters per group), 21 (parameters per channel, `stash_type`).

use super::channel_norm::ChannelNorm;
use super::layer_normalization::stash_type;
use super::{Accuracy, OpDef};
use crate::dtype::FLOATS;
use crate::error::OpError;
use crate::testing::{Case, Gen};
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "GroupNormalization",
    domain: "",
    since: &[18, 21],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Reduction,
    parse: |node| {
        let epsilon = f64::from(node.float_or("epsilon", 1e-5)?);
        if node.opset >= 21 {
            // The first stage is computed in at least f32 whatever is asked for.
            stash_type(node)?;
        }
        let groups = node.int("num_groups")?.and_then(|g| usize::try_from(g).ok()).filter(|&g| g > 0);
        let groups = groups.ok_or_else(|| OpError::attribute("num_groups", "is no positive number"))?;
        Ok(Arc::new(ChannelNorm { epsilon, groups: Some(groups), group_parameters: node.opset < 21 }))
    },
    case,
};

fn case(g: &mut Gen) -> Case {
    let opset = *g.pick(&[18, 21]);
    let dtype = *g.pick(FLOATS);
    let rank = g.size(2, 5);
    let mut shape = g.shape(rank);
    let groups = g.size(1, 4);
    shape[1] = groups * g.size(1, 3);
    let parameters = [if opset < 21 { groups } else { shape[1] }];
    let case =
        Case::new([g.tensor(dtype, &shape), g.tensor(dtype, &parameters), g.tensor(dtype, &parameters)])
            .opset(opset)
            .float("epsilon", 0.01)
            .int("num_groups", groups as i64);
    if opset >= 21 && g.chance(0.3) { case.int("stash_type", 1) } else { case }
}
