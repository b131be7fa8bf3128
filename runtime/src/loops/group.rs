//! Which operators become one: groups of nests, decided by what fusion saves and costs.
//!
//! Nodes are visited from the last to the first. A node joins the group of its readers when all of them are in one
//! group, the rewrite is legal there, and it pays. Because every reader is in the group, no path leaves the group and
//! comes back, so that the group can stand where its last node stood. Each visit looks at the node's own edges only:
//! the work grows with the number of edges.
//!
//! Legal: a map joins maps ([`super::compose`]); a contraction whose result is read only at the point that is
//! written joins as the *anchor*, with the group as its epilogue, once per group.
//!
//! Pays: what is saved is writing the value and reading it again; what is lost is computing it more than once where
//! the group has more points than the value has elements.

use super::affine::Affine;
use super::compose::{Member, compose};
use super::nest::{Nest, Opaque, Read};
use super::program::{Opcode, Program};
use crate::dtype::DType;
use crate::graph::{Dim, Fact};
use std::fmt;

/// Most instructions of one fused program: beyond, the registers of a tile leave the first cache.
const MOST_INSTRUCTIONS: usize = 96;
/// Most members of one group.
const MOST_MEMBERS: usize = 64;
/// A value of so few elements may be read in any order.
const SMALL: f64 = 256.0;
/// Points that a symbolic extent counts for.
const SYMBOL: f64 = 16.0;
/// Operations that are worth a byte not moved: a core does some 32 in the time that a byte takes from memory, and
/// some 4 where it comes from the second cache; between them, nearer to the latter.
const OPERATIONS_PER_BYTE: f64 = 4.0;

/// A node as grouping sees it.
#[derive(Debug)]
pub(crate) struct Candidate {
    /// Its nest, or why it has none.
    pub(crate) nest: Result<Nest, Opaque>,
    /// How many leading axes of its result count rows, when its kernel applies a program to finished rows.
    pub(crate) rows: Option<usize>,
    /// Values that it reads.
    pub(crate) inputs: Vec<Option<usize>>,
    /// Values that it makes.
    pub(crate) outputs: Vec<usize>,
    /// Extents and bytes per element of its first output.
    pub(crate) space: Option<(Vec<Dim>, usize)>,
}

/// A set of nodes that become one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Group {
    /// Their positions, ascending; the last one makes the group's output.
    pub(crate) members: Vec<usize>,
    /// The contraction among them.
    pub(crate) anchor: Option<usize>,
    instructions: usize,
}

/// Why a node did not join the group of a reader.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Apart {
    /// It is not the only reader.
    SeveralReaders,
    /// The value is an output of the model.
    Output,
    /// The producer has no nest.
    Producer(Opaque),
    /// The reader has no nest.
    Reader(Opaque),
    /// Neither side is a map, or the kernel takes no epilogue.
    NoRewrite,
    /// The reader is itself a contraction, whose operand is packed as it is.
    Prologue,
    /// The group has a contraction already.
    SecondContraction,
    /// The contraction's result is not read point for point.
    Rearranged,
    /// It would be computed too often.
    Recomputed,
    /// It would be read against the order in memory.
    AgainstTheGrain,
    /// The fused program would be too long.
    TooLong,
}

impl fmt::Display for Apart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SeveralReaders => f.write_str("its value has readers elsewhere"),
            Self::Output => f.write_str("its value is an output"),
            Self::Producer(why) => write!(f, "{why}"),
            Self::Reader(why) => write!(f, "of its reader, {why}"),
            Self::NoRewrite => f.write_str("no rewrite joins the two"),
            Self::Prologue => f.write_str("its reader packs the operand as it is"),
            Self::SecondContraction => f.write_str("the group has a contraction already"),
            Self::Rearranged => f.write_str("its result is not read point for point"),
            Self::Recomputed => f.write_str("computing it again would cost more than storing it"),
            Self::AgainstTheGrain => f.write_str("it would be read against the order in memory"),
            Self::TooLong => f.write_str("the fused program would be too long"),
        }
    }
}

/// What was decided.
#[derive(Debug, Default)]
pub(crate) struct Grouping {
    /// Groups of at least two nodes, in the order of their last ones.
    pub(crate) groups: Vec<Group>,
    /// Producer and reader that stayed apart, and why.
    pub(crate) apart: Vec<(usize, usize, Apart)>,
}

