//! # Scan
//! Runs a body once per slice of its scan inputs, carrying state and collecting outputs along an axis.
//! Opsets 8, 9, 11, 16, 19, 21, 23, 24, 25. In opset 8 every value has a batch axis in front, sequences lie
//! along axis 1, and rows may have lengths of their own.
//!
//! It has no nest: a nest reads operands at affine functions of its axes, and a body's operators read constants of the
//! body's own, views, and values of any shape, some of them by data. The body is fused for itself, so that a step is its
//! nests; what a recurrent operator computes is taken out of it beforehand.

use super::attributes::{Body, NodeSpec};
use super::r#loop::{stacked_fact, steady_state, without_content};
use super::{Accuracy, Cost, Op, OpDef, PackSite, Packed};
use crate::cpu::body::{BodyPrograms, collected, pack_bodies, run_body};
use crate::cpu::slice_along::slice_of;
use crate::cpu::stack::stack;
use crate::cpu::steps::{Slice, Steps, Turns, keeps_forms};
use crate::cpu::{CpuSite, Io, Kernel};
use crate::cuda::families::steps::{self, Given, Taken};
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::{DType, NUMBERS_AND_BOOL};
use crate::error::OpError;
use crate::exec::Program;
use crate::graph::fact::{Fact, Facts, TensorFact, normal_axis};
use crate::graph::{Dim, NodeError};
use crate::reference::{RefInputs, RefTensor, RefValue, run_graph, stack_slices};
use crate::tensor::{Tensor, TensorView, Value, ValueRef};
use crate::testing::bodies::BodyBuilder;
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Scan",
    domain: "",
    since: &[8, 9, 11, 16, 19, 21, 23, 24, 25],
    until: None,
    dtypes: NUMBERS_AND_BOOL,
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

#[derive(Clone, Debug)]
pub(crate) struct Scan {
    pub(crate) body: Body,
    scan_inputs: usize,
    pub(crate) input_axes: Vec<i64>,
    pub(crate) input_reversed: Vec<bool>,
    pub(crate) output_axes: Vec<i64>,
    pub(crate) output_reversed: Vec<bool>,
    /// The form of opset 8.
    pub(crate) batched: bool,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let body = spec.body("body")?.ok_or_else(|| OpError::attribute("body", "is missing"))?;
    let scan_inputs =
        spec.int("num_scan_inputs")?.ok_or_else(|| OpError::attribute("num_scan_inputs", "is missing"))?;
    let scan_inputs = usize::try_from(scan_inputs).ok().filter(|&n| n >= 1 && n <= body.formal_inputs);
    let scan_inputs =
        scan_inputs.ok_or_else(|| OpError::attribute("num_scan_inputs", "does not fit the body"))?;
    let batched = spec.opset < 9;
    let states = body.formal_inputs - scan_inputs;
    let outputs = body.graph.outputs.len();
    let inputs = spec.inputs.len().checked_sub(usize::from(batched));
    if inputs != Some(body.formal_inputs) || outputs < states || spec.outputs.len() > outputs {
        return Err(OpError::attribute("body", "has inputs or outputs that do not fit the node's"));
    }
    let list = |name: &str, count: usize| -> Result<Vec<i64>, OpError> {
        let values = spec.ints(name)?.unwrap_or_else(|| vec![0; count]);
        if values.len() == count {
            Ok(values)
        } else {
            Err(OpError::attribute(name, format!("has {} entries; {count} are needed", values.len())))
        }
    };
    let flags = |name: &str, count: usize| -> Result<Vec<bool>, OpError> {
        list(name, count)?
            .into_iter()
            .map(|v| match v {
                0 => Ok(false),
                1 => Ok(true),
                _ => Err(OpError::attribute(name, format!("holds {v}; 0 or 1 is meant"))),
            })
            .collect()
    };
    let scan_outputs = outputs - states;
    Ok(Arc::new(if batched {
        Scan {
            input_axes: vec![0; scan_inputs],
            input_reversed: flags("directions", scan_inputs)?,
            output_axes: vec![0; scan_outputs],
            output_reversed: vec![false; scan_outputs],
            body,
            scan_inputs,
            batched,
        }
    } else {
        Scan {
            input_axes: list("scan_input_axes", scan_inputs)?,
            input_reversed: flags("scan_input_directions", scan_inputs)?,
            output_axes: list("scan_output_axes", scan_outputs)?,
            output_reversed: flags("scan_output_directions", scan_outputs)?,
            body,
            scan_inputs,
            batched,
        }
    }))
}

