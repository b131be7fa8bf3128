//! Element types of operands in memory. Registers hold f32 whatever an operand's type.

use crate::device::{BF16, F16, Float16, Plain};
use crate::dtype::DType;

/// Type of an operand's elements.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Element {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16.
    BF16,
}

impl Element {
    /// Bytes of one element.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }
}

impl From<Element> for DType {
    fn from(element: Element) -> Self {
        match element {
            Element::F32 => Self::F32,
            Element::F16 => Self::F16,
            Element::BF16 => Self::BF16,
        }
    }
}

/// A floating-point type that memory holds and registers widen.
pub trait Real: Plain {
    /// Its name among the element types.
    const ELEMENT: Element;
    /// The value as f32, exactly.
    fn widen(self) -> f32;
    /// The nearest value of the type, ties to even.
    fn narrow(value: f32) -> Self;
}

impl Real for f32 {
    const ELEMENT: Element = Element::F32;

    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    fn narrow(value: f32) -> Self {
        value
    }
}

impl Real for F16 {
    const ELEMENT: Element = Element::F16;

    #[inline(always)]
    fn widen(self) -> f32 {
        self.to_f32()
    }

    #[inline(always)]
    fn narrow(value: f32) -> Self {
        Self::from_f32(value)
    }
}

impl Real for BF16 {
    const ELEMENT: Element = Element::BF16;

    #[inline(always)]
    fn widen(self) -> f32 {
        self.to_f32()
    }

    #[inline(always)]
    fn narrow(value: f32) -> Self {
        Self::from_f32(value)
    }
}
