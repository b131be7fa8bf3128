//! Programs of scalar expressions as data: what the runtime composes and the kernels interpret.
//!
//! A program is a list of instructions, each of which makes one register from registers before it. Registers hold one of
//! a few [`Kind`]s; 16-bit floats are `f32` registers and narrow integers wider ones, and [`Opcode::Narrow`] gives a
//! register the values of its narrower type where that matters.
//!
//! Arithmetic: integers wrap, division and remainder by zero are zero, shifts by the width or more give zero. Minimum and
//! maximum of floats are NaN where either operand is, and the second operand where both are equal. Comparisons with NaN
//! are false.

use crate::dtype::DType;
use core::fmt::{self, Write};

/// What a register holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Binary32; also what `f16` and `bf16` are computed in.
    F32,
    /// Binary64.
    F64,
    /// 32-bit integer; also what 8- and 16-bit integers are computed in.
    I32,
    /// Signed 64-bit integer; also what `u32` is computed in.
    I64,
    /// Unsigned 64-bit integer.
    U64,
    /// Truth value.
    Bool,
}

impl Kind {
    /// The kind in which elements of `dtype` are computed; `None` for types that no program handles.
    pub fn of(dtype: DType) -> Option<Self> {
        match dtype {
            DType::F32 | DType::F16 | DType::BF16 => Some(Self::F32),
            DType::F64 => Some(Self::F64),
            DType::I8 | DType::I16 | DType::I32 | DType::U8 | DType::U16 => Some(Self::I32),
            DType::I64 | DType::U32 => Some(Self::I64),
            DType::U64 => Some(Self::U64),
            DType::Bool => Some(Self::Bool),
            _ => None,
        }
    }

    /// The storage type of the same values.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F64 => DType::F64,
            Self::I32 => DType::I32,
            Self::I64 => DType::I64,
            Self::U64 => DType::U64,
            Self::Bool => DType::Bool,
        }
    }

    /// Whether it holds floats.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }

    /// Whether it holds integers.
    pub fn is_int(self) -> bool {
        matches!(self, Self::I32 | Self::I64 | Self::U64)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::U64 => "u64",
            Self::Bool => "bool",
        })
    }
}

/// What an instruction does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Opcode {
    /// The element of an input; argument 0 is its number, `dtype` its storage type.
    Input,
    /// A constant; argument 0 is its number.
    Constant,
    /// To the values of `dtype` in the same kind: rounds floats to 16 bits, wraps integers.
    Narrow,
    /// To another kind. Floats to integers truncate and saturate, NaN is 0; to `bool`, what is not zero is true.
    Convert,
    /// `−x`.
    Neg,
    /// `|x|`.
    Abs,
    /// −1, 0 or 1; NaN of NaN, and zeros keep their sign.
    Sign,
    /// Bitwise or logical complement.
    Not,
    /// The square root.
    Sqrt,
    /// The nearest integer not above.
    Floor,
    /// The nearest integer not below.
    Ceil,
    /// To the nearest integer, halves to the even one.
    Round,
    /// `e^x`.
    Exp,
    /// `e^x − 1`.
    ExpM1,
    /// The natural logarithm.
    Log,
    /// `ln(1 + x)`.
    Log1p,
    /// `1 / (1 + e^−x)`.
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// The error function.
    Erf,
    /// `ln(1 + e^x)`.
    Softplus,
    /// The sine.
    Sin,
    /// The cosine.
    Cos,
    /// The tangent.
    Tan,
    /// The inverse sine.
    Asin,
    /// The inverse cosine.
    Acos,
    /// The inverse tangent.
    Atan,
    /// The hyperbolic sine.
    Sinh,
    /// The hyperbolic cosine.
    Cosh,
    /// The inverse hyperbolic sine.
    Asinh,
    /// The inverse hyperbolic cosine.
    Acosh,
    /// The inverse hyperbolic tangent.
    Atanh,
    /// `a + b`.
    Add,
    /// `a − b`.
    Sub,
    /// `a · b`.
    Mul,
    /// `a / b`.
    Div,
    /// What truncating division leaves; it has the sign of the first operand.
    Rem,
    /// The smaller one.
    Min,
    /// The larger one.
    Max,
    /// `a^b`.
    Pow,
    /// Bitwise or logical and.
    And,
    /// Bitwise or logical or.
    Or,
    /// Bitwise or logical exclusive or.
    Xor,
    /// `a · 2^b`.
    Shl,
    /// Arithmetic for signed kinds, logical for `u64`.
    Shr,
    /// Equal.
    Eq,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Argument 1 where argument 0 is true, else argument 2.
    Select,
    /// `f64` to `f32`, where it is not exact to the neighbour whose last bit is set, so that a second rounding to
    /// fewer bits is as good as one.
    RoundToOdd,
    /// `a · b + c`; rounded once or twice, as the instruction set has it.
    MulAdd,
}

