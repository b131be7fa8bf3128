//! The operators that groups become. All keep the members as a graph: facts are inferred and the reference is
//! executed member by member, so that what the fused kernel computes is judged by the operators it replaces. When
//! shapes are bound the members are lowered once more, every extent known, and composed to the program that runs.

use super::affine::Affine;
use super::candidate::{Candidate, candidates};
use super::compose::Space;
use super::fuse::fuse_for_device;
use super::group::{Group, composed};
use super::in_rows::{Form, form};
use super::made_operand::{Piece, first_column, pieces};
use super::nest::{Nest, Read};
use super::row_form::row_program;
use super::strided::{exchange, strided_operand};
use crate::cpu::program::{Layout, MapKernel, RowKernel, RowLayout, StripKernel, StripLayout, StripSpace};
use crate::cpu::row_epilogue::{EpilogueInput, RowEpilogue};
use crate::cpu::row_fill::RowFill;
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::families::tail::Behind;
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::graph::{Dim, Graph, NodeError, ValueId, infer};
use crate::ops::{Cost, Making, Op, PackSite, Packed};
use crate::reference::{RefInputs, RefValue, run_graph};
use crate::tensor::Shape;
use smallvec::SmallVec;
use std::any::Any;
use std::sync::Arc;

/// Maps in one pass over memory: by themselves, after a contraction, or with folds of rows.
#[derive(Debug)]
pub(crate) struct Fused {
    /// The members; its inputs are the node's: those of the contraction first, in its own order.
    pub(super) graph: Graph,
    /// The contraction among the members.
    pub(super) anchor: Option<usize>,
    /// The members that make the contraction's first operand as it is read.
    pub(super) operand: Vec<usize>,
    /// The last member, where it is an exchange of axes that the contraction writes through.
    pub(super) written: Option<usize>,
}

/// The members bound to facts.
struct Bound {
    facts: Vec<Option<Fact>>,
    nodes: Vec<Candidate>,
    nest: Nest,
    /// The value that each operand of the nest is.
    operands: Vec<usize>,
    space: Space,
    /// The member whose value the nest makes.
    core: usize,
}

impl Bound {
    /// How each read of the nest lies under its axes.
    fn layouts(&self) -> Result<Vec<Layout>, OpError> {
        let rank = self.nest.axes.len();
        let layout = |read: &Read| {
            let fact = self.facts[self.operands[read.operand]].as_ref().and_then(Fact::tensor);
            let shape = fact.and_then(TensorFact::known_shape);
            let shape = shape.ok_or_else(|| OpError::internal("an operand of unknown shape"))?;
            layout_of(&read.index, &shape, rank)
        };
        self.nest.reads.iter().map(layout).collect()
    }
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

    /// What is known of what each member reads.
    pub(crate) fn member_inputs(&self, inputs: Facts<'_>) -> Option<Vec<Vec<Option<Fact>>>> {
        let facts = self.facts(inputs).ok()?;
        let given = |id: &Option<ValueId>| id.and_then(|id| facts[id.index()].clone());
        Some(self.graph.nodes.iter().map(|node| node.inputs.iter().map(given).collect()).collect())
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
        let stored = self.graph.outputs.iter().skip(1).map(|id| id.index()).collect();
        let mut group = Group::of(members, self.anchor, stored);
        group.written = self.written;
        group.operand.clone_from(&self.operand);
        let made = composed(&nodes, &group, &facts);
        let (nest, operands, space) =
            made.ok_or_else(|| OpError::internal("members that no longer compose"))?;
        Ok(Bound { core: group.core(), facts, nodes, nest, operands, space })
    }

