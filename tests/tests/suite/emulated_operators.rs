//! Random uses of operators on the emulated GPU: each gives what its reference gives, there or, where it has no kernel, on
//! the host.

use recurve::testing::{check_operator_on, operators};
use recurve::{Device, Engine, Fallback, Session, SessionBuilder};
use std::ops::Range;

/// Operators that have kernels, how many random uses are drawn, and how many of them run there at least: the others are of
/// types, or depend on data, that kernels do not take.
const COVERED: &[(&str, u64, usize)] = &[
    ("Acos", 60, 38),
    ("Acosh", 60, 38),
    ("AffineGrid", 60, 10),
    ("ArgMax", 60, 6),
    ("ArgMin", 60, 6),
    ("Asin", 60, 38),
    ("Asinh", 60, 38),
    ("Atan", 60, 38),
    ("Atanh", 60, 38),
    ("Attention", 80, 70),
    ("AveragePool", 40, 10),
    ("BatchNormalization", 40, 38),
    ("Bernoulli", 40, 38),
    ("Cast", 120, 110),
    ("CastLike", 120, 110),
    ("CausalConvWithState", 60, 10),
    ("Celu", 60, 38),
    ("CenterCropPad", 60, 10),
    ("Clip", 40, 30),
    ("Col2Im", 60, 40),
    ("Concat", 40, 30),
    ("Conv", 60, 30),
    ("ConvInteger", 40, 38),
    ("ConvTranspose", 60, 58),
    ("Cos", 60, 38),
    ("Cosh", 60, 38),
    ("CumProd", 40, 10),
    ("CumSum", 40, 10),
    ("DFT", 60, 30),
    ("DeformConv", 40, 38),
    ("DepthToSpace", 40, 30),
    ("DequantizeLinear", 40, 10),
    ("Det", 60, 55),
    ("Dropout", 40, 30),
    ("DynamicQuantizeLinear", 40, 10),
    ("Einsum", 40, 30),
    ("Elu", 60, 38),
    ("Erf", 40, 38),
    ("Exp", 40, 38),
    ("Expand", 40, 30),
    ("EyeLike", 40, 30),
    ("GRU", 72, 70),
    ("Gather", 40, 20),
    ("GatherElements", 40, 10),
    ("GatherND", 40, 10),
    ("Gelu", 40, 38),
    ("Gemm", 40, 20),
    ("GlobalAveragePool", 40, 10),
    ("GlobalLpPool", 40, 10),
    ("GlobalMaxPool", 40, 10),
    ("GridSample", 60, 10),
    ("GroupNormalization", 40, 10),
    ("HannWindow", 60, 10),
    ("Hardmax", 60, 10),
    ("If", 40, 30),
    ("InstanceNormalization", 40, 10),
    ("LRN", 40, 38),
    ("LSTM", 72, 70),
    ("LayerNormalization", 40, 10),
    ("LinearAttention", 60, 10),
    ("Log", 40, 38),
    ("LogSoftmax", 40, 38),
    ("Loop", 40, 20),
    ("LpNormalization", 40, 10),
    ("LpPool", 40, 10),
    ("MatMul", 40, 10),
    ("MatMulInteger", 40, 10),
    ("Max", 40, 38),
    ("MaxPool", 40, 10),
    ("MaxRoiPool", 60, 55),
    ("MaxUnpool", 60, 10),
    ("Mean", 40, 38),
    ("MeanVarianceNormalization", 40, 38),
    ("Min", 40, 38),
    ("Mish", 40, 38),
    ("Mod", 60, 38),
    ("NegativeLogLikelihoodLoss", 60, 58),
    ("OneHot", 40, 15),
    ("PRelu", 40, 38),
    ("Pad", 40, 30),
    ("Pow", 60, 38),
    ("QLinearConv", 40, 38),
    ("QLinearMatMul", 40, 10),
    ("QuantizeLinear", 40, 10),
    ("RMSNormalization", 40, 10),
    ("RNN", 72, 70),
    ("RandomNormal", 40, 38),
    ("RandomNormalLike", 40, 38),
    ("RandomUniform", 40, 38),
    ("RandomUniformLike", 40, 38),
    ("ReduceL1", 60, 30),
    ("ReduceL2", 60, 25),
    ("ReduceLogSum", 60, 30),
    ("ReduceLogSumExp", 60, 30),
    ("ReduceMax", 60, 30),
    ("ReduceMean", 40, 20),
    ("ReduceMin", 60, 30),
    ("ReduceProd", 60, 30),
    ("ReduceSum", 40, 10),
    ("ReduceSumSquare", 60, 30),
    ("Resize", 80, 55),
    ("ReverseSequence", 40, 25),
    ("RoiAlign", 60, 10),
    ("RotaryEmbedding", 60, 10),
    ("STFT", 60, 27),
    ("Scan", 40, 30),
    ("Scatter", 40, 10),
    ("ScatterElements", 40, 10),
    ("ScatterND", 40, 10),
    ("Selu", 60, 38),
    ("Sigmoid", 40, 38),
    ("Sin", 60, 38),
    ("Sinh", 60, 38),
    ("Slice", 40, 30),
    ("Softmax", 40, 38),
    ("SoftmaxCrossEntropyLoss", 60, 58),
    ("Softplus", 40, 38),
    ("SpaceToDepth", 40, 30),
    ("Split", 40, 30),
    ("Sum", 40, 38),
    ("SwiGLU", 40, 38),
    ("Tan", 60, 38),
    ("Tanh", 40, 38),
    ("TensorScatter", 60, 10),
    ("Tile", 40, 25),
    ("TopK", 40, 10),
    ("Transpose", 40, 30),
    ("Trilu", 40, 25),
    ("Upsample", 40, 25),
    ("Where", 40, 30),
    ("ai.onnx.preview:FlexAttention", 60, 58),
    ("com.microsoft:DynamicQuantizeLSTM", 60, 50),
    ("com.microsoft:MatMulNBits", 60, 60),
];

/// How many random uses of `name` run.
fn ran(builder: &SessionBuilder, name: &str, seeds: Range<u64>) -> usize {
    let check = |seed: &u64| match check_operator_on(builder.clone(), name, *seed) {
        Ok(ran) => ran,
        Err(failure) => panic!("{name}, seed {seed}: {failure:#?}"),
    };
    seeds.filter(check).count()
}

fn emulated() -> SessionBuilder {
    let engine = Engine::builder().with_threads(1).build().expect("an engine");
    Session::builder().with_engine(&engine).with_device(Device::Emulated)
}

#[test]
fn operators_with_kernels_agree_with_their_references() {
    let builder = emulated();
    for &(name, cases, least) in COVERED {
        let ran = ran(&builder, name, 0..cases);
        println!("{name}: {ran} of {cases}");
        assert!(ran >= least, "{name}: only {ran} of {cases} ran");
    }
}

#[test]
fn every_operator_runs_there_or_on_the_host() {
    let builder = emulated();
    let mut with_kernel = 0;
    for operator in operators() {
        let (name, seeds) = (operator.full_name(), 100..104);
        let there = ran(&builder, &name, seeds.clone());
        println!("{name}: {there} of 4");
        with_kernel += usize::from(there > 0);
        if there < 4 {
            let all = ran(&builder.clone().with_fallback(Fallback::Cpu), &name, seeds);
            assert_eq!(all, 4, "{name} is refused though the host may run it");
        }
    }
    assert!(with_kernel >= 80, "{with_kernel} operators have kernels");
}
