//! Loops whose number of rounds data on the device decides, round by round or before the first one.
//!
//! States lie in two places in the workspace, which change roles with every round; a copy puts them there, and another one
//! takes them to the outputs. What the body collects lies behind each round in the workspace, from where it is copied to
//! where the output grows.

use super::composition::Space;
use super::copy;
use super::flow::{CONDITION, Collected, Course, FLAGS, Held, Known, Pool, ROUND, Rounds, part_of};
use super::members::body;
use crate::cuda::GpuReject;
use crate::cuda::site::{GpuKernel, GpuSite, Operands, Within};
use crate::dtype::DType;
use crate::graph::Graph;
use crate::graph::fact::{Fact, TensorFact};
use crate::tensor::Shape;
use recurve_kernels::launch::{Buffer, Reject};
use std::ops::Range;

/// A loop: its inputs are the most rounds, the condition, the states and what the body takes of its surroundings.
pub(crate) struct Repeated<'a> {
    pub(crate) body: &'a Graph,
    /// What is known of the body's inputs in every round.
    pub(crate) facts: Vec<Fact>,
    /// How many states there are.
    pub(crate) carried: usize,
    /// Whether the body's condition may end it.
    pub(crate) decides: bool,
}

/// Where inputs 0 and 1 of the body, the states and those of its surroundings begin.
const FIRST_STATE: usize = 2;

struct Plan {
    body: Held,
    /// One copy for each state, to where it begins and from where it ends.
    copies: Vec<Held>,
    /// Place and bytes of each state, and how far the other place is from it.
    states: Vec<(usize, usize)>,
    other: usize,
    /// What each wanted output of the body behind the states leaves.
    slices: Vec<Option<Slice>>,
    workspace: (usize, usize),
    /// The number of a true value among the data.
    truth: usize,
    inputs: usize,
    flags: Range<usize>,
    limit: Known<i64, usize>,
    begins: Known<bool, usize>,
    decides: bool,
    numbered: bool,
}

/// A slice that every round leaves: its output, place and bytes in the workspace, and form.
struct Slice {
    output: usize,
    offset: usize,
    bytes: usize,
    dtype: DType,
    shape: Shape,
}

impl Repeated<'_> {
    /// Its launches.
    pub(crate) fn kernel(self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let Self { body: graph, facts, carried, decides } = self;
        let (limit, begins) = (Known::count(site, 0)?, Known::truth(site, 1)?);
        let scans = graph.outputs.len().saturating_sub(1 + carried);
        let wants = |output: usize| site.wanted.get(output).copied().unwrap_or(false);
        let collects = (carried..carried + scans).map(wants);
        // How many slices there are is known behind the last round: memory for them is the graph's to find.
        if site.within != Within::Graph && collects.clone().any(|wanted| wanted) {
            return Err(GpuReject::DataDependent);
        }
        let wanted: Vec<bool> =
            [decides].into_iter().chain((0..carried).map(|_| true)).chain(collects).collect();
        let mut pool = Pool::default();
        let flags = pool.flags(FLAGS);
        let kernel = body(site, graph, &facts, &wanted)?;
        let made = kernel.outputs().map(<[Fact]>::to_vec).ok_or(GpuReject::ControlFlow)?;
        let body = pool.hold(kernel);
        let mut space = Space::default();
        let (mut states, mut copies) = (Vec::with_capacity(carried), Vec::with_capacity(carried));
        for fact in facts.get(FIRST_STATE..FIRST_STATE + carried).ok_or(GpuReject::ControlFlow)? {
            let tensor = fact.tensor().ok_or(GpuReject::ControlFlow)?;
            let bytes = tensor.bytes().ok_or(GpuReject::DataDependent)?;
            states.push((space.take(bytes)?, bytes));
            copies.push(pool.hold(copy::whole(site, tensor)?));
        }
        let other = space.used();
        space.take(other)?;
        let mut slices = Vec::with_capacity(scans);
        for scan in 0..scans {
            let output = carried + scan;
            if !wants(output) {
                slices.push(None);
                continue;
            }
            let tensor = made.get(1 + output).and_then(Fact::tensor).ok_or(GpuReject::ControlFlow)?;
            let form = |tensor: &TensorFact| Some((tensor.bytes()?, tensor.dtype, tensor.known_shape()?));
            let (bytes, dtype, shape) = form(tensor).ok_or(GpuReject::DataDependent)?;
            let offset = space.take(bytes)?;
            slices.push(Some(Slice { output, offset, bytes, dtype, shape }));
        }
        let workspace = (space.take(body.workspace())?, body.workspace());
        let truth = pool.data(vec![1]);
        let number = graph.inputs.first().copied();
        let read = graph.nodes.iter().flat_map(|node| node.inputs.iter().flatten()).chain(&graph.outputs);
        let numbered = read.into_iter().any(|id| Some(*id) == number);
        let inputs = graph.inputs.len();
        let collected = slices.iter().flatten().map(|slice| slice.output).collect();
        let plan = Plan {
            body,
            copies,
            states,
            other,
            slices,
            workspace,
            truth,
            inputs,
            flags,
            limit,
            begins,
            decides,
            numbered,
        };
        Ok(pool.kernel(move |all| plan.course(all), collected, space.used()))
    }
}

