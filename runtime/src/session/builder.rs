//! Settings of a session, and loading.

use super::arguments::{ValueSpec, refuse};
use super::buckets::Buckets;
use super::devices::{Placement, PlanDevices};
use super::mode::Mode;
use super::plans::Plans;
use super::runner::{self, Runner};
use super::variants::Rewritten;
use super::{Parameters, Session};
use crate::cost::ProfileCache;
use crate::cpu::RunContext;
use crate::cuda::{Allowance, GpuProgram};
use crate::device::{Device, Devices, Fallback};
use crate::engine::Engine;
use crate::error::Error;
use crate::exec::{BuildContext, Interrupt, Program};
use crate::graph::{Fact, NodeError, Rewrites};
use crate::loops::BranchesOfShapes;
use crate::memory::Budget;
use crate::onnx::{self, Model};
use crate::precision::{Precision, Storing};
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Whether operators are fused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Fusion {
    /// Where it saves time.
    #[default]
    On,
    /// Every operator is a kernel of its own: to compare with, or to find where a difference comes from.
    Off,
}

/// Settings of a [`Session`].
///
/// # Example
/// ```
/// # const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
/// use recurve::{ErrorKind, Session};
/// let session = Session::builder().with_outputs(&["answer"]).with_memory_limit(64 << 20).load_bytes(MODEL)?;
/// assert_eq!(session.outputs().len(), 1);
/// let refused = Session::builder().with_memory_limit(1 << 10).load_bytes(MODEL);
/// assert_eq!(refused.err().map(|error| error.kind()), Some(ErrorKind::MemoryLimit));
/// # Ok::<(), recurve::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct SessionBuilder {
    engine: Option<Engine>,
    threads: Option<usize>,
    memory_limit: Option<usize>,
    outputs: Option<Vec<String>>,
    fusion: Fusion,
    device: Device,
    fallback: Fallback,
    mode: Mode,
    /// Where none is given, the engine's.
    #[allow(clippy::option_option, reason = "whether it is given, and whether there is one")]
    cache: Option<Option<ProfileCache>>,
    refresh: bool,
    buckets: Buckets,
    devices: Devices,
    gpu_memory_limit: Option<usize>,
    placements: Vec<Placement>,
    precision: Precision,
}

impl SessionBuilder {
    /// Runs on `engine` instead of the process's default one.
    pub fn with_engine(mut self, engine: &Engine) -> Self {
        self.engine = Some(engine.clone());
        self
    }

    /// Runs on the default engine of this many threads, the caller's included; by default one per core. It
    /// cannot be combined with [`SessionBuilder::with_engine`].
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Most bytes of tensors, weights and workspaces that the session may hold.
    pub fn with_memory_limit(mut self, bytes: usize) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// Computes only these outputs, in this order. Other values of the main graph may be named too.
    pub fn with_outputs<S: AsRef<str>>(mut self, names: &[S]) -> Self {
        self.outputs = Some(names.iter().map(|n| n.as_ref().to_owned()).collect());
        self
    }

    /// Whether operators are fused, and recurrent cells that the model spells out put together; by default they
    /// are. Results may differ in their last bits.
    pub fn with_fusion(mut self, fusion: Fusion) -> Self {
        self.fusion = fusion;
        self
    }

    /// Where operators run; by default on the CPU. A node that has no kernel for a GPU is an error when the shapes of the
    /// inputs are known, unless [`SessionBuilder::with_fallback`] allows it to run on the CPU.
    pub fn with_device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// What becomes of operators without a kernel for the GPU; by default they are refused. Without a GPU it has no effect.
    ///
    /// # Example
    /// ```
    /// # const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
    /// use recurve::{Device, Fallback, Session};
    /// let builder = Session::builder().with_device(Device::Emulated).with_fallback(Fallback::Cpu);
    /// let session = builder.load_bytes(MODEL)?;
    /// assert!(session.host_trips().is_empty(), "nothing has run yet");
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn with_fallback(mut self, fallback: Fallback) -> Self {
        self.fallback = fallback;
        self
    }