impl Scan {
    /// Number of values carried from step to step.
    pub(crate) fn states(&self) -> usize {
        self.body.formal_inputs - self.scan_inputs
    }

    /// Position of the first state among the node's inputs.
    pub(super) fn first_state(&self) -> usize {
        usize::from(self.batched)
    }

    pub(super) fn first_capture(&self) -> usize {
        self.first_state() + self.body.formal_inputs
    }

    /// Facts of the states, the scan inputs and the captures, of one row in the form of opset 8.
    fn parts(&self, inputs: Facts<'_>) -> Option<(Vec<Fact>, Vec<Fact>, Vec<Fact>)> {
        let (first, count) = (self.first_state(), self.states());
        let fact = |i: usize| {
            let fact = inputs.value(i).ok()?;
            let of_row = self.batched && i < self.first_capture();
            if of_row { row_fact(fact).ok() } else { Some(fact.clone()) }
        };
        let states = (first..first + count).map(|i| fact(i).map(|f| without_content(&f)));
        let scanned = (first + count..self.first_capture()).map(fact);
        let captures = (self.first_capture()..inputs.len()).map(fact);
        Some((
            states.collect::<Option<_>>()?,
            scanned.collect::<Option<_>>()?,
            captures.collect::<Option<_>>()?,
        ))
    }

    /// The number of slices, and the facts of one slice of each scan input.
    fn slice_facts(&self, scanned: &[Fact]) -> Result<(Dim, Vec<Fact>), OpError> {
        let mut length = Dim::Unknown;
        let mut slices = Vec::with_capacity(scanned.len());
        for (fact, &axis) in scanned.iter().zip(&self.input_axes) {
            let t = fact.tensor().ok_or_else(|| OpError::shape("a scan input is no tensor"))?;
            let slice = match &t.shape {
                Some(s) => {
                    let mut s = s.clone();
                    let extent = s.remove(normal_axis(axis, s.len())?);
                    match (&length, &extent) {
                        (Dim::Known(a), Dim::Known(b)) if a != b => {
                            return Err(OpError::shape(format!("scan inputs have {a} and {b} slices")));
                        }
                        (Dim::Unknown, _) | (Dim::Expr(_), Dim::Known(_)) => length = extent,
                        _ => {}
                    }
                    Some(s)
                }
                None => None,
            };
            slices.push(TensorFact { shape: slice, ..TensorFact::unranked(t.dtype) }.into());
        }
        Ok((length, slices))
    }

    /// Facts of the states that hold at every step, and those of all that the body then gives.
    fn infer_steady(
        &self,
        states: Vec<Fact>,
        slices: &[Fact],
        captures: &[Fact],
    ) -> Result<(Vec<Fact>, Vec<Fact>), OpError> {
        steady_state(states, |facts| {
            let given: Vec<Fact> = facts.iter().chain(slices).chain(captures).cloned().collect();
            self.body.graph.infer_outputs(&given)
        })
    }

    /// The form without batch: facts of states, scan inputs and captures to facts of outputs.
    fn infer_row(
        &self,
        states: Vec<Fact>,
        scanned: &[Fact],
        captures: &[Fact],
    ) -> Result<Vec<Fact>, OpError> {
        let (length, slices) = self.slice_facts(scanned)?;
        let count = states.len();
        let (held, made) = self.infer_steady(states, &slices, captures)?;
        let mut out: Vec<Fact> = held.iter().map(without_content).collect();
        for (slice, &axis) in made[count..].iter().zip(&self.output_axes) {
            let rank = slice.tensor().and_then(TensorFact::rank);
            out.push(match rank {
                Some(rank) => stacked_fact(slice, length.clone(), normal_axis(axis, rank + 1)?)?,
                None => without_content(slice),
            });
        }
        Ok(out)
    }

