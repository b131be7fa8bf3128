//! # NegativeLogLikelihoodLoss
//! `loss = −x[n, target, …] · weight[target]`, not reduced, summed or averaged. Opsets 12, 13, 22 (bfloat16): see
//! [`super::class_loss`].

use super::{Accuracy, OpDef, class_loss};
use crate::dtype::FLOATS;

pub(super) const DEF: OpDef = OpDef {
    name: "NegativeLogLikelihoodLoss",
    domain: "",
    since: &[12, 13, 22],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Reduction,
    parse: |node| class_loss::parse(node, false),
    case: |g| {
        let opset = *g.pick(&[12, 13, 22]);
        let dtype = if opset < 22 { *g.pick(&FLOATS[..3]) } else { *g.pick(FLOATS) };
        class_loss::case(g, opset, dtype)
    },
};
