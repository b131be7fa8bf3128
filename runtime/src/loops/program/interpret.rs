//! Programs computed element by element: what every executor is judged by, and what folds constants.
//!
//! Floats are computed in f64 and rounded to the register's kind after each instruction, integers in i128 and
//! wrapped. For `f32` registers a sum, product, quotient and square root rounded twice in this way is the one
//! rounded once.

#[cfg(test)]
use super::Program;
use super::{Instruction, Kind, Opcode};
use crate::dtype::{DType, nearest_bf16, nearest_f16, rounded_to_odd};
use half::{bf16, f16};

/// The value of a register.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Value {
    Float(f64),
    Int(i128),
    Bool(bool),
}

impl Value {
    /// This value in `kind`: floats round, integers wrap, floats become integers by truncation and saturation.
    pub(crate) fn to(self, kind: Kind) -> Self {
        let float = |v: f64| match kind {
            Kind::F32 => Self::Float(f64::from(v as f32)),
            _ => Self::Float(v),
        };
        match (self, kind) {
            (Self::Float(v), Kind::F32 | Kind::F64) => float(v),
            (Self::Int(v), Kind::F32) => Self::Float(f64::from(v as f32)),
            (Self::Int(v), Kind::F64) => Self::Float(v as f64),
            (Self::Bool(v), Kind::F32 | Kind::F64) => Self::Float(v.into()),
            (Self::Float(v), Kind::I32) => Self::Int((v as i32).into()),
            (Self::Float(v), Kind::I64) => Self::Int((v as i64).into()),
            (Self::Float(v), Kind::U64) => Self::Int((v as u64).into()),
            (Self::Int(v), Kind::I32) => Self::Int((v as i32).into()),
            (Self::Int(v), Kind::I64) => Self::Int((v as i64).into()),
            (Self::Int(v), Kind::U64) => Self::Int((v as u64).into()),
            (Self::Bool(v), Kind::I32 | Kind::I64 | Kind::U64) => Self::Int(v.into()),
            (Self::Float(v), Kind::Bool) => Self::Bool(v != 0.0),
            (Self::Int(v), Kind::Bool) => Self::Bool(v != 0),
            (Self::Bool(v), Kind::Bool) => Self::Bool(v),
        }
    }

    /// A constant's bits.
    pub(super) fn bits(self, kind: Kind) -> u64 {
        match (self, kind) {
            (Self::Float(v), Kind::F32) => (v as f32).to_bits().into(),
            (Self::Float(v), _) => v.to_bits(),
            (Self::Int(v), Kind::I32) => (v as i32 as u32).into(),
            (Self::Int(v), _) => v as u64,
            (Self::Bool(v), _) => v.into(),
        }
    }

    /// The value of a constant's bits.
    pub(super) fn from_bits(kind: Kind, bits: u64) -> Self {
        match kind {
            Kind::F32 => Self::Float(f32::from_bits(bits as u32).into()),
            Kind::F64 => Self::Float(f64::from_bits(bits)),
            Kind::I32 => Self::Int((bits as i32).into()),
            Kind::I64 => Self::Int((bits as i64).into()),
            Kind::U64 => Self::Int(bits.into()),
            Kind::Bool => Self::Bool(bits != 0),
        }
    }

    /// The value nearest to this one, or congruent to it, that `dtype` holds.
    fn narrow(self, dtype: DType) -> Self {
        match (self, dtype) {
            (Self::Float(v), DType::F16) => Self::Float(nearest_f16(v).into()),
            (Self::Float(v), DType::BF16) => Self::Float(nearest_bf16(v).into()),
            (Self::Int(v), DType::I8) => Self::Int((v as i8).into()),
            (Self::Int(v), DType::I16) => Self::Int((v as i16).into()),
            (Self::Int(v), DType::U8) => Self::Int((v as u8).into()),
            (Self::Int(v), DType::U16) => Self::Int((v as u16).into()),
            (Self::Int(v), DType::U32) => Self::Int((v as u32).into()),
            _ => self,
        }
    }
}

