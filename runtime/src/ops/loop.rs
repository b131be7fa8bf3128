//! # Loop
//! Runs a body up to `M` times while its condition holds, carrying values from one iteration to the next and
//! collecting others along a new first axis. Opsets 7 (as 1), 11, 13, 16, 19, 21, 23, 24, 25.
//!
//! The number of iterations is known beforehand only when `M` is a constant and the body hands its condition
//! through or makes it a true constant.
//!
//! A carried value may begin as an optional one and come out of the body as what an optional one holds. The body
//! then gets it as an optional value in every iteration, and the node gives what it holds.

use super::attributes::{Body, NodeSpec};
use super::{Accuracy, Cost, Op, OpDef, PackSite, Packed};
use crate::cpu::body::{BodyPrograms, collected, pack_bodies, run_body, truth_of};
use crate::cpu::stack::stack;
use crate::cpu::steps::{Slice, Steps, Turns, keeps_forms};
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::families::rounds;
use crate::cuda::families::steps::{self, Given, Taken};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, Within};
use crate::dtype::{Bool, DType, NUMBERS_AND_BOOL};
use crate::error::OpError;
use crate::graph::fact::{Content, Fact, Facts, TensorFact};
use crate::graph::{Dim, NodeError, merge};
use crate::reference::{RefInputs, RefTensor, RefValue, run_graph, stack_slices};
use crate::tensor::{Tensor, Value, ValueRef};
use crate::testing::bodies::BodyBuilder;
use crate::testing::{Case, Gen};
use smallvec::SmallVec;
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Loop",
    domain: "",
    since: &[7, 11, 13, 16, 19, 21, 23, 24, 25],
    until: None,
    dtypes: NUMBERS_AND_BOOL,
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

#[derive(Debug)]
pub(crate) struct Loop {
    pub(crate) body: Body,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let body = spec.body("body")?.ok_or_else(|| OpError::attribute("body", "is missing"))?;
    let carried = spec.inputs.len().saturating_sub(2);
    if body.formal_inputs != carried + 2 {
        let problem = format!("has {} inputs; the node carries {carried} values", body.formal_inputs);
        return Err(OpError::attribute("body", problem));
    }
    if body.graph.outputs.len() < carried + 1 || spec.outputs.len() + 1 > body.graph.outputs.len() {
        return Err(OpError::attribute("body", "has too few outputs"));
    }
    Ok(Arc::new(Loop { body }))
}

impl Loop {
    /// Number of values carried from iteration to iteration.
    pub(crate) fn carried(&self) -> usize {
        self.body.formal_inputs - 2
    }

    fn scans(&self) -> usize {
        self.body.graph.outputs.len() - 1 - self.carried()
    }

    /// Position of the first capture among the node's inputs.
    fn first_capture(&self) -> usize {
        self.body.formal_inputs
    }

    /// Whether the condition that the body gives is the one it was given, or a true constant.
    pub(crate) fn condition_never_ends(&self) -> bool {
        let graph = &self.body.graph;
        let mut condition = graph.outputs[0];
        loop {
            if condition == graph.inputs[1] {
                return true;
            }
            if let Some(t) = graph.constant(condition) {
                return matches!(truth_of(t.view().into()), Ok(true));
            }
            // Exporters hand it through an Identity.
            let writer = graph.nodes.iter().find(|n| n.outputs.contains(&Some(condition)));
            match writer {
                Some(n) if n.def.name == "Identity" => match n.inputs.first() {
                    Some(Some(from)) => condition = *from,
                    _ => return false,
                },
                _ => return false,
            }
        }
    }

    /// What the body is given when it carries `held`.
    fn body_facts(&self, inputs: Facts<'_>, held: &[Fact]) -> Result<Vec<Fact>, OpError> {
        let control = [TensorFact::known(DType::I64, &[]).into(), TensorFact::known(DType::Bool, &[]).into()];
        let captures = (self.first_capture()..inputs.len()).map(|i| inputs.value(i).cloned());
        control.into_iter().chain(held.iter().cloned()).map(Ok).chain(captures).collect()
    }

