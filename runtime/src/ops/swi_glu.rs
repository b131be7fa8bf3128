//! # SwiGLU
//! `y = a · sigmoid(alpha · a) · b` for tensors of one shape. Opset 28.

use super::attributes::NodeSpec;
use super::elementwise::{Zip, broadcast_fact, draw_numbers, draw_shape, zip};
use super::{Accuracy, OpDef};
use crate::dtype::{DType, FLOATS};
use crate::error::OpError;
use crate::graph::fact::TensorFact;
use crate::loops::program::{Builder, Reg};
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

    fn scalar(&self, b: &mut Builder, x: Reg, y: Reg, _: [DType; 2]) -> Option<Reg> {
        let alpha = b.constant_as(x, self.alpha.into());
        let scaled = b.mul(x, alpha);
        let gate = b.sigmoid(scaled);
        let gated = b.mul(x, gate);
        Some(b.mul(gated, y))
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