    /// The steps and their number, where all forms are known and stay.
    fn steps(&self, site: &CpuSite<'_>) -> Option<(Steps, usize)> {
        if self.batched {
            return None;
        }
        let (states, scanned, captures) = self.parts(site.inputs)?;
        let (length, slices) = self.slice_facts(&scanned).ok()?;
        let length = length.known()?;
        let (held, made) = self.infer_steady(states.clone(), &slices, &captures).ok()?;
        let outputs_known =
            site.outputs.iter().all(|f| f.tensor().is_some_and(|t| t.known_shape().is_some()));
        if !keeps_forms(&states, &held, &made) || !outputs_known {
            return None;
        }
        let rank = |f: &Fact| f.tensor().and_then(TensorFact::rank);
        let slice = |fact: &Fact, axis: i64, reversed: bool| {
            Slice::new(fact, normal_axis(axis, rank(fact)? + 1).ok()?, length, reversed)
        };
        let taken = slices.iter().zip(self.input_axes.iter().zip(&self.input_reversed));
        let put = made[states.len()..].iter().zip(self.output_axes.iter().zip(&self.output_reversed));
        let taken = taken.map(|(f, (axis, reversed))| slice(f, *axis, *reversed)).collect::<Option<_>>()?;
        let put = put.map(|(f, (axis, reversed))| slice(f, *axis, *reversed)).collect::<Option<_>>()?;
        Some((Steps::new(&states, 0, taken, put)?, length))
    }