    /// What makes the rows of the contraction's first operand.
    fn fill(&self, bound: &Bound) -> Result<RowFill, OpError> {
        let misfit = || OpError::internal("an operand that no maps make");
        let Bound { facts, nodes, .. } = bound;
        let mut group = Group::of((0..nodes.len()).collect(), self.anchor, Vec::new());
        group.operand.clone_from(&self.operand);
        let mut made = Vec::new();
        for Piece { nest, operands } in pieces(nodes, &group, facts).ok_or_else(misfit)? {
            let shape: Shape = nest.axes.iter().map(Dim::known).collect::<Option<_>>().ok_or_else(misfit)?;
            let stage = nest.as_map().ok_or_else(misfit)?;
            let mut inputs = Vec::with_capacity(nest.reads.len());
            for read in &nest.reads {
                let value = operands[read.operand];
                let fact = facts[value].as_ref().and_then(|f| f.tensor()?.known_shape());
                let layout = layout_of(&read.index, &fact.ok_or_else(misfit)?, shape.len())?;
                inputs.push(EpilogueInput::Operand(self.input(value)?, layout));
            }
            let making = self.anchor.map_or(Making::Nothing, |at| nodes[at].making);
            let rows = first_column(making, shape.len()).ok_or_else(misfit)?;
            let map = RowEpilogue::new(&stage.program, inputs, &shape, rows)?.ok_or_else(misfit)?;
            let columns = shape[rows..].iter().try_fold(1usize, |n, &d| n.checked_mul(d));
            made.push((columns.ok_or_else(misfit)?, map));
        }
        RowFill::new(made)
    }

    /// Position of value `value` among the node's inputs.
    fn input(&self, value: usize) -> Result<usize, OpError> {
        let at = self.graph.inputs.iter().position(|id| id.index() == value);
        at.ok_or_else(|| OpError::internal("an operand that is no input"))
    }

    /// How the anchor's inputs lie in memory, where it reads them through layouts before it.
    fn strided(&self, bound: &Bound, anchor: usize) -> Result<Vec<Option<Layout>>, OpError> {
        let node = &self.graph.nodes[anchor];
        let members: Vec<usize> = (0..anchor).collect();
        let mut strided = Vec::with_capacity(node.inputs.len());
        for (at, id) in node.inputs.iter().flatten().enumerate() {
            let Some(fact) = bound.facts[id.index()].as_ref() else { continue };
            if at == 0 && !self.operand.is_empty() {
                strided.push(None);
                continue;
            }
            let rank = fact.tensor().and_then(TensorFact::rank).ok_or_else(unreadable)?;
            let seen = strided_operand(&bound.nodes, &members, id.index(), rank).ok_or_else(unreadable)?;
            let shape = bound.facts[seen.value].as_ref().and_then(|f| f.tensor()?.known_shape());
            let layout = layout_of(&seen.index, &shape.ok_or_else(unreadable)?, rank)?;
            strided.push((seen.value != id.index()).then_some(layout));
        }
        Ok(strided)
    }

    /// The value that the anchor makes, and what the program behind it reads, where each lies so.
    fn behind(
        &self,
        bound: &Bound,
        anchor: usize,
        layouts: Vec<Layout>,
    ) -> Result<(usize, Vec<EpilogueInput>), OpError> {
        let made = self.graph.nodes[anchor].outputs.first().copied().flatten();
        let made = made.ok_or_else(|| OpError::internal("an anchor without output"))?.index();
        let mut inputs = Vec::with_capacity(layouts.len());
        for (read, layout) in bound.nest.reads.iter().zip(layouts) {
            let value = bound.operands[read.operand];
            inputs.push(if value == made {
                EpilogueInput::Result
            } else {
                EpilogueInput::Operand(self.input(value)?, layout)
            });
        }
        Ok((made, inputs))
    }

    /// The anchor's kernel with the rest of the group behind its sums.
    fn anchored(&self, site: &GpuSite<'_>, bound: &Bound, anchor: usize) -> Result<GpuKernel, GpuReject> {
        let unable = |_| GpuReject::NoKernel;
        let stage = bound.nest.as_map().ok_or(GpuReject::NoKernel)?;
        let layouts = bound.layouts().map_err(unable)?;
        let strided = self.strided(bound, anchor).map_err(unable)?;
        let (made, inputs) = self.behind(bound, anchor, layouts).map_err(unable)?;
        let node = &self.graph.nodes[anchor];
        let given: Vec<Option<&Fact>> =
            node.inputs.iter().map(|id| id.and_then(|id| bound.facts[id.index()].as_ref())).collect();
        let fact = bound.facts[made].clone().ok_or(GpuReject::NoKernel)?;
        let shape = fact.tensor().and_then(TensorFact::known_shape).ok_or(GpuReject::DataDependent)?;
        let extents: Option<Vec<usize>> = bound.nest.axes.iter().map(Dim::known).collect();
        if extents.as_deref() != Some(shape.as_slice()) {
            return Err(GpuReject::Form("an epilogue over another shape".into()));
        }
        let behind = Behind { program: stage.program.clone(), inputs };
        let is_whole = self.graph.outputs.first().is_some_and(|id| id.index() == made);
        let inner = GpuSite {
            inputs: Facts(&given),
            outputs: std::slice::from_ref(&fact),
            wanted: &[true],
            behind: (!is_whole).then_some(&behind),
            strided: &strided,
            ..*site
        };
        let kernel = node.op.gpu(&inner)?;
        kernel.trial(site)?;
        Ok(kernel)
    }

