//! What planning takes: from the file of a model of some 500 operators to a plan, again for other lengths of its input, and
//! what the executor takes for each instruction of a plan, and what plans are predicted to take beside what they take.
//!
//! Medians over some repeats, of a process that does nothing else; operators are measured before, with little effort, since
//! only the planner's own time counts.

use anyhow::{Context, Result};
use clap::Parser;
use recurve::plans::PlanOptions;
use recurve::profiles::{Effort, Profile, ProfileCache, ProfileOptions};
use recurve::settings::{Mode, Pinning};
use recurve::{Engine, Session, Tensor};
use recurve_benches::branches::{ANY, Extents, MODELS, branches, chain, lattice, stacked};
use recurve_benches::graphs::{Kind, model};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(Debug, Parser)]
struct Arguments {
    /// Threads that operators are placed on
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Repeats of each measurement
    #[arg(long, default_value_t = 7)]
    repeats: usize,
    /// Only the table of plans for another length
    #[arg(long)]
    lengths: bool,
    /// Write the page to this file
    #[arg(long)]
    out: Option<PathBuf>,
}

/// What searches may take in all: for a new model, and for new lengths.
const FIRST: Duration = Duration::from_millis(200);
const AGAIN: Duration = Duration::from_millis(20);
/// Lengths that plans are made for anew.
const LENGTHS: [usize; 5] = [32, 40, 48, 56, 64];
/// Kernels of the chain that the executor is timed by.
const LINKS: usize = 400;

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn load(engine: &Engine, bytes: &[u8]) -> Result<Session> {
    Ok(Session::builder().with_engine(engine).load_bytes(bytes.to_vec())?)
}

/// Inputs of the shapes that the model declares, `time` where it declares none.
fn inputs(session: &Session, time: usize) -> Result<Vec<(String, Tensor)>> {
    let input = |spec: &recurve::model::ValueSpec| {
        let recurve::model::Fact::Tensor(fact) = &spec.fact else {
            anyhow::bail!("`{}` is no tensor", spec.name)
        };
        let dims = fact.shape.as_ref().context("a rank")?;
        let shape: Vec<usize> = dims.iter().map(|dim| dim.known().unwrap_or(time)).collect();
        let tensor = Tensor::new(&shape, vec![0.1f32; shape.iter().product()])?;
        Ok((spec.name.to_string(), tensor))
    };
    session.inputs().iter().map(input).collect()
}

fn profile(session: &Session, inputs: &[(String, Tensor)]) -> Result<Profile> {
    let effort = Effort { warm: 1, least: 1, most: 3, time: Duration::from_millis(1) };
    let given = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor));
    Ok(session.profile(given, &ProfileOptions::default().with_effort(effort))?)
}

/// Milliseconds of loading, of planning, and the steps that were placed.
fn first(engine: &Engine, bytes: &[u8], repeats: usize) -> Result<(f64, f64, usize)> {
    let session = load(engine, bytes)?;
    let given = inputs(&session, 0)?;
    let profile = profile(&session, &given)?;
    let (mut loads, mut plans, mut steps) = (Vec::new(), Vec::new(), 0);
    for _ in 0..repeats {
        let start = Instant::now();
        let session = load(engine, bytes)?;
        loads.push(ms(start.elapsed()));
        let shapes = given.iter().map(|(name, tensor)| (name.as_str(), tensor.shape()));
        let start = Instant::now();
        let made = session.plan_with(shapes, &profile, PlanOptions::default().with_budget(FIRST))?;
        plans.push(ms(start.elapsed()));
        steps = made.plan.steps.len();
    }
    Ok((median(loads), median(plans), steps))
}

/// Milliseconds of planning for another length and until that is followed, and the steps that were placed.
fn again(engine: &Engine, bytes: &[u8], repeats: usize) -> Result<([f64; 2], usize)> {
    let session = load(engine, bytes)?;
    let given = inputs(&session, LENGTHS[0])?;
    let profile = profile(&session, &given)?;
    let (mut plans, mut follows, mut steps) = (Vec::new(), Vec::new(), 0);
    // Lengths in turn: a session keeps what it did for some of the last, so that none is asked for twice.
    for time in (0..repeats * LENGTHS.len()).map(|at| LENGTHS[at % LENGTHS.len()] + at / LENGTHS.len()) {
        let given = inputs(&session, time)?;
        let shapes = given.iter().map(|(name, tensor)| (name.as_str(), tensor.shape()));
        let start = Instant::now();
        let made = session.plan_with(shapes, &profile, PlanOptions::default().with_budget(AGAIN))?;
        plans.push(ms(start.elapsed()));
        session.follow(&made.plan)?;
        follows.push(ms(start.elapsed()));
        steps = steps.max(made.plan.steps.len());
    }
    // What the session does once is not done again.
    Ok(([plans, follows].map(|times| median(times[1..].to_vec())), steps))
}