    /// How operators are placed on the threads; by default one after the other on all of them.
    ///
    /// # Example
    /// ```
    /// # const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
    /// use recurve::{Session, Tensor};
    /// use recurve::settings::Mode;
    /// // Without a cache everything is measured at the first run.
    /// let builder = Session::builder().with_threads(2).with_mode(Mode::Latency).with_profile_cache(None);
    /// let session = builder.load_bytes(MODEL)?;
    /// let question = Tensor::new(&[6, 1], vec![3i64, 4, 7, 10, 5, 8])?;
    /// let state = Tensor::new(&[1, 1, 128], vec![0f32; 128])?;
    /// let inputs = [("question", &question), ("h", &state), ("c", &state)];
    /// session.run(inputs)?;
    /// let shapes = || inputs.map(|(name, tensor)| (name, tensor.shape()));
    /// // A plan is followed, or there is a reason why none is.
    /// assert!(session.followed(shapes()).is_some() != session.unplanned(shapes()).is_some());
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn with_mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// What plans may use; by default the threads alone. The GPU is opened when a plan that uses it is followed. The number
    /// of threads is that of [`SessionBuilder::with_threads`] where none is given here.
    pub fn with_devices(mut self, devices: Devices) -> Self {
        self.devices = devices;
        self
    }

