//! Nests over values that lie anywhere between kernels: for types, and for parts of operators, that have no kernel of their
//! own.

use super::map;
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::graph::TensorFact;
use crate::graph::fact::{Fact, Facts};
use crate::loops::{Affine, Nest, Opaque};

/// The place `first` and so many elements further for each step along an axis, of what has one axis itself.
pub(super) fn flat(first: usize, steps: &[(usize, usize)]) -> Option<Affine> {
    let signed = |v: usize| i64::try_from(v).ok();
    let start = Affine::constant(signed(first)?);
    steps.iter().try_fold(start, |sum, &(axis, step)| sum.plus(axis, signed(step)?))
}

/// The launches of the nest that `build` makes of operands and a result of these forms.
pub(super) fn nest(
    site: &GpuSite<'_>,
    operands: Vec<TensorFact>,
    result: TensorFact,
    build: impl FnOnce(Facts<'_>, &[Fact]) -> Result<Nest, Opaque>,
) -> Result<GpuKernel, GpuReject> {
    let operands: Vec<Fact> = operands.into_iter().map(Fact::from).collect();
    let (given, made): (Vec<Option<&Fact>>, _) = (operands.iter().map(Some).collect(), [Fact::from(result)]);
    let inner = GpuSite {
        inputs: Facts(&given),
        outputs: &made,
        wanted: &[true],
        strided: &[],
        behind: None,
        ..*site
    };
    map::of_nest(&inner, build(inner.inputs, &made))
}

/// The launches of the nest that `build` makes of input 0 and output 0, which hold truth values, as bytes of 0 and 1.
pub(crate) fn of_truth(
    site: &GpuSite<'_>,
    build: impl FnOnce(Facts<'_>, &[Fact]) -> Result<Nest, Opaque>,
) -> Result<GpuKernel, GpuReject> {
    let bytes = |shape: &[usize]| Fact::from(TensorFact::known(DType::U8, shape));
    let (x, made) = (bytes(&site.input_shape(0)?), [bytes(&site.output_shape(0)?)]);
    let mut given = site.inputs.0.to_vec();
    given[0] = Some(&x);
    let inner = GpuSite { inputs: Facts(&given), outputs: &made, ..*site };
    map::of_nest(&inner, build(inner.inputs, &made))
}
