//! LSTM, GRU and RNN in f64, step by step: products as nests, gates and states as maps.

use super::super::composition::Place;
use super::super::looped;
use super::unrolled::{Moment, Steps, affine};
use super::{B, C, H, R, Sizes, W, X};
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::graph::{Dim, TensorFact};
use crate::loops::{Affine, Fold, Outside, Stages};
use crate::ops::recurrence::{Cell, Recurrence};

/// The left matrix of a product: its elements, and where its rows lie by the axes of rows and the one behind the columns.
struct Left<'a> {
    place: Place,
    count: usize,
    rows: &'a [usize],
    at: Affine,
}

/// The columns of a product: rows of input `input` of direction `d`, from gate `gate` on, so many gates.
#[derive(Clone, Copy)]
struct Right {
    input: usize,
    d: usize,
    gate: usize,
    gates: usize,
}

/// The launches of a recurrence that has steps.
pub(super) fn kernel(of: &Recurrence, site: &GpuSite<'_>, sizes: Sizes) -> Result<GpuKernel, GpuReject> {
    let steps = Steps::new(of, site, sizes, DType::F64)?;
    let initial: &[usize] = if of.has_cell_state() { &[H, C] } else { &[H] };
    steps.all(initial, of_input, |steps, now, sums, states| match of.cell {
        Cell::Lstm { .. } => {
            let gates = with_state(steps, now, sums, states[0])?;
            steps.lstm(now, gates, states[1])
        }
        Cell::Rnn => {
            let gates = with_state(steps, now, sums, states[0])?;
            let mut map = steps.over_state();
            let sum = steps.sum(&mut map, (gates, 0), 0)?;
            let h = steps.clipped(&mut map.builder, of.directions[now.direction].activations[0], sum);
            Ok([steps.store(&now.name, map, h)?, Place::Nowhere])
        }
        Cell::Gru { linear_before_reset } => gru(steps, now, sums, states[0], linear_before_reset),
    })
}

/// The first element of a moment's part of the gates that the input has.
fn first_of(sizes: &Sizes, now: &Moment) -> usize {
    now.at * sizes.batch * sizes.rows()
}

/// The input's part of direction `d`'s gates, with the bias of W.
fn of_input(steps: &mut Steps<'_>, d: usize) -> Result<Place, GpuReject> {
    let Sizes { time, batch, input, gates, .. } = steps.sizes;
    let rows = if steps.of.batch_first { [input, time * input] } else { [batch * input, input] };
    let at = affine(0, &[(0, rows[0]), (1, rows[1]), (3, 1)])?;
    let left = Left { place: Place::Input(X), count: time * batch * input, rows: &[time, batch], at };
    product(steps, &format!("input {d}"), &left, Right { input: W, d, gate: 0, gates }, None)
}

/// The sums of all gates: the input's part and the state's, with both biases.
fn with_state(steps: &mut Steps<'_>, now: &Moment, sums: Place, h: Place) -> Result<Place, GpuReject> {
    let Sizes { time, batch, gates, .. } = steps.sizes;
    let columns = steps.sizes.rows();
    let at = affine(first_of(&steps.sizes, now), &[(0, columns), (1, 1)])?;
    let right = Right { input: R, d: now.direction, gate: 0, gates };
    of_state(steps, &format!("{} product", now.name), h, right, Some((sums, time * batch * columns, at)))
}

/// A state's part of some gates, with the bias of R, and `more` behind it.
fn of_state(
    steps: &mut Steps<'_>,
    name: &str,
    h: Place,
    right: Right,
    more: Option<(Place, usize, Affine)>,
) -> Result<Place, GpuReject> {
    let Sizes { batch, hidden, .. } = steps.sizes;
    let left =
        Left { place: h, count: steps.state(), rows: &[batch], at: affine(0, &[(0, hidden), (2, 1)])? };
    product(steps, name, &left, right, more)
}

