//! From operators to the kernel families of `recurve-kernels`: which shapes and layouts they are in the families' terms,
//! and how constants are packed.

pub(crate) mod attention;
pub(crate) mod attention_parts;
pub(crate) mod block_quantised;
pub(crate) mod branches;
pub(crate) mod causal;
pub(crate) mod columns;
mod composition;
pub(crate) mod conv;
pub(crate) mod conv_transposed;
pub(crate) mod coordinates;
pub(crate) mod copy;
pub(crate) mod drawn;
pub(crate) mod drawn_classes;
pub(crate) mod flex_attention;
pub(crate) mod flow;
pub(crate) mod folded;
pub(crate) mod fourier;
pub(crate) mod indexed;
pub(crate) mod integer_conv;
pub(crate) mod integer_product;
pub(crate) mod known;
pub(crate) mod linear_attention;
pub(crate) mod lines;
mod located;
pub(crate) mod looped;
pub(crate) mod losses;
pub(crate) mod map;
pub(crate) mod members;
mod narrow;
pub(crate) mod nest;
pub(crate) mod norm;
pub(crate) mod pool;
pub(crate) mod product;
pub(crate) mod quantised;
pub(crate) mod recurrent;
pub(crate) mod resample;
pub(crate) mod rotary;
pub(crate) mod rounds;
pub(crate) mod sampled;
pub(crate) mod steps;
pub(crate) mod tail;
pub(crate) mod trained;

use super::GpuReject;
use crate::dtype::DType;
use recurve_kernels::element::Element;

/// The element type that families of floats compute `dtype` in.
pub(crate) fn element(dtype: DType) -> Result<Element, GpuReject> {
    match dtype {
        DType::F32 => Ok(Element::F32),
        DType::F16 => Ok(Element::F16),
        DType::BF16 => Ok(Element::BF16),
        other => Err(GpuReject::ElementType(other)),
    }
}

/// An extent as kernels take it.
pub(crate) fn extent(extent: usize) -> Result<u32, GpuReject> {
    u32::try_from(extent).map_err(|_| GpuReject::Form(format!("an extent of {extent}")))
}
