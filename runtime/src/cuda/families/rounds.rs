//! Loops whose number of rounds data on the device decides, round by round or before the first one.
//!
//! States lie in two places in the workspace, which change roles with every round; a copy puts them there, and another one
//! takes them to the outputs. What the body collects lies behind each round in the workspace, from where it is copied to
//! where the output grows.

use super::composition::Space;
use super::copy;
use super::flow::{CONDITION, Collected, Course, Flow, Held, Known, Pool, ROUND, Rounds};
use super::members::body;
use crate::cuda::site::{GpuKernel, GpuReject, GpuSite, Launches, Operands, Prepare};
use crate::graph::Graph;
use crate::graph::fact::{Fact, TensorFact};
use recurve_kernels::launch::{Buffer, Reject};
use std::sync::Arc;

/// A loop: its inputs are the most rounds, the condition, the states and what the body takes of its surroundings.
pub(crate) struct Repeated<'a> {
    pub(crate) body: &'a Graph,
    /// What is known of the body's inputs in every round.
    pub(crate) facts: Vec<Fact>,
    /// How many states there are.
    pub(crate) carried: usize,
    /// Whether the body's condition may end it.
    pub(crate) ends: bool,
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
    /// Place and bytes of what each wanted output of the body behind the states leaves.
    slices: Vec<Option<(usize, usize)>>,
    workspace: (usize, usize),
    /// The number of a true value among the data.
    truth: usize,
    inputs: usize,
    ends: bool,
}

impl Repeated<'_> {
    /// Its launches.
    pub(crate) fn kernel(self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let Self { body: graph, facts, carried, ends } = self;
        let (limit, begins) = (Known::count(site, 0)?, Known::truth(site, 1)?);
        let scans = graph.outputs.len().saturating_sub(1 + carried);
        let wants = |output: usize| site.wanted.get(output).copied().unwrap_or(false);
        let collects = (carried..carried + scans).map(wants);
        let wanted: Vec<bool> =
            [ends].into_iter().chain((0..carried).map(|_| true)).chain(collects).collect();
        let mut pool = Pool::default();
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
        let (mut slices, mut collected) = (Vec::with_capacity(scans), Vec::new());
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
            slices.push(Some((offset, bytes)));
            collected.push(Collected { output, offset, bytes, dtype, shape });
        }
        let workspace = (space.take(body.workspace())?, body.workspace());
        let truth = pool.data(vec![1]);
        let number = graph.inputs.first().copied();
        let read = graph.nodes.iter().flat_map(|node| node.inputs.iter().flatten()).chain(&graph.outputs);
        let numbered = read.into_iter().any(|id| Some(*id) == number);
        let inputs = graph.inputs.len();
        let plan = Arc::new(Plan { body, copies, states, other, slices, workspace, truth, inputs, ends });
        let parts = (0..5).map(|part| -> Box<Prepare> {
            let plan = plan.clone();
            Box::new(move |all| match part {
                0 => plan.begin(all),
                1 | 2 => plan.round(all, part == 2),
                _ => plan.end(all, part == 4),
            })
        });
        let course = Course::Loop(Rounds { limit, begins, ends, numbered, collected });
        Ok(pool.kernel(Flow { parts: parts.collect(), course }, space.used()))
    }
}

impl Plan {
    /// State `state` in its first place, or in the other one.
    fn state(&self, all: &Operands<'_>, state: usize, odd: bool) -> Buffer {
        let (offset, bytes) = self.states[state];
        within(all.workspace, if odd { offset + self.other } else { offset }, bytes)
    }

    fn begin(&self, all: &Operands<'_>) -> Result<Launches, Reject> {
        let mut launches = Vec::new();
        for (at, copy) in self.copies.iter().enumerate() {
            let from = all.inputs.get(FIRST_STATE + at).copied().unwrap_or_default();
            launches.extend(copy.launches(all, &[from], &[self.state(all, at, false)], Buffer::default())?);
        }
        Ok(launches)
    }

    /// A round from the first places to the others, or back.
    fn round(&self, all: &Operands<'_>, odd: bool) -> Result<Launches, Reject> {
        let carried = self.states.len();
        let inputs: Vec<Buffer> = (0..self.inputs)
            .map(|at| match at {
                0 => within(all.flags, ROUND, 8),
                1 => all.data.get(self.truth).copied().unwrap_or_default(),
                _ if at < FIRST_STATE + carried => self.state(all, at - FIRST_STATE, odd),
                _ => all.inputs.get(at).copied().unwrap_or_default(),
            })
            .collect();
        let condition = if self.ends { within(all.flags, CONDITION, 1) } else { Buffer::default() };
        let states = (0..carried).map(|at| self.state(all, at, !odd));
        let slices = self.slices.iter().map(|slice| {
            slice.map_or(Buffer::default(), |(offset, bytes)| within(all.workspace, offset, bytes))
        });
        let outputs: Vec<Buffer> = [condition].into_iter().chain(states).chain(slices).collect();
        let (offset, bytes) = self.workspace;
        self.body.launches(all, &inputs, &outputs, within(all.workspace, offset, bytes))
    }

    fn end(&self, all: &Operands<'_>, odd: bool) -> Result<Launches, Reject> {
        let mut launches = Vec::new();
        for (at, copy) in self.copies.iter().enumerate() {
            let to = all.outputs.get(at).copied().unwrap_or_default();
            if to.is_some() {
                launches.extend(copy.launches(all, &[self.state(all, at, odd)], &[to], Buffer::default())?);
            }
        }
        Ok(launches)
    }
}

fn within(of: Buffer, offset: usize, bytes: usize) -> Buffer {
    Buffer { address: of.address + offset as u64, bytes: bytes as u64 }
}
