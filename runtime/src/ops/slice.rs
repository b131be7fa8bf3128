//! # Slice
//! `y[i] = x[start + i·step]` on each named axis, numpy's way: bounds count from the end where negative and
//! are clamped to the axis; a negative step walks backwards. Opsets 1 (attributes), 10 (inputs and steps), 11
//! (negative axes), 13.

use super::attributes::{IntList, KnownInts, NodeSpec};
use super::{Accuracy, Op, OpDef, Selection};
use crate::cpu::movement::move_elements;
use crate::cpu::strided_copy::{StridedCopy, dense_strides};
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::MOVABLE;
use crate::error::OpError;
use crate::graph::dim::Dim;
use crate::graph::fact::{Fact, Facts, Integer, TensorFact, keeps_shape, normal_axes};
use crate::loops::{Affine, Nest, Opaque, layout};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::tensor::Tensor;
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Slice",
    domain: "",
    since: &[1, 10, 11, 13],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct Slice {
    starts: IntList,
    ends: IntList,
    axes: IntList,
    steps: IntList,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let inputs = spec.opset >= 10;
    let required = |name: &str, index| match IntList::parse(spec, name, inputs, index)? {
        IntList::Absent if inputs => Err(OpError::input(index, "is missing")),
        IntList::Absent => Err(OpError::attribute(name, "is missing")),
        list => Ok(list),
    };
    Ok(Arc::new(Slice {
        starts: required("starts", 1)?,
        ends: required("ends", 2)?,
        axes: IntList::parse(spec, "axes", inputs, 3)?,
        steps: if inputs { IntList::parse(spec, "steps", true, 4)? } else { IntList::Absent },
    }))
}

/// Where a slice of an axis of `extent` starts, and how many elements it has.
fn walk(extent: usize, start: i64, end: i64, step: i64) -> (usize, usize) {
    let n = i128::from(extent as u64);
    let (start, end, step) = (i128::from(start), i128::from(end), i128::from(step));
    let from_end = |v: i128| if v < 0 { v + n } else { v };
    let (first, count) = if step > 0 {
        let (first, last) = (from_end(start).clamp(0, n), from_end(end).clamp(0, n));
        (first, (last - first + step - 1).div_euclid(step))
    } else {
        let (first, last) = (from_end(start).clamp(-1, n - 1), from_end(end).clamp(-1, n - 1));
        (first, (first - last - step - 1).div_euclid(-step))
    };
    if count <= 0 { (0, 0) } else { (first as usize, count as usize) }
}

/// An end from here on means the end of the axis: exporters write the largest 32- or 64-bit number.
const END: i64 = i32::MAX as i64;

/// The extent of a slice of an axis.
fn sliced(extent: &Dim, start: &Integer, end: &Integer, step: i64) -> Dim {
    if let (Some(n), Some(start), Some(end)) = (extent.known(), start.known(), end.known()) {
        return Dim::Known(walk(n, start, end, step).1);
    }
    let unknown = |v: &Integer| *v == Integer::Extent(Dim::Unknown);
    if *extent == Dim::Unknown || unknown(start) || unknown(end) {
        return Dim::Unknown;
    }
    let to_end = end.known().is_some_and(|e| e >= END) || *end == Integer::Extent(extent.clone());
    match (start.known(), end.known(), step) {
        (Some(0), _, 1) if to_end => extent.clone(),
        (Some(k), _, 1) if to_end && k > 0 => Dim::opaque(format!("max({extent}-{k},0)")),
        (Some(k), _, 1) if to_end => Dim::opaque(format!("min({extent},{})", k.unsigned_abs())),
        (Some(0), Some(k), 1) if k >= 0 => Dim::opaque(format!("min({extent},{k})")),
        (Some(0), Some(k), 1) => Dim::opaque(format!("max({extent}-{},0)", k.unsigned_abs())),
        _ => Dim::opaque(format!("slice({extent},{},{},{step})", shown(start), shown(end))),
    }
}

fn shown(value: &Integer) -> String {
    match value {
        Integer::Extent(d) => d.to_string(),
        Integer::Negative(v) => v.to_string(),
    }
}

