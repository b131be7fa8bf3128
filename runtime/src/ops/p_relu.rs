//! # PRelu
//! `y = x` where `x ≥ 0`, `y = slope · x` elsewhere; `slope` broadcasts to the shape of `x`, one way only.
//! Opsets 7, 9, 16.

use super::attributes::NodeSpec;
use super::elementwise::{Zip, broadcast_fact, draw_numbers, draw_shape, same_shape, zip};
use super::{Accuracy, OpDef};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::fact::TensorFact;
use crate::loops::program::{Builder, Reg};
use crate::reference::RefTensor;
use crate::testing::{Case, Gen};

pub(super) const DEF: OpDef = zip::<PRelu>("PRelu", &[7, 9, 16]);

#[derive(Debug)]
struct PRelu;

impl Zip for PRelu {
    const DTYPES: &'static [DType] =
        &[DType::F32, DType::F64, DType::F16, DType::BF16, DType::I32, DType::I64, DType::U32, DType::U64];
    const ACCURACY: Accuracy = Accuracy::Exact;

    fn parse(_: &NodeSpec) -> Result<Self, OpError> {
        Ok(Self)
    }

    fn shape(&self, x: &TensorFact, slope: &TensorFact) -> Result<TensorFact, OpError> {
        let both = broadcast_fact(x.dtype, &[x, slope])?;
        if let (Some(own), Some(both)) = (x.known_shape(), both.known_shape())
            && own != both
        {
            return Err(OpError::shape(format!("the slope would broadcast {own:?} to {both:?}")));
        }
        Ok(same_shape(x, x.dtype))
    }

    fn scalar(&self, b: &mut Builder, x: Reg, slope: Reg, _: [DType; 2]) -> Option<Reg> {
        let zero = b.constant_as(x, 0.0);
        let (negative, scaled) = (b.lt(x, zero), b.mul(x, slope));
        Some(b.select(negative, scaled, x))
    }

    fn reference(&self, x: &RefTensor, slope: &RefTensor) -> Result<RefTensor, OpError> {
        let float = |x, slope| if x < 0.0 { slope * x } else { x };
        let int = |x, slope| if x < 0 { slope * x } else { x };
        Ok(x.with_data(x.zip_numbers(slope, float, int)?))
    }

    fn case(g: &mut Gen) -> Case {
        let (dtype, shape) = (*g.pick(Self::DTYPES), draw_shape(g));
        let slope = g.broadcastable(&shape);
        let x = draw_numbers(g, dtype, &shape, (-10.0, 10.0));
        Case::new([x, draw_numbers(g, dtype, &slope, (-2.0, 2.0))]).opset(*g.pick(&[7, 9, 16]))
    }
}
