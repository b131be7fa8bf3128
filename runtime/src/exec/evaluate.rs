//! Running one operator on values at hand: what a step whose shapes depend on data, and folding, do.

use super::program::fact_of;
use crate::cpu::{CpuSite, Io, RunContext, Slot};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::fact::{Content, Fact, Facts};
use crate::graph::infer_node;
use crate::memory::Buffer;
use crate::ops::{Op, Packed};
use crate::tensor::{Shape, Tensor, Value, ValueRef};

/// Tensors of at most this many elements are shown to shape inference when a node is prepared late: shapes,
/// axes, counts and bounds are smaller.
const SHAPE_INPUT_LIMIT: usize = 1024;

/// Infers, prepares and runs `op` with values at hand; outputs that are not wanted are `None`.
pub(crate) fn evaluate(
    op: &dyn Op,
    packed: Option<&Packed>,
    given: &[Option<ValueRef<'_>>],
    wanted: &[bool],
    context: RunContext<'_>,
) -> Result<Vec<Option<Value>>, OpError> {
    let facts: Vec<Option<Fact>> = given
        .iter()
        .map(|v| v.map(|v| fact_with_content(v, context)).transpose())
        .collect::<Result<_, _>>()?;
    let known: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
    let outputs = infer_node(op, Facts(&known))?;
    let site = CpuSite {
        inputs: Facts(&known),
        outputs: &outputs,
        wanted,
        packed,
        threads: context.team.threads(),
        epilogue: None,
        strided: &[],
        prologue: None,
        written: None,
    };
    let kernel = op.cpu(&site)?;
    let mut scratch = Buffer::zeroed(kernel.scratch(), context.budget)?;

    let forms: Vec<Option<(DType, Shape)>> = outputs
        .iter()
        .map(|f| {
            let t = f.tensor().filter(|t| t.dtype != DType::String)?;
            Some((t.dtype, t.known_shape()?))
        })
        .collect();
    let mut buffers: Vec<Option<Buffer>> = Vec::with_capacity(wanted.len());
    for (form, &wanted) in forms.iter().zip(wanted) {
        let bytes = match form {
            Some((dtype, shape)) if wanted => Some(
                crate::tensor::element_count(shape)
                    .and_then(|n| dtype.bytes(n))
                    .ok_or_else(|| context.budget.overflow())?,
            ),
            _ => None,
        };
        buffers.push(bytes.map(|b| Buffer::zeroed(b, context.budget)).transpose()?);
    }
    let mut values: Vec<Option<Value>> = vec![None; wanted.len()];
    {
        let mut slots: Vec<Slot<'_>> = Vec::with_capacity(wanted.len());
        for (((form, buffer), value), &wanted) in forms.iter().zip(&mut buffers).zip(&mut values).zip(wanted)
        {
            slots.push(match (form, buffer) {
                _ if !wanted => Slot::Absent,
                (Some((dtype, shape)), Some(buffer)) => {
                    Slot::Fixed { dtype: *dtype, shape, bytes: buffer.bytes_mut() }
                }
                _ => Slot::Made(value),
            });
        }
        let mut io = Io::new(given, &mut slots, scratch.bytes_mut(), context);
        kernel.run(&mut io)?;
        io.finish()?;
    }
    for ((value, buffer), form) in values.iter_mut().zip(buffers).zip(&forms) {
        if let (Some(buffer), Some((dtype, shape))) = (buffer, form) {
            *value = Some(Tensor::from_buffer(*dtype, shape, buffer)?.into());
        }
    }
    Ok(values)
}

/// The fact of a value at hand, with the content of small tensors.
fn fact_with_content(value: ValueRef<'_>, context: RunContext<'_>) -> Result<Fact, OpError> {
    let mut fact = fact_of(value);
    if let (Fact::Tensor(f), ValueRef::Tensor(t)) = (&mut fact, value)
        && t.len() <= SHAPE_INPUT_LIMIT
    {
        f.content = Content::Constant(Tensor::copy_of(t, context.budget)?);
    }
    Ok(fact)
}
