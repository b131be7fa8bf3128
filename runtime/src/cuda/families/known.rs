//! Outputs that follow from constants but are too large to be held as constants of the binding: computed on the host once,
//! where an operator has no launches of its own, and copied from there.

use super::copy;
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::exec::evaluate;
use crate::graph::TensorFact;
use crate::graph::fact::Fact;
use crate::ops::Op;
use crate::tensor::{Tensor, Value, ValueRef};
use recurve_kernels::launch::Launch;
use std::sync::Arc;

/// The launches of an operator, or copies of what it makes of constants.
pub(crate) fn or_known(op: &dyn Op, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
    op.gpu(site).or_else(|reject| kernel(op, site).ok_or(reject))
}

/// A constant, aligned as kernels of the host read it.
fn constant(fact: &Fact, site: &GpuSite<'_>) -> Option<Value> {
    let tensor = fact.tensor()?.as_constant()?;
    let aligned = if tensor.is_aligned() {
        Ok(tensor.clone())
    } else {
        Tensor::copy_of(tensor.view(), site.context.budget)
    };
    Some(aligned.ok()?.into())
}

/// Copies of what `op` makes, where all that it reads are constants.
fn kernel(op: &dyn Op, site: &GpuSite<'_>) -> Option<GpuKernel> {
    if !op.is_deterministic() || !op.bodies().is_empty() || site.behind.is_some() {
        return None;
    }
    let mut given: Vec<Option<Value>> = Vec::with_capacity(site.inputs.len());
    for fact in site.inputs.0 {
        given.push(match fact {
            Some(fact) => Some(constant(fact, site)?),
            None => None,
        });
    }
    let refs: Vec<Option<ValueRef<'_>>> = given.iter().map(|v| v.as_ref().map(Value::as_ref)).collect();
    let made = evaluate(op, None, &refs, site.wanted, site.context).ok()?;
    let mut regions = Vec::new();
    let mut bytes = Vec::new();
    for (at, value) in made.into_iter().enumerate().filter(|(at, _)| site.wanted.get(*at) == Some(&true)) {
        let tensor = value?.into_tensor()?;
        regions.push((at, copy::region(&TensorFact::constant(tensor.clone())).ok()?));
        bytes.push(tensor.view().bytes().to_vec());
    }
    let device = site.device;
    let kernel = GpuKernel::new(move |operands| {
        let mut launches: Vec<Arc<dyn Launch>> = Vec::with_capacity(regions.len());
        for ((at, region), from) in regions.iter().zip(operands.data) {
            let prepared = region.prepare(*from, operands.outputs[*at], &device)?;
            launches.extend(prepared.map(|prepared| Arc::new(prepared) as Arc<dyn Launch>));
        }
        Ok(launches)
    });
    Some(kernel.with_resident(Vec::new(), bytes))
}
