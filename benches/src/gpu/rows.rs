//! Softmax and reductions over rows and columns of 256 MB.

use super::bench::{Bench, Fault};
use recurve_kernels::cases::encode;
use recurve_kernels::element::Element;
use recurve_kernels::launch::Launch;
use recurve_kernels::{reduce as reductions, softmax as exponentials};
use std::sync::Arc;

/// Outer, depth and inner extents that make so many elements.
fn shapes(bench: &Bench) -> Vec<[u32; 3]> {
    let full = vec![[1 << 16, 1024, 1], [1 << 12, 1 << 14, 1], [64, 1024, 1024]];
    bench.size(full, vec![[8, 64, 1], [2, 2048, 1], [2, 16, 64]])
}

/// Softmax.
pub(super) fn softmax(bench: &mut Bench) -> Result<(), Fault> {
    let limits = bench.gpu.limits();
    for [outer, depth, inner] in shapes(bench) {
        for element in [Element::F32, Element::F16] {
            let shape = exponentials::Shape { outer, depth, inner, element, logarithm: false };
            let bytes = u64::from(outer) * u64::from(depth) * u64::from(inner) * element.bytes();
            let x = bench.filled(bytes, &encode(element, &[0.5, -0.25, 1.5, -2.0]))?;
            let y = bench.room(bytes)?;
            let variant = exponentials::VARIANTS.choose(&shape)?;
            let launch: Arc<dyn Launch> =
                Arc::new(variant.prepare(&shape, &exponentials::Buffers { x, y }, &limits)?);
            let seconds = bench.of_graph(&[launch], 4)?;
            bench.note_bandwidth(format!("softmax {element:?} {outer}×{depth}×{inner}"), 2 * bytes, seconds);
        }
    }
    Ok(())
}

/// Sums.
pub(super) fn reduce(bench: &mut Bench) -> Result<(), Fault> {
    let limits = bench.gpu.limits();
    for [outer, depth, inner] in shapes(bench) {
        for element in [Element::F32, Element::F16] {
            let fold = reductions::Fold::Sum;
            let shape = reductions::Shape { outer, depth, inner, element, fold };
            let results = u64::from(outer) * u64::from(inner) * element.bytes();
            let bytes = results * u64::from(depth);
            let x = bench.filled(bytes, &encode(element, &[0.5, -0.25, 1.5, -2.0]))?;
            let y = bench.room(results)?;
            let variant = reductions::VARIANTS.choose(&shape)?;
            let launch: Arc<dyn Launch> =
                Arc::new(variant.prepare(&shape, &reductions::Buffers { x, y }, &limits)?);
            let seconds = bench.of_graph(&[launch], 4)?;
            bench.note_bandwidth(
                format!("sum {element:?} {outer}×{depth}×{inner}"),
                bytes + results,
                seconds,
            );
        }
    }
    Ok(())
}
