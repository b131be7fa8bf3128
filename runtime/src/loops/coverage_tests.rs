//! Which operators have no nest, and why. Every other one has: a new operator without a nest must say so here.

use crate::exec::fact_of;
use crate::graph::fact::Facts;
use crate::graph::{Fact, TensorFact};
use crate::ops::{OPS, OpDef};
use crate::tensor::Value;
use crate::testing::{Gen, parse};

/// Operators without a nest, by what keeps them from one.
const OPAQUE: [(&str, &[&str]); 11] = [
    ("bodies are programs of their own", &["If", "Loop", "Scan", "SequenceMap"]),
    (
        "a value is no tensor",
        &[
            "ConcatFromSequence",
            "Optional",
            "OptionalGetElement",
            "OptionalHasElement",
            "SequenceAt",
            "SequenceConstruct",
            "SequenceEmpty",
            "SequenceErase",
            "SequenceInsert",
            "SequenceLength",
            "SplitToSequence",
        ],
    ),
    (
        "an index or an extent depends on data",
        &[
            "AffineGrid",
            "Compress",
            "DeformConv",
            "GatherElements",
            "GatherND",
            "GridSample",
            "MaxRoiPool",
            "MaxUnpool",
            "NonMaxSuppression",
            "NonZero",
            "OneHot",
            "ReverseSequence",
            "RoiAlign",
            "RotaryEmbedding",
            "Scatter",
            "ScatterElements",
            "ScatterND",
            "TensorScatter",
            "Unique",
        ],
    ),
    ("an order or a place is found, no value", &["ArgMax", "ArgMin", "Hardmax", "TopK"]),
    (
        "it is random",
        &[
            "Bernoulli",
            "Multinomial",
            "RandomNormal",
            "RandomNormalLike",
            "RandomUniform",
            "RandomUniformLike",
        ],
    ),
    (
        "no element of an operand is read",
        &[
            "BlackmanWindow",
            "Constant",
            "ConstantOfShape",
            "EyeLike",
            "HammingWindow",
            "HannWindow",
            "MelWeightMatrix",
            "Range",
            "Shape",
            "Size",
        ],
    ),
    (
        "an index is no affine function of places: remainders, conditions, interpolation",
        &["CenterCropPad", "Col2Im", "Trilu"],
    ),
    (
        "an index is a quotient of a place; by a whole factor one could write an element to several places, but maps behind \
         would run along an axis of as many",
        &["Resize", "Upsample"],
    ),
    ("elements lie several to a byte, at quotients of places", &["MatMulNBits"]),
    (
        "integers are of the range of a whole tensor, which is found first, and several outputs tell it",
        &["DynamicQuantizeLSTM", "DynamicQuantizeLinear"],
    ),
    (
        "several folds over different axes, or a type that a second operand tells, in a kernel of its own",
        &[
            "Attention",
            "CausalConvWithState",
            "DFT",
            "Det",
            "FlexAttention",
            "LinearAttention",
            "NegativeLogLikelihoodLoss",
            "STFT",
            "SoftmaxCrossEntropyLoss",
        ],
    ),
];

/// Cases drawn of each operator.
const SEEDS: u64 = 100;

/// Whether the case of `seed` has a nest, or an output that is a part of an operand.
fn has_nest(def: &'static OpDef, seed: u64) -> bool {
    let case = (def.case)(&mut Gen::new(seed));
    let op = parse(def, &case).expect("a valid case");
    let fact = |(i, value): (usize, &Option<Value>)| {
        let value = value.as_ref()?;
        Some(match value.as_tensor() {
            Some(t) if case.constant.contains(&i) => TensorFact::constant(t.clone()).into(),
            _ => fact_of(value.as_ref()),
        })
    };
    let facts: Vec<Option<Fact>> = case.inputs.iter().enumerate().map(fact).collect();
    let given: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
    let Ok(mut made) = op.infer(Facts(&given)) else { return false };
    made.truncate(case.outputs);
    op.nest(Facts(&given), &made).is_ok() || op.selection(Facts(&given), &made, 0).is_some()
}

#[test]
fn an_operator_has_a_nest_or_a_reason() {
    let mut wrong = Vec::new();
    for def in OPS {
        let listed = OPAQUE.iter().filter(|(_, names)| names.contains(&def.name)).count();
        let lowered = (0..SEEDS).any(|seed| has_nest(def, seed));
        if listed != usize::from(!lowered) {
            wrong.push(format!("{} (nest: {lowered}, listed {listed} times)", def.full_name()));
        }
    }
    for name in OPAQUE.iter().flat_map(|(_, names)| *names) {
        if !OPS.iter().any(|def| def.name == *name) {
            wrong.push(format!("{name} (no operator)"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
