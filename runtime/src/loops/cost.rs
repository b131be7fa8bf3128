//! What fusion saves and costs, in operations of a core.
//!
//! Saved is writing a value and reading it again. Lost are computing it more than once, calls for short rows, and
//! parallelism where rows are few and long. Symbolic extents count as a guess.

use super::apart::Apart;
use super::nest::Nest;
use super::program::{Opcode, Program};
use crate::graph::Dim;
use std::ops::Range;

/// Most instructions of one fused program: beyond, the registers of a tile leave the first cache.
pub(super) const MOST_INSTRUCTIONS: usize = 96;
/// Most members of one group.
pub(super) const MOST_MEMBERS: usize = 64;
/// A value of so few elements may be read in any order.
pub(super) const SMALL: f64 = 256.0;
/// Points that a symbolic extent counts for.
const SYMBOL: f64 = 16.0;
/// Operations that are worth a byte not moved: a core does some 32 in the time that a byte takes from memory, and
/// some 4 where it comes from the second cache; between them, nearer to the latter.
const OPERATIONS_PER_BYTE: f64 = 4.0;
/// Operations that an epilogue's call for one segment costs.
const SEGMENT: f64 = 1000.0;
/// Elements of a segment.
const SEGMENT_LENGTH: f64 = 1024.0;
/// Shorter rows cost more in calls than in work.
const SHORT_ROW: f64 = 32.0;
/// Rows longer than this are shared among threads by reductions of their own.
const LONG_ROW: f64 = 65536.0;
/// Multiply–adds under which a product is not cut into blocks, and the number of blocks aimed at.
const BLOCK: f64 = 524_288.0;
const MOST_BLOCKS: f64 = 16.0;
/// So many rows keep all threads busy.
const MANY_ROWS: f64 = 16.0;
/// Bytes of a plane that one thread makes and reads again: beyond, it leaves half of a 1 MiB L2 with what it is made of.
const MOST_PLANE: f64 = 262_144.0;
/// Tiles stay inside an innermost axis of at least so many elements, and what is still along it is computed once.
const TILED: usize = 64;

/// Points of a space.
pub(super) fn points(space: &[Dim]) -> f64 {
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

/// Instructions of all stages.
pub(super) fn instructions(nest: &Nest) -> usize {
    nest.stages.iter().map(|s| s.program.instructions().len()).sum()
}

/// Whether computing a value of extents `own` and `width` bytes per element at every point of `space` costs more than
/// storing it.
pub(super) fn recomputes(program: &Program, own: &[Dim], width: usize, space: &[Dim]) -> bool {
    let still = own.len() == space.len() && own.last() == Some(&Dim::Known(1)) || points(own) == 1.0;
    let times = match space.last() {
        Some(Dim::Known(inner)) if still && *inner >= TILED => {
            points(space) / (*inner as f64).min(SEGMENT_LENGTH)
        }
        _ => points(space),
    };
    let again = (times - points(own)).max(0.0) * operations(program);
    again > saved(own, width)
}

/// What not storing a value saves.
fn saved(space: &[Dim], width: usize) -> f64 {
    2.0 * points(space) * width as f64 * OPERATIONS_PER_BYTE
}

/// Whether an epilogue on a result of extents `space` costs more in calls than it saves: one for each segment of a
/// row of the axes from `rows` on, or of the whole where ends of rows do not matter.
pub(super) fn short_segments(space: &[Dim], width: usize, rows: usize, seamless: bool) -> bool {
    let (count, length) =
        if seamless { (1.0, points(space)) } else { (points(&space[..rows]), points(&space[rows..])) };
    count * (length / SEGMENT_LENGTH).ceil() * SEGMENT > saved(space, width) + SEGMENT
}

/// Whether making an operand of extents `space` as a product with `columns` columns reads it costs less than having it in
/// memory: it is made once where rows are many enough to be shared among threads, or else for each block of columns.
pub(super) fn operand_pays(program: &Program, space: &[Dim], width: usize, columns: &Dim) -> bool {
    let (rows, depth) = space.split_at(space.len().saturating_sub(1));
    let (rows, depth) = (points(rows), points(depth));
    let work = rows * depth * points(std::slice::from_ref(columns));
    let blocks = if rows >= MANY_ROWS { 1.0 } else { (work / BLOCK).ceil().clamp(1.0, MOST_BLOCKS) };
    let calls = blocks * rows * (depth / SEGMENT_LENGTH).ceil() * SEGMENT;
    let again = (blocks - 1.0) * points(space) * operations(program);
    calls + again <= saved(space, width) + SEGMENT
}

/// Whether making the planes behind the first two axes of `space`, elements of `width` bytes, as a convolution or pool reads
/// them costs less than having them in memory: each stays in the cache of the thread that makes and reads it, and they
/// are many enough for the threads or so few elements that one thread does.
pub(super) fn planes_pay(space: &[Dim], width: usize) -> Result<(), Apart> {
    let (planes, elements) = space.split_at(space.len().min(2));
    let (planes, elements) = (points(planes), points(elements));
    if elements * width as f64 > MOST_PLANE {
        return Err(Apart::LargePlanes);
    }
    let calls = planes * (elements / SEGMENT_LENGTH).ceil() * SEGMENT;
    let shared = planes >= MANY_ROWS || points(space) <= LONG_ROW;
    match (shared, calls <= saved(space, width) + SEGMENT) {
        (true, true) => Ok(()),
        (false, _) => Err(Apart::FewPlanes),
        (true, false) => Err(Apart::ShortPlanes),
    }
}

/// Whether rows of the axes `row` are worth a kernel of strips along the axes `strip`: strips long enough for its calls,
/// and many enough for the threads or rows short enough for one.
pub(super) fn strips_pay(axes: &[Dim], row: &Range<usize>, strip: &Range<usize>) -> Result<(), Apart> {
    let (rows, along) = (&axes[row.clone()], &axes[strip.clone()]);
    let others = (0..axes.len()).filter(|a| !row.contains(a) && !strip.contains(a));
    let count: f64 = others.map(|a| points(&axes[a..=a])).product();
    let known = along.iter().all(|d| d.known().is_some());
    let many = count * (points(along) / SEGMENT_LENGTH).ceil();
    long_and_many(!known || points(along) >= SHORT_ROW, points(rows) <= LONG_ROW || many >= MANY_ROWS)
}

/// Whether rows of the axes from `row` on are worth a kernel of rows: long enough for its calls, and many enough for
/// the threads, or short enough for one.
pub(super) fn rows_pay(axes: &[Dim], row: usize) -> Result<(), Apart> {
    let (rows, length) = (points(&axes[..row]), points(&axes[row..]));
    let known = axes[row..].iter().all(|d| d.known().is_some());
    long_and_many(!known || length >= SHORT_ROW, length <= LONG_ROW || rows >= MANY_ROWS)
}

/// Whether rows with elements that stay for runs of these extents are worth a kernel of rows, which spreads them first:
/// beside the loop that a normalisation has by itself, groups of channels of 49 elements took a tenth longer, and
/// from 64 on as long.
pub(super) fn runs_pay<'n>(mut runs: impl Iterator<Item = &'n [Dim]>) -> Result<(), Apart> {
    let short = |run: &[Dim]| run.iter().all(|d| d.known().is_some()) && points(run) < TILED as f64;
    if runs.any(short) { Err(Apart::ShortRuns) } else { Ok(()) }
}

fn long_and_many(long: bool, many: bool) -> Result<(), Apart> {
    match (long, many) {
        (true, true) => Ok(()),
        (false, _) => Err(Apart::ShortRows),
        (true, false) => Err(Apart::FewRows),
    }
}
