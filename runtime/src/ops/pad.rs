//! # Pad
//! The input with elements put on before and after the axes: a constant, the input mirrored (`reflect`), its
//! outermost elements (`edge`), or the input again (`wrap`). Negative pads cut off, before the other ones put on.
//! Mirrors and repetitions go on as far as the pads reach, as numpy's do. Opsets 2, 11 (pads and value as
//! inputs), 13, 18 (`axes`), 19 (`wrap`), 21, 23, 24, 25.

use super::attributes::{IntList, KnownInts, NodeSpec};
use super::{Accuracy, Op, OpDef};
use crate::cpu::index::INDEX_TYPES;
use crate::cpu::movement::{bits_of, move_elements};
use crate::cpu::pad_copy::{PadAxis, PadCopy, PadMode};
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::MOVABLE;
use crate::error::OpError;
use crate::graph::dim::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact, normal_axes};
use crate::loops::{Affine, Nest, Opaque, Outside, layout, operand};
use crate::reference::{RefData, RefInputs, RefTensor, RefValue};
use crate::tensor::Tensor;
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Pad",
    domain: "",
    since: &[2, 11, 13, 18, 19, 21, 23, 24, 25],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct Pad {
    mode: PadMode,
    pads: IntList,
    axes: IntList,
    /// The constant where it is an attribute.
    value: f32,
    /// Whether the constant is input 2.
    takes_value: bool,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let mode = match spec.string("mode")?.as_deref() {
        None | Some("constant") => PadMode::Constant,
        Some("reflect") => PadMode::Reflect,
        Some("edge") => PadMode::Edge,
        Some("wrap") if spec.opset >= 19 => PadMode::Wrap,
        Some(other) => return Err(OpError::attribute("mode", format!("is `{other}`"))),
    };
    let inputs = spec.opset >= 11;
    let pads = IntList::parse(spec, "pads", inputs, 1)?;
    if matches!(pads, IntList::Absent) {
        return Err(OpError::value("no pads are given"));
    }
    let axes = if spec.opset >= 18 { IntList::parse(spec, "axes", true, 3)? } else { IntList::Absent };
    let value = if inputs { 0.0 } else { spec.float_or("value", 0.0)? };
    let takes_value = inputs && spec.has_input(2);
    Ok(Arc::new(Pad { mode, pads, axes, value, takes_value }))
}

impl Pad {
    /// Pads before and after each of `rank` axes.
    fn sides(pads: &[i64], axes: Option<Vec<i64>>, rank: usize) -> Result<Vec<[i64; 2]>, OpError> {
        let axes = match axes {
            Some(axes) => normal_axes(&axes, rank)?,
            None => (0..rank).collect(),
        };
        if pads.len() != 2 * axes.len() {
            return Err(OpError::value(format!("{} pads for {} axes", pads.len(), axes.len())));
        }
        let mut sides = vec![[0, 0]; rank];
        for (i, &axis) in axes.iter().enumerate() {
            sides[axis] = [pads[i], pads[i + axes.len()]];
        }
        Ok(sides)
    }

    /// The axes of an input of shape `from`.
    fn padded_axes(&self, inputs: Facts<'_>, from: &[usize]) -> Result<Vec<PadAxis>, OpError> {
        let pads = self.pads.prepared(inputs)?.unwrap_or_default();
        let sides = Self::sides(&pads, self.axes.prepared(inputs)?, from.len())?;
        let axes = from.iter().zip(sides);
        axes.map(|(&n, [before, after])| PadAxis::new(n, before, after, self.mode)).collect()
    }
}

