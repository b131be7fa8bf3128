//! Constant matrices that a product reads with rows and columns exchanged, exchanged once and for all.
//!
//! `x · Wᵀ` reads a row of `W` for each column of the result; products of more than a few rows read `Wᵀ` row by row
//! several times as fast while it stays in the caches. It holds for constants that nothing else reads. Where the rows of
//! `x` are known to be few, or the matrix is larger than [`CACHED`], both forms take as long, and weights are left in the
//! mapped file; the pages of those that are exchanged are let go of. Weights that are stored in another format are read
//! once in either form, too.

use super::{fold, known_facts};
use crate::cpu::RunContext;
use crate::cpu::contraction::{SHARED, SKINNY};
use crate::dtype::DType;
use crate::exec::{Interrupt, Team};
use crate::graph::model::Graph;
use crate::memory::Budget;
use crate::ops::transpose::Transpose;
use crate::precision::Precision;

/// Bytes of a matrix that stays in the caches: more come from memory in either form.
const CACHED: usize = 4 << 20;

/// Exchanges every matrix that can be, and tells `release` of the bytes that it lay in. One that does not fit the budget
/// stays as it is.
pub(crate) fn exchange_weights(
    graph: &mut Graph,
    precision: Precision,
    budget: &Budget,
    release: &dyn Fn(&[u8]),
) {
    let facts = known_facts(graph);
    let mut readers = vec![0usize; graph.values.len()];
    let read = graph.nodes.iter().flat_map(|node| node.inputs.iter().flatten()).chain(&graph.outputs);
    for id in read {
        readers[id.index()] += 1;
    }
    let (team, interrupt) = (Team::serial(), Interrupt::default());
    let context = RunContext { team: &team, interrupt: &interrupt, budget, times: None };
    let exchange = Transpose { perm: None };
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let Some(op) = node.op.untransposed() else { continue };
        let Some(id) = node.inputs.get(1).copied().flatten().filter(|id| readers[id.index()] == 1) else {
            continue;
        };
        let made = node.outputs.first().copied().flatten();
        let rows = made.and_then(|id| facts[id.index()].as_ref()?.tensor()?.shape.as_ref()?.first()?.known());
        let Some(matrix) = graph.constant(id) else { continue };
        let fits = matrix.shape().len() == 2 && matches!(matrix.dtype(), DType::F32 | DType::F64);
        let stored = precision != Precision::F32 && rows.is_none_or(|rows| rows <= SHARED);
        let few = stored || rows.is_some_and(|rows| rows <= SKINNY);
        if !fits || few || matrix.bytes().len() > CACHED {
            continue;
        }
        let Ok(Some(exchanged)) = fold::run(&exchange, &[Some(matrix)], &[true], context) else { continue };
        let Some(exchanged) = exchanged.into_iter().next().flatten() else { continue };
        release(matrix.bytes());
        let name = format!("{}/weights", node.name);
        let weights = graph.add_constant(name, exchanged);
        let node = &mut graph.nodes[index];
        node.op = op;
        node.inputs[1] = Some(weights);
    }
}
