//! Loops whose number of steps and whose shapes are known: the body's launches for every step, one after the other.
//!
//! States lie in one of two places in the workspace, which change roles with every step; the first step reads the
//! node's inputs and the last one writes its outputs. A slice that a step takes or gives is copied from or to its place.

use super::composition::{Composition, Place, Space};
use super::copy;
use super::flow::{Course, part_of};
use super::members::body;
use crate::cuda::GpuReject;
use crate::cuda::site::{GpuKernel, GpuSite, Operands, STARTS};
use crate::graph::Graph;
use crate::graph::fact::{Fact, TensorFact};
use recurve_kernels::copy::Region;
use recurve_kernels::launch::{Buffer, Device, Launch, Reject};
use std::sync::Arc;

/// The most steps that are written out.
const MOST_STEPS: usize = 4096;

/// What an input of the body is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Taken {
    /// The number of the step, a 64-bit integer.
    Step,
    /// True.
    Truth,
    /// State `.0`, which begins as input `.1` of the node.
    State(usize, usize),
    /// The step's slice of input `input` along `axis`.
    Slice { input: usize, axis: usize, reversed: bool },
    /// Input `.0` of the node.
    Whole(usize),
}

/// What an output of the body becomes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Given {
    /// Nothing.
    Nothing,
    /// State `.0`, which ends as the output of this number.
    State(usize),
    /// The step's slice of output `output` along `axis`.
    Slice { output: usize, axis: usize, reversed: bool },
}

/// A loop.
pub(crate) struct Steps<'a> {
    pub(crate) body: &'a Graph,
    /// What is known of the body's inputs in every step.
    pub(crate) facts: Vec<Fact>,
    pub(crate) taken: Vec<Taken>,
    pub(crate) given: Vec<Given>,
    pub(crate) count: usize,
}

/// A slice that passes through the workspace: its place there, and the copies of all steps.
struct Passage {
    offset: usize,
    bytes: usize,
    regions: Vec<Region>,
}

/// A loop with everything decided.
struct Plan {
    body: GpuKernel,
    taken: Vec<Taken>,
    given: Vec<Given>,
    count: usize,
    /// The first place of each state in the workspace, its bytes, and how far the other place is from it.
    states: Vec<(usize, usize)>,
    other: usize,
    /// By input and by output of the body.
    taking: Vec<Option<Passage>>,
    giving: Vec<Option<Passage>>,
    body_workspace: (usize, usize),
    /// The body's weights and data come first, the loop's own data behind them.
    body_data: usize,
    device: Device,
}

impl Steps<'_> {
    /// Its launches.
    pub(crate) fn kernel(self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let Self { body: graph, facts, taken, given, count } = self;
        if count == 0 {
            return none(site, &taken, &given);
        }
        if count > MOST_STEPS {
            return Err(GpuReject::Form(format!("a loop of {count} steps")));
        }
        let wanted: Vec<bool> = given
            .iter()
            .map(|given| match given {
                Given::Nothing => false,
                Given::State(_) => true,
                Given::Slice { output, .. } => site.wanted.get(*output).copied().unwrap_or(false),
            })
            .collect();
        let mut kernel = body(site, graph, &facts, &wanted)?;
        let mut space = Space::default();
        let bytes = |fact: &Fact| fact.tensor().and_then(TensorFact::bytes).ok_or(GpuReject::DataDependent);
        let mut states = Vec::new();
        for (taken, fact) in taken.iter().zip(&facts) {
            if let Taken::State(..) = taken {
                states.push((space.take(bytes(fact)?)?, bytes(fact)?));
            }
        }
        let other = space.used();
        space.take(other)?;
        let mut taking = Vec::with_capacity(taken.len());
        for (taken, fact) in taken.iter().zip(&facts) {
            taking.push(match *taken {
                Taken::Slice { input, axis, reversed } => {
                    let whole = site.inputs.tensor(input).map_err(|_| GpuReject::NoKernel)?;
                    let regions = copy::slices(whole, axis, reversed, copy::Direction::Out)?;
                    Some(Passage { offset: space.take(bytes(fact)?)?, bytes: bytes(fact)?, regions })
                }
                _ => None,
            });
        }
        let mut giving = Vec::with_capacity(given.len());
        for (given, wanted) in given.iter().zip(&wanted) {
            giving.push(match *given {
                Given::Slice { output, axis, reversed } if *wanted => {
                    let whole = site.outputs.get(output).and_then(Fact::tensor).ok_or(GpuReject::NoKernel)?;
                    let regions = copy::slices(whole, axis, reversed, copy::Direction::In)?;
                    let bytes = bytes(&site.outputs[output])?.checked_div(count).unwrap_or(0);
                    Some(Passage { offset: space.take(bytes)?, bytes, regions })
                }
                _ => None,
            });
        }
        if taking.iter().chain(&giving).flatten().any(|passage| passage.regions.len() != count) {
            return Err(GpuReject::NoKernel);
        }
        let body_workspace = (space.take(kernel.workspace())?, kernel.workspace());
        let (weights, mut data) = kernel.take_resident();
        let body_data = data.len();
        data.push((0..count as i64).flat_map(i64::to_le_bytes).collect());
        data.push(vec![1]);
        let (fault, stored) = (kernel.fault(), kernel.stored().to_vec());
        // Each step draws anew.
        let sources: Vec<_> = std::iter::repeat_n(kernel.sources(), count).flatten().cloned().collect();
        let plan = Plan {
            body: kernel,
            taken,
            given,
            count,
            states,
            other,
            taking,
            giving,
            body_workspace,
            body_data,
            device: site.device,
        };
        let flags = plan.body.flow().map(|flow| flow.flags);
        let kernel = GpuKernel::of_course(move |all| plan.course(all), flags);
        let kernel = kernel.with_fault_of(fault).with_workspace(space.used()).with_resident(weights, data);
        Ok(kernel.with_sources(sources).with_stored(stored))
    }
}

