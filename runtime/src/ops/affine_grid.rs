//! # AffineGrid
//! `grid[n, i…] = θ_n · (p(i), 1)`: sampling positions of an affine map, `p` being evenly spaced over [−1, 1] on each
//! axis, innermost first; at the pixels' centres, or from corner to corner where `align_corners` is 1. An axis of
//! one pixel lies at 0. Computed in f64. Opset 20.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::number::{Number, dispatch};
use crate::cpu::split::{for_each_chunk, rows_per_chunk};
use crate::cpu::strided_copy::span;
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::{DType, FLOATS};
use crate::error::OpError;
use crate::graph::dim::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::tensor::{Shape, Tensor};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "AffineGrid",
    domain: "",
    since: &[20],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

#[derive(Debug)]
struct AffineGrid {
    align: bool,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(AffineGrid { align: spec.flag_or("align_corners", false)? }))
}

/// Position of pixel `i` of `n`.
fn position(i: usize, n: usize, align: bool) -> f64 {
    let (i, n) = (i as f64, n as f64);
    match align {
        true if n > 1.0 => 2.0 * i / (n - 1.0) - 1.0,
        true => 0.0,
        false => (2.0 * i + 1.0) / n - 1.0,
    }
}

impl Op for AffineGrid {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 2)?;
        let theta = inputs.typed(0, FLOATS)?;
        let size = super::expand::shape_from(inputs.typed(1, &[DType::I64])?, 1)?;
        let maps = theta.shape.as_deref();
        if maps.is_some_and(|m| m.len() != 3) {
            return Err(OpError::input(0, "is not a list of matrices"));
        }
        let Some(size) = size else { return Ok(vec![TensorFact::unranked(theta.dtype).into()]) };
        let axes = size.len().saturating_sub(2);
        if axes != 2 && axes != 3 {
            return Err(OpError::value(format!("a size of {} axes", size.len())));
        }
        let want = [size[0].clone(), Dim::Known(axes), Dim::Known(axes + 1)];
        let misfit = |(m, w): (&Dim, &Dim)| m.known().zip(w.known()).is_some_and(|(m, w)| m != w);
        if maps.is_some_and(|m| m.iter().zip(&want).any(misfit)) {
            return Err(OpError::shape(format!("matrices {maps:?} instead of {want:?}")));
        }
        let mut out = vec![size[0].clone()];
        out.extend_from_slice(&size[2..]);
        out.push(Dim::Known(axes));
        Ok(vec![TensorFact::new(theta.dtype, out).into()])
    }

    fn prepared_from(&self) -> &[usize] {
        &[1]
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let shape = site.output_shape(0)?;
        let pixels: Shape = shape[1..shape.len() - 1].into();
        let (align, axes, count) = (self.align, pixels.len(), span(&pixels));
        dispatch!(site.inputs.tensor(0)?.dtype, floats, T => Ok(Kernel::new(move |io| {
            let (theta, context) = (io.input::<T>(0)?, io.context);
            let out = io.output::<T>(0)?;
            if out.is_empty() {
                return Ok(());
            }
            let per = rows_per_chunk(out.len() / axes, 4 * axes, context.team.threads());
            for_each_chunk(context, out, per * axes, |chunk, piece| {
                for (j, y) in piece.chunks_exact_mut(axes).enumerate() {
                    let flat = chunk * per + j;
                    let map = &theta[flat / count * axes * (axes + 1)..][..axes * (axes + 1)];
                    // The homogeneous coordinates, innermost axis first.
                    let mut at = [1.0; 4];
                    let mut rest = flat % count;
                    for (p, &n) in at.iter_mut().zip(pixels.iter().rev()) {
                        *p = position(rest % n, n, align);
                        rest /= n;
                    }
                    for (y, row) in y.iter_mut().zip(map.chunks_exact(axes + 1)) {
                        *y = T::from_f64(row.iter().zip(&at).map(|(t, p)| t.to_f64() * p).sum());
                    }
                }
            })?;
            Ok(())
        })))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let along = |n: usize| (0..n).map(|i| position(i, n, self.align)).collect();
        families::coordinates::affine_grid(site, along)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let theta = inputs.tensor(0)?;
        let size: Vec<usize> = inputs.tensor(1)?.to_i64s()?.into_iter().map(|v| v as usize).collect();
        let axes = size.len() - 2;
        let shape = [&size[..1], &size[2..], &[axes]].concat();
        let t = theta.as_floats()?;
        // Where pixel `i` of an axis lies: a step from the first to the last position.
        let along = |i: usize, n: usize| {
            if self.align {
                if n == 1 { 0.0 } else { -1.0 + i as f64 * (2.0 / (n as f64 - 1.0)) }
            } else {
                let step = 2.0 / n as f64;
                -1.0 + step / 2.0 + i as f64 * step
            }
        };
        let data = (0..shape.iter().product())
            .map(|flat| {
                let index = RefTensor::unravel(&shape, flat);
                let row = (index[0] * axes + index[axes + 1]) * (axes + 1);
                let sum: f64 = (0..axes).map(|c| t[row + c] * along(index[axes - c], shape[axes - c])).sum();
                sum + t[row + axes]
            })
            .collect();
        Ok(vec![RefTensor::floats(theta.dtype, &shape, data).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let axes = g.size(2, 3);
    let mut size: Vec<i64> = g.shape(axes + 2).iter().map(|&d| d as i64).collect();
    size[1] = g.int(0, 3);
    let dtype = *g.pick(FLOATS);
    let theta = g.tensor(dtype, &[size[0] as usize, axes, axes + 1]);
    let size = Tensor::new(&[axes + 2], size).unwrap_or_else(|_| Tensor::scalar(0i64));
    let case = Case::new([theta, size]).opset(20);
    let case = if g.chance(0.7) { case.int("align_corners", g.int(0, 1)) } else { case };
    if g.chance(0.6) { case.constant(1) } else { case }
}
