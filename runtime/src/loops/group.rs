//! Which operators become one: groups of nests, decided by what fusion saves and costs.
//!
//! Nodes are visited from the last to the first. A node joins the group of its readers when all of them are in one
//! group, the rewrite is legal there, and it pays. Because every reader is in the group, no path leaves the group and
//! comes back, so that the group can stand where its last node stood. Each visit looks at the node's own edges only:
//! the work grows with the number of edges.
//!
//! A map that is read elsewhere, too, or is an output of the model, joins as a value that the group stores, when its
//! other readers come after the group's last node, so that again no path comes back, and it has the result's extents;
//! so do a contraction, whose sums are then stored beside what its epilogue makes of them, and a reduction with one
//! element for each of the result's. What has other extents would be stored by another loop than the result is. A map
//! stays outside where a contraction ahead of it would lose its epilogue: rows that fold are no epilogue.
//!
//! Legal: a map joins maps ([`super::compose`]); a contraction whose result is read only at the point that is
//! written joins as the *anchor*, with the group as its epilogue, once per group; a reduction or normalisation joins,
//! or begins a group, where everything in it runs over the same rows and lies in their order ([`super::in_rows`]).
//!
//! Pays: [`super::cost`].

use super::affine::Affine;
use super::apart::Apart;
use super::candidate::{Candidate, Role};
use super::compose::{Member, Space, compose};
use super::cost::{
    MOST_INSTRUCTIONS, MOST_MEMBERS, SMALL, instructions, points, recomputes, rows_pay, runs_pay, strips_pay,
};
use super::epilogue::as_epilogue;
use super::in_rows::{Form, divided_space, form, keeps_rows, row_spaces, runs};
use super::made_operand::{makes_operand, takes_made, unmade};
use super::nest::{Effect, Nest, Read};
use super::strided::{exchange, strided_operand};
use crate::dtype::DType;
use crate::graph::Fact;

/// A set of nodes that become one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Group {
    /// Their positions, ascending; the last one makes the group's first output.
    pub(crate) members: Vec<usize>,
    /// The contraction among them.
    pub(crate) anchor: Option<usize>,
    /// Layouts ahead of the contraction that it reads its operands through ([`super::strided`]).
    prologue: Vec<usize>,
    /// Maps that make the rows of the contraction's first operand ([`super::made_operand`]).
    pub(crate) operand: Vec<usize>,
    /// The last member, where it is an exchange of axes that the contraction writes its result through.
    pub(crate) written: Option<usize>,
    /// Values that are stored besides the last node's.
    pub(crate) stored: Vec<usize>,
    folds: bool,
    instructions: usize,
}

/// How many maps are looked back through.
const NEAR: usize = 8;

/// Most values that a group stores.
const MOST_STORED: usize = 4;

/// What was decided.
#[derive(Debug, Default)]
pub(crate) struct Grouping {
    /// Groups of at least two nodes, in the order of their last ones.
    pub(crate) groups: Vec<Group>,
    /// Producer and reader that stayed apart, and why.
    pub(crate) apart: Vec<(usize, usize, Apart)>,
}

/// The state of grouping.
struct Grouper<'a> {
    nodes: &'a [Candidate],
    facts: &'a [Option<Fact>],
    /// Nodes that read each value.
    readers: Vec<Vec<usize>>,
    /// The node that makes each value.
    maker: Vec<Option<usize>>,
    /// Values that must exist.
    kept: Vec<bool>,
    groups: Vec<Group>,
    of_node: Vec<Option<usize>>,
}

