//! # Activation functions
//! Those that the recurrent operators of ONNX name, with their alpha and beta, as data: a kernel takes them as parameters,
//! since every gate may have its own. The function is the same for all threads of a launch, so that choosing it costs one
//! branch that no warp divides at.

use crate::device::math::fma_f32;
use crate::elementary::{exp, log_above_one, tanh_of_power};

/// The function, by number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u32)]
pub enum Function {
    /// `x`
    Identity = 0,
    /// `max(x, 0)`
    Relu,
    /// `tanh x`
    Tanh,
    /// `1 / (1 + e^−x)`
    Sigmoid,
    /// `α·x + β`
    Affine,
    /// `x` from 0 on, `α·x` below
    LeakyRelu,
    /// `x` from α on, 0 below
    ThresholdedRelu,
    /// `α · tanh(β·x)`
    ScaledTanh,
    /// `min(max(α·x + β, 0), 1)`
    HardSigmoid,
    /// `x` from 0 on, `α·(e^x − 1)` below
    Elu,
    /// `x / (1 + |x|)`
    Softsign,
    /// `ln(1 + e^x)`
    Softplus,
}

const RELU: u32 = Function::Relu as u32;
const TANH: u32 = Function::Tanh as u32;
const SIGMOID: u32 = Function::Sigmoid as u32;
const AFFINE: u32 = Function::Affine as u32;
const LEAKY_RELU: u32 = Function::LeakyRelu as u32;
const THRESHOLDED_RELU: u32 = Function::ThresholdedRelu as u32;
const SCALED_TANH: u32 = Function::ScaledTanh as u32;
const HARD_SIGMOID: u32 = Function::HardSigmoid as u32;
const ELU: u32 = Function::Elu as u32;
const SOFTSIGN: u32 = Function::Softsign as u32;
const SOFTPLUS: u32 = Function::Softplus as u32;

/// A function with its parameters, as a field of a kernel's parameters.
#[derive(Clone, Copy, PartialEq, Debug)]
#[repr(C)]
pub struct Activation {
    function: u32,
    alpha: f32,
    beta: f32,
}

const _: () = assert!(size_of::<Activation>() == 12);

impl Activation {
    /// `x`.
    pub const IDENTITY: Self = Self::new(Function::Identity, 0.0, 0.0);

    /// The function with these parameters; those that it does not take do not matter.
    pub const fn new(function: Function, alpha: f32, beta: f32) -> Self {
        Self { function: function as u32, alpha, beta }
    }

    /// The function's value. All that need an exponential share the code of one: kernels apply several functions, and
    /// each of them is here as a whole.
    #[inline(always)]
    pub fn apply(self, x: f32) -> f32 {
        match self.function {
            RELU if x < 0.0 => 0.0,
            AFFINE => fma_f32(self.alpha, x, self.beta),
            LEAKY_RELU if x < 0.0 => self.alpha * x,
            THRESHOLDED_RELU if x < self.alpha => 0.0,
            HARD_SIGMOID => fma_f32(self.alpha, x, self.beta).clamp(0.0, 1.0),
            SOFTSIGN => x / (1.0 + x.abs()),
            TANH | SIGMOID | SCALED_TANH | SOFTPLUS => self.by_exponential(x),
            ELU if x < 0.0 => self.by_exponential(x),
            _ => x,
        }
    }

    /// The functions of an exponential, as `elementary` has them.
    #[inline(always)]
    fn by_exponential(self, x: f32) -> f32 {
        let x = if self.function == SCALED_TANH { self.beta * x } else { x };
        let tanh = self.function == TANH || self.function == SCALED_TANH;
        let power = exp(if tanh {
            x.abs() + x.abs()
        } else if self.function == SOFTPLUS {
            -x.abs()
        } else if self.function == SIGMOID {
            -x
        } else {
            x
        });
        if tanh {
            let y = tanh_of_power(x, power);
            if self.function == TANH { y } else { self.alpha * y }
        } else if self.function == SOFTPLUS {
            let positive = if x < 0.0 { 0.0 } else { x };
            positive + log_above_one(power)
        } else if self.function == SIGMOID {
            1.0 / (1.0 + power)
        } else {
            self.alpha * (power - 1.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::activation::{ALL, reference};

    #[test]
    fn every_function_is_that_of_the_specification() {
        for (number, function) in ALL.into_iter().enumerate() {
            assert_eq!(function as usize, number);
            for (alpha, beta) in [(0.5f32, 0.25f32), (-0.75, 1.5)] {
                let activation = Activation::new(function, alpha, beta);
                for i in -400..=400 {
                    let x = i as f32 * 0.03;
                    let expected = reference(function, alpha.into(), beta.into(), x.into());
                    let error = (f64::from(activation.apply(x)) - expected).abs();
                    assert!(error <= 5e-7 * expected.abs().max(1.0), "{function:?}({x}): {error}");
                }
            }
        }
    }
}