    /// Most bytes of the GPU's memory that the session may hold, where it runs on one, or else that a plan may use: weights,
    /// activations and workspaces. Where the engine's limit is lower, that one decides. Tensors of
    /// [`Engine::gpu_tensor`](crate::Engine::gpu_tensor) are the caller's own, and count for the engine alone.
    ///
    /// # Example
    /// ```
    /// # const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
    /// use recurve::gpu::GpuError;
    /// use recurve::{Device, Error, Session, Tensor};
    /// let builder = Session::builder().with_device(Device::Emulated).with_gpu_memory_limit(64 << 10);
    /// let session = builder.load_bytes(MODEL)?;
    /// let question = Tensor::new(&[3, 1], vec![2i64, 10, 2])?;
    /// let state = Tensor::new(&[1, 1, 128], vec![0f32; 128])?;
    /// let refused = session.run([("question", &question), ("h", &state), ("c", &state)]).err();
    /// let Some(Error::Gpu { source: GpuError::Limit { requested, limit }, .. }) = refused else {
    ///     return Err("64 KiB hold neither the weights nor what is computed".into());
    /// };
    /// assert!(requested > 0 && limit == 64 << 10);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_gpu_memory_limit(mut self, bytes: usize) -> Self {
        self.gpu_memory_limit = Some(bytes);
        self
    }

    /// Where nodes of some names have to run in plans; of several that fit a node the last counts.
    pub fn with_placements(mut self, placements: impl IntoIterator<Item = Placement>) -> Self {
        self.placements = placements.into_iter().collect();
        self
    }

    /// The format that the weights of recurrences, and of products of few rows, are stored in; by default that of the model.
    /// Arithmetic on the CPU is that of the model's type; [`Precision`] says what a GPU does. [`Session::stored_weights`]
    /// tells what came of it, and [`Session::deviations`] what it does to the outputs. Along a plan over a GPU each step is
    /// what the precision makes of it where it runs.
    ///
    /// # Example
    /// ```
    /// # const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
    /// use recurve::Session;
    /// use recurve::settings::Precision;
    /// let session = Session::builder().with_precision(Precision::F16).load_bytes(MODEL)?;
    /// let stored = session.stored_weights();
    /// assert!(!stored.weights.is_empty() && stored.weights.iter().all(|w| w.kept.is_none()));
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// Where [`Mode::Latency`] keeps what it measures, or `None` for nowhere; by default where the engine does,
    /// [`EngineBuilder::with_profile_cache`](crate::EngineBuilder::with_profile_cache).
    pub fn with_profile_cache(mut self, cache: impl Into<Option<ProfileCache>>) -> Self {
        self.cache = Some(cache.into());
        self
    }

    /// Measures what the profile cache has, too, tries plans again, and keeps what comes of it in the place of what was there:
    /// for [`Mode::Latency`] and [`Mode::Memory`], at the first run with inputs of each bucket of shapes.
    pub fn with_profile_refresh(mut self) -> Self {
        self.refresh = true;
        self
    }

    /// Which shapes of inputs share what [`Mode::Latency`] and [`Mode::Memory`] measured for the first of them.
    pub fn with_buckets(mut self, buckets: Buckets) -> Self {
        self.buckets = buckets;
        self
    }

    /// Loads the ONNX model at `path`. The file must not change while the session lives: weights may be read
    /// from it in place.
    ///
    /// # Example
    /// ```
    /// # const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx");
    /// use recurve::Session;
    /// let session = Session::builder().with_threads(1).load(PATH)?;
    /// assert_eq!(&*session.inputs()[0].name, "question");
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn load(self, path: impl AsRef<Path>) -> Result<Session, Error> {
        let start = Instant::now();
        self.prepare(start, |budget| onnx::read_path(path.as_ref(), budget))
    }

    /// Loads an ONNX model from bytes: a `Vec<u8>`, a `&'static [u8]`, or [`bytes::Bytes`].
    ///
    /// # Example
    /// ```
    /// # const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
    /// use recurve::Session;
    /// let session = Session::builder().load_bytes(MODEL)?;
    /// assert_eq!(session.metadata().opsets, [(String::new(), 17)]);
    /// assert!(session.metadata().custom.iter().any(|(key, _)| key == "vocabulary"));
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn load_bytes(self, bytes: impl Into<Bytes>) -> Result<Session, Error> {
        let start = Instant::now();
        self.prepare(start, |budget| onnx::read_bytes(&bytes.into(), budget))
    }

    fn prepare(
        self,
        start: Instant,
        read: impl FnOnce(&Budget) -> Result<Model, Error>,
    ) -> Result<Session, Error> {
        let threads = self.threads.or(self.devices.threads);
        if self.devices.gpu.is_some() && self.device != Device::Cpu {
            let problem = "has a GPU beside a device that runs everything".into();
            return Err(Error::Setting { name: "devices", problem });
        }
        let of_cpu = self.device == Device::Cpu && self.devices.gpu.is_none();
        if of_cpu && self.gpu_memory_limit.is_some() {
            let problem = "is for a GPU, and neither the model nor plans use one".into();
            return Err(Error::Setting { name: "gpu-memory-limit", problem });
        }
        if let (None, Some(wanted)) = (self.threads, self.devices.threads) {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            if wanted > cores {
                let there = if cores == 1 { "cpu:0".to_owned() } else { format!("cpu:0-{}", cores - 1) };
                let problem = format!("names {wanted} cores, `cpu:0-{}`; here are `{there}`", wanted - 1);
                return Err(Error::Setting { name: "devices", problem });
            }
        }
        if self.precision == Precision::Int8 && !of_cpu {
            let problem =
                "is `int8`, which is for the CPU alone: a GPU takes `f16`, `bf16` and `tf32`".into();
            return Err(Error::Setting { name: "precision", problem });
        }
        if self.precision == Precision::Tf32 && of_cpu {
            let problem = "is `tf32`, which is for GPUs alone".into();
            return Err(Error::Setting { name: "precision", problem });
        }
        let engine = match (self.engine, threads) {
            (Some(_), Some(_)) => {
                let problem = "is given beside an engine, which has its own".into();
                return Err(Error::Setting { name: "threads", problem });
            }
            (Some(engine), None) => engine,
            (None, threads) => Engine::default_for(threads)?,
        };
        let budget = Budget::within(self.memory_limit.unwrap_or(usize::MAX), Some(engine.0.budget.clone()));
        let Model { mut graph, metadata, files, mut refusals } = read(&budget)?;
        if let Some(names) = &self.outputs {
            graph.outputs = names
                .iter()
                .map(|name| {
                    let at = graph.values.iter().position(|v| *v.name == **name);
                    at.and_then(|i| graph.id(i))
                        .ok_or_else(|| refuse("output", name, "is not a value of the model"))
                })
                .collect::<Result<_, _>>()?;
        }
        let opset = metadata.opsets.iter().find(|(d, _)| d.is_empty()).map_or(0, |(_, v)| *v);
        if refusals.is_empty() || graph.nodes.len() < 100_000 {
            match crate::graph::check(&graph, opset) {
                Ok(more) => refusals.extend(more),
                // With nodes missing, contradictions may be theirs.
                Err(error) if refusals.is_empty() => return Err(NodeError::at_load(error)),
                Err(_) => {}
            }
        }
        if !refusals.is_empty() {
            return Err(Error::Unsupported { refusals });
        }
        let names: Vec<_> = graph.outputs.iter().map(|&id| graph.value(id).name.clone()).collect();
        let mut graph =
            crate::graph::simplify(graph, Rewrites { recurrences: self.fusion == Fusion::On }, &budget)
                .map_err(NodeError::at_load)?;
        let release = |part: &[u8]| files.iter().for_each(|f| f.release(part));
        // Duplicates and what was folded are never read again; pages that are come back from the file one by one.
        files.iter().for_each(|file| file.release(&file.bytes()));
        crate::graph::exchange_weights(&mut graph, self.precision.stored(), &budget, &release);
        let declared: Vec<Fact> =
            graph.inputs.iter().filter_map(|&id| graph.value(id).declared.clone()).collect();
        let facts = crate::graph::infer(&graph, &declared).map_err(NodeError::at_load)?;
        let inputs = graph
            .inputs
            .iter()
            .zip(&declared)
            .map(|(&id, fact)| ValueSpec { name: graph.value(id).name.clone(), fact: fact.clone() })
            .collect();
        let outputs = graph
            .outputs
            .iter()
            .zip(names)
            .map(|(&id, name)| {
                let fact = facts[id.index()].clone();
                let fact = fact.ok_or_else(|| Error::model(format!("output `{name}` is never written")))?;
                Ok(ValueSpec { name, fact })
            })
            .collect::<Result<_, Error>>()?;
        let (graph, fusion) = match self.fusion {
            Fusion::On => {
                if of_cpu {
                    crate::loops::block_channels(&mut graph, &facts);
                }
                // What weights are stored in is told when a model is loaded.
                let branches = match self.precision {
                    Precision::F32 if of_cpu => BranchesOfShapes::WhenBound,
                    _ => BranchesOfShapes::AsTheyAre,
                };
                crate::loops::fuse(graph, &declared, &budget, branches)
            }
            Fusion::Off => (graph, crate::loops::Report::default()),
        };
        let parameters = Parameters::of(&graph);
        let storing = Storing::new(self.precision);
        let runner = match self.device {
            Device::Cpu => {
                let (budget, threads) = (&budget, engine.threads());
                let context = BuildContext { budget, threads, release: &release, storing: &storing };
                Runner::Cpu(Arc::new(Program::build(graph, context).map_err(NodeError::at_load)?))
            }
            device => {
                let failed = |source| Error::Gpu { device, source };
                let gpu = engine.0.gpu(device).map_err(failed)?;
                let gpu = Allowance::new(gpu, self.gpu_memory_limit);
                let host = (self.fallback, engine.threads());
                let program =
                    GpuProgram::new(graph, gpu, budget.clone(), host, self.precision).map_err(failed)?;
                self.precision.check_capability(program.device().capability)?;
                let (team, interrupt) = (&engine.0.team, &Interrupt::default());
                let context = RunContext { team, interrupt, budget: &budget, times: None };
                let prepared = program.prepare(&declared, context);
                prepared.map_err(|failure| runner::at_load(failure, device, opset, context))?;
                Runner::Gpu { device, program: Box::new(program), opset }
            }
        };
        let load_time = start.elapsed();
        let cache = self.cache.unwrap_or_else(|| engine.0.profiles.clone());
        let plans = Plans::new(self.mode, cache, self.refresh, self.buckets);
        let (gpu, limit) = (self.devices.gpu, self.gpu_memory_limit);
        let devices = PlanDevices::new(gpu, limit, self.placements, self.fallback);
        Ok(Session {
            engine,
            budget,
            runner,
            fusion,
            inputs,
            outputs,
            metadata,
            parameters,
            load_time,
            plans,
            devices,
            rewritten: Rewritten::default(),
            stored: storing.finish(),
        })
    }
}
