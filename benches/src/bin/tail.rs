//! The tail of a recurrence's latencies beside that of a gang that only meets: as many barriers on as many threads within as
//! much time, measured in turns. What the second has, the machine adds; what the first has beyond it is the engine's.

use anyhow::Result;
use clap::Parser;
use recurve::testing::GangLoop;
use recurve::{Engine, Session, Tensor};
use recurve_benches::recurrences::{Recurrence, operator};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(Debug, Parser)]
struct Arguments {
    /// Threads that share a step
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Turns of either
    #[arg(long, default_value_t = 40)]
    rounds: usize,
    /// Runs in a turn
    #[arg(long, default_value_t = 50)]
    runs: usize,
    /// Write the page to this file
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Operator, steps and units of batch 1.
const MODELS: [(&str, usize, usize); 4] =
    [("LSTM", 64, 128), ("LSTM", 150, 256), ("LSTM", 25, 512), ("GRU", 25, 1024)];
/// Runs at the beginning of a turn that do not count: the other's threads go to sleep, its data leaves the caches.
const WARM: usize = 5;

/// Sorted times.
struct Times(Vec<f64>);

impl Times {
    fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        Self(times)
    }

    fn at(&self, share: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        self.0.get((share * last as f64).round() as usize).copied().unwrap_or(f64::NAN)
    }

    /// How far the slowest hundredth is from the median.
    fn tail(&self) -> f64 {
        self.at(0.99) / self.at(0.5)
    }
}

/// Times of a turn in microseconds, the first left out.
fn turn(runs: usize, into: &mut Vec<f64>, mut run: impl FnMut() -> Result<()>) -> Result<()> {
    for index in 0..runs + WARM {
        let start = Instant::now();
        run()?;
        if index >= WARM {
            into.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    Ok(())
}

/// Latencies of the model, and of a loop that is as long.
fn measure(arguments: &Arguments, op: &str, of: Recurrence) -> Result<[Times; 2]> {
    let engine = Engine::builder().with_threads(arguments.threads).build()?;
    let session = Session::builder().with_engine(&engine).load_bytes(operator(op, of))?;
    let shape = [of.time, of.batch, of.hidden];
    let x =
        Tensor::new(&shape, (0..shape.iter().product()).map(|i: usize| (i % 17) as f32 / 17.0).collect())?;
    let mut run = || -> Result<()> {
        session.run([("x", &x)])?;
        Ok(())
    };
    let mut first = Vec::new();
    turn(arguments.runs, &mut first, &mut run)?;
    let length = Duration::from_secs_f64(Times::of(first).at(0.5) / 1e6);
    let gang = GangLoop::new(arguments.threads, of.time, length)?;
    let (mut model, mut empty) = (Vec::new(), Vec::new());
    for _ in 0..arguments.rounds {
        turn(arguments.runs, &mut model, &mut run)?;
        turn(arguments.runs, &mut empty, || {
            gang.run()?;
            Ok(())
        })?;
    }
    Ok([Times::of(model), Times::of(empty)])
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut text = String::from("# The tail of a recurrence's latencies\n\n");
    let _ = writeln!(
        text,
        "{} turns of {} runs each on {} threads of `{}`, the loop's between the model's; written by \
         `cargo run --release -p recurve-benches --bin tail`. The loop has as many barriers and takes as long.\n",
        arguments.rounds,
        arguments.runs,
        arguments.threads,
        recurve::profiles::Machine::here().processor
    );
    text += "| layer | p50 µs | p99 µs | p99 / p50 | loop p50 µs | p99 µs | p99 / p50 | of the loop's |\n";
    text += "|---|---:|---:|---:|---:|---:|---:|---:|\n";
    for (op, time, hidden) in MODELS {
        let [model, empty] = measure(&arguments, op, Recurrence { time, batch: 1, hidden })?;
        let _ = writeln!(
            text,
            "| {op}, H={hidden}, T={time} | {:.0} | {:.0} | {:.3} | {:.0} | {:.0} | {:.3} | {:.2} |",
            model.at(0.5),
            model.at(0.99),
            model.tail(),
            empty.at(0.5),
            empty.at(0.99),
            empty.tail(),
            model.tail() / empty.tail()
        );
    }
    match &arguments.out {
        Some(path) => std::fs::write(path, text)?,
        None => print!("{text}"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_the_slowest_hundredth_over_the_median() {
        let times = Times::of((1..=101).rev().map(f64::from).collect());
        assert_eq!((times.at(0.5), times.at(0.99)), (51.0, 100.0));
        assert_eq!(times.tail(), 100.0 / 51.0);
    }

    #[test]
    fn the_beginning_of_a_turn_does_not_count() {
        let (mut times, mut calls) = (Vec::new(), 0);
        turn(3, &mut times, || {
            calls += 1;
            Ok(())
        })
        .expect("nothing fails");
        assert_eq!((times.len(), calls), (3, 3 + WARM));
    }
}
