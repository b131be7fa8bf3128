//! Activation functions as the ONNX specification has them, in f64.

use crate::activation::Function;

/// Every function, to draw one from.
pub(crate) const ALL: [Function; 12] = [
    Function::Identity,
    Function::Relu,
    Function::Tanh,
    Function::Sigmoid,
    Function::Affine,
    Function::LeakyRelu,
    Function::ThresholdedRelu,
    Function::ScaledTanh,
    Function::HardSigmoid,
    Function::Elu,
    Function::Softsign,
    Function::Softplus,
];

/// The formula.
pub(crate) fn reference(function: Function, alpha: f64, beta: f64, x: f64) -> f64 {
    match function {
        Function::Identity => x,
        Function::Relu => x.max(0.0),
        Function::Tanh => x.tanh(),
        Function::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Function::Affine => alpha * x + beta,
        Function::LeakyRelu if x >= 0.0 => x,
        Function::LeakyRelu => alpha * x,
        Function::ThresholdedRelu if x >= alpha => x,
        Function::ThresholdedRelu => 0.0,
        Function::ScaledTanh => alpha * (beta * x).tanh(),
        Function::HardSigmoid => (alpha * x + beta).clamp(0.0, 1.0),
        Function::Elu if x >= 0.0 => x,
        Function::Elu => alpha * x.exp_m1(),
        Function::Softsign => x / (1.0 + x.abs()),
        Function::Softplus => x.exp().ln_1p(),
    }
}