/// Groups `nodes`, which stand in topological order and number their values below `values`; `kept` are values that
/// must exist, `facts` is what is known of each value.
pub(crate) fn group(nodes: &[Candidate], values: usize, kept: &[usize], facts: &[Option<Fact>]) -> Grouping {
    let mut grouper = Grouper {
        nodes,
        facts,
        readers: vec![Vec::new(); values],
        maker: vec![None; values],
        kept: vec![false; values],
        groups: Vec::new(),
        of_node: vec![None; nodes.len()],
    };
    for (index, node) in nodes.iter().enumerate() {
        node.inputs.iter().flatten().for_each(|&value| grouper.readers[value].push(index));
        node.outputs.iter().for_each(|&value| grouper.maker[value] = Some(index));
    }
    kept.iter().for_each(|&value| grouper.kept[value] = true);
    let mut out = Grouping::default();
    for index in (0..nodes.len()).rev() {
        if let Some(reader) = grouper.readers_of(index).min() {
            match grouper.join(index) {
                Ok(()) => continue,
                Err(why) => out.apart.push((index, reader, why)),
            }
        }
        grouper.begin(index);
    }
    let Grouper { readers, mut groups, .. } = grouper;
    groups.iter_mut().for_each(|g| g.members.reverse());
    let mut alone = Vec::new();
    for group in &mut groups {
        if group.anchor.is_none() {
            group.leave_order();
        }
        // Members that joined later may read their operands otherwise than by rows.
        if let Some(anchor) = group.anchor
            && let Err(why) = as_epilogue(nodes, group, anchor, facts)
        {
            let reader = nodes[anchor].outputs.iter().filter_map(|&v| readers[v].first()).min().copied();
            out.apart.extend(reader.map(|reader| (anchor, reader, why)));
            // With its prologue it is a group of its own.
            let Group { members, prologue, operand, .. } = group;
            members.retain(|m| *m != anchor && !prologue.contains(m) && !operand.contains(m));
            let mut rest = std::mem::take(prologue);
            rest.push(anchor);
            let operand = std::mem::take(operand);
            rest.extend(&operand);
            group.anchor = None;
            group.stored.retain(|value| !nodes[anchor].outputs.contains(value));
            group.leave_order();
            alone.push(Group { operand, ..Group::of(rest, Some(anchor), Vec::new()) });
        }
    }
    groups.extend(alone);
    groups.iter_mut().for_each(|g| g.members.sort_unstable());
    groups.retain(|g| g.members.len() > 1);
    groups.sort_by_key(Group::sink);
    out.groups = groups;
    out.apart.sort_by_key(|a| (a.0, a.1));
    out
}

impl Group {
    /// A group of these members.
    pub(crate) fn of(members: Vec<usize>, anchor: Option<usize>, stored: Vec<usize>) -> Self {
        let (prologue, operand, written) = (Vec::new(), Vec::new(), None);
        Self { members, anchor, prologue, operand, written, stored, folds: false, instructions: 0 }
    }

    /// The node that makes the first output: the last one.
    fn sink(&self) -> usize {
        self.members.iter().copied().max().unwrap_or(0)
    }

    /// Whether node `index` is the contraction, or makes what it reads.
    fn is_ahead(&self, index: usize) -> bool {
        self.anchor == Some(index) || self.prologue.contains(&index) || self.operand.contains(&index)
    }

    /// The node that makes the last value ahead of the exchange that the contraction writes through.
    pub(crate) fn core(&self) -> usize {
        self.members.iter().copied().filter(|m| Some(*m) != self.written).max().unwrap_or(0)
    }

    /// Gives the exchange of axes back: without a contraction nothing writes through it.
    fn leave_order(&mut self) {
        if let Some(written) = self.written.take() {
            self.members.retain(|m| *m != written);
        }
    }
}

