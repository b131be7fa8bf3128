//! Elementwise chains, GELU, softmax and layer normalisation on two threads, beside a copy of the same memory.
//!
//! A chain takes at least the larger of the copy's time, which moves as many bytes, and the sum of its operators' own times
//! on tiles that stay in L1, which the single operators on the least number of elements tell.
//!
//! `cargo bench --package recurve-benches --bench map`

mod measured;

use std::hint::black_box;

use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use measured::{of_the_table, quick};
use recurve::testing::{Link, Nest};

const THREADS: usize = 2;

/// Links of which chains of 4, 8 and 12 operators take the first: arithmetic that only memory bounds.
const ARITHMETIC: [Link; 12] = [
    Link::Scale,
    Link::Shift,
    Link::Relu,
    Link::Product,
    Link::Difference,
    Link::Abs,
    Link::Shift,
    Link::Scale,
    Link::Product,
    Link::Relu,
    Link::Shift,
    Link::Scale,
];

/// The same with three functions of many cycles.
const LINKS: [Link; 12] = [
    Link::Scale,
    Link::Shift,
    Link::Relu,
    Link::Product,
    Link::Tanh,
    Link::Difference,
    Link::Abs,
    Link::Shift,
    Link::Exp,
    Link::Product,
    Link::Sigmoid,
    Link::Scale,
];

fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    bytes: usize,
    nest: Result<Nest, recurve::errors::OpError>,
) {
    let mut nest = match nest {
        Ok(nest) => nest,
        Err(error) => panic!("{name}: {error}"),
    };
    group.throughput(Throughput::Bytes(bytes as u64));
    group.bench_function(name, |b| b.iter(|| black_box(&mut nest).run()));
}

fn map(c: &mut Criterion) {
    let mut group = c.benchmark_group("map");
    // L1-resident tiles tell the operators' own time, the others what memory leaves of it.
    let sizes: &[usize] = if quick() { &[1 << 10] } else { &[1 << 10, 1 << 20, 1 << 24] };
    for &elements in sizes {
        let bytes = 8 * elements;
        measure(&mut group, &format!("copy/{elements}"), bytes, Nest::copy(elements, THREADS));
        for length in [4, 8, 12] {
            for (links, what) in [(&LINKS, ""), (&ARITHMETIC, ", arithmetic")] {
                let chain = Nest::chain(&links[..length], elements, THREADS);
                measure(&mut group, &format!("chain of {length}{what}/{elements}"), bytes, chain);
            }
        }
        for link in LINKS[..7].iter().chain(&[Link::Exp, Link::Sigmoid, Link::Erf]) {
            let one = Nest::chain(&[*link], elements, THREADS);
            measure(&mut group, &format!("{link:?}/{elements}"), bytes, one);
        }
    }
    for [rows, length] in [[128, 768], [1, 4096]] {
        let (elements, shape) = (rows * length, format!("{rows}x{length}"));
        let bytes = 8 * elements;
        measure(&mut group, &format!("softmax/{shape}"), bytes, Nest::softmax(rows, length, THREADS));
        measure(&mut group, &format!("layer norm/{shape}"), bytes, Nest::layer_norm(rows, length, THREADS));
        measure(&mut group, &format!("gelu/{shape}"), bytes, Nest::chain(&[Link::Gelu], elements, THREADS));
    }
    for op in ["Gelu", "Softmax", "LayerNormalization"] {
        of_the_table(&mut group, op, &[1, 2, 3]);
    }
    group.finish();
}

criterion_group!(benches, map);
criterion_main!(benches);
