//! Tensors that lie where a GPU reads and writes them, while a run uses them.
//!
//! A tensor is leased for the time of a run: outputs to this run alone. What the way of the run does not read or write on
//! the device passes through the host, and is told of.

use super::arguments::misfit;
use super::io_binding::HostCopy;
use super::ways::Way;
use super::{Outputs, Session, missing_output};
use crate::cpu::{RunContext, Slot};
use crate::cuda::{Block, Direct, GpuTensor, Lease};
use crate::dtype::DType;
use crate::error::Error;
use crate::tensor::{Tensor, Value, ValueRef};
use smallvec::SmallVec;
use std::sync::Arc;

/// The tensors of one run.
pub(super) struct HeldTensors {
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

impl HeldTensors {
    /// Leases all of them.
    pub(super) fn new(
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
    pub(super) fn is_written(&self, index: usize, written: &[bool]) -> bool {
        let own = |(lease, written): (&Option<usize>, &bool)| *written && *lease == self.inputs[index];
        self.inputs[index].is_some() && self.outputs.iter().zip(written).any(own)
    }

    /// Copies the inputs of which `needed` tells to the host.
    pub(super) fn bring(
        &mut self,
        (session, context): (&Session, RunContext<'_>),
        needed: impl Fn(usize) -> bool,
    ) -> Result<(), Error> {
        for index in (0..self.inputs.len()).filter(|index| needed(*index)) {
            if self.host[index].is_none()
                && let Some(lease) = self.input(index)
            {
                self.host[index] = Some(lease.read(&session.budget, context.interrupt)?);
            }
        }
        Ok(())
    }

    /// `values` with what was copied to the host.
    pub(super) fn values<'v>(&'v self, values: &[ValueRef<'v>]) -> SmallVec<[ValueRef<'v>; 8]> {
        let own =
            |(value, host): (&ValueRef<'v>, &'v Option<Tensor>)| host.as_ref().map_or(*value, ValueRef::from);
        values.iter().zip(&self.host).map(own).collect()
    }

    /// Whether work that does not end may use them.
    pub(super) fn is_stuck(&self) -> bool {
        self.direct.is_stuck()
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

impl Drop for HeldTensors {
    fn drop(&mut self) {
        if self.direct.is_stuck() {
            self.leases.drain(..).for_each(Lease::keep);
            self.shadows.drain(..).for_each(std::mem::forget);
        }
    }
}

impl Session {
    /// Runs a way on what is held, and on `values`.
    pub(super) fn run_held(
        &self,
        way: &dyn Way,
        values: &[ValueRef<'_>],
        held: &mut HeldTensors,
        context: RunContext<'_>,
    ) -> Result<Outputs, Error> {
        let there = |of: &[Option<usize>]| -> Vec<bool> { of.iter().map(Option::is_some).collect() };
        let reach = way.reach(&there(&held.inputs), &there(&held.outputs));
        let forms = (0..self.outputs.len()).map(|index| way.form(index));
        self.check_forms(held, forms)?;
        held.bring((self, context), |at| reach.host[at])?;
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
        let tensors = made.iter().map(|value| value.as_ref().and_then(Value::as_tensor));
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
                    lease.write(tensor.view(), context.interrupt)?;
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
        held: &HeldTensors,
        forms: impl Iterator<Item = Option<(DType, &'f [usize])>>,
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
