//! Products of a constant matrix, of few and of many rows, as it lies and transposed; and uses of `Gemm` and `MatMul` that
//! the operators' table draws.
//!
//! `cargo bench --package recurve-benches --bench contraction`

mod measured;

use criterion::{Criterion, criterion_group, criterion_main};
use measured::{Case, measure, of_the_table};
use recurve_benches::layers::product;

/// Depth and columns of the weights: of attention and dense layers, and of a classifier.
const WEIGHTS: [[usize; 2]; 3] = [[512, 768], [256, 1024], [512, 1000]];
const ROWS: [usize; 7] = [1, 4, 8, 16, 20, 32, 64];
/// Rows, depth and columns of the input products of recurrences.
const LARGE: [[usize; 3]; 2] = [[200, 512, 2048], [800, 512, 2048]];

fn contraction(c: &mut Criterion) {
    let mut group = c.benchmark_group("contraction");
    for [depth, columns] in WEIGHTS {
        for rows in ROWS {
            for (transposed, how) in [(false, "as it lies"), (true, "transposed")] {
                let model = product(rows, depth, columns, transposed);
                let name = format!("{rows}x{depth}x{columns} {how}");
                measure(&mut group, &Case::whole(name, model));
            }
        }
    }
    for [rows, depth, columns] in LARGE {
        let checked = product(rows / 8, depth, columns, true);
        let name = format!("{rows}x{depth}x{columns} transposed");
        measure(&mut group, &Case { name, model: product(rows, depth, columns, true), checked });
    }
    for op in ["Gemm", "MatMul"] {
        of_the_table(&mut group, op, &[1, 2, 3]);
    }
    group.finish();
}

criterion_group!(benches, contraction);
criterion_main!(benches);
