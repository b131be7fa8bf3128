//! The reference of Resize and Upsample, from the formulas of the specification, one axis after the other.

use super::tensor::{RefData, RefTensor, wrap};
use crate::error::OpError;

/// One axis of a resizing: everything by the names of the specification.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RefAxis {
    pub(crate) length_resized: usize,
    pub(crate) scale: f64,
    pub(crate) output_width: f64,
    pub(crate) roi: [f64; 2],
}

/// The attributes, by the names of the specification.
#[derive(Clone, Debug)]
pub(crate) struct RefResize {
    /// `nearest`, `linear` or `cubic`.
    pub(crate) mode: &'static str,
    pub(crate) coordinate_transformation_mode: &'static str,
    /// With `by_scale` for the versions that had no such attribute.
    pub(crate) nearest_mode: &'static str,
    pub(crate) cubic_coeff_a: f64,
    pub(crate) antialias: bool,
    pub(crate) exclude_outside: bool,
    pub(crate) extrapolation_value: f64,
    /// `stretch`, `not_larger` or `not_smaller`.
    pub(crate) keep_aspect_ratio_policy: &'static str,
}

impl RefResize {
    /// The axes of an input of `shape`: those that `named` holds, all without it, by scales or else by sizes.
    pub(crate) fn axes(
        &self,
        shape: &[usize],
        named: Option<&[i64]>,
        scales: &[f64],
        sizes: Option<&[i64]>,
        roi: Option<&[f64]>,
    ) -> Vec<RefAxis> {
        let whole =
            |&n: &usize| RefAxis { length_resized: n, scale: 1.0, output_width: n as f64, roi: [0.0, 1.0] };
        let mut axes: Vec<RefAxis> = shape.iter().map(whole).collect();
        let rank = shape.len() as i64;
        let named: Vec<usize> = match named {
            Some(named) => named.iter().map(|&a| if a < 0 { a + rank } else { a } as usize).collect(),
            None => (0..shape.len()).collect(),
        };
        let ratio = |i: usize| sizes.map_or(1.0, |s| s[i] as f64 / shape[named[i]] as f64);
        let ratios = (0..named.len()).map(ratio);
        let common = match self.keep_aspect_ratio_policy {
            "not_larger" => ratios.min_by(f64::total_cmp),
            "not_smaller" => ratios.max_by(f64::total_cmp),
            _ => None,
        };
        for (i, &a) in named.iter().enumerate() {
            let (n, axis) = (shape[a] as f64, &mut axes[a]);
            if let Some(roi) = roi {
                axis.roi = [roi[i], roi[i + named.len()]];
            }
            let [start, end] = axis.roi;
            match (sizes, common) {
                (Some(_), Some(scale)) => {
                    axis.scale = scale;
                    axis.output_width = scale * n;
                    axis.length_resized = (scale * n + 0.5).floor() as usize;
                }
                (Some(sizes), None) => {
                    axis.length_resized = sizes[i] as usize;
                    axis.output_width = sizes[i] as f64;
                    axis.scale = sizes[i] as f64 / n;
                }
                (None, _) => {
                    axis.scale = scales[i];
                    axis.output_width = scales[i] * n;
                    let exact = match axis.roi {
                        [0.0, 1.0] => f64::from(n as f32 * scales[i] as f32),
                        _ => n * (end - start) * scales[i],
                    };
                    axis.length_resized = exact.floor().max(0.0) as usize;
                }
            }
        }
        axes
    }

    fn x_original(&self, x_resized: usize, length_original: usize, axis: &RefAxis) -> f64 {
        let (x, n) = (x_resized as f64, length_original as f64);
        let RefAxis { length_resized, scale, output_width, roi: [start, end] } = *axis;
        match self.coordinate_transformation_mode {
            "half_pixel" => (x + 0.5) / scale - 0.5,
            "half_pixel_symmetric" => {
                let adjustment = length_resized as f64 / output_width;
                let center = n / 2.0;
                let offset = center * (1.0 - adjustment);
                offset + ((x + 0.5) / scale - 0.5)
            }
            "pytorch_half_pixel" if length_resized > 1 => (x + 0.5) / scale - 0.5,
            "pytorch_half_pixel" => 0.0,
            "align_corners" if x_resized == 0 => 0.0,
            "align_corners" => x * (n - 1.0) / (output_width - 1.0),
            "asymmetric" => x / scale,
            "tf_half_pixel_for_nn" => (x + 0.5) / scale,
            _ if length_resized > 1 => {
                start * (n - 1.0) + x * (end - start) * (n - 1.0) / (length_resized as f64 - 1.0)
            }
            _ => 0.5 * (start + end) * (n - 1.0),
        }
    }

    /// Index of the element that is the nearest to `x`.
    fn nearest(&self, x: f64, scale: f64) -> f64 {
        let below = x.floor();
        if below == x {
            return x;
        }
        let above = below + 1.0;
        match self.nearest_mode {
            "round_prefer_floor" if x - below <= 0.5 => below,
            "round_prefer_floor" => above,
            "round_prefer_ceil" if x - below < 0.5 => below,
            "round_prefer_ceil" => above,
            "floor" => below,
            "ceil" => above,
            _ if scale < 1.0 => above,
            _ => below,
        }
    }

