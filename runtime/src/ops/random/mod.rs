//! Operators whose output is drawn from a distribution, of a shape that an attribute or another tensor gives.
//!
//! `seed` fixes the sequence of outputs; without it they differ from process to process.

mod normal;
mod uniform;

pub(super) use normal::Normal;
pub(super) use uniform::Uniform;

use super::attributes::NodeSpec;
use super::elementwise::same_shape;
use super::{Accuracy, Op, OpDef};
use crate::cpu::number::{Number, dispatch};
use crate::cpu::random::{RandomSource, RandomStream};
use crate::cpu::split::for_each_piece;
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::{DType, FLOATS, MOVABLE};
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

/// A distribution of real numbers.
pub(super) trait Distribution: Copy + Debug + Send + Sync + 'static {
    /// Names and defaults of its two parameters.
    const PARAMETERS: [(&'static str, f32); 2];

    fn new(parameters: [f64; 2]) -> Self;

    /// Element `i`.
    fn draw(self, stream: RandomStream, i: usize) -> f64;

    /// All elements on a GPU.
    fn gpu(self, site: &GpuSite<'_>, source: &RandomSource) -> Result<GpuKernel, GpuReject>;
}

/// The definition of the operator that fills a tensor of the shape that its attribute gives.
pub(super) const fn filled<D: Distribution>(name: &'static str) -> OpDef {
    OpDef {
        name,
        domain: "",
        since: &[1, 22],
        until: None,
        dtypes: FLOATS,
        accuracy: Accuracy::Random,
        parse: |spec| {
            let shape = spec.sizes("shape")?.ok_or_else(|| OpError::attribute("shape", "is missing"))?;
            let dtype = Some(float_type(spec)?.unwrap_or(DType::F32));
            Ok(Arc::new(Random { shape: Some(shape), dtype, ..Random::<D>::read(spec)? }))
        },
        case: |g| {
            let shape: Vec<i64> = shape(g).into_iter().map(|d| d as i64).collect();
            parameters::<D>(g, Case::new([])).ints("shape", &shape)
        },
    }
}

/// The definition of the operator that fills a tensor of the shape of its input.
pub(super) const fn like<D: Distribution>(name: &'static str) -> OpDef {
    OpDef {
        name,
        domain: "",
        since: &[1, 22],
        until: None,
        dtypes: MOVABLE,
        accuracy: Accuracy::Random,
        parse: |spec| {
            Ok(Arc::new(Random { shape: None, dtype: float_type(spec)?, ..Random::<D>::read(spec)? }))
        },
        case: |g| {
            let shape = shape(g);
            let input = g.tensor(DType::F16, &shape);
            parameters::<D>(g, Case::new([input]))
        },
    }
}

/// The source for the `seed` that a node gives.
pub(super) fn source(spec: &NodeSpec) -> Result<RandomSource, OpError> {
    Ok(RandomSource::new(spec.float("seed")?.map(|s| u64::from(s.to_bits()))))
}

fn float_type(spec: &NodeSpec) -> Result<Option<DType>, OpError> {
    match spec.dtype("dtype")? {
        Some(dtype) if !FLOATS.contains(&dtype) => {
            Err(OpError::attribute("dtype", format!("is {dtype}, which is no float")))
        }
        other => Ok(other),
    }
}

#[derive(Debug)]
struct Random<D> {
    distribution: D,
    source: RandomSource,
    /// The output's, unless it is the input's.
    shape: Option<Vec<usize>>,
    /// The output's, unless it is the input's.
    dtype: Option<DType>,
}

impl<D: Distribution> Random<D> {
    fn read(spec: &NodeSpec) -> Result<Self, OpError> {
        let [(first, a), (second, b)] = D::PARAMETERS;
        let parameters = [spec.float_or(first, a)?.into(), spec.float_or(second, b)?.into()];
        Ok(Self { distribution: D::new(parameters), source: source(spec)?, shape: None, dtype: None })
    }
}

impl<D: Distribution> Op for Random<D> {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        if let (Some(shape), Some(dtype)) = (&self.shape, self.dtype) {
            inputs.expect_count(0, 0)?;
            return Ok(vec![TensorFact::known(dtype, shape).into()]);
        }
        inputs.expect_count(1, 1)?;
        let x = inputs.tensor(0)?;
        match self.dtype {
            Some(dtype) => Ok(vec![same_shape(x, dtype).into()]),
            None => Ok(vec![same_shape(inputs.typed(0, FLOATS)?, x.dtype).into()]),
        }
    }

    fn is_deterministic(&self) -> bool {
        false
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        self.distribution.gpu(site, &self.source)
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let (distribution, source) = (self.distribution, self.source.clone());
        let dtype = site.outputs.first().and_then(|f| Some(f.tensor()?.dtype)).unwrap_or(DType::F32);
        dispatch!(dtype, floats, T => Ok(Kernel::new(move |io| {
            let (stream, context) = (source.next(), io.context);
            for_each_piece(context, io.output::<T>(0)?, |start, piece| {
                for (i, y) in piece.iter_mut().enumerate() {
                    *y = T::from_f64(distribution.draw(stream, start + i));
                }
            })
        })))
    }

    /// Zeros of the right form: the outputs are random.
    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let like = inputs.optional(0)?;
        let shape = self.shape.as_ref().or(like.map(|x| &x.shape));
        let dtype = self.dtype.or(like.map(|x| x.dtype));
        let (shape, dtype) = shape.zip(dtype).ok_or_else(|| OpError::input(0, "is missing"))?;
        Ok(vec![RefTensor::floats(dtype, shape, vec![0.0; shape.iter().product()]).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn shape(g: &mut Gen) -> Vec<usize> {
    super::elementwise::draw_shape(g)
}

fn parameters<D: Distribution>(g: &mut Gen, mut case: Case) -> Case {
    for (name, _) in D::PARAMETERS {
        if g.chance(0.5) {
            case = case.float(name, g.float(0.0, 2.0) as f32);
        }
    }
    if g.chance(0.5) {
        case = case.dtype("dtype", *g.pick(FLOATS));
    }
    if g.chance(0.5) { case.float("seed", g.float(-9.0, 9.0) as f32) } else { case }
}
