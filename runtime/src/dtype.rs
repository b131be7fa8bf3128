//! The Rust types that hold elements of tensors, and classes of element types.

use bytemuck::{Pod, Zeroable};
use std::fmt;

pub use recurve_kernels::dtype::DType;

/// Every type that operators compute on or move, ordered so that each class of them is a range.
const CLASSES: [DType; 26] = [
    DType::F6E2M3,
    DType::F6E3M2,
    DType::F8E4M3FN,
    DType::F8E4M3FNUZ,
    DType::F8E5M2,
    DType::F8E5M2FNUZ,
    DType::F8E8M0,
    DType::F4E2M1,
    DType::U4,
    DType::I4,
    DType::U2,
    DType::I2,
    DType::F32,
    DType::F64,
    DType::F16,
    DType::BF16,
    DType::I8,
    DType::I16,
    DType::I32,
    DType::I64,
    DType::U8,
    DType::U16,
    DType::U32,
    DType::U64,
    DType::Bool,
    DType::String,
];

const fn class(from: usize, to: usize) -> &'static [DType] {
    CLASSES.split_at(to).0.split_at(from).1
}

/// The four floating types that operators compute on.
pub(crate) const FLOATS: &[DType] = class(12, 16);
/// Floats and signed integers.
pub(crate) const SIGNED: &[DType] = class(12, 20);
/// The eight integer types that operators compute on.
pub(crate) const INTS: &[DType] = class(16, 24);
/// Floats and integers.
pub(crate) const NUMBERS: &[DType] = class(12, 24);
/// Numbers and `bool`: every type that data movement and control flow carry.
pub(crate) const NUMBERS_AND_BOOL: &[DType] = class(12, 25);
/// Numbers, `bool` and text: what operators take that only move elements.
pub(crate) const MOVABLE: &[DType] = class(12, 26);
/// Every type of numbers, packed ones included, and `bool`: what can be cast.
pub(crate) const CASTABLE: &[DType] = class(0, 25);
/// What can be cast to the type of another tensor: no float of 6 bits.
pub(crate) const CASTABLE_LIKE: &[DType] = class(2, 25);

/// Truth value as stored in a tensor: a byte, any non-zero value of which is true.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(transparent)]
pub struct Bool(u8);

impl Bool {
    /// Stores `value`.
    pub const fn new(value: bool) -> Self {
        Self(value as u8)
    }

    /// The stored truth value.
    pub const fn get(self) -> bool {
        self.0 != 0
    }
}

impl PartialEq for Bool {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl PartialOrd for Bool {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.get().partial_cmp(&other.get())
    }
}

impl fmt::Debug for Bool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl From<bool> for Bool {
    fn from(value: bool) -> Self {
        Self::new(value)
    }
}

/// A Rust type that is the element of a tensor.
pub trait Element: Pod + PartialEq + PartialOrd + Default + fmt::Debug + Send + Sync {
    /// The tensor's element type.
    const DTYPE: DType;
}

macro_rules! element {
    ($($rust:ty => $dtype:ident),*) => { $(impl Element for $rust { const DTYPE: DType = DType::$dtype; })* };
}

element!(f32 => F32, f64 => F64, half::f16 => F16, half::bf16 => BF16, i8 => I8, i16 => I16, i32 => I32,
         i64 => I64, u8 => U8, u16 => U16, u32 => U32, u64 => U64, Bool => Bool);

/// `v` cut to the precision of `f32`, with the last bit set where anything was cut off: rounded again to half the
/// precision or less, it is what `v` itself rounds to.
pub(crate) fn rounded_to_odd(v: f64) -> f32 {
    let nearest = v as f32;
    let wide = f64::from(nearest);
    if wide == v || v.is_nan() {
        return nearest;
    }
    let cut = nearest.to_bits() - u32::from(wide.abs() > v.abs());
    f32::from_bits(cut | 1)
}

/// The `f16` nearest to `v`, of two the even one. (The conversion of `half` rounds the upper half of `v`'s bits.)
pub(crate) fn nearest_f16(v: f64) -> half::f16 {
    half::f16::from_f32(rounded_to_odd(v))
}

/// The `bf16` nearest to `v`, of two the even one.
pub(crate) fn nearest_bf16(v: f64) -> half::bf16 {
    half::bf16::from_f32(rounded_to_odd(v))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Between each two neighbours lies a number that rounds to the even one, and next to it those that do not.
    #[test]
    fn sixteen_bits_are_the_nearest() {
        let middle = |a: f64, b: f64, round: &dyn Fn(f64) -> f64, even: f64| {
            let half = f64::midpoint(a, b);
            assert_eq!(round(half), even, "{half:e}");
            assert_eq!((round(half.next_down()), round(half.next_up())), (a, b), "{half:e}");
            assert_eq!((round(-half), round(-half.next_up())), (-even, -b), "{half:e}");
        };
        for bits in 0..half::bf16::MAX.to_bits() {
            let [a, b] = [bits, bits + 1].map(|bits| half::bf16::from_bits(bits).to_f64());
            middle(a, b, &|v| nearest_bf16(v).to_f64(), if bits % 2 == 0 { a } else { b });
        }
        for bits in 0..half::f16::MAX.to_bits() {
            let [a, b] = [bits, bits + 1].map(|bits| half::f16::from_bits(bits).to_f64());
            middle(a, b, &|v| nearest_f16(v).to_f64(), if bits % 2 == 0 { a } else { b });
        }
        assert_eq!(nearest_bf16(1e300), half::bf16::INFINITY);
        assert_eq!(nearest_f16(-65_520.0), half::f16::NEG_INFINITY);
        assert!(nearest_f16(f64::NAN).is_nan() && nearest_bf16(f64::NAN).is_nan());
    }

    #[test]
    fn classes_are_what_they_are_called() {
        assert!(FLOATS.iter().all(|d| d.is_float()) && FLOATS.len() == 4);
        assert!(INTS.iter().all(|d| d.is_int()) && INTS.len() == 8);
        assert!(SIGNED.iter().all(|d| d.is_float() || d.is_signed_int()) && SIGNED.len() == 8);
        assert!(NUMBERS.iter().all(|d| d.is_float() || d.is_int()) && NUMBERS.len() == 12);
        assert_eq!(NUMBERS_AND_BOOL.last(), Some(&DType::Bool));
        assert_eq!(MOVABLE.last(), Some(&DType::String));
        assert!(CASTABLE_LIKE.iter().all(|d| d.bits() != 6) && CASTABLE_LIKE.len() + 2 == CASTABLE.len());
        assert!(NUMBERS_AND_BOOL.iter().all(|d| CASTABLE.contains(d)) && !CASTABLE.contains(&DType::String));
    }
}