    /// Facts of the carried values that hold in every iteration, and those of what the body then gives without its
    /// condition.
    fn infer_steady(&self, inputs: Facts<'_>, initial: Vec<Fact>) -> Result<(Vec<Fact>, Vec<Fact>), OpError> {
        steady_state(initial, |facts| {
            let mut made = self.body.graph.infer_outputs(&self.body_facts(inputs, facts)?)?;
            made.remove(0);
            Ok(made)
        })
    }

    /// The steps, where all forms are known and stay, and with what is collected their number.
    fn steps(&self, site: &CpuSite<'_>) -> Option<Steps> {
        let states: Vec<Fact> = (2..2 + self.carried())
            .map(|i| site.inputs.value(i).map(without_content).ok())
            .collect::<Option<_>>()?;
        let (held, made) = self.infer_steady(site.inputs, states.clone()).ok()?;
        let outputs_known =
            site.outputs.iter().all(|f| f.tensor().is_some_and(|t| t.known_shape().is_some()));
        if !keeps_forms(&states, &held, &made) || !outputs_known {
            return None;
        }
        let put = match self.known_trips(site.inputs).ok()? {
            Some(trips) => {
                made[states.len()..].iter().map(|f| Slice::new(f, 0, trips, false)).collect::<Option<_>>()?
            }
            None if made.len() == states.len() => Vec::new(),
            None => return None,
        };
        Steps::new(&states, 2, Vec::new(), put)
    }

    fn known_trips(&self, inputs: Facts<'_>) -> Result<Option<usize>, OpError> {
        let count = match inputs.optional(0)? {
            Some(fact) => fact.as_i64s().and_then(|v| v.first().copied()),
            None => None,
        };
        let started = match inputs.optional(1)? {
            None => Some(true),
            Some(fact) => fact.as_constant().map(|t| truth_of(t.view().into())).transpose()?,
        };
        Ok(match (count, started) {
            (_, Some(false)) => Some(0),
            (Some(n), Some(true)) if self.condition_never_ends() => Some(usize::try_from(n).unwrap_or(0)),
            (Some(n), _) if n <= 0 => Some(0),
            _ => None,
        })
    }
}

fn check_control(inputs: Facts<'_>) -> Result<(), OpError> {
    if inputs.has(0) {
        let m = inputs.typed(0, &[DType::I64])?;
        if m.element_count().is_some_and(|n| n != 1) {
            return Err(OpError::input(0, "is not one number"));
        }
    }
    if inputs.has(1) {
        let cond = inputs.typed(1, &[DType::Bool])?;
        if cond.element_count().is_some_and(|n| n != 1) {
            return Err(OpError::input(1, "is not one truth value"));
        }
    }
    Ok(())
}

/// The fact of a value that changes from iteration to iteration: its content is not known.
pub(super) fn without_content(fact: &Fact) -> Fact {
    match fact {
        Fact::Tensor(t) => TensorFact { content: Content::default(), ..t.clone() }.into(),
        other => other.clone(),
    }
}

/// What is known of a carried value that begins as `held` and comes out of the body as `made`.
fn carried_fact(held: &Fact, made: &Fact) -> Option<Fact> {
    match (held, made) {
        (Fact::Optional(kind), Fact::Tensor(_) | Fact::Sequence(_)) => {
            Some(Fact::Optional(Box::new(merge(kind, made)?)))
        }
        _ => merge(held, made),
    }
}

/// Facts of values carried around `step` so that they hold in every iteration: extents that change are given
/// up one after the other, then ranks. Returns them with all that the last step gave.
pub(super) fn steady_state(
    initial: Vec<Fact>,
    mut step: impl FnMut(&[Fact]) -> Result<Vec<Fact>, OpError>,
) -> Result<(Vec<Fact>, Vec<Fact>), OpError> {
    let mut held = initial;
    // Each round gives up an extent or a rank of at least one value, or ends.
    for _ in 0..=64 {
        let made = step(&held)?;
        let next: Vec<Fact> = held
            .iter()
            .zip(&made)
            .map(|(h, m)| {
                carried_fact(h, m)
                    .ok_or_else(|| OpError::shape("a carried value changes its type between iterations"))
            })
            .collect::<Result<_, _>>()?;
        if next == held {
            return Ok((held, made));
        }
        held = next;
    }
    let weakest: Vec<Fact> = held
        .iter()
        .map(|f| f.tensor().map_or_else(|| f.clone(), |t| TensorFact::unranked(t.dtype).into()))
        .collect();
    let made = step(&weakest)?;
    Ok((weakest, made))
}

