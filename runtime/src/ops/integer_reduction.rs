//! Reductions of integers as nests for GPUs: what the operators say of integers is exact, and has sums of more bits than
//! their elements.

use crate::dtype::DType;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts};
use crate::loops::program::{Builder, Kind, Opcode, Reg};
use crate::loops::{Affine, Fold, Nest, Opaque, Outside, Stages};

/// What a reduction makes of integers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Integers {
    /// What its form says, modulo the range of the type.
    Wrapping,
    /// The exact sum divided by the count, truncated.
    Mean,
    /// The root of the exact sum of squares, truncated.
    Root,
    /// What its form says in f64, truncated.
    Real,
}

/// The axes of input 0, those that are reduced, and where the result is stored.
pub(super) struct Places {
    pub(super) axes: Vec<Dim>,
    pub(super) over: Vec<usize>,
    pub(super) store: Vec<Affine>,
    /// Elements that make one.
    pub(super) count: usize,
}

/// The lower half of a 64-bit number.
fn lower(p: &mut Builder, x: Reg) -> Reg {
    let mask = p.integer(p.kind(x), 0xffff_ffff);
    p.binary(Opcode::And, x, mask)
}

/// The upper half; of signed numbers with their sign.
fn upper(p: &mut Builder, x: Reg) -> Reg {
    let half = p.integer(p.kind(x), 32);
    p.binary(Opcode::Shr, x, half)
}

/// A sum of halves as 64-bit words: the whole is `high · 2³² + low`.
fn halves(
    nest: &mut Stages<'_>,
    over: &[usize],
    source: crate::loops::Source,
    term: fn(&mut Builder, Reg) -> Reg,
) -> Result<[crate::loops::Source; 2], Opaque> {
    let high = nest.fold(Fold::Sum, over, &[source], |p, v| {
        let term = term(p, v[0]);
        upper(p, term)
    })?;
    let low = nest.fold(Fold::Sum, over, &[source], |p, v| {
        let term = term(p, v[0]);
        lower(p, term)
    })?;
    Ok([high, low])
}

/// The truncated quotient of `high · 2³² + low` by `count`, below 2³¹. Divided as for the floor, half by half, since what
/// the upper half leaves is below the count; a negative quotient that left something is one too small.
fn quotient(p: &mut Builder, high: Reg, low: Reg, count: usize) -> Reg {
    let carry = upper(p, low);
    let (high, low) = (p.add(high, carry), lower(p, low));
    let [zero, one, count] = [0, 1, count as i128].map(|value| p.integer(Kind::I64, value));
    let floor = |p: &mut Builder, x: Reg| {
        let truncated = p.div(x, count);
        let product = p.mul(truncated, count);
        let rest = p.sub(x, product);
        let below = p.lt(rest, zero);
        let (less, more) = (p.sub(truncated, one), p.add(rest, count));
        (p.select(below, less, truncated), p.select(below, more, rest))
    };
    let (first, rest) = floor(p, high);
    let half = p.integer(Kind::I64, 32);
    let rest = p.binary(Opcode::Shl, rest, half);
    let rest = p.add(rest, low);
    let (second, rest) = floor(p, rest);
    let first = p.binary(Opcode::Shl, first, half);
    let floored = p.add(first, second);
    let (negative, left) = (p.lt(high, zero), p.lt(zero, rest));
    let rounds = p.binary(Opcode::And, negative, left);
    let above = p.add(floored, one);
    p.select(rounds, above, floored)
}

/// The truncated root of `high · 2³² + low`, below 2⁹⁵: that of f64 is off by less than one, and how far its square is off
/// is known modulo 2⁶⁴, beyond which it never is.
fn root(p: &mut Builder, high: Reg, low: Reg) -> Reg {
    let [x, y] = [high, low].map(|half| p.convert(half, Kind::F64));
    let step = p.constant(Kind::F64, 4_294_967_296.0);
    let x = p.mul(x, step);
    let sum = p.add(x, y);
    let near = p.sqrt(sum);
    let near = p.convert(near, Kind::U64);
    let half = p.integer(Kind::U64, 32);
    let high = p.binary(Opcode::Shl, high, half);
    let whole = p.add(high, low);
    let square = p.mul(near, near);
    let rest = p.sub(whole, square);
    let [rest, near] = [rest, near].map(|x| p.convert(x, Kind::I64));
    let [zero, one] = [0, 1].map(|value| p.integer(Kind::I64, value));
    let twice = p.add(near, near);
    let (large, small) = (p.lt(rest, zero), p.lt(twice, rest));
    let (less, more) = (p.sub(near, one), p.add(near, one));
    let near = p.select(small, more, near);
    p.select(large, less, near)
}

/// The nest of the mean or the root of input 0.
pub(super) fn nest(
    inputs: Facts<'_>,
    outputs: &[Fact],
    places: Places,
    integers: Integers,
) -> Result<Nest, Opaque> {
    let Places { axes, over, store, count } = places;
    let dtype = outputs.first().and_then(Fact::tensor).ok_or(Opaque::Operator)?.dtype;
    let own = Kind::of(dtype).ok_or(Opaque::Type)?;
    let everywhere = (0..axes.len()).map(Affine::axis).collect();
    // Sums of so many halves fit 64 bits.
    if u32::try_from(count).is_err() || count > i32::MAX as usize {
        return Err(Opaque::Extents);
    }
    let kind = if integers == Integers::Root || dtype == DType::U64 { Kind::U64 } else { Kind::I64 };
    let mut nest = Stages::over(inputs, outputs, axes)?.computed_in(kind);
    let x = nest.read(0, everywhere, Outside::Never)?;
    if integers == Integers::Root {
        if dtype.bits() > 32 {
            return Err(Opaque::Type);
        }
        let halves = halves(&mut nest, &over, x, |p, x| p.mul(x, x))?;
        return nest.store(store, &[], &halves, |p, v| {
            let root = root(p, v[0], v[1]);
            p.convert(root, own)
        });
    }
    let halves = halves(&mut nest, &over, x, |_, x| x)?;
    nest.store(store, &[], &halves, |p, v| {
        let [high, low] = [v[0], v[1]].map(|half| p.convert(half, Kind::I64));
        let mean = quotient(p, high, low, count);
        p.convert(mean, own)
    })
}
