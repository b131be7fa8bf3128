//! What a plan costs beside its kernels, and what it gains: models with branches on two threads and on one.
//!
//! - `per instruction`: a chain of many small kernels along a plan that keeps it on one worker, against the same kernels
//!   without a plan; the difference, divided by their number, is the executor's.
//! - The models of `branches` on one thread, on two with every operator on both (*together*), and along the plan that
//!   [`Session::plan`] makes after measuring here.
//! - `sessions`: one session that runs, alone on its engine and among eight loaded ones of which the others rest; the
//!   memory that each holds is printed.
//!
//! `cargo bench --package recurve-benches --bench executor`

use criterion::{Criterion, criterion_group, criterion_main};
use recurve::profiles::ProfileOptions;
use recurve::{Engine, Error, Session, Tensor};
use recurve_benches::branches::{Extents, MODELS, chain};

/// Kernels of the chain.
const LINKS: usize = 400;

fn load(engine: &Engine, model: Vec<u8>) -> Result<Session, Error> {
    Session::builder().with_engine(engine).load_bytes(model)
}

fn planned(engine: &Engine, model: Vec<u8>, x: &Tensor) -> Result<Session, Error> {
    let session = load(engine, model)?;
    let profile = session.profile([("x", x)], &ProfileOptions::default())?;
    let plan = session.plan([("x", x.shape())], &profile)?.plan;
    println!(
        "plan: rewrite {}, predicted {:.1} us, together {:.1} us, one thread {:.1} us, bound {:.1} us",
        plan.rewrite, plan.predicted_us, plan.together_us, plan.alone_us, plan.bound_us
    );
    session.follow(&plan)?;
    Ok(session)
}

fn input(shape: [usize; 3]) -> Result<Tensor, Error> {
    Tensor::new(&shape, (0..shape.iter().product()).map(|i| (i % 17) as f32 / 17.0 - 0.5).collect())
}

fn executor(c: &mut Criterion) {
    if let Err(error) = benches_of(c).and_then(|()| sessions(c)) {
        panic!("{error}");
    }
}

/// Sessions that share an engine.
const SESSIONS: usize = 8;

/// A session that runs beside others that are loaded and have run: what resting sessions cost it.
fn sessions(c: &mut Criterion) -> Result<(), Error> {
    let mut group = c.benchmark_group("executor/sessions");
    for (name, of) in [
        ("four layers", Extents { time: 64, batch: 1, hidden: 128 }),
        ("bidirectional", Extents { time: 50, batch: 1, hidden: 256 }),
    ] {
        let Some((_, build)) = MODELS.iter().find(|(model, _)| *model == name) else {
            panic!("there is no model `{name}`");
        };
        let x = input(of.sequence())?;
        for count in [1, SESSIONS] {
            let engine = Engine::builder().with_threads(2).build()?;
            let all: Result<Vec<Session>, Error> = (0..count).map(|_| load(&engine, build(of))).collect();
            let all = all?;
            let answers: Result<Vec<_>, Error> = all.iter().map(|session| session.run([("x", &x)])).collect();
            let answers = answers?;
            // Sessions of one model are of one mind.
            let first = answers[0].tensor("y")?;
            for answer in &answers {
                assert_eq!(answer.tensor("y")?.as_slice::<f32>(), first.as_slice::<f32>(), "{name}");
            }
            let used: Vec<usize> = all.iter().map(Session::memory_used).collect();
            println!("{name}, {count} loaded: bytes held by each {used:?}");
            let busy = &all[count / 2];
            group.bench_function(format!("{name}/{count} loaded, one busy"), |b| {
                b.iter(|| busy.run([("x", &x)]).unwrap_or_else(|error| panic!("{error}")));
            });
        }
    }
    group.finish();
    Ok(())
}

fn benches_of(c: &mut Criterion) -> Result<(), Error> {
    let (one, two) = (Engine::builder().with_threads(1).build()?, Engine::builder().with_threads(2).build()?);
    let run = |session: &Session, x: &Tensor| match session.run([("x", x)]) {
        Ok(outputs) => outputs,
        Err(error) => panic!("{error}"),
    };
    let mut group = c.benchmark_group("executor/per instruction");
    let x = input([1, 1, 8])?;
    let model = chain(LINKS);
    let serial = load(&one, model.clone())?;
    group.bench_function("without a plan", |b| b.iter(|| run(&serial, &x)));
    let along = planned(&one, model, &x)?;
    group.bench_function("along a plan", |b| b.iter(|| run(&along, &x)));
    group.finish();

    let mut group = c.benchmark_group("executor");
    for (name, build) in MODELS {
        let of = match *name {
            "four layers" => Extents { time: 64, batch: 1, hidden: 128 },
            _ => Extents { time: 50, batch: 1, hidden: 256 },
        };
        let x = input(of.sequence())?;
        let (alone, together) = (load(&one, build(of))?, load(&two, build(of))?);
        let along = planned(&two, build(of), &x)?;
        for (kind, session) in [("one thread", &alone), ("together", &together), ("planned", &along)] {
            group.bench_function(format!("{name}/{kind}"), |b| b.iter(|| run(session, &x)));
        }
    }
    group.finish();
    Ok(())
}

criterion_group!(benches, executor);
criterion_main!(benches);
