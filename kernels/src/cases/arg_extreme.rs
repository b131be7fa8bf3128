//! The place of an extreme against a search from the front.

use super::Failure;
use super::draw::Draw;
use super::lab::Lab;
use crate::arg_extreme::Shape;
use crate::element::Element;

/// Lines at the edges of warps, of few values, so that many are equal, and some that are none.
pub(super) fn shapes(_: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let shape = Shape {
        outer: r.edge(&[1, 7, 8, 9], 1..=12),
        depth: r.edge(&[1, 31, 32, 33, 64, 65], 1..=100),
        inner: if r.bool() { 1 } else { r.within(2..=9) },
        element: r.pick(&[Element::F32, Element::F16, Element::BF16]),
        smallest: r.bool(),
        last: r.bool(),
    };
    let (outer, depth, inner) = (shape.outer as usize, shape.depth as usize, shape.inner as usize);
    let mut x: Vec<f32> = (0..outer * depth * inner).map(|_| (r.unit() * 4.0).round()).collect();
    for _ in 0..r.within(0..=3) {
        let at = r.index(x.len());
        x[at] = r.pick(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
    }
    let from = lab.upload_floats("x", shape.element, &x)?;
    let y = lab.room("y", 8 * (outer * inner) as u64)?;
    lab.run(shape.prepare(from, y, &lab.device())?)?;
    let got = lab.bytes(y)?;
    for (line, got) in got.chunks_exact(8).enumerate() {
        let got = u64::from_le_bytes([got[0], got[1], got[2], got[3], got[4], got[5], got[6], got[7]]);
        let (a, b) = (line / inner, line % inner);
        let value = |k: usize| x[(a * depth + k) * inner + b];
        let nans: Vec<usize> = (0..depth).filter(|&k| value(k).is_nan()).collect();
        let better = |best: f32, v: f32| if (v > best) != shape.smallest && v != best { v } else { best };
        let extreme = (0..depth).map(value).fold(value(0), better);
        let equal: Vec<usize> = (0..depth).filter(|&k| value(k) == extreme).collect();
        let places = if nans.is_empty() { equal } else { nans };
        let want = if shape.last { places.last() } else { places.first() };
        if want != Some(&(got as usize)) {
            return Err(Failure::Wrong(format!("{shape:?} [{a}, {b}]: {got} instead of {want:?}")));
        }
    }
    Ok(())
}
