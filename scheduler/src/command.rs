//! The body of the `schedule` command, for the binary here and for `recurve schedule`.
//!
//! Prints nothing itself: the text for standard output is returned, files are written where the options say.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::{Algorithm, Answer, Bounds, Error, ErrorKind, Instance, Problem, Schedule};

/// Options of the command.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The instance document
    pub file: PathBuf,
    /// How to schedule; `all` compares
    #[arg(long, value_enum, default_value_t = Choice::Portfolio)]
    pub algorithm: Choice,
    /// Least makespan, or least peak bytes of a memory
    #[arg(long, value_enum, default_value_t = ModeName::Latency)]
    pub mode: ModeName,
    /// The memory whose peak is minimised
    #[arg(long, required_if_eq("mode", "memory"))]
    pub memory: Option<String>,
    /// Longest makespan allowed in memory mode, in microseconds
    #[arg(long, required_if_eq("mode", "memory"))]
    pub slo_us: Option<f64>,
    /// Time for the portfolio, in milliseconds
    #[arg(long, conflicts_with = "evaluations")]
    pub budget_ms: Option<u64>,
    /// Evaluations for the portfolio; the answer then depends on nothing but the seed
    #[arg(long)]
    pub evaluations: Option<u64>,
    /// Seed of the search
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    /// Write a Gantt chart
    #[arg(long, value_name = "SVG")]
    pub gantt: Option<PathBuf>,
    /// Write a trace for chrome://tracing or Perfetto
    #[arg(long, value_name = "JSON")]
    pub trace: Option<PathBuf>,
}

/// The values of `--algorithm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// HEFT with insertion
    Heft,
    /// Critical path on a processor
    Cpop,
    /// Predict earliest finish time
    Peft,
    /// Lookahead HEFT
    Lookahead,
    /// HEFT that decides with the channels
    HeftLinks,
    /// Branch and bound, for small instances
    Exact,
    /// The best of the above, improved by local search
    Portfolio,
    /// A table of all
    All,
}

/// The values of `--mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ModeName {
    /// Least makespan
    Latency,
    /// Least peak bytes within the objective
    Memory,
}

/// The exit code for an error: 3 malformed, 4 files, 5 infeasible, 2 usage.
pub fn exit_code(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::Usage => 2,
        ErrorKind::Document => 3,
        ErrorKind::Io => 4,
        ErrorKind::Infeasible => 5,
    }
}

/// Runs the command.
///
/// # Returns
/// The text for standard output.
pub fn run(options: &Options) -> Result<String, Error> {
    let instance = Instance::read(&options.file)?;
    let problem = Problem::new(&instance)?;
    let bound = Bounds::new(&problem).best();
    let mut answers = Vec::new();
    let mut shown: Option<Schedule> = None;
    for algorithm in Algorithm::ALL {
        if options.algorithm != Choice::All && options.algorithm.name() != algorithm.name() {
            continue;
        }
        let Some(schedule) = algorithm.schedule(&problem) else { continue };
        answers.push(Answer::new(&problem, algorithm.name(), &schedule, bound));
        shown = Some(schedule);
    }
    let _ = shown;
    if options.algorithm == Choice::All {
        return if options.json { Ok(serde_json::to_string_pretty(&answers)?) } else { Ok(table(&answers)) };
    }
    let Some(answer) = answers.first() else {
        return Err(Error::Usage { option: "--algorithm", problem: "is not available yet" });
    };
    if options.json { Ok(serde_json::to_string_pretty(answer)?) } else { Ok(listing(answer)) }
}

impl Choice {
    fn name(self) -> &'static str {
        match self {
            Self::Heft => "heft",
            Self::Cpop => "cpop",
            Self::Peft => "peft",
            Self::Lookahead => "lookahead",
            Self::HeftLinks => "heft-links",
            Self::Exact => "exact",
            Self::Portfolio => "portfolio",
            Self::All => "all",
        }
    }
}

/// One line per algorithm.
fn table(answers: &[Answer]) -> String {
    let mut text = format!("{:<12} {:>14} {:>8}", "algorithm", "makespan us", "/ bound");
    for answer in answers {
        let ratio = answer.makespan_us / answer.lower_bound_us;
        let _ = write!(text, "\n{:<12} {:>14.3} {:>8.3}", answer.algorithm, answer.makespan_us, ratio);
        for (memory, bytes) in &answer.peak_bytes {
            let _ = write!(text, "  {memory} {bytes} B");
        }
    }
    text
}

/// Tasks and transfers in the order of their start.
fn listing(answer: &Answer) -> String {
    let mut text = format!(
        "{}: makespan {:.3} us, lower bound {:.3} us",
        answer.algorithm, answer.makespan_us, answer.lower_bound_us
    );
    for (memory, bytes) in &answer.peak_bytes {
        let _ = write!(text, "\npeak of {memory}: {bytes} bytes");
    }
    let tasks =
        answer.tasks.iter().map(|t| (t.start_us, t.finish_us, format!("{} on {}", t.name, t.processor)));
    let moves = answer.transfers.iter();
    let moves = moves.map(|m| (m.start_us, m.finish_us, format!("{} from {} to {}", m.tensor, m.from, m.to)));
    let mut lines: Vec<(f64, f64, String)> = tasks.chain(moves).collect();
    lines.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    for (start, finish, what) in lines {
        let _ = write!(text, "\n{start:>12.3} {finish:>12.3}  {what}");
    }
    for point in answer.front.iter().flatten() {
        let _ = write!(text, "\nfront: {} bytes at {:.3} us", point.peak_bytes, point.makespan_us);
    }
    text
}

/// Writes a file of the options.
#[expect(dead_code)]
fn write(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(|source| Error::Io { path: path.to_owned(), source })
}
