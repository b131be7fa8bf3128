//! Maps into the epilogue of a contraction, convolution or pool: finished rows pass through them while they are in a cache.
//!
//! Legal where the kernel passes finished segments of rows on (`Op::epilogue_rows`) in the type that the group ends with,
//! the result is read at the point alone that is computed, and all else that the maps read lies in its rows, element for
//! element or one element for a row. What the maps make on the way may be stored beside the group's own result, the
//! contraction's sums included, where it has the same extents and is written in the same order.
//!
//! It pays where a segment's call costs less than writing the result and reading it again.

use super::apart::Apart;
use super::candidate::Candidate;
use super::cost::short_segments;
use super::group::{Group, composed};
use super::in_rows::{all_in_rows, is_seamless};
use crate::graph::Fact;

/// Whether the maps of `group` can be and should be the epilogue of `anchor`: every operand is still or contiguous
/// along the columns of its result.
pub(super) fn as_epilogue(
    nodes: &[Candidate],
    group: &Group,
    anchor: usize,
    facts: &[Option<Fact>],
) -> Result<(), Apart> {
    if group.core() == anchor {
        return Ok(());
    }
    let (nest, operands, _) = composed(nodes, group, facts).ok_or(Apart::Rearranged)?;
    let (rows, (_, width)) = nodes[anchor].rows.zip(nodes[anchor].space.as_ref()).ok_or(Apart::Rearranged)?;
    // The kernel writes to the group's output as if it were its own.
    let dtype = |node: usize| {
        let value = *nodes[node].outputs.first()?;
        Some(facts[value].as_ref()?.tensor()?.dtype)
    };
    let in_rows = all_in_rows(&nest, &operands, &(rows..nest.axes.len()), facts);
    if dtype(group.core()) != dtype(anchor) || !in_rows {
        return Err(Apart::Rearranged);
    }
    let seamless = is_seamless(&nest, &operands, facts);
    if short_segments(&nest.axes, *width, rows, seamless) { Err(Apart::ShortRows) } else { Ok(()) }
}
