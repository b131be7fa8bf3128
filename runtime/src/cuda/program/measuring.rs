//! What a GPU costs: one step's launches, launches that do nothing, and copies both ways.

use super::order::Action;
use super::placed::{CopyPlace, DeviceRun, Layout, PlacedSteps, Sequence};
use super::{GpuFailure, GpuProgram};
use crate::cost::{BESIDE, Effort, Measured, measure};
use crate::cuda::{Direct, GpuError, OpenGpu};
use crate::exec::{DeviceForm, Interrupt, Operand, Space};
use recurve_kernels::launch::{Device, Launch};
use recurve_kernels::probe::empty;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Launches that are timed together.
const TOGETHER: u32 = 16;
/// Bytes of the copies that are timed: the smallest and the largest give latency and bandwidth.
const SIZES: [usize; 3] = [4, 64 << 10, 4 << 20];

/// What handing work to a GPU costs.
#[derive(Clone, Debug)]
pub(crate) struct Overheads {
    /// One launch among others.
    pub(crate) kernel: Option<Measured>,
    /// One node of a captured graph.
    pub(crate) graph_node: Option<Measured>,
    /// From a launch until the host knows of its end.
    pub(crate) round_trip: Option<Measured>,
    /// A launch that waits for one in another stream.
    pub(crate) event: Option<Measured>,
    /// Copies by bytes: to the device, and from it.
    pub(crate) copies: Vec<(usize, [Option<Measured>; 2])>,
}

impl OpenGpu {
    /// Measures what handing it work costs.
    pub(crate) fn overheads(
        self: &Arc<Self>,
        device: &Device,
        effort: Effort,
        interrupt: &Interrupt,
    ) -> Result<Overheads, GpuError> {
        let refused = |reject| GpuError::Launch { kernel: "empty".into(), problem: format!("{reject}") };
        let launch: Arc<dyn Launch> = Arc::new(empty(1, device).map_err(refused)?);
        let most = SIZES.into_iter().max().unwrap_or(0);
        let (block, pinned) = (self.allocate(most)?, self.gpu().pinned(most)?);
        let mut stream = self.gpu().stream()?;
        stream.launch(&launch)?;
        stream.finish(interrupt)?;
        let round_trip = measure(effort, || {
            let start = Instant::now();
            stream.launch(&launch)?;
            stream.finish(interrupt)?;
            Ok::<_, GpuError>(start.elapsed())
        })?;
        let kernel = measure(effort, || {
            let start = Instant::now();
            (0..TOGETHER).try_for_each(|_| stream.launch(&launch))?;
            stream.finish(interrupt)?;
            Ok::<_, GpuError>(start.elapsed() / TOGETHER)
        })?;
        let graph = stream.capture(&mut |stream| (0..TOGETHER).try_for_each(|_| stream.launch(&launch)))?;
        let graph_node = measure(effort, || {
            let start = Instant::now();
            stream.replay(&*graph)?;
            stream.finish(interrupt)?;
            Ok::<_, GpuError>(start.elapsed() / TOGETHER)
        })?;
        let mut other = self.gpu().stream()?;
        let event = measure(effort, || {
            let start = Instant::now();
            for _ in 0..TOGETHER / 2 {
                stream.launch(&launch)?;
                other.wait(&*stream.record()?)?;
                other.launch(&launch)?;
                stream.wait(&*other.record()?)?;
            }
            stream.finish(interrupt)?;
            Ok::<_, GpuError>(start.elapsed() / TOGETHER)
        })?;
        let mut copies = Vec::with_capacity(SIZES.len());
        let mut host = vec![1u8; most];
        for bytes in SIZES {
            let up = measure(effort, || {
                let start = Instant::now();
                pinned.write(0, &host[..bytes])?;
                stream.copy(block.address(), pinned.address(), bytes)?;
                stream.finish(interrupt)?;
                Ok::<_, GpuError>(start.elapsed())
            })?;
            let down = measure(effort, || {
                let start = Instant::now();
                stream.copy(pinned.address(), block.address(), bytes)?;
                stream.finish(interrupt)?;
                pinned.read(0, &mut host[..bytes])?;
                Ok::<_, GpuError>(start.elapsed())
            })?;
            copies.push((bytes, [up, down]));
        }
        Ok(Overheads { kernel, graph_node, round_trip, event, copies })
    }
}

impl GpuProgram {
    /// The GPU.
    pub(crate) fn gpu(&self) -> &Arc<OpenGpu> {
        self.gpu.open()
    }

