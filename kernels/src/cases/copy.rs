//! Strided copies, byte by byte.

use super::Failure;
use super::draw::Draw;
use super::lab::Lab;
use crate::copy::{Region, Side};
use crate::launch::Launch;

/// A side under construction: its first element and steps, and the elements that it has.
struct Walk {
    first: u64,
    steps: Vec<i64>,
    elements: usize,
}

impl Walk {
    fn side(&self) -> Side<'_> {
        Side { first: self.first, steps: &self.steps }
    }
}

/// A part of a larger array, so that nothing is written twice, its axes in any order.
fn target(r: &mut Draw, extents: &[u64]) -> Walk {
    let mut order: Vec<usize> = (0..extents.len()).collect();
    for at in (1..order.len()).rev() {
        if r.within(0..=3) == 0 {
            let other = r.index(at + 1);
            order.swap(at, other);
        }
    }
    let (mut steps, mut step) = (vec![0i64; extents.len()], 1i64);
    for &axis in order.iter().rev() {
        steps[axis] = step;
        step *= extents[axis] as i64 + r.pick(&[0i64, 0, 0, 1, 4]);
    }
    let first = r.pick(&[0u64, 0, 1, 4]);
    Walk { first, steps, elements: first as usize + step as usize }
}

/// Any walk: forwards, backwards, by twos, or standing still.
fn source(r: &mut Draw, extents: &[u64]) -> Walk {
    let (mut steps, mut step, mut first) = (vec![0i64; extents.len()], 1i64, 0i64);
    for axis in (0..extents.len()).rev() {
        let extent = extents[axis] as i64;
        let kind = r.within(0..=5);
        steps[axis] = match kind {
            0 => 0,
            1 => -step,
            2 => 2 * step,
            _ => step,
        };
        if kind == 1 {
            first += step * (extent - 1);
        }
        // By twos only where there is room for it: else axes merge.
        step *= if kind == 2 { 2 * extent } else { extent };
    }
    let first = first as u64 + r.pick(&[0u64, 0, 1, 8]);
    Walk { first, steps, elements: first as usize + step as usize }
}

/// Boxes of which one axis has neighbours in X and another one in Y, both at the edges of tiles, with up to two others and
/// gaps; every size in its turn.
pub(super) fn transposes(number: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let rank = r.within(2..=4) as usize;
    let mut extents: Vec<u64> = (0..rank).map(|_| r.within(1..=3).into()).collect();
    let of_x = r.index(rank);
    let of_y = (of_x + 1 + r.index(rank - 1)) % rank;
    for axis in [of_x, of_y] {
        extents[axis] = r.edge(&[31, 32, 33, 64, 65], 8..=40).into();
    }
    let mut side = |lines: usize| {
        let (mut steps, mut step) = (vec![0i64; rank], 1i64);
        for axis in std::iter::once(lines).chain((0..rank).rev().filter(|&axis| axis != lines)) {
            steps[axis] = step;
            step *= extents[axis] as i64 + r.pick(&[0i64, 0, 3]);
        }
        let first = r.pick(&[0u64, 1, 8]);
        Walk { first, steps, elements: first as usize + step as usize }
    };
    let (from, to) = (side(of_x), side(of_y));
    let size = [1u32, 2, 4, 8][number as usize % 4];
    let taken = check(size, &extents, [from, to], r, lab)?;
    if extents[of_x].min(extents[of_y]) >= 32 && !taken.starts_with("transpose") {
        return Err(Failure::Wrong(format!("{taken} for {size} bytes, {extents:?}")));
    }
    Ok(())
}

/// Boxes of up to six axes and all sizes of elements; nothing else is written.
pub(super) fn shapes(_: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let rank = r.within(0..=6) as usize;
    let mut extents: Vec<u64> = (0..rank).map(|_| r.within(1..=4).into()).collect();
    if let Some(last) = extents.last_mut() {
        *last = r.edge(&[1, 2, 16, 255, 256, 257], 1..=40).into();
    }
    let (to, from) = (target(r, &extents), source(r, &extents));
    let size = r.pick(&[1u32, 2, 4, 8]);
    check(size, &extents, [from, to], r, lab).map(drop)
}

/// Copies, and gives the kernel that did it.
fn check(
    size: u32,
    extents: &[u64],
    [from, to]: [Walk; 2],
    r: &mut Draw,
    lab: &mut Lab<'_>,
) -> Result<&'static str, Failure> {
    let bytes = size as usize;
    let copy = Region::new(size, extents, from.side(), to.side())?;
    let given: Vec<u8> = (0..from.elements * bytes).map(|_| r.bits() as u8).collect();
    let mut expected: Vec<u8> = (0..to.elements * bytes).map(|_| r.bits() as u8).collect();
    let (x, y) = (lab.upload("x", &given)?, lab.upload("y", &expected)?);
    for number in 0..extents.iter().product() {
        let (mut rest, mut at, mut place): (u64, _, _) = (number, from.first as i64, to.first as i64);
        for axis in (0..extents.len()).rev() {
            let index = (rest % extents[axis]) as i64;
            rest /= extents[axis];
            at += index * from.steps[axis];
            place += index * to.steps[axis];
        }
        let (at, place) = (at as usize * bytes, place as usize * bytes);
        expected[place..place + bytes].copy_from_slice(&given[at..at + bytes]);
    }
    let prepared = copy.prepare(x, y, &lab.device())?;
    if let Some(prepared) = prepared {
        lab.run(prepared)?;
    }
    if lab.bytes(y)? != expected {
        let what = format!("{size} bytes, {extents:?}, from {:?} to {:?}", from.steps, to.steps);
        return Err(Failure::Wrong(what));
    }
    Ok(prepared.map_or("nothing", |prepared| prepared.kernel().entry))
}
