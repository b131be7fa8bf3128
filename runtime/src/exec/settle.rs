//! Graphs whose branches are decided by the shapes of their inputs: exporters write `If` nodes on ranks and extents, and
//! behind one whose branches differ in rank nothing is known before shapes are.
//!
//! Such a graph ([`Graph::waits_for_shapes`]) becomes a program when it is bound: the branches that are taken stand in the
//! place of the `If` nodes, and the whole is simplified, fused and packed. One program serves all shapes that take the
//! same branches.

use super::bind::known_outputs;
use super::program::{BuildContext, Program};
use crate::cpu::RunContext;
use crate::dtype::Bool;
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::graph::{Graph, NodeError, Rewrites, infer, infer_node, is_branching, take_branches};
use crate::loops::BranchesOfShapes;
use crate::memory::Budget;
use crate::precision::{Precision, Storing};
use std::sync::{Arc, Mutex, PoisonError};

/// Programs kept per graph.
const KEPT: usize = 4;

/// The branches taken in one pass over a graph: for every node that is decided its position, and whether
/// `then_branch` is taken. Those nested in them are decided by the next pass.
type Decisions = Vec<Vec<(usize, bool)>>;

/// The programs that a graph became, the latest used first.
#[derive(Debug, Default)]
pub(super) struct Settled(Mutex<Vec<(Decisions, Arc<Program>)>>);

/// What a program is built with, whatever is decided.
#[derive(Clone, Copy)]
pub(super) struct Settling<'a> {
    pub(super) budget: &'a Budget,
    pub(super) threads: usize,
}

impl Settled {
    /// The program of `graph` for inputs of these facts.
    pub(super) fn program(
        &self,
        graph: &Graph,
        inputs: &[Fact],
        settling: Settling<'_>,
        context: RunContext<'_>,
    ) -> Result<Arc<Program>, NodeError> {
        let mut decided = graph.clone();
        let decisions = decide(&mut decided, inputs, context)?;
        let mut programs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = programs.iter().position(|(of, _)| *of == decisions) {
            programs[..=at].rotate_right(1);
            return Ok(programs[0].1.clone());
        }
        let donors: Vec<Arc<Program>> = programs.iter().map(|(_, program)| program.clone()).collect();
        let Settling { budget, threads } = settling;
        let storing = Storing::default();
        let building = BuildContext { budget, threads, release: &|_| (), storing: &storing };
        let decided = finished(decided, budget)?;
        let program = Arc::new(Program::build_like(decided, &donors, building)?);
        programs.insert(0, (decisions, program.clone()));
        programs.truncate(KEPT);
        Ok(program)
    }
}

/// Takes every branch of `graph` that inputs of these facts decide.
fn decide(graph: &mut Graph, inputs: &[Fact], context: RunContext<'_>) -> Result<Decisions, NodeError> {
    let mut decisions = Decisions::new();
    loop {
        let taken = known_branches(graph, inputs, context)?;
        if taken.iter().all(Option::is_none) {
            return Ok(decisions);
        }
        take_branches(graph, &taken);
        let made = taken.iter().enumerate().filter_map(|(at, then)| then.map(|then| (at, then)));
        decisions.push(made.collect());
    }
}

/// For each node of `graph` the branch that it takes, where inputs of these facts tell. Behind a contradiction nothing is
/// told: who binds the program reports it.
fn known_branches(
    graph: &Graph,
    inputs: &[Fact],
    context: RunContext<'_>,
) -> Result<Vec<Option<bool>>, NodeError> {
    let constant = |tensor| Fact::from(TensorFact::constant(tensor));
    let mut facts: Vec<Option<Fact>> =
        graph.values.iter().map(|value| value.constant.clone().map(constant)).collect();
    for (id, fact) in graph.inputs.iter().zip(inputs) {
        facts[id.index()] = Some(fact.clone());
    }
    let mut taken = vec![None; graph.nodes.len()];
    for (node, taken) in graph.nodes.iter().zip(&mut taken) {
        let fail = |source: OpError| NodeError::new(node, source);
        context.interrupt.check().map_err(fail)?;
        let held: Vec<Option<Fact>> =
            node.inputs.iter().map(|id| id.and_then(|id| facts[id.index()].clone())).collect();
        let given: Vec<Option<&Fact>> = held.iter().map(Option::as_ref).collect();
        if node.inputs.iter().zip(&given).any(|(id, fact)| id.is_some() && fact.is_none()) {
            continue;
        }
        if is_branching(node) {
            let condition = given.first().copied().flatten().and_then(|f| f.tensor()?.as_constant());
            *taken = condition.and_then(|c| Some(c.to_vec::<Bool>()?.first()?.get()));
        }
        let Ok(outputs) = infer_node(&*node.op, Facts(&given)) else { continue };
        let wanted: Vec<bool> = node.outputs.iter().map(Option::is_some).collect();
        let known = known_outputs(node, None, &given, &outputs, &wanted, context).map_err(fail)?;
        let mut known = known.unwrap_or_default().into_iter();
        for (id, fact) in node.outputs.iter().zip(outputs) {
            let known = known.next().flatten();
            if let Some(id) = id {
                facts[id.index()] = Some(known.map_or(fact, constant));
            }
        }
    }
    Ok(taken)
}

/// What `graph`, which waits for shapes, is for inputs of these facts; nothing is packed.
pub(crate) fn settled_graph(
    graph: &Graph,
    inputs: &[Fact],
    context: RunContext<'_>,
) -> Result<Graph, NodeError> {
    let mut decided = graph.clone();
    decide(&mut decided, inputs, context)?;
    finished(decided, context.budget)
}

/// A graph with no branch left that shapes decide, simplified and fused.
fn finished(graph: Graph, budget: &Budget) -> Result<Graph, NodeError> {
    let mut graph = crate::graph::simplify(graph, Rewrites { recurrences: true }, budget)?;
    crate::graph::exchange_weights(&mut graph, Precision::F32, budget, &|_| ());
    let declared: Vec<Fact> =
        graph.inputs.iter().filter_map(|&id| graph.value(id).declared.clone()).collect();
    let facts = infer(&graph, &declared)?;
    crate::loops::block_channels(&mut graph, &facts);
    let (graph, _) = crate::loops::fuse(graph, &declared, budget, BranchesOfShapes::WhenBound);
    Ok(Graph { waits_for_shapes: false, ..graph })
}
