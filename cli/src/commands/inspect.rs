//! `recurve inspect`: what a model consists of.

use super::DOCUMENT_VERSION;
use crate::arguments::{DimensionArguments, ModelArguments};
use crate::dimensions::{resolve, symbols};
use crate::exit::Exit;
use crate::facts::{ValueEntry, describe};
use crate::quantity;
use crate::table::table;
use crate::terminal::Terminal;
use anyhow::Result;
use recurve::{Apart, Cost, Device, Fusion, Metadata, NodeInfo, Session, ValueSpec};
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  recurve inspect model.onnx --dim batch=1,time=50")]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    dimensions: DimensionArguments,
    /// Show what was fused, what it saves, and which neighbours stayed apart
    #[arg(long)]
    fused: bool,
}

/// The document of `recurve inspect --json`.
#[derive(Debug, Serialize)]
struct Document {
    version: u32,
    metadata: MetadataEntry,
    opsets: Vec<OpsetEntry>,
    inputs: Vec<ValueEntry>,
    outputs: Vec<ValueEntry>,
    /// Symbols of the inputs that `--dim` binds.
    dims: Vec<String>,
    parameters: ParametersEntry,
    /// Nodes by operator, those of bodies included.
    operators: BTreeMap<String, usize>,
    /// Sums over the nodes whose shapes are known.
    flops: f64,
    bytes: f64,
    /// After simplification, and with `--fused` after fusion, in the order in which they run.
    nodes: Vec<NodeEntry>,
    /// With `--fused`: the nodes that several nodes of the model became.
    #[serde(skip_serializing_if = "Option::is_none")]
    fused: Option<Vec<FusedEntry>>,
    /// With `--fused`: neighbours that were not fused.
    #[serde(skip_serializing_if = "Option::is_none")]
    apart: Option<Vec<ApartEntry>>,
}

#[derive(Debug, Serialize)]
struct FusedEntry {
    name: String,
    op: String,
    members: Vec<MemberEntry>,
    /// `null` where a shape depends on data.
    flops: Option<f64>,
    bytes_before: Option<f64>,
    bytes_after: Option<f64>,
}

#[derive(Debug, Serialize)]
struct MemberEntry {
    name: String,
    op: String,
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

pub(crate) fn run(arguments: &Arguments, terminal: &Terminal) -> Result<Exit> {
    let session = {
        let fusion = if arguments.fused { Fusion::On } else { Fusion::Off };
        arguments.model.load(fusion, Device::Cpu, terminal)?
    };
    let none = vec![None; session.inputs().len()];
    let resolved = resolve(session.inputs(), &arguments.dimensions.bindings, &none)?;
    if !resolved.assumed.is_empty() {
        let names = resolved.assumed.join(", ");
        terminal.narrate(format!("note: taken as 1, since --dim does not bind them: {names}"));
    }
    let shapes = session.inputs().iter().zip(&resolved.shapes);
    let shapes = shapes.filter_map(|(spec, shape)| Some((&*spec.name, shape.as_ref()?)));
    let nodes = session.nodes(shapes)?;
    if terminal.json() {
        terminal.document(&document(&session, &nodes, arguments.fused))?;
    } else {
        terminal.print(&text(&session, &nodes, arguments.fused, terminal))?;
    }
    Ok(Exit::Success)
}

fn operators(nodes: &[NodeInfo]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for op in nodes.iter().flat_map(|node| std::iter::once(&node.op).chain(&node.body_operators)) {
        *counts.entry(op.clone()).or_default() += 1;
    }
    counts
}

fn totals(nodes: &[NodeInfo]) -> (f64, f64) {
    let costs = nodes.iter().filter_map(|node| node.cost);
    costs.fold((0.0, 0.0), |(flops, bytes), cost| (flops + cost.flops, bytes + cost.bytes))
}

fn document(session: &Session, nodes: &[NodeInfo], fused: bool) -> Document {
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
    let (flops, bytes) = totals(nodes);
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
        parameters: ParametersEntry {
            tensors: parameters.tensors,
            elements: parameters.elements,
            bytes: parameters.bytes,
        },
        operators: operators(nodes),
        flops,
        bytes,
        nodes: nodes.iter().map(node).collect(),
        fused: fused.then(|| nodes.iter().filter(|n| !n.members.is_empty()).map(fused_entry).collect()),
        apart: fused.then(|| session.apart().iter().map(apart_entry).collect()),
    }
}

