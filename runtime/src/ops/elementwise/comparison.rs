//! Comparisons of two values of one type.

use super::draw::draw_pair;
use super::zip::{Zip, zip};
use crate::cpu::broadcast::zip_text;
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::{Bool, DType, NUMBERS};
use crate::error::OpError;
use crate::graph::fact::TensorFact;
use crate::loops::program::{Builder, Reg};
use crate::ops::attributes::NodeSpec;
use crate::ops::{Accuracy, OpDef};
use crate::reference::{RefData, RefTensor};
use crate::testing::{Case, Gen};
use std::cmp::Ordering;
use std::fmt::Debug;

/// A comparison. Every comparison with a NaN is false.
pub(in crate::ops) trait Comparison: Copy + Debug + Default + Send + Sync + 'static {
    const DTYPES: &'static [DType] = NUMBERS;

    /// The comparison, for programs.
    fn scalar(b: &mut Builder, p: Reg, q: Reg) -> Reg;

    /// The specification's: whether values in this order, none with NaN, compare as true.
    fn holds(order: Option<Ordering>) -> bool;

    /// The output's fact with what is known of its content.
    fn with_content(fact: TensorFact, _a: &TensorFact, _b: &TensorFact) -> TensorFact {
        fact
    }
}

/// The definition of the operator `F`.
pub(in crate::ops) const fn comparison<F: Comparison>(name: &'static str, since: &'static [i64]) -> OpDef {
    zip::<Of<F>>(name, since)
}

#[derive(Debug)]
struct Of<F>(F);

impl<F: Comparison> Zip for Of<F> {
    const DTYPES: &'static [DType] = F::DTYPES;
    const ACCURACY: Accuracy = Accuracy::Exact;

    fn parse(_: &NodeSpec) -> Result<Self, OpError> {
        Ok(Self(F::default()))
    }

    fn output(&self, a: DType, b: DType) -> Result<DType, OpError> {
        if a == b { Ok(DType::Bool) } else { Err(OpError::DType { index: 1, got: b }) }
    }

    fn with_content(&self, fact: TensorFact, a: &TensorFact, b: &TensorFact) -> TensorFact {
        F::with_content(fact, a, b)
    }

    fn scalar(&self, b: &mut Builder, p: Reg, q: Reg, _: [DType; 2]) -> Option<Reg> {
        Some(F::scalar(b, p, q))
    }

    fn kernel(&self, site: &CpuSite<'_>, a: DType, _: DType) -> Option<Result<Kernel, OpError>> {
        (a == DType::String).then(|| zip_text(site, |a, b| Bool::new(F::holds(a.partial_cmp(b)))))
    }

    fn reference(&self, a: &RefTensor, b: &RefTensor) -> Result<RefTensor, OpError> {
        fn compare<T: PartialOrd>(a: &[T], b: &[T], holds: fn(Option<Ordering>) -> bool) -> Vec<bool> {
            a.iter().zip(b).map(|(a, b)| holds(a.partial_cmp(b))).collect()
        }
        let data = match (&a.data, &b.data) {
            (RefData::Float(a), RefData::Float(b)) => compare(a, b, F::holds),
            (RefData::Int(a), RefData::Int(b)) => compare(a, b, F::holds),
            (RefData::Bool(a), RefData::Bool(b)) => compare(a, b, F::holds),
            (RefData::Text(a), RefData::Text(b)) => compare(a, b, F::holds),
            _ => return Err(OpError::internal("comparison of different types")),
        };
        Ok(RefTensor::bools(&a.shape, data))
    }

    fn case(g: &mut Gen) -> Case {
        let dtype = *g.pick(F::DTYPES);
        let (mut a, b) = draw_pair(g, (dtype, dtype), ((-2.0, 2.0), (-2.0, 2.0)));
        // Equal elements are rare among drawn ones.
        if g.chance(0.3) {
            a = b.clone();
        }
        Case::new([a, b])
    }
}
