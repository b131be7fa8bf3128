//! Functions of a float or an integer.

use super::draw::{draw_numbers, draw_shape};
use super::map::{Map, map};
use crate::dtype::{DType, NUMBERS};
use crate::error::OpError;
use crate::loops::program::{Builder, Reg};
use crate::ops::attributes::NodeSpec;
use crate::ops::recurrence::Activation;
use crate::ops::{Accuracy, OpDef};
use crate::reference::RefTensor;
use crate::testing::{Case, Gen};
use std::fmt::Debug;

/// A function of a number; integers wrap.
pub(in crate::ops) trait NumberMap: Copy + Debug + Default + Send + Sync + 'static {
    const DTYPES: &'static [DType] = NUMBERS;

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
    fn float(self, x: f64) -> f64;

    /// The specification's formula for integers; the result is wrapped.
    fn int(self, x: i128) -> i128;

    /// Draws attributes and the opset.
    fn draw(_: &mut Gen, case: Case) -> Case {
        case
    }
}

/// The definition of the operator `F`.
pub(in crate::ops) const fn number_map<F: NumberMap>(name: &'static str, since: &'static [i64]) -> OpDef {
    map::<Numbers<F>>(name, since)
}

#[derive(Debug)]
struct Numbers<F>(F);

impl<F: NumberMap> Map for Numbers<F> {
    const DTYPES: &'static [DType] = F::DTYPES;
    const ACCURACY: Accuracy = Accuracy::Exact;

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
        let f = self.0;
        Ok(x.with_data(x.map_numbers(|x| f.float(x), |x| f.int(x))?))
    }

    fn case(g: &mut Gen) -> Case {
        let (dtype, shape) = (*g.pick(F::DTYPES), draw_shape(g));
        let case = Case::new([draw_numbers(g, dtype, &shape, (-10.0, 10.0))]);
        F::draw(g, case)
    }
}