fn fused_entry(node: &NodeInfo) -> FusedEntry {
    FusedEntry {
        name: node.name.to_string(),
        op: node.op.clone(),
        members: node
            .members
            .iter()
            .map(|m| MemberEntry { name: m.name.to_string(), op: m.op.clone() })
            .collect(),
        flops: node.cost.map(|cost| cost.flops),
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

fn text(session: &Session, nodes: &[NodeInfo], fused: bool, terminal: &Terminal) -> String {
    let mut text = String::new();
    let mut section = |title: &str, rows: &[Vec<String>], right: &[usize]| {
        if !rows.is_empty() {
            text.push_str(&terminal.heading(title));
            text.push('\n');
            text.push_str(&table(rows, right));
        }
    };
    section("model", &about(session.metadata()), &[]);
    let value = |spec: &ValueSpec| vec![spec.name.to_string(), describe(&spec.fact)];
    section("inputs", &session.inputs().iter().map(value).collect::<Vec<_>>(), &[]);
    section("outputs", &session.outputs().iter().map(value).collect::<Vec<_>>(), &[]);
    let dims: Vec<_> = symbols(session.inputs()).into_iter().map(|symbol| vec![symbol]).collect();
    section("dims", &dims, &[]);
    let parameters = session.parameters();
    let rows = [vec![
        quantity::count(parameters.elements as f64),
        quantity::bytes(parameters.bytes as f64),
        format!("{} tensors", parameters.tensors),
    ]];
    section("parameters", &rows, &[]);
    let counts = operators(nodes).into_iter().map(|(op, count)| vec![op, count.to_string()]);
    section("operators", &counts.collect::<Vec<_>>(), &[1]);
    let mut rows = vec![["node", "operator", "flops", "bytes", "output"].map(str::to_owned).to_vec()];
    rows.extend(nodes.iter().map(node_row));
    let (flops, bytes) = totals(nodes);
    let unknown = nodes.iter().filter(|node| node.cost.is_none()).count();
    let note = if unknown == 0 { String::new() } else { format!("without {unknown} that depend on data") };
    rows.push(vec!["all".to_owned(), String::new(), quantity::count(flops), quantity::bytes(bytes), note]);
    section("nodes", &rows, &[2, 3]);
    if fused {
        let bytes =
            |cost: Option<Cost>| cost.map_or_else(|| "?".to_owned(), |cost| quantity::bytes(cost.bytes));
        let mut rows = vec![["node", "operator", "before", "after", "of"].map(str::to_owned).to_vec()];
        rows.extend(nodes.iter().filter(|node| !node.members.is_empty()).map(|node| {
            let members: Vec<&str> = node.members.iter().map(|m| m.op.as_str()).collect();
            let (before, after) = (bytes(node.unfused_cost), bytes(node.cost));
            vec![node.name.to_string(), node.op.clone(), before, after, members.join(", ")]
        }));
        section("fused", &rows, &[2, 3]);
        let rows: Vec<_> = session
            .apart()
            .iter()
            .map(|a| vec![a.producer.to_string(), a.reader.to_string(), a.reason.clone()])
            .collect();
        section("not fused", &rows, &[]);
    }
    text
}

fn about(metadata: &Metadata) -> Vec<Vec<String>> {
    let opset = |(domain, version): &(String, i64)| {
        if domain.is_empty() { format!("{version}") } else { format!("{domain} {version}") }
    };
    let opsets: Vec<String> = metadata.opsets.iter().map(opset).collect();
    let producer = format!("{} {}", metadata.producer, metadata.producer_version);
    let rows = [
        ("graph", metadata.graph.clone()),
        ("producer", producer.trim().to_owned()),
        ("domain", metadata.domain.clone()),
        ("version", metadata.version.to_string()),
        ("ir version", metadata.ir_version.to_string()),
        ("opsets", opsets.join(", ")),
        ("description", metadata.description.clone()),
    ];
    let custom = metadata.custom.iter().map(|(key, value)| vec![key.clone(), value.clone()]);
    let named = rows.into_iter().filter(|(_, value)| !value.is_empty());
    named.map(|(key, value)| vec![key.to_owned(), value]).chain(custom).collect()
}

fn node_row(node: &NodeInfo) -> Vec<String> {
    let quantity = |value: Option<f64>, show: fn(f64) -> String| value.map_or_else(|| "?".to_owned(), show);
    let outputs: Vec<String> = node.outputs.iter().flatten().map(|spec| describe(&spec.fact)).collect();
    vec![
        node.name.to_string(),
        node.op.clone(),
        quantity(node.cost.map(|cost| cost.flops), quantity::count),
        quantity(node.cost.map(|cost| cost.bytes), quantity::bytes),
        outputs.join(", "),
    ]
}
