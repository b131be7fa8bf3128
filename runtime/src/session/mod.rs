//! Sessions: a model ready to run.

mod arguments;
mod buckets;
mod builder;
mod chosen;
mod deviations;
mod devices;
mod held_tensors;
mod inspect;
mod io_binding;
mod measuring;
mod measuring_device;
mod mode;
mod outputs;
mod placing;
mod plan_memory;
mod planning;
mod plans;
mod profiled;
mod run_options;
mod runner;
mod step_names;
mod stream;
mod variants;
mod ways;

pub use arguments::ValueSpec;
pub use buckets::Buckets;
pub use builder::{Fusion, SessionBuilder};
pub use devices::{LostDevice, Placement};
pub use inspect::{Apart, GraphInfo, NodeInfo, Parameters, Source};
pub use io_binding::{BoundInput, HostCopy, IoBinding};
pub use measuring::ProfileOptions;
pub use mode::{FrontPoint, Mode, PlanOptions, Planning};
pub use outputs::Outputs;
pub use plan_memory::ArenaUse;
pub use plans::Unplanned;
pub use profiled::ProfiledNode;
pub use run_options::RunOptions;
pub use stream::Stream;

use crate::cpu::{RunContext, Slot};
use crate::cuda::{GpuUse, HostTrip};
use crate::engine::Engine;
use crate::error::{Error, Misfit};
use crate::graph::{Fact, Node};
use crate::loops::members_of;
use crate::memory::Budget;
use crate::onnx::Metadata;
use crate::precision::{Stored, StoredWeights};
use crate::tensor::{TensorMut, Value, ValueRef};
use devices::PlanDevices;
use plans::Plans;
use runner::Runner;
use smallvec::SmallVec;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use variants::Rewritten;

/// A model, loaded and prepared. It may be run from several threads at once.
///
/// # Example
/// ```
/// # const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
/// use recurve::{Session, Tensor};
/// let session = Session::builder().with_threads(2).load_bytes(MODEL)?;
/// assert_eq!(&*session.inputs()[0].name, "question");
/// let question = Tensor::new(&[3, 1], vec![2i64, 10, 2])?; // "2+2"
/// let state = Tensor::new(&[1, 1, 128], vec![0f32; 128])?;
/// let outputs = session.run([("question", &question), ("h", &state), ("c", &state)])?;
/// assert_eq!(outputs.tensor("answer")?.as_slice::<i64>(), Some(&[4, 11, 11, 11, 11][..]));
/// # Ok::<(), recurve::Error>(())
/// ```
#[derive(Debug)]
pub struct Session {
    engine: Engine,
    budget: Budget,
    runner: Runner,
    fusion: crate::loops::Report,
    inputs: Vec<ValueSpec>,
    outputs: Vec<ValueSpec>,
    metadata: Metadata,
    parameters: Parameters,
    load_time: Duration,
    plans: Plans,
    devices: PlanDevices,
    rewritten: Rewritten,
    stored: Stored,
}

impl Session {
    /// Settings for loading a model.
    pub fn builder() -> SessionBuilder {
        SessionBuilder::default()
    }

    /// The model's inputs in order.
    pub fn inputs(&self) -> &[ValueSpec] {
        &self.inputs
    }

    /// The outputs in order.
    pub fn outputs(&self) -> &[ValueSpec] {
        &self.outputs
    }

    /// What the model says about itself.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The engine that runs it.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Time that reading and preparing took.
    pub fn load_time(&self) -> Duration {
        self.load_time
    }

    /// Bytes that the session holds now: weights, workspaces, and outputs that are still alive.
    pub fn memory_used(&self) -> usize {
        self.budget.used()
    }

    /// The weights that [`SessionBuilder::with_precision`] is about, and what each is stored in; on a GPU those of the shapes
    /// that were bound so far, where the model does not say them. Of weights that steps on a GPU read along the plan of the
    /// latest run it tells what these have them in.
    pub fn stored_weights(&self) -> Stored {
        let mut stored = self.runner.stored().unwrap_or_else(|| self.stored.clone());
        for there in self.plans.stored() {
            let own = |of: &StoredWeights| of.node == there.node && of.input == there.input;
            match stored.weights.iter_mut().find(|of| own(of)) {
                Some(own) => *own = there,
                None => stored.weights.push(there),
            }
        }
        stored
    }