/// A step of a GRU: gates z, r and h.
fn gru(
    steps: &mut Steps<'_>,
    now: &Moment,
    sums: Place,
    h: Place,
    linear_before_reset: bool,
) -> Result<[Place; 2], GpuReject> {
    let Sizes { hidden, .. } = steps.sizes;
    let (d, of) = (now.direction, steps.of);
    let functions = &of.directions[d].activations;
    let first = first_of(&steps.sizes, now);
    let gates = if linear_before_reset { 3 } else { 2 };
    let right = Right { input: R, d, gate: 0, gates };
    let of_h = of_state(steps, &format!("{} product", now.name), h, right, None)?;
    let strides = vec![(gates * hidden) as u64, 1];
    let gate = |steps: &Steps<'_>, map: &mut super::super::located::Located<'_>, gate: usize| {
        let x = steps.sum(map, (sums, first), gate)?;
        let y = map.read(of_h, DType::F64, strides.clone(), (gate * hidden) as u64)?;
        let sum = map.builder.add(x, y);
        Ok::<_, GpuReject>(steps.clipped(&mut map.builder, functions[0], sum))
    };
    // What is added to the input's part of the candidate.
    let (name, beside) = (format!("{} reset", now.name), now.name.clone());
    let mut map = steps.over_state();
    let reset = gate(steps, &mut map, 1)?;
    let candidate = if linear_before_reset {
        let y = map.read(of_h, DType::F64, strides.clone(), (2 * hidden) as u64)?;
        let y = map.builder.mul(reset, y);
        steps.store(&name, map, y)?
    } else {
        let old = steps.read(&mut map, h)?;
        let kept = map.builder.mul(reset, old);
        let kept = steps.store(&name, map, kept)?;
        let right = Right { input: R, d, gate: 2, gates: 1 };
        of_state(steps, &format!("{beside} candidate"), kept, right, None)?
    };
    let mut map = steps.over_state();
    let update = gate(steps, &mut map, 0)?;
    let (old, x) = (steps.read(&mut map, h)?, steps.sum(&mut map, (sums, first), 2)?);
    let y = steps.read(&mut map, candidate)?;
    let b = &mut map.builder;
    let sum = b.add(x, y);
    let new = steps.clipped(b, functions[1], sum);
    let one = b.constant_as(update, 1.0);
    let rest = b.sub(one, update);
    let (new, old) = (b.mul(rest, new), b.mul(update, old));
    let state = b.add(new, old);
    Ok([steps.store(&now.name, map, state)?, Place::Nowhere])
}

/// `left · rightᵀ + bias + more` as `[rows, columns]`.
fn product(
    steps: &mut Steps<'_>,
    name: &str,
    left: &Left<'_>,
    right: Right,
    more: Option<(Place, usize, Affine)>,
) -> Result<Place, GpuReject> {
    let (site, hidden, of_direction) = (steps.site, steps.sizes.hidden, steps.sizes.rows());
    let weights = site.input_shape(right.input)?;
    let depth = *weights.last().ok_or(GpuReject::NoKernel)?;
    let (columns, first) = (right.gates * hidden, right.gate * hidden);
    let (column, fold) = (left.rows.len(), left.rows.len() + 1);
    let weight = affine((right.d * of_direction + first) * depth, &[(column, depth), (fold, 1)])?;
    let (mut to, mut made) = (vec![(column, 1)], columns);
    for (axis, extent) in left.rows.iter().enumerate().rev() {
        to.push((axis, made));
        made *= extent;
    }
    let to = affine(0, &to)?;
    let line = |count: usize| TensorFact::known(DType::F64, &[count]);
    let mut places = vec![left.place, Place::Input(right.input)];
    let mut operands = vec![line(left.count), line(weights.iter().product())];
    let mut added = Vec::new();
    if site.inputs.has(B) {
        let part = 2 * right.d + usize::from(right.input == R);
        places.push(Place::Input(B));
        operands.push(line(2 * steps.sizes.directions * of_direction));
        added.push(affine(part * of_direction + first, &[(column, 1)])?);
    }
    if let Some((place, count, at)) = more {
        places.push(place);
        operands.push(line(count));
        added.push(at);
    }
    let kernel = looped::nest(site, operands, line(made), |facts, outputs| {
        let extents = left.rows.iter().copied().chain([columns, depth]).map(Dim::Known);
        let mut nest = Stages::over(facts, outputs, extents.collect())?;
        let mut read = |operand: usize, at: &Affine| nest.read(operand, vec![at.clone()], Outside::Never);
        let factors = [read(0, &left.at)?, read(1, &weight)?];
        let mut sources = Vec::new();
        for (at, place) in added.iter().enumerate() {
            sources.push(read(2 + at, place)?);
        }
        sources.push(nest.fold(Fold::Sum, &[fold], &factors, |p, v| p.mul(v[0], v[1]))?);
        nest.store(vec![to], &[], &sources, |p, v| {
            v[..v.len() - 1].iter().fold(v[v.len() - 1], |sum, &term| p.add(sum, term))
        })
    })?;
    let to = steps.between(DType::F64, made)?;
    steps.whole.add(name, kernel, places, vec![to])?;
    Ok(to)
}
