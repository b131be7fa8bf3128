//! Tensors of the file format: every encoding, without a copy where the bytes are stored raw.

use super::element_type::dtype_of_code;
use super::external::ExternalFiles;
use super::proto::{EXTERNAL, OptionalProto, SequenceProto, SparseTensorProto, TensorProto};
use crate::cpu::narrow::packed_byte;
use crate::dtype::{Bool, DType, Element};
use crate::error::Error;
use crate::memory::Budget;
use crate::tensor::{Sequence, Tensor, Value, element_count};
use bytes::Bytes;
use half::{bf16, f16};
use std::sync::Arc;

/// What decoding tensors needs.
#[derive(Debug)]
pub(super) struct TensorSource {
    /// Where external data lies.
    pub(super) files: ExternalFiles,
    /// Where dense forms of sparse tensors are charged.
    pub(super) budget: Budget,
}

impl TensorSource {
    /// Decodes `proto`.
    pub(super) fn decode(&self, proto: &TensorProto) -> Result<Tensor, Error> {
        let refuse = |what: String| Error::model(format!("tensor `{}` {what}", proto.name));
        let dtype = dtype_of_code(proto.data_type.into())
            .ok_or_else(|| refuse(format!("has element type {}, which is not known", proto.data_type)))?;
        let shape = proto
            .dims
            .iter()
            .map(|&d| usize::try_from(d).map_err(|_| refuse(format!("has extent {d}"))))
            .collect::<Result<Vec<_>, _>>()?;
        let count = element_count(&shape).filter(|&n| n <= isize::MAX as usize / 16);
        let count = count.ok_or_else(|| refuse(format!("has shape {shape:?}, which no memory holds")))?;
        let bytes = dtype.bytes(count).ok_or_else(|| refuse(format!("has shape {shape:?}")))?;

        if proto.data_location == EXTERNAL {
            if dtype == DType::String {
                return Err(refuse("is text in another file".into()));
            }
            let data = self.files.bytes(proto, bytes)?;
            return Tensor::from_bytes(dtype, &shape, data);
        }
        if let Some(raw) = &proto.raw_data {
            if dtype == DType::String || raw.len() != bytes {
                return Err(refuse(format!(
                    "has {} raw bytes where {dtype} {shape:?} needs {bytes}",
                    raw.len()
                )));
            }
            return Tensor::from_bytes(dtype, &shape, raw.clone());
        }
        let tensor = typed_data(proto, dtype, &shape, count, bytes).ok_or_else(|| {
            refuse(format!("holds another number of elements than {dtype} {shape:?}, or one out of range"))
        })?;
        // Unlike raw bytes, the elements are no longer those of the file: they are charged while they live.
        Tensor::copy_of(tensor.view(), &self.budget).map_err(|_| Error::Memory {
            what: format!("tensor `{}`", proto.name),
            requested: bytes,
            limit: self.budget.limit(),
        })
    }

    /// The dense form of a sparse tensor in coordinate format.
    pub(super) fn decode_sparse(&self, proto: &SparseTensorProto) -> Result<Tensor, Error> {
        let (Some(values), Some(indices)) = (&proto.values, &proto.indices) else {
            return Err(Error::model("a sparse tensor without values or indices"));
        };
        let name = values.name.clone();
        let refuse = |what: &str| Error::model(format!("sparse tensor `{name}` {what}"));
        let values = self.decode(values)?;
        let indices = self.decode(indices)?;
        let shape: Vec<usize> = proto
            .dims
            .iter()
            .map(|&d| usize::try_from(d).map_err(|_| refuse("has a negative extent")))
            .collect::<Result<_, _>>()?;
        let count = element_count(&shape).ok_or_else(|| refuse("has a shape that no memory holds"))?;
        let size = values.dtype().bits() / 8;
        if size == 0 || values.dtype().bits() % 8 != 0 {
            return Err(refuse("has an element type that is not stored in bytes"));
        }
        let positions = indices.to_vec::<i64>().ok_or_else(|| refuse("has indices that are not int64"))?;
        let nnz = values.len();
        let flat: Vec<usize> = match indices.shape() {
            [n] if *n == nnz => positions.iter().map(|&p| usize::try_from(p).ok()).collect::<Option<_>>(),
            [n, rank] if *n == nnz && *rank == shape.len() => positions
                .chunks(shape.len().max(1))
                .map(|index| {
                    index.iter().zip(&shape).try_fold(0usize, |at, (&i, &d)| {
                        let i = usize::try_from(i).ok().filter(|&i| i < d)?;
                        at.checked_mul(d)?.checked_add(i)
                    })
                })
                .collect(),
            _ => None,
        }
        .filter(|flat: &Vec<usize>| flat.iter().all(|&i| i < count))
        .ok_or_else(|| refuse("has indices outside its shape"))?;
        let bytes = count.checked_mul(size).ok_or_else(|| refuse("has a shape that no memory holds"))?;
        let memory = |_| Error::Memory {
            what: format!("sparse tensor `{name}`"),
            requested: bytes,
            limit: self.budget.limit(),
        };
        let mut dense = crate::memory::Buffer::zeroed(bytes, &self.budget).map_err(memory)?;
        for (value, at) in values.bytes().chunks(size).zip(flat) {
            dense.bytes_mut()[at * size..(at + 1) * size].copy_from_slice(value);
        }
        Tensor::from_buffer(values.dtype(), &shape, dense).map_err(memory)
    }

