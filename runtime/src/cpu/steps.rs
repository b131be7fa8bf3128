//! The steps of a loop whose values keep their shapes: the body is bound once, and a step allocates nothing.
//!
//! States lie in one of two places, which change roles with every step. A slice of a sequence that lies in one piece
//! is read where it is, others are copied to scratch memory first; what a step gives is written where it belongs
//! in the same way.

use super::body::BodyPrograms;
use super::{Io, Slot};
use crate::dtype::{Bool, DType};
use crate::error::OpError;
use crate::graph::NodeError;
use crate::graph::fact::{Fact, TensorFact};
use crate::tensor::{Shape, TensorView, ValueRef};
use smallvec::SmallVec;
use std::ops::Range;

/// Places in scratch memory start at multiples of this.
const ALIGNMENT: usize = 64;

/// A tensor of known form.
#[derive(Clone, Debug)]
struct Form {
    dtype: DType,
    shape: Shape,
    bytes: usize,
}

impl Form {
    fn new(fact: &Fact) -> Option<Self> {
        let t = fact.tensor().filter(|t| t.dtype != DType::String && t.dtype.bits().is_multiple_of(8))?;
        Some(Self { dtype: t.dtype, shape: t.known_shape()?, bytes: t.bytes()? })
    }

    fn place(&self) -> Option<usize> {
        self.bytes.checked_next_multiple_of(ALIGNMENT)
    }

    fn is(&self, form: Option<(DType, &[usize])>) -> bool {
        form.is_some_and(|(dtype, shape)| dtype == self.dtype && shape == self.shape.as_slice())
    }

    fn view<'a>(&'a self, bytes: &'a [u8]) -> ValueRef<'a> {
        ValueRef::Tensor(TensorView::over_bytes(self.dtype, &self.shape, bytes))
    }
}

/// One slice of a sequence along an axis: `outer` runs of `run` bytes, each `extent` runs after the one before.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    form: Form,
    outer: usize,
    run: usize,
    extent: usize,
    reversed: bool,
}

impl Slice {
    /// The slices of form `fact` of a sequence of `extent` along `axis`, from the last one on where `reversed`.
    pub(crate) fn new(fact: &Fact, axis: usize, extent: usize, reversed: bool) -> Option<Self> {
        let form = Form::new(fact)?;
        let outer = form.shape.get(..axis)?.iter().product::<usize>();
        let run = form.bytes.checked_div(outer).unwrap_or(0);
        Some(Self { form, outer, run, extent, reversed })
    }

    fn in_one_piece(&self) -> bool {
        self.outer <= 1
    }

    /// The bytes of run `o` of slice `step`.
    fn range(&self, step: usize, o: usize) -> Range<usize> {
        let at = if self.reversed { self.extent - 1 - step } else { step };
        let start = (o * self.extent + at) * self.run;
        start..start + self.run
    }
}

/// Which steps are made.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Turns {
    /// All slices of the sequences.
    All(usize),
    /// Up to `limit`, while the body's first output is true: it is given the number of the step and a condition first.
    While { limit: i64, go: bool },
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(crate) struct Steps {
    states: Vec<Form>,
    taken: Vec<Slice>,
    put: Vec<Slice>,
    /// The node's input that holds the first state; sequences follow the states, captures those.
    first_state: usize,
    state_bytes: usize,
    taken_bytes: usize,
    put_bytes: usize,
}

impl Steps {
    /// For states of the forms `states`. `None` where a form is not known.
    pub(crate) fn new(
        states: &[Fact],
        first_state: usize,
        taken: Vec<Slice>,
        put: Vec<Slice>,
    ) -> Option<Self> {
        let states: Vec<Form> = states.iter().map(Form::new).collect::<Option<_>>()?;
        let state_bytes = sum(states.iter())?;
        let taken_bytes = sum(taken.iter().map(|s| &s.form))?;
        let put_bytes = sum(put.iter().map(|s| &s.form))?;
        let steps = Self { states, taken, put, first_state, state_bytes, taken_bytes, put_bytes };
        steps.checked_scratch().map(|_| steps)
    }

