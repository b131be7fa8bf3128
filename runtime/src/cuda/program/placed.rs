//! Single steps of a graph on a GPU, for plans that place each step by itself: launches whose operands lie at the offsets
//! that the plan gives them, and copies between the host's memory and the device's.
//!
//! What is given to the device is done as if in that order, so that whoever gives it decides the order; streams go on beside
//! each other where they can ([`Order`]). A copy to the host is waited for, since somebody else goes on with what it brings.
//! The streams, the arena and the pinned memory belong to one run at a time and are kept for later ones.

mod run;
mod weights;

pub(crate) use run::DeviceRun;

use super::GpuProgram;
use super::device_step::{DeviceStep, Words};
use super::lanes::{Lanes, Transfer};
use super::order::{Action, Order, Touched};
use super::place::Place;
use super::residency::fits;
use super::usage::GpuUse;
use crate::cuda::memory::rounded;
use crate::cuda::{Block, Direct, GpuError, GpuFailure, GpuReject, Pinned, Replay};
use crate::error::OpError;
use crate::exec::{DeviceForm, Interrupt, Operand, Piece, Space};
use crate::memory::Charge;
use crate::precision::StoredWeights;
use recurve_kernels::launch::{Buffer, Launch};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A copy: where its bytes lie on the device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct CopyPlace {
    /// To the device.
    pub(crate) up: bool,
    /// The offset in the device's arena.
    pub(crate) offset: usize,
    pub(crate) bytes: usize,
    /// The step that is brought its weights by it, where it is of those.
    pub(crate) weights: Option<usize>,
}

/// What a step gives its stream.
enum Work {
    Launch(Arc<dyn Launch>),
    /// Of weights, between launches.
    Copy(Transfer),
}

/// The order in which a device is given what it does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sequence {
    /// What stands in one of these is given without waiting for anything between.
    pub(crate) parts: Vec<Vec<Action>>,
    /// By step, its stream, where that is not the first.
    pub(crate) streams: HashMap<usize, usize>,
}

/// Where a plan puts what the device holds.
pub(crate) struct Layout<'a> {
    /// The offset in the arena of the room that mirrors a space.
    pub(crate) space: &'a dyn Fn(Space) -> Option<usize>,
    /// The offset of a step's workspace.
    pub(crate) workspace: &'a dyn Fn(usize) -> Option<usize>,
    /// Bytes of the arena.
    pub(crate) arena: usize,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct PlacedSteps {
    program: Arc<GpuProgram>,
    /// By the number of the step.
    steps: HashMap<usize, (usize, DeviceStep)>,
    copies: Vec<CopyPlace>,
    order: Order,
    /// Where each copy passes through pinned memory, and where a word there tells of the end of one to the host.
    staging: Vec<(usize, usize)>,
    /// By unit of the order, the word there that lets go of it where it was given ahead.
    holds: Vec<usize>,
    arena: usize,
    pinned: usize,
    /// What stays on the device.
    resident: Vec<Arc<Block>>,
    /// What does not.
    weights: weights::Weights,
    /// Kernels that a run launches.
    launches: usize,
    states: Mutex<Vec<State>>,
}

/// What one run needs.
struct State {
    lanes: Lanes,
    pinned: Box<dyn Pinned>,
    _charge: Charge,
    arena: Block,
    /// Of every step, and of its head.
    work: HashMap<Action, Vec<Work>>,
    /// The stretches captured, once they have run.
    graphs: Vec<Graphs>,
    /// By unit, whether it was given ahead and is held back still.
    ahead: Vec<bool>,
    /// Whether the device holds back what it is given.
    holds: bool,
}

/// What a stretch was captured as: a graph copies from fixed addresses, so that there is one for each that the caller gives.
#[derive(Default)]
struct Graphs(Vec<(Vec<u64>, Box<dyn Replay>)>);

/// Graphs kept of a stretch: the caller may have its inputs in two places by turns, and no more is expected.
const GRAPHS: usize = 4;

impl Graphs {
    /// The one that copies from these addresses.
    fn get(&self, from: &[u64]) -> Option<&dyn Replay> {
        self.0.iter().find(|(of, _)| of == from).map(|(_, graph)| &**graph)
    }

    /// Keeps one more, which may take the place of the oldest.
    fn keep(&mut self, from: Vec<u64>, graph: Box<dyn Replay>) {
        if self.0.len() == GRAPHS {
            self.0.remove(0);
        }
        self.0.push((from, graph));
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "State({:?}, {} steps)", self.arena, self.work.len())
    }
}

/// Pinned memory as it is given out.
#[derive(Default)]
struct Staging(usize);

impl Staging {
    fn take(&mut self, bytes: usize) -> Result<usize, GpuError> {
        let offset = self.0;
        let end = offset.checked_add(bytes).and_then(|n| n.checked_next_multiple_of(256));
        self.0 = end.ok_or(GpuError::Limit { requested: bytes, limit: usize::MAX })?;
        Ok(offset)
    }
}

