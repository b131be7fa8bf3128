//! What `recurve inspect` says in text.

use super::{Inspected, Placed};
use crate::dimensions::symbols;
use crate::drawing::counted;
use crate::facts::describe;
use crate::precision::PrecisionEntry;
use crate::quantity;
use crate::table::table;
use crate::terminal::Terminal;
use recurve::model::{Cost, Metadata, NodeInfo, ValueSpec};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn text(inspected: &Inspected<'_>, terminal: &Terminal) -> String {
    let (session, nodes) = (inspected.session, &inspected.graph.nodes);
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
        format!("{} elements", quantity::count(parameters.elements as f64)),
        quantity::bytes(parameters.bytes as f64),
        quantity::plural(parameters.tensors, "tensor"),
    ]];
    section("parameters", &rows, &[]);
    if let Some(precision) = PrecisionEntry::of(session, None) {
        section("weights", &precision.rows(), &[]);
    }
    let counts = inspected.operators().into_iter().map(|(op, count)| vec![op.to_owned(), count.to_string()]);
    let nested = inspected.nodes.len() > nodes.len();
    let title = if nested { "operators, those in bodies of control flow included" } else { "operators" };
    section(title, &counts.collect::<Vec<_>>(), &[1]);
    let mut rows = vec![["node", "operator", "flops", "bytes", "output"].map(str::to_owned).to_vec()];
    rows.extend(nodes.iter().map(node_row));
    let (flops, bytes) = inspected.totals();
    let unknown = nodes.iter().filter(|node| node.cost.is_none()).count();
    let note = if unknown == 0 { String::new() } else { format!("without {unknown} that depend on data") };
    rows.push(vec!["all".to_owned(), String::new(), quantity::count(flops), quantity::bytes(bytes), note]);
    section("nodes", &rows, &[2, 3]);
    let recovered: Vec<_> = nodes.iter().filter(|node| is_recovered(node)).map(recovered_row).collect();
    section("recovered from steps that the model writes out", &recovered, &[]);
    if let Some(apart) = &inspected.apart {
        let mut fused: BTreeMap<&str, Vec<Vec<String>>> = BTreeMap::new();
        for placed in inspected.fused() {
            fused.entry(&placed.body).or_default().push(fused_row(placed.node));
        }
        if fused.is_empty() {
            section("fused", &[vec!["no neighbours were fused".to_owned()]], &[]);
        }
        for (body, mut rows) in fused {
            rows.insert(0, ["node", "operator", "bytes before", "after", "of"].map(str::to_owned).to_vec());
            section(&titled("fused", body), &rows, &[2, 3]);
        }
        let mut left: BTreeMap<&str, Vec<Vec<String>>> = BTreeMap::new();
        let bodies = inspected.bodies();
        // What is no kernel has nothing to join.
        let idle: BTreeSet<String> =
            inspected.nodes.iter().filter(|placed| !placed.node.runs).map(Placed::path).collect();
        for pair in apart {
            if idle.contains(&*pair.producer) || idle.contains(&*pair.reader) {
                continue;
            }
            let within = |body: &&&str| pair.producer.starts_with(**body) && pair.reader.starts_with(**body);
            let body = bodies.iter().find(within).copied().unwrap_or_default();
            let name = |path: &str| path.strip_prefix(body).unwrap_or(path).to_owned();
            let row = vec![name(&pair.producer), name(&pair.reader), pair.reason.clone()];
            left.entry(body).or_default().push(row);
        }
        for (body, mut rows) in left {
            rows.insert(0, ["node", "read by", "because"].map(str::to_owned).to_vec());
            section(&titled("not fused", body), &rows, &[]);
        }
    }
    text.push_str(LEGEND);
    if nodes.iter().any(|node| node.cost.is_none()) {
        text.push_str(UNKNOWN);
    }
    if inspected.fused().any(|placed| placed.node.op.starts_with("recurve:Fused")) {
        text.push_str(FUSED);
    }
    if nodes.iter().any(is_made) {
        text.push_str(MADE);
    }
    if nodes.iter().any(is_nameless) {
        text.push_str(NAMELESS);
    }
    text
}

