//! Whole models: the example's decoder, recurrences with branches, and graphs of some 500 nodes as exporters write them.
//!
//! `cargo bench --package recurve-benches --bench model`

mod measured;

use criterion::{Criterion, criterion_group, criterion_main};
use measured::{Case, measure, measure_with};
use recurve::Tensor;
use recurve_benches::branches::{Extents, MODELS};
use recurve_benches::graphs::{Kind, model};

const ADDITION: &[u8] = include_bytes!("../../examples/addition/addition.onnx");

fn models(c: &mut Criterion) {
    let mut group = c.benchmark_group("model");
    let addition = Case::whole("addition, per question", ADDITION.to_vec());
    measure_with(&mut group, &addition, &|name, shape| match name {
        // "347+58".
        "question" => Tensor::new(&[6, 1], vec![3i64, 4, 7, 10, 5, 8]),
        _ => Tensor::new(shape, vec![0f32; shape.iter().product()]),
    });
    for (name, build) in MODELS {
        let of = Extents { time: 50, batch: 1, hidden: 256 };
        let checked = build(Extents { time: 2, ..of });
        measure(&mut group, &Case { name: (*name).to_owned(), model: build(of), checked });
    }
    for kind in [Kind::Dense, Kind::Convolutions, Kind::LongLstm, Kind::Mixed] {
        measure(&mut group, &Case::whole(format!("{kind:?}, 500 nodes"), model(kind, 500)));
    }
    group.finish();
}

criterion_group!(benches, models);
criterion_main!(benches);
