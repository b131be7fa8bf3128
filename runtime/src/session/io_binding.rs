//! Runs whose inputs and outputs lie where a GPU reads and writes them.
//!
//! A tensor is leased for the time of a run: outputs to this run alone. What the way of the run does not read or write on the
//! device passes through the host, and is told of.

use super::arguments::{Symbols, misfit, problem_of, unknown};
use super::runner::Runner;
use super::ways::Way;
use super::{Outputs, RunOptions, Session, missing_output};
use crate::cpu::{RunContext, Slot};
use crate::cuda::{Block, Direct, GpuTensor, Lease};
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

/// The tensors of one run.
struct Held {
    leases: Vec<Lease>,
    /// By input and by output, its lease.
    inputs: Vec<Option<usize>>,
    outputs: Vec<Option<usize>>,
    /// By input, a copy in the host's memory, where it was needed.
    host: Vec<Option<Tensor>>,
    /// Copies beside inputs that the same run overwrites.
    shadows: Vec<Block>,
    direct: Direct,
}

impl Held {
    /// Leases all of them.
    fn new(
        session: &Session,
        inputs: &[Option<&GpuTensor>],
        outputs: &[Option<&GpuTensor>],
    ) -> Result<Self, Error> {
        let mut leases: Vec<Lease> = Vec::new();
        let mut misfits = Vec::new();
        let mut lease = |tensor: &GpuTensor, writes: bool, (role, name): (&'static str, &str)| {
            // An input that is an output as well is leased as that.
            let own = leases.iter().position(|lease| lease.tensor().is(tensor));
            let new = || {
                let Some(lease) = tensor.lease(writes) else {
                    misfits.push(misfit(role, name, "is in use by another run, or by a transfer"));
                    return None;
                };
                leases.push(lease);
                Some(leases.len() - 1)
            };
            own.or_else(new)
        };
        let own = outputs.iter().zip(&session.outputs);
        let outputs = own.map(|(of, spec)| lease((*of)?, true, ("output", &spec.name))).collect();
        let own = inputs.iter().zip(&session.inputs);
        let inputs: Vec<_> = own.map(|(of, spec)| lease((*of)?, false, ("input", &spec.name))).collect();
        Error::misfits(misfits)?;
        let host = vec![None; inputs.len()];
        Ok(Self { leases, inputs, outputs, host, shadows: Vec::new(), direct: Direct::default() })
    }

    fn input(&self, index: usize) -> Option<&Lease> {
        Some(&self.leases[self.inputs[index]?])
    }

    fn output(&self, index: usize) -> Option<&Lease> {
        Some(&self.leases[self.outputs[index]?])
    }

    /// Whether input `index` is an output of which `written` tells, too.
    fn is_written(&self, index: usize, written: &[bool]) -> bool {
        let own = |(lease, written): (&Option<usize>, &bool)| *written && *lease == self.inputs[index];
        self.inputs[index].is_some() && self.outputs.iter().zip(written).any(own)
    }

    /// Copies the inputs of which `needed` tells to the host.
    fn bring(&mut self, session: &Session, needed: impl Fn(usize) -> bool) -> Result<(), Error> {
        for index in (0..self.inputs.len()).filter(|index| needed(*index)) {
            if self.host[index].is_none()
                && let Some(lease) = self.input(index)
            {
                self.host[index] = Some(lease.read(&session.budget)?);
            }
        }
        Ok(())
    }

    /// `values` with what was copied to the host.
    fn values<'v>(&'v self, values: &[ValueRef<'v>]) -> SmallVec<[ValueRef<'v>; 8]> {
        let own = |(value, host): (&ValueRef<'v>, &'v Option<Tensor>)| {
            host.as_ref().map_or(*value, |tensor| tensor.into())
        };
        values.iter().zip(&self.host).map(own).collect()
    }

    /// What the device reads, with `late` as of [`super::ways::Reach`], and what it writes.
    fn aim(&mut self, late: &[bool], written: &[bool]) -> Result<(), Error> {
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for index in 0..self.inputs.len() {
            let Some(lease) = self.input(index) else {
                inputs.push(None);
                continue;
            };
            if !(late[index] && self.is_written(index, written)) {
                inputs.push(Some(lease.tensor().address()));
                continue;
            }
            let device = lease.tensor().device();
            let shadow = lease.copied().map_err(|source| Error::Gpu { device, source })?;
            inputs.push(Some(shadow.address()));
            self.shadows.push(shadow);
        }
        let output = |index: usize| Some(self.output(index).filter(|_| written[index])?.tensor().address());
        let outputs = (0..self.outputs.len()).map(output).collect();
        self.direct = Direct::new(inputs, outputs);
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.direct.is_stuck() {
            self.leases.drain(..).for_each(Lease::keep);
            self.shadows.drain(..).for_each(std::mem::forget);
        }
    }
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

    /// Output `name` is written to `tensor`, and does not come back among [`Outputs`].
    pub fn output(mut self, name: impl Into<String>, tensor: &GpuTensor) -> Self {
        self.outputs.push((name.into(), tensor.clone()));
        self
    }

