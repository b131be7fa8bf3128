//! The definition of every instruction: floats in f64 and rounded to the register's kind, integers in i128 and wrapped.

use super::value::{Bool, Float, Int, Value, held, rounded, wrap};
use crate::program::{Instruction, Kind, Opcode};

/// `base^exponent`, wrapped.
fn power(base: i128, exponent: i128, kind: Kind) -> i128 {
    if exponent < 0 {
        return match base {
            1 => 1,
            -1 => 1 - 2 * (exponent & 1),
            _ => 0,
        };
    }
    let (bits, signed) = (kind.dtype().bits() as u32, kind.dtype().is_signed_int());
    let (mut square, mut product) = (base, 1);
    for bit in 0..64 {
        if exponent >> bit & 1 != 0 {
            product = wrap(wrap(product, bits, signed).wrapping_mul(square), bits, signed);
        }
        square = wrap(square.wrapping_mul(square), bits, signed);
    }
    product
}

fn float(opcode: Opcode, a: f64, b: f64, c: f64, kind: Kind) -> f64 {
    match opcode {
        Opcode::Neg => -a,
        Opcode::Abs => a.abs(),
        Opcode::Sign => {
            if a == 0.0 || a.is_nan() {
                a
            } else {
                a.signum()
            }
        }
        Opcode::Sqrt => a.sqrt(),
        Opcode::Floor => a.floor(),
        Opcode::Ceil => a.ceil(),
        Opcode::Round => a.round_ties_even(),
        Opcode::Exp => a.exp(),
        Opcode::ExpM1 => a.exp_m1(),
        Opcode::Log => a.ln(),
        Opcode::Log1p => a.ln_1p(),
        Opcode::Sigmoid => 1.0 / (1.0 + (-a).exp()),
        Opcode::Tanh => a.tanh(),
        Opcode::Erf => libm::erf(a),
        Opcode::Softplus => {
            if a > 0.0 {
                a + (-a).exp().ln_1p()
            } else {
                a.exp().ln_1p()
            }
        }
        Opcode::Sin => a.sin(),
        Opcode::Cos => a.cos(),
        Opcode::Tan => a.tan(),
        Opcode::Asin => a.asin(),
        Opcode::Acos => a.acos(),
        Opcode::Atan => a.atan(),
        Opcode::Sinh => a.sinh(),
        Opcode::Cosh => a.cosh(),
        Opcode::Asinh => a.abs().asinh().copysign(a),
        Opcode::Acosh => a.acosh(),
        Opcode::Atanh => a.abs().atanh().copysign(a),
        Opcode::Add => a + b,
        Opcode::Sub => a - b,
        Opcode::Mul => a * b,
        Opcode::Div => a / b,
        Opcode::Rem => a % b,
        Opcode::Min | Opcode::Max if a.is_nan() || b.is_nan() => f64::NAN,
        Opcode::Min => {
            if a < b {
                a
            } else {
                b
            }
        }
        Opcode::Max => {
            if a > b {
                a
            } else {
                b
            }
        }
        Opcode::Pow => a.powf(b),
        Opcode::MulAdd if kind == Kind::F32 => (a as f32).mul_add(b as f32, c as f32).into(),
        Opcode::MulAdd => a.mul_add(b, c),
        other => panic!("{other} of floats"),
    }
}

