//! Questions about a float, answered by a truth value.

use super::draw::{draw_numbers, draw_shape};
use super::map::{Map, map};
use crate::dtype::{DType, FLOATS};
use crate::error::OpError;
use crate::loops::program::{Builder, Reg};
use crate::ops::attributes::NodeSpec;
use crate::ops::{Accuracy, OpDef};
use crate::reference::RefTensor;
use crate::testing::{Case, Gen};
use std::fmt::Debug;

/// A question about a float.
pub(in crate::ops) trait FloatTest: Copy + Debug + Default + Send + Sync + 'static {
    /// Reads the attributes; there are none unless an operator says otherwise.
    fn parse(_: &NodeSpec) -> Result<Self, OpError> {
        Ok(Self::default())
    }

    /// The answer, for programs.
    fn scalar(self, b: &mut Builder, x: Reg) -> Reg;

    /// The specification's answer.
    fn formula(self, x: f64) -> bool;

    /// Draws attributes and the opset.
    fn draw(_: &mut Gen, case: Case) -> Case {
        case
    }
}

/// The definition of the operator `F`.
pub(in crate::ops) const fn float_test<F: FloatTest>(name: &'static str, since: &'static [i64]) -> OpDef {
    map::<Of<F>>(name, since)
}

#[derive(Debug)]
struct Of<F>(F);

impl<F: FloatTest> Map for Of<F> {
    const DTYPES: &'static [DType] = FLOATS;
    const ACCURACY: Accuracy = Accuracy::Exact;

    fn parse(spec: &NodeSpec) -> Result<Self, OpError> {
        Ok(Self(F::parse(spec)?))
    }

    fn output(&self, _: DType) -> DType {
        DType::Bool
    }

    fn scalar(&self, b: &mut Builder, x: Reg, _: DType) -> Option<Reg> {
        Some(self.0.scalar(b, x))
    }

    fn reference(&self, x: &RefTensor) -> Result<RefTensor, OpError> {
        Ok(RefTensor::bools(&x.shape, x.as_floats()?.iter().map(|&x| self.0.formula(x)).collect()))
    }

    fn case(g: &mut Gen) -> Case {
        let (dtype, shape) = (*g.pick(FLOATS), draw_shape(g));
        let case = Case::new([draw_numbers(g, dtype, &shape, (-2.0, 2.0))]);
        F::draw(g, case)
    }
}