    /// Runs one sequence: final states, then the slices of each scan output in order of time.
    pub(super) fn run_row(
        &self,
        program: &Program,
        io: &Io<'_, '_>,
        states: Vec<Value>,
        scanned: &[TensorView<'_>],
        length: usize,
    ) -> Result<(Vec<Value>, Vec<Vec<Tensor>>), OpError> {
        let count = states.len();
        let mut states = states;
        let mut slices = vec![Vec::with_capacity(length.min(1024)); self.output_axes.len()];
        for step in 0..length {
            io.check_interrupt()?;
            let mut taken = Vec::with_capacity(scanned.len());
            for ((view, &axis), &reversed) in scanned.iter().zip(&self.input_axes).zip(&self.input_reversed) {
                let at = if reversed { length - 1 - step } else { step };
                taken.push(slice_of(*view, normal_axis(axis, view.shape().len())?, at, io)?);
            }
            let mut given: Vec<ValueRef<'_>> = states.iter().map(Value::as_ref).collect();
            given.extend(taken.iter().map(|t| ValueRef::Tensor(t.view())));
            for i in self.first_capture()..io.input_count() {
                given.push(io.value(i)?);
            }
            let mut made = run_body(program, &given, io.context)?;
            for (list, value) in slices.iter_mut().zip(made.drain(count..)) {
                list.push(collected(value)?);
            }
            states = made;
        }
        Ok((states, slices))
    }

    fn run(&self, program: &Program, io: &mut Io<'_, '_>, outputs: &[Fact]) -> Result<(), OpError> {
        let count = self.states();
        let mut states = Vec::with_capacity(count);
        for i in 0..count {
            states.push(Value::copy_of(io.value(i)?, io.context.budget)?);
        }
        let scanned: Vec<TensorView<'_>> =
            (count..self.body.formal_inputs).map(|i| io.tensor(i)).collect::<Result<_, _>>()?;
        let length = common_length(&scanned, &self.input_axes)?;
        let (states, slices) = self.run_row(program, io, states, &scanned, length)?;
        for (i, value) in states.into_iter().enumerate() {
            io.make(i, value)?;
        }
        for (i, parts) in slices.iter().enumerate() {
            if !io.wants(count + i) {
                continue;
            }
            let fact = outputs.get(count + i).and_then(Fact::tensor);
            let rank = parts
                .first()
                .map_or_else(|| fact.and_then(TensorFact::rank).unwrap_or(1), |t| t.shape().len() + 1);
            let axis = normal_axis(self.output_axes[i], rank)?;
            let mut empty: Vec<usize> = fact
                .and_then(|f| Some(f.shape.as_ref()?.iter().map(|d| d.known().unwrap_or(0)).collect()))
                .unwrap_or_else(|| vec![0]);
            if axis < empty.len() {
                empty.remove(axis);
            }
            let dtype = fact.map_or(DType::F32, |f| f.dtype);
            stack(io, count + i, parts, axis, self.output_reversed[i], (dtype, &empty))?;
        }
        Ok(())
    }
}

pub(super) fn common_length(scanned: &[TensorView<'_>], axes: &[i64]) -> Result<usize, OpError> {
    let mut length = None;
    for (view, &axis) in scanned.iter().zip(axes) {
        let extent = view.shape()[normal_axis(axis, view.shape().len())?];
        if length.is_some_and(|l| l != extent) {
            return Err(OpError::shape("scan inputs have different numbers of slices"));
        }
        length = Some(extent);
    }
    Ok(length.unwrap_or(0))
}

/// A fact without its first axis.
fn row_fact(fact: &Fact) -> Result<Fact, OpError> {
    let t = fact.tensor().ok_or_else(|| OpError::shape("a scan value is no tensor"))?;
    let shape = match &t.shape {
        Some(s) if s.is_empty() => return Err(OpError::shape("a batched value has no batch axis")),
        Some(s) => Some(s[1..].to_vec()),
        None => None,
    };
    Ok(TensorFact { shape, ..TensorFact::unranked(t.dtype) }.into())
}

impl Op for Scan {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        let (first, count) = (self.first_state(), self.states());
        let states: Vec<Fact> =
            (first..first + count).map(|i| inputs.value(i).map(without_content)).collect::<Result<_, _>>()?;
        let scanned: Vec<Fact> = (first + count..self.first_capture())
            .map(|i| inputs.value(i).cloned())
            .collect::<Result<_, _>>()?;
        let captures: Vec<Fact> = (self.first_capture()..inputs.len())
            .map(|i| inputs.value(i).cloned())
            .collect::<Result<_, _>>()?;
        if !self.batched {
            return self.infer_row(states, &scanned, &captures);
        }
        if inputs.has(0) {
            inputs.typed(0, &[DType::I64])?;
        }
        let batch =
            scanned.iter().find_map(|f| f.tensor()?.shape.as_ref()?.first().cloned()).unwrap_or(Dim::Unknown);
        let rows = |facts: &[Fact]| facts.iter().map(row_fact).collect::<Result<Vec<_>, _>>();
        let made = self.infer_row(rows(&states)?, &rows(&scanned)?, &captures)?;
        made.iter().map(|f| stacked_fact(f, batch.clone(), 0)).collect()
    }

    fn body_inputs(&self, inputs: Facts<'_>) -> Option<Vec<Vec<Fact>>> {
        let (states, scanned, captures) = self.parts(inputs)?;
        let (_, slices) = self.slice_facts(&scanned).ok()?;
        let held = self.infer_steady(states, &slices, &captures).ok()?.0;
        Some(vec![held.into_iter().chain(slices).chain(captures).collect()])
    }

    fn body_cost(&self, inputs: Facts<'_>) -> Option<Cost> {
        let scanned = self.parts(inputs)?.1;
        let mut steps = self.slice_facts(&scanned).ok()?.0.known()?;
        if self.batched {
            steps *= inputs.tensor(self.first_capture() - 1).ok()?.known_shape()?.first().copied()?;
        }
        let given = self.body_inputs(inputs)?;
        Some(self.body.graph.cost(&given[0])?.times(steps))
    }

    fn pack(&self, site: &PackSite<'_>) -> Result<Option<Packed>, OpError> {
        pack_bodies(&self.bodies(), site)
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let programs =
            site.packed_as::<BodyPrograms>().ok_or_else(|| OpError::internal("bodies not packed"))?;
        let (op, outputs) = (self.clone(), site.outputs.to_vec());
        let steps = self.steps(site);
        let scratch = steps.as_ref().map_or(0, |(steps, _)| steps.scratch());
        let kernel = Kernel::new(move |io| {
            if let Some((steps, length)) = &steps
                && steps.run(&programs, io, Turns::All(*length))?
            {
                return Ok(());
            }
            if op.batched { op.run_batched(&programs.0[0], io) } else { op.run(&programs.0[0], io, &outputs) }
        });
        Ok(kernel.with_scratch(scratch))
    }

    /// Steps over values that keep their forms.
    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let unknown = || GpuReject::ControlFlow;
        if self.batched {
            return Err(unknown());
        }
        let (states, scanned, captures) = self.parts(site.inputs).ok_or_else(unknown)?;
        let (length, slices) = self.slice_facts(&scanned).map_err(|_| unknown())?;
        let count = length.known().ok_or_else(unknown)?;
        let (held, made) = self.infer_steady(states.clone(), &slices, &captures).map_err(|_| unknown())?;
        if !keeps_forms(&states, &held, &made) {
            return Err(unknown());
        }
        let rank = |fact: &Fact| fact.tensor().and_then(TensorFact::rank).ok_or_else(unknown);
        let along = |axis: i64, fact: &Fact| normal_axis(axis, rank(fact)? + 1).map_err(|_| unknown());
        let mut taken: Vec<Taken> = (0..states.len()).map(|i| Taken::State(i, i)).collect();
        for (i, slice) in slices.iter().enumerate() {
            let axis = along(self.input_axes[i], slice)?;
            taken.push(Taken::Slice { input: states.len() + i, axis, reversed: self.input_reversed[i] });
        }
        taken.extend((self.first_capture()..site.inputs.len()).map(Taken::Whole));
        let mut given: Vec<Given> = (0..states.len()).map(Given::State).collect();
        for (i, slice) in made[states.len()..].iter().enumerate() {
            let axis = along(self.output_axes[i], slice)?;
            given.push(Given::Slice { output: states.len() + i, axis, reversed: self.output_reversed[i] });
        }
        let facts = held.into_iter().chain(slices).chain(captures).collect();
        steps::Steps { body: &self.body.graph, facts, taken, given, count }.kernel(site)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        if self.batched {
            return Err(OpError::unsupported("Scan of opset 8 in the reference"));
        }
        let count = self.states();
        let mut states: Vec<RefValue> =
            (0..count).map(|i| inputs.value(i).cloned()).collect::<Result<_, _>>()?;
        let scanned: Vec<&RefTensor> =
            (count..self.body.formal_inputs).map(|i| inputs.tensor(i)).collect::<Result<_, _>>()?;
        let axes: Vec<usize> = scanned
            .iter()
            .zip(&self.input_axes)
            .map(|(t, &a)| normal_axis(a, t.shape.len()))
            .collect::<Result<_, _>>()?;
        let length = scanned.first().map_or(0, |t| t.shape[axes[0]]);
        let mut slices: Vec<Vec<RefTensor>> = vec![Vec::new(); self.output_axes.len()];
        for step in 0..length {
            let mut given = states;
            for ((t, &axis), &reversed) in scanned.iter().zip(&axes).zip(&self.input_reversed) {
                let at = if reversed { length - 1 - step } else { step };
                let mut shape = t.shape.clone();
                shape.remove(axis);
                let slice = t.gathered(&shape, |i| {
                    let mut index = RefTensor::unravel(&shape, i);
                    index.insert(axis, at);
                    RefTensor::ravel(&t.shape, &index)
                });
                given.push(slice.into());
            }
            for i in self.first_capture()..inputs.len() {
                given.push(inputs.value(i)?.clone());
            }
            let mut made = run_graph(&self.body.graph, &given).map_err(NodeError::in_body)?;
            for (list, value) in slices.iter_mut().zip(made.drain(count..)) {
                list.push(value.tensor()?.clone());
            }
            states = made;
        }
        let mut out = states;
        for (i, mut parts) in slices.into_iter().enumerate() {
            if self.output_reversed[i] {
                parts.reverse();
            }
            let rank = parts.first().map_or(1, |p| p.shape.len() + 1);
            out.push(stack_slices(&parts, normal_axis(self.output_axes[i], rank)?, DType::F32)?.into());
        }
        Ok(out)
    }

