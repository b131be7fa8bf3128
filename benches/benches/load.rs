//! Loading graphs of 500, 2,000 and 20,000 nodes, with and without fusion and the recovery of recurrences.
//!
//! `cargo bench --package recurve-benches --bench load`

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use recurve::settings::Fusion;
use recurve::{Engine, Session};
use recurve_benches::graphs::{Kind, model};

const KINDS: [Kind; 5] = [Kind::Dense, Kind::Convolutions, Kind::DeepLstm, Kind::LongLstm, Kind::Mixed];

fn load(c: &mut Criterion) {
    let engine = match Engine::builder().with_threads(2).build() {
        Ok(engine) => engine,
        Err(error) => panic!("an engine of two threads: {error}"),
    };
    let mut group = c.benchmark_group("load");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    // CI runs each once, and not the largest.
    let quick = std::env::args().any(|argument| argument == "--test");
    let sizes: &[usize] = if quick { &[500] } else { &[500, 2_000, 20_000] };
    for kind in KINDS {
        for &nodes in sizes {
            let bytes = model(kind, nodes);
            group.throughput(Throughput::Elements(nodes as u64));
            for (fusion, name) in [(Fusion::On, "fused"), (Fusion::Off, "as written")] {
                group.bench_function(BenchmarkId::new(format!("{kind:?}/{name}"), nodes), |b| {
                    let load = |bytes| match Session::builder()
                        .with_engine(&engine)
                        .with_fusion(fusion)
                        .load_bytes(bytes)
                    {
                        Ok(session) => session,
                        Err(error) => panic!("{kind:?} of {nodes} nodes: {error}"),
                    };
                    b.iter_batched(
                        || bytes.clone(),
                        |bytes: Vec<u8>| black_box(load(bytes)),
                        BatchSize::PerIteration,
                    );
                });
            }
        }
    }
    group.finish();
}

criterion_group!(benches, load);
criterion_main!(benches);