/// What is said under the tables.
const LEGEND: &str = "flops: operations of one run, where a multiplication and an addition are two. bytes: what a node reads and writes,\n\
    each once; 0 where no kernel runs, since the output is the input in another shape or known beforehand.\n";

/// The same where work is not known.
const UNKNOWN: &str = "?: not known before a run, since a shape or a branch depends on data, or on extents that --dim does not bind.\n";

/// The same where nodes were fused.
const FUSED: &str = "recurve:Fused… is one kernel in the place of several nodes: recurve:FusedMap computes element by element,\n\
    recurve:FusedRows row by row, recurve:FusedContraction a product, convolution or pool with what surrounds it. Nodes for\n\
    which no kernel runs are not listed as not fused.\n";

/// The same where nodes have names that the model does not have.
const MADE: &str = "A name such as `X/LSTM` is no name of the model: the engine put this node in the place of others, and named it after\n\
    the value that it reads and its operator.\n";

/// The same where nodes have no name in the model.
const NAMELESS: &str =
    "A name such as `Mul(y)` is of a node without a name: its operator and its first output.\n";

/// Whether the model gives the node no name, so that it goes by its operator and first output.
fn is_nameless(node: &NodeInfo) -> bool {
    let made = node.outputs.iter().flatten().next();
    made.is_some_and(|spec| node.name.ends_with(&format!("({})", spec.name)))
}

/// Whether the engine made the node: it names those after the first value that they read.
fn is_made(node: &NodeInfo) -> bool {
    let read = node.inputs.iter().flatten().next();
    // A second one of the name has its number behind it.
    let numbered = node.name.rsplit_once(' ').filter(|(_, number)| number.parse::<u32>().is_ok());
    let name = numbered.map_or(&*node.name, |(name, _)| name);
    read.is_some_and(|spec| name.strip_suffix(&*node.op) == Some(&*format!("{}/", spec.name)))
}

/// Whether it stands for steps of a recurrence.
fn is_recovered(node: &NodeInfo) -> bool {
    matches!(&*node.op, "LSTM" | "GRU" | "RNN" | "Scan") && is_made(node)
}

/// The recurrence and what it makes.
fn recovered_row(node: &NodeInfo) -> Vec<String> {
    let made = node.outputs.iter().flatten().next().map(|spec| describe(&spec.fact)).unwrap_or_default();
    vec![node.name.to_string(), node.op.clone(), made]
}

fn titled(title: &str, body: &str) -> String {
    let body = body.trim_end_matches('/');
    if body.is_empty() { title.to_owned() } else { format!("{title} in {body}") }
}

fn fused_row(node: &NodeInfo) -> Vec<String> {
    let bytes = |cost: Option<Cost>| cost.map_or_else(|| "?".to_owned(), |cost| quantity::bytes(cost.bytes));
    let members: Vec<&str> = node.members.iter().map(|m| m.op.as_str()).collect();
    let (before, after) = (bytes(node.unfused_cost), bytes(node.cost));
    vec![node.name.to_string(), node.op.clone(), before, after, counted(&members).join(", ")]
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
    let custom = metadata.custom.iter().map(|(key, value)| (key.as_str(), value.clone()));
    let named = rows.into_iter().filter(|(_, value)| !value.is_empty());
    named.chain(custom).map(|(key, value)| vec![one_line(key), one_line(&value)]).collect()
}

/// With line ends and other control characters spelled out, since files write whatever they like, and in quotes where
/// spaces at an end would be lost.
fn one_line(text: &str) -> String {
    if text.trim() != text {
        return format!("{text:?}");
    }
    text.chars().fold(String::with_capacity(text.len()), |mut line, c| {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
        line
    })
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
