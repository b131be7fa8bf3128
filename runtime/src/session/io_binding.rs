//! Runs whose inputs and outputs lie where a GPU reads and writes them: what the caller binds, checked.

use super::arguments::{Symbols, misfit, problem_of, unknown};
use super::held_tensors::HeldTensors;
use super::runner::Runner;
use super::{Outputs, RunOptions, Session};
use crate::cuda::GpuTensor;
use crate::device::Device;
use crate::error::Error;
use crate::tensor::{Tensor, TensorView, Value, ValueRef};
use smallvec::SmallVec;
use std::sync::Arc;

/// A run's inputs and outputs, of which some lie where a GPU reads and writes them; see [`Session::io_binding`]. It can run
/// any number of times, on what the tensors hold then.
#[derive(Clone, Debug)]
pub struct IoBinding<'a> {
    session: &'a Session,
    inputs: Vec<(String, BoundInput<'a>)>,
    outputs: Vec<(String, GpuTensor)>,
}

/// An input of an [`IoBinding`]: made from a [`GpuTensor`], or from any value of the host that [`Session::run`] takes.
#[derive(Clone, Debug)]
pub struct BoundInput<'a>(Bound<'a>);

#[derive(Clone, Debug)]
enum Bound<'a> {
    Host(ValueRef<'a>),
    Gpu(GpuTensor),
}

/// An input or output in memory for a GPU that passed through the host in a run, since the host needs it, or makes it; see
/// [`Outputs::host_copies`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct HostCopy {
    /// `input` or `output`.
    pub role: &'static str,
    /// Its name.
    pub name: Arc<str>,
    /// Bytes that were copied.
    pub bytes: usize,
}

impl From<&GpuTensor> for BoundInput<'_> {
    fn from(tensor: &GpuTensor) -> Self {
        Self(Bound::Gpu(tensor.clone()))
    }
}

impl<'a> From<&'a Tensor> for BoundInput<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Self(Bound::Host(tensor.into()))
    }
}

impl<'a> From<&'a Value> for BoundInput<'a> {
    fn from(value: &'a Value) -> Self {
        Self(Bound::Host(value.into()))
    }
}

impl<'a> From<TensorView<'a>> for BoundInput<'a> {
    fn from(view: TensorView<'a>) -> Self {
        Self(Bound::Host(view.into()))
    }
}

impl<'a> From<ValueRef<'a>> for BoundInput<'a> {
    fn from(value: ValueRef<'a>) -> Self {
        Self(Bound::Host(value))
    }
}

/// No bytes, aligned for every element type.
fn no_bytes() -> &'static [u8] {
    bytemuck::cast_slice::<u128, u8>(&[])
}

/// What stands for a tensor whose content is on the device: its form.
fn form_of(tensor: &GpuTensor) -> ValueRef<'_> {
    TensorView::over_bytes(tensor.dtype(), tensor.shape(), no_bytes()).into()
}

impl<'a> IoBinding<'a> {
    fn new(session: &'a Session) -> Self {
        Self { session, inputs: Vec::new(), outputs: Vec::new() }
    }

    /// Input `name`: a [`GpuTensor`], or a value of the host.
    pub fn input(mut self, name: impl Into<String>, value: impl Into<BoundInput<'a>>) -> Self {
        self.inputs.push((name.into(), value.into()));
        self
    }

    /// Output `name` is written to `tensor`, and does not come back among [`Outputs`]. The tensor has the output's element
    /// type and shape, which [`Session::outputs_for`] tells for inputs of given shapes.
    pub fn output(mut self, name: impl Into<String>, tensor: &GpuTensor) -> Self {
        self.outputs.push((name.into(), tensor.clone()));
        self
    }

    /// Runs the model; outputs without a tensor of their own come back. What does not fit is told of all inputs and outputs
    /// at once, before anything runs, but for shapes that depend on data. After another error the outputs' tensors may
    /// hold anything.
    ///
    /// # Example
    /// ```
    /// # const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
    /// use recurve::gpu::Memory;
    /// use recurve::{DType, Device, Session, Tensor};
    /// let session = Session::builder().with_device(Device::Emulated).load_bytes(MODEL)?;
    /// let make = |dtype, shape: &[usize]| session.engine().gpu_tensor(Device::Emulated, dtype, shape, Memory::Pinned);
    /// let (question, answer) = (make(DType::I64, &[3, 1])?, make(DType::I64, &[5, 1])?);
    /// let state = Tensor::new(&[1, 1, 128], vec![0f32; 128])?; // of the host
    /// let binding = session.io_binding().input("question", &question).input("h", &state).input("c", &state);
    /// let binding = binding.output("answer", &answer);
    /// question.write(&Tensor::new(&[3, 1], vec![2i64, 10, 2])?)?; // "2+2"
    /// let outputs = binding.run()?;
    /// assert_eq!(answer.read()?.as_slice::<i64>(), Some(&[4, 11, 11, 11, 11][..]));
    /// assert_eq!(outputs.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["h_out", "c_out"]);
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn run(&self) -> Result<Outputs, Error> {
        self.run_with(&RunOptions::default())
    }

