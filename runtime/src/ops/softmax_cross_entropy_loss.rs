//! # SoftmaxCrossEntropyLoss
//! `loss = −log softmax(x)[n, label, …] · weight[label]`, not reduced, summed or averaged; output 1 is the logarithm
//! of the softmax. Opsets 12, 13 (bfloat16): see [`super::class_loss`].

use super::{Accuracy, OpDef, class_loss};
use crate::dtype::FLOATS;

pub(super) const DEF: OpDef = OpDef {
    name: "SoftmaxCrossEntropyLoss",
    domain: "",
    since: &[12, 13],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Reduction,
    parse: |node| class_loss::parse(node, true),
    case: |g| {
        let opset = *g.pick(&[12, 13]);
        let dtype = if opset < 13 { *g.pick(&FLOATS[..3]) } else { *g.pick(FLOATS) };
        let case = class_loss::case(g, opset, dtype);
        if g.chance(0.5) { case.outputs(2) } else { case }
    },
};
