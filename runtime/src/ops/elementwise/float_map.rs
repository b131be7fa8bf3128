//! Functions of a float.

use super::draw::{draw_numbers, draw_shape};
use super::map::{Map, map};
use crate::dtype::{DType, FLOATS};
use crate::error::OpError;
use crate::loops::program::{Builder, Reg};
use crate::ops::attributes::NodeSpec;
use crate::ops::recurrence::Activation;
use crate::ops::{Accuracy, OpDef};
use crate::reference::{RefData, RefTensor};
use crate::testing::{Case, Gen};
use std::fmt::Debug;

/// A function of a float; `f16` and `bf16` are computed in `f32`.
pub(in crate::ops) trait FloatMap: Copy + Debug + Default + Send + Sync + 'static {
    const ACCURACY: Accuracy = Accuracy::Elementwise;
    /// Where most inputs of cases lie.
    const DRAWN: (f64, f64) = (-10.0, 10.0);

    /// Reads the attributes; there are none unless an operator says otherwise.
    fn parse(_: &NodeSpec) -> Result<Self, OpError> {
        Ok(Self::default())
    }

    /// The activation function of recurrent operators that it is.
    fn activation(self) -> Option<Activation> {
        None
    }

    /// The function, for programs.
    fn scalar(self, b: &mut Builder, x: Reg) -> Reg;

    /// The specification's formula.
    fn formula(self, x: f64) -> f64;

    /// Draws attributes and the opset.
    fn draw(_: &mut Gen, case: Case) -> Case {
        case
    }
}

/// The definition of the operator `F`.
pub(in crate::ops) const fn float_map<F: FloatMap>(name: &'static str, since: &'static [i64]) -> OpDef {
    map::<Floats<F>>(name, since)
}

#[derive(Debug)]
struct Floats<F>(F);

impl<F: FloatMap> Map for Floats<F> {
    const DTYPES: &'static [DType] = FLOATS;
    const ACCURACY: Accuracy = F::ACCURACY;

    fn parse(spec: &NodeSpec) -> Result<Self, OpError> {
        Ok(Self(F::parse(spec)?))
    }

    fn activation(&self) -> Option<Activation> {
        self.0.activation()
    }

    fn scalar(&self, b: &mut Builder, x: Reg, _: DType) -> Option<Reg> {
        Some(self.0.scalar(b, x))
    }

    fn reference(&self, x: &RefTensor) -> Result<RefTensor, OpError> {
        Ok(x.with_data(RefData::Float(x.as_floats()?.iter().map(|&x| self.0.formula(x)).collect())))
    }

    fn case(g: &mut Gen) -> Case {
        let (dtype, shape) = (*g.pick(FLOATS), draw_shape(g));
        let case = Case::new([draw_numbers(g, dtype, &shape, F::DRAWN)]);
        F::draw(g, case)
    }
}
