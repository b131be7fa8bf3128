//! Constant folding: outputs that inference knows in full, and nodes whose inputs are all constant.
//!
//! A node is run once, by its kernel, when it is deterministic and its outputs are not much larger than its
//! inputs: folding must not turn a small file into a large resident constant.

use crate::cpu::RunContext;
use crate::dtype::DType;
use crate::error::OpError;
use crate::exec::{Interrupt, Team, evaluate};
use crate::graph::fact::{Content, Fact, Facts, TensorFact};
use crate::graph::infer_node;
use crate::graph::model::{Graph, NodeError};
use crate::memory::Budget;
use crate::tensor::{Tensor, ValueRef};

/// Outputs of at most this many bytes are always folded.
const ALWAYS: usize = 1 << 16;
/// Larger ones when they have at most this many times the inputs' bytes: a cast to a wider type.
const GROWTH: usize = 8;

/// Replaces what is constant by constants; arithmetic on floats only with `arithmetic`.
pub(super) fn fold_constants(
    graph: &mut Graph,
    facts: &[Option<Fact>],
    arithmetic: bool,
    budget: &Budget,
) -> Result<bool, NodeError> {
    let (team, interrupt) = (Team::serial(), Interrupt::default());
    let context = RunContext { team: &team, interrupt: &interrupt, budget, times: None };
    let mut changed = false;
    let mut keep = Vec::with_capacity(graph.nodes.len());
    let nodes = std::mem::take(&mut graph.nodes);
    for node in nodes {
        let wanted: Vec<bool> = node.outputs.iter().map(Option::is_some).collect();
        let inferred: Vec<Option<Tensor>> = node
            .outputs
            .iter()
            .map(|id| id.and_then(|id| facts[id.index()].as_ref()?.tensor().and_then(known_content)))
            .collect();
        let known = inferred.iter().zip(&wanted).all(|(t, &w)| !w || t.is_some());
        let constants: Option<Vec<Option<Tensor>>> = if known {
            Some(inferred)
        } else {
            let inputs: Option<Vec<Option<&Tensor>>> = node
                .inputs
                .iter()
                .map(|id| match id {
                    None => Some(None),
                    Some(id) => graph.constant(*id).map(Some),
                })
                .collect();
            match inputs {
                Some(inputs)
                    if node.op.is_deterministic()
                        && node.op.bodies().is_empty()
                        && (arithmetic || !computes_floats(graph, &node)) =>
                {
                    match run(&*node.op, &inputs, &wanted, context) {
                        Ok(made) => made,
                        Err(e @ OpError::Memory { .. }) => return Err(NodeError::new(&node, e)),
                        // What fails here fails when it runs, if it ever does: it may stand in a branch that
                        // is not taken.
                        Err(_) => None,
                    }
                }
                _ => None,
            }
        };
        match constants {
            Some(constants) => {
                changed = true;
                for (id, constant) in node.outputs.iter().zip(constants) {
                    if let Some(id) = id {
                        graph.values[id.index()].constant = constant;
                    }
                }
            }
            None => keep.push(node),
        }
    }
    graph.nodes = keep;
    Ok(changed)
}

/// Whether the node is one of those that cells are spelled with, on a float.
fn computes_floats(graph: &Graph, node: &crate::graph::Node) -> bool {
    let of_cells = node.op.product().is_some()
        || node.op.activation().is_some()
        || matches!(node.def.name, "Add" | "Sub" | "Mul" | "Div" | "Sum" | "Neg");
    let first = node.inputs.first().copied().flatten().and_then(|id| graph.constant(id));
    of_cells && first.is_some_and(|t| t.dtype().is_float())
}

/// The content that inference found, as a tensor.
fn known_content(fact: &TensorFact) -> Option<Tensor> {
    match &fact.content {
        Content::Constant(t) => Some(t.clone()),
        Content::Unknown => None,
        _ => {
            let (values, shape) = (fact.as_i64s()?, fact.known_shape()?);
            match fact.dtype {
                DType::I64 => Tensor::new(&shape, values).ok(),
                DType::I32 => {
                    let narrow: Option<Vec<i32>> = values.iter().map(|&v| i32::try_from(v).ok()).collect();
                    Tensor::new(&shape, narrow?).ok()
                }
                _ => None,
            }
        }
    }
}

/// The outputs of `op` on constants, if they are not much larger than those.
pub(super) fn run(
    op: &dyn crate::ops::Op,
    inputs: &[Option<&Tensor>],
    wanted: &[bool],
    context: RunContext<'_>,
) -> Result<Option<Vec<Option<Tensor>>>, OpError> {
    let aligned: Vec<Option<Tensor>> = inputs
        .iter()
        .map(|t| {
            t.map(|t| if t.is_aligned() { Ok(t.clone()) } else { Tensor::copy_of(t.view(), context.budget) })
                .transpose()
        })
        .collect::<Result<_, _>>()?;
    let facts: Vec<Option<Fact>> =
        aligned.iter().map(|t| t.clone().map(|t| TensorFact::constant(t).into())).collect();
    let given: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
    let outputs = infer_node(op, Facts(&given))?;
    let read: usize = inputs.iter().flatten().map(|t| t.bytes().len()).sum();
    let limit = ALWAYS.max(read.saturating_mul(GROWTH));
    let small = outputs.iter().all(|f| f.tensor().and_then(TensorFact::bytes).is_some_and(|b| b <= limit));
    if !small {
        return Ok(None);
    }
    let refs: Vec<Option<ValueRef<'_>>> = aligned.iter().map(|t| t.as_ref().map(ValueRef::from)).collect();
    let made = evaluate(op, None, &refs, wanted, context)?;
    let tensors: Vec<Option<Tensor>> =
        made.into_iter().map(|v| v.and_then(crate::Value::into_tensor)).collect();
    let complete = tensors.iter().zip(wanted).all(|(t, &w)| !w || t.is_some());
    Ok(complete.then_some(tensors))
}