impl Grouper<'_> {
    fn readers_of(&self, index: usize) -> impl Iterator<Item = usize> {
        self.nodes[index].outputs.iter().flat_map(|&v| &self.readers[v]).copied()
    }

    /// Begins a group with node `index` as the last one, if it can have members.
    fn begin(&mut self, index: usize) {
        let node = &self.nodes[index];
        let role = node.role();
        let mut group = Group::of(vec![index], None, Vec::new());
        group.folds = role == Role::Fold;
        group.instructions = node.nest.as_ref().map_or(0, instructions);
        let able = match role {
            // A layout at the end of a group turns around the order in which it writes, which contractions can.
            Role::Map if node.is_layout() => {
                let behind = self.follows(index, &[Role::Contraction]);
                let writes = behind.is_some_and(|at| self.nodes[at].writes_strided);
                group.written = Some(index);
                writes && exchange(node, self.facts).is_some()
            }
            Role::Map => true,
            Role::Fold => self.in_rows(&group).is_ok(),
            Role::Contraction => node.strided > 0 || takes_made(node),
            Role::Other => false,
        };
        if role == Role::Contraction {
            group.anchor = Some(index);
        }
        if able {
            self.of_node[index] = Some(self.groups.len());
            self.groups.push(group);
        }
    }

    /// Puts node `index` into the group of its readers, if that is legal and pays.
    fn join(&mut self, index: usize) -> Result<(), Apart> {
        let (at, stored) = self.group_for(index)?;
        let node = &self.nodes[index];
        let role = node.role();
        let mut joined = self.groups[at].clone();
        let is_ahead = self.readers_of(index).any(|r| joined.is_ahead(r));
        joined.members.push(index);
        if is_ahead {
            if joined.members.len() > MOST_MEMBERS {
                return Err(Apart::TooLong);
            }
            self.joins_ahead(index, &mut joined)?;
            self.groups[at] = joined;
            self.of_node[index] = Some(at);
            return Ok(());
        }
        if let (Role::Other, Err(why)) = (role, &node.nest) {
            return Err(Apart::Producer(why.clone()));
        }
        joined.instructions += node.nest.as_ref().map_or(0, instructions);
        joined.stored.extend(stored.then_some(node.outputs[0]));
        if joined.instructions > MOST_INSTRUCTIONS || joined.members.len() > MOST_MEMBERS {
            return Err(Apart::TooLong);
        }
        match role {
            Role::Map => self.map_joins(index, &joined)?,
            Role::Fold => {
                if joined.anchor.is_some() || joined.written.is_some() {
                    return Err(Apart::Rows);
                }
                joined.folds = true;
                self.in_rows(&joined)?;
            }
            Role::Contraction => {
                if joined.anchor.replace(index).is_some() {
                    return Err(Apart::SecondContraction);
                }
                if joined.folds {
                    return Err(Apart::Rows);
                }
                if joined.written.is_some() && !node.writes_strided {
                    return Err(Apart::Rearranged);
                }
                let (sink, own) = (&self.nodes[joined.core()].space, &node.space);
                let same = sink.as_ref().zip(own.as_ref()).is_some_and(|(a, b)| a.0 == b.0);
                if !same || !self.point_for_point(index, &joined)? {
                    return Err(Apart::Rearranged);
                }
            }
            Role::Other => return Err(Apart::NoRewrite),
        }
        self.groups[at] = joined;
        self.of_node[index] = Some(at);
        Ok(())
    }

    /// Puts node `index`, already a member of `group`, ahead of its contraction: a layout that an operand is read
    /// through, or a map that makes the first operand.
    fn joins_ahead(&self, index: usize, group: &mut Group) -> Result<(), Apart> {
        let node = &self.nodes[index];
        let ahead = |r: usize| group.anchor == Some(r) || group.prologue.contains(&r);
        if node.is_layout() && self.readers_of(index).all(ahead) {
            group.prologue.push(index);
            if self.reads_through(group) {
                return Ok(());
            }
            group.prologue.pop();
        }
        let makes = |r: usize| group.operand.contains(&r) || group.anchor == Some(r);
        if node.is_layout() && group.operand.is_empty() {
            // A view costs nothing, and other layouts would be copied in any case.
            return Err(Apart::AgainstTheGrain);
        }
        // What can be the end of another product or of rows is computed there.
        if !self.readers_of(index).all(makes)
            || self.follows(index, &[Role::Contraction, Role::Fold]).is_some()
        {
            return Err(Apart::Prologue);
        }
        group.operand.push(index);
        makes_operand(self.nodes, group, self.facts)
    }

    /// Whether the contraction of `group` can read its operands through the layouts ahead of it.
    fn reads_through(&self, group: &Group) -> bool {
        let Some(anchor) = group.anchor.map(|a| &self.nodes[a]) else { return false };
        let rank = |value: usize| self.facts[value].as_ref()?.tensor()?.rank();
        anchor.inputs.iter().enumerate().all(|(at, value)| {
            let Some(value) = *value else { return true };
            let Some(rank) = rank(value) else { return false };
            let seen = strided_operand(self.nodes, &group.prologue, value, rank);
            seen.is_some_and(|s| s.value == value || at < anchor.strided && s.is_readable(rank))
        })
    }

    /// The group that node `index` may join, and whether its value must then be stored.
    fn group_for(&self, index: usize) -> Result<(usize, bool), Apart> {
        let node = &self.nodes[index];
        let (mut found, mut refused): (Option<usize>, Option<Apart>) = (None, None);
        let earliest =
            |a: usize, b: usize| if self.groups[a].sink() <= self.groups[b].sink() { a } else { b };
        for reader in self.readers_of(index) {
            match self.of_node[reader] {
                Some(group) => found = Some(found.map_or(group, |f| earliest(f, group))),
                None => {
                    refused.get_or_insert(match (&self.nodes[reader].nest, self.nodes[reader].role()) {
                        (_, Role::Contraction) => unmade(&self.nodes[reader]),
                        (Err(why), _) => Apart::Reader(why.clone()),
                        (_, Role::Fold) => Apart::Rows,
                        _ => Apart::NoRewrite,
                    });
                }
            }
        }
        let Some(group) = found else { return Err(refused.unwrap_or(Apart::NoRewrite)) };
        let mut outside = self.readers_of(index).filter(|&r| self.of_node[r] != Some(group)).peekable();
        let kept = node.outputs.iter().any(|&v| self.kept[v]);
        if !kept && outside.peek().is_none() {
            return Ok((group, false));
        }
        let why = || if kept { Apart::Output } else { refused.clone().unwrap_or(Apart::SeveralReaders) };
        let sink = self.groups[group].sink();
        let same = node.space.is_some()
            && node.space.as_ref().map(|s| &s.0) == self.nodes[sink].space.as_ref().map(|s| &s.0);
        let whole = match node.role() {
            Role::Map => !node.is_layout(),
            Role::Contraction => node.stores_beside,
            Role::Fold => true,
            Role::Other => false,
        };
        let ahead = self.follows(index, &[Role::Contraction]);
        let loses = ahead.is_some_and(|at| self.groups[group].folds || !self.nodes[at].stores_beside);
        let able = same
            && whole
            && node.outputs.len() == 1
            && self.groups[group].anchor.is_none()
            && self.groups[group].written.is_none()
            && self.groups[group].stored.len() + 1 < MOST_STORED
            && outside.all(|reader| reader > sink)
            && !loses;
        if able { Ok((group, true)) } else { Err(why()) }
    }

    /// The node ahead of node `index`, of one of these roles, that maps which nothing else reads lead to.
    fn follows(&self, index: usize, roles: &[Role]) -> Option<usize> {
        let mut pending = vec![index];
        for _ in 0..NEAR {
            let next = pending.pop()?;
            for &value in self.nodes[next].inputs.iter().flatten() {
                let Some(maker) = self.maker[value].filter(|_| self.readers[value].len() == 1) else {
                    continue;
                };
                let role = self.nodes[maker].role();
                if roles.contains(&role) {
                    return Some(maker);
                }
                if role == Role::Map {
                    pending.push(maker);
                }
            }
        }
        None
    }

    /// Whether the map `index` may be computed inside `joined`, where it has been put.
    fn map_joins(&self, index: usize, joined: &Group) -> Result<(), Apart> {
        let node = &self.nodes[index];
        let nest = node.nest.as_ref().map_err(|why| Apart::Producer(why.clone()))?;
        let stage = nest.as_map().ok_or(Apart::NoRewrite)?;
        let (space, _) = self.nodes[joined.core()].space.as_ref().ok_or(Apart::NoRewrite)?;
        let (own, width) = node.space.as_ref().ok_or(Apart::NoRewrite)?;
        if nest.reads.iter().flat_map(|r| &r.index).any(|a| a.terms().iter().any(|t| t.1 < 0)) {
            return Err(Apart::AgainstTheGrain);
        }
        if joined.folds {
            return self.in_rows(joined);
        }
        let in_order = || nest.reads.iter().all(|r| keeps_rows(r, nest.axes.len()));
        if nest.is_layout() && points(own) > SMALL && !in_order() {
            return Err(Apart::AgainstTheGrain);
        }
        if recomputes(&stage.program, own, *width, space) && !self.becomes_of_rows(index, joined) {
            return Err(Apart::Recomputed);
        }
        Ok(())
    }

    /// Whether maps that only `joined` reads lead from node `index` back to a fold that will make rows of the group, so
    /// that what has one element per row is computed once.
    fn becomes_of_rows(&self, index: usize, joined: &Group) -> bool {
        let mut with = joined.clone();
        let mut pending = vec![index];
        for _ in 0..NEAR {
            let Some(next) = pending.pop() else { return false };
            for &value in self.nodes[next].inputs.iter().flatten() {
                let Some(maker) = self.maker[value].filter(|_| self.readers[value].len() == 1) else {
                    continue;
                };
                let role = self.nodes[maker].role();
                if matches!(role, Role::Map | Role::Fold) {
                    with.members.push(maker);
                    pending.push(maker);
                }
                if role == Role::Fold {
                    return joined.anchor.is_none()
                        && joined.written.is_none()
                        && self.in_rows(&with).is_ok();
                }
            }
        }
        false
    }

    /// Whether `group`, which folds, can be computed row by row, and that pays.
    fn in_rows(&self, group: &Group) -> Result<(), Apart> {
        let (nest, operands, space) = composed(self.nodes, group, self.facts).ok_or(Apart::Rows)?;
        let wide =
            |e: &Effect, d: DType| matches!(e, Effect::Store(_)) || matches!(d, DType::F32 | DType::F64);
        let summed = nest.stages.iter().all(|s| s.program.outputs().iter().all(|o| wide(&s.effect, o.dtype)));
        match form(&nest, &operands, &space, self.facts).filter(|_| summed).ok_or(Apart::Rows)? {
            Form::Rows => {
                runs_pay(runs(&nest, &space.row))?;
                rows_pay(&nest.axes, space.row.start)
            }
            Form::Strips(strip) => strips_pay(&nest.axes, &space.row, &strip),
        }
    }

    /// Whether what node `index` makes is read in `group` only at the point that is being computed.
    fn point_for_point(&self, index: usize, group: &Group) -> Result<bool, Apart> {
        let (nest, operands, _) = composed(self.nodes, group, self.facts).ok_or(Apart::NoRewrite)?;
        let direct = |r: &Read| r.index.iter().enumerate().all(|(i, a)| *a == Affine::axis(i));
        let made = self.nodes[index].outputs[0];
        Ok(nest.reads.iter().all(|r| operands[r.operand] != made || direct(r)))
    }
}

