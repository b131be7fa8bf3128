//! What the axes of a value are, and bringing them into the order that a recurrent operator wants.
//!
//! States and the elements of sequences have an axis of features and at most one whose extent is not 1, the
//! batch. Everything else is a matter of Squeeze, Transpose and Unsqueeze.

use super::super::build::{integers, one};
use crate::graph::{Dim, Graph, Node, ValueId};
use crate::ops::attributes::Attribute;

/// What an axis is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Axis {
    Time,
    Batch,
    Feature,
    /// Of extent 1.
    One,
}

/// The axes of a state or an element of shape `shape`, whose features lie along `feature`. Where `batch` is not
/// wanted, all others have extent 1; otherwise one of them is the batch, if there is any.
pub(super) fn axes_of(shape: &[Dim], feature: usize, batch: bool) -> Option<Vec<Axis>> {
    let mut axes: Vec<Axis> = Vec::with_capacity(shape.len());
    for (at, extent) in shape.iter().enumerate() {
        axes.push(match extent {
            _ if at == feature => Axis::Feature,
            Dim::Known(1) => Axis::One,
            _ if batch && !axes.contains(&Axis::Batch) => Axis::Batch,
            _ => return None,
        });
    }
    if batch
        && !axes.contains(&Axis::Batch)
        && let Some(at) = axes.iter().rposition(|a| *a == Axis::One)
    {
        axes[at] = Axis::Batch;
    }
    axes.contains(&Axis::Feature).then_some(axes)
}

/// `value` with axes `from` as one with axes `to`; time and features are among both. What `to` lacks has extent 1.
pub(super) fn arrange(
    graph: &mut Graph,
    made: &mut Vec<Node>,
    value: ValueId,
    from: &[Axis],
    to: &[Axis],
) -> Option<ValueId> {
    if from == to {
        return Some(value);
    }
    let kept = |a: &Axis, other: &[Axis]| *a != Axis::One && other.contains(a);
    let mut value = value;
    let gone: Vec<i64> = (0..from.len()).filter(|&i| !kept(&from[i], to)).map(|i| i as i64).collect();
    if !gone.is_empty() {
        let axes = integers(graph, &gone)?;
        value = one(graph, made, "Squeeze", Vec::new(), &[value, axes])?;
    }
    let have: Vec<Axis> = from.iter().copied().filter(|a| kept(a, to)).collect();
    let want: Vec<Axis> = to.iter().copied().filter(|a| kept(a, from)).collect();
    if have != want {
        let perm: Vec<i64> =
            want.iter().map(|a| Some(have.iter().position(|h| h == a)? as i64)).collect::<Option<_>>()?;
        value = one(graph, made, "Transpose", vec![("perm", Attribute::Ints(perm))], &[value])?;
    }
    let put_in: Vec<i64> = (0..to.len()).filter(|&i| !kept(&to[i], from)).map(|i| i as i64).collect();
    if !put_in.is_empty() {
        let axes = integers(graph, &put_in)?;
        value = one(graph, made, "Unsqueeze", Vec::new(), &[value, axes])?;
    }
    Some(value)
}
