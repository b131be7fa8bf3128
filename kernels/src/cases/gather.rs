//! Gathers, byte by byte; indices outside their axis among them.

use super::Failure;
use super::draw::Draw;
use super::lab::Lab;
use crate::gather::{Buffers, Shape};

/// Shapes at the edges of a block; every fifth case or so has an index that names nothing.
pub(super) fn shapes(_: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let shape = Shape {
        size: r.pick(&[1, 2, 4, 8]),
        outer: r.within(1..=4),
        extent: r.edge(&[1, 2, 255], 1..=20),
        picked: r.edge(&[1, 255, 256, 257], 1..=20),
        inner: r.edge(&[1, 2, 16, 33], 1..=12),
        index: r.pick(&[4, 8]),
    };
    let row = (shape.inner * shape.size) as usize;
    let from: Vec<u8> = (0..(shape.outer * shape.extent) as usize * row).map(|_| r.bits() as u8).collect();
    let (wrong, extent) = (r.within(0..=4) == 0, i64::from(shape.extent));
    let indices: Vec<i64> = (0..shape.picked)
        .map(|j| match (wrong && j == shape.picked / 2, r.bool()) {
            (true, true) => extent,
            (true, false) => -extent - 1,
            _ => i64::from(r.within(0..=2 * shape.extent - 1)) - extent,
        })
        .collect();
    let wide = |index: &i64| index.to_le_bytes()[..shape.index as usize].to_vec();
    let buffers = Buffers {
        x: lab.upload("x", &from)?,
        indices: lab.upload("indices", &indices.iter().flat_map(wide).collect::<Vec<u8>>())?,
        y: lab.room("y", u64::from(shape.outer * shape.picked) * row as u64)?,
        fault: lab.upload("fault", &[0; 4])?,
    };
    if let Some(prepared) = shape.prepare(&buffers, &lab.device())? {
        lab.run(prepared)?;
    }
    let got = lab.bytes(buffers.y)?;
    for (number, got) in got.chunks_exact(row).enumerate() {
        let (a, index) = (number / indices.len(), indices[number % indices.len()]);
        let at = if index < 0 { index + extent } else { index };
        let inside = (0..extent).contains(&at);
        let first = (a * shape.extent as usize + at.clamp(0, extent - 1) as usize) * row;
        let expected = if inside { from[first..first + row].to_vec() } else { vec![0; row] };
        if *got != expected[..] {
            return Err(Failure::Wrong(format!("{shape:?}, row {number}: {got:?} instead of {expected:?}")));
        }
    }
    let faulty = lab.bytes(buffers.fault)? != [0; 4];
    if faulty != wrong {
        return Err(Failure::Wrong(format!("{shape:?}: fault is {faulty}")));
    }
    Ok(())
}
