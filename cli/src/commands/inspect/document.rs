//! The document of `recurve inspect --json`.

use super::{Inspected, Placed};
use crate::commands::DOCUMENT_VERSION;
use crate::dimensions::symbols;
use crate::facts::ValueEntry;
use crate::precision::PrecisionEntry;
use recurve::model::{Apart, Metadata, NodeInfo, ValueSpec};
use serde::Serialize;
use std::collections::BTreeMap;

/// The document.
#[derive(Debug, Serialize)]
pub(super) struct Document<'a> {
    version: u32,
    metadata: MetadataEntry,
    opsets: Vec<OpsetEntry>,
    inputs: Vec<ValueEntry>,
    outputs: Vec<ValueEntry>,
    /// Symbols of the inputs that `--dim` binds.
    dims: Vec<String>,
    parameters: ParametersEntry,
    /// With `--precision`: what the weights that it is about are stored in.
    #[serde(skip_serializing_if = "Option::is_none")]
    precision: Option<PrecisionEntry>,
    /// Nodes by operator, those of bodies included.
    operators: BTreeMap<&'a str, usize>,
    /// Sums over the nodes whose shapes are known.
    flops: f64,
    bytes: f64,
    /// After simplification, and with `--fused` after fusion, in the order in which they run.
    nodes: Vec<NodeEntry>,
    /// With `--fused`: the nodes that several nodes of the model became, those in bodies included.
    #[serde(skip_serializing_if = "Option::is_none")]
    fused: Option<Vec<FusedEntry>>,
    /// With `--fused`: neighbours that were not fused.
    #[serde(skip_serializing_if = "Option::is_none")]
    apart: Option<Vec<ApartEntry>>,
}

#[derive(Debug, Serialize)]
struct FusedEntry {
    /// Behind the names of the node and the body that it stands in.
    name: String,
    op: String,
    members: Vec<MemberEntry>,
    /// Neighbours of the members that are none.
    left_out: Vec<LeftOutEntry>,
    /// Of the members one by one, and of what they became; `null` where a shape depends on data.
    flops_before: Option<f64>,
    flops_after: Option<f64>,
    bytes_before: Option<f64>,
    bytes_after: Option<f64>,
}

#[derive(Debug, Serialize)]
struct MemberEntry {
    name: String,
    op: String,
}

#[derive(Debug, Serialize)]
struct LeftOutEntry {
    node: String,
    reason: String,
}

#[derive(Debug, Serialize)]
struct ApartEntry {
    producer: String,
    reader: String,
    reason: String,
}

#[derive(Debug, Serialize)]
struct MetadataEntry {
    graph: String,
    producer: String,
    producer_version: String,
    domain: String,
    model_version: i64,
    description: String,
    ir_version: i64,
    custom: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
struct OpsetEntry {
    domain: String,
    version: i64,
}

#[derive(Debug, Serialize)]
struct ParametersEntry {
    tensors: usize,
    elements: usize,
    bytes: usize,
}

#[derive(Debug, Serialize)]
struct NodeEntry {
    name: String,
    op: String,
    inputs: Vec<Option<ValueEntry>>,
    outputs: Vec<Option<ValueEntry>>,
    /// `null` where a shape depends on data.
    flops: Option<f64>,
    bytes: Option<f64>,
}

pub(super) fn document<'a>(inspected: &Inspected<'a>) -> Document<'a> {
    let session = inspected.session;
    let Metadata {
        graph,
        producer,
        producer_version,
        domain,
        version,
        description,
        ir_version,
        opsets,
        custom,
        ..
    } = session.metadata().clone();
    let parameters = session.parameters();
    let (flops, bytes) = inspected.totals();
    let values = |specs: &[ValueSpec]| specs.iter().map(ValueEntry::of).collect();
    let optional =
        |specs: &[Option<ValueSpec>]| specs.iter().map(|s| s.as_ref().map(ValueEntry::of)).collect();
    let node = |node: &NodeInfo| NodeEntry {
        name: node.name.to_string(),
        op: node.op.clone(),
        inputs: optional(&node.inputs),
        outputs: optional(&node.outputs),
        flops: node.cost.map(|cost| cost.flops),
        bytes: node.cost.map(|cost| cost.bytes),
    };
    Document {
        version: DOCUMENT_VERSION,
        metadata: MetadataEntry {
            graph,
            producer,
            producer_version,
            domain,
            model_version: version,
            description,
            ir_version,
            custom: custom.into_iter().collect(),
        },
        opsets: opsets.into_iter().map(|(domain, version)| OpsetEntry { domain, version }).collect(),
        inputs: values(session.inputs()),
        outputs: values(session.outputs()),
        dims: symbols(session.inputs()),
        precision: PrecisionEntry::of(session, None),
        parameters: ParametersEntry {
            tensors: parameters.tensors,
            elements: parameters.elements,
            bytes: parameters.bytes,
        },
        operators: inspected.operators(),
        flops,
        bytes,
        nodes: inspected.graph.nodes.iter().map(node).collect(),
        fused: inspected.apart.is_some().then(|| {
            let left_out = inspected.left_out();
            inspected.fused().zip(left_out).map(|(placed, left)| fused_entry(placed, &left)).collect()
        }),
        apart: inspected.apart.as_ref().map(|apart| apart.iter().map(apart_entry).collect()),
    }
}

fn fused_entry(placed: &Placed<'_>, left_out: &[(&str, &str)]) -> FusedEntry {
    let node = placed.node;
    let member = |m: &recurve::model::Member| MemberEntry { name: m.name.to_string(), op: m.op.clone() };
    FusedEntry {
        name: placed.path(),
        op: node.op.clone(),
        members: node.members.iter().map(member).collect(),
        left_out: left_out
            .iter()
            .map(|&(node, reason)| LeftOutEntry { node: node.to_owned(), reason: reason.to_owned() })
            .collect(),
        flops_before: node.unfused_cost.map(|cost| cost.flops),
        flops_after: node.cost.map(|cost| cost.flops),
        bytes_before: node.unfused_cost.map(|cost| cost.bytes),
        bytes_after: node.cost.map(|cost| cost.bytes),
    }
}

fn apart_entry(apart: &Apart) -> ApartEntry {
    ApartEntry {
        producer: apart.producer.to_string(),
        reader: apart.reader.to_string(),
        reason: apart.reason.clone(),
    }
}
