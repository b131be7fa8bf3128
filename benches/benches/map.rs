//! Elementwise chains, GELU, softmax and layer normalisation on two threads, beside a copy of the same memory.
//!
//! A chain takes at least the larger of the copy's time, which moves as many bytes, and of its operators' own times on as
//! many elements as stay in the first cache: a table at the end has both, the operators' together and one by one.
//!
//! `cargo bench --package recurve-benches --bench map`

mod measured;

use std::hint::black_box;
use std::time::Instant;

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

/// Elements that stay in the first cache, beside what is made of them.
const NEAR: usize = 1 << 12;

/// Median microseconds of a run.
fn median(nest: Result<Nest, recurve::errors::OpError>, runs: usize) -> f64 {
    let mut nest = nest.unwrap_or_else(|error| panic!("{error}"));
    let mut run = || {
        let start = Instant::now();
        black_box(&mut nest).run().unwrap_or_else(|error| panic!("{error}"));
        start.elapsed().as_secs_f64() * 1e6
    };
    let mut times: Vec<f64> = (0..runs + runs / 4).map(|_| run()).skip(runs / 4).collect();
    times.sort_by(f64::total_cmp);
    times[runs / 2]
}

/// Prints what chains take beside what they take at least.
fn floors() {
    println!(
        "\n| chain | elements | copy µs | own µs | alone µs | chain µs | of copy | of floor, own | alone |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|");
    for (elements, runs) in [(1 << 20, 400), (1 << 24, 20)] {
        // The better of two copies: no operator between a load and a store, and the library's.
        let copies = [Nest::copy(elements, THREADS), Nest::chain(&[], elements, THREADS)];
        let copy = copies.map(|copy| median(copy, runs)).into_iter().fold(f64::INFINITY, f64::min);
        let times = (elements / NEAR) as f64 / THREADS as f64;
        let near = |links: &[Link]| median(Nest::chain(links, NEAR, 1), 1000) * times;
        for (links, what) in [(&ARITHMETIC, "arithmetic"), (&LINKS, "with functions")] {
            for length in [4, 8, 12] {
                let links = &links[..length];
                let (own, alone) = (near(links), links.iter().map(|link| near(&[*link])).sum::<f64>());
                let chain = median(Nest::chain(links, elements, THREADS), runs);
                let [own_floor, alone_floor] = [own, alone].map(|floor| floor.max(copy) / chain);
                println!(
                    "| {length}, {what} | {elements} | {copy:.0} | {own:.0} | {alone:.0} | {chain:.0} \
                     | {:.2} | {own_floor:.2} | {alone_floor:.2} |",
                    copy / chain
                );
            }
        }
    }
}

fn map(c: &mut Criterion) {
    if !quick() {
        floors();
    }
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
        for (name, link) in [("gelu", Link::Gelu), ("gelu as exported", Link::GeluAsExported)] {
            let nest = Nest::chain(&[link], elements, THREADS);
            measure(&mut group, &format!("{name}/{shape}"), bytes, nest);
        }
    }
    for op in ["Gelu", "Softmax", "LayerNormalization"] {
        of_the_table(&mut group, op, &[1, 2, 3]);
    }
    group.finish();
}

criterion_group!(benches, map);
criterion_main!(benches);
