//! Checks of what the caller passes to a run.

use crate::cpu::{RunContext, Slot};
use crate::dtype::DType;
use crate::error::Error;
use crate::graph::{Dim, Fact};
use crate::tensor::{Tensor, ValueRef};
use smallvec::SmallVec;
use std::sync::Arc;

/// An input or output of a model.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ValueSpec {
    /// Name.
    pub name: Arc<str>,
    /// What is known about it: kind, dtype, shape with named dimensions.
    pub fact: Fact,
}

pub(super) fn refuse(role: &'static str, name: &str, problem: impl Into<String>) -> Error {
    Error::Argument { role, name: name.into(), problem: problem.into() }
}

pub(super) fn unknown(role: &'static str, name: &str, known: &[ValueSpec]) -> Error {
    let names: Vec<&str> = known.iter().map(|s| &*s.name).collect();
    refuse(role, name, format!("is not one of the model's: {}", names.join(", ")))
}

/// Checks inputs against the model and each other. Returns aligned copies of those that are not aligned.
pub(super) fn check(
    specs: &[ValueSpec],
    given: &[Option<ValueRef<'_>>],
    context: RunContext<'_>,
) -> Result<SmallVec<[(usize, Tensor); 2]>, Error> {
    let mut copies = SmallVec::new();
    let mut symbols: SmallVec<[(&str, usize, &str); 8]> = SmallVec::new();
    for (index, (spec, value)) in specs.iter().zip(given).enumerate() {
        let value = value.ok_or_else(|| refuse("input", &spec.name, "is missing"))?;
        let (fact, tensor) = match (&spec.fact, value) {
            (Fact::Tensor(fact), ValueRef::Tensor(tensor)) => (fact, tensor),
            (Fact::Sequence(_), ValueRef::Sequence(_)) | (Fact::Optional(_), ValueRef::Optional(_)) => {
                continue;
            }
            _ => return Err(refuse("input", &spec.name, "is of another kind: tensor, sequence or optional")),
        };
        if tensor.dtype() != fact.dtype {
            return Err(refuse(
                "input",
                &spec.name,
                format!("is {}; {} is expected", tensor.dtype(), fact.dtype),
            ));
        }
        if let Some(dims) = &fact.shape {
            let wrong = || {
                refuse("input", &spec.name, format!("has shape {:?}; {dims:?} is expected", tensor.shape()))
            };
            if dims.len() != tensor.shape().len() {
                return Err(wrong());
            }
            for (dim, &extent) in dims.iter().zip(tensor.shape()) {
                match dim {
                    Dim::Known(n) if *n != extent => return Err(wrong()),
                    Dim::Expr(_) => {
                        let Some(symbol) = dim.as_symbol() else { continue };
                        match symbols.iter().find(|(s, _, _)| *s == symbol) {
                            Some((_, bound, by)) if *bound != extent => {
                                let problem =
                                    format!("makes `{symbol}` {extent}, but input `{by}` makes it {bound}");
                                return Err(refuse("input", &spec.name, problem));
                            }
                            Some(_) => {}
                            None => symbols.push((symbol, extent, &spec.name)),
                        }
                    }
                    _ => {}
                }
            }
        }
        let alignment = (tensor.dtype().bits() / 8).clamp(1, 16);
        if tensor.bytes().as_ptr().align_offset(alignment) != 0 {
            let copy = Tensor::copy_of(tensor, context.budget).map_err(|_| Error::Memory {
                what: format!("an aligned copy of input `{}`", spec.name),
                requested: tensor.bytes().len(),
                limit: context.budget.limit(),
            })?;
            copies.push((index, copy));
        }
    }
    Ok(copies)
}

/// Checks the caller's place for an output whose form is known.
pub(super) fn check_output(
    spec: &ValueSpec,
    slot: &Slot<'_>,
    form: Option<(DType, &[usize])>,
) -> Result<(), Error> {
    let Slot::Fixed { dtype, shape, bytes } = slot else { return Ok(()) };
    if let Some((d, s)) = form
        && (d != *dtype || s != *shape)
    {
        let problem = format!("is {d} {s:?}; the buffer given is {dtype} {shape:?}");
        return Err(refuse("output", &spec.name, problem));
    }
    if bytes.as_ptr().align_offset((dtype.bits() / 8).clamp(1, 16)) != 0 {
        return Err(refuse("output", &spec.name, "has a place that is not aligned for its element type"));
    }
    Ok(())
}
