//! # SwiGLU
//! `y = a · sigmoid(alpha · a) · b` for tensors of one shape. Opset 28.

use super::attributes::NodeSpec;
use super::elementwise::{Zip, broadcast_fact, draw_numbers, draw_shape, zip};
use super::{Accuracy, OpDef};
use crate::cpu::broadcast::zip as zip_kernel;
use crate::cpu::number::{Compute, Float, Number, dispatch};
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::{DType, FLOATS};
use crate::error::OpError;
use crate::graph::fact::TensorFact;
use crate::reference::RefTensor;
use crate::testing::{Case, Gen};

pub(super) const DEF: OpDef = zip::<SwiGlu>("SwiGLU", &[28]);

#[derive(Debug)]
struct SwiGlu {
    alpha: f32,
}

impl Zip for SwiGlu {
    const DTYPES: &'static [DType] = FLOATS;
    const ACCURACY: Accuracy = Accuracy::Elementwise;

    fn parse(spec: &NodeSpec) -> Result<Self, OpError> {
        Ok(Self { alpha: spec.float_or("alpha", 1.0)? })
    }

    fn shape(&self, a: &TensorFact, b: &TensorFact) -> Result<TensorFact, OpError> {
        if let (Some(a), Some(b)) = (a.known_shape(), b.known_shape())
            && a != b
        {
            return Err(OpError::shape(format!("{a:?} and {b:?} are not the same shape")));
        }
        broadcast_fact(a.dtype, &[a, b])
    }

    fn kernel(&self, site: &CpuSite<'_>, a: DType, _: DType) -> Result<Kernel, OpError> {
        let alpha = f64::from(self.alpha);
        dispatch!(a, floats, T => zip_kernel(site, move |a: T, b: T| {
            let a = a.load();
            T::store(a.mul(a.mul(Number::from_f64(alpha)).sigmoid()).mul(b.load()))
        }))
    }

    fn reference(&self, a: &RefTensor, b: &RefTensor) -> Result<RefTensor, OpError> {
        let gate = |a: f64| a / (1.0 + (-f64::from(self.alpha) * a).exp());
        Ok(a.with_data(a.zip_numbers(b, |a, b| gate(a) * b, |a, _| a)?))
    }

    fn case(g: &mut Gen) -> Case {
        let (dtype, shape) = (*g.pick(FLOATS), draw_shape(g));
        let a = draw_numbers(g, dtype, &shape, (-4.0, 4.0));
        // An infinity here would meet a gate that underflows in one precision and not in the other.
        let b = g.tensor_in(dtype, &shape, -4.0, 4.0);
        let case = Case::new([a, b]);
        if g.chance(0.5) { case.float("alpha", g.float(0.25, 2.0) as f32) } else { case }
    }
}