    fn bodies(&self) -> Vec<&Body> {
        vec![&self.body]
    }

    fn with_bodies(&self, bodies: Vec<Body>) -> Option<Arc<dyn Op>> {
        let [body] = bodies.try_into().ok()?;
        Some(Arc::new(Scan { body, ..self.clone() }))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A body `h, x → h + x, relu(h)` over a random axis and direction.
fn case(g: &mut Gen) -> Case {
    let slice = [g.positive_extent(), g.positive_extent()];
    let steps = g.size(1, 5);
    let axis = g.size(0, 2);
    let mut shape = slice.to_vec();
    shape.insert(axis, steps);
    let mut b = BodyBuilder::new();
    let h = b.input("h");
    let x = b.input("x");
    let next = b.node("Add", &[h, x]);
    let out = b.node("Relu", &[h]);
    let body = b.finish(&[next, out]);
    let signed = |g: &mut Gen, a: usize| if g.chance(0.5) { a as i64 - 3 } else { a as i64 };
    let (input_axis, output_axis) = (signed(g, axis), g.size(0, 2));
    Case::new([g.tensor(DType::F32, &slice), g.tensor(DType::F32, &shape)])
        .with("body", body)
        .int("num_scan_inputs", 1)
        .ints("scan_input_axes", &[input_axis])
        .ints("scan_input_directions", &[g.int(0, 1)])
        .ints("scan_output_axes", &[signed(g, output_axis)])
        .ints("scan_output_directions", &[g.int(0, 1)])
        .outputs(2)
}