/// The elements of a list as integers, unknown ones included where their number is known.
fn bounds(list: &IntList, inputs: Facts<'_>) -> Result<Option<Vec<Integer>>, OpError> {
    if let IntList::Input(index) = list
        && let Some(values) = inputs.tensor(*index)?.as_integers()
    {
        return Ok(Some(values));
    }
    Ok(match list.known(inputs)? {
        KnownInts::Known(values) => Some(values.into_iter().map(Integer::from).collect()),
        KnownInts::Unknown(Some(n)) if n <= super::MOST_AXES => Some(vec![Integer::Extent(Dim::Unknown); n]),
        _ => None,
    })
}

impl Slice {
    fn axes(given: Option<Vec<i64>>, count: usize, rank: usize) -> Result<Vec<usize>, OpError> {
        let axes = given.unwrap_or_else(|| (0..count as i64).collect());
        if axes.len() != count {
            return Err(OpError::value(format!("{} axes for {count} bounds", axes.len())));
        }
        normal_axes(&axes, rank)
    }
}

impl Op for Slice {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 5)?;
        let x = inputs.typed(0, MOVABLE)?;
        let (starts, ends) = (bounds(&self.starts, inputs)?, bounds(&self.ends, inputs)?);
        let axes = self.axes.known(inputs)?;
        let steps = self.steps.known(inputs)?;
        if matches!(&steps, KnownInts::Known(steps) if steps.contains(&0)) {
            return Err(OpError::value("a step is 0"));
        }
        let Some(shape) = &x.shape else { return Ok(vec![TensorFact::unranked(x.dtype).into()]) };
        let axes = match (axes, &starts) {
            (KnownInts::Known(axes), _) => Some(axes),
            (KnownInts::Absent, Some(starts)) => Some((0..starts.len() as i64).collect()),
            _ => None,
        };
        let (Some(axes), Some(starts), Some(ends)) = (axes, starts, ends) else {
            return Ok(vec![TensorFact::ranked(x.dtype, shape.len()).into()]);
        };
        let axes = Self::axes(Some(axes), starts.len(), shape.len())?;
        let steps = match steps {
            KnownInts::Known(steps) => Some(steps),
            KnownInts::Absent => Some(vec![1; axes.len()]),
            KnownInts::Unknown(_) => None,
        };
        if ends.len() != axes.len() || steps.as_ref().is_some_and(|s| s.len() != axes.len()) {
            return Err(OpError::value("starts, ends, axes and steps differ in number"));
        }
        let mut out = shape.clone();
        for (i, &axis) in axes.iter().enumerate() {
            out[axis] = match &steps {
                Some(steps) => sliced(&shape[axis], &starts[i], &ends[i], steps[i]),
                None => Dim::Unknown,
            };
        }
        let fact = TensorFact::new(x.dtype, out);
        // A slice of shape arithmetic.
        if let (1, Some(values), Some(steps)) = (shape.len(), x.as_integers(), &steps) {
            let mut at: Vec<usize> = (0..values.len()).collect();
            if let (Some(start), Some(end)) = (starts.first(), ends.first()) {
                let (Some(start), Some(end)) = (start.known(), end.known()) else {
                    return Ok(vec![fact.into()]);
                };
                let (first, count) = walk(values.len(), start, end, steps[0]);
                at = (0..count as i64).map(|i| (first as i64 + i * steps[0]) as usize).collect();
            }
            let picked: Option<Vec<Integer>> = at.into_iter().map(|i| values.get(i).cloned()).collect();
            return Ok(vec![picked.map_or(fact.clone(), |v| fact.with_integers(v)).into()]);
        }
        Ok(vec![fact.into()])
    }

    fn is_identity(&self, inputs: Facts<'_>, outputs: &[Fact]) -> bool {
        // A reversal keeps the shape, too.
        let forwards = match self.steps.known(inputs) {
            Ok(KnownInts::Absent) => true,
            Ok(KnownInts::Known(steps)) => steps.iter().all(|&s| s > 0),
            _ => false,
        };
        forwards && keeps_shape(inputs, outputs)
    }

    fn prepared_from(&self) -> &[usize] {
        &[1, 2, 3, 4]
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let from = site.input_shape(0)?;
        let shape = site.output_shape(0)?;
        let missing = || OpError::internal("bounds are missing");
        let starts = self.starts.prepared(site.inputs)?.ok_or_else(missing)?;
        let ends = self.ends.prepared(site.inputs)?.ok_or_else(missing)?;
        let axes = Self::axes(self.axes.prepared(site.inputs)?, starts.len(), from.len())?;
        let steps = self.steps.prepared(site.inputs)?.unwrap_or_else(|| vec![1; axes.len()]);
        let mut strides = dense_strides(&from);
        let mut offset = 0usize;
        for (((&axis, &start), &end), &step) in axes.iter().zip(&starts).zip(&ends).zip(&steps) {
            let (first, count) = walk(from[axis], start, end, step);
            offset = first.saturating_mul(strides[axis] as usize).saturating_add(offset);
            // A step that is taken at least once is shorter than the axis.
            strides[axis] = if count > 1 { strides[axis].saturating_mul(step as isize) } else { 0 };
        }
        let copy = StridedCopy::new(&shape, &strides, offset);
        Ok(Kernel::new(move |io| move_elements(&copy, io, &[0], 0, &shape)))
    }

    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        layout(inputs, outputs, |from, _| {
            let prepared = |list: &IntList| list.prepared(inputs).ok();
            let (starts, ends) = (prepared(&self.starts)??, prepared(&self.ends)??);
            let axes = Self::axes(prepared(&self.axes)?, starts.len(), from.len()).ok()?;
            let steps = prepared(&self.steps)?.unwrap_or_else(|| vec![1; axes.len()]);
            let mut index: Vec<Affine> = (0..from.len()).map(Affine::axis).collect();
            for (((&axis, &start), &end), &step) in axes.iter().zip(&starts).zip(&ends).zip(&steps) {
                let (first, _) = walk(from[axis].known()?, start, end, step);
                index[axis] = Affine::axis(axis).scaled(step)?.shifted(i64::try_from(first).ok()?)?;
            }
            Some(index)
        })
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let mut x = inputs.tensor(0)?.clone();
        let starts = self.starts.reference(inputs)?.unwrap_or_default();
        let ends = self.ends.reference(inputs)?.unwrap_or_default();
        let axes = self.axes.reference(inputs)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = self.steps.reference(inputs)?.unwrap_or_else(|| vec![1; starts.len()]);
        for i in 0..starts.len() {
            let axis = if axes[i] < 0 { axes[i] + x.shape.len() as i64 } else { axes[i] } as usize;
            let n = x.shape[axis] as i64;
            let wrap = |v: i64| if v < 0 { v.saturating_add(n) } else { v };
            let mut picked = Vec::new();
            if steps[i] > 0 {
                let (start, end) = (wrap(starts[i]).clamp(0, n), wrap(ends[i]).clamp(0, n));
                let mut at = start;
                while at < end {
                    picked.push(at as usize);
                    at = at.saturating_add(steps[i]);
                }
            } else if n > 0 {
                let (start, end) = (wrap(starts[i]).clamp(-1, n - 1), wrap(ends[i]).clamp(-1, n - 1));
                let mut at = start;
                while at > end {
                    picked.push(at as usize);
                    at = at.saturating_add(steps[i]);
                }
            }
            let mut shape = x.shape.clone();
            shape[axis] = picked.len();
            x = x.gathered(&shape, |flat| {
                let mut index = RefTensor::unravel(&shape, flat);
                index[axis] = picked[index[axis]];
                RefTensor::ravel(&x.shape, &index)
            });
        }
        Ok(vec![x.into()])
    }

    fn selection(&self, inputs: Facts<'_>, _: &[Fact], _: usize) -> Option<Selection> {
        let shape = inputs.tensor(0).ok()?.shape.as_ref()?;
        let KnownInts::Known(starts) = self.starts.known(inputs).ok()? else { return None };
        let KnownInts::Known(ends) = self.ends.known(inputs).ok()? else { return None };
        let axes = match self.axes.known(inputs).ok()? {
            KnownInts::Absent => None,
            KnownInts::Known(axes) => Some(axes),
            KnownInts::Unknown(_) => return None,
        };
        let steps = match self.steps.known(inputs).ok()? {
            KnownInts::Absent => vec![1; starts.len()],
            KnownInts::Known(steps) => steps,
            KnownInts::Unknown(_) => return None,
        };
        let axes = Self::axes(axes, starts.len(), shape.len()).ok()?;
        let mut found = None;
        for (((&axis, &start), &end), &step) in axes.iter().zip(&starts).zip(&ends).zip(&steps) {
            let whole = start == 0 && end >= END && step == 1;
            if whole {
                continue;
            }
            let extent = shape[axis].known().filter(|_| step != 0)?;
            let (start, count) = walk(extent, start, end, step);
            if start == 0 && count == extent && step == 1 {
                continue;
            }
            let selection = Selection { axis, start, step, count, drops_axis: false };
            if found.replace(selection).is_some() {
                return None;
            }
        }
        found
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let rank = g.size(1, 4);
    let shape = g.shape(rank);
    let dtype = *g.pick(MOVABLE);
    let x = g.any_tensor(dtype, &shape);
    let opset = *g.pick(&[7, 10, 11, 13]);
    let count = g.size(0, rank);
    let axes: Vec<i64> = g.permutation(rank)[..count]
        .iter()
        .map(|&a| a as i64 - if opset >= 11 && g.chance(0.5) { rank as i64 } else { 0 })
        .collect();
    let named = opset < 10 || g.chance(0.7);
    let mut bound = |axis: i64| {
        let n = shape[axis.rem_euclid(rank as i64) as usize] as i64;
        match g.size(0, 9) {
            0 => *g.pick(&[i64::MAX, i64::MIN, i64::from(i32::MAX), -i64::from(i32::MAX)]),
            _ => g.int(-n - 2, n + 2),
        }
    };
    let over: Vec<i64> = if named { axes.clone() } else { (0..count as i64).collect() };
    let starts: Vec<i64> = over.iter().map(|&a| bound(a)).collect();
    let ends: Vec<i64> = over.iter().map(|&a| bound(a)).collect();
    if opset < 10 {
        return Case::new([x]).opset(opset).ints("starts", &starts).ints("ends", &ends).ints("axes", &axes);
    }
    let wide = g.chance(0.7);
    let list = |v: &[i64]| {
        let made = if wide {
            Tensor::new(&[v.len()], v.to_vec())
        } else {
            let clamped = v.iter().map(|&v| v.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32);
            Tensor::new(&[v.len()], clamped.collect())
        };
        made.unwrap_or_else(|_| Tensor::scalar(0i64))
    };
    let steps: Vec<i64> =
        over.iter().map(|_| *g.pick(&[1, 1, 1, 2, 3, -1, -1, -2, i64::MAX, i64::MIN])).collect();
    let with_steps = g.chance(0.6);
    let case = Case::new([x, list(&starts), list(&ends)])
        .opset(opset)
        .optional(named.then(|| list(&axes)))
        .optional(with_steps.then(|| list(&steps)));
    match g.size(0, 2) {
        0 => case,
        1 => case.constant(1).constant(2).constant(3).constant(4),
        _ => case.constant(3).constant(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbolic_extents_keep_what_is_exact() {
        let t = Dim::symbol("time");
        let cut = |start: i64, end: i64, step| sliced(&t, &start.into(), &end.into(), step);
        assert_eq!(cut(0, i64::MAX, 1), t);
        assert_eq!(cut(1, END, 1).to_string(), "max(time-1,0)");
        assert_eq!(cut(0, -1, 1), cut(1, END, 1));
        assert_eq!(cut(-1, END, 1), cut(0, 1, 1));
        assert_eq!(sliced(&t, &0.into(), &t.clone().into(), 1), t);
        assert_eq!(sliced(&Dim::Known(5), &(-1).into(), &i64::MIN.into(), -1), Dim::Known(5));
    }
}