fn int(opcode: Opcode, a: i128, b: i128, kind: Kind) -> i128 {
    let inside = (0..kind.dtype().bits() as i128).contains(&b);
    match opcode {
        Opcode::Neg => -a,
        Opcode::Abs => a.abs(),
        Opcode::Sign => a.signum(),
        Opcode::Not => !a,
        Opcode::Add => a + b,
        Opcode::Sub => a - b,
        Opcode::Mul => a.wrapping_mul(b),
        Opcode::Div => {
            if b == 0 {
                0
            } else {
                a / b
            }
        }
        Opcode::Rem => {
            if b == 0 {
                0
            } else {
                a % b
            }
        }
        Opcode::Min => a.min(b),
        Opcode::Max => a.max(b),
        Opcode::Pow => power(a, b, kind),
        Opcode::And => a & b,
        Opcode::Or => a | b,
        Opcode::Xor => a ^ b,
        Opcode::Shl => {
            if inside {
                a << b
            } else {
                0
            }
        }
        Opcode::Shr => {
            if inside {
                a >> b
            } else {
                0
            }
        }
        other => panic!("{other} of integers"),
    }
}

fn convert(value: Value, to: Kind) -> Value {
    match (value, to) {
        (Float(v), Kind::F32) => Float((v as f32).into()),
        (Float(v), Kind::F64) => Float(v),
        (Float(v), Kind::I32) => Int((v as i32).into()),
        (Float(v), Kind::I64) => Int((v as i64).into()),
        (Float(v), Kind::U64) => Int((v as u64).into()),
        (Float(v), Kind::Bool) => Bool(v != 0.0),
        (Int(v), Kind::F32) => Float((v as f32).into()),
        (Int(v), Kind::F64) => Float(v as f64),
        (Int(v), Kind::Bool) => Bool(v != 0),
        (Int(v), _) => rounded(to, Int(v)),
        (Bool(v), Kind::F32 | Kind::F64) => Float(v.into()),
        (Bool(v), Kind::Bool) => Bool(v),
        (Bool(v), _) => Int(v.into()),
    }
}

/// The register that an instruction makes of its operands.
pub(super) fn evaluate(instruction: &Instruction, args: &[Value]) -> Value {
    let Instruction { opcode, kind, dtype, .. } = *instruction;
    if opcode.is_comparison() {
        let order = match (args[0], args[1]) {
            (Float(a), Float(b)) => a.partial_cmp(&b),
            (Int(a), Int(b)) => Some(a.cmp(&b)),
            (Bool(a), Bool(b)) => Some(a.cmp(&b)),
            other => panic!("{other:?}"),
        };
        return Bool(order.is_some_and(|order| match opcode {
            Opcode::Eq => order.is_eq(),
            Opcode::Lt => order.is_lt(),
            _ => order.is_le(),
        }));
    }
    let result = match (opcode, args) {
        (Opcode::Select, [Bool(condition), a, b]) => {
            if *condition {
                *a
            } else {
                *b
            }
        }
        (Opcode::Convert, [x]) => convert(*x, kind),
        (Opcode::Narrow, [x]) => held(dtype, *x),
        (Opcode::RoundToOdd, [Float(x)]) => {
            let nearest = *x as f32;
            let exact = f64::from(nearest) == *x || !x.is_finite();
            let down = f32::from_bits(nearest.to_bits() - u32::from(f64::from(nearest).abs() > x.abs()));
            Float(if exact { nearest.into() } else { f32::from_bits(down.to_bits() | 1).into() })
        }
        (Opcode::Not, [Bool(x)]) => Bool(!x),
        (Opcode::And, [Bool(a), Bool(b)]) => Bool(*a && *b),
        (Opcode::Or, [Bool(a), Bool(b)]) => Bool(*a || *b),
        (Opcode::Xor, [Bool(a), Bool(b)]) => Bool(a != b),
        (_, [Float(a)]) => Float(float(opcode, *a, 0.0, 0.0, kind)),
        (_, [Float(a), Float(b)]) => Float(float(opcode, *a, *b, 0.0, kind)),
        (_, [Float(a), Float(b), Float(c)]) => Float(float(opcode, *a, *b, *c, kind)),
        (_, [Int(a)]) => Int(int(opcode, *a, 0, kind)),
        (_, [Int(a), Int(b)]) => Int(int(opcode, *a, *b, kind)),
        other => panic!("{other:?}"),
    };
    rounded(kind, result)
}
