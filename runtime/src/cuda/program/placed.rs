//! Single steps of a graph on a GPU, for plans that place each step by itself: launches whose operands lie at the offsets
//! that the plan gives them, and copies between the host's memory and the device's.
//!
//! What is given to the device is done as if in that order, so that whoever gives it decides the order; copies go on beside
//! kernels where they can ([`Lanes`]). A copy to the host is waited for, since somebody else goes on with what it brings.
//! The streams, the arena and the pinned memory belong to one run at a time and are kept for later ones.

use super::GpuProgram;
use super::bound::DeviceStep;
use super::lanes::{Lanes, Transfer};
use super::place::Place;
use super::residency::fits;
use super::usage::GpuUse;
use crate::cuda::memory::rounded;
use crate::cuda::site::Launches;
use crate::cuda::{Block, Event, GpuError, GpuFailure, GpuReject, Pinned, Replay};
use crate::error::OpError;
use crate::exec::{DeviceForm, Interrupt, Operand, Space};
use crate::precision::StoredWeights;
use recurve_kernels::launch::Buffer;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long work that nobody waits for any more may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// A copy: where its bytes lie on the device, and who works on them there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct CopyPlace {
    /// To the device.
    pub(crate) up: bool,
    /// The offset in the device's arena.
    pub(crate) offset: usize,
    pub(crate) bytes: usize,
    /// The step that makes what is copied.
    pub(crate) writer: Option<usize>,
    /// The steps on the device that read what is copied there.
    pub(crate) readers: Vec<usize>,
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
    /// By copy to the device: whether steps that do not read it use the same bytes.
    shared: Vec<bool>,
    /// By step: the copies that it reads.
    needs: HashMap<usize, Vec<usize>>,
    /// Where each copy passes through pinned memory, and where a word there tells of the end of one to the host.
    staging: Vec<(usize, usize)>,
    arena: usize,
    pinned: usize,
    /// Steps that follow one on the other, and by step which of these it belongs to.
    stretches: Vec<Vec<usize>>,
    stretch_of: HashMap<usize, usize>,
    /// What stays on the device.
    resident: Vec<Arc<Block>>,
    /// Kernels that a run launches.
    launches: usize,
    states: Mutex<Vec<State>>,
}

/// What one run needs.
struct State {
    lanes: Lanes,
    pinned: Box<dyn Pinned>,
    arena: Block,
    launches: HashMap<usize, Launches>,
    /// The stretches captured, once they have run.
    graphs: Vec<Option<Box<dyn Replay>>>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "State({:?}, {} steps)", self.arena, self.launches.len())
    }
}