impl Opcode {
    /// Every opcode, in the order of their codes.
    pub const ALL: [Self; 50] = [
        Self::Input,
        Self::Constant,
        Self::Narrow,
        Self::Convert,
        Self::Neg,
        Self::Abs,
        Self::Sign,
        Self::Not,
        Self::Sqrt,
        Self::Floor,
        Self::Ceil,
        Self::Round,
        Self::Exp,
        Self::ExpM1,
        Self::Log,
        Self::Log1p,
        Self::Sigmoid,
        Self::Tanh,
        Self::Erf,
        Self::Softplus,
        Self::Sin,
        Self::Cos,
        Self::Tan,
        Self::Asin,
        Self::Acos,
        Self::Atan,
        Self::Sinh,
        Self::Cosh,
        Self::Asinh,
        Self::Acosh,
        Self::Atanh,
        Self::Add,
        Self::Sub,
        Self::Mul,
        Self::Div,
        Self::Rem,
        Self::Min,
        Self::Max,
        Self::Pow,
        Self::And,
        Self::Or,
        Self::Xor,
        Self::Shl,
        Self::Shr,
        Self::Eq,
        Self::Lt,
        Self::Le,
        Self::Select,
        Self::RoundToOdd,
        Self::MulAdd,
    ];

    /// Number of register arguments.
    pub fn arity(self) -> usize {
        match self {
            Self::Input | Self::Constant => 0,
            Self::Select | Self::MulAdd => 3,
            _ if self.is_binary() => 2,
            _ => 1,
        }
    }

    /// Whether it is a transcendental function, some fifteen operations of a vector.
    pub fn is_function(self) -> bool {
        use Opcode as O;
        matches!(
            self,
            O::Exp
                | O::ExpM1
                | O::Log
                | O::Log1p
                | O::Sigmoid
                | O::Tanh
                | O::Erf
                | O::Softplus
                | O::Sin
                | O::Cos
                | O::Tan
                | O::Asin
                | O::Acos
                | O::Atan
                | O::Sinh
                | O::Cosh
                | O::Asinh
                | O::Acosh
                | O::Atanh
        )
    }

    /// Whether it takes two registers of one kind.
    pub fn is_binary(self) -> bool {
        matches!(
            self,
            Self::Add
                | Self::Sub
                | Self::Mul
                | Self::Div
                | Self::Rem
                | Self::Min
                | Self::Max
                | Self::Pow
                | Self::And
                | Self::Or
                | Self::Xor
                | Self::Shl
                | Self::Shr
        ) || self.is_comparison()
    }

    /// Whether it gives truth values.
    pub fn is_comparison(self) -> bool {
        matches!(self, Self::Eq | Self::Lt | Self::Le)
    }

    /// Whether its two arguments may change places without changing a bit.
    pub fn is_commutative(self) -> bool {
        matches!(self, Self::Add | Self::Mul | Self::And | Self::Or | Self::Xor | Self::Eq)
    }

    /// Whether it computes on `kind`.
    pub fn takes(self, kind: Kind) -> bool {
        match self {
            Self::Input | Self::Constant | Self::Convert | Self::Select => true,
            Self::Narrow => kind != Kind::Bool,
            Self::Not | Self::And | Self::Or | Self::Xor => !kind.is_float(),
            Self::Shl | Self::Shr | Self::Rem if kind.is_int() => true,
            Self::Shl | Self::Shr => false,
            Self::Eq => true,
            Self::Add | Self::Sub | Self::Mul | Self::Div | Self::Rem | Self::Min | Self::Max => {
                kind != Kind::Bool
            }
            Self::Neg | Self::Abs | Self::Sign => kind != Kind::Bool,
            Self::Lt | Self::Le => true,
            Self::Pow => kind != Kind::Bool,
            Self::RoundToOdd => kind == Kind::F64,
            _ => kind.is_float(),
        }
    }
}

impl fmt::Display for Opcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Lowercase(f), "{self:?}")
    }
}

/// Writes in lower case.
struct Lowercase<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for Lowercase<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| self.0.write_char(c.to_ascii_lowercase()))
    }
}

/// One instruction; the register that it makes has the number of its place in the program.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(C)]
pub struct Instruction {
    /// What it does.
    pub opcode: Opcode,
    /// The kind of the register that it makes.
    pub kind: Kind,
    /// The kind of its operands: of the last one for [`Opcode::Select`]; equal to `kind` where it has none.
    pub operands: Kind,
    /// Storage type of an input, target of [`Opcode::Narrow`]; the kind's own type otherwise.
    pub dtype: DType,
    /// Registers before this one, or the number of an input or constant; 0 where unused.
    pub arguments: [u32; 3],
}

impl Instruction {
    /// The registers that it reads.
    pub fn registers(&self) -> impl Iterator<Item = usize> + '_ {
        self.arguments[..self.opcode.arity()].iter().map(|&r| r as usize)
    }
}

/// The variant of a code, its number as `u32`; the compiler makes nothing but a comparison of it.
macro_rules! from_code {
    ($t:ident: $($variant:ident)*; else $otherwise:ident) => {
        impl $t {
            /// The variant that `as u32` gives this number for; another one where there is none.
            #[inline(always)]
            pub fn from_code(code: u32) -> Self {
                $( if code == Self::$variant as u32 { return Self::$variant; } )*
                Self::$otherwise
            }
        }
    };
}

from_code!(Kind: F32 F64 I32 I64 U64 Bool; else F32);
from_code!(DType: F32 F64 F16 BF16 I8 I16 I32 I64 U8 U16 U32 U64 Bool; else F32);
from_code!(Opcode: Input Constant Narrow Convert Neg Abs Sign Not Sqrt Floor Ceil Round Exp ExpM1 Log Log1p Sigmoid Tanh Erf Softplus Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh Add Sub Mul Div Rem Min Max Pow And Or Xor Shl Shr Eq Lt Le Select RoundToOdd MulAdd; else Neg);
