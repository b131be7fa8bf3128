//! Arithmetic on two numbers of one type, with the arithmetic of shapes.

use super::draw::draw_pair;
use super::shape_values::{Entry, with_entries};
use super::zip::{Zip, zip};
use crate::dtype::{DType, NUMBERS};
use crate::error::OpError;
use crate::graph::fact::TensorFact;
use crate::loops::program::{Builder, Reg};
use crate::ops::attributes::NodeSpec;
use crate::ops::{Accuracy, OpDef};
use crate::reference::RefTensor;
use crate::testing::{Case, Gen};
use std::fmt::Debug;

/// A function of two numbers of one type; integers wrap.
pub(in crate::ops) trait Arithmetic: Copy + Debug + Default + Send + Sync + 'static {
    const ACCURACY: Accuracy = Accuracy::Exact;

    /// Reads the attributes; there are none unless an operator says otherwise.
    fn parse(_: &NodeSpec) -> Result<Self, OpError> {
        Ok(Self::default())
    }

    /// Whether it computes on `dtype`.
    fn takes(self, _dtype: DType) -> bool {
        true
    }

    /// The function, for programs.
    fn scalar(self, b: &mut Builder, p: Reg, q: Reg) -> Reg;

    /// The specification's formula.
    fn float(self, a: f64, b: f64) -> f64;

    /// The specification's formula for integers; the result is wrapped.
    fn int(self, a: i128, b: i128) -> i128;

    /// The function on shape arithmetic, as far as it is known.
    fn entry(self, _a: &Entry, _b: &Entry) -> Entry {
        Entry::UNKNOWN
    }

    /// Draws attributes and the opset.
    fn draw(_: &mut Gen, case: Case, _dtype: DType) -> Case {
        case
    }
}

/// The definition of the operator `F`.
pub(in crate::ops) const fn arithmetic<F: Arithmetic>(name: &'static str, since: &'static [i64]) -> OpDef {
    zip::<Of<F>>(name, since)
}

#[derive(Debug)]
struct Of<F>(F);

impl<F: Arithmetic> Zip for Of<F> {
    const DTYPES: &'static [DType] = NUMBERS;
    const ACCURACY: Accuracy = F::ACCURACY;

    fn parse(spec: &NodeSpec) -> Result<Self, OpError> {
        Ok(Self(F::parse(spec)?))
    }

    fn output(&self, a: DType, b: DType) -> Result<DType, OpError> {
        match self.0.takes(a) {
            true if a == b => Ok(a),
            true => Err(OpError::DType { index: 1, got: b }),
            false => Err(OpError::DType { index: 0, got: a }),
        }
    }

    fn with_content(&self, fact: TensorFact, a: &TensorFact, b: &TensorFact) -> TensorFact {
        with_entries(fact, &[a, b], |e| self.0.entry(&e[0], &e[1]))
    }

    fn scalar(&self, b: &mut Builder, p: Reg, q: Reg, _: [DType; 2]) -> Option<Reg> {
        Some(self.0.scalar(b, p, q))
    }

    fn reference(&self, a: &RefTensor, b: &RefTensor) -> Result<RefTensor, OpError> {
        let f = self.0;
        Ok(a.with_data(a.zip_numbers(b, |a, b| f.float(a, b), |a, b| f.int(a, b))?))
    }

    fn case(g: &mut Gen) -> Case {
        let dtype = *g.pick(NUMBERS);
        let (a, b) = draw_pair(g, (dtype, dtype), ((-10.0, 10.0), (-3.0, 3.0)));
        F::draw(g, Case::new([a, b]), dtype)
    }
}