    /// [`Self::run`] with a deadline or a cancel token. When it ends early it waits until the GPU no longer uses the
    /// tensors; should that take more than some seconds, they stay in use for good.
    ///
    /// # Example
    /// ```
    /// # const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
    /// use recurve::gpu::Memory;
    /// use recurve::{DType, Device, ErrorKind, RunOptions, Session, Tensor};
    /// use std::time::Duration;
    /// let session = Session::builder().with_device(Device::Emulated).load_bytes(MODEL)?;
    /// let state = session.engine().gpu_tensor(Device::Emulated, DType::F32, &[1, 1, 128], Memory::Device)?;
    /// let question = Tensor::new(&[3, 1], vec![2i64, 10, 2])?;
    /// let binding = session.io_binding().input("question", &question).input("h", &state).input("c", &state);
    /// let late = binding.run_with(&RunOptions::default().with_timeout(Duration::ZERO));
    /// assert_eq!(late.err().map(|error| error.kind()), Some(ErrorKind::Deadline));
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn run_with(&self, options: &RunOptions) -> Result<Outputs, Error> {
        let session = self.session;
        let mut misfits = Vec::new();
        let mut targets: Vec<Option<&GpuTensor>> = vec![None; session.outputs.len()];
        for (name, tensor) in &self.outputs {
            let Some(index) = session.outputs.iter().position(|spec| *spec.name == **name) else {
                misfits.push(unknown("output", name, &session.outputs));
                continue;
            };
            let problem = if targets[index].is_some() {
                Some("is given twice".to_owned())
            } else if targets.iter().flatten().any(|other| other.is(tensor)) {
                Some("has the memory of another output".to_owned())
            } else {
                let form = || problem_of(&session.outputs[index], form_of(tensor), &mut Symbols::new());
                session.problem_of_place(tensor).or_else(|| Some(format!("the tensor given {}", form()?)))
            };
            misfits.extend(problem.map(|problem| misfit("output", name, problem)));
            targets[index] = Some(tensor);
        }
        let mut sources: Vec<Option<&GpuTensor>> = vec![None; session.inputs.len()];
        let mut given: SmallVec<[(&str, ValueRef<'_>); 8]> = SmallVec::new();
        for (name, BoundInput(input)) in &self.inputs {
            let tensor = match input {
                Bound::Host(value) => {
                    given.push((name, *value));
                    continue;
                }
                Bound::Gpu(tensor) => tensor,
            };
            given.push((name, form_of(tensor)));
            let problem = session.problem_of_place(tensor);
            misfits.extend(problem.map(|problem| misfit("input", name, problem)));
            if let Some(index) = session.inputs.iter().position(|spec| *spec.name == **name) {
                sources[index] = Some(tensor);
            }
        }
        session.with_values(given, misfits, options, |values, context| {
            let mut held = HeldTensors::new(session, &sources, &targets)?;
            if !session.plans.has_decided(values) {
                // What is measured is measured on what it is.
                held.bring((session, context), |_| true)?;
            }
            let followed = session.plans.choose(session, &held.values(values), context)?;
            if let Some(followed) = followed {
                match session.run_held(&*followed, values, &mut held, context) {
                    Err(error) if session.devices.give_up(&error) => {
                        session.plans.forget_devices();
                        // The run is made again without the GPU, where nothing of it is lost.
                        let lost =
                            (0..sources.len()).any(|at| held.is_written(at, &vec![true; targets.len()]));
                        if lost || held.is_stuck() {
                            return Err(error);
                        }
                    }
                    ended => return ended,
                }
            }
            held.bring((session, context), |at| session.runner.decides(at))?;
            let way = session.runner.way(&held.values(values), context)?;
            session.run_held(&*way, values, &mut held, context)
        })
    }
}

impl Session {
    /// A run whose inputs and outputs may lie where the GPU reads and writes them, so that they need not pass through the
    /// host's memory: frames that a decoder leaves on the device, or a recurrent state that stays there. A tensor may be an
    /// input and an output at once: the run reads what it holds before, and writes what it holds after. Where a part of the
    /// model runs on the CPU, what that needs is copied, and [`Outputs::host_copies`] tells of it. Runs and transfers do not
    /// wait for each other: one that finds a tensor in use, other than to read what it reads, too, is refused.
    ///
    /// # Example
    /// ```
    /// # const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
    /// use recurve::gpu::Memory;
    /// use recurve::{DType, Device, Session, Tensor};
    /// let session = Session::builder().with_device(Device::Emulated).load_bytes(MODEL)?;
    /// let state = || session.engine().gpu_tensor(Device::Emulated, DType::F32, &[1, 1, 128], Memory::Device);
    /// let (h, c) = (state()?, state()?); // zeros at first
    /// let mut answer = Vec::new();
    /// for token in [2i64, 10, 2] { // "2+2", character by character
    ///     let character = Tensor::new(&[1, 1], vec![token])?;
    ///     let binding = session.io_binding().input("question", &character).input("h", &h).input("c", &c);
    ///     let outputs = binding.output("h_out", &h).output("c_out", &c).run()?;
    ///     assert!(outputs.host_copies().is_empty(), "the state stays on the device");
    ///     answer = outputs.tensor("answer")?.to_vec::<i64>().unwrap_or_default();
    /// }
    /// assert_eq!(answer, [4, 11, 11, 11, 11]);
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn io_binding(&self) -> IoBinding<'_> {
        IoBinding::new(self)
    }

    /// The GPU that runs use.
    fn gpu(&self) -> Option<Device> {
        match &self.runner {
            Runner::Gpu { device, .. } => Some(*device),
            Runner::Cpu(_) => self.devices.gpu,
        }
    }

    /// Why a tensor cannot be used here because of where it lies.
    fn problem_of_place(&self, tensor: &GpuTensor) -> Option<String> {
        let device = tensor.device();
        if let Some(own) = self.gpu().filter(|own| *own != device) {
            return Some(format!("lies on {device}; the session runs on {own}"));
        }
        let own = self.engine.0.opened(device).is_some_and(|gpu| tensor.is_of(&gpu));
        (!own).then(|| {
            "belongs to another engine than the session; `Session::engine` makes what fits".to_owned()
        })
    }
}
