//! # SplitToSequence
//! The input cut along `axis` into a sequence: parts of one size, the last of which may be smaller, or parts of the
//! given sizes. Without sizes each part has extent 1, and is without the axis where `keepdims` is 0. Opsets 11, 24.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::index::INDEX_TYPES;
use crate::cpu::movement::{Movement, Unit};
use crate::cpu::strided_copy::{StridedCopy, dense_strides};
use crate::cpu::{CpuSite, Kernel, RunContext};
use crate::dtype::MOVABLE;
use crate::error::OpError;
use crate::graph::dim::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact, normal_axis};
use crate::memory::Buffer;
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::tensor::{Sequence, Tensor, TensorView, Value, element_count};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "SplitToSequence",
    domain: "",
    since: &[11, 24],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct SplitToSequence {
    axis: i64,
    keep: bool,
    sized: bool,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let sized = spec.has_input(1);
    // With sizes the attribute is ignored.
    let keep = spec.flag_or("keepdims", true)? || sized;
    Ok(Arc::new(SplitToSequence { axis: spec.int_or("axis", 0)?, keep, sized }))
}

/// Extents of the parts of an axis of `whole`.
fn parts(whole: usize, sizes: Option<TensorView<'_>>) -> Result<Vec<usize>, OpError> {
    let scalar = sizes.is_none_or(|s| s.shape().is_empty());
    let given = sizes.map_or_else(|| Ok(vec![1]), crate::TensorView::to_i64s)?;
    let given: Option<Vec<usize>> = given.into_iter().map(|v| usize::try_from(v).ok()).collect();
    let misfit = || OpError::value(format!("an axis of {whole} does not split so"));
    let given = given.ok_or_else(misfit)?;
    if !scalar {
        let sum = given.iter().try_fold(0usize, |a, &b| a.checked_add(b));
        return if sum == Some(whole) { Ok(given) } else { Err(misfit()) };
    }
    let size = given.first().copied().filter(|&s| s > 0).ok_or_else(misfit)?;
    Ok((0..whole.div_ceil(size)).map(|i| size.min(whole - i * size)).collect())
}

/// The part of `x` that `copy` takes, as a tensor of `shape`.
fn part(
    x: TensorView<'_>,
    copy: &StridedCopy,
    shape: &[usize],
    context: RunContext<'_>,
) -> Result<Tensor, OpError> {
    let budget = context.budget;
    fn copied<T: Unit + bytemuck::Pod>(
        copy: &StridedCopy,
        context: RunContext<'_>,
        x: &[u8],
        to: &mut [u8],
    ) -> Result<(), OpError> {
        let unaligned = || OpError::internal("a tensor is not aligned");
        let (x, to) = (bytemuck::try_cast_slice::<_, T>(x).ok(), bytemuck::try_cast_slice_mut(to).ok());
        copy.run(context, &[x.ok_or_else(unaligned)?], to.ok_or_else(unaligned)?)
    }
    let count = element_count(shape).ok_or_else(|| budget.overflow())?;
    if let Some(text) = x.as_strings() {
        let mut to = vec![String::new(); count];
        copy.run(context, &[text], &mut to)?;
        return Tensor::strings(shape, to).map_err(|_| OpError::internal("text of another size"));
    }
    let bytes = x.dtype().bytes(count).ok_or_else(|| budget.overflow())?;
    let mut buffer = Buffer::zeroed(bytes, budget)?;
    let (from, to) = (x.bytes(), buffer.bytes_mut());
    match x.dtype().bits() {
        8 => copied::<u8>(copy, context, from, to)?,
        16 => copied::<u16>(copy, context, from, to)?,
        32 => copied::<u32>(copy, context, from, to)?,
        _ => copied::<u64>(copy, context, from, to)?,
    }
    Tensor::from_buffer(x.dtype(), shape, buffer)
}

