//! Functions of two truth values, and of the bits of two integers.

use super::draw::draw_pair;
use super::zip::{Zip, zip};
use crate::dtype::{DType, INTS};
use crate::error::OpError;
use crate::loops::program::{Builder, Reg};
use crate::ops::attributes::NodeSpec;
use crate::ops::{Accuracy, OpDef};
use crate::reference::RefTensor;
use crate::testing::{Case, Gen};
use std::fmt::Debug;

/// A function of two truth values.
pub(in crate::ops) trait Logic: Debug + Default + Send + Sync + 'static {
    /// The function, for programs.
    fn scalar(b: &mut Builder, p: Reg, q: Reg) -> Reg;

    /// The specification's: what of no, one and two true values is true.
    const TRUE_OF: [bool; 3];
}

/// The definition of the operator `F`.
pub(in crate::ops) const fn logic<F: Logic>(name: &'static str, since: &'static [i64]) -> OpDef {
    zip::<OfTruth<F>>(name, since)
}

#[derive(Debug)]
struct OfTruth<F>(F);

impl<F: Logic> Zip for OfTruth<F> {
    const DTYPES: &'static [DType] = &[DType::Bool];
    const ACCURACY: Accuracy = Accuracy::Exact;

    fn parse(_: &NodeSpec) -> Result<Self, OpError> {
        Ok(Self(F::default()))
    }

    fn scalar(&self, b: &mut Builder, p: Reg, q: Reg, _: [DType; 2]) -> Option<Reg> {
        Some(F::scalar(b, p, q))
    }

    fn reference(&self, a: &RefTensor, b: &RefTensor) -> Result<RefTensor, OpError> {
        let pairs = a.as_bools()?.iter().zip(b.as_bools()?);
        let data = pairs.map(|(&a, &b)| F::TRUE_OF[usize::from(a) + usize::from(b)]).collect();
        Ok(RefTensor::bools(&a.shape, data))
    }

    fn case(g: &mut Gen) -> Case {
        let (a, b) = draw_pair(g, (DType::Bool, DType::Bool), ((0.0, 1.0), (0.0, 1.0)));
        Case::new([a, b])
    }
}

/// A function of the bits of two integers.
pub(in crate::ops) trait Bitwise: Debug + Default + Send + Sync + 'static {
    /// The function, for programs.
    fn scalar(b: &mut Builder, p: Reg, q: Reg) -> Reg;

    /// The specification's: what of no, one and two set bits is set.
    const SET_OF: [bool; 3];
}

/// The definition of the operator `F`.
pub(in crate::ops) const fn bitwise<F: Bitwise>(name: &'static str, since: &'static [i64]) -> OpDef {
    zip::<OfBits<F>>(name, since)
}

#[derive(Debug)]
struct OfBits<F>(F);

impl<F: Bitwise> Zip for OfBits<F> {
    const DTYPES: &'static [DType] = INTS;
    const ACCURACY: Accuracy = Accuracy::Exact;

    fn parse(_: &NodeSpec) -> Result<Self, OpError> {
        Ok(Self(F::default()))
    }

    fn scalar(&self, b: &mut Builder, p: Reg, q: Reg, _: [DType; 2]) -> Option<Reg> {
        Some(F::scalar(b, p, q))
    }

    fn reference(&self, a: &RefTensor, b: &RefTensor) -> Result<RefTensor, OpError> {
        let bit = |a: i128, b: i128, i: u32| F::SET_OF[((a >> i & 1) + (b >> i & 1)) as usize];
        let word = |a: i128, b: i128| (0..64).map(|i| i128::from(bit(a, b, i)) << i).sum();
        let data = a.as_ints()?.iter().zip(b.as_ints()?).map(|(&a, &b)| word(a, b)).collect();
        Ok(RefTensor::wrapped(a.dtype, &a.shape, data))
    }

    fn case(g: &mut Gen) -> Case {
        let dtype = *g.pick(INTS);
        let (a, b) = draw_pair(g, (dtype, dtype), ((-9.0, 9.0), (-9.0, 9.0)));
        Case::new([a, b])
    }
}