/// What `instruction` makes of `arguments`; `None` where they do not fit it.
pub(super) fn evaluate(instruction: &Instruction, arguments: &[Value]) -> Option<Value> {
    let raw = match (instruction.opcode, arguments) {
        (Opcode::Narrow, &[x]) => x.narrow(instruction.dtype),
        (Opcode::Convert, &[x]) => x,
        (Opcode::RoundToOdd, &[Value::Float(x)]) => Value::Float(rounded_to_odd(x).into()),
        (Opcode::Select, &[Value::Bool(condition), a, b]) => {
            if condition {
                a
            } else {
                b
            }
        }
        (Opcode::MulAdd, &[Value::Float(a), Value::Float(b), Value::Float(c)]) => {
            Value::Float(a.mul_add(b, c))
        }
        (opcode, &[Value::Float(x)]) => Value::Float(float(opcode, x)?),
        (opcode, &[Value::Int(x)]) => Value::Int(match opcode {
            Opcode::Neg => -x,
            Opcode::Abs => x.abs(),
            Opcode::Sign => x.signum(),
            Opcode::Not => !x,
            _ => return None,
        }),
        (Opcode::Not, &[Value::Bool(x)]) => Value::Bool(!x),
        (opcode, &[a, b]) if opcode.is_comparison() => Value::Bool(compare(opcode, a, b)?),
        (opcode, &[Value::Float(a), Value::Float(b)]) => Value::Float(float_pair(opcode, a, b)?),
        (opcode, &[Value::Int(a), Value::Int(b)]) => Value::Int(int_pair(opcode, instruction.kind, a, b)?),
        (opcode, &[Value::Bool(a), Value::Bool(b)]) => Value::Bool(match opcode {
            Opcode::And => a && b,
            Opcode::Or => a || b,
            Opcode::Xor => a != b,
            _ => return None,
        }),
        _ => return None,
    };
    Some(raw.to(instruction.kind))
}

fn float(opcode: Opcode, x: f64) -> Option<f64> {
    Some(match opcode {
        Opcode::Neg => -x,
        Opcode::Abs => x.abs(),
        Opcode::Sign if x == 0.0 || x.is_nan() => x,
        Opcode::Sign => 1f64.copysign(x),
        Opcode::Sqrt => x.sqrt(),
        Opcode::Floor => x.floor(),
        Opcode::Ceil => x.ceil(),
        Opcode::Round => x.round_ties_even(),
        Opcode::Exp => x.exp(),
        Opcode::ExpM1 => x.exp_m1(),
        Opcode::Log => x.ln(),
        Opcode::Log1p => x.ln_1p(),
        Opcode::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Opcode::Tanh => x.tanh(),
        Opcode::Erf => libm::erf(x),
        Opcode::Softplus if x > 0.0 => x + (-x).exp().ln_1p(),
        Opcode::Softplus => x.exp().ln_1p(),
        Opcode::Sin => x.sin(),
        Opcode::Cos => x.cos(),
        Opcode::Tan => x.tan(),
        Opcode::Asin => x.asin(),
        Opcode::Acos => x.acos(),
        Opcode::Atan => x.atan(),
        Opcode::Sinh => x.sinh(),
        Opcode::Cosh => x.cosh(),
        Opcode::Asinh => x.abs().asinh().copysign(x),
        Opcode::Acosh => x.acosh(),
        Opcode::Atanh => x.abs().atanh().copysign(x),
        _ => return None,
    })
}

fn float_pair(opcode: Opcode, a: f64, b: f64) -> Option<f64> {
    let nan = a.is_nan() || b.is_nan();
    Some(match opcode {
        Opcode::Add => a + b,
        Opcode::Sub => a - b,
        Opcode::Mul => a * b,
        Opcode::Div => a / b,
        Opcode::Rem => a % b,
        Opcode::Min | Opcode::Max if nan => f64::NAN,
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
        _ => return None,
    })
}

fn int_pair(opcode: Opcode, kind: Kind, a: i128, b: i128) -> Option<i128> {
    let width = if kind == Kind::I32 { 32 } else { 64 };
    let inside = (0..width).contains(&b);
    Some(match opcode {
        Opcode::Add => a + b,
        Opcode::Sub => a - b,
        // Congruent modulo 2⁶⁴, whatever wraps in between.
        Opcode::Mul => a.wrapping_mul(b),
        Opcode::Div | Opcode::Rem if b == 0 => 0,
        Opcode::Div => a / b,
        Opcode::Rem => a % b,
        Opcode::Min => a.min(b),
        Opcode::Max => a.max(b),
        Opcode::Pow => power(a, b),
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
        _ => return None,
    })
}

