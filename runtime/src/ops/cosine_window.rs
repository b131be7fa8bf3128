//! The form that HannWindow, HammingWindow and BlackmanWindow share: `size` samples of a sum of cosines over one
//! period, which ends with (`periodic = 0`) or behind the last sample.
//!
//! Computed in f64. A symmetric window of one sample is 0/0, NaN.

use super::Op;
use super::attributes::NodeSpec;
use crate::cpu::number::{Number, dispatch};
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::{DType, NUMBERS};
use crate::error::OpError;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::tensor::Tensor;
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

use super::dft::scalar;
use super::reduction::truncated;

#[derive(Debug)]
struct CosineWindow {
    dtype: DType,
    periodic: bool,
    /// Sample `n` of a period of `N`.
    kernel: fn(f64, f64) -> f64,
    reference: fn(f64, f64) -> f64,
}

/// Parses a window with the given samples: of the kernel, and of the reference.
pub(super) fn parse(
    node: &NodeSpec,
    kernel: fn(f64, f64) -> f64,
    reference: fn(f64, f64) -> f64,
) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(CosineWindow {
        dtype: output_type(node)?,
        periodic: node.flag_or("periodic", true)?,
        kernel,
        reference,
    }))
}

/// The `output_datatype` attribute.
pub(super) fn output_type(node: &NodeSpec) -> Result<DType, OpError> {
    let dtype = node.dtype("output_datatype")?.unwrap_or(DType::F32);
    if NUMBERS.contains(&dtype) {
        Ok(dtype)
    } else {
        Err(OpError::unsupported(format!("a window of {dtype}")))
    }
}

fn length(size: i64) -> Result<usize, OpError> {
    usize::try_from(size).map_err(|_| OpError::value(format!("a window of {size} samples")))
}

impl CosineWindow {
    fn period(&self, size: usize) -> f64 {
        if self.periodic { size as f64 } else { size as f64 - 1.0 }
    }
}

impl Op for CosineWindow {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 1)?;
        let size = inputs.typed(0, &[DType::I32, DType::I64])?;
        let dim = match size.as_i64s() {
            Some(size) => Dim::Known(length(scalar(&size, "the size")?)?),
            None => match size.as_dims().as_deref() {
                Some([dim]) => dim.clone(),
                _ => Dim::Unknown,
            },
        };
        Ok(vec![TensorFact::new(self.dtype, vec![dim]).into()])
    }

    fn bound_from(&self) -> &[usize] {
        &[0]
    }

    fn cpu(&self, _: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let sample = self.kernel;
        let periodic = self.periodic;
        dispatch!(self.dtype, numbers, T => Ok(Kernel::new(move |io| {
            let size = length(scalar(&io.tensor(0)?.to_i64s()?, "the size")?)?;
            let period = if periodic { size as f64 } else { size as f64 - 1.0 };
            for (n, y) in io.shaped::<T>(0, &[size])?.iter_mut().enumerate() {
                *y = T::from_f64(sample(n as f64, period));
            }
            Ok(())
        })))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let size = length(inputs.tensor(0)?.to_i64s()?[0])?;
        let samples: Vec<f64> = (0..size).map(|n| (self.reference)(n as f64, self.period(size))).collect();
        let out = if self.dtype.is_float() {
            RefTensor::floats(self.dtype, &[size], samples)
        } else {
            let whole = samples.into_iter().map(|v| truncated(self.dtype, v)).collect();
            RefTensor::ints(self.dtype, &[size], whole)
        };
        Ok(vec![out.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Draws a use of a window.
pub(super) fn case(g: &mut Gen) -> Case {
    let size = g.size(0, 40);
    let size = if g.chance(0.5) { Tensor::scalar(size as i64) } else { Tensor::scalar(size as i32) };
    let mut case = Case::new([size]).opset(17);
    if g.chance(0.7) {
        case = case.int("periodic", g.int(0, 1));
    }
    if g.chance(0.7) {
        // Numbers of the element types in the model format.
        case = case.int("output_datatype", *g.pick(&[1, 10, 11, 16, 2, 3, 4, 5, 6, 7, 12, 13]));
    }
    if g.chance(0.6) { case.constant(0) } else { case }
}
