//! # NonMaxSuppression
//! For each batch and class: the boxes in order of their scores, the lower index first where they are equal,
//! without those whose score is not above `score_threshold` and those that overlap a chosen box by more than
//! `iou_threshold` (intersection over union); at most `max_output_boxes_per_class`, which is 0 when absent. Rows of
//! `[batch, class, box]`. Areas are computed in f64, so that no rounding decides. Opsets 10, 11.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::{CpuSite, Io, Kernel};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::dim::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::tensor::Tensor;
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "NonMaxSuppression",
    domain: "",
    since: &[10, 11],
    until: None,
    dtypes: &[DType::F32],
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct NonMaxSuppression {
    /// Boxes are `[x, y, width, height]` around a centre and not `[y, x, y, x]` of two corners.
    center: bool,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(NonMaxSuppression { center: spec.flag_or("center_point_box", false)? }))
}

/// A box as its lowest and highest coordinates.
#[derive(Clone, Copy)]
struct Area {
    low: [f64; 2],
    high: [f64; 2],
}

impl Area {
    fn new(b: &[f32], center: bool) -> Self {
        let v = |i: usize| f64::from(b[i]);
        if center {
            let (w, h) = (v(2) / 2.0, v(3) / 2.0);
            return Self { low: [v(0) - w, v(1) - h], high: [v(0) + w, v(1) + h] };
        }
        Self { low: [v(1).min(v(3)), v(0).min(v(2))], high: [v(1).max(v(3)), v(0).max(v(2))] }
    }

    fn size(&self) -> f64 {
        (self.high[0] - self.low[0]) * (self.high[1] - self.low[1])
    }

    fn overlaps(&self, other: &Self, threshold: f64) -> bool {
        let side = |a: usize| self.high[a].min(other.high[a]) - self.low[a].max(other.low[a]);
        let (width, height) = (side(0), side(1));
        if !(width > 0.0 && height > 0.0 && self.size() > 0.0 && other.size() > 0.0) {
            return false;
        }
        let common = width * height;
        let union = self.size() + other.size() - common;
        union > 0.0 && common / union > threshold
    }
}

fn scalar<T: crate::dtype::Element>(io: &Io<'_, '_>, index: usize) -> Result<Option<T>, OpError> {
    Ok(io.optional_input::<T>(index)?.and_then(|v| v.first().copied()))
}

