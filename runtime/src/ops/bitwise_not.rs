//! # BitwiseNot
//! `y = ¬x`, bit by bit, on integers. Opset 18.

use super::attributes::NodeSpec;
use super::elementwise::{Map, draw_numbers, draw_shape, map};
use super::{Accuracy, OpDef};
use crate::dtype::{DType, INTS};
use crate::error::OpError;
use crate::loops::program::{Builder, Reg};
use crate::reference::RefTensor;
use crate::testing::{Case, Gen};

pub(super) const DEF: OpDef = map::<BitwiseNot>("BitwiseNot", &[18]);

#[derive(Debug)]
struct BitwiseNot;

impl Map for BitwiseNot {
    const DTYPES: &'static [DType] = INTS;
    const ACCURACY: Accuracy = Accuracy::Exact;

    fn parse(_: &NodeSpec) -> Result<Self, OpError> {
        Ok(Self)
    }

    fn scalar(&self, b: &mut Builder, x: Reg, _: DType) -> Option<Reg> {
        Some(b.not(x))
    }

    fn reference(&self, x: &RefTensor) -> Result<RefTensor, OpError> {
        // In two's complement.
        Ok(RefTensor::wrapped(x.dtype, &x.shape, x.as_ints()?.iter().map(|x| -x - 1).collect()))
    }

    fn case(g: &mut Gen) -> Case {
        let (dtype, shape) = (*g.pick(INTS), draw_shape(g));
        Case::new([draw_numbers(g, dtype, &shape, (-9.0, 9.0))])
    }
}