    /// Runs the model; outputs without a tensor of their own come back. What does not fit is told of all inputs and outputs
    /// at once, before anything runs, but for shapes that depend on data. After another error the outputs' tensors may
    /// hold anything.
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
                session.problem_of_place(tensor).or_else(form)
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
            let mut held = Held::new(session, &sources, &targets)?;
            if !session.plans.has_decided(values) {
                // What is measured is measured on what it is.
                held.bring(session, |_| true)?;
            }
            let followed = session.plans.choose(session, &held.values(values), context)?;
            if let Some(followed) = followed {
                match session.run_held(&*followed, values, &mut held, context) {
                    Err(error) if session.devices.give_up(&error) => {
                        session.plans.forget_devices();
                        // The run is made again without the GPU, where nothing of it is lost.
                        let lost =
                            (0..sources.len()).any(|at| held.is_written(at, &vec![true; targets.len()]));
                        if lost || held.direct.is_stuck() {
                            return Err(error);
                        }
                    }
                    ended => return ended,
                }
            }
            held.bring(session, |at| session.runner.decides(at))?;
            let way = session.runner.way(&held.values(values), context)?;
            session.run_held(&*way, values, &mut held, context)
        })
    }
}

impl Session {
    /// A run whose inputs and outputs may lie where the GPU reads and writes them, so that they need not pass through the
    /// host's memory: frames that a decoder leaves on the device, or a recurrent state that stays there. A tensor may be an
    /// input and an output at once: the run reads what it holds before, and writes what it holds after. Where a part of the
    /// model runs on the CPU, what that needs is copied, and [`Outputs::host_copies`] tells of it.
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
        (!own).then(|| "belongs to another engine than the session".to_owned())
    }

    /// Runs a way on what is held, and on `values`.
    fn run_held(
        &self,
        way: &dyn Way,
        values: &[ValueRef<'_>],
        held: &mut Held,
        context: RunContext<'_>,
    ) -> Result<Outputs, Error> {
        let there = |of: &[Option<usize>]| -> Vec<bool> { of.iter().map(Option::is_some).collect() };
        let reach = way.reach(&there(&held.inputs), &there(&held.outputs));
        let forms = (0..self.outputs.len()).map(|index| way.form(index));
        self.check_forms(held, forms)?;
        held.bring(self, |at| reach.host[at])?;
        held.aim(&reach.late, &reach.written)?;
        let mut made: Vec<Option<Value>> = vec![None; self.outputs.len()];
        {
            let mut slots: SmallVec<[Slot<'_>; 4]> = SmallVec::new();
            for (index, place) in made.iter_mut().enumerate() {
                slots.push(match held.output(index).filter(|_| reach.written[index]) {
                    Some(lease) => {
                        let (dtype, shape) = (lease.tensor().dtype(), lease.tensor().shape());
                        Slot::Fixed { dtype, shape, bytes: bytemuck::cast_slice_mut::<u128, u8>(&mut []) }
                    }
                    None => Slot::Made(place),
                });
            }
            way.run((&held.values(values), &held.direct), &mut slots, context)?;
        }
        let tensors = made.iter().map(|value| Some(value.as_ref()?.as_tensor()?));
        self.check_forms(held, tensors.map(|tensor| tensor.map(|tensor| (tensor.dtype(), tensor.shape()))))?;
        let copy = |role, name: &Arc<str>, bytes| HostCopy { role, name: name.clone(), bytes };
        let own = held.host.iter().zip(&self.inputs);
        let mut copies: Vec<HostCopy> = own
            .filter_map(|(host, spec)| Some(copy("input", &spec.name, host.as_ref()?.bytes().len())))
            .collect();
        let (mut names, mut values) = (Vec::new(), Vec::new());
        for (index, (spec, value)) in self.outputs.iter().zip(made).enumerate() {
            if reach.written[index] {
                continue;
            }
            let value = value.ok_or_else(|| missing_output("output"))?;
            match (held.output(index), value.as_tensor()) {
                (Some(lease), Some(tensor)) => {
                    lease.write(tensor.view())?;
                    copies.push(copy("output", &spec.name, tensor.bytes().len()));
                }
                _ => {
                    names.push(spec.name.clone());
                    values.push(value);
                }
            }
        }
        Ok(Outputs::new(names, values).with_host_copies(copies))
    }

    /// Errs unless outputs of these forms, where they are known, fit the tensors that take them.
    fn check_forms<'f>(
        &self,
        held: &Held,
        forms: impl Iterator<Item = Option<(crate::DType, &'f [usize])>>,
    ) -> Result<(), Error> {
        let mut misfits = Vec::new();
        for (index, form) in forms.enumerate() {
            let (Some(lease), Some((dtype, shape))) = (held.output(index), form) else { continue };
            let tensor = lease.tensor();
            if (dtype, shape) != (tensor.dtype(), tensor.shape()) {
                let given = format!("{} {:?}", tensor.dtype(), tensor.shape());
                let problem = format!("is {dtype} {shape:?}; the tensor given is {given}");
                misfits.push(misfit("output", &self.outputs[index].name, problem));
            }
        }
        Error::misfits(misfits)
    }
}