    fn anchor_inputs(&self) -> usize {
        self.anchor.map_or(0, |at| self.graph.nodes[at].inputs.iter().flatten().count())
    }
}

fn unreadable() -> OpError {
    OpError::internal("an operand that no strides read")
}

/// Where the elements lie that the exchange of axes `at` reads, after it.
fn written_layout(nodes: &[Candidate], facts: &[Option<Fact>], at: usize) -> Result<Layout, OpError> {
    let misfit = || OpError::internal("an exchange of axes that is none");
    let nest = nodes[at].nest.as_ref().map_err(|_| misfit())?;
    let axes = exchange(&nodes[at], facts).ok_or_else(misfit)?;
    let shape: Shape = nest.axes.iter().map(Dim::known).collect::<Option<_>>().ok_or_else(misfit)?;
    let dense = Layout::dense(&shape).strides;
    Ok(Layout { offset: 0, strides: axes.into_iter().map(|axis| dense[axis]).collect() })
}

/// The folds and the store of a group, row by row or strip by strip.
fn row_kernel(bound: &Bound, inputs: SmallVec<[usize; 8]>, threads: usize) -> Result<Kernel, OpError> {
    let unknown = || OpError::internal("rows of unknown extents");
    let Bound { nest, operands, space, facts, .. } = bound;
    let axes: Vec<usize> = nest.axes.iter().map(Dim::known).collect::<Option<_>>().ok_or_else(unknown)?;
    let row = &axes[space.row.clone()];
    let length = row.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(unknown)?;
    let out_of_rows = || OpError::internal("an operand out of rows");
    let layouts = bound.layouts()?;
    match form(nest, operands, space, facts).ok_or_else(out_of_rows)? {
        Form::Rows => {
            let program = row_program(nest, &space.row, length)?;
            let rows = &axes[..space.row.start];
            let under = |layout: &Layout| {
                let (along, run) = layout.in_runs(row).ok_or_else(out_of_rows)?;
                let strides = SmallVec::from_slice(&layout.strides[..rows.len()]);
                Ok(RowLayout { offset: layout.offset, rows: strides, column: along.into(), run })
            };
            let layouts = layouts.iter().map(under).collect::<Result<Vec<_>, OpError>>()?;
            Ok(RowKernel::over(&program, (rows, length), &layouts, threads)?.into_kernel(inputs))
        }
        Form::Strips(strip) => {
            // Kept rows are those of all elements of a strip.
            let program = row_program(nest, &space.row, length.saturating_mul(KEPT_STRIP))?;
            let outer: SmallVec<[usize; 4]> =
                (0..strip.start).filter(|axis| !space.row.contains(axis)).collect();
            let of = |axes: &[usize], from: &[usize]| axes.iter().map(|&axis| from[axis]).collect();
            let row: SmallVec<[usize; 4]> = space.row.clone().collect();
            let under = |layout: &Layout| {
                let along = layout.along_only(&axes, &strip).ok_or_else(out_of_rows)?;
                let (offset, strides) = (layout.offset, &layout.strides);
                Ok(StripLayout {
                    offset,
                    outer: of(&outer, strides),
                    row: of(&row, strides),
                    along: along.into(),
                })
            };
            let mut stored = Layout::dense(&axes[..space.stored]);
            stored.strides.resize(axes.len(), 0);
            let stored = vec![under(&stored)?; program.outputs.len()];
            let layouts = layouts.iter().map(under).collect::<Result<Vec<_>, OpError>>()?;
            let along = axes[strip].iter().product();
            let space = StripSpace { outer: of(&outer, &axes), row: of(&row, &axes), strip: along };
            Ok(StripKernel::new(&program, space, &layouts, &stored, threads)?.into_kernel(inputs))
        }
    }
}

