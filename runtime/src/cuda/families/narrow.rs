//! Weights in 16 bits where the session asks for them: which are stored so, and what kernels that take both operands in
//! one type are given in place of the other one.
//!
//! Recurrences and products of few rows widen weights as they read them and compute in f32. Products of more rows and
//! convolutions have kernels for operands of one type: what comes in is rounded to the weights' type into the workspace, in
//! a launch of its own, and sums, which are f32, are stored as f32 by a program behind them. A finite weight that would
//! become infinite keeps all of its node's input as the model has it.

use super::map;
use crate::cuda::GpuReject;
use crate::cuda::site::{GpuKernel, GpuSite, Operands};
use crate::dtype::DType;
use crate::precision::{Kept, Precision, StoredWeights};
use crate::tensor::Tensor;
use half::{bf16, f16};
use recurve_kernels::element::Element;
use recurve_kernels::launch::{Buffer, Launch, Reject};
use std::sync::Arc;

/// What becomes of constant weights.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Storage {
    /// They are what the model has, as was asked for.
    Own,
    /// They are what the model has, for this reason.
    Kept(Kept),
    /// They are stored in this type.
    Narrow(Element),
}

impl Storage {
    /// The type that they are stored in, where it is not the model's.
    pub(super) fn narrow(self) -> Option<Element> {
        if let Self::Narrow(element) = self { Some(element) } else { None }
    }

    /// What is told of `weights`, input `input` of its node, that take so many bytes.
    pub(super) fn note(self, input: usize, weights: &Tensor, bytes: usize) -> Option<StoredWeights> {
        let model = weights.bytes().len();
        let (bytes, kept) = match self {
            Self::Own => return None,
            Self::Kept(kept) => (model, Some(kept)),
            Self::Narrow(_) => (bytes, None),
        };
        Some(StoredWeights::unnamed(input, weights.len(), [model, bytes], kept))
    }
}

impl GpuSite<'_> {
    /// What becomes of input `index`, if it is a constant of f32.
    pub(super) fn storage(&self, index: usize) -> Storage {
        let Some(weights) = self.constant(index).filter(|weights| weights.dtype() == DType::F32) else {
            return Storage::Own;
        };
        let element = match self.precision {
            Precision::F32 => return Storage::Own,
            Precision::F16 => Element::F16,
            Precision::Bf16 => Element::BF16,
            Precision::Int8 | Precision::Tf32 => return Storage::Kept(Kept::NoKernel),
        };
        let largest =
            read(weights).filter(|w| w.is_finite()).fold(0f32, |a, b| if b.abs() > a.abs() { b } else { a });
        let stays = match element {
            Element::F16 => f16::from_f32(largest).is_finite(),
            Element::BF16 => bf16::from_f32(largest).is_finite(),
            Element::F32 => true,
        };
        if stays {
            Storage::Narrow(element)
        } else {
            Storage::Kept(Kept::OutOfRange { weight: largest.into() })
        }
    }

    /// What is told of constant input `index`, which the kernel at hand reads as the model has it whatever was asked for.
    pub(super) fn kept(&self, index: usize) -> Option<StoredWeights> {
        let storage = match self.storage(index) {
            Storage::Narrow(_) => Storage::Kept(Kept::NoKernel),
            other => other,
        };
        storage.note(index, self.constant(index)?, 0)
    }
}

/// Weights of f32, which may begin at any byte.
fn read(weights: &Tensor) -> impl Iterator<Item = f32> {
    weights.bytes().chunks_exact(size_of::<f32>()).map(bytemuck::pod_read_unaligned)
}

/// The bytes of `weights` as `element`, in their order.
pub(super) fn bytes_as(weights: &Tensor, element: Element) -> Vec<u8> {
    if weights.dtype() != DType::F32 {
        return weights.bytes().to_vec();
    }
    match element {
        Element::F32 => weights.bytes().to_vec(),
        Element::F16 => read(weights).flat_map(|w| f16::from_f32(w).to_le_bytes()).collect(),
        Element::BF16 => read(weights).flat_map(|w| bf16::from_f32(w).to_le_bytes()).collect(),
    }
}

/// Input 0 rounded to the weights' type, behind the kernel's own workspace.
pub(super) struct Rounded {
    kernel: GpuKernel,
    offset: usize,
    bytes: usize,
    /// Which of the data of all is the map's program.
    data: usize,
}

impl Rounded {
    /// The first `count` elements of input 0 as `element`, behind `workspace` bytes of workspace. Gives the program, which
    /// is to be the data of number `data`.
    pub(super) fn new(
        site: &GpuSite<'_>,
        (count, element): (usize, Element),
        workspace: usize,
        data: usize,
    ) -> Result<(Self, Vec<Vec<u8>>), GpuReject> {
        let many = || GpuReject::Form("an operand of so many bytes".into());
        let offset = workspace.checked_next_multiple_of(256).ok_or_else(many)?;
        let bytes = count.checked_mul(element.bytes() as usize).ok_or_else(many)?;
        offset.checked_add(bytes).ok_or_else(many)?;
        let to = if element == Element::F16 { DType::F16 } else { DType::BF16 };
        let mut kernel = map::moved(site, [DType::F32, to], &[count], &[1])?;
        let (_, program) = kernel.take_resident();
        Ok((Self { kernel, offset, bytes, data }, program))
    }

    /// Bytes of the workspace of all.
    pub(super) fn workspace(&self) -> usize {
        self.offset + self.bytes
    }

    /// The launch that makes it.
    pub(super) fn launches(&self, all: &Operands<'_>) -> Result<Vec<Arc<dyn Launch>>, Reject> {
        let (input, none) = (all.inputs.first().copied().unwrap_or_default(), Buffer::default());
        self.kernel.prepare(&Operands {
            inputs: &[input],
            outputs: &[self.place(all)],
            weights: &[],
            data: all.data.get(self.data..=self.data).unwrap_or(&[]),
            workspace: none,
            fault: none,
            flags: none,
            starts: none,
        })
    }

    /// Where it lies.
    pub(super) fn place(&self, all: &Operands<'_>) -> Buffer {
        Buffer { address: all.workspace.address + self.offset as u64, bytes: self.bytes as u64 }
    }
}
