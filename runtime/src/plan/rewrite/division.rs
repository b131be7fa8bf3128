//! What of a node's inputs a part of its outputs is made of: along which axis each is cut where one is.
//!
//! An operator is cut along an axis of its nest ([`Nest`]). That is legal where
//!
//! - no fold runs over the axis, so that every element is computed from as many terms as before, and in the same loops;
//! - whatever has the axis in an index is read and written at the axis itself, neither shifted nor scaled nor beside
//!   another axis, so that a part of the axis is the same part of the operand;
//! - the operator, given the part, infers the part of each output and has the same nest with the shorter axis, which
//!   attributes and constants that name the extent do not let happen.
//!
//! A recurrence is cut along its rows, which share nothing but the weights; operands are joined along another axis than
//! the one that is cut. A group is cut where its members are, one behind the other. Values are as before but for the order
//! in which a product of another shape may take its sums.

use crate::graph::fact::{Facts, normal_axis};
use crate::graph::{Dim, Fact, Node, TensorFact, ValueId, infer, infer_node};
use crate::loops::{Affine, Effect, Fused, Nest, Stage};
use crate::ops::Op;
use crate::ops::recurrence::Recurrence;

/// By input and by output: the axis that is cut; `None` for an input that every part reads whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Division {
    pub(super) inputs: Vec<Option<usize>>,
    pub(super) outputs: Vec<usize>,
}

/// How `op`, whose inputs are known as `given` and of which the first `wanted` outputs are wanted, is cut where input
/// `input` is, along `axis` into pieces of `parts` elements; `None` where that may not be done.
pub(super) fn division(
    op: &dyn Op,
    (given, wanted): (&[Option<&Fact>], usize),
    (input, axis): (usize, usize),
    parts: &[usize],
) -> Option<Division> {
    if !op.is_deterministic() || !op.bodies().is_empty() {
        return None;
    }
    let mut outputs = infer_node(op, Facts(given)).ok()?;
    let fused = op.as_any().downcast_ref::<Fused>();
    if op.recurrence().is_none() && fused.is_none() {
        // A nest tells of the first output alone.
        if wanted > 1 {
            return None;
        }
        outputs.truncate(1);
    }
    let cut = Cut { op, given, outputs: &outputs, input, axis };
    let found = if let Some(recurrence) = op.recurrence() {
        cut.of_recurrence(recurrence)?
    } else if let Some(fused) = fused {
        cut.of_members(fused, parts)?
    } else if let Some(joined) = op.joined_axis() {
        cut.of_joined(joined)?
    } else {
        cut.of_nest(parts)?
    };
    parts.iter().all(|&part| cut.infers(&found, part)).then_some(found)
}

/// How many outputs of a node are wanted, those ahead of one that is among them.
pub(super) fn wanted(node: &Node) -> usize {
    node.outputs.iter().rposition(Option::is_some).map_or(0, |last| last + 1)
}

/// The axes of a tensor.
fn dims(fact: &Fact) -> Option<&[Dim]> {
    fact.tensor()?.shape.as_deref()
}

/// `fact` with `part` elements along `axis`.
fn part_of(fact: &Fact, axis: usize, part: usize) -> Option<Fact> {
    let tensor = fact.tensor()?;
    let mut shape = tensor.shape.clone()?;
    *shape.get_mut(axis)? = Dim::Known(part);
    Some(TensorFact::new(tensor.dtype, shape).into())
}

/// What is asked of a node.
struct Cut<'a> {
    op: &'a dyn Op,
    given: &'a [Option<&'a Fact>],
    outputs: &'a [Fact],
    input: usize,
    axis: usize,
}