    /// Nodes without a kernel for the GPU that ran on the CPU instead, as
    /// [`SessionBuilder::with_fallback`] allows, with what was copied for them: over all runs since loading, in the
    /// order of the graph.
    pub fn host_trips(&self) -> Vec<HostTrip> {
        let joined = |node: &Node| self.fusion.joined.iter().find(|joined| joined.name == node.name);
        let named = |(node, trip): (&Node, HostTrip)| HostTrip { members: members_of(node, joined), ..trip };
        self.runner.trips().into_iter().map(named).collect()
    }

    /// The GPU that plans no longer use since it failed, where [`SessionBuilder::with_fallback`] lets them go on without.
    pub fn lost_device(&self) -> Option<LostDevice> {
        self.devices.lost().cloned()
    }

    /// What the model takes of the GPU that it runs on: bytes by what they are for, and launches; for the shapes of the
    /// latest run, or those of the model where it says all; along a plan, what its part on the GPU takes. None on the CPU,
    /// and before shapes are known.
    pub fn gpu_use(&self) -> Option<GpuUse> {
        self.runner.gpu_use().or_else(|| self.plans.gpu_use())
    }

    /// Runs the model on named inputs. Where inputs do not fit, the error names all of them: [`Error::Argument`] for
    /// one, [`Error::Arguments`] for several.
    ///
    /// # Example
    /// ```
    /// # const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
    /// use recurve::{Session, Tensor};
    /// let session = Session::builder().load_bytes(MODEL)?;
    /// let question = Tensor::new(&[3, 1], vec![2i64, 10, 2])?; // "2+2"
    /// let state = Tensor::new(&[1, 1, 128], vec![0f32; 128])?;
    /// let inputs = [("question", &question), ("h", &state), ("c", &state)];
    /// let outputs = session.run(inputs)?;
    /// assert_eq!(outputs.tensor("answer")?.as_slice::<i64>(), Some(&[4, 11, 11, 11, 11][..])); // "4    "
    /// let error = session.run([("question", &state)]).expect_err("floats are no text, and the state is missing");
    /// assert!(error.to_string().starts_with("3 arguments do not fit"));
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn run<'a, V: Into<ValueRef<'a>>>(
        &self,
        inputs: impl IntoIterator<Item = (&'a str, V)>,
    ) -> Result<Outputs, Error> {
        self.run_with(inputs, &RunOptions::default())
    }

    /// Runs the model with a deadline or a cancel token.
    ///
    /// # Example
    /// ```
    /// # const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
    /// use recurve::{ErrorKind, RunOptions, Session, Tensor};
    /// use std::time::Duration;
    /// let session = Session::builder().load_bytes(MODEL)?;
    /// let question = Tensor::new(&[3, 1], vec![2i64, 10, 2])?; // "2+2"
    /// let state = Tensor::new(&[1, 1, 128], vec![0f32; 128])?;
    /// let inputs = [("question", &question), ("h", &state), ("c", &state)];
    /// session.run_with(inputs, &RunOptions::default().with_timeout(Duration::from_secs(60)))?;
    /// let late = session.run_with(inputs, &RunOptions::default().with_timeout(Duration::ZERO));
    /// assert_eq!(late.err().map(|error| error.kind()), Some(ErrorKind::Deadline));
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn run_with<'a, V: Into<ValueRef<'a>>>(
        &self,
        inputs: impl IntoIterator<Item = (&'a str, V)>,
        options: &RunOptions,
    ) -> Result<Outputs, Error> {
        let mut made: Vec<Option<Value>> = vec![None; self.outputs.len()];
        {
            let mut slots: SmallVec<[Slot<'_>; 4]> = made.iter_mut().map(Slot::Made).collect();
            self.execute(inputs, &mut slots, Vec::new(), options)?;
        }
        let values =
            made.into_iter().map(|v| v.ok_or_else(|| missing_output("output"))).collect::<Result<_, _>>()?;
        Ok(Outputs::new(self.outputs.iter().map(|o| o.name.clone()).collect(), values))
    }

    /// Runs the model and writes outputs to the caller's buffers, whose shapes are those that [`Session::outputs_for`]
    /// tells; outputs without a buffer are dropped. Where
    /// all outputs have one and no shape depends on data, a repeated call allocates nothing
    /// but the workspace of the `gemm` crate where products are left to it: those of more than four rows by a matrix that is
    /// no constant, of more than 256 rows, or of other types than `f32`, and convolutions that are such products.
    ///
    /// # Example
    /// ```
    /// # const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
    /// use recurve::{Session, TensorMut, TensorView};
    /// let session = Session::builder().load_bytes(MODEL)?;
    /// let (question, state, mut answer) = ([2i64, 10, 2], [0f32; 128], [0i64; 5]);
    /// session.run_into(
    ///     [
    ///         ("question", TensorView::new(&[3, 1], &question)?),
    ///         ("h", TensorView::new(&[1, 1, 128], &state)?),
    ///         ("c", TensorView::new(&[1, 1, 128], &state)?),
    ///     ],
    ///     &mut [("answer", TensorMut::new(&[5, 1], &mut answer)?)],
    /// )?;
    /// assert_eq!(answer, [4, 11, 11, 11, 11]);
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn run_into<'a, V: Into<ValueRef<'a>>>(
        &self,
        inputs: impl IntoIterator<Item = (&'a str, V)>,
        outputs: &mut [(&str, TensorMut<'_>)],
    ) -> Result<(), Error> {
        self.run_into_with(inputs, outputs, &RunOptions::default())
    }

    /// [`Session::run_into`] with a deadline or a cancel token.
    ///
    /// # Example
    /// ```
    /// # const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
    /// use recurve::{CancelToken, ErrorKind, RunOptions, Session, Tensor, TensorMut};
    /// let session = Session::builder().load_bytes(MODEL)?;
    /// let question = Tensor::new(&[3, 1], vec![2i64, 10, 2])?; // "2+2"
    /// let state = Tensor::new(&[1, 1, 128], vec![0f32; 128])?;
    /// let inputs = [("question", &question), ("h", &state), ("c", &state)];
    /// let (mut answer, token) = ([0i64; 5], CancelToken::new());
    /// let options = RunOptions::default().with_cancel(&token);
    /// session.run_into_with(inputs, &mut [("answer", TensorMut::new(&[5, 1], &mut answer)?)], &options)?;
    /// assert_eq!(answer, [4, 11, 11, 11, 11]);
    /// token.cancel(); // from any thread
    /// let ended = session.run_into_with(inputs, &mut [], &options);
    /// assert_eq!(ended.err().map(|error| error.kind()), Some(ErrorKind::Cancelled));
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn run_into_with<'a, V: Into<ValueRef<'a>>>(
        &self,
        inputs: impl IntoIterator<Item = (&'a str, V)>,
        outputs: &mut [(&str, TensorMut<'_>)],
        options: &RunOptions,
    ) -> Result<(), Error> {
        let mut dropped: SmallVec<[Option<Value>; 4]> = SmallVec::from_elem(None, self.outputs.len());
        let mut slots: SmallVec<[Slot<'_>; 4]> = dropped.iter_mut().map(Slot::Made).collect();
        let mut misfits = Vec::new();
        for (name, tensor) in outputs {
            let Some(index) = self.outputs.iter().position(|o| &*o.name == *name) else {
                misfits.push(arguments::unknown("output", name, &self.outputs));
                continue;
            };
            if matches!(slots[index], Slot::Fixed { .. }) {
                misfits.push(arguments::misfit("output", name, "is given twice"));
            }
            let fact = &self.outputs[index].fact;
            if !matches!(fact, Fact::Tensor(_)) {
                let problem = format!("is {}; a buffer takes a tensor", arguments::kind_of(fact));
                misfits.push(arguments::misfit("output", name, problem));
            }
            let bytes = tensor.parts();
            slots[index] = Slot::Fixed { dtype: bytes.0, shape: bytes.1, bytes: bytes.2 };
        }
        self.execute(inputs, &mut slots, misfits, options)
    }

    /// A stream that keeps the model's recurrent state between calls, with state pairs found by name. Input `h` is
    /// fed by `h_out`, `h_output`, `h.out`, `hN`, `hn`, `h_n`, `h_next`, `h_new`, `new_h`, `next_h`, `out_h` or `output_h`;
    /// and an output feeds the input of the same name with `out` for `in`, `output` for `input`, `n` for `0`, `next` for
    /// `prev`, `present` for `past`, `final` for `init` or `initial`, as exporters affix them. [`Stream::pairs`] tells what
    /// was found.
    ///
    /// # Example
    /// ```
    /// # const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
    /// use recurve::{Session, Tensor};
    /// let session = Session::builder().load_bytes(MODEL)?;
    /// let mut stream = session.stream()?;
    /// assert_eq!(stream.pairs().collect::<Vec<_>>(), [("h_out", "h"), ("c_out", "c")]);
    /// let mut answer = Vec::new();
    /// for token in [2i64, 10, 2] { // "2+2", character by character
    ///     let outputs = stream.run([("question", &Tensor::new(&[1, 1], vec![token])?)])?;
    ///     answer = outputs.tensor("answer")?.to_vec::<i64>().unwrap_or_default();
    /// }
    /// assert_eq!(answer, [4, 11, 11, 11, 11]);
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn stream(&self) -> Result<Stream<'_>, Error> {
        Stream::by_name(self)
    }

    /// A stream with state pairs given as (output, input).
    ///
    /// # Example
    /// ```
    /// # const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
    /// use recurve::{Session, Tensor};
    /// let session = Session::builder().with_threads(1).load_bytes(MODEL)?;
    /// let mut stream = session.stream_with(&[("h_out", "h"), ("c_out", "c")])?;
    /// let first = stream.run([("question", &Tensor::new(&[2, 1], vec![3i64, 4])?)])?; // "34"
    /// let more = stream.run([("question", &Tensor::new(&[4, 1], vec![7i64, 10, 5, 8])?)])?; // "7+58"
    /// assert_eq!(more.tensor("answer")?.as_slice::<i64>(), Some(&[4, 0, 5, 11, 11][..])); // "405  "
    /// # drop(first);
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn stream_with(&self, pairs: &[(&str, &str)]) -> Result<Stream<'_>, Error> {
        Stream::new(self, pairs)
    }

    fn execute<'a, V: Into<ValueRef<'a>>>(
        &self,
        inputs: impl IntoIterator<Item = (&'a str, V)>,
        slots: &mut [Slot<'_>],
        misfits: Vec<Misfit>,
        options: &RunOptions,
    ) -> Result<(), Error> {
        self.with_values(inputs, misfits, options, |values, context| {
            if let Some(followed) = self.plans.choose(self, values, context)? {
                match followed.run(values, slots, &self.outputs, context) {
                    // Nothing of the run is kept: it is made again without the GPU.
                    Err(error) if self.devices.give_up(&error) => self.plans.forget_devices(),
                    ended => return ended,
                }
            }
            self.runner.run(values, slots, &self.outputs, context)
        })
    }

    /// Calls `body` with the inputs in order, checked.
    fn with_values<'a, V: Into<ValueRef<'a>>, T>(
        &self,
        inputs: impl IntoIterator<Item = (&'a str, V)>,
        mut misfits: Vec<Misfit>,
        options: &RunOptions,
        body: impl FnOnce(&[ValueRef<'_>], RunContext<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let interrupt = options.interrupt();
        let context = RunContext {
            team: &self.engine.0.team,
            interrupt: &interrupt,
            budget: &self.budget,
            times: options.times(),
        };
        let mut given: SmallVec<[Option<ValueRef<'_>>; 8]> = SmallVec::from_elem(None, self.inputs.len());
        for (name, value) in inputs {
            let Some(index) = self.inputs.iter().position(|i| &*i.name == name) else {
                misfits.push(arguments::unknown("input", name, &self.inputs));
                continue;
            };
            if given[index].replace(value.into()).is_some() {
                misfits.push(arguments::misfit("input", name, "is given twice"));
            }
        }
        let copies = arguments::check(&self.inputs, &given, misfits, context)?;
        let values: SmallVec<[ValueRef<'_>; 8]> = given
            .iter()
            .enumerate()
            .filter_map(|(i, v)| copies.iter().find(|(at, _)| *at == i).map(|(_, t)| t.view().into()).or(*v))
            .collect();
        // A kernel that panics is a bug; it must not take the caller's process down, and leaves nothing behind
        // that a later run would see.
        let ran = catch_unwind(AssertUnwindSafe(|| body(&values, context)));
        ran.unwrap_or_else(|panic| {
            let what = panic.downcast_ref::<String>().cloned();
            let what = what.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            Err(Error::Internal { what: format!("a kernel panicked: {}", what.unwrap_or_default()) })
        })
    }
}

fn missing_output(name: &str) -> Error {
    Error::Internal { what: format!("{name} was not made") }
}