impl Op for NonMaxSuppression {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 5)?;
        let boxes = inputs.typed(0, &[DType::F32])?;
        let scores = inputs.typed(1, &[DType::F32])?;
        for (index, dtype) in [(2, DType::I64), (3, DType::F32), (4, DType::F32)] {
            if inputs.has(index) && inputs.typed(index, &[dtype])?.element_count().is_some_and(|n| n > 1) {
                return Err(OpError::input(index, "is not a scalar"));
            }
        }
        for (index, fact) in [boxes, scores].into_iter().enumerate() {
            if fact.rank().is_some_and(|r| r != 3) {
                return Err(OpError::input(index, "has not three axes"));
            }
        }
        if let (Some(b), Some(s)) = (&boxes.shape, &scores.shape) {
            let differ = |x: &Dim, y: &Dim| x.known().zip(y.known()).is_some_and(|(x, y)| x != y);
            if differ(&b[0], &s[0]) || differ(&b[1], &s[2]) || differ(&b[2], &Dim::Known(4)) {
                return Err(OpError::shape(format!("boxes {b:?} and scores {s:?}")));
            }
        }
        Ok(vec![TensorFact::new(DType::I64, vec![Dim::Unknown, Dim::Known(3)]).into()])
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let shape = site.input_shape(1)?;
        let (classes, count, center) = (shape[1], shape[2], self.center);
        Ok(Kernel::new(move |io| {
            let (boxes, scores) = (io.input::<f32>(0)?, io.input::<f32>(1)?);
            let most = usize::try_from(scalar::<i64>(io, 2)?.unwrap_or(0)).unwrap_or(0);
            let overlap = f64::from(scalar::<f32>(io, 3)?.unwrap_or(0.0));
            let least = scalar::<f32>(io, 4)?;
            let mut chosen: Vec<[i64; 3]> = Vec::new();
            let mut order: Vec<usize> = Vec::new();
            let mut kept: Vec<Area> = Vec::new();
            let rows = if most == 0 || count == 0 { 0 } else { scores.len() / count };
            for row in 0..rows {
                let (batch, class) = (row / classes, row % classes);
                let scores = &scores[row * count..][..count];
                let boxes = &boxes[batch * count * 4..][..count * 4];
                order.clear();
                order.extend((0..count).filter(|&i| least.is_none_or(|l| scores[i] > l)));
                // Scores that are no numbers come last.
                let key = |i: usize| if scores[i].is_nan() { f32::NEG_INFINITY } else { scores[i] };
                order.sort_by(|&a, &b| key(b).partial_cmp(&key(a)).unwrap_or(std::cmp::Ordering::Equal));
                kept.clear();
                for &i in &order {
                    let area = Area::new(&boxes[i * 4..][..4], center);
                    if kept.iter().any(|k| area.overlaps(k, overlap)) {
                        continue;
                    }
                    kept.push(area);
                    chosen.push([batch as i64, class as i64, i as i64]);
                    if kept.len() == most {
                        break;
                    }
                }
                io.check_interrupt()?;
            }
            io.shaped::<i64>(0, &[chosen.len(), 3])?.copy_from_slice(chosen.as_flattened());
            Ok(())
        }))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (boxes, scores) = (inputs.tensor(0)?, inputs.tensor(1)?);
        let [batches, classes, count] = scores.shape[..] else { return Err(OpError::internal("rank")) };
        let (b, s) = (boxes.as_floats()?, scores.as_floats()?);
        let first = |i: usize| -> Result<Option<f64>, OpError> {
            Ok(match inputs.optional(i)? {
                Some(t) if i == 2 => t.as_ints()?.first().map(|&v| v as f64),
                Some(t) => t.as_floats()?.first().copied(),
                None => None,
            })
        };
        let (most, overlap, least) = (first(2)?.unwrap_or(0.0), first(3)?.unwrap_or(0.0), first(4)?);
        let corners = |batch: usize, i: usize| {
            let v = &b[(batch * count + i) * 4..][..4];
            if self.center {
                [v[0] - v[2] / 2.0, v[1] - v[3] / 2.0, v[0] + v[2] / 2.0, v[1] + v[3] / 2.0]
            } else {
                [v[1].min(v[3]), v[0].min(v[2]), v[1].max(v[3]), v[0].max(v[2])]
            }
        };
        let ratio = |p: [f64; 4], q: [f64; 4]| {
            let width = (p[2].min(q[2]) - p[0].max(q[0])).max(0.0);
            let height = (p[3].min(q[3]) - p[1].max(q[1])).max(0.0);
            let (area_p, area_q) = ((p[2] - p[0]) * (p[3] - p[1]), (q[2] - q[0]) * (q[3] - q[1]));
            let union = area_p + area_q - width * height;
            if area_p <= 0.0 || area_q <= 0.0 || union <= 0.0 || width * height <= 0.0 {
                -1.0
            } else {
                width * height / union
            }
        };
        let mut out: Vec<i128> = Vec::new();
        for batch in 0..batches {
            for class in 0..classes {
                let score = |i: usize| s[(batch * classes + class) * count + i];
                let mut open: Vec<usize> =
                    (0..count).filter(|&i| least.is_none_or(|l| score(i) > l)).collect();
                let mut chosen = 0.0;
                while !open.is_empty() && chosen < most {
                    // The best that is left; it suppresses what overlaps it.
                    let best =
                        open.iter().copied().fold(open[0], |a, i| if score(i) > score(a) { i } else { a });
                    out.extend([batch as i128, class as i128, best as i128]);
                    chosen += 1.0;
                    open.retain(|&i| i != best && ratio(corners(batch, i), corners(batch, best)) <= overlap);
                }
            }
        }
        Ok(vec![RefTensor::ints(DType::I64, &[out.len() / 3, 3], out).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let (batches, classes, count) = (g.size(0, 2), g.size(0, 3), g.size(0, 12));
    let center = g.chance(0.5);
    // Coordinates on a coarse grid, so that boxes coincide and touch.
    let grid = |g: &mut Gen, n: usize, low: i64, high: i64| -> Vec<f32> {
        (0..n).map(|_| g.int(low, high) as f32 / 4.0).collect()
    };
    let boxes = grid(g, batches * count * 4, if center { 1 } else { -4 }, 8);
    let scores = grid(g, batches * classes * count, -4, 8);
    let made = [Tensor::new(&[batches, count, 4], boxes), Tensor::new(&[batches, classes, count], scores)];
    let case = Case::new(made.map(|t| t.unwrap_or_else(|_| Tensor::scalar(0f32))));
    let most = g.chance(0.9).then(|| Tensor::scalar(g.int(-1, 8)));
    let overlap = g.chance(0.8).then(|| Tensor::scalar(g.int(0, 4) as f32 / 4.0));
    let least = g.chance(0.5).then(|| Tensor::scalar(g.int(-2, 4) as f32 / 4.0));
    let case = case.optional(most).optional(overlap).optional(least).opset(*g.pick(&[10, 11]));
    if center || g.chance(0.3) { case.int("center_point_box", center.into()) } else { case }
}