/// Groups `nodes`, which stand in topological order and number their values below `values`; `kept` are values that
/// must exist, `facts` is what is known of each value.
pub(crate) fn group(nodes: &[Candidate], values: usize, kept: &[usize], facts: &[Option<Fact>]) -> Grouping {
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); values];
    for (index, node) in nodes.iter().enumerate() {
        for &value in node.inputs.iter().flatten() {
            readers[value].push(index);
        }
    }
    let mut is_kept = vec![false; values];
    kept.iter().for_each(|&value| is_kept[value] = true);
    let mut groups: Vec<Group> = Vec::new();
    let mut of_node: Vec<Option<usize>> = vec![None; nodes.len()];
    let mut out = Grouping::default();
    for (index, node) in nodes.iter().enumerate().rev() {
        let near = node.outputs.iter().filter_map(|&v| readers[v].first()).min().copied();
        if let Some(reader) = near {
            let joined = if node.outputs.iter().any(|&v| is_kept[v]) {
                Err(Apart::Output)
            } else {
                common_group(node, &readers, &of_node, nodes)
                    .and_then(|g| join(index, nodes, &groups[g], &readers, facts).map(|n| (g, n)))
            };
            match joined {
                Ok((g, instructions)) => {
                    let group = &mut groups[g];
                    group.members.push(index);
                    group.instructions = instructions;
                    if node.nest.as_ref().is_ok_and(|n| n.as_map().is_none()) {
                        group.anchor = Some(index);
                    }
                    of_node[index] = Some(g);
                    continue;
                }
                Err(why) => out.apart.push((index, reader, why)),
            }
        }
        // A layout at the end of a group would only turn around the order in which it writes.
        if let Ok(nest) = &node.nest
            && !nest.is_layout()
            && let Some(stage) = nest.as_map()
        {
            of_node[index] = Some(groups.len());
            groups.push(Group {
                members: vec![index],
                anchor: None,
                instructions: stage.program.instructions().len(),
            });
        }
    }
    groups.iter_mut().for_each(|g| g.members.reverse());
    for group in &mut groups {
        // Members that joined later may read their operands otherwise than by rows.
        if let Some(anchor) = group.anchor
            && !by_rows(nodes, group, anchor, facts)
        {
            let reader = nodes[anchor].outputs.iter().filter_map(|&v| readers[v].first()).min().copied();
            out.apart.extend(reader.map(|reader| (anchor, reader, Apart::Rearranged)));
            group.members.retain(|&m| m != anchor);
            group.anchor = None;
        }
    }
    groups.retain(|g| g.members.len() > 1);
    groups.reverse();
    out.groups = groups;
    out.apart.sort_by_key(|a| (a.0, a.1));
    out
}

impl Group {
    /// A group of these members.
    pub(crate) fn of(members: Vec<usize>, anchor: Option<usize>) -> Self {
        Self { members, anchor, instructions: 0 }
    }
}

/// Whether every operand of the maps of `group` is still or contiguous along the columns of the anchor's result.
fn by_rows(nodes: &[Candidate], group: &Group, anchor: usize, facts: &[Option<Fact>]) -> bool {
    let (Some((nest, operands)), Some(rows)) = (composed(nodes, group, facts), nodes[anchor].rows) else {
        return false;
    };
    // The kernel writes to the group's output as if it were its own.
    let dtype = |node: usize| {
        let value = *nodes[node].outputs.first()?;
        Some(facts[value].as_ref()?.tensor()?.dtype)
    };
    if group.members.iter().max().and_then(|&sink| dtype(sink)) != dtype(anchor) {
        return false;
    }
    let columns = rows..nest.axes.len();
    let crosses = |a: &Affine| a.terms().iter().any(|t| columns.contains(&t.0));
    nest.reads.iter().all(|read| {
        if !read.index.iter().any(crosses) {
            return true;
        }
        let Some(outer) = read.index.len().checked_sub(columns.len()) else { return false };
        let shape = facts[operands[read.operand]].as_ref().and_then(|f| f.tensor()?.shape.as_deref());
        let whole = shape.is_some_and(|s| s.get(outer..) == nest.axes.get(columns.clone()));
        let in_order = columns.clone().zip(&read.index[outer..]).all(|(axis, a)| *a == Affine::axis(axis));
        whole && in_order && !read.index[..outer].iter().any(crosses)
    })
}

/// The group that all readers of `node` are in.
fn common_group(
    node: &Candidate,
    readers: &[Vec<usize>],
    of_node: &[Option<usize>],
    nodes: &[Candidate],
) -> Result<usize, Apart> {
    let mut found = None;
    for &reader in node.outputs.iter().flat_map(|&v| &readers[v]) {
        let Some(group) = of_node[reader] else {
            return Err(match &nodes[reader].nest {
                Err(why) => Apart::Reader(why.clone()),
                Ok(nest) if nest.as_map().is_none() => Apart::Prologue,
                Ok(_) => Apart::NoRewrite,
            });
        };
        if *found.get_or_insert(group) != group {
            return Err(Apart::SeveralReaders);
        }
    }
    found.ok_or(Apart::NoRewrite)
}