/// No step: states end as they begin, and there are no slices.
fn none(site: &GpuSite<'_>, taken: &[Taken], given: &[Given]) -> Result<GpuKernel, GpuReject> {
    let mut whole = Composition::new("");
    for given in given {
        let Given::State(output) = given else { continue };
        let begins = taken.iter().find_map(|taken| match taken {
            Taken::State(state, input) if state == output => Some(*input),
            _ => None,
        });
        let input = begins.ok_or(GpuReject::NoKernel)?;
        if site.wanted.get(*output).copied().unwrap_or(false) {
            let fact = site.inputs.tensor(input).map_err(|_| GpuReject::NoKernel)?;
            let kernel = copy::whole(site, fact)?;
            whole.add(
                &output.to_string(),
                kernel,
                vec![Place::Input(input)],
                vec![Place::Output(*output)],
            )?;
        }
    }
    Ok(whole.finish())
}

impl Plan {
    /// State `state` behind step `step`.
    fn state(&self, all: &Operands<'_>, state: usize, step: usize) -> Buffer {
        let (offset, bytes) = self.states[state];
        let offset = if step.is_multiple_of(2) { offset } else { offset + self.other };
        between(all, offset, bytes)
    }

    fn course(&self, all: &Operands<'_>) -> Result<Course, Reject> {
        let mut courses = Vec::new();
        let input = |at: usize| all.inputs.get(at).copied().unwrap_or_default();
        let output = |at: usize| all.outputs.get(at).copied().unwrap_or_default();
        let own = |at: usize| all.data.get(self.body_data + at).copied().unwrap_or_default();
        let move_slice = |region: &Region, from: Buffer, to: Buffer| {
            let prepared = region.prepare(from, to, &self.device)?;
            let launch = prepared.map(|prepared| Arc::new(prepared) as Arc<dyn Launch>);
            Ok::<_, Reject>(Course::of(launch.into_iter().collect()))
        };
        let drawn = STARTS as usize * self.body.sources().len();
        for step in 0..self.count {
            let mut inputs = Vec::with_capacity(self.taken.len());
            for (taken, passage) in self.taken.iter().zip(&self.taking) {
                inputs.push(match *taken {
                    Taken::Step => Buffer { address: own(0).address + 8 * step as u64, bytes: 8 },
                    Taken::Truth => own(1),
                    Taken::State(_, first) if step == 0 => input(first),
                    Taken::State(state, _) => self.state(all, state, step - 1),
                    Taken::Whole(at) => input(at),
                    Taken::Slice { input: from, .. } => {
                        let Some(passage) = passage else { return Err(Reject::UnknownVariant) };
                        let to = between(all, passage.offset, passage.bytes);
                        courses.push(move_slice(&passage.regions[step], input(from), to)?);
                        to
                    }
                });
            }
            let outputs: Vec<Buffer> = self
                .given
                .iter()
                .zip(&self.giving)
                .enumerate()
                .map(|(at, (given, passage))| match (given, passage) {
                    (Given::State(to), _) if step + 1 == self.count && output(*to).is_some() => output(*to),
                    (Given::State(_), _) => self.state(all, self.state_given(at), step),
                    (_, Some(passage)) => between(all, passage.offset, passage.bytes),
                    _ => Buffer::default(),
                })
                .collect();
            courses.push(self.body.course(&Operands {
                inputs: &inputs,
                outputs: &outputs,
                weights: all.weights,
                data: &all.data[..self.body_data],
                workspace: between(all, self.body_workspace.0, self.body_workspace.1),
                fault: all.fault,
                flags: all.flags,
                starts: part_of(all.starts, &(step * drawn..(step + 1) * drawn)),
            })?);
            for (given, passage) in self.given.iter().zip(&self.giving) {
                if let (Given::Slice { output: to, .. }, Some(passage)) = (given, passage) {
                    let from = between(all, passage.offset, passage.bytes);
                    courses.push(move_slice(&passage.regions[step], from, output(*to))?);
                }
            }
        }
        Ok(Course::sequence(courses))
    }

    /// The number of the state that output `at` of the body is.
    fn state_given(&self, at: usize) -> usize {
        self.given[..at].iter().filter(|given| matches!(given, Given::State(_))).count()
    }
}

fn between(all: &Operands<'_>, offset: usize, bytes: usize) -> Buffer {
    Buffer { address: all.workspace.address + offset as u64, bytes: bytes as u64 }
}