    /// A sequence of test data.
    pub(super) fn decode_sequence(&self, proto: &SequenceProto) -> Result<Sequence, Error> {
        let mut items = Vec::new();
        for t in &proto.tensor_values {
            items.push(Value::Tensor(self.decode(t)?));
        }
        for s in &proto.sequence_values {
            items.push(Value::Sequence(self.decode_sequence(s)?));
        }
        for o in &proto.optional_values {
            items.push(self.decode_optional(o)?);
        }
        Ok(Sequence::new(items))
    }

    /// An optional value of test data.
    pub(super) fn decode_optional(&self, proto: &OptionalProto) -> Result<Value, Error> {
        let inner = if let Some(t) = &proto.tensor_value {
            Some(Value::Tensor(self.decode(t)?))
        } else if let Some(s) = &proto.sequence_value {
            Some(Value::Sequence(self.decode_sequence(s)?))
        } else if let Some(o) = &proto.optional_value {
            Some(self.decode_optional(o)?)
        } else {
            None
        };
        Ok(Value::Optional(inner.map(Arc::new)))
    }
}

/// Elements stored in one of the typed lists; `None` when they do not fit dtype and count.
fn typed_data(
    proto: &TensorProto,
    dtype: DType,
    shape: &[usize],
    count: usize,
    bytes: usize,
) -> Option<Tensor> {
    fn made<T: Element>(shape: &[usize], data: Option<Vec<T>>) -> Option<Tensor> {
        Tensor::new(shape, data?).ok()
    }
    let ints = &proto.int32_data;
    macro_rules! narrow {
        ($t:ty) => {
            // Negative encodings of unsigned values occur; the low bits count.
            made(shape, Some(ints.iter().map(|&v| v as $t).collect()))
        };
    }
    let tensor = match dtype {
        DType::F32 => made(shape, Some(proto.float_data.clone())),
        DType::F64 => made(shape, Some(proto.double_data.clone())),
        DType::I64 => made(shape, Some(proto.int64_data.clone())),
        DType::U64 => made(shape, Some(proto.uint64_data.clone())),
        DType::U32 => made(shape, proto.uint64_data.iter().map(|&v| u32::try_from(v).ok()).collect()),
        DType::I32 => made(shape, Some(ints.clone())),
        DType::I16 => narrow!(i16),
        DType::I8 => narrow!(i8),
        DType::U16 => narrow!(u16),
        DType::U8 => narrow!(u8),
        DType::Bool => made(shape, Some(ints.iter().map(|&v| Bool::new(v != 0)).collect())),
        DType::F16 => made(shape, Some(ints.iter().map(|&v| f16::from_bits(v as u16)).collect())),
        DType::BF16 => made(shape, Some(ints.iter().map(|&v| bf16::from_bits(v as u16)).collect())),
        DType::String => {
            let text: Option<Vec<String>> =
                proto.string_data.iter().map(|b| String::from_utf8(b.to_vec()).ok()).collect();
            Tensor::strings(shape, text?).ok()
        }
        DType::Complex64 => {
            let data: Vec<u8> = bytemuck::cast_slice(&proto.float_data).to_vec();
            Tensor::from_bytes(dtype, shape, Bytes::from(data)).ok()
        }
        DType::Complex128 => {
            let data: Vec<u8> = bytemuck::cast_slice(&proto.double_data).to_vec();
            Tensor::from_bytes(dtype, shape, Bytes::from(data)).ok()
        }
        // Six bits: one element per entry, unlike the other packed types, whose entries are packed bytes.
        DType::F6E2M3 | DType::F6E3M2 => {
            let codes: Option<Vec<u8>> =
                ints.iter().map(|&v| u8::try_from(v).ok().filter(|&code| code < 1 << 6)).collect();
            let codes = codes.filter(|codes| codes.len() == count)?;
            let data: Vec<u8> =
                (0..bytes).map(|at| packed_byte(dtype.bits(), count, at, |i| codes[i].into())).collect();
            Tensor::from_bytes(dtype, shape, Bytes::from(data)).ok()
        }
        // One packed byte per entry.
        _ => {
            let data: Vec<u8> = ints.iter().map(|&v| v as u8).collect();
            (data.len() == bytes).then(|| Tensor::from_bytes(dtype, shape, Bytes::from(data)).ok()).flatten()
        }
    };
    tensor.filter(|t| t.len() == count)
}