    /// Measures a step by itself, on operands of zeros, and several of it side by side; no such measurement where the device
    /// has no memory for them.
    pub(crate) fn measure(
        self: &Arc<Self>,
        form: DeviceForm,
        effort: Effort,
        interrupt: &Interrupt,
    ) -> Result<(Option<Measured>, Option<Measured>), GpuFailure> {
        let lone = Lone::new(self, vec![form], interrupt)?;
        let mut runs = vec![lone.begin()?];
        let alone = measure(effort, || timed(&runs, 1, interrupt))?;
        while runs.len() < BESIDE {
            match lone.begin() {
                Ok(run) => runs.push(run),
                Err(GpuFailure::Gpu(GpuError::OutOfMemory { .. } | GpuError::Limit { .. })) => break,
                Err(error) => return Err(error),
            }
        }
        let all = runs.len() == BESIDE;
        let beside = if all { measure(effort, || timed(&runs, 1, interrupt))? } else { None };
        runs.into_iter().try_for_each(|run| run.end(interrupt))?;
        Ok((alone, beside))
    }

    /// Measures steps one right behind the other in one stream, captured as plans have them, on operands of zeros; `None` where
    /// the device has no memory for all that they touch.
    pub(crate) fn measure_together(
        self: &Arc<Self>,
        forms: Vec<DeviceForm>,
        effort: Effort,
        interrupt: &Interrupt,
    ) -> Result<Option<Measured>, GpuFailure> {
        let steps = forms.len();
        let once = || -> Result<Option<Measured>, GpuFailure> {
            let lone = Lone::new(self, forms, interrupt)?;
            let runs = [lone.begin()?];
            let together = measure(effort, || timed(&runs, steps, interrupt))?;
            runs.into_iter().try_for_each(|run| run.end(interrupt))?;
            Ok(together)
        };
        match once() {
            Err(GpuFailure::Gpu(GpuError::OutOfMemory { .. } | GpuError::Limit { .. })) => Ok(None),
            measured => measured,
        }
    }
}

/// Steps by themselves in one stream, with a room for each space that they touch.
struct Lone {
    placed: PlacedSteps,
    /// Bytes of the copies that fill the rooms.
    rooms: Vec<usize>,
    direct: Direct,
}

impl Lone {
    fn new(
        program: &Arc<GpuProgram>,
        forms: Vec<DeviceForm>,
        interrupt: &Interrupt,
    ) -> Result<Self, GpuFailure> {
        let mut rooms: BTreeMap<Space, usize> = BTreeMap::new();
        for operand in forms.iter().flat_map(|form| form.inputs.iter().chain(&form.outputs)) {
            if let Operand::In { space, offset, bytes } = operand {
                let room = rooms.entry(*space).or_default();
                *room = (*room).max(offset.saturating_add(*bytes));
            }
        }
        let mut arena = 0usize;
        let mut place = |bytes: usize| {
            let offset = arena;
            let end = offset.checked_add(bytes).and_then(|n| n.checked_next_multiple_of(256));
            arena = end.ok_or(GpuError::Limit { requested: bytes, limit: usize::MAX })?;
            Ok::<usize, GpuError>(offset)
        };
        let mut offsets = BTreeMap::new();
        let mut copies = Vec::new();
        for (space, bytes) in rooms {
            let offset = place(bytes)?;
            offsets.insert(space, offset);
            copies.push(CopyPlace { up: true, offset, bytes, weights: None });
        }
        let workspace = place(forms.iter().map(|form| form.kernel.workspace()).max().unwrap_or(0))?;
        let space = |space: Space| offsets.get(&space).copied();
        let rooms: Vec<usize> = copies.iter().map(|copy| copy.bytes).collect();
        let layout = Layout { space: &space, workspace: &|_| Some(workspace), arena };
        let fills = (0..copies.len()).map(|copy| vec![Action::Copy(copy)]);
        let steps = (0..forms.len()).map(Action::Step).collect();
        let sequence = Sequence { parts: fills.chain([steps]).collect(), streams: HashMap::new() };
        let forms = forms.into_iter().enumerate().collect();
        let placed = PlacedSteps::new(program.clone(), forms, (copies, &sequence), &layout, interrupt)?;
        Ok(Self { placed, rooms, direct: Direct::default() })
    }

    /// A run whose rooms hold zeros.
    fn begin(&self) -> Result<DeviceRun<'_>, GpuFailure> {
        let run = self.placed.begin(HashMap::new(), &self.direct)?;
        let mut rooms = self.rooms.iter().enumerate();
        rooms.try_for_each(|(copy, bytes)| run.up(copy, &vec![0; *bytes], true))?;
        Ok(run)
    }
}

/// Launches the steps in each of these runs, as plans do, and tells how long all of them took on the device.
fn timed(runs: &[DeviceRun<'_>], steps: usize, interrupt: &Interrupt) -> Result<Duration, GpuError> {
    let [first, ..] = runs else { return Ok(Duration::ZERO) };
    let before = first.record(0)?;
    runs.iter().try_for_each(|run| (0..steps).try_for_each(|step| run.launch(step)))?;
    let after = runs.iter().map(|run| run.record(0)).collect::<Result<Vec<_>, _>>()?;
    runs.iter().try_for_each(|run| run.wait(interrupt))?;
    let mut milliseconds = 0.0f32;
    for end in &after {
        milliseconds = milliseconds.max(end.milliseconds_since(&*before)?);
    }
    Ok(Duration::from_secs_f32(milliseconds / 1e3))
}
