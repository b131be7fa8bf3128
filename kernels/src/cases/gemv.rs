//! Products with few vectors against sums in f64.

use super::draw::{Draw, encode};
use super::epilogue::Behind;
use super::lab::{Lab, close};
use super::{Failure, decode};
use crate::element::Element;
use crate::gemv::{Buffers, Shape, VARIANTS, Variant, pack, packed_bytes};

/// Shapes at the edges of warps and chunks, and others.
pub(super) fn shapes(_: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let weights = r.pick(&[Element::F32, Element::F16, Element::BF16]);
    let shape = Shape {
        batch: r.edge(&[1, 2, 4, 8, 16], 1..=16),
        rows: r.edge(&[1, 7, 8, 9], 1..=40),
        depth: r.edge(&[1, 8, 127, 128, 256, 512, 513, 1024], 1..=700),
        weights,
        x: r.pick(&[Element::F32, weights]),
        y: r.pick(&[Element::F32, weights]),
    };
    check(&shape, VARIANTS.choose(&shape)?, r, lab)
}

/// Every variant in its turn.
pub(super) fn variants(number: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let variant = &VARIANTS.0[number as usize % VARIANTS.0.len()];
    let (x, y) = (Element::F32, Element::F32);
    let batch = variant.batch - variant.batch / 4;
    let shape = Shape { batch, rows: 19, depth: 530, weights: variant.weights, x, y };
    check(&shape, VARIANTS.by_id(variant.id)?, r, lab)
}

fn check(shape: &Shape, variant: &Variant, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let (batch, rows, depth) = (shape.batch as usize, shape.rows as usize, shape.depth as usize);
    let x = r.floats(shape.x, batch * depth, 1.0);
    // W as it stands in a model: transposed or not.
    let w = r.floats(shape.weights, rows * depth, 1.0 / (depth as f32).sqrt());
    let (row_stride, column_stride) = if r.bool() { (1, rows) } else { (depth, 1) };
    let mut packed = vec![0xff; packed_bytes(shape) as usize];
    pack(shape, &encode(shape.weights, &w), row_stride, column_stride, &mut packed);
    let behind = Behind::draw(r, shape.y, &[batch as u64, rows as u64])?;
    let program = behind.as_ref().map(|behind| behind.upload(lab)).transpose()?;
    let of_y = behind.as_ref().map_or(shape.y, |behind| behind.element);
    let y = lab.room("y", batch as u64 * rows as u64 * of_y.bytes())?;
    let buffers =
        Buffers { x: lab.upload_floats("x", shape.x, &x)?, w: lab.upload("w", &packed)?, y, program };
    lab.run(variant.prepare(shape, &buffers, &lab.device())?)?;
    let got = decode(of_y, &lab.bytes(y)?);
    for m in 0..batch {
        for n in 0..rows {
            let of_w = |k: usize| f64::from(w[n * row_stride + k * column_stride]);
            let sum: f64 = (0..depth).map(|k| f64::from(x[m * depth + k]) * of_w(k)).sum();
            let at = m * rows + n;
            let want = behind.as_ref().map_or(sum, |behind| behind.of(sum, at as u64));
            let steps = behind.as_ref().map(Behind::steps);
            let what = || format!("{} {shape:?} [{m}, {n}], {steps:?}", variant.id);
            close(got[at].into(), want, of_y, 64.0, what)?;
        }
    }
    Ok(())
}
