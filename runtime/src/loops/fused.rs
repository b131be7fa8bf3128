//! The operators that groups become. Both keep the members as a graph: facts are inferred and the reference is
//! executed member by member, so that what the fused kernel computes is judged by the operators it replaces. When
//! shapes are bound the members are lowered once more, every extent known, and composed to the program that runs.

use super::affine::Affine;
use super::fuse::candidates;
use super::group::{Candidate, Group, composed};
use super::nest::Nest;
use crate::cpu::program::{Layout, MapKernel};
use crate::cpu::row_epilogue::{EpilogueInput, RowEpilogue};
use crate::cpu::{CpuSite, Kernel};
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::graph::{Graph, NodeError, infer};
use crate::ops::{Cost, Op, PackSite, Packed};
use crate::reference::{RefInputs, RefValue, run_graph};
use std::any::Any;
use std::sync::Arc;

/// Maps in one pass, after a contraction or by themselves.
#[derive(Debug)]
pub(crate) struct Fused {
    /// The members; its inputs are the node's: those of the contraction first, in its own order.
    pub(super) graph: Graph,
    /// The contraction among the members.
    pub(super) anchor: Option<usize>,
}

/// The members bound to facts.
struct Bound {
    facts: Vec<Option<Fact>>,
    nest: Nest,
    /// The value that each operand of the nest is.
    operands: Vec<usize>,
}

impl Fused {
    /// The members, over the node's inputs.
    pub(crate) fn members(&self) -> &Graph {
        &self.graph
    }

    /// Work of the members one by one.
    pub(crate) fn unfused_cost(&self, inputs: Facts<'_>) -> Option<Cost> {
        let given: Vec<Fact> =
            (0..inputs.len()).map(|i| inputs.value(i).cloned().ok()).collect::<Option<_>>()?;
        self.graph.cost(&given)
    }

    fn facts(&self, inputs: Facts<'_>) -> Result<Vec<Option<Fact>>, OpError> {
        let given: Vec<Fact> =
            (0..inputs.len()).map(|i| inputs.value(i).cloned()).collect::<Result<_, _>>()?;
        infer(&self.graph, &given).map_err(NodeError::in_body)
    }

    fn bind(&self, inputs: Facts<'_>) -> Result<Bound, OpError> {
        let facts = self.facts(inputs)?;
        let nodes: Vec<Candidate> = candidates(&self.graph, &facts);
        let members: Vec<usize> = (0..nodes.len()).collect();
        let group = Group::of(members, self.anchor);
        let made = composed(&nodes, &group, &facts);
        let (nest, operands) = made.ok_or_else(|| OpError::internal("members that no longer compose"))?;
        Ok(Bound { facts, nest, operands })
    }

    /// Position of value `value` among the node's inputs.
    fn input(&self, value: usize) -> Result<usize, OpError> {
        let at = self.graph.inputs.iter().position(|id| id.index() == value);
        at.ok_or_else(|| OpError::internal("an operand that is no input"))
    }

    fn anchor_inputs(&self) -> usize {
        self.anchor.map_or(0, |at| self.graph.nodes[at].inputs.iter().flatten().count())
    }
}

/// How the operand of shape `shape` that is read at `index` lies under a space of `rank` axes.
pub(crate) fn layout_of(index: &[Affine], shape: &[usize], rank: usize) -> Result<Layout, OpError> {
    let misfit = || OpError::internal("an operand that is read out of order");
    let mut strides = vec![0i64; rank];
    let mut offset = 0i64;
    let mut stride = 1i64;
    for (affine, &extent) in index.iter().zip(shape).rev() {
        let moved = |k: i64| k.checked_mul(stride).ok_or_else(misfit);
        offset = offset.checked_add(moved(affine.offset())?).ok_or_else(misfit)?;
        for &(axis, k) in affine.terms() {
            strides[axis] = strides[axis].checked_add(moved(k)?).ok_or_else(misfit)?;
        }
        stride = stride.checked_mul(i64::try_from(extent).map_err(|_| misfit())?).ok_or_else(misfit)?;
    }
    let positive = |v: i64| usize::try_from(v).map_err(|_| misfit());
    Ok(Layout {
        offset: positive(offset)?,
        strides: strides.into_iter().map(positive).collect::<Result<_, _>>()?,
    })
}