/// Elements of a strip side by side, about.
const KEPT_STRIP: usize = 32;

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
        let node = &self.graph.nodes[anchor];
        let made = usize::from(!self.operand.is_empty());
        if node.inputs.iter().skip(made).flatten().any(|id| !self.graph.inputs.contains(id)) {
            // What is packed as it lies in memory would be read through strides.
            return Ok(None);
        }
        let mut given = site.inputs.0[..self.anchor_inputs().min(site.inputs.len())].to_vec();
        let facts;
        if made > 0 {
            // In the place of the made operand stands something that it is made of.
            let Ok(all) = self.facts(site.inputs) else { return Ok(None) };
            facts = all;
            let operand = node.inputs.first().copied().flatten();
            given[0] = operand.and_then(|id| facts[id.index()].as_ref());
        }
        self.graph.nodes[anchor].op.pack(&PackSite { inputs: Facts(&given), ..*site })
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let bound = self.bind(site.inputs)?;
        let Bound { facts, nodes, nest, operands, space, core } = &bound;
        let reads = || nest.reads.iter().map(|r| self.input(operands[r.operand])).collect::<Result<_, _>>();
        if !space.row.is_empty() {
            return row_kernel(&bound, reads()?, site.threads);
        }
        let stage = nest.as_map().ok_or_else(|| OpError::internal("a group that is no map"))?;
        let known = |shape: &[Dim]| shape.iter().map(Dim::known).collect::<Option<Shape>>();
        let shape = known(&nest.axes).ok_or_else(|| OpError::internal("a map of unknown extents"))?;
        let layouts = bound.layouts()?;
        let Some(anchor) = self.anchor else {
            let kernel = MapKernel::new(&stage.program, &shape, &layouts, site.threads)?;
            return Ok(kernel.into_kernel(reads()?));
        };
        let node = &self.graph.nodes[anchor];
        let given: Vec<Option<&Fact>> =
            node.inputs.iter().map(|id| id.and_then(|id| facts[id.index()].as_ref())).collect();
        let strided = self.strided(&bound, anchor)?;
        let anchor_inputs = Facts(&given);
        let (made, inputs) = self.behind(&bound, anchor, layouts)?;
        let rows = node
            .op
            .epilogue_rows(anchor_inputs)
            .ok_or_else(|| OpError::internal("an anchor without rows"))?;
        let epilogue = if *core == anchor {
            None
        } else {
            let epilogue = RowEpilogue::new(&stage.program, inputs, &shape, rows)?;
            Some(Arc::new(epilogue.ok_or_else(|| OpError::internal("an operand that is read out of order"))?))
        };
        let written = self.written.map(|at| written_layout(nodes, facts, at)).transpose()?;
        let fill = if self.operand.is_empty() { None } else { Some(Arc::new(self.fill(&bound)?)) };
        let output = facts[made].clone().ok_or_else(|| OpError::internal("an anchor without facts"))?;
        node.op.cpu(&CpuSite {
            inputs: anchor_inputs,
            outputs: &[output],
            wanted: &[true],
            epilogue: epilogue.as_ref(),
            strided: &strided,
            prologue: fill.as_ref(),
            written: written.as_ref(),
            ..*site
        })
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let bound = self.bind(site.inputs).map_err(|_| GpuReject::NoKernel)?;
        if let Some(anchor) = self.anchor
            && bound.space.row.is_empty()
            && self.operand.is_empty()
            && self.written.is_none()
            && self.graph.outputs.len() == 1
            && let Ok(kernel) = self.anchored(site, &bound, anchor)
        {
            return Ok(kernel);
        }
        let operand = |operand: usize| {
            let value = bound.operands[operand];
            let shape = bound.facts[value].as_ref().and_then(|f| f.tensor()?.known_shape());
            Ok((shape.ok_or_else(unreadable)?.to_vec(), self.input(value)?))
        };
        if self.anchor.is_none()
            && bound.space.row.is_empty()
            && let Ok(kernel) = families::map::kernel(site, &bound.nest, &operand)
        {
            return Ok(kernel);
        }
        // A part of the group is what a kernel takes in.
        if self.anchor.is_some()
            && let Some(graph) = fuse_for_device(&self.graph, &bound.facts)
            && let Ok(kernel) = families::members::kernel(site, &graph)
        {
            return Ok(kernel);
        }
        // Kernels of the members' own are faster than an interpreted nest.
        let why = match families::members::kernel(site, &self.graph) {
            Ok(kernel) => return Ok(kernel),
            Err(why) => why,
        };
        families::nest::kernel(site, &bound.nest, &operand).map_err(|_| why)
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
