//! Recurrent layers that were written out step by step beside the ONNX operator of the same size: recovery makes
//! the one the other, so that both should take the same time.
//!
//! `cargo bench --package recurve-benches --bench recurrence`

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use recurve::{Session, Tensor};
use recurve_benches::recurrences::{Recurrence, operator, written_out};

const THREADS: usize = 2;

fn recurrence(c: &mut Criterion) {
    let mut group = c.benchmark_group("recurrence");
    for op in ["LSTM", "GRU"] {
        for (time, batch, hidden) in [(16, 1, 128), (64, 1, 256), (16, 8, 128)] {
            let of = Recurrence { time, batch, hidden };
            let gates = if op == "LSTM" { 4 } else { 3 };
            group.throughput(Throughput::Elements((4 * time * batch * gates * hidden * hidden) as u64));
            for (spelling, model) in [("operator", operator(op, of)), ("written out", written_out(op, of))] {
                let session = match Session::builder().with_threads(THREADS).load_bytes(model) {
                    Ok(session) => session,
                    Err(error) => panic!("{op} {spelling}: {error}"),
                };
                let values = (0..time * batch * hidden).map(|i| (i % 17) as f32 / 17.0 - 0.5).collect();
                let x = match Tensor::new(&[time, batch, hidden], values) {
                    Ok(x) => x,
                    Err(error) => panic!("{error}"),
                };
                let run = || match session.run([("x", &x)]) {
                    Ok(outputs) => outputs,
                    Err(error) => panic!("{op} {spelling}: {error}"),
                };
                group.bench_function(format!("{op}/{spelling}/{time}x{batch}x{hidden}"), |b| b.iter(run));
            }
        }
    }
    group.finish();
}

criterion_group!(benches, recurrence);
criterion_main!(benches);