    fn weight(&self, distance: f64) -> f64 {
        let (x, a) = (distance.abs(), self.cubic_coeff_a);
        match self.mode {
            "linear" => (1.0 - x).max(0.0),
            _ if x <= 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
            _ if x < 2.0 => ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a,
            _ => 0.0,
        }
    }

    /// The elements that make up the one at `x`, with their weights, in ascending order; elements outside
    /// stand for the outermost one.
    fn terms(&self, x: f64, n: usize, scale: f64) -> Vec<(usize, f64)> {
        let reach = if self.mode == "linear" { 1.0 } else { 2.0 };
        let stretch = if self.antialias { scale.min(1.0) } else { 1.0 };
        // All within the reach on either side, the place on the left being preferred: a window that is half
        // open to the left.
        let left = x.ceil() - 1.0;
        let half = (reach / stretch).ceil();
        let (from, to) = (left - half + 1.0, left + half);
        let mut terms = Vec::new();
        let mut at = from;
        while at <= to {
            terms.push((at, self.weight((at - x) * stretch)));
            at += 1.0;
        }
        let sum: f64 = terms.iter().map(|t| t.1).sum();
        if self.antialias && sum != 0.0 {
            terms.iter_mut().for_each(|t| t.1 /= sum);
        }
        if self.exclude_outside {
            terms.iter_mut().filter(|t| t.0 < 0.0 || t.0 >= n as f64).for_each(|t| t.1 = 0.0);
            let sum: f64 = terms.iter().map(|t| t.1).sum();
            if sum != 0.0 {
                terms.iter_mut().for_each(|t| t.1 /= sum);
            }
        }
        terms.into_iter().map(|(at, w)| (at.clamp(0.0, n as f64 - 1.0) as usize, w)).collect()
    }

    /// `x` with every axis resized.
    pub(crate) fn resize(&self, x: &RefTensor, axes: &[RefAxis]) -> Result<RefTensor, OpError> {
        let cropped = self.coordinate_transformation_mode == "tf_crop_and_resize";
        let changes = |a: usize, n: usize| {
            let axis = &axes[a];
            axis.length_resized != n || axis.scale != 1.0 || (cropped && axis.roi != [0.0, 1.0])
        };
        if self.mode == "nearest" {
            let mut held = x.clone();
            match &mut held.data {
                RefData::Float(v) => v.push(self.extrapolation_value),
                RefData::Int(v) => v.push(self.extrapolation_value as i128),
                RefData::Bool(v) => v.push(false),
                RefData::Text(v) => v.push(String::new()),
            }
            let shape: Vec<usize> = axes.iter().map(|a| a.length_resized).collect();
            return Ok(held.gathered(&shape, |flat| {
                let mut index = RefTensor::unravel(&shape, flat);
                for (a, i) in index.iter_mut().enumerate() {
                    let n = x.shape[a];
                    if !changes(a, n) {
                        continue;
                    }
                    let at = self.x_original(*i, n, &axes[a]);
                    if cropped && (at < 0.0 || at > n as f64 - 1.0) {
                        return x.len();
                    }
                    *i = self.nearest(at, axes[a].scale).clamp(0.0, n as f64 - 1.0) as usize;
                }
                RefTensor::ravel(&x.shape, &index)
            }));
        }
        let mut values = match &x.data {
            RefData::Float(v) => v.clone(),
            RefData::Int(v) => v.iter().map(|&v| v as f64).collect(),
            _ => return Err(OpError::internal("interpolation of another type")),
        };
        let mut shape = x.shape.clone();
        for (a, axis) in axes.iter().enumerate() {
            let (n, before) = (shape[a], shape.clone());
            if !changes(a, n) {
                continue;
            }
            shape[a] = axis.length_resized;
            let made = (0..shape.iter().product()).map(|flat| {
                let mut index = RefTensor::unravel(&shape, flat);
                let at = self.x_original(index[a], n, axis);
                if cropped && (at < 0.0 || at > n as f64 - 1.0) {
                    return self.extrapolation_value;
                }
                let mut sum = 0.0;
                for (i, weight) in self.terms(at, n, axis.scale) {
                    index[a] = i;
                    sum += weight * values[RefTensor::ravel(&before, &index)];
                }
                sum
            });
            values = made.collect();
        }
        if x.dtype.is_float() {
            return Ok(RefTensor::floats(x.dtype, &shape, values));
        }
        // Integers round, halves to even, and saturate.
        let saturated = |v: f64| {
            let v = v.round_ties_even() as i128;
            let (mut low, mut high) = (-(1i128 << 63), (1i128 << 64) - 1);
            if wrap(x.dtype, -1) > 0 {
                low = 0;
                high = wrap(x.dtype, -1);
            } else {
                while wrap(x.dtype, low) != low {
                    low /= 2;
                }
                high = high.min(-low - 1);
            }
            v.clamp(low, high)
        };
        Ok(RefTensor::ints(x.dtype, &shape, values.into_iter().map(saturated).collect()))
    }
}