/// `base^exponent` modulo 2¹²⁸, truncated toward zero for negative exponents; 0⁻ⁿ is 0.
fn power(base: i128, exponent: i128) -> i128 {
    if exponent < 0 {
        return match base {
            1 => 1,
            -1 if exponent % 2 == 0 => 1,
            -1 => -1,
            _ => 0,
        };
    }
    let (mut base, mut exponent, mut product) = (base, exponent, 1i128);
    while exponent > 0 {
        if exponent & 1 == 1 {
            product = product.wrapping_mul(base);
        }
        base = base.wrapping_mul(base);
        exponent >>= 1;
    }
    product
}

fn compare(opcode: Opcode, a: Value, b: Value) -> Option<bool> {
    let order = match (a, b) {
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(&b),
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(&b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(&b)),
        _ => return None,
    };
    Some(match opcode {
        Opcode::Eq => order.is_some_and(std::cmp::Ordering::is_eq),
        Opcode::Lt => order.is_some_and(std::cmp::Ordering::is_lt),
        _ => order.is_some_and(std::cmp::Ordering::is_le),
    })
}

/// Element `index` of a tensor's bytes.
pub(crate) fn read(dtype: DType, bytes: &[u8], index: usize) -> Value {
    fn at<T: bytemuck::AnyBitPattern>(bytes: &[u8], index: usize) -> T {
        let size = size_of::<T>();
        bytemuck::pod_read_unaligned(&bytes[index * size..(index + 1) * size])
    }
    match dtype {
        DType::F32 => Value::Float(at::<f32>(bytes, index).into()),
        DType::F64 => Value::Float(at(bytes, index)),
        DType::F16 => Value::Float(at::<f16>(bytes, index).into()),
        DType::BF16 => Value::Float(at::<bf16>(bytes, index).into()),
        DType::I8 => Value::Int(at::<i8>(bytes, index).into()),
        DType::I16 => Value::Int(at::<i16>(bytes, index).into()),
        DType::I32 => Value::Int(at::<i32>(bytes, index).into()),
        DType::I64 => Value::Int(at::<i64>(bytes, index).into()),
        DType::U8 => Value::Int(at::<u8>(bytes, index).into()),
        DType::U16 => Value::Int(at::<u16>(bytes, index).into()),
        DType::U32 => Value::Int(at::<u32>(bytes, index).into()),
        DType::U64 => Value::Int(at::<u64>(bytes, index).into()),
        _ => Value::Bool(at::<u8>(bytes, index) != 0),
    }
}

/// Stores `value` as element `index` of a tensor's bytes.
#[cfg(test)]
pub(crate) fn write(dtype: DType, bytes: &mut [u8], index: usize, value: Value) {
    let size = dtype.bits() / 8;
    let place = &mut bytes[index * size..(index + 1) * size];
    let float = || match value {
        Value::Float(v) => v,
        _ => f64::NAN,
    };
    match (dtype, value) {
        (DType::F32, _) => place.copy_from_slice(&(float() as f32).to_ne_bytes()),
        (DType::F64, _) => place.copy_from_slice(&float().to_ne_bytes()),
        (DType::F16, _) => place.copy_from_slice(&nearest_f16(float()).to_ne_bytes()),
        (DType::BF16, _) => place.copy_from_slice(&nearest_bf16(float()).to_ne_bytes()),
        (_, Value::Int(v)) => place.copy_from_slice(&v.to_le_bytes()[..size]),
        (_, Value::Bool(v)) => place.copy_from_slice(&[v.into()]),
        _ => {}
    }
}

/// What `program` stores for one element of each input.
#[cfg(test)]
pub(crate) fn interpret(program: &Program, inputs: &[Value]) -> Vec<Value> {
    let mut registers: Vec<Value> = Vec::new();
    for instruction in program.instructions() {
        let first = instruction.arguments[0] as usize;
        let value = match instruction.opcode {
            Opcode::Input => inputs[first],
            Opcode::Constant => Value::from_bits(instruction.kind, program.constant(first)),
            _ => {
                let arguments: Vec<Value> = instruction.registers().map(|r| registers[r]).collect();
                evaluate(instruction, &arguments).expect("a validated program")
            }
        };
        registers.push(value);
    }
    program.outputs().iter().map(|o| registers[o.register].narrow(o.dtype)).collect()
}
