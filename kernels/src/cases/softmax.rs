//! Softmax against the formula in f64.

use super::Failure;
use super::decode;
use super::draw::Draw;
use super::lab::{Lab, close};
use crate::element::Element;
use crate::softmax::{Buffers, Plan, Shape, VARIANTS, Variant};

/// Shapes at the edges of warps and blocks, and others.
pub(super) fn shapes(_: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let rows = r.bool();
    let depth = r.edge(&[1, 31, 32, 33, 255, 256, 257, 1024, 1025], 1..=400);
    let shape = Shape {
        outer: r.edge(&[1, 7, 8, 9], 1..=12),
        depth: if rows { depth } else { depth.min(70) },
        inner: if rows { 1 } else { r.edge(&[2, 255, 256, 257], 2..=40) },
        element: r.pick(&[Element::F32, Element::F16, Element::BF16]),
        logarithm: r.bool(),
    };
    check(&shape, VARIANTS.choose(&shape)?, r, lab)
}

/// Every variant in its turn, plain and as a logarithm.
pub(super) fn variants(number: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let variant = &VARIANTS.0[number as usize / 2 % VARIANTS.0.len()];
    let inner = if variant.plan == Plan::Columns { 37 } else { 1 };
    let logarithm = number % 2 == 1;
    let shape = Shape { outer: 3, depth: 300, inner, element: variant.element, logarithm };
    check(&shape, VARIANTS.by_id(variant.id)?, r, lab)
}

fn check(shape: &Shape, variant: &Variant, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let (outer, depth, inner) = (shape.outer as usize, shape.depth as usize, shape.inner as usize);
    let mut x = r.floats(shape.element, outer * depth * inner, 8.0);
    for _ in 0..r.within(0..=3) {
        let at = r.index(x.len());
        x[at] = r.pick(&[f32::NEG_INFINITY, f32::NEG_INFINITY, f32::INFINITY, f32::NAN]);
    }
    let buffer = lab.upload_floats("x", shape.element, &x)?;
    let y = if r.bool() { buffer } else { lab.room("y", buffer.bytes)? };
    lab.run(variant.prepare(shape, &Buffers { x: buffer, y }, &lab.device())?)?;
    let got = decode(shape.element, &lab.bytes(y)?);
    for a in 0..outer {
        for b in 0..inner {
            let at = |k: usize| (a * depth + k) * inner + b;
            let x = |k: usize| f64::from(x[at(k)]);
            let nan = (0..depth).any(|k| x(k).is_nan());
            let max = (0..depth).map(x).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = (0..depth).map(|k| (x(k) - max).exp()).sum();
            for k in 0..depth {
                let plain = if shape.logarithm { x(k) - max - sum.ln() } else { (x(k) - max).exp() / sum };
                let (got, want) = (f64::from(got[at(k)]), if nan { f64::NAN } else { plain });
                let what = || format!("{} {shape:?} [{a}, {k}, {b}]", variant.id);
                // Probabilities are held to their own size, not to 1.
                if !shape.logarithm && shape.element == Element::F32 && want > 1e-30 {
                    close(got / want, 1.0, Element::F32, 16.0, what)?;
                } else {
                    close(got, want, shape.element, 8.0, what)?;
                }
            }
        }
    }
    Ok(())
}
