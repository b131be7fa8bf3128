//! Operators one after the other, what lies between them in the workspace: a group of fused operators for which there is
//! no kernel as a whole.

use crate::cuda::{GpuKernel, GpuReject, GpuSite, Operands};
use crate::graph::fact::{Fact, Facts};
use crate::graph::{Graph, ValueId, infer};
use recurve_kernels::launch::Buffer;

/// Where a value of the group lies.
#[derive(Clone, Copy, Debug)]
enum Place {
    Input(usize),
    Output(usize),
    /// At this offset of the workspace.
    Between {
        offset: usize,
        bytes: usize,
    },
    Nowhere,
}

/// One member and the places of its operands.
struct Member {
    kernel: GpuKernel,
    inputs: Vec<Place>,
    outputs: Vec<Place>,
    workspace: Place,
    /// Its first among the weights and data of all.
    weights: usize,
    data: usize,
}

/// The launches of all nodes of `graph`, whose inputs and outputs are those of `site`.
pub(crate) fn kernel(site: &GpuSite<'_>, graph: &Graph) -> Result<GpuKernel, GpuReject> {
    let given: Option<Vec<Fact>> = site.inputs.0.iter().map(|fact| fact.cloned()).collect();
    let facts = infer(graph, &given.ok_or(GpuReject::NoKernel)?).map_err(|_| GpuReject::NoKernel)?;
    let mut places = vec![Place::Nowhere; graph.values.len()];
    graph.inputs.iter().enumerate().for_each(|(at, id)| places[id.index()] = Place::Input(at));
    graph.outputs.iter().enumerate().for_each(|(at, id)| places[id.index()] = Place::Output(at));
    let mut size = 0usize;
    let mut between = |bytes: usize| {
        let offset = size;
        size = offset.checked_add(bytes)?.checked_next_multiple_of(256)?;
        Some(Place::Between { offset, bytes })
    };
    let too_large = || GpuReject::Form("a group of so many bytes".into());
    let mut members = Vec::with_capacity(graph.nodes.len());
    let (mut weights, mut data) = (0, 0);
    for node in &graph.nodes {
        let at = |id: &Option<ValueId>| id.and_then(|id| facts[id.index()].as_ref());
        let inputs: Vec<Option<&Fact>> = node.inputs.iter().map(at).collect();
        let outputs: Option<Vec<Fact>> = node.outputs.iter().map(|id| at(id).cloned()).collect();
        let outputs = outputs.ok_or(GpuReject::NoKernel)?;
        for (id, fact) in node.outputs.iter().zip(&outputs) {
            if let (Some(id), Place::Nowhere) = (id, id.map_or(Place::Nowhere, |id| places[id.index()])) {
                let bytes = fact.tensor().and_then(crate::graph::TensorFact::bytes).ok_or_else(too_large)?;
                places[id.index()] = between(bytes).ok_or_else(too_large)?;
            }
        }
        let inner = GpuSite { inputs: Facts(&inputs), outputs: &outputs, device: site.device };
        let kernel = node.op.gpu(&inner)?;
        let place = |id: &Option<ValueId>| id.map_or(Place::Nowhere, |id| places[id.index()]);
        let workspace = between(kernel.workspace()).ok_or_else(too_large)?;
        let (inputs, outputs) =
            (node.inputs.iter().map(place).collect(), node.outputs.iter().map(place).collect());
        let (first_weights, first_data) = (weights, data);
        (weights, data) = (weights + kernel.weights().len(), data + kernel.data().len());
        members.push(Member { kernel, inputs, outputs, workspace, weights: first_weights, data: first_data });
    }
    Ok(joined(members, size))
}

fn joined(mut members: Vec<Member>, workspace: usize) -> GpuKernel {
    let mut weights = Vec::new();
    let mut data = Vec::new();
    for (at, member) in members.iter_mut().enumerate() {
        let (own, bytes) = member.kernel.take_resident();
        weights.extend(own.into_iter().map(|mut packed| {
            packed.form = format!("{at} {}", packed.form);
            packed
        }));
        data.extend(bytes);
    }
    let ends: Vec<(usize, usize)> = members
        .iter()
        .skip(1)
        .map(|member| (member.weights, member.data))
        .chain([(weights.len(), data.len())])
        .collect();
    let kernel = GpuKernel::new(move |all| {
        let mut launches = Vec::new();
        for (member, &(weights_end, data_end)) in members.iter().zip(&ends) {
            let buffer = |place: &Place| place.buffer(all);
            let inputs: Vec<Buffer> = member.inputs.iter().map(buffer).collect();
            let outputs: Vec<Buffer> = member.outputs.iter().map(buffer).collect();
            launches.extend(member.kernel.prepare(&Operands {
                inputs: &inputs,
                outputs: &outputs,
                weights: &all.weights[member.weights..weights_end],
                data: &all.data[member.data..data_end],
                workspace: member.workspace.buffer(all),
            })?);
        }
        Ok(launches)
    });
    kernel.with_workspace(workspace).with_resident(weights, data)
}

impl Place {
    fn buffer(&self, all: &Operands<'_>) -> Buffer {
        match *self {
            Self::Input(at) => all.inputs[at],
            Self::Output(at) => all.outputs[at],
            Self::Between { offset, bytes } => {
                Buffer { address: all.workspace.address + offset as u64, bytes: bytes as u64 }
            }
            Self::Nowhere => Buffer::default(),
        }
    }
}