/// The fact of `count` slices along a new axis at `axis`.
pub(super) fn stacked_fact(slice: &Fact, count: Dim, axis: usize) -> Result<Fact, OpError> {
    let t = slice.tensor().ok_or_else(|| OpError::shape("a collected output is no tensor"))?;
    let shape = match &t.shape {
        Some(s) if axis <= s.len() => {
            let mut s = s.clone();
            s.insert(axis, count);
            Some(s)
        }
        Some(s) => {
            return Err(OpError::value(format!("axis {axis} is outside an output of rank {}", s.len() + 1)));
        }
        None => None,
    };
    Ok(TensorFact { shape, ..TensorFact::unranked(t.dtype) }.into())
}

impl Op for Loop {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        check_control(inputs)?;
        let carried = self.carried();
        let initial: Vec<Fact> =
            (2..2 + carried).map(|i| inputs.value(i).map(without_content)).collect::<Result<_, _>>()?;
        let trips = self.known_trips(inputs)?;
        let (held, made) = self.infer_steady(inputs, initial)?;
        let carried_out = |(held, made): (&Fact, &Fact)| match (held, made) {
            (Fact::Optional(kind), Fact::Tensor(_) | Fact::Sequence(_)) => without_content(kind),
            _ => without_content(held),
        };
        let mut out: Vec<Fact> = held.iter().zip(&made).map(carried_out).collect();
        for slice in &made[carried..] {
            out.push(stacked_fact(slice, trips.map_or(Dim::Unknown, Dim::Known), 0)?);
        }
        Ok(out)
    }

    fn body_inputs(&self, inputs: Facts<'_>) -> Option<Vec<Vec<Fact>>> {
        let carried = (2..2 + self.carried()).map(|i| inputs.value(i).map(without_content).ok());
        let held = self.infer_steady(inputs, carried.collect::<Option<_>>()?).ok()?.0;
        Some(vec![self.body_facts(inputs, &held).ok()?])
    }

    fn body_cost(&self, inputs: Facts<'_>) -> Option<Cost> {
        let trips = self.known_trips(inputs).ok()??;
        let given = self.body_inputs(inputs)?;
        Some(self.body.graph.cost(&given[0])?.times(trips))
    }

    fn pack(&self, site: &PackSite<'_>) -> Result<Option<Packed>, OpError> {
        pack_bodies(&self.bodies(), site)
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let programs =
            site.packed_as::<BodyPrograms>().ok_or_else(|| OpError::internal("bodies not packed"))?;
        let (carried, scans, first_capture) = (self.carried(), self.scans(), self.first_capture());
        let optional = |fact: Option<&Fact>| matches!(fact, Some(Fact::Optional(_)));
        // Carried values that the body gets as optional ones and gives as what they hold.
        let opened: Vec<bool> = (0..carried)
            .map(|i| optional(site.inputs.value(2 + i).ok()) && !optional(site.outputs.get(i)))
            .collect();
        // What a scan output is when no iteration runs.
        let empty: Vec<(DType, Vec<usize>)> = site.outputs[carried..]
            .iter()
            .map(|f| {
                let t = f.tensor();
                let shape = t.and_then(|t| {
                    Some(t.shape.as_ref()?.iter().skip(1).map(|d| d.known().unwrap_or(0)).collect())
                });
                (t.map_or(DType::F32, |t| t.dtype), shape.unwrap_or_default())
            })
            .collect();
        let steps = self.steps(site);
        let scratch = steps.as_ref().map_or(0, Steps::scratch);
        let kernel = Kernel::new(move |io| {
            let limit = match io.optional(0) {
                // The usual case without allocating.
                Some(m) => match m.as_slice::<i64>() {
                    Some(limit) => limit.first().copied().unwrap_or(0),
                    None => m.to_i64s()?.first().copied().unwrap_or(0),
                },
                None => i64::MAX,
            };
            let mut go =
                if io.values().get(1).is_some_and(Option::is_some) { truth_of(io.value(1)?)? } else { true };
            if let Some(steps) = &steps
                && steps.run(&programs, io, Turns::While { limit, go })?
            {
                return Ok(());
            }
            let mut state: Vec<Option<Value>> = vec![None; carried];
            let mut slices: Vec<Vec<Tensor>> = vec![Vec::new(); scans];
            let mut trip = 0i64;
            while go && trip < limit {
                io.check_interrupt()?;
                let count = [trip];
                let cond = [Bool::new(true)];
                let mut given: SmallVec<[ValueRef<'_>; 8]> = SmallVec::new();
                given.push(scalar(&count)?);
                given.push(scalar(&cond)?);
                for (i, value) in state.iter().enumerate() {
                    given.push(match value {
                        Some(v) if opened[i] => ValueRef::Optional(Some(v)),
                        Some(v) => v.as_ref(),
                        None => io.value(2 + i)?,
                    });
                }
                for i in first_capture..io.input_count() {
                    given.push(io.value(i)?);
                }
                let mut made = run_body(&programs.0[0], &given, io.context)?.into_iter();
                drop(given);
                go = truth_of(made.next().ok_or_else(|| OpError::internal("no condition"))?.as_ref())?;
                for (to, value) in state.iter_mut().zip(made.by_ref().take(carried)) {
                    *to = Some(value);
                }
                for (to, value) in slices.iter_mut().zip(made) {
                    to.push(collected(value)?);
                }
                trip += 1;
            }
            for (i, value) in state.into_iter().enumerate() {
                match (value, io.value(2 + i)?) {
                    (Some(value), _) => io.make(i, value)?,
                    (None, ValueRef::Optional(held)) if opened[i] => {
                        let held = held.ok_or_else(|| OpError::value(EMPTY))?.aligned(io.context.budget)?;
                        io.make(i, held)?;
                    }
                    (None, _) => io.hand_on(i, 2 + i)?,
                }
            }
            for (i, (parts, (dtype, shape))) in slices.iter().zip(&empty).enumerate() {
                if io.wants(carried + i) {
                    stack(io, carried + i, parts, 0, false, (*dtype, shape))?;
                }
            }
            Ok(())
        });
        Ok(kernel.with_scratch(scratch))
    }

    /// As many steps as are known beforehand, or as data on the device decides, of values that keep their forms.
    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let trips = self.known_trips(site.inputs).map_err(|_| GpuReject::ControlFlow)?;
        if trips.is_none() && site.within == Within::Plan {
            return Err(GpuReject::ControlFlow);
        }
        let carried = self.carried();
        let states: Vec<Fact> = (2..2 + carried)
            .map(|i| site.inputs.value(i).map(without_content))
            .collect::<Result<_, _>>()
            .map_err(|_| GpuReject::ControlFlow)?;
        let steady = self.infer_steady(site.inputs, states.clone());
        let (held, made) = steady.map_err(|_| GpuReject::ControlFlow)?;
        if !keeps_forms(&states, &held, &made) {
            return Err(GpuReject::ControlFlow);
        }
        let mut facts = self.body_facts(site.inputs, &held).map_err(|_| GpuReject::ControlFlow)?;
        facts[1] = TensorFact::constant(Tensor::scalar(Bool::new(true))).into();
        let body = &self.body.graph;
        let Some(count) = trips else {
            let decides = !self.condition_never_ends();
            return rounds::Repeated { body, facts, carried, decides }.kernel(site);
        };
        let captures = (self.first_capture()..site.inputs.len()).map(Taken::Whole);
        let carry = (0..carried).map(|i| Taken::State(i, 2 + i));
        let taken = [Taken::Step, Taken::Truth].into_iter().chain(carry).chain(captures).collect();
        let scans = (0..self.scans()).map(|i| Given::Slice { output: carried + i, axis: 0, reversed: false });
        let given = [Given::Nothing].into_iter().chain((0..carried).map(Given::State)).chain(scans).collect();
        steps::Steps { body, facts, taken, given, count }.kernel(site)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let limit = match inputs.optional(0)? {
            Some(m) => m.as_ints()?.first().copied().unwrap_or(0),
            None => i128::MAX,
        };
        let mut go = match inputs.optional(1)? {
            Some(c) => c.as_bools()?.first().copied().unwrap_or(false),
            None => true,
        };
        let carried = self.carried();
        let mut state: Vec<RefValue> =
            (2..2 + carried).map(|i| inputs.value(i).cloned()).collect::<Result<_, _>>()?;
        let opened: Vec<bool> = state.iter().map(|v| matches!(v, RefValue::Optional(_))).collect();
        let captures: Vec<RefValue> = (self.first_capture()..inputs.len())
            .map(|i| inputs.value(i).cloned())
            .collect::<Result<_, _>>()?;
        let mut slices: Vec<Vec<RefTensor>> = vec![Vec::new(); self.scans()];
        let mut trip = 0i128;
        while go && trip < limit {
            let mut given: Vec<RefValue> = vec![
                RefTensor::ints(DType::I64, &[], vec![trip]).into(),
                RefTensor::bools(&[], vec![true]).into(),
            ];
            given.extend(state.into_iter().zip(&opened).map(|(value, &opened)| match value {
                RefValue::Tensor(_) | RefValue::Sequence(_) if opened => {
                    RefValue::Optional(Some(Box::new(value)))
                }
                value => value,
            }));
            given.extend(captures.iter().cloned());
            let mut made = run_graph(&self.body.graph, &given).map_err(NodeError::in_body)?;
            go = made[0].tensor()?.as_bools()?.first().copied().unwrap_or(false);
            for (list, value) in slices.iter_mut().zip(made.drain(1 + carried..)) {
                list.push(value.tensor()?.clone());
            }
            state = made.split_off(1);
            trip += 1;
        }
        // What begins as an optional value and stays without an iteration still is of the kind that the body gives.
        let declared = |i: usize| self.body.graph.value(self.body.graph.outputs[1 + i]).declared.as_ref();
        let mut out = Vec::with_capacity(carried + slices.len());
        for (i, value) in state.into_iter().enumerate() {
            out.push(match (value, declared(i)) {
                (RefValue::Optional(held), Some(Fact::Tensor(_) | Fact::Sequence(_))) => {
                    *held.ok_or_else(|| OpError::value(EMPTY))?
                }
                (value, _) => value,
            });
        }
        let slice_dtypes = self.body.graph.outputs[1 + carried..].iter();
        for (parts, id) in slices.iter().zip(slice_dtypes) {
            let dtype = self.body.graph.value(*id).declared.as_ref().and_then(|f| Some(f.tensor()?.dtype));
            out.push(stack_slices(parts, 0, dtype.unwrap_or(DType::F32))?.into());
        }
        Ok(out)
    }

    fn bodies(&self) -> Vec<&Body> {
        vec![&self.body]
    }

    fn with_bodies(&self, bodies: Vec<Body>) -> Option<Arc<dyn Op>> {
        let [body] = bodies.try_into().ok()?;
        Some(Arc::new(Loop { body }))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A value begins as an empty optional one, and no iteration gives it another.
const EMPTY: &str = "without an iteration, an empty optional value is all that there is to give";

fn scalar<T: crate::dtype::Element>(value: &[T; 1]) -> Result<ValueRef<'_>, OpError> {
    crate::tensor::TensorView::new(&[], value)
        .map(ValueRef::Tensor)
        .map_err(|_| OpError::internal("a scalar of one element"))
}

/// A body `cond, h → cond, h + x, relu(h)` or one that stops on its own condition.
fn case(g: &mut Gen) -> Case {
    let shape = g.shape(2);
    let trips = Tensor::scalar(g.int(1, 5));
    let cond = Tensor::scalar(Bool::new(true));
    let mut b = BodyBuilder::new();
    b.input("i");
    let condition = b.input("condition");
    let h = b.input("h");
    let x = b.capture("x");
    let next = b.node("Add", &[h, x]);
    let slice = b.node("Relu", &[h]);
    let stop = g.chance(0.3);
    let ends = if stop { b.constant(Tensor::scalar(Bool::new(false))) } else { condition };
    let body = b.finish(&[ends, next, slice]);
    let case = Case::new([trips, cond, g.tensor(DType::F32, &shape), g.tensor(DType::F32, &shape)])
        .with("body", body)
        .outputs(2);
    if g.chance(0.5) { case.constant(0).constant(1) } else { case }
}
