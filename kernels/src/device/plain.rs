//! Values that memory holds: 1 to 16 bytes, every bit pattern valid, no padding.

use super::float16::{BF16, F16};

/// A value that can be loaded and stored as a whole, aligned to its size.
pub trait Plain: Copy + Send + Sync + Sealed + 'static {
    /// The value whose little-endian bytes are the low ones of `bits`.
    fn from_bits(bits: u128) -> Self;
    /// Its bytes in the low ones of the result, the others zero.
    fn to_bits(self) -> u128;
}

/// Only this file makes types plain: the accessors rely on size, alignment and the lack of padding.
pub trait Sealed {}

/// `N` values in 8 or 16 bytes that one instruction loads or stores.
#[derive(Clone, Copy, PartialEq, Debug)]
#[repr(C, align(16))]
pub struct Vector<T, const N: usize>(pub [T; N]);

macro_rules! integer {
    ($($t:ty),*) => { $(
        impl Sealed for $t {}
        impl Plain for $t {
            #[inline(always)]
            fn from_bits(bits: u128) -> Self { bits as $t }
            #[inline(always)]
            fn to_bits(self) -> u128 { (self as u128) & (u128::MAX >> (128 - <$t>::BITS)) }
        }
    )* };
}

integer!(u8, i8, u16, i16, u32, i32, u64, i64);

macro_rules! float {
    ($($t:ty: $bits:ty),*) => { $(
        impl Sealed for $t {}
        impl Plain for $t {
            #[inline(always)]
            fn from_bits(bits: u128) -> Self { <$t>::from_bits(bits as $bits) }
            #[inline(always)]
            fn to_bits(self) -> u128 { <$t>::to_bits(self).into() }
        }
    )* };
}

float!(f32: u32, f64: u64, F16: u16, BF16: u16);

macro_rules! vector {
    ($($t:ty, $n:literal);*) => { $(
        impl Sealed for Vector<$t, $n> {}
        impl Plain for Vector<$t, $n> {
            #[inline(always)]
            fn from_bits(bits: u128) -> Self {
                let width = 128 / $n;
                let mut values = [<$t as Plain>::from_bits(0); $n];
                for (i, value) in values.iter_mut().enumerate() {
                    *value = <$t as Plain>::from_bits(bits >> (i * width));
                }
                Self(values)
            }
            #[inline(always)]
            fn to_bits(self) -> u128 {
                let width = 128 / $n;
                self.0.iter().rev().fold(0, |bits, value| (bits << width) | Plain::to_bits(*value))
            }
        }
    )* };
}

vector!(f32, 4; u32, 4; i32, 4; F16, 8; BF16, 8; u16, 8; i16, 8; u8, 16; i8, 16; f64, 2; u64, 2; i64, 2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_the_little_endian_bytes() {
        assert_eq!((-2i8).to_bits(), 0xfe);
        assert_eq!(<i16 as Plain>::from_bits(0xffff_8000), i16::MIN);
        assert_eq!(Plain::to_bits(1.0f32), 0x3f80_0000);
        let four = Vector([1u32, 2, 3, 4]);
        assert_eq!(four.to_bits() as u32, 1);
        assert_eq!(Vector::<u32, 4>::from_bits(four.to_bits()), four);
        let halves = Vector([F16::from_bits(0x3c00); 8]);
        assert_eq!(Vector::<F16, 8>::from_bits(halves.to_bits()), halves);
        assert_eq!(size_of::<Vector<f64, 2>>(), 16);
    }
}
