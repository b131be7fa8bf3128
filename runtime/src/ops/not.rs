//! # Not
//! `y = ¬x` on truth values. Opset 1.

use super::attributes::NodeSpec;
use super::elementwise::{Map, draw_shape, map};
use super::{Accuracy, OpDef};
use crate::dtype::DType;
use crate::error::OpError;
use crate::loops::program::{Builder, Reg};
use crate::reference::RefTensor;
use crate::testing::{Case, Gen};

pub(super) const DEF: OpDef = map::<Not>("Not", &[1]);

#[derive(Debug)]
struct Not;

impl Map for Not {
    const DTYPES: &'static [DType] = &[DType::Bool];
    const ACCURACY: Accuracy = Accuracy::Exact;

    fn parse(_: &NodeSpec) -> Result<Self, OpError> {
        Ok(Self)
    }

    fn scalar(&self, b: &mut Builder, x: Reg, _: DType) -> Option<Reg> {
        Some(b.not(x))
    }

    fn reference(&self, x: &RefTensor) -> Result<RefTensor, OpError> {
        Ok(RefTensor::bools(&x.shape, x.as_bools()?.iter().map(|x| !x).collect()))
    }

    fn case(g: &mut Gen) -> Case {
        let shape = draw_shape(g);
        Case::new([g.tensor(DType::Bool, &shape)])
    }
}
