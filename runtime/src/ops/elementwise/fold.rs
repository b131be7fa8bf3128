//! Operators that combine any number of tensors that broadcast to one shape.

use super::draw::{draw_numbers, draw_shape};
use super::shape_values::{Entry, with_entries};
use super::zip::broadcast_fact;
use crate::cpu::program::operator_kernel;
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::families::folded;
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts};
use crate::loops::program::{Builder, Reg};
use crate::ops::{Accuracy, Op, OpDef};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

/// Folds a function of two numbers over one or more tensors, in the compute type.
pub(in crate::ops) trait Fold: Copy + Debug + Default + Send + Sync + 'static {
    const DTYPES: &'static [DType];
    const ACCURACY: Accuracy;

    /// The function, for programs.
    fn scalar(b: &mut Builder, p: Reg, q: Reg) -> Reg;

    /// What becomes of the folded value of `count` tensors, for programs.
    fn finish(_: &mut Builder, folded: Reg, _count: usize) -> Reg {
        folded
    }

    /// The specification's value for the elements of all tensors at one place.
    fn float(elements: &[f64]) -> f64;

    /// The same for integers.
    fn int(elements: &[i128]) -> i128;

    /// The function on shape arithmetic, as far as it is known.
    fn entry(_a: &Entry, _b: &Entry) -> Entry {
        Entry::UNKNOWN
    }
}

/// The definition of the operator `F`.
pub(in crate::ops) const fn fold<F: Fold>(name: &'static str, since: &'static [i64]) -> OpDef {
    OpDef {
        name,
        domain: "",
        since,
        until: None,
        dtypes: F::DTYPES,
        accuracy: F::ACCURACY,
        parse: |_| Ok(Arc::new(Folded(F::default()))),
        case: case::<F>,
    }
}

#[derive(Debug)]
struct Folded<F>(F);

impl<F: Fold> Op for Folded<F> {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(inputs.len().max(1), usize::MAX)?;
        let first = inputs.typed(0, F::DTYPES)?;
        let all: Vec<_> =
            (0..inputs.len()).map(|i| inputs.typed(i, &[first.dtype])).collect::<Result<_, _>>()?;
        let fact = with_entries(broadcast_fact(first.dtype, &all)?, &all, |entries| {
            entries.iter().skip(1).fold(entries[0].clone(), |a, b| F::entry(&a, b))
        });
        Ok(vec![fact.into()])
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        operator_kernel(self, site)
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        if site.inputs.len() <= folded::MOST_INPUTS {
            return families::map::of_nest(site, self.nest(site.inputs, site.outputs));
        }
        families::folded::kernel(site, F::scalar, F::finish)
    }

    fn scalar(&self, _: Facts<'_>, b: &mut Builder, operands: &[Option<Reg>]) -> Option<Reg> {
        let all: Vec<Reg> = operands.iter().copied().collect::<Option<_>>()?;
        let folded = all.iter().copied().reduce(|p, q| F::scalar(b, p, q))?;
        Some(F::finish(b, folded, all.len()))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let all: Vec<_> = (0..inputs.len()).map(|i| inputs.tensor(i)).collect::<Result<_, _>>()?;
        let all = RefTensor::broadcast(&all)?;
        let (dtype, shape, n) = (all[0].dtype, &all[0].shape, all[0].len());
        if dtype.is_int() {
            let columns: Vec<_> = all.iter().map(RefTensor::as_ints).collect::<Result<_, _>>()?;
            let data = (0..n).map(|i| F::int(&columns.iter().map(|c| c[i]).collect::<Vec<_>>())).collect();
            return Ok(vec![RefTensor::wrapped(dtype, shape, data).into()]);
        }
        let columns: Vec<_> = all.iter().map(RefTensor::as_floats).collect::<Result<_, _>>()?;
        let data = (0..n).map(|i| F::float(&columns.iter().map(|c| c[i]).collect::<Vec<_>>())).collect();
        Ok(vec![RefTensor::floats(dtype, shape, data).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case<F: Fold>(g: &mut Gen) -> Case {
    let (dtype, shape) = (*g.pick(F::DTYPES), draw_shape(g));
    // More than a GPU kernel takes at once among them.
    let count = if g.chance(0.1) { g.size(9, 20) } else { g.size(1, 5) };
    let tensor = |g: &mut Gen| {
        let own = g.broadcastable(&shape);
        match F::ACCURACY {
            Accuracy::Exact => draw_numbers(g, dtype, &own, (-5.0, 5.0)),
            // Far larger terms that cancel would leave their own rounding.
            _ => g.tensor_in(dtype, &own, -5.0, 5.0),
        }
    };
    Case::new((0..count).map(|_| tensor(g)).collect::<Vec<_>>())
}
