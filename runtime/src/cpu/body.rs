//! Bodies of control flow on the CPU: compiled once at load, run with fresh values per iteration.

use super::io::{RunContext, Slot};
use crate::error::OpError;
use crate::exec::{BuildContext, Program};
use crate::graph::NodeError;
use crate::ops::attributes::Body;
use crate::ops::{PackSite, Packed};
use crate::tensor::{Tensor, Value, ValueRef};
use std::sync::Arc;

/// The programs of an operator's bodies, as its [`Packed`] data.
#[derive(Debug)]
pub(crate) struct BodyPrograms(pub(crate) Vec<Program>);

/// Builds the programs of `bodies`.
pub(crate) fn pack_bodies(bodies: &[&Body], site: &PackSite<'_>) -> Result<Option<Packed>, OpError> {
    let PackSite { budget, threads, release, storing, .. } = *site;
    let context = BuildContext { budget, threads, release, storing };
    let programs = bodies
        .iter()
        .map(|b| Program::build(b.graph.clone(), context).map_err(NodeError::in_body))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Some(Packed { data: Arc::new(BodyPrograms(programs)), consumed: Vec::new() }))
}

/// Runs a body once and returns its outputs.
pub(crate) fn run_body(
    program: &Program,
    inputs: &[ValueRef<'_>],
    context: RunContext<'_>,
) -> Result<Vec<Value>, OpError> {
    let mut made: Vec<Option<Value>> = vec![None; program.graph().outputs.len()];
    {
        let mut slots: Vec<Slot<'_>> = made.iter_mut().map(Slot::Made).collect();
        program.run(inputs, &mut slots, context).map_err(NodeError::in_body)?;
    }
    made.into_iter().map(|v| v.ok_or_else(|| OpError::internal("a body output was not made"))).collect()
}

/// The single truth value of a condition.
pub(crate) fn truth_of(value: ValueRef<'_>) -> Result<bool, OpError> {
    let tensor = value.tensor().filter(|t| t.len() == 1);
    match tensor.and_then(|t| t.as_slice::<crate::dtype::Bool>()) {
        Some([b]) => Ok(b.get()),
        _ => Err(OpError::value("a condition is not one truth value")),
    }
}

/// A tensor of a body output that is collected over iterations.
pub(crate) fn collected(value: Value) -> Result<Tensor, OpError> {
    value
        .into_tensor()
        .ok_or_else(|| OpError::value("an output that is collected over iterations is no tensor"))
}
