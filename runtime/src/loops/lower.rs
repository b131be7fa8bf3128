//! Lowering: the pieces from which operators make their nests.

use super::affine::Affine;
use super::nest::{Effect, Nest, Opaque, Outside, Read, Source, Stage};
use super::program::{Builder, Kind, Reg};
use crate::dtype::DType;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};

/// The extents of a tensor, all of them known at least as expressions.
pub(crate) fn extents(fact: &TensorFact) -> Result<&[Dim], Opaque> {
    match &fact.shape {
        Some(shape) if !shape.contains(&Dim::Unknown) => Ok(shape),
        _ => Err(Opaque::Extents),
    }
}

/// Input `index` as a tensor of a type that programs hold.
pub(crate) fn operand(inputs: Facts<'_>, index: usize) -> Result<&TensorFact, Opaque> {
    let fact = inputs.tensor(index).map_err(|_| Opaque::Operator)?;
    Kind::of(fact.dtype).ok_or(Opaque::Type)?;
    Ok(fact)
}

/// The first output as a tensor of a type that programs hold.
pub(crate) fn result(outputs: &[Fact]) -> Result<&TensorFact, Opaque> {
    let fact = outputs.first().and_then(Fact::tensor).ok_or(Opaque::Operator)?;
    Kind::of(fact.dtype).ok_or(Opaque::Type)?;
    Ok(fact)
}

/// The index at which a tensor of extents `shape` is read when it is broadcast to `axes`. An extent that is 1 for
/// some bindings of symbols and not for others has no affine index.
pub(crate) fn broadcast_index(shape: &[Dim], axes: &[Dim]) -> Result<Vec<Affine>, Opaque> {
    let skipped = axes.len().checked_sub(shape.len()).ok_or(Opaque::Extents)?;
    shape
        .iter()
        .zip(&axes[skipped..])
        .enumerate()
        .map(|(i, (own, axis))| {
            if own == axis {
                Ok(Affine::axis(skipped + i))
            } else if *own == Dim::Known(1) {
                Ok(Affine::constant(0))
            } else {
                Err(Opaque::Extents)
            }
        })
        .collect()
}

/// What an element of the output is made of.
pub(crate) type Scalar<'a> = &'a dyn Fn(&mut Builder, &[Option<Reg>]) -> Option<Reg>;

/// The nest of an operator each of whose output elements is `scalar` of one element of each input, broadcast.
/// Constants of one element become constants of the program. (Not generic: it would be compiled once per operator.)
pub(crate) fn elementwise(inputs: Facts<'_>, outputs: &[Fact], scalar: Scalar<'_>) -> Result<Nest, Opaque> {
    elementwise_at(inputs, outputs, &|_, shape, axes| broadcast_index(shape, axes), scalar)
}

/// The same where input `k`, of some extents, is read at `index` of `k`, them and the output's axes.
pub(crate) fn elementwise_at(
    inputs: Facts<'_>,
    outputs: &[Fact],
    index: &dyn Fn(usize, &[Dim], &[Dim]) -> Result<Vec<Affine>, Opaque>,
    scalar: Scalar<'_>,
) -> Result<Nest, Opaque> {
    let result = result(outputs)?;
    let axes = extents(result)?;
    let mut builder = Builder::new(&[]);
    let mut reads = Vec::new();
    let mut given = Vec::with_capacity(inputs.len());
    for at in 0..inputs.len() {
        if !inputs.has(at) {
            given.push(None);
            continue;
        }
        let fact = operand(inputs, at)?;
        given.push(Some(match single(fact) {
            Some(Single::Float(v)) => constant_of(&mut builder, fact.dtype, v),
            Some(Single::Int(v)) => builder.integer(Kind::of(fact.dtype).ok_or(Opaque::Type)?, v),
            None => {
                let index = index(at, extents(fact)?, axes)?;
                reads.push(Read { operand: at, index, outside: Outside::Never });
                builder.add_input(fact.dtype)
            }
        }));
    }
    let made = scalar(&mut builder, &given).ok_or(Opaque::Operator)?;
    let program = builder.finish(&[(made, result.dtype)]).map_err(|_| Opaque::Operator)?;
    Ok(Nest::map(axes.to_vec(), reads, program))
}