impl Op for Fused {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        let facts = self.facts(inputs)?;
        let made = self.graph.outputs.iter().map(|id| facts[id.index()].clone());
        made.collect::<Option<_>>().ok_or_else(|| OpError::internal("an output that no member makes"))
    }

    /// The members' operations, and each input and output once.
    fn cost(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Cost {
        let bytes = |f: &Fact| f.tensor().and_then(TensorFact::bytes).unwrap_or(0) as f64;
        let moved = inputs.0.iter().flatten().copied().chain(outputs).map(bytes).sum();
        Cost { flops: self.unfused_cost(inputs).map_or(0.0, |c| c.flops), bytes: moved }
    }

    fn pack(&self, site: &PackSite<'_>) -> Result<Option<Packed>, OpError> {
        let Some(anchor) = self.anchor else { return Ok(None) };
        let given = &site.inputs.0[..self.anchor_inputs().min(site.inputs.len())];
        self.graph.nodes[anchor].op.pack(&PackSite { inputs: Facts(given), ..*site })
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let Bound { facts, nest, operands } = self.bind(site.inputs)?;
        let stage = nest.as_map().ok_or_else(|| OpError::internal("a group that is no map"))?;
        let space = site.output_shape(0)?;
        let shape_of = |value: usize| {
            let fact = facts[value].as_ref().and_then(Fact::tensor).and_then(TensorFact::known_shape);
            fact.ok_or_else(|| OpError::internal("an operand of unknown shape"))
        };
        let layout = |at: usize| {
            layout_of(&nest.reads[at].index, &shape_of(operands[nest.reads[at].operand])?, space.len())
        };
        let Some(anchor) = self.anchor else {
            let layouts = (0..nest.reads.len()).map(layout).collect::<Result<Vec<_>, _>>()?;
            let inputs =
                nest.reads.iter().map(|r| self.input(operands[r.operand])).collect::<Result<_, _>>()?;
            return Ok(MapKernel::new(&stage.program, &space, &layouts, site.threads)?.into_kernel(inputs));
        };
        let node = &self.graph.nodes[anchor];
        let made = node
            .outputs
            .first()
            .copied()
            .flatten()
            .ok_or_else(|| OpError::internal("an anchor without output"))?;
        let mut inputs = Vec::with_capacity(nest.reads.len());
        for (at, read) in nest.reads.iter().enumerate() {
            let value = operands[read.operand];
            inputs.push(if value == made.index() {
                EpilogueInput::Result
            } else {
                EpilogueInput::Operand(self.input(value)?, layout(at)?)
            });
        }
        let anchor_inputs = Facts(&site.inputs.0[..self.anchor_inputs()]);
        let rows = node
            .op
            .epilogue_rows(anchor_inputs)
            .ok_or_else(|| OpError::internal("an anchor without rows"))?;
        let epilogue = RowEpilogue::new(&stage.program, inputs, &space, rows)?;
        let epilogue = epilogue.ok_or_else(|| OpError::internal("an operand that is read out of order"))?;
        let output =
            facts[made.index()].clone().ok_or_else(|| OpError::internal("an anchor without facts"))?;
        node.op.cpu(&CpuSite {
            inputs: anchor_inputs,
            outputs: &[output],
            epilogue: Some(&Arc::new(epilogue)),
            ..*site
        })
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let given: Vec<RefValue> =
            (0..inputs.len()).map(|i| inputs.value(i).cloned()).collect::<Result<_, _>>()?;
        run_graph(&self.graph, &given).map_err(NodeError::in_body)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