impl PlacedSteps {
    /// `forms` of the steps that run on the device, with their numbers, laid out so and given in this order.
    pub(crate) fn new(
        program: Arc<GpuProgram>,
        forms: Vec<(usize, DeviceForm)>,
        (copies, sequence): (Vec<CopyPlace>, &Sequence),
        layout: &Layout<'_>,
        interrupt: &Interrupt,
    ) -> Result<Self, GpuFailure> {
        program.gpu.check(layout.arena)?;
        let mut resident: Vec<Arc<Block>> = Vec::new();
        let mut derived: HashMap<usize, Arc<Block>> = HashMap::new();
        let mut staging = Staging::default();
        let brought = weights::Weights::new(&program, &forms, layout)?;
        let launches = forms.iter().map(|(_, form)| form.launches).sum();
        let mut steps = HashMap::with_capacity(forms.len());
        for (number, form) in forms {
            let DeviceForm { node, kernel, inputs, outputs, brought, .. } = form;
            let room = (layout.space)(Space::Weights(number));
            let in_room = |piece: Piece| {
                let (offset, bytes) = brought.as_ref()?.place(piece)?;
                Some(Place::Arena { offset: room? + offset, bytes })
            };
            let mut place = |operand: &Operand| -> Result<Place, GpuFailure> {
                Ok(match operand {
                    Operand::Nowhere => Place::Nowhere,
                    Operand::Unread => Place::UNREAD,
                    Operand::In { space, offset, bytes } => {
                        let room = (layout.space)(*space).ok_or_else(|| lost(&program))?;
                        Place::Arena { offset: room + offset, bytes: *bytes }
                    }
                    Operand::Constant { value, tensor, derived: own } => {
                        let block = match derived.get(value) {
                            Some(block) => block.clone(),
                            None if *own => program.upload(tensor.view().bytes(), interrupt)?,
                            None => program.constant(*value, interrupt)?,
                        };
                        if !derived.contains_key(value) {
                            resident.push(block.clone());
                            derived.insert(*value, block.clone());
                        }
                        Place::in_block(&block)
                    }
                })
            };
            let inputs = inputs.iter().enumerate().map(|(at, operand)| match in_room(Piece::Input(at)) {
                Some(place) => Ok(place),
                None => place(operand),
            });
            let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
            let outputs = outputs.iter().map(&mut place).collect::<Result<Vec<_>, _>>()?;
            let mut keep = |block: Arc<Block>| {
                let buffer = Buffer { address: block.address(), bytes: block.bytes() as u64 };
                resident.push(block);
                buffer
            };
            let mut weights = Vec::with_capacity(kernel.weights().len());
            for (at, packed) in kernel.weights().iter().enumerate() {
                if let Some(place) = in_room(Piece::Packed(at)) {
                    weights.push(place);
                    continue;
                }
                let block = if packed.shared {
                    program.weights(node, packed, interrupt)?
                } else {
                    program.upload_packed(packed.bytes, &*packed.pack, interrupt)?
                };
                weights.push(Place::in_block(&block));
                keep(block);
            }
            let mut data = Vec::with_capacity(kernel.data().len());
            for bytes in kernel.data() {
                data.push(keep(program.upload(bytes, interrupt)?));
            }
            let workspace = (layout.workspace)(number);
            let workspace =
                workspace.map_or(Place::Nowhere, |offset| Place::Arena { offset, bytes: kernel.workspace() });
            let (words, made) = (Words::of(&kernel, |bytes| staging.take(bytes))?, Vec::new());
            let step = DeviceStep { kernel, inputs, outputs, weights, data, workspace, words, made };
            steps.insert(number, (node, step));
        }
        let staged = copies.iter().map(|copy| {
            let word = if copy.up { 0 } else { staging.take(4)? };
            // Weights have pinned memory of their own.
            Ok((if copy.weights.is_some() { 0 } else { staging.take(copy.bytes)? }, word))
        });
        let staged = staged.collect::<Result<_, GpuError>>()?;
        program.settle(interrupt)?;
        let stream = |step: usize| sequence.streams.get(&step).copied().unwrap_or(0);
        let touched = touched(&steps, &copies, &brought);
        let order = Order::new(&sequence.parts, &touched, stream, |copy| copies[copy].up);
        let holds = order.units.iter().map(|_| staging.take(4)).collect::<Result<_, GpuError>>()?;
        Ok(Self {
            program,
            steps,
            copies,
            order,
            staging: staged,
            holds,
            arena: layout.arena,
            pinned: staging.0.max(1),
            resident,
            weights: brought,
            launches,
            states: Mutex::default(),
        })
    }

    /// What they take of the device. Workspaces share the arena with values, and count as those.
    pub(crate) fn usage(&self) -> GpuUse {
        let overhead = self.program.gpu.gpu().overhead();
        let held = self.resident.iter().map(|block| (block.address(), block.held() as u64));
        GpuUse {
            context: overhead.context,
            modules: overhead.modules,
            // What several steps read is there once.
            weights: held.collect::<HashMap<_, _>>().values().sum(),
            activations: rounded(self.arena).unwrap_or(self.arena) as u64,
            workspace: 0,
            pinned: (self.pinned + self.weights.bytes) as u64,
            launches: self.launches as u64,
            flag_reads: 0,
        }
    }

