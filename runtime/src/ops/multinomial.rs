//! # Multinomial
//! `sample_size` draws per row of a tensor [rows, classes] of unnormalised log-probabilities: the class of each.
//! Opsets 7, 22.
//!
//! A class is drawn by looking up a uniform number in the running sum of `e^(x − max x)`. `seed` fixes the
//! sequence of outputs; without it they differ from process to process.

use super::attributes::NodeSpec;
use super::random::source;
use super::{Accuracy, Op, OpDef};
use crate::cpu::number::{Number, dispatch};
use crate::cpu::random::{RandomSource, RandomStream};
use crate::cpu::{CpuSite, Io, Kernel};
use crate::cuda::families::drawn_classes;
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::{DType, FLOATS};
use crate::error::OpError;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Multinomial",
    domain: "",
    since: &[7, 22],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Random,
    parse,
    case,
};

const CLASS_TYPES: &[DType] = &[DType::I32, DType::I64];

#[derive(Debug)]
struct Multinomial {
    samples: usize,
    dtype: DType,
    source: RandomSource,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let dtype = spec.dtype("dtype")?.unwrap_or(DType::I32);
    if !CLASS_TYPES.contains(&dtype) {
        return Err(OpError::attribute("dtype", format!("is {dtype}, not int32 or int64")));
    }
    let samples = usize::try_from(spec.int_or("sample_size", 1)?)
        .map_err(|_| OpError::attribute("sample_size", "is negative"))?;
    Ok(Arc::new(Multinomial { samples, dtype, source: source(spec)? }))
}

impl Op for Multinomial {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 1)?;
        let rows = match inputs.typed(0, FLOATS)?.shape.as_deref() {
            Some([rows, _]) => rows.clone(),
            Some(other) => return Err(OpError::shape(format!("{other:?} is not [rows, classes]"))),
            None => Dim::Unknown,
        };
        Ok(vec![TensorFact::new(self.dtype, vec![rows, Dim::Known(self.samples)]).into()])
    }

    fn is_deterministic(&self) -> bool {
        false
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        drawn_classes::kernel(site, &self.source, self.samples)
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let (samples, dtype, source) = (self.samples, self.dtype, self.source.clone());
        let classes = site.input_shape(0)?[1];
        dispatch!(site.inputs.tensor(0)?.dtype, floats, T => Ok(Kernel::new(move |io| match dtype {
            DType::I32 => draw::<T, i32>(io, classes, samples, source.next(), |class| class as i32),
            _ => draw::<T, i64>(io, classes, samples, source.next(), |class| class as i64),
        })
        .with_scratch(classes * size_of::<f64>())))
    }

    /// Zeros of the right form: the outputs are random.
    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let rows = inputs.tensor(0)?.shape[0];
        let zeros = vec![0; rows * self.samples];
        Ok(vec![RefTensor::ints(self.dtype, &[rows, self.samples], zeros).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn draw<T: Number, C: crate::dtype::Element>(
    io: &mut Io<'_, '_>,
    classes: usize,
    samples: usize,
    stream: RandomStream,
    class: fn(usize) -> C,
) -> Result<(), OpError> {
    let x = io.input::<T>(0)?;
    let (y, scratch) = io.output_and_scratch::<C>(0)?;
    if y.is_empty() {
        return Ok(());
    }
    if classes == 0 {
        return Err(OpError::value("there is no class to draw"));
    }
    let sums: &mut [f64] = bytemuck::try_cast_slice_mut(&mut scratch[..classes * size_of::<f64>()])
        .map_err(|_| OpError::internal("scratch memory is not aligned"))?;
    for (row, (x, y)) in x.chunks(classes).zip(y.chunks_mut(samples)).enumerate() {
        let most = x.iter().map(|x| x.to_f64()).fold(f64::NEG_INFINITY, f64::max);
        let mut total = 0.0;
        for (sum, x) in sums.iter_mut().zip(x) {
            total += (x.to_f64() - most).exp();
            *sum = total;
        }
        if !total.is_finite() {
            return Err(OpError::value(format!("row {row} holds no finite log-probabilities")));
        }
        for (i, y) in y.iter_mut().enumerate() {
            let at = stream.uniform(row * samples + i) * total;
            *y = class(sums.partition_point(|&sum| sum <= at).min(classes - 1));
        }
    }
    Ok(())
}

fn case(g: &mut Gen) -> Case {
    let shape = [g.extent(), g.positive_extent()];
    let dtype = *g.pick(FLOATS);
    let mut case = Case::new([g.tensor_in(dtype, &shape, -4.0, 4.0)]);
    if g.chance(0.7) {
        case = case.int("sample_size", g.int(0, 9));
    }
    if g.chance(0.5) {
        case = case.dtype("dtype", *g.pick(CLASS_TYPES));
    }
    if g.chance(0.5) { case.float("seed", g.float(-9.0, 9.0) as f32) } else { case }
}