/// The nest of the maps and folds of `group`, its operands and its space.
pub(crate) fn composed(
    nodes: &[Candidate],
    group: &Group,
    facts: &[Option<Fact>],
) -> Option<(Nest, Vec<usize>, Space)> {
    let apart = |m: usize| group.anchor == Some(m) || group.written == Some(m) || group.operand.contains(&m);
    let inner = group.members.iter().filter(|&&m| !apart(m));
    let member = |&m: &usize| {
        let node = &nodes[m];
        let inputs = node.inputs.iter().map(|v| v.unwrap_or(usize::MAX)).collect();
        Some(Member { nest: node.nest.as_ref().ok()?.clone(), inputs, outputs: node.outputs.clone() })
    };
    let members: Vec<Member> = inner.map(member).collect::<Option<_>>()?;
    let sink = &nodes[group.core()];
    let dtype = |value: usize| {
        // What is no tensor is read by no nest.
        facts[value].as_ref().and_then(Fact::tensor).map_or(DType::String, |t| t.dtype)
    };
    let output = *sink.outputs.first()?;
    let outputs: Vec<_> = [output].iter().chain(&group.stored).map(|&v| (v, dtype(v))).collect();
    let (extents, _) = sink.space.as_ref()?;
    let row = members.iter().find_map(|m| {
        let fold = m.nest.stages.iter().find(|s| matches!(s.effect, Effect::Fold(_)))?;
        let mut over = fold.over.clone();
        over.sort_unstable();
        Some(over.into_iter().map(|axis| m.nest.axes[axis].clone()).collect::<Vec<_>>())
    });
    let Some(row) = row else {
        let space = Space::of_maps(extents);
        let (nest, operands) = compose(&space, &outputs, &members, dtype).ok()?;
        return Some((nest, operands, space));
    };
    let divided = members.iter().find_map(|m| {
        let space = divided_space(&m.nest)?;
        let own = facts[*m.outputs.first()?].as_ref()?.tensor()?.shape.as_ref()?;
        (own == extents).then_some(space)
    });
    row_spaces(extents, &row).chain(divided).find_map(|space| {
        let (nest, operands) = compose(&space, &outputs, &members, dtype).ok()?;
        Some((nest, operands, space))
    })
}