impl Plan {
    /// State `state` in its first place, or in the other one.
    fn state(&self, all: &Operands<'_>, state: usize, odd: bool) -> Buffer {
        let (offset, bytes) = self.states[state];
        within(all.workspace, if odd { offset + self.other } else { offset }, bytes)
    }

    fn course(&self, all: &Operands<'_>) -> Result<Course, Reject> {
        let collected = self.slices.iter().flatten().map(|slice| Collected {
            output: slice.output,
            slice: within(all.workspace, slice.offset, slice.bytes),
            dtype: slice.dtype,
            shape: slice.shape.clone(),
        });
        Ok(Course::Loop(Box::new(Rounds {
            flags: part_of(all.flags, &self.flags),
            limit: self.limit.of(all.inputs),
            begins: self.begins.of(all.inputs),
            decides: self.decides,
            numbered: self.numbered,
            collected: collected.collect(),
            begin: self.begin(all)?,
            rounds: [self.round(all, false)?, self.round(all, true)?],
            ends: [self.end(all, false)?, self.end(all, true)?],
        })))
    }

    fn begin(&self, all: &Operands<'_>) -> Result<Course, Reject> {
        let copies = self.copies.iter().enumerate().map(|(at, copy)| {
            let from = all.inputs.get(FIRST_STATE + at).copied().unwrap_or_default();
            copy.course(all, &[from], &[self.state(all, at, false)], Buffer::default())
        });
        Ok(Course::sequence(copies.collect::<Result<Vec<_>, _>>()?))
    }

    /// A round from the first places to the others, or back.
    fn round(&self, all: &Operands<'_>, odd: bool) -> Result<Course, Reject> {
        let flags = part_of(all.flags, &self.flags);
        let carried = self.states.len();
        let inputs: Vec<Buffer> = (0..self.inputs)
            .map(|at| match at {
                0 => within(flags, ROUND, 8),
                1 => all.data.get(self.truth).copied().unwrap_or_default(),
                _ if at < FIRST_STATE + carried => self.state(all, at - FIRST_STATE, odd),
                _ => all.inputs.get(at).copied().unwrap_or_default(),
            })
            .collect();
        let condition = if self.decides { within(flags, CONDITION, 1) } else { Buffer::default() };
        let states = (0..carried).map(|at| self.state(all, at, !odd));
        let slices = self.slices.iter().map(|slice| {
            let slice = slice.as_ref();
            slice.map_or(Buffer::default(), |slice| within(all.workspace, slice.offset, slice.bytes))
        });
        let outputs: Vec<Buffer> = [condition].into_iter().chain(states).chain(slices).collect();
        let (offset, bytes) = self.workspace;
        self.body.course(all, &inputs, &outputs, within(all.workspace, offset, bytes))
    }

    fn end(&self, all: &Operands<'_>, odd: bool) -> Result<Course, Reject> {
        let mut copies = Vec::new();
        for (at, copy) in self.copies.iter().enumerate() {
            let to = all.outputs.get(at).copied().unwrap_or_default();
            if to.is_some() {
                copies.push(copy.course(all, &[self.state(all, at, odd)], &[to], Buffer::default())?);
            }
        }
        Ok(Course::sequence(copies))
    }
}

fn within(of: Buffer, offset: usize, bytes: usize) -> Buffer {
    Buffer { address: of.address + offset as u64, bytes: bytes as u64 }
}
