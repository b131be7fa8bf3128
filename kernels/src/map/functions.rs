//! The functions among the instructions, and which of them interpreters compute an element at a time: their code is long.

use crate::elementary::{self, double};
use crate::program::{Kind, Opcode};

/// Whether `opcode` is one of the functions that every interpreter has.
#[inline(always)]
const fn is_common(opcode: Opcode) -> bool {
    use Opcode::{Erf, Exp, Log, Sigmoid, Softplus, Tanh};
    matches!(opcode, Exp | Log | Sigmoid | Tanh | Erf | Softplus)
}

/// Whether it is a function that [`rare`] computes: of f64 every one, of f32 those that are not common.
#[inline(always)]
pub(crate) fn is_rare(opcode: Opcode, operands: Kind) -> bool {
    let function = opcode.is_function() || matches!(opcode, Opcode::Rem | Opcode::Pow);
    let common = is_common(opcode) && operands as u32 == Kind::F32 as u32;
    let float = operands as u32 == Kind::F32 as u32 || operands as u32 == Kind::F64 as u32;
    float && function && !common
}

/// A common function of f32, each once in the code.
#[inline(always)]
pub(super) fn function32(opcode: Opcode, x: f32) -> f32 {
    match opcode {
        Opcode::Exp => elementary::exp(x),
        Opcode::Log => elementary::log(x),
        Opcode::Sigmoid => elementary::sigmoid(x),
        Opcode::Tanh => elementary::tanh(x),
        Opcode::Erf => elementary::erf(x),
        _ => elementary::softplus(x),
    }
}

/// A function that [`is_rare`], of bits of `operands`; of f64 where `wide`.
#[inline(always)]
pub(crate) fn rare(wide: bool, opcode: Opcode, operands: Kind, x: u64, y: u64) -> u64 {
    if wide && operands as u32 == Kind::F64 as u32 {
        return rare64(opcode, f64::from_bits(x), f64::from_bits(y)).to_bits();
    }
    rare32(opcode, f32::from_bits(x as u32), f32::from_bits(y as u32)).to_bits().into()
}

/// A function of f32 that is not common.
#[inline(always)]
fn rare32(opcode: Opcode, x: f32, y: f32) -> f32 {
    match opcode {
        Opcode::Sin | Opcode::Cos | Opcode::Tan => {
            let reduced = elementary::reduced(x);
            match opcode {
                Opcode::Sin => elementary::sin_of(x, reduced),
                Opcode::Cos => elementary::cos_of(reduced),
                _ => elementary::tan_of(x, reduced),
            }
        }
        Opcode::ExpM1 => elementary::expm1(x),
        Opcode::Log1p => elementary::log1p(x),
        Opcode::Asin => elementary::asin(x),
        Opcode::Acos => elementary::acos(x),
        Opcode::Atan => elementary::atan(x),
        Opcode::Sinh => elementary::sinh(x),
        Opcode::Cosh => elementary::cosh(x),
        Opcode::Asinh => elementary::asinh(x),
        Opcode::Acosh => elementary::acosh(x),
        Opcode::Atanh => elementary::atanh(x),
        Opcode::Rem => elementary::rem(x, y),
        _ => elementary::pow(x, y),
    }
}

/// A function of f64.
#[inline(always)]
fn rare64(opcode: Opcode, x: f64, y: f64) -> f64 {
    match opcode {
        Opcode::Exp => double::exp(x),
        Opcode::Sigmoid => 1.0 / (1.0 + double::exp(-x)),
        Opcode::Softplus => {
            let positive = if x < 0.0 { 0.0 } else { x };
            positive + double::log1p(double::exp(-x.abs()))
        }
        Opcode::Log1p => double::log1p(x),
        Opcode::Sin | Opcode::Cos | Opcode::Tan => {
            let (sine, cosine) = double::sin_cos(double::reduced(x));
            match opcode {
                Opcode::Sin => sine,
                Opcode::Cos => cosine,
                _ => sine / cosine,
            }
        }
        Opcode::Log => double::log(x),
        Opcode::ExpM1 => double::expm1(x),
        Opcode::Tanh => double::tanh(x),
        Opcode::Erf => double::erf(x),
        Opcode::Asin => double::asin(x),
        Opcode::Acos => double::acos(x),
        Opcode::Atan => double::atan(x),
        Opcode::Sinh => double::sinh(x),
        Opcode::Cosh => double::cosh(x),
        Opcode::Asinh => double::asinh(x),
        Opcode::Acosh => double::acosh(x),
        Opcode::Atanh => double::atanh(x),
        Opcode::Rem => double::rem(x, y),
        _ => double::pow(x, y),
    }
}
