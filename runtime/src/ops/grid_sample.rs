//! # GridSample
//! `y[n, c, i…] = x_{n,c}(grid[n, i…, :])`: the input read at positions between its elements, of which [−1, 1] is the
//! whole of each axis, innermost axis first. `nearest` rounds halves to even; `linear` and `cubic` (a = −0.75) weigh
//! 2 or 4 neighbours on every axis. Outside lie zeros, the border, or the reflected input. Positions and weights
//! are computed in f64. Opsets 16 (two axes; `bilinear`, `bicubic`), 20 (any number of axes), 22. `linear` and
//! `cubic` take floats only.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::grid_taps::{Mode, Outside, Sampler};
use crate::cpu::number::dispatch;
use crate::cpu::strided_copy::span;
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::{FLOATS, NUMBERS_AND_BOOL};
use crate::error::OpError;
use crate::graph::dim::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::reference::{RefData, RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "GridSample",
    domain: "",
    since: &[16, 20, 22],
    until: None,
    dtypes: NUMBERS_AND_BOOL,
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

#[derive(Debug)]
struct GridSample {
    mode: Mode,
    outside: Outside,
    align: bool,
    /// Whether the input must have two spatial axes.
    planar: bool,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let planar = spec.opset < 20;
    let mode = match (spec.string("mode")?.as_deref(), planar) {
        (None, _) | (Some("bilinear"), true) | (Some("linear"), false) => Mode::Linear,
        (Some("nearest"), _) => Mode::Nearest,
        (Some("bicubic"), true) | (Some("cubic"), false) => Mode::Cubic,
        (Some(other), _) => return Err(OpError::attribute("mode", format!("is `{other}`"))),
    };
    let outside = match spec.string("padding_mode")?.as_deref() {
        None | Some("zeros") => Outside::Zeros,
        Some("border") => Outside::Border,
        Some("reflection") => Outside::Reflection,
        Some(other) => return Err(OpError::attribute("padding_mode", format!("is `{other}`"))),
    };
    Ok(Arc::new(GridSample { mode, outside, align: spec.flag_or("align_corners", false)?, planar }))
}

impl GridSample {
    fn sampler(&self, from: &[usize], to: &[usize]) -> Sampler {
        Sampler {
            mode: self.mode,
            outside: self.outside,
            align: self.align,
            extents: from[2..].into(),
            channels: from[1],
            places: span(&to[2..]),
        }
    }
}

impl Op for GridSample {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 2)?;
        let x = inputs.typed(0, if self.mode == Mode::Nearest { NUMBERS_AND_BOOL } else { FLOATS })?;
        let grid = inputs.typed(1, FLOATS)?;
        let (Some(shape), Some(places)) = (&x.shape, &grid.shape) else {
            let rank = x.rank().or(grid.rank());
            return Ok(vec![
                rank.map_or(TensorFact::unranked(x.dtype), |r| TensorFact::ranked(x.dtype, r)).into(),
            ]);
        };
        let rank = shape.len();
        if rank < 3 || (self.planar && rank != 4) || places.len() != rank {
            return Err(OpError::shape(format!("ranks {rank} and {}", places.len())));
        }
        if places[rank - 1].known().is_some_and(|n| n != rank - 2) {
            return Err(OpError::shape(format!("positions of {} coordinates", places[rank - 1])));
        }
        if rank - 2 > crate::cpu::grid_taps::MOST_AXES {
            return Err(OpError::unsupported(format!("sampling over {} axes", rank - 2)));
        }
        let batch = match (&shape[0], &places[0]) {
            (Dim::Known(a), Dim::Known(b)) if a != b => {
                return Err(OpError::shape(format!("batches of {a} and {b}")));
            }
            (Dim::Known(_), _) | (_, Dim::Unknown) => shape[0].clone(),
            (_, other) => other.clone(),
        };
        // Positions into an empty axis name nothing.
        let empty = shape[2..].contains(&Dim::Known(0));
        if empty && places[1..rank - 1].iter().all(|d| d.known().is_some_and(|n| n > 0)) {
            return Err(OpError::shape("positions in an empty image"));
        }
        let mut out = vec![batch, shape[1].clone()];
        out.extend_from_slice(&places[1..rank - 1]);
        Ok(vec![TensorFact::new(x.dtype, out).into()])
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let sampler = self.sampler(&site.input_shape(0)?, &site.output_shape(0)?);
        let grid = site.inputs.tensor(1)?.dtype;
        dispatch!(grid, floats, G => match self.mode {
            Mode::Nearest => dispatch!(site.inputs.tensor(0)?.dtype, any, T => Ok(Kernel::new(move |io| {
                let (x, grid, context) = (io.input::<T>(0)?, io.input::<G>(1)?, io.context);
                sampler.nearest(context, x, grid, io.output::<T>(0)?)?;
                Ok(())
            }))),
            _ => dispatch!(site.inputs.tensor(0)?.dtype, floats, T => Ok(Kernel::new(move |io| {
                let (x, grid, context) = (io.input::<T>(0)?, io.input::<G>(1)?, io.context);
                sampler.weighted(context, x, grid, io.output::<T>(0)?)?;
                Ok(())
            }))),
        })
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        families::sampled::grid(site, &self.sampler(&site.input_shape(0)?, &site.output_shape(0)?))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (x, grid) = (inputs.tensor(0)?, inputs.tensor(1)?);
        let positions = grid.as_floats()?;
        let extents = &x.shape[2..];
        let r = extents.len();
        let shape = [&x.shape[..2], &grid.shape[1..=r]].concat();
        // The range that is reflected at either end.
        let border = |a: usize| {
            let n = extents[a] as f64;
            if self.align { (0.0, n - 1.0) } else { (-0.5, n - 0.5) }
        };
        let reflect = |v: f64, (low, high): (f64, f64)| {
            let mut v = v;
            if high <= low || !v.is_finite() {
                return low.max(0.0);
            }
            // Far away positions are brought near by whole periods.
            v = low + (v - low).rem_euclid(2.0 * (high - low));
            if v > high { 2.0 * high - v } else { v }
        };
        let coordinate = |index: &[usize], a: usize| {
            let mut at = vec![index[0]];
            at.extend_from_slice(&index[2..]);
            at.push(r - 1 - a);
            let p = positions[RefTensor::ravel(&grid.shape, &at)];
            let n = extents[a] as f64;
            let mut v = if self.align { (p + 1.0) * 0.5 * (n - 1.0) } else { ((p + 1.0) * n - 1.0) / 2.0 };
            if self.mode == Mode::Nearest {
                v = v.round_ties_even();
            }
            let (low, high) = border(a);
            if v < low || v > high {
                match self.outside {
                    Outside::Zeros => {}
                    Outside::Border => v = v.clamp(0.0, n - 1.0),
                    Outside::Reflection => v = reflect(v, (low, high)),
                }
            }
            v
        };
        // The position in the image of integer coordinates; none outside of zeros.
        let pixel = |at: &[f64]| -> Option<usize> {
            let mut flat = 0;
            for (a, &v) in at.iter().enumerate() {
                let n = extents[a] as f64;
                let v = match self.outside {
                    Outside::Zeros if v < 0.0 || v >= n => return None,
                    Outside::Zeros => v,
                    Outside::Border => v.clamp(0.0, n - 1.0),
                    Outside::Reflection if v < border(a).0 || v > border(a).1 => reflect(v, border(a)),
                    Outside::Reflection => v,
                };
                flat = flat * extents[a] + v as usize;
            }
            Some(flat)
        };
        let plane: usize = extents.iter().product();
        let base = |index: &[usize]| (index[0] * x.shape[1] + index[1]) * plane;
        if self.mode == Mode::Nearest {
            let mut held = x.clone();
            match &mut held.data {
                RefData::Float(v) => v.push(0.0),
                RefData::Int(v) => v.push(0),
                RefData::Bool(v) => v.push(false),
                RefData::Text(v) => v.push(String::new()),
            }
            let y = held.gathered(&shape, |flat| {
                let index = RefTensor::unravel(&shape, flat);
                let at: Vec<f64> = (0..r).map(|a| coordinate(&index, a)).collect();
                pixel(&at).map_or(x.len(), |p| base(&index) + p)
            });
            return Ok(vec![y.into()]);
        }
        let values = x.as_floats()?;
        let data = (0..shape.iter().product())
            .map(|flat| {
                let index = RefTensor::unravel(&shape, flat);
                let at: Vec<f64> = (0..r).map(|a| coordinate(&index, a)).collect();
                let taps: usize = if self.mode == Mode::Linear { 2 } else { 4 };
                let mut sum = 0.0;
                for combination in 0..taps.pow(r as u32) {
                    let (mut weight, mut place, mut rest) = (1.0, vec![0.0; r], combination);
                    for a in (0..r).rev() {
                        let (k, floor) = ((rest % taps) as f64, at[a].floor());
                        rest /= taps;
                        place[a] = floor + k - (taps / 2 - 1) as f64;
                        weight *= keys(self.mode, at[a] - place[a]);
                    }
                    if let Some(p) = pixel(&place) {
                        sum += weight * values[base(&index) + p];
                    }
                }
                sum
            })
            .collect();
        Ok(vec![RefTensor::floats(x.dtype, &shape, data).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The weight of a neighbour at a distance: the hat, or Keys' cubic with a = −0.75.
fn keys(mode: Mode, distance: f64) -> f64 {
    let (d, a) = (distance.abs(), -0.75);
    match mode {
        Mode::Cubic if d <= 1.0 => ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0,
        Mode::Cubic if d < 2.0 => ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a,
        Mode::Cubic => 0.0,
        _ => (1.0 - d).max(0.0),
    }
}

fn case(g: &mut Gen) -> Case {
    let opset = *g.pick(&[16, 20, 22]);
    let r = if opset < 20 { 2 } else { *g.pick(&[1, 2, 2, 3]) };
    let mode = *g.pick(&["nearest", "linear", "cubic"]);
    let dtype = *g.pick(if mode == "nearest" { NUMBERS_AND_BOOL } else { FLOATS });
    let mut shape = g.shape(r + 2);
    shape.iter_mut().skip(2).for_each(|d| *d = (*d).clamp(1, 6));
    let mut places = g.shape(r + 2);
    places[0] = shape[0];
    places[r + 1] = r;
    places.iter_mut().skip(1).take(r).for_each(|d| *d = (*d).min(5));
    // Within f16 a position between pixels has few bits, and halves are met.
    let kind = *g.pick(FLOATS);
    let spread = *g.pick(&[1.0, 1.6, 6.0]);
    let grid = g.tensor_in(kind, &places, -spread, spread);
    let case = Case::new([g.tensor(dtype, &shape), grid]).opset(opset);
    let named = match (mode, opset) {
        ("linear", 16) => "bilinear",
        ("cubic", 16) => "bicubic",
        (mode, _) => mode,
    };
    let case = if mode == "linear" && g.chance(0.3) { case } else { case.string("mode", named) };
    let outside = *g.pick(&["zeros", "border", "reflection"]);
    let case = if outside == "zeros" && g.chance(0.5) { case } else { case.string("padding_mode", outside) };
    if g.chance(0.7) { case.int("align_corners", g.int(0, 1)) } else { case }
}
