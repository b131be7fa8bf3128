//! Reductions against the definition in f64.

use super::Failure;
use super::decode;
use super::draw::Draw;
use super::lab::{Lab, close};
use crate::element::Element;
use crate::reduce::{Buffers, Fold, Plan, Shape, VARIANTS, Variant};

const FOLDS: [Fold; 8] =
    [Fold::Sum, Fold::Mean, Fold::SumAbs, Fold::SumSquare, Fold::Norm, Fold::Product, Fold::Max, Fold::Min];

/// Shapes at the edges of warps, blocks and pieces, and others.
pub(super) fn shapes(_: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let rows = r.bool();
    let mut shape = Shape {
        outer: r.edge(&[1, 7, 8, 9], 1..=20),
        depth: r.edge(&[0, 1, 31, 32, 33, 255, 256, 257, 1024, 1025], 1..=600),
        inner: if rows { 1 } else { r.edge(&[2, 31, 32, 33], 2..=40) },
        element: r.pick(&[Element::F32, Element::F16, Element::BF16]),
        fold: r.pick(&FOLDS),
    };
    if shape.fold == Fold::Mean {
        shape.depth = shape.depth.max(1);
    }
    check(&shape, VARIANTS.choose(&shape)?, r, lab)
}

/// Every variant and fold in its turn.
pub(super) fn variants(number: u32, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let (fold, number) = (FOLDS[number as usize % FOLDS.len()], number as usize / FOLDS.len());
    let variant = &VARIANTS.0[number % VARIANTS.0.len()];
    let inner = if variant.plan == Plan::Columns { 37 } else { 1 };
    let shape = Shape { outer: 3, depth: 72, inner, element: variant.element, fold };
    check(&shape, VARIANTS.by_id(variant.id)?, r, lab)
}

/// The definition.
fn reference(fold: Fold, terms: impl Iterator<Item = f64> + Clone, depth: u32) -> f64 {
    let nan = terms.clone().any(f64::is_nan);
    match fold {
        Fold::Sum => terms.sum(),
        Fold::Mean => terms.sum::<f64>() / f64::from(depth),
        Fold::SumAbs => terms.map(f64::abs).sum(),
        Fold::SumSquare => terms.map(|x| x * x).sum(),
        Fold::Norm => terms.map(|x| x * x).sum::<f64>().sqrt(),
        Fold::Product => terms.product(),
        Fold::Max | Fold::Min if nan => f64::NAN,
        Fold::Max => terms.fold(f64::NEG_INFINITY, f64::max),
        Fold::Min => terms.fold(f64::INFINITY, f64::min),
    }
}

fn check(shape: &Shape, variant: &Variant, r: &mut Draw, lab: &mut Lab<'_>) -> Result<(), Failure> {
    let (outer, depth, inner) = (shape.outer as usize, shape.depth as usize, shape.inner as usize);
    let scale = if shape.fold == Fold::Product { 1.2 } else { 1.0 };
    let mut x = r.floats(shape.element, outer * depth * inner, scale);
    if r.within(0..=3) == 0 && !x.is_empty() {
        let at = r.index(x.len());
        x[at] = f32::NAN;
    }
    let y = lab.room("y", (outer * inner) as u64 * shape.element.bytes())?;
    let buffers = Buffers { x: lab.upload_floats("x", shape.element, &x)?, y };
    lab.run(variant.prepare(shape, &buffers, &lab.device())?)?;
    let got = decode(shape.element, &lab.bytes(y)?);
    for a in 0..outer {
        for b in 0..inner {
            let terms = (0..depth).map(|k| f64::from(x[(a * depth + k) * inner + b]));
            let want = reference(shape.fold, terms, shape.depth);
            let what = || format!("{} {shape:?} [{a}, {b}]", variant.id);
            close(got[a * inner + b].into(), want, shape.element, 64.0, what)?;
        }
    }
    Ok(())
}
