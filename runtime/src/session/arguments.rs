//! Checks of what the caller passes to a run.

use crate::cpu::{RunContext, Slot};
use crate::dtype::DType;
use crate::error::{Error, Misfit};
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

pub(super) fn misfit(role: &'static str, name: &str, problem: impl Into<String>) -> Misfit {
    Misfit { role, name: name.into(), problem: problem.into() }
}

pub(super) fn refuse(role: &'static str, name: &str, problem: impl Into<String>) -> Error {
    Error::Argument { role, name: name.into(), problem: problem.into() }
}

/// What is wrong with a name that none of `known` has.
pub(super) fn unknown(role: &'static str, name: &str, known: &[ValueSpec]) -> Misfit {
    let names: Vec<&str> = known.iter().map(|s| &*s.name).collect();
    misfit(role, name, format!("is not one of the model's: {}", names.join(", ")))
}

/// Values that the inputs so far give the symbols: symbol, extent, and the input that gave it.
pub(super) type Symbols<'a> = SmallVec<[(&'a str, usize, &'a str); 8]>;

/// Checks inputs against the model and each other; `misfits` is what is known to be wrong already. Returns aligned
/// copies of those that are not aligned.
pub(super) fn check(
    specs: &[ValueSpec],
    given: &[Option<ValueRef<'_>>],
    mut misfits: Vec<Misfit>,
    context: RunContext<'_>,
) -> Result<SmallVec<[(usize, Tensor); 2]>, Error> {
    let mut symbols = Symbols::new();
    for (spec, value) in specs.iter().zip(given) {
        let problem = match value {
            Some(value) => problem_of(spec, *value, &mut symbols),
            None => Some("is missing".to_owned()),
        };
        misfits.extend(problem.map(|problem| misfit("input", &spec.name, problem)));
    }
    Error::misfits(misfits)?;
    let mut copies = SmallVec::new();
    for (index, (spec, value)) in specs.iter().zip(given).enumerate() {
        let Some(ValueRef::Tensor(tensor)) = *value else { continue };
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

/// What a fact says that a value is.
pub(super) fn kind_of(fact: &Fact) -> &'static str {
    match fact {
        Fact::Tensor(_) => "a tensor",
        Fact::Sequence(_) => "a sequence",
        Fact::Optional(_) => "an optional value",
    }
}

fn kind_of_value(value: ValueRef<'_>) -> &'static str {
    match value {
        ValueRef::Tensor(_) => "a tensor",
        ValueRef::Sequence(_) => "a sequence",
        ValueRef::Optional(_) => "an optional value",
    }
}

/// Why `value` cannot be the input `spec`, given what other inputs make of the symbols.
pub(super) fn problem_of<'a>(
    spec: &'a ValueSpec,
    value: ValueRef<'_>,
    symbols: &mut Symbols<'a>,
) -> Option<String> {
    let (fact, tensor) = match (&spec.fact, value) {
        (Fact::Tensor(fact), ValueRef::Tensor(tensor)) => (fact, tensor),
        (Fact::Sequence(_), ValueRef::Sequence(_)) | (Fact::Optional(_), ValueRef::Optional(_)) => {
            return None;
        }
        (fact, value) => return Some(format!("is {}; {} is expected", kind_of_value(value), kind_of(fact))),
    };
    if tensor.dtype() != fact.dtype {
        return Some(format!("is {}; {} is expected", tensor.dtype(), fact.dtype));
    }
    let dims = fact.shape.as_ref()?;
    let wrong = || Some(format!("has shape {:?}; {dims:?} is expected", tensor.shape()));
    if dims.len() != tensor.shape().len() {
        return wrong();
    }
    for (dim, &extent) in dims.iter().zip(tensor.shape()) {
        match dim {
            Dim::Known(n) if *n != extent => return wrong(),
            Dim::Expr(_) => {
                let Some(symbol) = dim.as_symbol() else { continue };
                match symbols.iter().find(|(s, _, _)| *s == symbol) {
                    Some((_, bound, by)) if *bound != extent => {
                        return Some(format!("makes `{symbol}` {extent}, but input `{by}` makes it {bound}"));
                    }
                    Some(_) => {}
                    None => symbols.push((symbol, extent, &spec.name)),
                }
            }
            _ => {}
        }
    }
    None
}

/// Why the caller's place cannot take an output whose form is known.
pub(super) fn problem_of_place(slot: &Slot<'_>, form: Option<(DType, &[usize])>) -> Option<String> {
    let Slot::Fixed { dtype, shape, bytes } = slot else { return None };
    if let Some((d, s)) = form
        && (d != *dtype || s != *shape)
    {
        return Some(format!("is {d} {s:?}; the buffer given is {dtype} {shape:?}"));
    }
    let aligned = bytes.as_ptr().align_offset((dtype.bits() / 8).clamp(1, 16)) == 0;
    (!aligned).then(|| "has a place that is not aligned for its element type".to_owned())
}
