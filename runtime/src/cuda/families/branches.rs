//! Branches whose condition lies on the device: one of them, by a flag, or, inside bodies and plans, both of them and a
//! selection, which needs no host. Operators have no effects but their outputs, so that a branch too many costs time alone;
//! one that may find fault with its data, that draws random numbers, or that data decides about, is not run unless it is
//! taken: by a flag, but in plans.

use super::composition::{Composition, Place};
use super::flow::{Choice, Course, FLAGS, Pool, part_of};
use super::{map, members};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, Operands, Within};
use crate::dtype::DType;
use crate::graph::Graph;
use crate::graph::fact::{Fact, TensorFact};
use crate::loops::program::Builder;
use std::ops::Range;

/// A branch: its graph, and which inputs of the node are its own.
pub(crate) type Branch<'a> = (&'a Graph, Range<usize>);

/// `branches`, the one for false first, by the truth value that is input 0.
pub(crate) fn kernel(
    site: &GpuSite<'_>,
    [otherwise, then]: &[Branch<'_>; 2],
) -> Result<GpuKernel, GpuReject> {
    let kernels = [(otherwise, "else"), (then, "then")].map(|((graph, range), name)| {
        let kernel = members::part(site, graph, range.clone(), name)?;
        let made = kernel.outputs().ok_or(GpuReject::ControlFlow)?;
        let wanted = site.wanted.iter().enumerate().filter(|(_, wanted)| **wanted);
        let mut forms =
            wanted.map(|(at, _)| (made.get(at).and_then(form), site.outputs.get(at).and_then(form)));
        let same = forms.all(|(made, known)| made.is_some() && made == known);
        if same { Ok(kernel) } else { Err(GpuReject::ControlFlow) }
    });
    let [otherwise, then] = kernels;
    let pair = [otherwise?, then?];
    let draws = |kernel: &GpuKernel| !kernel.sources().is_empty();
    let either = |kernel: &GpuKernel| kernel.fault().is_some() || draws(kernel) || kernel.flow().is_some();
    match (site.within, pair.iter().any(either)) {
        (Within::Graph, _) | (Within::Body, true) => Ok(by_flag(pair)),
        (Within::Body | Within::Plan, false) => selected(site, pair),
        (Within::Plan, true) if pair.iter().any(draws) => Err(GpuReject::Random),
        (Within::Plan, true) => Err(GpuReject::ControlFlow),
    }
}

fn form(fact: &Fact) -> Option<(DType, crate::tensor::Shape)> {
    fact.tensor().and_then(|tensor: &TensorFact| Some((tensor.dtype, tensor.known_shape()?)))
}

fn by_flag(kernels: [GpuKernel; 2]) -> GpuKernel {
    let mut pool = Pool::default();
    let flags = pool.flags(FLAGS);
    let held = kernels.map(|kernel| pool.hold(kernel));
    let workspace = held[0].workspace().max(held[1].workspace());
    let course = move |all: &Operands<'_>| {
        let [otherwise, then] = [0, 1].map(|at| held[at].course(all, all.inputs, all.outputs, all.workspace));
        Ok(Course::Branch(Box::new(Choice {
            flags: part_of(all.flags, &flags),
            condition: all.inputs.first().copied().unwrap_or_default(),
            then: then?,
            otherwise: otherwise?,
        })))
    };
    pool.kernel(course, Vec::new(), workspace)
}

fn selected(site: &GpuSite<'_>, kernels: [GpuKernel; 2]) -> Result<GpuKernel, GpuReject> {
    let mut whole = Composition::new("");
    let inputs: Vec<Place> = (0..site.inputs.len()).map(Place::Input).collect();
    let mut made = Vec::with_capacity(2);
    for (kernel, name) in kernels.into_iter().zip(["else", "then"]) {
        let mut places = Vec::with_capacity(site.outputs.len());
        for (fact, wanted) in site.outputs.iter().zip(site.wanted) {
            let bytes = fact.tensor().and_then(TensorFact::bytes).filter(|_| *wanted);
            places.push(bytes.map_or(Ok(Place::Nowhere), |bytes| whole.between(bytes))?);
        }
        whole.add(name, kernel, inputs.clone(), places.clone())?;
        made.push(places);
    }
    for (at, fact) in site.outputs.iter().enumerate().filter(|(at, _)| site.wanted.get(*at) == Some(&true)) {
        let tensor = fact.tensor().ok_or(GpuReject::ControlFlow)?;
        let count = tensor.element_count().ok_or(GpuReject::ControlFlow)?;
        if count == 0 {
            continue;
        }
        let mut builder = Builder::new(&[DType::Bool, tensor.dtype, tensor.dtype]);
        let [condition, then, otherwise] = [0, 1, 2].map(|input| builder.input(input));
        let chosen = builder.select(condition, then, otherwise);
        let program = builder.finish(&[(chosen, tensor.dtype)]).map_err(|_| GpuReject::ControlFlow)?;
        let operands = [(DType::Bool, vec![0], 0), (tensor.dtype, vec![1], 0), (tensor.dtype, vec![1], 0)];
        let kernel = map::launched(site, &program, &[count as u64], &operands, vec![0, 1, 2])?;
        let from = vec![Place::Input(0), made[1][at], made[0][at]];
        whole.add(&format!("output {at}"), kernel, from, vec![Place::Output(at)])?;
    }
    Ok(whole.finish())
}