/// Nanoseconds of one of many kernels that do next to nothing: along a plan on one worker, and without a plan.
fn executor(repeats: usize) -> Result<[f64; 2]> {
    let engine = Engine::builder().with_threads(1).build()?;
    let bytes = chain(LINKS);
    let (along, without) = (load(&engine, &bytes)?, load(&engine, &bytes)?);
    let given = inputs(&along, 0)?;
    let profile = profile(&along, &given)?;
    let shapes = given.iter().map(|(name, tensor)| (name.as_str(), tensor.shape()));
    let plan = along.plan(shapes, &profile)?.plan;
    along.follow(&plan)?;
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..repeats * 200 {
        for (session, times) in [&along, &without].into_iter().zip(&mut times) {
            let start = Instant::now();
            session.run(given.iter().map(|(name, tensor)| (name.as_str(), tensor)))?;
            times.push(start.elapsed().as_secs_f64() * 1e9 / plan.steps.len() as f64);
        }
    }
    Ok(times.map(median))
}

/// Microseconds of a run along the best plan, predicted and measured, and of one with every operator on all threads.
struct Accuracy {
    rewrite: String,
    predicted: f64,
    measured: f64,
    together_predicted: f64,
    together_measured: f64,
}

fn accuracy(engine: &Engine, bytes: &[u8], repeats: usize) -> Result<Accuracy> {
    let (along, without) = (load(engine, bytes)?, load(engine, bytes)?);
    let given = inputs(&along, 0)?;
    let measured = along.profile(given.iter().map(|(n, t)| (n.as_str(), t)), &ProfileOptions::default())?;
    let shapes = given.iter().map(|(name, tensor)| (name.as_str(), tensor.shape()));
    let plan = along.plan(shapes, &measured)?.plan;
    along.follow(&plan)?;
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..repeats * 30 {
        for (session, times) in [&along, &without].into_iter().zip(&mut times) {
            let start = Instant::now();
            session.run(given.iter().map(|(name, tensor)| (name.as_str(), tensor)))?;
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    let [measured, together_measured] = times.map(median);
    let (predicted, together_predicted) = (plan.predicted_us, plan.together_us);
    Ok(Accuracy { rewrite: plan.rewrite, predicted, measured, together_predicted, together_measured })
}

/// The table of predictions.
fn accuracies(engine: &Engine, repeats: usize) -> Result<String> {
    let mut text = String::from(
        "\nA run along the best plan beside its prediction, and one with every operator on all threads; µs, medians.\n\n\
         | model | rewrite | predicted | measured | ratio | together, predicted | measured | ratio |\n\
         |---|---|---:|---:|---:|---:|---:|---:|\n",
    );
    let extents = [(256, 50, 1), (128, 64, 1), (128, 50, 1), (128, 50, 1), (128, 50, 1)];
    let single = MODELS.iter().zip(extents);
    let eight = MODELS.iter().zip(extents.map(|(hidden, time, _)| (hidden, time, 8)));
    let mut ratios = Vec::new();
    for ((name, build), (hidden, time, batch)) in single.chain(eight) {
        let of = Extents { time, batch, hidden };
        let a = accuracy(engine, &build(of), repeats).context(*name)?;
        let (ratio, together) = (a.measured / a.predicted, a.together_measured / a.together_predicted);
        ratios.push((ratio - 1.0).abs());
        let _ = writeln!(
            text,
            "| {name}, H = {hidden}, {time} steps, batch {batch} | {} | {:.0} | {:.0} | {ratio:.2} | {:.0} | {:.0} | {together:.2} |",
            a.rewrite, a.predicted, a.measured, a.together_predicted, a.together_measured
        );
    }
    let _ = writeln!(text, "\nOff by {:.0} % (median).", 100.0 * median(ratios));
    Ok(text)
}

/// What two threads give over one: what the latency mode follows, every operator on both, and one thread, each pinned.
fn speeds(threads: usize, repeats: usize) -> Result<String> {
    let mut text = String::from(
        "\nRuns on pinned threads, in turns; µs, medians. The latency mode tries its plans and follows one that is faster than\n\
         every operator on all. The bound is what one thread is predicted to take over what no placement of the best\n\
         predicted plan's steps takes less than.\n\n\
         | model | one thread | every operator on all | latency mode | plan | over one thread | bound | over every operator on all |\n\
         |---|---:|---:|---:|---|---:|---:|---:|\n",
    );
    let build = || Engine::builder().with_threads(threads).build();
    let (single, gang, planned) = (Engine::builder().with_threads(1).build()?, build()?, build()?);
    let (mut over_one, mut least) = (Vec::new(), f64::INFINITY);
    for ((name, build), (hidden, time)) in
        MODELS.iter().zip([(256, 50), (128, 64), (128, 50), (128, 50), (128, 50)])
    {
        let bytes = build(Extents { time, batch: 1, hidden });
        let folder = tempfile::tempdir()?;
        let cache = ProfileCache::at(folder.path());
        let builder = Session::builder().with_engine(&planned).with_mode(Mode::Latency);
        let latency = builder.with_profile_cache(cache.clone()).load_bytes(bytes.clone())?;
        let sessions = [load(&single, &bytes)?, load(&gang, &bytes)?, latency];
        let given = inputs(&sessions[2], 0)?;
        let inputs = || given.iter().map(|(name, tensor)| (name.as_str(), tensor));
        let shapes = || given.iter().map(|(name, tensor)| (name.as_str(), tensor.shape()));
        // The first run measures and tries.
        sessions[2].run(inputs())?;
        let profile = sessions[2].profile(inputs(), &ProfileOptions::default().with_cache(cache))?;
        let plan = sessions[2].plan(shapes(), &profile)?.plan;
        let followed = sessions[2].followed(shapes()).unwrap_or_else(|| "every operator on all".to_owned());
        let mut times = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..repeats * 10 {
            for (session, times) in sessions.iter().zip(&mut times) {
                // The first of a turn finds caches as the other sessions left them.
                for at in 0..4 {
                    let start = Instant::now();
                    session.run(inputs())?;
                    if at > 0 {
                        times.push(start.elapsed().as_secs_f64() * 1e6);
                    }
                }
            }
        }
        let [one, all, along] = times.map(median);
        over_one.push(one / along);
        least = least.min(all / along);
        let _ = writeln!(
            text,
            "| {name}, H = {hidden}, {time} steps | {one:.0} | {all:.0} | {along:.0} | {} | {:.2} | {:.2} | {:.2} |",
            followed,
            one / along,
            plan.alone_us / plan.bound_us,
            all / along
        );
    }
    let logs: f64 = over_one.iter().map(|ratio| ratio.ln()).sum();
    let mean = (logs / over_one.len() as f64).exp();
    let _ = writeln!(
        text,
        "\nOver one thread {mean:.2} (geometric mean; the goal is 1.6), over every operator on all {least:.2} at least (the\n\
         goal is 0.98)."
    );
    Ok(text)
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let builder = Engine::builder().with_threads(arguments.threads).with_pinning(Pinning::None);
    let engine = builder.build()?;
    if arguments.lengths {
        println!("{}", lengths(&engine, arguments.repeats)?);
        return Ok(());
    }
    let mut text = String::from("# Planning and following plans\n\n");
    let _ = writeln!(
        text,
        "Medians on {} threads of `{}`; written by `cargo run --release -p recurve-benches --bin planning`.\n",
        arguments.threads,
        recurve::profiles::Machine::here().processor
    );
    let _ = writeln!(
        text,
        "From the file to a plan, of which searches may take {} ms in all; the goal is 300 ms together.\n",
        FIRST.as_millis()
    );
    text += "| model | steps placed | load and fusion, ms | plan, ms | together, ms |\n|---|---:|---:|---:|---:|\n";
    for (name, bytes) in [
        ("500 nodes: dense, convolutions, LSTMs step by step", model(Kind::Mixed, 500)),
        ("50 chains of 10 small kernels", lattice(50, 10)),
        ("5 chains of 100 small kernels", lattice(5, 100)),
    ] {
        let (load, plan, steps) = first(&engine, &bytes, arguments.repeats).context(name)?;
        let _ = writeln!(text, "| {name} | {steps} | {load:.1} | {plan:.1} | {:.1} |", load + plan);
    }
    text += &lengths(&engine, arguments.repeats)?;
    let [along, without] = executor(arguments.repeats)?;
    let _ = writeln!(
        text,
        "\nThe executor, by a chain of {LINKS} kernels that do next to nothing, on one worker: {along:.0} ns for each\n\
         instruction along a plan, kernel included, {without:.0} ns without a plan. The goal is 150 ns beside the kernel."
    );
    text += &accuracies(&engine, arguments.repeats)?;
    text += &speeds(arguments.threads, arguments.repeats)?;
    match &arguments.out {
        Some(path) => std::fs::write(path, &text)?,
        None => println!("{text}"),
    }
    Ok(())
}

/// The table of plans for another length.
fn lengths(engine: &Engine, repeats: usize) -> Result<String> {
    let mut text = format!(
        "\nA plan for another length of the input, until it is followed, of which searches may take {} ms in all; the\n\
         weights stay as they are packed. The goal is 30 ms.\n\n",
        AGAIN.as_millis()
    );
    text += "| model | steps placed | plan, ms | until it is followed, ms |\n|---|---:|---:|---:|\n";
    let of = |hidden| Extents { time: ANY, batch: 1, hidden };
    for (name, bytes) in [
        ("4 LSTM and GRU branches, H = 256", branches(of(256), 4)),
        ("16 LSTM and GRU branches, H = 64", branches(of(64), 16)),
        ("4 LSTM layers, H = 128", stacked(of(128), 4)),
        ("4 LSTM layers, H = 512", stacked(of(512), 4)),
    ] {
        let ([plan, followed], steps) = again(engine, &bytes, repeats).context(name)?;
        let _ = writeln!(text, "| {name} | {steps} | {plan:.1} | {followed:.1} |");
    }
    Ok(text)
}