/// The device during one run. Work that is under way when it is dropped is waited for, but not for ever.
pub(crate) struct DeviceRun<'p> {
    placed: &'p PlacedSteps,
    state: Mutex<Option<State>>,
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
    /// `forms` of the steps that run on the device, with their numbers, laid out so. `stretches` are those of them that are
    /// given one after the other without anything between.
    pub(crate) fn new(
        program: Arc<GpuProgram>,
        forms: Vec<(usize, DeviceForm)>,
        (copies, stretches): (Vec<CopyPlace>, Vec<Vec<usize>>),
        layout: &Layout<'_>,
        interrupt: &Interrupt,
    ) -> Result<Self, GpuFailure> {
        program.gpu.check(layout.arena)?;
        let mut resident: Vec<Arc<Block>> = Vec::new();
        let mut derived: HashMap<usize, Arc<Block>> = HashMap::new();
        let mut staging = Staging::default();
        let launches = forms.iter().map(|(_, form)| form.launches).sum();
        let mut steps = HashMap::with_capacity(forms.len());
        for (number, form) in forms {
            let DeviceForm { node, kernel, inputs, outputs, .. } = form;
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
                            None if *own => {
                                let bytes = tensor.view().bytes();
                                Arc::new(program.uploader.upload(&program.gpu, bytes, interrupt)?)
                            }
                            None => program.constant(*value, interrupt)?,
                        };
                        if !derived.contains_key(value) {
                            resident.push(block.clone());
                            derived.insert(*value, block.clone());
                        }
                        Place::Resident { address: block.address(), bytes: block.bytes() }
                    }
                })
            };
            let inputs = inputs.iter().map(&mut place).collect::<Result<Vec<_>, _>>()?;
            let outputs = outputs.iter().map(&mut place).collect::<Result<Vec<_>, _>>()?;
            let mut keep = |block: Arc<Block>| {
                let buffer = Buffer { address: block.address(), bytes: block.bytes() as u64 };
                resident.push(block);
                buffer
            };
            let mut weights = Vec::with_capacity(kernel.weights().len());
            for packed in kernel.weights() {
                weights.push(keep(if packed.shared {
                    program.weights(node, packed, interrupt)?
                } else {
                    Arc::new(program.uploader.upload(&program.gpu, &(packed.pack)(), interrupt)?)
                }));
            }
            let mut data = Vec::with_capacity(kernel.data().len());
            for bytes in kernel.data() {
                data.push(keep(Arc::new(program.uploader.upload(&program.gpu, bytes, interrupt)?)));
            }
            let workspace = (layout.workspace)(number);
            let workspace =
                workspace.map_or(Place::Nowhere, |offset| Place::Arena { offset, bytes: kernel.workspace() });
            let fault = if kernel.can_fault() { Some(staging.take(4)?) } else { None };
            let (flags, made) = (None, Vec::new());
            let step = DeviceStep { kernel, inputs, outputs, weights, data, workspace, fault, flags, made };
            steps.insert(number, (node, step));
        }
        let staged = copies.iter().map(|copy| {
            let word = if copy.up { 0 } else { staging.take(4)? };
            Ok((staging.take(copy.bytes)?, word))
        });
        let staged = staged.collect::<Result<_, GpuError>>()?;
        let meets = |copy: &CopyPlace, step: &DeviceStep| {
            let mut places = step.inputs.iter().chain(&step.outputs).chain([&step.workspace]);
            places.any(|place| match place {
                Place::Arena { offset, bytes } => {
                    *offset < copy.offset + copy.bytes && copy.offset < offset + bytes
                }
                _ => false,
            })
        };
        let shared = copies.iter().map(|copy| {
            steps.iter().any(|(number, (_, step))| !copy.readers.contains(number) && meets(copy, step))
        });
        let shared = shared.collect();
        let mut needs: HashMap<usize, Vec<usize>> = HashMap::new();
        for (at, copy) in copies.iter().enumerate().filter(|(_, copy)| copy.up) {
            copy.readers.iter().for_each(|reader| needs.entry(*reader).or_default().push(at));
        }
        Ok(Self {
            program,
            steps,
            copies,
            shared,
            needs,
            staging: staged,
            arena: layout.arena,
            pinned: staging.0.max(1),
            stretch_of: stretches
                .iter()
                .enumerate()
                .flat_map(|(at, steps)| steps.iter().map(move |step| (*step, at)))
                .collect(),
            stretches,
            resident,
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
            pinned: self.pinned as u64,
            launches: self.launches as u64,
            flag_reads: 0,
        }
    }

    /// What they have weights in, in the order of the graph.
    pub(crate) fn stored(&self) -> Vec<StoredWeights> {
        let mut steps: Vec<_> = self.steps.iter().collect();
        steps.sort_unstable_by_key(|(number, _)| **number);
        steps.into_iter().flat_map(|(_, (_, step))| step.kernel.stored().to_vec()).collect()
    }

    /// The device for one run.
    pub(crate) fn begin(&self) -> Result<DeviceRun<'_>, GpuFailure> {
        let kept = self.states.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut state = match kept {
            Some(state) => state,
            None => self.state()?,
        };
        state.lanes.begin();
        let faults = self.steps.values().filter_map(|(_, step)| step.fault);
        let ends = self.copies.iter().zip(&self.staging).filter(|(copy, _)| !copy.up).map(|(_, at)| at.1);
        for word in faults.chain(ends) {
            state.pinned.set_word(word, 0)?;
        }
        Ok(DeviceRun { placed: self, state: Mutex::new(Some(state)) })
    }

    fn state(&self) -> Result<State, GpuFailure> {
        let gpu = self.program.gpu.gpu();
        let arena = self.program.gpu.allocate(self.arena)?;
        let (lanes, pinned) = (Lanes::new(gpu)?, gpu.pinned(self.pinned)?);
        let mut launches = HashMap::with_capacity(self.steps.len());
        for (&number, (node, step)) in &self.steps {
            let made = step.launches(&arena, &*pinned).map_err(|reject| {
                let node = &self.program.graph.nodes[*node];
                let why = GpuReject::Kernel(reject);
                GpuFailure::Rejected(vec![(node.name.to_string(), node.def.full_name(), why)])
            })?;
            made.iter().try_for_each(|launch| fits(gpu, &**launch))?;
            launches.insert(number, made);
        }
        let graphs = self.stretches.iter().map(|_| None).collect();
        Ok(State { lanes, pinned, arena, launches, graphs })
    }
}

fn lost(program: &GpuProgram) -> GpuFailure {
    super::node_error(&program.graph, usize::MAX, OpError::internal("an operand has no room")).into()
}