/// The nest of an operator that moves elements: output element `i` is that of input 0 at `index`, a function of the
/// output's axes.
pub(crate) fn layout(
    inputs: Facts<'_>,
    outputs: &[Fact],
    index: impl FnOnce(&[Dim], &[Dim]) -> Option<Vec<Affine>>,
) -> Result<Nest, Opaque> {
    let from = operand(inputs, 0)?;
    let to = result(outputs)?;
    if from.dtype != to.dtype {
        return Err(Opaque::Operator);
    }
    let (from_axes, to_axes) = (extents(from)?, extents(to)?);
    let known = from_axes.iter().chain(to_axes).all(|extent| extent.known().is_some());
    let index = index(from_axes, to_axes).ok_or(if known { Opaque::Places } else { Opaque::Extents })?;
    let mut builder = Builder::new(&[from.dtype]);
    let x = builder.input(0);
    let program = builder.finish(&[(x, to.dtype)]).map_err(|_| Opaque::Operator)?;
    let read = Read { operand: 0, index, outside: Outside::Never };
    Ok(Nest::map(to_axes.to_vec(), vec![read], program))
}

/// The nest of an operator that moves elements over axes of its own: output element `to` is that of input 0 at `from`,
/// both functions of `axes`, which reach each element of the output once.
pub(crate) fn rearranged(
    inputs: Facts<'_>,
    outputs: &[Fact],
    axes: Vec<Dim>,
    from: Vec<Affine>,
    to: Vec<Affine>,
) -> Result<Nest, Opaque> {
    let dtype = operand(inputs, 0)?.dtype;
    if dtype != result(outputs)?.dtype {
        return Err(Opaque::Operator);
    }
    let mut builder = Builder::new(&[dtype]);
    let x = builder.input(0);
    let program = builder.finish(&[(x, dtype)]).map_err(|_| Opaque::Operator)?;
    let reads = vec![Read { operand: 0, index: from, outside: Outside::Never }];
    let stage = Stage { over: Vec::new(), program, inputs: vec![Source::Read(0)], effect: Effect::Store(to) };
    Ok(Nest { axes, reads, stages: vec![stage], sequential: None })
}

/// The index of the element that lies at the same place in row-major order, where it is affine: extents of 1 come and
/// go, and neighbouring axes of the input become one axis of the output where all but the first are known.
pub(crate) fn reshaped_index(from: &[Dim], to: &[Dim]) -> Option<Vec<Affine>> {
    // Input axes are matched with runs of output axes from the back.
    let mut index = vec![Affine::constant(0); from.len()];
    let mut at = to.len();
    for (i, extent) in from.iter().enumerate().rev() {
        if *extent == Dim::Known(1) {
            continue;
        }
        let mut factor = 1i64;
        let mut gathered = Dim::Known(1);
        while gathered != *extent {
            at = at.checked_sub(1)?;
            if to[at] == Dim::Known(1) {
                continue;
            }
            index[i] = std::mem::take(&mut index[i]).plus(at, factor)?;
            gathered = &gathered * &to[at];
            match (gathered == *extent, to[at].known()) {
                (true, _) => {}
                (false, Some(n)) => factor = factor.checked_mul(i64::try_from(n).ok()?)?,
                (false, None) => return None,
            }
        }
    }
    to[..at].iter().all(|d| *d == Dim::Known(1)).then_some(index)
}

enum Single {
    Float(f64),
    Int(i128),
}

/// The element of a constant of one.
fn single(fact: &TensorFact) -> Option<Single> {
    let tensor = fact.as_constant().filter(|t| t.len() == 1)?;
    if fact.dtype.is_float() {
        return tensor.f64_at(0).map(Single::Float);
    }
    tensor.view().to_i64s().ok()?.first().map(|&v| Single::Int(v.into()))
}

/// A constant that was stored as `dtype`.
fn constant_of(builder: &mut Builder, dtype: DType, value: f64) -> Reg {
    builder.constant(Kind::of(dtype).unwrap_or(Kind::F64), value)
}
