//! What a tensor looks like in messages and logs: its element type, its shape and its first elements.

use super::view::{TensorView, ViewData};
use crate::dtype::{Bool, DType, Element};
use std::fmt::{Debug, Formatter, Result};

/// Elements that are shown.
const SHOWN: usize = 8;
/// Characters of each text that are shown.
const LETTERS: usize = 32;

/// Writes `NAME(float32 [2, 8] [1.0, 2.0, …])`. Types that Rust has none for show their bytes.
pub(super) fn fmt(name: &str, tensor: TensorView<'_>, f: &mut Formatter<'_>) -> Result {
    write!(f, "{name}({} {:?} [", tensor.dtype(), tensor.shape())?;
    let count = match (tensor.data(), tensor.dtype()) {
        (ViewData::Strings(texts), _) => {
            let short = texts.iter().map(|t| t.chars().take(LETTERS).collect::<String>());
            list(short, f)?;
            texts.len()
        }
        (ViewData::Bytes(bytes), DType::F32) => numbers::<f32>(bytes, f)?,
        (ViewData::Bytes(bytes), DType::F64) => numbers::<f64>(bytes, f)?,
        (ViewData::Bytes(bytes), DType::F16) => numbers::<half::f16>(bytes, f)?,
        (ViewData::Bytes(bytes), DType::BF16) => numbers::<half::bf16>(bytes, f)?,
        (ViewData::Bytes(bytes), DType::I8) => numbers::<i8>(bytes, f)?,
        (ViewData::Bytes(bytes), DType::I16) => numbers::<i16>(bytes, f)?,
        (ViewData::Bytes(bytes), DType::I32) => numbers::<i32>(bytes, f)?,
        (ViewData::Bytes(bytes), DType::I64) => numbers::<i64>(bytes, f)?,
        (ViewData::Bytes(bytes), DType::U8) => numbers::<u8>(bytes, f)?,
        (ViewData::Bytes(bytes), DType::U16) => numbers::<u16>(bytes, f)?,
        (ViewData::Bytes(bytes), DType::U32) => numbers::<u32>(bytes, f)?,
        (ViewData::Bytes(bytes), DType::U64) => numbers::<u64>(bytes, f)?,
        (ViewData::Bytes(bytes), DType::Bool) => {
            list(elements::<Bool>(bytes).map(Bool::get), f)?;
            bytes.len()
        }
        (ViewData::Bytes(bytes), _) => {
            f.write_str("bytes ")?;
            numbers::<u8>(bytes, f)?
        }
    };
    f.write_str(if count > SHOWN { ", …])" } else { "])" })
}

fn elements<T: Element>(bytes: &[u8]) -> impl Iterator<Item = T> {
    bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned)
}

/// Writes the first elements; returns how many there are.
fn numbers<T: Element + Debug>(
    bytes: &[u8],
    f: &mut Formatter<'_>,
) -> std::result::Result<usize, std::fmt::Error> {
    list(elements::<T>(bytes), f)?;
    Ok(bytes.len() / size_of::<T>())
}

fn list<T: Debug>(items: impl Iterator<Item = T>, f: &mut Formatter<'_>) -> Result {
    for (at, item) in items.take(SHOWN).enumerate() {
        f.write_str(if at > 0 { ", " } else { "" })?;
        write!(f, "{item:?}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Tensor, TensorMut};
    use crate::dtype::{Bool, DType};
    use bytes::Bytes;

    #[test]
    fn the_first_elements_are_shown() {
        let few = Tensor::new(&[2, 2], vec![1f32, -2.5, 0.0, f32::NAN]).expect("a tensor");
        assert_eq!(format!("{few:?}"), "Tensor(float32 [2, 2] [1.0, -2.5, 0.0, NaN])");
        assert_eq!(format!("{:?}", few.view()), "TensorView(float32 [2, 2] [1.0, -2.5, 0.0, NaN])");
        let many = Tensor::new(&[9], (0..9i64).collect()).expect("a tensor");
        assert_eq!(format!("{many:?}"), "Tensor(int64 [9] [0, 1, 2, 3, 4, 5, 6, 7, …])");
        let none = Tensor::new(&[0, 3], Vec::<u8>::new()).expect("a tensor");
        assert_eq!(format!("{none:?}"), "Tensor(uint8 [0, 3] [])");
        let yes = Tensor::scalar(Bool::new(true));
        assert_eq!(format!("{yes:?}"), "Tensor(bool [] [true])");
        let half = Tensor::scalar(half::f16::from_f32(0.5));
        assert_eq!(format!("{half:?}"), "Tensor(float16 [] [0.5])");
        let mut place = [7u16, 8];
        let place = TensorMut::new(&[2], &mut place).expect("a place");
        assert_eq!(format!("{place:?}"), "TensorMut(uint16 [2] [7, 8])");
    }

    #[test]
    fn text_and_packed_types_are_bounded() {
        let text = Tensor::strings(&[1], vec!["ä".repeat(1000)]).expect("a tensor");
        assert_eq!(format!("{text:?}"), format!("Tensor(string [1] [\"{}\"])", "ä".repeat(32)));
        let packed = Bytes::from_static(&[0x21; 16]);
        let packed = Tensor::from_bytes(DType::U4, &[32], packed).expect("a tensor");
        assert_eq!(format!("{packed:?}"), "Tensor(uint4 [32] [bytes 33, 33, 33, 33, 33, 33, 33, 33, …])");
    }
}