    fn checked_scratch(&self) -> Option<usize> {
        self.state_bytes.checked_mul(2)?.checked_add(self.taken_bytes)?.checked_add(self.put_bytes)
    }

    /// Bytes of scratch memory.
    pub(crate) fn scratch(&self) -> usize {
        self.checked_scratch().unwrap_or(0)
    }

    /// Runs the steps. `false`, with nothing written, where the body's outputs have other forms than were expected.
    pub(crate) fn run(
        &self,
        programs: &BodyPrograms,
        io: &mut Io<'_, '_>,
        turns: Turns,
    ) -> Result<bool, OpError> {
        let program = programs.0.first().ok_or_else(|| OpError::internal("a loop without a body"))?;
        let (values, context) = (io.values(), io.context);
        let first_taken = self.first_state + self.states.len();
        let given_bytes = |index: usize| match values.get(index).copied().flatten() {
            Some(ValueRef::Tensor(view)) => Ok(view.bytes()),
            _ => Err(OpError::input(index, "is not a tensor")),
        };
        let short = || OpError::internal("scratch memory is smaller than what was asked for");
        let (mut outs, scratch) = io.all_bytes_and_scratch(self.states.len() + self.put.len())?;
        let (mut before, rest) = scratch.split_at_mut_checked(self.state_bytes).ok_or_else(short)?;
        let (mut after, rest) = rest.split_at_mut_checked(self.state_bytes).ok_or_else(short)?;
        let (taken_place, rest) = rest.split_at_mut_checked(self.taken_bytes).ok_or_else(short)?;
        let put_place = rest.get_mut(..self.put_bytes).ok_or_else(short)?;
        let mut bound = None;
        let mut going = true;
        let mut step = 0;
        loop {
            let wanted = match turns {
                Turns::All(steps) => step < steps,
                Turns::While { limit, go } => go && going && i64::try_from(step).is_ok_and(|s| s < limit),
            };
            if !wanted {
                break;
            }
            context.interrupt.check()?;
            let mut place = &mut *taken_place;
            for (i, slice) in self.taken.iter().enumerate() {
                let (own, rest) = place.split_at_mut(slice.form.place().unwrap_or(0));
                place = rest;
                if !slice.in_one_piece() && slice.run > 0 {
                    let from = given_bytes(first_taken + i)?;
                    for (o, to) in own[..slice.form.bytes].chunks_exact_mut(slice.run).enumerate() {
                        to.copy_from_slice(&from[slice.range(step, o)]);
                    }
                }
            }
            let (number, condition, mut goes_on) = ([step as i64], [Bool::new(true)], [0u8; 1]);
            let while_loop = matches!(turns, Turns::While { .. });
            {
                let mut given: SmallVec<[ValueRef<'_>; 16]> = SmallVec::new();
                if while_loop {
                    given.push(ValueRef::Tensor(TensorView::over_bytes(
                        DType::I64,
                        &[],
                        bytemuck::cast_slice(&number),
                    )));
                    given.push(ValueRef::Tensor(TensorView::over_bytes(
                        DType::Bool,
                        &[],
                        bytemuck::cast_slice(&condition),
                    )));
                }
                let mut place = &*before;
                for (i, form) in self.states.iter().enumerate() {
                    let (own, rest) = place.split_at(form.place().unwrap_or(0));
                    place = rest;
                    let bytes =
                        if step == 0 { given_bytes(self.first_state + i)? } else { &own[..form.bytes] };
                    given.push(form.view(bytes));
                }
                let mut place = &*taken_place;
                for (i, slice) in self.taken.iter().enumerate() {
                    let (own, rest) = place.split_at(slice.form.place().unwrap_or(0));
                    place = rest;
                    let bytes = if slice.in_one_piece() {
                        let from = given_bytes(first_taken + i)?;
                        from.get(slice.range(step, 0)).filter(|b| b.len() == slice.form.bytes)
                    } else {
                        own.get(..slice.form.bytes)
                    };
                    given.push(slice.form.view(
                        bytes.ok_or_else(|| OpError::internal("a sequence is shorter than its shape"))?,
                    ));
                }
                for capture in &values[first_taken + self.taken.len()..] {
                    given.push(capture.ok_or_else(|| OpError::internal("a capture is missing"))?);
                }
                if bound.is_none() {
                    let made = program.bind(&given, context).map_err(NodeError::in_body)?;
                    let first = usize::from(while_loop);
                    let forms = self.states.iter().chain(self.put.iter().map(|s| &s.form));
                    let as_expected = forms.enumerate().all(|(i, f)| f.is(made.output_form(first + i)));
                    let one = |(dtype, shape): (DType, &[usize])| {
                        dtype == DType::Bool && shape.iter().all(|d| *d == 1)
                    };
                    if !as_expected || while_loop && !made.output_form(0).is_some_and(one) {
                        return Ok(false);
                    }
                    bound = Some(made);
                }
                let bound = bound.as_ref().ok_or_else(|| OpError::internal("a body without a binding"))?;
                let mut slots: SmallVec<[Slot<'_>; 8]> = SmallVec::new();
                if while_loop {
                    let (dtype, shape) =
                        bound.output_form(0).ok_or_else(|| OpError::internal("no condition"))?;
                    slots.push(Slot::Fixed { dtype, shape, bytes: &mut goes_on });
                }
                let mut place = &mut *after;
                for form in &self.states {
                    let (own, rest) = place.split_at_mut(form.place().unwrap_or(0));
                    place = rest;
                    slots.push(Slot::Fixed {
                        dtype: form.dtype,
                        shape: &form.shape,
                        bytes: &mut own[..form.bytes],
                    });
                }
                let mut place = &mut *put_place;
                for (slice, out) in self.put.iter().zip(&mut outs[self.states.len()..]) {
                    let (own, rest) = place.split_at_mut(slice.form.place().unwrap_or(0));
                    place = rest;
                    // What nobody wants is written all the same, beside the outputs.
                    let bytes = match out.get_mut(slice.range(step, 0)) {
                        Some(bytes) if slice.in_one_piece() && bytes.len() == slice.form.bytes => bytes,
                        _ => &mut own[..slice.form.bytes],
                    };
                    slots.push(Slot::Fixed { dtype: slice.form.dtype, shape: &slice.form.shape, bytes });
                }
                bound.run(program, &given, &mut slots, context).map_err(NodeError::in_body)?;
            }
            let mut place = &*put_place;
            for (slice, out) in self.put.iter().zip(&mut outs[self.states.len()..]) {
                let (own, rest) = place.split_at(slice.form.place().unwrap_or(0));
                place = rest;
                if !slice.in_one_piece() && slice.run > 0 && !out.is_empty() {
                    for (o, from) in own[..slice.form.bytes].chunks_exact(slice.run).enumerate() {
                        out[slice.range(step, o)].copy_from_slice(from);
                    }
                }
            }
            std::mem::swap(&mut before, &mut after);
            going = goes_on[0] != 0;
            step += 1;
        }
        let mut place = &*before;
        for (i, (form, out)) in self.states.iter().zip(&mut outs).enumerate() {
            let (own, rest) = place.split_at(form.place().unwrap_or(0));
            place = rest;
            if !out.is_empty() {
                let from = if step == 0 { given_bytes(self.first_state + i)? } else { &own[..form.bytes] };
                out.copy_from_slice(from);
            }
        }
        Ok(true)
    }
}

/// Bytes of the places of all forms.
fn sum<'a>(mut forms: impl Iterator<Item = &'a Form>) -> Option<usize> {
    forms.try_fold(0usize, |sum, form| sum.checked_add(form.place()?))
}

/// Whether what a loop carries keeps its forms: `held` are those of every step, `before` those of the first.
pub(crate) fn keeps_forms(before: &[Fact], held: &[Fact], made: &[Fact]) -> bool {
    let same = |a: &Fact, b: &Fact| {
        let form = |f: &Fact| f.tensor().and_then(|t: &TensorFact| Some((t.dtype, t.known_shape()?)));
        form(a).is_some() && form(a) == form(b)
    };
    before.len() == held.len()
        && before.iter().zip(held).all(|(a, b)| same(a, b))
        && held.iter().zip(made).all(|(a, b)| same(a, b))
}