impl Op for SplitToSequence {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 2)?;
        let x = inputs.typed(0, MOVABLE)?;
        if self.sized && inputs.typed(1, INDEX_TYPES)?.rank().is_some_and(|r| r > 1) {
            return Err(OpError::input(1, "is neither a scalar nor a list"));
        }
        let shape = x.shape.clone().map(|mut shape| {
            let axis = normal_axis(self.axis, shape.len())?;
            if !self.keep {
                shape.remove(axis);
            } else if self.sized {
                shape[axis] = Dim::Unknown;
            } else {
                shape[axis] = Dim::Known(1);
            }
            Ok(shape)
        });
        let item = TensorFact { shape: shape.transpose()?, ..TensorFact::unranked(x.dtype) };
        Ok(vec![Fact::Sequence(Box::new(item.into()))])
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let from = site.input_shape(0)?;
        let axis = normal_axis(self.axis, from.len())?;
        let strides = dense_strides(&from);
        let keep = self.keep;
        Ok(Kernel::new(move |io| {
            let x = io.tensor(0)?;
            let extents = parts(from[axis], io.optional(1))?;
            let context = io.context;
            let mut items = Vec::with_capacity(extents.len());
            let mut at = 0;
            for extent in extents {
                let mut shape = from.clone();
                shape[axis] = extent;
                let copy = StridedCopy::new(&shape, &strides, at * strides[axis] as usize);
                at += extent;
                if !keep {
                    shape.remove(axis);
                }
                items.push(Value::Tensor(part(x, &copy, &shape, context)?));
            }
            io.make(0, Value::Sequence(Sequence::new(items)))
        }))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let axis = if self.axis < 0 { self.axis + x.shape.len() as i64 } else { self.axis } as usize;
        let whole = x.shape[axis];
        let mut items = Vec::new();
        let (mut start, mut index) = (0, 0);
        let sizes = inputs.optional(1)?;
        loop {
            let size = match sizes {
                None => 1,
                Some(s) if s.shape.is_empty() => s.to_i64s()?[0] as usize,
                Some(s) => match s.to_i64s()?.get(index) {
                    Some(&size) => size as usize,
                    None => break,
                },
            };
            let listed = sizes.is_some_and(|s| !s.shape.is_empty());
            if !listed && start >= whole {
                break;
            }
            let size = size.min(whole - start);
            let mut shape = x.shape.clone();
            shape[axis] = size;
            let mut item = x.gathered(&shape, |flat| {
                let mut index = RefTensor::unravel(&shape, flat);
                index[axis] += start;
                RefTensor::ravel(&x.shape, &index)
            });
            if !self.keep {
                item.shape.remove(axis);
            }
            items.push(item.into());
            start += size;
            index += 1;
        }
        Ok(vec![RefValue::Sequence(items)])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let rank = g.size(1, 4);
    let mut shape = g.shape(rank);
    let dtype = *g.pick(MOVABLE);
    let axis = g.axis(rank);
    let along = axis.rem_euclid(rank as i64) as usize;
    let sizes: Vec<i64> = (0..g.size(1, 4)).map(|_| g.size(0, 4) as i64).collect();
    let wide = g.chance(0.5);
    let tensor = |shape: &[usize], v: Vec<i64>| {
        let made = if wide {
            Tensor::new(shape, v)
        } else {
            Tensor::new(shape, v.iter().map(|&v| v as i32).collect())
        };
        made.unwrap_or_else(|_| Tensor::scalar(0i64))
    };
    let split = match g.size(0, 2) {
        0 => None,
        1 => Some(tensor(&[], vec![g.int(1, 4)])),
        _ => {
            shape[along] = sizes.iter().sum::<i64>() as usize;
            Some(tensor(&[sizes.len()], sizes))
        }
    };
    let sized = split.is_some();
    let case = Case::new([g.any_tensor(dtype, &shape)]).int("axis", axis).opset(*g.pick(&[11, 24]));
    let case = if g.chance(0.6) { case.int("keepdims", g.int(0, 1)) } else { case };
    if sized { case.optional(split) } else { case }
}