impl Cut<'_> {
    /// Rows of a batch.
    fn of_recurrence(&self, recurrence: &Recurrence) -> Option<Division> {
        /// Positions of X, the lengths and the initial states.
        const ROWS: [usize; 4] = [0, 4, 5, 6];
        let first = recurrence.batch_first;
        let of_input = |index: usize| match index {
            4 => 0,
            _ => usize::from(!first),
        };
        let inputs: Vec<Option<usize>> = self
            .given
            .iter()
            .enumerate()
            .map(|(index, fact)| fact.filter(|_| ROWS.contains(&index)).map(|_| of_input(index)))
            .collect();
        // Y is [time, directions, rows, units] or [rows, time, directions, units].
        let y = if first { 0 } else { 2 };
        let outputs = (0..self.outputs.len()).map(|at| if at == 0 { y } else { usize::from(!first) });
        let made = Division { outputs: outputs.collect(), inputs };
        (made.inputs.get(self.input) == Some(&Some(self.axis))).then_some(made)
    }

    fn of_joined(&self, joined: i64) -> Option<Division> {
        let rank = dims(self.outputs.first()?)?.len();
        if self.axis >= rank || normal_axis(joined, rank).ok()? == self.axis {
            return None;
        }
        let inputs = self.given.iter().map(|fact| fact.map(|_| self.axis)).collect();
        Some(Division { inputs, outputs: vec![self.axis] })
    }

    /// Members one behind the other. What one reads whole, no other may read in part.
    fn of_members(&self, fused: &Fused, parts: &[usize]) -> Option<Division> {
        let graph = fused.members();
        let given: Vec<Fact> = self.given.iter().map(|fact| fact.cloned()).collect::<Option<_>>()?;
        let facts = infer(graph, &given).ok()?;
        let mut cut: Vec<Option<usize>> = vec![None; graph.values.len()];
        let mut whole = vec![false; graph.values.len()];
        cut[graph.inputs.get(self.input)?.index()] = Some(self.axis);
        for node in &graph.nodes {
            let ids =
                || node.inputs.iter().enumerate().filter_map(|(at, id)| Some((at, id.as_ref()?.index())));
            let Some((at, axis)) = ids().find_map(|(at, id)| Some((at, cut[id]?))) else {
                ids().for_each(|(_, id)| whole[id] = true);
                continue;
            };
            let of = |id: &Option<ValueId>| id.and_then(|id| facts[id.index()].as_ref());
            let known: Vec<Option<&Fact>> = node.inputs.iter().map(of).collect();
            let own = division(&*node.op, (&known, wanted(node)), (at, axis), parts)?;
            for (at, id) in ids() {
                match own.inputs.get(at).copied().flatten() {
                    Some(axis) if cut[id].is_none() && graph.inputs.iter().any(|i| i.index() == id) => {
                        cut[id] = Some(axis);
                    }
                    Some(axis) if cut[id] == Some(axis) => {}
                    Some(_) => return None,
                    None => whole[id] = true,
                }
            }
            for (id, axis) in node.outputs.iter().zip(&own.outputs) {
                if let Some(id) = id {
                    cut[id.index()] = Some(*axis);
                }
            }
        }
        if (0..cut.len()).any(|id| whole[id] && cut[id].is_some()) {
            return None;
        }
        Some(Division {
            inputs: graph.inputs.iter().map(|id| cut[id.index()]).collect(),
            outputs: graph.outputs.iter().map(|id| cut[id.index()]).collect::<Option<_>>()?,
        })
    }

    fn of_nest(&self, parts: &[usize]) -> Option<Division> {
        let nest = plain(self.op.nest(Facts(self.given), self.outputs).ok()?);
        let place = |input: usize| dims(self.given.get(input).copied().flatten()?);
        // The axis of the nest at which the input is read.
        let mut own = nest.reads.iter().filter(|read| read.operand == self.input);
        let index = own.next()?.index.get(self.axis)?;
        let axis = index.terms().first()?.0;
        let extent = nest.axes.get(axis)?;
        let folded = |stage: &Stage| matches!(stage.effect, Effect::Fold(_)) && stage.over.contains(&axis);
        if nest.sequential.is_some() || nest.stages.iter().any(folded) {
            return None;
        }
        // By input: whether it is read, and the axis that is cut.
        let mut inputs: Vec<(bool, Option<usize>)> = vec![(false, None); self.given.len()];
        for read in &nest.reads {
            let at = along(&read.index, axis).ok()?;
            if at.is_some_and(|at| place(read.operand).and_then(|dims| dims.get(at)) != Some(extent)) {
                return None;
            }
            let known = inputs.get_mut(read.operand)?;
            if known.0 && known.1 != at {
                return None;
            }
            *known = (true, at);
        }
        // What the nest does not read is an element of its program, or says how it is made, which inference then holds
        // against the part; a tensor that only has to fit would not fit the part.
        let known = |t: &TensorFact| t.as_constant().is_some() || t.as_i64s().is_some();
        let says = |t: &TensorFact| known(t) && (!t.dtype.is_float() || t.element_count() == Some(1));
        let unread = inputs.iter().zip(self.given).filter(|((read, _), _)| !read);
        if !unread.filter_map(|(_, fact)| fact.as_ref()?.tensor()).all(says) {
            return None;
        }
        let mut stored: Option<usize> = None;
        for stage in &nest.stages {
            match &stage.effect {
                Effect::Store(index) => {
                    let at = along(index, axis).ok()??;
                    if stored.is_some_and(|other| other != at) {
                        return None;
                    }
                    stored = Some(at);
                }
                Effect::Fold(_) => {}
                Effect::Carry(..) => return None,
            }
        }
        let stored = stored?;
        if self.outputs.iter().any(|fact| dims(fact).and_then(|dims| dims.get(stored)) != Some(extent)) {
            return None;
        }
        let made = Division {
            inputs: inputs.into_iter().map(|(_, axis)| axis).collect(),
            outputs: vec![stored; self.outputs.len()],
        };
        if made.inputs[self.input] != Some(self.axis) {
            return None;
        }
        let same = |&part: &usize| {
            let (given, outputs) = self.parts(&made, part)?;
            let given: Vec<Option<&Fact>> = given.iter().map(Option::as_ref).collect();
            let shorter = plain(self.op.nest(Facts(&given), &outputs).ok()?);
            let mut expected = nest.clone();
            expected.axes[axis] = Dim::Known(part);
            (shorter == plain(expected)).then_some(())
        };
        parts.iter().all(|part| same(part).is_some()).then_some(made)
    }

    /// What is known of the inputs and outputs of a part.
    fn parts(&self, of: &Division, part: usize) -> Option<(Vec<Option<Fact>>, Vec<Fact>)> {
        let given = self.given.iter().zip(&of.inputs).map(|(fact, axis)| match (fact, axis) {
            (Some(fact), Some(axis)) => Some(Some(part_of(fact, *axis, part)?)),
            (fact, _) => Some(fact.cloned()),
        });
        let outputs = self.outputs.iter().zip(&of.outputs).map(|(fact, axis)| part_of(fact, *axis, part));
        Some((given.collect::<Option<_>>()?, outputs.collect::<Option<_>>()?))
    }

    /// Whether the operator makes the part of its outputs of the part of its inputs.
    fn infers(&self, of: &Division, part: usize) -> bool {
        let made = || {
            let (given, outputs) = self.parts(of, part)?;
            let given: Vec<Option<&Fact>> = given.iter().map(Option::as_ref).collect();
            let found = infer_node(self.op, Facts(&given)).ok()?;
            let same = |(a, b): (&Fact, &Fact)| Some(a.tensor()? == b.tensor()?);
            Some(
                found.len() >= outputs.len()
                    && found.iter().zip(&outputs).all(|pair| same(pair) == Some(true)),
            )
        };
        made() == Some(true)
    }
}

/// An index has an axis shifted, scaled, twice or beside another.
struct Mixed;

/// The place in `index` that is `axis`; `None` where the axis has no part in it.
fn along(index: &[Affine], axis: usize) -> Result<Option<usize>, Mixed> {
    let mut found = None;
    for (at, affine) in index.iter().enumerate() {
        if affine.terms().iter().any(|term| term.0 == axis) {
            if found.is_some() || *affine != Affine::axis(axis) {
                return Err(Mixed);
            }
            found = Some(at);
        }
    }
    Ok(found)
}

/// The nest without axes of one element in its indices, which say nothing there.
fn plain(mut nest: Nest) -> Nest {
    let Nest { axes, reads, stages, .. } = &mut nest;
    let stored = stages.iter_mut().filter_map(|stage| match &mut stage.effect {
        Effect::Store(index) => Some(index),
        _ => None,
    });
    for affine in reads.iter_mut().map(|read| &mut read.index).chain(stored).flatten() {
        let single: Vec<(usize, i64)> =
            affine.terms().iter().filter(|term| axes[term.0] == Dim::Known(1)).copied().collect();
        for (axis, factor) in single {
            if let Some(without) = affine.clone().plus(axis, -factor) {
                *affine = without;
            }
        }
    }
    nest
}
