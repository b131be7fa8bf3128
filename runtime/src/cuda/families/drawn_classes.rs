//! Classes drawn by their probabilities: the running sums of `e^(x − max x)` along each row, and for each draw how many of them
//! lie at or below the part of the last one that a uniform number is.
//!
//! All of it is f64, as on the CPU; a draw is another class only where it lies within rounding of the border between two.

use super::composition::Place;
use super::drawn::Drawn;
use super::located::{Located, bytes, kind, nothing};
use super::{indexed, lines, looped};
use crate::cpu::random::RandomSource;
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::graph::fact::{Fact, Facts};
use crate::graph::{Dim, TensorFact};
use crate::loops::program::Kind;
use crate::loops::{Affine, Fold, Outside, Stages};
use crate::tensor::Tensor;

/// Output 0, `samples` draws of each row of input 0, which has a logarithm for each class.
pub(crate) fn kernel(
    site: &GpuSite<'_>,
    source: &RandomSource,
    samples: usize,
) -> Result<GpuKernel, GpuReject> {
    let shape = site.input_shape(0)?;
    let &[rows, classes] = &shape[..] else { return Err(GpuReject::NoKernel) };
    if rows == 0 || samples == 0 {
        return Ok(nothing());
    }
    if classes == 0 {
        return Err(GpuReject::Form("draws among no classes".into()));
    }
    let (given, table) = (TensorFact::known(site.dtype(0)?, &shape), TensorFact::known(DType::F64, &shape));
    let numbers = TensorFact::known(DType::F64, &[rows, samples]);
    let mut drawn = Drawn::begin(site, source, &[rows, samples])?;
    let at = drawn.between(bytes(DType::F64, &[rows, samples])?)?;
    let number = drawn.uniform();
    let mut whole = drawn.store_at("numbers", number, DType::F64, at)?;

    let [powers, sums] =
        [whole.between(bytes(DType::F64, &shape)?)?, whole.between(bytes(DType::F64, &shape)?)?];
    let kernel = looped::nest(site, vec![given], table.clone(), |facts, made| {
        let here = vec![Affine::axis(0), Affine::axis(1)];
        let mut nest = Stages::over(facts, made, vec![Dim::Known(rows), Dim::Known(classes)])?;
        let x = nest.read(0, here.clone(), Outside::Never)?;
        let most = nest.fold(Fold::Max, &[1], &[x], |_, v| v[0])?;
        nest.store(here, &[1], &[x, most], |p, v| {
            let below = p.sub(v[0], v[1]);
            p.exp(below)
        })
    })?;
    whole.add("powers", kernel, vec![Place::Input(0)], vec![powers])?;
    let fact = Fact::from(table.clone());
    let wide = GpuSite { inputs: Facts(&[Some(&fact)]), outputs: &[fact.clone()], strided: &[], ..*site };
    let kernel = lines::cumulative(&wide, &shape, 1, false, (false, false))?;
    whole.add("sums", kernel, vec![powers], vec![sums])?;

    let made = site.outputs.first().and_then(Fact::tensor).ok_or(GpuReject::NoKernel)?.dtype;
    let (stored, made) = (kind(made)?, TensorFact::known(made, &[rows, samples]));
    let kernel = looped::nest(site, vec![numbers, table], made, |facts, made| {
        let axes = [rows, samples, classes].map(Dim::Known).to_vec();
        let mut nest = Stages::over(facts, made, axes)?.computed_in(Kind::F64);
        let here = vec![Affine::axis(0), Affine::axis(1)];
        let number = nest.read(0, here.clone(), Outside::Never)?;
        let sum = nest.read(1, vec![Affine::axis(0), Affine::axis(2)], Outside::Never)?;
        let last = Affine::constant(classes as i64 - 1);
        let total = nest.read(1, vec![Affine::axis(0), last], Outside::Never)?;
        let below = nest.fold(Fold::Sum, &[2], &[number, sum, total], |p, v| {
            let part = p.mul(v[0], v[2]);
            let below = p.le(v[1], part);
            let (one, none) = (p.constant(Kind::F64, 1.0), p.constant(Kind::F64, 0.0));
            p.select(below, one, none)
        })?;
        nest.store(here, &[], &[below], |p, v| {
            let last = p.constant(Kind::F64, classes as f64 - 1.0);
            let class = p.min(v[0], last);
            p.convert(class, stored)
        })
    })?;
    whole.add("classes", kernel, vec![at, sums], vec![Place::Output(0)])?;

    // A row without a finite sum reads what lies beyond a table of one element.
    let [places, read] =
        [whole.between(bytes(DType::I64, &[rows])?)?, whole.between(bytes(DType::I32, &[rows])?)?];
    let mut map = Located::behind(whole, site, &[rows]);
    let total = map.read(sums, DType::F64, vec![classes as u64], classes as u64 - 1)?;
    let b = &mut map.builder;
    let rest = b.sub(total, total);
    let zero = b.constant(Kind::F64, 0.0);
    let is_finite = b.eq(rest, zero);
    let (inside, outside) = (b.integer(Kind::I64, 0), b.integer(Kind::I64, 1));
    let place = b.select(is_finite, inside, outside);
    let mut whole = map.store("places", place, DType::I64, places)?;
    let one = whole.derived(&Tensor::new(&[1], vec![0i32]).map_err(|_| GpuReject::NoKernel)?);
    let of = [(DType::I32, 1), (DType::I64, rows), (DType::I32, rows)];
    let [one_fact, places_fact, read_fact] = of.map(|(dtype, n)| Fact::from(TensorFact::known(dtype, &[n])));
    let inputs = [Some(&one_fact), Some(&places_fact)];
    let inner =
        GpuSite { inputs: Facts(&inputs), outputs: &[read_fact], wanted: &[true], strided: &[], ..*site };
    let kernel = indexed::read(&inner, indexed::of_elements(&[1], &[rows], 0, DType::I32)?)?;
    let kernel = kernel.with_fault_of(Some("a row holds no finite log-probabilities"));
    whole.add("found", kernel, vec![one, places], vec![read])?;
    Ok(whole.finish())
}
