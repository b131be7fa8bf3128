//! Products: with one vector and few, where bandwidth counts, and of large matrices, where arithmetic does.

use super::bench::{Bench, Fault};
use recurve_kernels::element::Element;
use recurve_kernels::gemm::Factors;
use recurve_kernels::launch::{Buffer, Launch};
use recurve_kernels::{gemm as matrices, gemv as vectors};
use std::sync::Arc;

/// Bytes of weights that L2 does not keep from one launch to the next.
const BEYOND_L2: u64 = 256 << 20;

/// What is repeated to fill memory.
fn ones(element: Element) -> Vec<u8> {
    recurve_kernels::cases::encode(element, &[0.5, -0.25, 0.125, -0.5])
}

/// Weights of 64 MB and more.
pub(super) fn gemv(bench: &mut Bench) -> Result<(), Fault> {
    let limits = bench.gpu.limits();
    let (rows, depth) = bench.size((4096, 4096), (24, 200));
    let cases = [
        (Element::F32, 1, rows, depth),
        (Element::F32, 4, rows, depth),
        (Element::F32, 16, rows, depth),
        (Element::F16, 1, rows, 2 * depth),
        (Element::F16, 16, rows, 2 * depth),
        (Element::BF16, 1, rows, 2 * depth),
        (Element::F32, 1, 2 * rows, 2 * depth),
        (Element::F16, 1, 4 * rows, 2 * depth),
    ];
    for (weights, batch, rows, depth) in cases {
        let (x, y) = (Element::F32, Element::F32);
        let shape = vectors::Shape { batch, rows, depth, weights, x, y };
        let variant = vectors::VARIANTS.choose(&shape)?;
        let bytes = vectors::packed_bytes(&shape);
        let sets = bench.size(BEYOND_L2.div_ceil(bytes), 2);
        let w = bench.filled(bytes * sets, &ones(weights))?;
        let x = bench.filled(4 * u64::from(batch * depth), &ones(Element::F32))?;
        let y = bench.room(4 * u64::from(batch * rows))?;
        let mut launches: Vec<Arc<dyn Launch>> = Vec::new();
        for set in 0..sets {
            let w = Buffer { address: w.address + set * bytes, bytes };
            let buffers = vectors::Buffers { x, w, y, program: None };
            launches.push(Arc::new(variant.prepare(&shape, &buffers, &limits)?));
        }
        let seconds = bench.of_graph(&launches, 4)?;
        let name = format!("gemv {weights:?} {rows}×{depth}, {batch} vectors, {} MB", bytes / 1_000_000);
        bench.note_bandwidth(name, bytes, seconds);
    }
    Ok(())
}

/// `4096³`, as every engine names it.
pub(super) fn gemm(bench: &mut Bench) -> Result<(), Fault> {
    let limits = bench.gpu.limits();
    let n: u32 = bench.size(4096, 64);
    let matrix = |transposed| matrices::Matrix { transposed, row: n.into(), batch: [0, 0] };
    let cases = [
        ("f32", Element::F32, Factors::Own, false),
        ("f32 as tf32", Element::F32, Factors::Tf32, false),
        ("f16", Element::F16, Factors::Own, false),
        ("f16, B transposed", Element::F16, Factors::Own, true),
        ("bf16", Element::BF16, Factors::Own, false),
    ];
    for (name, element, factors, transposed) in cases {
        let problem = matrices::Problem {
            element,
            factors,
            m: n,
            n,
            k: n,
            batches: [1, 1],
            a: matrix(false),
            b: matrix(transposed),
        };
        let bytes = u64::from(n) * u64::from(n) * element.bytes();
        let (a, b) = (bench.filled(bytes, &ones(element))?, bench.filled(bytes, &ones(element))?);
        let c = bench.room(bytes)?;
        let (variant, splits) = matrices::choose(&problem, &limits)?;
        let workspace = variant.workspace_bytes(&problem, splits);
        let workspace = if workspace > 0 { bench.room(workspace)? } else { Buffer::default() };
        let operands = matrices::Operands { a, b, c, workspace, program: None };
        let plan = variant.prepare(&problem, splits, &operands, &limits)?;
        let mut launches: Vec<Arc<dyn Launch>> = vec![Arc::new(plan.product)];
        if let Some(sum) = plan.sum {
            launches.push(Arc::new(sum));
        }
        let seconds = bench.of_graph(&launches, 2)? * launches.len() as f64;
        let operations = 2.0 * f64::from(n).powi(3);
        bench.note(format!("gemm {name} {n}³"), operations / seconds / 1e12, "TFLOP/s");
    }
    Ok(())
}