impl Op for Pad {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 4)?;
        let x = inputs.typed(0, MOVABLE)?;
        if self.takes_value && inputs.typed(2, &[x.dtype])?.element_count().is_some_and(|n| n != 1) {
            return Err(OpError::input(2, "is not a scalar"));
        }
        if inputs.has(3) {
            inputs.typed(3, INDEX_TYPES)?;
        }
        let (pads, axes) = (self.pads.known(inputs)?, self.axes.known(inputs)?);
        let Some(shape) = &x.shape else { return Ok(vec![TensorFact::unranked(x.dtype).into()]) };
        let axes = match axes {
            KnownInts::Known(axes) => Some(axes),
            KnownInts::Absent => None,
            KnownInts::Unknown(_) => return Ok(vec![TensorFact::ranked(x.dtype, shape.len()).into()]),
        };
        let KnownInts::Known(pads) = pads else {
            // Axes that are not named stay as they are.
            let mut out = shape.clone();
            match axes {
                Some(axes) => {
                    normal_axes(&axes, shape.len())?.into_iter().for_each(|a| out[a] = Dim::Unknown);
                }
                None => out.fill(Dim::Unknown),
            }
            return Ok(vec![TensorFact::new(x.dtype, out).into()]);
        };
        let sides = Self::sides(&pads, axes, shape.len())?;
        let dims = shape.iter().zip(sides).map(|(dim, [before, after])| match dim {
            Dim::Known(n) => Ok(Dim::Known(PadAxis::new(*n, before, after, self.mode)?.len())),
            dim => Ok(before.checked_add(after).map_or(Dim::Unknown, |sum| dim.affine(1, sum))),
        });
        Ok(vec![TensorFact::new(x.dtype, dims.collect::<Result<_, OpError>>()?).into()])
    }

    fn is_identity(&self, inputs: Facts<'_>, _: &[Fact]) -> bool {
        matches!(self.pads.known(inputs), Ok(KnownInts::Known(pads)) if pads.iter().all(|&p| p == 0))
    }

    fn prepared_from(&self) -> &[usize] {
        &[1, 3]
    }

    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        let value = if self.takes_value {
            let value = inputs.tensor(2).ok().and_then(|v| v.as_constant().filter(|t| t.len() == 1));
            value.and_then(|t| t.f64_at(0)).ok_or(Opaque::Extents)?
        } else {
            self.value.into()
        };
        let prepared = |list: &IntList| list.prepared(inputs).map_err(|_| Opaque::Extents);
        let (pads, axes) = (prepared(&self.pads)?.ok_or(Opaque::Extents)?, prepared(&self.axes)?);
        if self.mode != PadMode::Constant || !operand(inputs, 0)?.dtype.is_float() {
            return Err(Opaque::Operator);
        }
        let nest = layout(inputs, outputs, |from, _| {
            let sides = Self::sides(&pads, axes, from.len()).ok()?;
            let index = sides.iter().enumerate().map(|(axis, [before, after])| {
                let put_on = *before >= 0 && *after >= 0;
                Affine::axis(axis).shifted(before.checked_neg()?).filter(|_| put_on)
            });
            index.collect()
        })?;
        Ok(nest.outside(Outside::Value(value)))
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let shape = site.output_shape(0)?;
        let dtype = site.inputs.tensor(0)?.dtype;
        let axes = self.padded_axes(site.inputs, &site.input_shape(0)?)?;
        let copy = PadCopy::new(&axes, bits_of(dtype, self.value.into()));
        let takes_value = self.takes_value;
        Ok(Kernel::new(move |io| {
            let inputs: &[usize] = if takes_value { &[0, 2] } else { &[0] };
            move_elements(&copy, io, inputs, 0, &shape)
        }))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let axes = self.padded_axes(site.inputs, &site.input_shape(0)?);
        let axes = axes.map_err(|_| GpuReject::DataDependent)?;
        let bits = bits_of(site.dtype(0)?, self.value.into());
        families::copy::padded(site, &axes, self.takes_value.then_some(2), bits)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let mut x = inputs.tensor(0)?.clone();
        let rank = x.shape.len();
        let pads = self.pads.reference(inputs)?.unwrap_or_default();
        let axes = self.axes.reference(inputs)?.unwrap_or_else(|| (0..rank as i64).collect());
        let value = inputs.optional(2)?.map(|v| v.data.clone()).unwrap_or(match x.data {
            RefData::Float(_) => RefData::Float(vec![f64::from(self.value)]),
            RefData::Int(_) => RefData::Int(vec![self.value as i128]),
            RefData::Bool(_) => RefData::Bool(vec![self.value != 0.0]),
            RefData::Text(_) => RefData::Text(vec![String::new()]),
        });
        // One axis and one side after the other, cuts first.
        for putting in [false, true] {
            for (i, &axis) in axes.iter().enumerate() {
                let axis = if axis < 0 { axis + rank as i64 } else { axis } as usize;
                let [before, after] =
                    [pads[i], pads[i + axes.len()]].map(|p| if putting { p.max(0) } else { p.min(0) });
                x = one_axis(&x, axis, before, after, self.mode, &value);
            }
        }
        Ok(vec![x.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The reference for one axis.
fn one_axis(
    x: &RefTensor,
    axis: usize,
    before: i64,
    after: i64,
    mode: PadMode,
    value: &RefData,
) -> RefTensor {
    let n = x.shape[axis] as i64;
    let mut shape = x.shape.clone();
    shape[axis] = (n + before + after).max(0) as usize;
    // The input with the constant as one more element, at the end.
    let mut held = x.clone();
    match (&mut held.data, value) {
        (RefData::Float(v), RefData::Float(c)) => v.push(c[0]),
        (RefData::Int(v), RefData::Int(c)) => v.push(c[0]),
        (RefData::Bool(v), RefData::Bool(c)) => v.push(c[0]),
        (RefData::Text(v), RefData::Text(c)) => v.push(c[0].clone()),
        _ => {}
    }
    held.gathered(&shape, |flat| {
        let mut index = RefTensor::unravel(&shape, flat);
        let mut at = index[axis] as i64 - before;
        while at < 0 || at >= n {
            at = match mode {
                PadMode::Constant => return x.len(),
                PadMode::Edge => at.clamp(0, n - 1),
                PadMode::Wrap if at < 0 => at + n,
                PadMode::Wrap => at - n,
                PadMode::Reflect if n == 1 => 0,
                PadMode::Reflect if at < 0 => -at,
                PadMode::Reflect => 2 * (n - 1) - at,
            };
        }
        index[axis] = at as usize;
        RefTensor::ravel(&x.shape, &index)
    })
}

fn case(g: &mut Gen) -> Case {
    let rank = g.size(0, 4);
    let shape = g.shape(rank);
    let dtype = *g.pick(MOVABLE);
    let opset = *g.pick(&[7, 11, 13, 18, 19, 25]);
    let modes: &[&str] =
        if opset >= 19 { &["constant", "reflect", "edge", "wrap"] } else { &["constant", "reflect", "edge"] };
    let mode = *g.pick(modes);
    let named = opset >= 18 && g.chance(0.5);
    let axes = if named {
        let n = g.size(0, rank);
        g.permutation(rank)[..n].to_vec()
    } else {
        (0..rank).collect()
    };
    let mut side = |axis: usize| {
        let n = shape[axis] as i64;
        let (mut before, mut after) = (g.int(-2, 5), g.int(-2, 5));
        let left = n + before.min(0) + after.min(0);
        if left < 0 || (left == 0 && mode != "constant") {
            // Nothing is put on an empty axis, and nothing is cut off that is not there.
            (before, after) =
                if n == 0 && mode != "constant" { (0, 0) } else { (before.max(0), after.max(0)) };
        }
        [before, after]
    };
    let sides: Vec<[i64; 2]> = axes.iter().map(|&a| side(a)).collect();
    let pads: Vec<i64> = sides.iter().map(|s| s[0]).chain(sides.iter().map(|s| s[1])).collect();
    let list = |v: Vec<i64>| Tensor::new(&[v.len()], v).unwrap_or_else(|_| Tensor::scalar(0i64));
    let case = Case::new([g.any_tensor(dtype, &shape)]).opset(opset);
    let case = if mode == "constant" && g.chance(0.5) { case } else { case.string("mode", mode) };
    if opset < 11 {
        let case = case.ints("pads", &pads);
        return if dtype.is_float() && g.chance(0.5) { case.float("value", 1.5) } else { case };
    }
    let value = g.chance(0.5).then(|| g.any_tensor(dtype, if opset < 18 { &[] } else { &[1] }));
    let axes = axes.iter().map(|&a| a as i64 - if g.chance(0.5) { rank as i64 } else { 0 }).collect();
    let case = case.input(list(pads)).optional(value).optional(named.then(|| list(axes)));
    match g.size(0, 2) {
        0 => case,
        1 => case.constant(1).constant(3),
        _ => case.constant(3),
    }
}
