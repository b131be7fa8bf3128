//! `recurve inspect`: what a model consists of.

mod document;
mod text;

use crate::arguments::{DimensionArguments, FileArguments};
use crate::dimensions::resolve;
use crate::drawing;
use crate::exit::Exit;
use crate::failure::UsageError;
use crate::files;
use crate::terminal::Terminal;
use anyhow::Result;
use recurve::Session;
use recurve::model::{Apart, GraphInfo, NodeInfo};
use recurve::settings::Fusion;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::rc::Rc;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  recurve inspect model.onnx --fused --dim batch=1,time=50 --svg model.svg"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: FileArguments,
    #[command(flatten)]
    dimensions: DimensionArguments,
    /// Show the model as it is run: what was fused, what it saves, and which neighbours stayed apart, and why
    #[arg(long, help_heading = "Results")]
    fused: bool,
    /// Write the graph for Graphviz: nodes with what was fused into each, edges with the bytes of their values
    #[arg(long, value_name = "OUT.dot", help_heading = "Results")]
    dot: Option<PathBuf>,
    /// Write the graph as a picture: nodes with what was fused into each, edges with the bytes of their values
    #[arg(long, value_name = "OUT.svg", help_heading = "Results")]
    svg: Option<PathBuf>,
}

/// A model and what is asked about it.
struct Inspected<'a> {
    session: &'a Session,
    graph: &'a GraphInfo,
    /// All nodes with their paths, those of bodies behind the node that they belong to.
    nodes: Vec<Placed<'a>>,
    /// What stayed apart, where fusion is asked for.
    apart: Option<Vec<Apart>>,
}

/// A node and where it stands.
struct Placed<'a> {
    /// The names of the node and body that it stands in, `NODE/BODY/`; empty in the model's graph.
    body: Rc<str>,
    node: &'a NodeInfo,
}

/// No input has a shape of the caller's.
const NO_SHAPES: [(&str, Vec<usize>); 0] = [];

pub(crate) fn run(arguments: &Arguments, terminal: &Terminal) -> Result<Exit> {
    let session = {
        let fusion = if arguments.fused { Fusion::On } else { Fusion::Off };
        arguments.model.load(Session::builder().with_fusion(fusion), terminal)?
    };
    let none = vec![None; session.inputs().len()];
    let resolved = resolve(session.inputs(), &arguments.dimensions.bindings, &none)?;
    let shapes = session.inputs().iter().zip(&resolved.shapes);
    let shapes = shapes.filter_map(|(spec, shape)| Some((&*spec.name, shape.as_ref()?)));
    let names = resolved.assumed.join(", ");
    let graph = match session.graph(shapes) {
        Ok(graph) => {
            if !resolved.assumed.is_empty() {
                terminal.narrate(format!("note: taken as 1, since --dim does not bind them: {names}"));
            }
            graph
        }
        Err(error) => {
            // A model that was loaded is valid for some extents, and without any that are its own.
            let unbound = if resolved.assumed.is_empty() { None } else { session.graph(NO_SHAPES).ok() };
            let Some(graph) = unbound else {
                let bound = format!(
                    "`{}` does not fit these extents of its dimensions",
                    arguments.model.path.display()
                );
                let error = UsageError::new(bound).because(error);
                return Err(error.hint("bind others with --dim, such as --dim batch=1,time=50").into());
            };
            terminal.narrate(format!(
                "note: no extents of 1 fit: bind with --dim, for the work of nodes: {names}"
            ));
            graph
        }
    };
    for name in &resolved.assumed {
        let unnamed = session.inputs().iter().find_map(|spec| {
            let axis: usize = name.strip_prefix(&*spec.name)?.strip_prefix('.')?.parse().ok()?;
            Some((&*spec.name, axis))
        });
        if let Some((input, axis)) = unnamed {
            terminal.narrate(format!(
                "note: {name} is axis {axis} of input `{input}`, which the model leaves unnamed"
            ));
        }
    }
    let mut nodes = Vec::new();
    place(&graph, &"".into(), &mut nodes);
    let apart = arguments.fused.then(|| session.apart());
    let inspected = Inspected { session: &session, graph: &graph, nodes, apart };
    let drawing = drawing::Drawing::of(&graph);
    for (path, written) in [(&arguments.dot, drawing::dot as fn(&_) -> _), (&arguments.svg, drawing::svg)] {
        if let Some(path) = path {
            files::write(path, &written(&drawing))?;
            terminal.narrate(format!("wrote {}", path.display()));
        }
    }
    if terminal.json() {
        terminal.document(&document::document(&inspected))?;
    } else {
        terminal.print(&text::text(&inspected, terminal))?;
    }
    Ok(Exit::Success)
}

fn place<'a>(graph: &'a GraphInfo, body: &Rc<str>, to: &mut Vec<Placed<'a>>) {
    for node in &graph.nodes {
        to.push(Placed { body: body.clone(), node });
        for inner in &node.bodies {
            place(inner, &format!("{body}{}/{}/", node.name, inner.name).into(), to);
        }
    }
}

impl Placed<'_> {
    /// Its name as [`Apart`] has it.
    fn path(&self) -> String {
        format!("{}{}", self.body, self.node.name)
    }
}

impl<'a> Inspected<'a> {
    /// How many nodes there are of each operator, those of bodies included.
    fn operators(&self) -> BTreeMap<&'a str, usize> {
        let mut counts = BTreeMap::new();
        for placed in &self.nodes {
            *counts.entry(placed.node.op.as_str()).or_default() += 1;
        }
        counts
    }

    /// Operations and bytes of the nodes whose shapes are known.
    fn totals(&self) -> (f64, f64) {
        let costs = self.graph.nodes.iter().filter_map(|node| node.cost);
        costs.fold((0.0, 0.0), |(flops, bytes), cost| (flops + cost.flops, bytes + cost.bytes))
    }

    /// The bodies that nodes stand in, as [`Placed`] names them, the longest names first.
    fn bodies(&self) -> Vec<&str> {
        let all: BTreeSet<&str> = self.nodes.iter().map(|placed| &*placed.body).collect();
        let mut all: Vec<&str> = all.into_iter().collect();
        all.sort_by_key(|body| std::cmp::Reverse(body.len()));
        all
    }

    fn fused(&self) -> impl Iterator<Item = &Placed<'a>> {
        self.nodes.iter().filter(|placed| !placed.node.members.is_empty())
    }

    /// For each fused node the neighbours of its members that are no members: name and reason.
    fn left_out(&self) -> Vec<Vec<(&str, &str)>> {
        let mut of_member: HashMap<String, usize> = HashMap::new();
        for (at, placed) in self.fused().enumerate() {
            let members = placed.node.members.iter();
            of_member.extend(members.map(|member| (format!("{}{}", placed.body, member.name), at)));
        }
        let mut left: Vec<Vec<(&str, &str)>> = vec![Vec::new(); self.fused().count()];
        for Apart { producer, reader, reason, .. } in self.apart.iter().flatten() {
            let (made, read) = (of_member.get(&**producer), of_member.get(&**reader));
            if made != read {
                for (at, neighbour) in [(made, reader), (read, producer)] {
                    if let Some(&at) = at {
                        left[at].push((neighbour, reason));
                    }
                }
            }
        }
        left
    }
}