/// Instructions of `group` with node `index` in it, if it may join.
fn join(
    index: usize,
    nodes: &[Candidate],
    group: &Group,
    readers: &[Vec<usize>],
    facts: &[Option<Fact>],
) -> Result<usize, Apart> {
    let node = &nodes[index];
    let nest = node.nest.as_ref().map_err(|why| Apart::Producer(why.clone()))?;
    let reads_of_it = || node.outputs.iter().flat_map(|&v| &readers[v]);
    if group.anchor.is_some_and(|anchor| reads_of_it().any(|&r| r == anchor)) {
        return Err(Apart::Prologue);
    }
    let sink = group.members[0];
    let (space, _) = nodes[sink].space.as_ref().ok_or(Apart::NoRewrite)?;
    let (own, width) = node.space.as_ref().ok_or(Apart::NoRewrite)?;
    let Some(stage) = nest.as_map() else {
        if node.rows.is_none() || node.outputs.len() != 1 {
            return Err(Apart::NoRewrite);
        }
        if group.anchor.is_some() {
            return Err(Apart::SecondContraction);
        }
        let direct = own == space && point_for_point(index, nodes, group, facts)?;
        return if direct { Ok(group.instructions) } else { Err(Apart::Rearranged) };
    };
    if nest.reads.iter().flat_map(|r| &r.index).any(|a| a.terms().iter().any(|t| t.1 < 0)) {
        return Err(Apart::AgainstTheGrain);
    }
    let instructions = group.instructions + stage.program.instructions().len();
    if instructions > MOST_INSTRUCTIONS || group.members.len() == MOST_MEMBERS {
        return Err(Apart::TooLong);
    }
    if nest.is_layout() && points(own) > SMALL && !nest.reads.iter().all(|r| keeps_rows(r, nest.axes.len())) {
        return Err(Apart::AgainstTheGrain);
    }
    let again = (points(space) - points(own)).max(0.0) * operations(&stage.program);
    let saved = 2.0 * points(own) * *width as f64;
    if again > saved * OPERATIONS_PER_BYTE {
        return Err(Apart::Recomputed);
    }
    Ok(instructions)
}

/// Whether what node `index` makes is read in `group` only at the point that is being computed.
fn point_for_point(
    index: usize,
    nodes: &[Candidate],
    group: &Group,
    facts: &[Option<Fact>],
) -> Result<bool, Apart> {
    let composed = composed(nodes, group, facts).ok_or(Apart::NoRewrite)?;
    let (nest, operands) = composed;
    let direct = |r: &Read| r.index.iter().enumerate().all(|(i, a)| *a == Affine::axis(i));
    Ok(nest.reads.iter().all(|r| operands[r.operand] != nodes[index].outputs[0] || direct(r)))
}

/// The nest of the maps of `group`, and its operands.
pub(crate) fn composed(
    nodes: &[Candidate],
    group: &Group,
    facts: &[Option<Fact>],
) -> Option<(Nest, Vec<usize>)> {
    let maps = group.members.iter().filter(|&&m| Some(m) != group.anchor);
    let member = |&m: &usize| {
        let node = &nodes[m];
        let inputs = node.inputs.iter().map(|v| v.unwrap_or(usize::MAX)).collect();
        Some(Member { nest: node.nest.as_ref().ok()?.clone(), inputs, outputs: node.outputs.clone() })
    };
    let members: Vec<Member> = maps.map(member).collect::<Option<_>>()?;
    let sink = &nodes[*group.members.iter().max()?];
    let output = *sink.outputs.first()?;
    let dtype = |value: usize| {
        // What is no tensor is read by no nest.
        facts[value].as_ref().and_then(Fact::tensor).map_or(DType::String, |t| t.dtype)
    };
    compose(&sink.space.as_ref()?.0, &[(output, dtype(output))], &members, dtype).ok()
}

/// Whether neighbours along the last of `rank` axes are neighbours in the operand, or one element.
fn keeps_rows(read: &Read, rank: usize) -> bool {
    read.index.last().is_none_or(|last| match last.terms() {
        [] => true,
        [(axis, 1)] => axis + 1 == rank,
        _ => false,
    })
}

/// Points of a space.
fn points(space: &[Dim]) -> f64 {
    space.iter().map(|d| d.known().map_or(SYMBOL, |n| n as f64)).product()
}

/// Operations of a program for one point, in additions: as many as the vector functions take, about.
fn operations(program: &Program) -> f64 {
    let weight = |opcode| match opcode {
        Opcode::Input | Opcode::Constant => 0.0,
        Opcode::Div | Opcode::Sqrt => 5.0,
        Opcode::Rem | Opcode::Pow => 30.0,
        opcode if opcode.is_function() => 15.0,
        _ => 1.0,
    };
    program.instructions().iter().map(|i| weight(i.opcode)).sum()
}
