//! # Dropout
//! Outside training `y = x`, and the mask is true everywhere. In training, which an input asks for from opset 12
//! on, each element is kept with probability `1 − ratio` and scaled by `1 / (1 − ratio)`, or set to zero; the
//! mask tells which are kept. Opsets 7, 10, 12, 13, 22.
//!
//! The mask has the type of `x` in opset 7 and is `bool` later. `seed` fixes the sequence of masks; without it
//! they differ from process to process.

use super::attributes::NodeSpec;
use super::elementwise::{draw_numbers, draw_shape, same_shape};
use super::{Accuracy, Op, OpDef};
use crate::cpu::number::{Number, dispatch};
use crate::cpu::random::RandomSource;
use crate::cpu::split::for_each_piece;
use crate::cpu::{CpuSite, Io, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::{Bool, DType, Element, FLOATS};
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::tensor::Tensor;
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Dropout",
    domain: "",
    since: &[7, 10, 12, 13, 22],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

/// First version whose mask is of truth values.
const TRUTH_MASK: i64 = 10;
/// First version whose ratio is an input, beside one that asks for training.
const TRAINING: i64 = 12;
/// Ratio where none is given.
const RATIO: f64 = 0.5;

#[derive(Debug)]
struct Dropout {
    truth_mask: bool,
    masks: bool,
    /// Whether there is an input that may ask for training.
    trains: bool,
    source: RandomSource,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let seed = if spec.opset >= TRAINING {
        spec.int("seed")?
    } else {
        let ratio = f64::from(spec.float_or("ratio", RATIO as f32)?);
        check_ratio(ratio).map_err(|_| OpError::attribute("ratio", format!("is {ratio}")))?;
        None
    };
    Ok(Arc::new(Dropout {
        truth_mask: spec.opset >= TRUTH_MASK,
        masks: spec.has_output(1),
        trains: spec.has_input(2),
        source: RandomSource::new(seed.map(|s| s as u64)),
    }))
}

fn check_ratio(ratio: f64) -> Result<f64, OpError> {
    if (0.0..1.0).contains(&ratio) { Ok(ratio) } else { Err(OpError::value(format!("a ratio of {ratio}"))) }
}

impl Op for Dropout {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 3)?;
        let x = inputs.typed(0, FLOATS)?;
        for (index, dtypes) in [(1, FLOATS), (2, &[DType::Bool][..])] {
            if inputs.has(index) && inputs.typed(index, dtypes)?.element_count().is_some_and(|n| n != 1) {
                return Err(OpError::input(index, "is not a scalar"));
            }
        }
        let mask = if self.truth_mask { DType::Bool } else { x.dtype };
        Ok(vec![same_shape(x, x.dtype).into(), same_shape(x, mask).into()])
    }

    fn alias_of(&self) -> Option<usize> {
        (!self.masks && !self.trains).then_some(0)
    }

    fn is_deterministic(&self) -> bool {
        !self.trains
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let (truth_mask, source) = (self.truth_mask, self.source.clone());
        dispatch!(site.inputs.tensor(0)?.dtype, floats, T => Ok(Kernel::new(move |io| {
            let asked = io.optional_input::<Bool>(2)?.and_then(|t| t.first()).is_some_and(|t| t.get());
            let ratio = if asked { training_ratio(io)? } else { 0.0 };
            if ratio > 0.0 {
                return drop_out::<T>(io, ratio, &source);
            }
            let x = io.tensor(0)?;
            io.copy(0, x)?;
            if truth_mask {
                io.output::<Bool>(1)?.fill(Bool::new(true));
            } else {
                io.output::<T>(1)?.fill(T::from_f64(1.0));
            }
            Ok(())
        })))
    }

    fn prepared_from(&self) -> &[usize] {
        if self.trains { &[2] } else { &[] }
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        if !self.trains {
            return families::coordinates::kept(site);
        }
        let asked = site.constant(2).and_then(|flag| flag.as_slice::<Bool>()?.first().copied());
        let asked = asked.ok_or_else(|| GpuReject::Form("a dropout that data asks for".into()))?;
        let ratio = if site.inputs.has(1) {
            site.constant(1).and_then(|ratio| ratio.to_f64s()?.first().copied())
        } else {
            Some(RATIO)
        };
        match ratio {
            _ if !asked.get() => families::coordinates::kept(site),
            Some(ratio) => match check_ratio(ratio) {
                Ok(0.0) => families::coordinates::kept(site),
                Ok(ratio) => families::drawn::dropped(site, &self.source, ratio),
                Err(_) => Err(GpuReject::Form(format!("a dropout of ratio {ratio}"))),
            },
            None => Err(GpuReject::Form("a dropout whose ratio is data".into())),
        }
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let training = inputs.optional(2)?.map(RefTensor::as_bools).transpose()?.is_some_and(|t| t[0]);
        let ratio = inputs.optional(1)?.map(RefTensor::as_floats).transpose()?.map_or(RATIO, |r| r[0]);
        if training && ratio != 0.0 {
            return Err(OpError::unsupported("a random mask in the reference"));
        }
        let mask = if self.truth_mask {
            RefTensor::bools(&x.shape, vec![true; x.len()])
        } else {
            RefTensor::floats(x.dtype, &x.shape, vec![1.0; x.len()])
        };
        Ok(vec![x.clone().into(), mask.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn training_ratio(io: &Io<'_, '_>) -> Result<f64, OpError> {
    let Some(given) = io.optional(1) else { return Ok(RATIO) };
    let ratio = dispatch!(given.dtype(), floats, R => {
        Ok(io.input::<R>(1)?.first().map_or(RATIO, |r| r.to_f64()))
    })?;
    check_ratio(ratio)
}

fn drop_out<T: Number + Element>(
    io: &mut Io<'_, '_>,
    ratio: f64,
    source: &RandomSource,
) -> Result<(), OpError> {
    let (x, stream, context) = (io.input::<T>(0)?, source.next(), io.context);
    let kept = |i: usize| stream.uniform(i) >= ratio;
    let scale = 1.0 / (1.0 - ratio);
    for_each_piece(context, io.output::<T>(0)?, |start, y| {
        for (i, y) in y.iter_mut().enumerate() {
            let x = x[start + i].to_f64();
            *y = T::from_f64(if kept(start + i) { x * scale } else { 0.0 });
        }
    })?;
    for_each_piece(context, io.output::<Bool>(1)?, |start, mask| {
        mask.iter_mut().enumerate().for_each(|(i, m)| *m = Bool::new(kept(start + i)));
    })
}

fn case(g: &mut Gen) -> Case {
    let (dtype, shape) = (*g.pick(FLOATS), draw_shape(g));
    let x = draw_numbers(g, dtype, &shape, (-10.0, 10.0));
    let case = if g.chance(0.3) {
        Case::new([x]).opset(*g.pick(&[7, 9, 10, 11])).float("ratio", g.float(0.0, 0.9) as f32)
    } else {
        // Training is drawn with ratio 0 only: it then drops nothing.
        let training = g.chance(0.3);
        let ratio = if training { 0.0 } else { g.float(0.0, 0.9) };
        let ratio = (training || g.chance(0.5)).then(|| g.tensor_in(DType::F32, &[], ratio, ratio));
        let flag = (training || g.chance(0.5)).then(|| Tensor::scalar(Bool::new(training)));
        let case = Case::new([x]).optional(ratio).optional(flag).opset(*g.pick(&[12, 13, 22, 28]));
        if g.chance(0.5) { case.int("seed", g.int(-9, 9)) } else { case }
    };
    case.outputs(g.size(1, 2))
}