    /// Whether step `number` is one of them.
    pub(crate) fn has(&self, number: usize) -> bool {
        self.steps.contains_key(&number)
    }

    /// What they have weights in, in the order of the graph.
    pub(crate) fn stored(&self) -> Vec<StoredWeights> {
        let mut steps: Vec<_> = self.steps.iter().collect();
        steps.sort_unstable_by_key(|(number, _)| **number);
        steps.into_iter().flat_map(|(_, (_, step))| step.kernel.stored().to_vec()).collect()
    }

    /// The device for one run, in which the copies that `ends` tells of are from or to memory of the caller, at this address.
    pub(crate) fn begin<'p>(
        &'p self,
        ends: HashMap<usize, u64>,
        direct: &'p Direct,
    ) -> Result<DeviceRun<'p>, GpuFailure> {
        let kept = self.states.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut state = match kept {
            Some(state) => state,
            None => self.state()?,
        };
        state.lanes.begin();
        state.ahead.fill(false);
        self.steps.values().try_for_each(|(_, step)| step.begin(&*state.pinned))?;
        let told = self.copies.iter().zip(&self.staging).filter(|(copy, _)| !copy.up).map(|(_, at)| at.1);
        for word in told.chain(self.holds.iter().copied()) {
            state.pinned.set_word(word, 0)?;
        }
        Ok(DeviceRun::new(self, state, (ends, direct)))
    }

    fn state(&self) -> Result<State, GpuFailure> {
        let gpu = self.program.gpu.gpu();
        let arena = self.program.gpu.allocate(self.arena)?;
        let lanes = Lanes::new(gpu, &self.order)?;
        let pinned = self.program.pinned(self.pinned);
        let (pinned, charge) = pinned.map_err(|failure| self.program.of_graph(failure))?;
        let mut work = HashMap::with_capacity(self.steps.len());
        for (&number, (node, step)) in &self.steps {
            let parts = step.parts(&arena, &*pinned).map_err(|reject| {
                let node = &self.program.graph.nodes[*node];
                let why = GpuReject::Kernel(reject);
                GpuFailure::Rejected(vec![(node.name.to_string(), node.def.full_name(), why)])
            })?;
            let mut later = self.weights.later(number, &arena).into_iter().peekable();
            let mut of_step: Vec<Work> = Vec::new();
            for (part, launches) in parts.into_iter().enumerate() {
                while let Some((_, copy)) = later.next_if(|(of, _)| *of <= part) {
                    of_step.push(Work::Copy(copy));
                }
                launches.iter().try_for_each(|launch| fits(gpu, &**launch))?;
                of_step.extend(launches.into_iter().map(Work::Launch));
            }
            if self.order.heads.contains_key(&number) {
                let copied = of_step.iter().rposition(|work| matches!(work, Work::Copy(_)));
                let rest = of_step.split_off(copied.map_or(0, |last| last + 1));
                work.insert(Action::Head(number), std::mem::replace(&mut of_step, rest));
            }
            work.insert(Action::Step(number), of_step);
        }
        let graphs = self.order.stretches.iter().map(|_| Graphs::default()).collect();
        let ahead = vec![false; self.order.units.len()];
        Ok(State { lanes, pinned, _charge: charge, arena, work, graphs, ahead, holds: true })
    }
}

/// What steps and copies touch of the arena.
fn touched(
    steps: &HashMap<usize, (usize, DeviceStep)>,
    copies: &[CopyPlace],
    brought: &weights::Weights,
) -> HashMap<Action, Touched> {
    let ranges = |places: &[Place]| -> Vec<std::ops::Range<usize>> {
        let range = |place: &Place| match place {
            Place::Arena { offset, bytes } => Some(*offset..offset + bytes),
            Place::Resident { .. } | Place::Nowhere => None,
        };
        places.iter().filter_map(range).collect()
    };
    let of_step = |(number, (_, step)): (&usize, &(usize, DeviceStep))| -> [(Action, Touched); 2] {
        let mut writes = ranges(&step.outputs);
        writes.extend(ranges(std::slice::from_ref(&step.workspace)));
        let mut reads = ranges(&step.inputs);
        if let Some(weights) = brought.steps.get(number) {
            reads.push(weights.read());
            writes.extend(weights.written());
        }
        let all = Touched { reads, writes };
        [(Action::Head(*number), all.clone()), (Action::Step(*number), all)]
    };
    let of_copy = |(number, copy): (usize, &CopyPlace)| {
        let (mut reads, mut writes) = (Vec::new(), Vec::new());
        let touched = if copy.up { &mut writes } else { &mut reads };
        touched.push(copy.offset..copy.offset + copy.bytes);
        (Action::Copy(number), Touched { reads, writes })
    };
    steps.iter().flat_map(of_step).chain(copies.iter().enumerate().map(of_copy)).collect()
}

fn lost(program: &GpuProgram) -> GpuFailure {
    super::node_error(&program.graph, usize::MAX, OpError::internal("an operand has no room")).into()
}
