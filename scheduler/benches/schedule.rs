//! Times of the planners: HEFT with channels by size, and moves of the local search.
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use recurve_scheduler::generate::{Layered, layered};
use recurve_scheduler::{Algorithm, Bounds, Problem};

fn problem(tasks: usize, cpus: usize, gpus: usize) -> Problem {
    let instance = layered(Layered { tasks, edges: 3 * tasks, cpus, gpus, seed: 1 });
    Problem::new(&instance).expect("a generated instance is well formed")
}

fn lists(c: &mut Criterion) {
    let mut group = c.benchmark_group("scheduler/heft-links");
    group.sample_size(20);
    for tasks in [500, 1000, 2000, 5000, 10_000, 20_000] {
        let problem = problem(tasks, 16, 2);
        group.throughput(Throughput::Elements(tasks as u64));
        group.bench_function(BenchmarkId::from_parameter(tasks), |b| {
            b.iter(|| Algorithm::HeftLinks.schedule(black_box(&problem)));
        });
    }
    group.finish();
    let mut group = c.benchmark_group("scheduler/lists-1000");
    group.sample_size(10);
    let problem = problem(1000, 16, 2);
    for algorithm in Algorithm::ALL {
        group.bench_function(algorithm.name(), |b| b.iter(|| algorithm.schedule(black_box(&problem))));
    }
    group.bench_function("bounds", |b| b.iter(|| Bounds::new(black_box(&problem))));
    group.finish();
}

fn moves(c: &mut Criterion) {
    const MOVES: u64 = 10_000;
    let mut group = c.benchmark_group("scheduler/moves");
    group.sample_size(10).throughput(Throughput::Elements(MOVES));
    for (tasks, cpus) in [(100, 4), (500, 1), (500, 4), (500, 16), (2000, 4)] {
        let problem = problem(tasks, cpus, 1);
        let start = Algorithm::HeftLinks.schedule(&problem).expect("the links reach everywhere");
        // Every move evaluated to its makespan, none cut short, on one thread.
        group.bench_function(BenchmarkId::new(format!("{tasks}-tasks"), cpus), |b| {
            b.iter(|| start.evaluate_moves(black_box(&problem), MOVES, 1));
        });
    }
    group.finish();
}

criterion_group!(benches, lists, moves);
criterion_main!(benches);