impl DeviceRun<'_> {
    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether step `number` runs here.
    pub(crate) fn has(&self, number: usize) -> bool {
        self.placed.steps.contains_key(&number)
    }

    /// Waits for everything that was given.
    pub(crate) fn wait(&self, interrupt: &Interrupt) -> Result<(), GpuError> {
        self.lock().as_mut().map_or(Err(given_up()), |state| state.lanes.finish(interrupt))
    }

    /// Marks this place in the stream.
    pub(super) fn record(&self) -> Result<Box<dyn Event>, GpuError> {
        self.lock().as_mut().map_or(Err(given_up()), |state| state.lanes.record())
    }

    /// The copies that these steps read.
    fn needs(&self, steps: &[usize]) -> impl Iterator<Item = usize> {
        steps.iter().filter_map(|step| self.placed.needs.get(step)).flatten().copied()
    }

    /// Those of these steps that are copied from.
    fn copied(&self, steps: &[usize]) -> impl Iterator<Item = usize> {
        let down = self.placed.copies.iter().filter(|copy| !copy.up);
        down.filter_map(|copy| copy.writer).filter(|writer| steps.contains(writer))
    }

    /// Launches step `number` alone.
    pub(crate) fn launch_alone(&self, number: usize) -> Result<(), GpuError> {
        let mut held = self.lock();
        let Some(State { lanes, launches, .. }) = &mut *held else { return Err(given_up()) };
        lanes.before(self.needs(&[number]))?;
        launches.get(&number).into_iter().flatten().try_for_each(|launch| lanes.launch(launch))?;
        lanes.behind(self.copied(&[number]));
        Ok(())
    }

    /// Launches the stretch that step `number` begins, where it begins one: what those behind it need is there, too.
    pub(crate) fn launch(&self, number: usize) -> Result<(), GpuError> {
        let PlacedSteps { stretches, stretch_of, .. } = self.placed;
        let Some(&at) = stretch_of.get(&number) else { return self.launch_alone(number) };
        if stretches[at].first() != Some(&number) {
            return Ok(());
        }
        let mut held = self.lock();
        let Some(State { lanes, launches, graphs, .. }) = &mut *held else { return Err(given_up()) };
        lanes.before(self.needs(&stretches[at]))?;
        if let Some(graph) = &graphs[at] {
            lanes.replay(&**graph)?;
        } else {
            let own: Vec<_> = stretches[at].iter().filter_map(|step| launches.get(step)).flatten().collect();
            own.iter().try_for_each(|launch| lanes.launch(launch))?;
            // What has run once is captured: the driver has loaded every kernel by then.
            if !own.is_empty() {
                let mut work =
                    |stream: &mut dyn crate::cuda::Stream| own.iter().try_for_each(|l| stream.launch(l));
                graphs[at] = Some(lanes.capture(&mut work)?);
            }
        }
        lanes.behind(self.copied(&stretches[at]));
        Ok(())
    }

    /// Copies `from`, which may be written again when this returns, to the device.
    pub(crate) fn up(&self, copy: usize, from: &[u8]) -> Result<(), GpuError> {
        let mut held = self.lock();
        let Some(State { lanes, pinned, arena, .. }) = &mut *held else { return Err(given_up()) };
        let (place, (staging, _)) = (&self.placed.copies[copy], self.placed.staging[copy]);
        pinned.write(staging, from)?;
        let to = arena.address() + place.offset as u64;
        let of = Transfer { to, from: pinned.address() + staging as u64, bytes: from.len() };
        lanes.copy_up(copy, self.placed.shared[copy], of)
    }

    /// Copies from the device to `to`, behind what makes it.
    pub(crate) fn down(&self, copy: usize, to: &mut [u8], interrupt: &Interrupt) -> Result<(), GpuError> {
        let mut held = self.lock();
        let Some(State { lanes, pinned, arena, .. }) = &mut *held else { return Err(given_up()) };
        let (place, (staging, word)) = (&self.placed.copies[copy], self.placed.staging[copy]);
        let from = arena.address() + place.offset as u64;
        let of = Transfer { to: pinned.address() + staging as u64, from, bytes: to.len() };
        // What no step makes lies there from the beginning.
        let writer = place.writer.unwrap_or(usize::MAX);
        lanes.copy_down(writer, of, (&**pinned, word), interrupt)?;
        pinned.read(staging, to)
    }

    /// Waits for what was given, and keeps the memory for later runs.
    pub(crate) fn end(self, interrupt: &Interrupt) -> Result<(), GpuFailure> {
        let mut held = self.lock();
        let Some(state) = &mut *held else { return Err(given_up().into()) };
        state.lanes.finish(interrupt)?;
        let mut fault = None;
        for (node, step) in self.placed.steps.values() {
            if let Some(offset) = step.fault {
                let mut word = [0; 4];
                state.pinned.read(offset, &mut word)?;
                fault = fault.or((word != [0; 4]).then_some(*node));
            }
        }
        let states = &self.placed.states;
        states.lock().unwrap_or_else(PoisonError::into_inner).extend(held.take());
        match fault {
            Some(node) => {
                let source = OpError::value("an index is outside its axis; a run on the CPU tells which");
                Err(super::node_error(&self.placed.program.graph, node, source).into())
            }
            None => Ok(()),
        }
    }
}

fn given_up() -> GpuError {
    GpuError::Lost { problem: "the run was given up".into() }
}

impl Drop for DeviceRun<'_> {
    fn drop(&mut self) {
        let Some(mut state) = self.lock().take() else { return };
        let wait = Interrupt { deadline: Some(Instant::now() + GRACE), cancel: None };
        match state.lanes.finish(&wait) {
            Ok(()) => self.placed.states.lock().unwrap_or_else(PoisonError::into_inner).push(state),
            // Work that does not end keeps its memory.
            Err(GpuError::Interrupted) => std::mem::forget(state),
            Err(_) => {}
        }
    }
}
