//! # Cast
//! The same numbers in another element type. Opsets 6, 9, 13, 19, 21, 23, 24, 25, 28.
//!
//! To a float: rounded to nearest even, once. From a float to an integer: truncated toward zero; what is out of
//! range, which the specification leaves open, saturates, and NaN gives 0. Between integers: the high bits are
//! discarded. To `bool`: whether it is not zero. Text, 8-bit and 4-bit types are refused; `saturate` and
//! `round_mode` concern only those.

use super::attributes::NodeSpec;
use super::elementwise::{Map, draw_numbers, draw_shape, map, with_entries};
use super::{Accuracy, OpDef};
use crate::cpu::Kernel;
use crate::cpu::cast::cast;
use crate::dtype::{DType, NUMBERS_AND_BOOL};
use crate::error::OpError;
use crate::graph::fact::TensorFact;
use crate::reference::RefTensor;
use crate::testing::{Case, Gen};

pub(super) const DEF: OpDef = map::<Cast>("Cast", &[6, 9, 13, 19, 21, 23, 24, 25, 28]);

#[derive(Debug)]
struct Cast {
    to: DType,
}

impl Map for Cast {
    const DTYPES: &'static [DType] = NUMBERS_AND_BOOL;
    const ACCURACY: Accuracy = Accuracy::Exact;

    fn parse(spec: &NodeSpec) -> Result<Self, OpError> {
        read_rounding(spec)?;
        let to = spec.dtype("to")?.ok_or_else(|| OpError::attribute("to", "is missing"))?;
        if !NUMBERS_AND_BOOL.contains(&to) {
            return Err(OpError::unsupported(format!("a cast to {to}")));
        }
        Ok(Self { to })
    }

    fn output(&self, _: DType) -> DType {
        self.to
    }

    fn with_content(&self, fact: TensorFact, x: &TensorFact) -> TensorFact {
        with_entries(fact, &[x], |e| e[0].clone())
    }

    fn keeps(&self, input: DType) -> bool {
        input == self.to
    }

    fn kernel(&self, input: DType) -> Result<Kernel, OpError> {
        cast(input, self.to)
    }

    fn reference(&self, x: &RefTensor) -> Result<RefTensor, OpError> {
        x.cast(self.to)
    }

    fn case(g: &mut Gen) -> Case {
        let (from, to, shape) = (*g.pick(NUMBERS_AND_BOOL), *g.pick(NUMBERS_AND_BOOL), draw_shape(g));
        let case = Case::new([draw_castable(g, from, &shape)]).dtype("to", to);
        if g.chance(0.8) {
            return case.opset(*g.pick(&[7, 9, 13, 28]));
        }
        case.int("saturate", g.int(0, 1)).string("round_mode", "nearest")
    }
}

/// Reads the attributes that say how 8-bit floats are rounded; none of the types that are taken is one.
pub(super) fn read_rounding(spec: &NodeSpec) -> Result<(), OpError> {
    spec.flag_or("saturate", true)?;
    match spec.string("round_mode")?.as_deref() {
        None | Some("up" | "down" | "nearest") => Ok(()),
        Some(other) => Err(OpError::attribute("round_mode", format!("is `{other}`"))),
    }
}

/// Numbers from all over the range of their type.
pub(super) fn draw_castable(g: &mut Gen, dtype: DType, shape: &[usize]) -> crate::tensor::Tensor {
    let reach = *g.pick(&[1.0, 10.0, 300.0, 70_000.0, 1e10, 1e20]);
    draw_numbers(g, dtype, shape, if dtype.is_float() { (-reach, reach) } else { (-10.0, 10.0) })
}
