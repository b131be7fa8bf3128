//! Measures how the time of an LSTM grows, and draws it: `growth --csv F.csv --drawings FOLDER`. With `--draw` the table is
//! read and drawn as it is.

use anyhow::{Context, Result};
use clap::Parser;
use recurve::testing::Limits;
use recurve::{Engine, Session, Tensor};
use recurve_benches::growth::{Axis, Growth, Point, draw_all};
use recurve_benches::recurrences::{Recurrence, operator};
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(Debug, Parser)]
struct Arguments {
    /// The table
    #[arg(long, value_name = "F.csv")]
    csv: PathBuf,
    /// Where the drawings go
    #[arg(long, value_name = "FOLDER")]
    drawings: PathBuf,
    /// Draw the table that is there, and measure nothing
    #[arg(long)]
    draw: bool,
    /// Numbers of threads
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2])]
    threads: Vec<usize>,
    /// Interleaved rounds
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

const UNITS: [usize; 9] = [64, 96, 128, 256, 384, 512, 1024, 1536, 2048];
const STEPS: [usize; 7] = [1, 2, 5, 12, 25, 50, 100];
const ROWS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
/// What stays where nothing else is said.
const BASE: Recurrence = Recurrence { time: 25, batch: 1, hidden: 512 };
/// What the runs of one round take, about.
const ROUND: Duration = Duration::from_millis(150);

fn extents(axis: Axis) -> Vec<(usize, Recurrence)> {
    match axis {
        Axis::Units => UNITS.map(|hidden| (hidden, Recurrence { hidden, ..BASE })).to_vec(),
        Axis::Steps => STEPS.map(|time| (time, Recurrence { time, ..BASE })).to_vec(),
        Axis::Batch => ROWS.map(|batch| (batch, Recurrence { batch, ..BASE })).to_vec(),
    }
}

/// Milliseconds that the layer takes at least: its input product for all steps, then step by step, each the larger of
/// operations over the peak and weight bytes over the bandwidth.
fn floor(limits: &Limits, of: Recurrence) -> Result<f64> {
    let weights = 4 * of.hidden * of.hidden;
    let bytes = 4 * weights;
    let flops = |rows: usize| (2 * rows * weights) as f64 / limits.flops();
    let input = flops(of.time * of.batch).max(bytes as f64 / limits.bandwidth(2 * bytes)?);
    let step = flops(of.batch).max(bytes as f64 / limits.bandwidth(bytes)?);
    Ok((input + of.time as f64 * step) * 1e3)
}

/// Median milliseconds over the rounds' medians.
fn measure(threads: usize, rounds: usize, of: Recurrence) -> Result<f64> {
    let engine = Engine::builder().with_threads(threads).build()?;
    let session = Session::builder().with_engine(&engine).load_bytes(operator("LSTM", of))?;
    let shape = [of.time, of.batch, of.hidden];
    let x =
        Tensor::new(&shape, (0..shape.iter().product()).map(|i: usize| (i % 17) as f32 / 17.0).collect())?;
    let timed = |session: &Session| -> Result<f64> {
        let start = Instant::now();
        session.run([("x", &x)])?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    };
    let mut medians = Vec::new();
    for _ in 0..rounds {
        timed(&session)?;
        let (start, mut times) = (Instant::now(), Vec::new());
        while times.len() < 5 || start.elapsed() < ROUND {
            times.push(timed(&session)?);
        }
        medians.push(median(times));
    }
    Ok(median(medians))
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let growth = if arguments.draw {
        let text = std::fs::read_to_string(&arguments.csv);
        Growth::from_csv(&text.with_context(|| format!("cannot read {}", arguments.csv.display()))?)?
    } else {
        let mut growth = Growth::default();
        for axis in Axis::ALL {
            for (value, of) in extents(axis) {
                for &threads in &arguments.threads {
                    let ms = measure(threads, arguments.rounds, of)?;
                    let floor_ms = floor(&Limits::new(threads), of)?;
                    eprintln!(
                        "{} {value}, {threads} thread(s): {ms:.3} ms, floor {floor_ms:.3}",
                        axis.name()
                    );
                    growth.points.push(Point { axis, value, threads, ms, floor_ms });
                }
            }
        }
        std::fs::write(&arguments.csv, growth.to_csv())?;
        growth
    };
    draw_all(&growth, &arguments.drawings)?;
    Ok(())
}
