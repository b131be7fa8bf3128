//! # If
//! Runs `then_branch` when `cond` holds, else `else_branch`. Opsets 7 (as 1), 11, 13, 16, 19, 21, 23, 24, 25.
//!
//! A condition that is known when shapes are bound leaves one branch; otherwise extents on which the branches
//! agree are known and the others depend on data.

use super::attributes::{Body, NodeSpec};
use super::{Accuracy, Cost, Op, OpDef, PackSite, Packed};
use crate::cpu::body::{BodyPrograms, pack_bodies, truth_of};
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::{DType, NUMBERS_AND_BOOL};
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::graph::{NodeError, merge};
use crate::reference::{RefInputs, RefValue, run_graph};
use crate::tensor::ValueRef;
use crate::testing::{Case, Gen, bodies};
use smallvec::SmallVec;
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "If",
    domain: "",
    since: &[7, 11, 13, 16, 19, 21, 23, 24, 25],
    until: None,
    dtypes: NUMBERS_AND_BOOL,
    accuracy: Accuracy::Elementwise,
    parse,
    case,
};

#[derive(Debug)]
struct If {
    then_branch: Body,
    else_branch: Body,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let branch = |name| spec.body(name)?.ok_or_else(|| OpError::attribute(name, "is missing"));
    let op = If { then_branch: branch("then_branch")?, else_branch: branch("else_branch")? };
    for (name, body) in [("then_branch", &op.then_branch), ("else_branch", &op.else_branch)] {
        if body.formal_inputs != 0 {
            return Err(OpError::attribute(name, "has inputs; a branch takes none"));
        }
        if body.graph.outputs.len() < spec.outputs.len() {
            return Err(OpError::attribute(name, "has fewer outputs than the node"));
        }
    }
    Ok(Arc::new(op))
}

impl If {
    /// The captures of one branch among the node's inputs.
    fn captures(&self, then: bool) -> std::ops::Range<usize> {
        let middle = 1 + self.then_branch.graph.inputs.len();
        if then { 1..middle } else { middle..middle + self.else_branch.graph.inputs.len() }
    }

    fn branch(&self, then: bool) -> &Body {
        if then { &self.then_branch } else { &self.else_branch }
    }

    fn infer_branch(&self, inputs: Facts<'_>, then: bool) -> Result<Vec<Fact>, OpError> {
        let facts: Vec<Fact> =
            self.captures(then).map(|i| inputs.value(i).cloned()).collect::<Result<_, _>>()?;
        self.branch(then).graph.infer_outputs(&facts)
    }
}

fn known_condition(inputs: Facts<'_>) -> Result<Option<bool>, OpError> {
    let cond = inputs.typed(0, &[DType::Bool])?;
    if cond.element_count().is_some_and(|n| n != 1) {
        return Err(OpError::input(0, "is not one truth value"));
    }
    cond.as_constant().map(|t| truth_of(t.view().into())).transpose()
}

/// A contradiction inside a branch matters only when that branch runs.
fn is_of_shapes(error: &OpError) -> bool {
    match error {
        OpError::Shape(_) | OpError::Value(_) => true,
        OpError::Body { source, .. } => is_of_shapes(source),
        _ => false,
    }
}

impl Op for If {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        if let Some(then) = known_condition(inputs)? {
            return self.infer_branch(inputs, then);
        }
        match (self.infer_branch(inputs, true), self.infer_branch(inputs, false)) {
            (Ok(a), Ok(b)) => a
                .iter()
                .zip(&b)
                .map(|(a, b)| merge(a, b).ok_or_else(|| OpError::shape("the branches give different types")))
                .collect(),
            (Ok(known), Err(e)) | (Err(e), Ok(known)) if is_of_shapes(&e) => Ok(known
                .into_iter()
                .map(|f| match f {
                    Fact::Tensor(t) => TensorFact::unranked(t.dtype).into(),
                    other => other,
                })
                .collect()),
            (Err(e), _) | (_, Err(e)) => Err(e),
        }
    }

    fn body_inputs(&self, inputs: Facts<'_>) -> Option<Vec<Vec<Fact>>> {
        [true, false]
            .into_iter()
            .map(|then| self.captures(then).map(|i| inputs.value(i).cloned().ok()).collect())
            .collect()
    }

    fn body_cost(&self, inputs: Facts<'_>) -> Option<Cost> {
        let given = self.body_inputs(inputs)?;
        let branch = |then: bool| self.branch(then).graph.cost(&given[usize::from(!then)]);
        match known_condition(inputs).ok()? {
            Some(then) => branch(then),
            None => {
                let (a, b) = (branch(true)?, branch(false)?);
                Some(if a.flops + a.bytes >= b.flops + b.bytes { a } else { b })
            }
        }
    }

    fn pack(&self, site: &PackSite<'_>) -> Result<Option<Packed>, OpError> {
        pack_bodies(&self.bodies(), site)
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let programs =
            site.packed_as::<BodyPrograms>().ok_or_else(|| OpError::internal("bodies not packed"))?;
        let captures = [self.captures(false), self.captures(true)];
        Ok(Kernel::new(move |io| {
            let then = truth_of(io.value(0)?)?;
            let range = captures[usize::from(then)].clone();
            let inputs: SmallVec<[ValueRef<'_>; 8]> = range.map(|i| io.value(i)).collect::<Result<_, _>>()?;
            io.delegate(&programs.0[usize::from(!then)], &inputs, 0)
        }))
    }

    /// A branch that is known to be taken, or both of one form.
    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let known = known_condition(site.inputs).map_err(|_| GpuReject::ControlFlow)?;
        let Some(then) = known else {
            let branches = [false, true].map(|then| (&self.branch(then).graph, self.captures(then)));
            return families::branches::kernel(site, &branches);
        };
        let name = if then { "then" } else { "else" };
        families::members::part(site, &self.branch(then).graph, self.captures(then), name)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let then = inputs.tensor(0)?.as_bools()?.first().copied().unwrap_or(false);
        let given: Vec<RefValue> =
            self.captures(then).map(|i| inputs.value(i).cloned()).collect::<Result<_, _>>()?;
        run_graph(&self.branch(then).graph, &given).map_err(NodeError::in_body)
    }

    fn bodies(&self) -> Vec<&Body> {
        vec![&self.then_branch, &self.else_branch]
    }

    fn with_bodies(&self, bodies: Vec<Body>) -> Option<Arc<dyn Op>> {
        let [then_branch, else_branch] = bodies.try_into().ok()?;
        Some(Arc::new(If { then_branch, else_branch }))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let shape = g.shape(2);
    let cond = g.tensor(DType::Bool, &[]);
    let x = g.tensor(DType::F32, &shape);
    let case = Case::new([cond])
        .with("then_branch", bodies::relu_of_capture())
        .with(
            "else_branch",
            if g.chance(0.5) { bodies::capture_itself() } else { bodies::constant(g, &[2, 3]) },
        )
        .input(x.clone());
    // The second branch captures a value of its own, unless it is a constant.
    let captures_twice = case.captures_of("else_branch") == 1;
    let case = if captures_twice { case.input(x) } else { case };
    if g.chance(0.5) { case.constant(0) } else { case }
}
