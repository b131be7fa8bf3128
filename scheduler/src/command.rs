//! The body of the `schedule` command, for the binary here and for `recurve schedule`.
//!
//! Prints nothing itself: the text for standard output is returned, files are written where the options say.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::answer::rounded;
use crate::gantt::gantt;
use crate::instance::VERSION;
use crate::peak::{least_peak, overflow, peaks};
use crate::trace::trace;
use crate::{
    Algorithm, Answer, Bounds, Budget, Error, ErrorKind, Instance, Point, Problem, Schedule, Search,
};

/// The document of `--algorithm all --json`.
#[derive(serde::Serialize)]
struct Comparison<'a> {
    version: u32,
    /// The shortest schedule first.
    answers: Vec<&'a Answer>,
}

/// Options of the command.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The instance: a JSON document of a machine and tasks, such as `recurve plan --emit-instance` writes and
    /// scheduler/README.md shows
    pub file: PathBuf,
    /// How to schedule; `all` compares
    #[arg(long, value_enum, default_value_t = Choice::Portfolio)]
    pub algorithm: Choice,
    /// What the schedule is to be best at
    #[arg(long, value_enum, default_value_t = ModeName::Latency)]
    pub mode: ModeName,
    /// With --mode memory: the name of the memory of whose bytes the least are to be held at once
    #[arg(long, value_name = "NAME", required_if_eq("mode", "memory"))]
    pub memory: Option<String>,
    /// With --mode memory: the service-level objective, the longest makespan allowed, in microseconds
    #[arg(long, value_name = "US", required_if_eq("mode", "memory"), allow_negative_numbers = true)]
    pub slo_us: Option<f64>,
    /// Time for the portfolio's search, in milliseconds; not with --evaluations or algorithms that do not search [default: 200]
    #[arg(long, value_name = "MS", conflicts_with = "evaluations", allow_negative_numbers = true)]
    pub budget_ms: Option<u64>,
    /// Schedules that the portfolio's search evaluates, in place of a time; the answer then depends on nothing but the seed
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub evaluations: Option<u64>,
    /// Seed of the portfolio's search; not with algorithms that do not search [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    /// Draw the schedule as a Gantt chart
    #[arg(long, value_name = "F.svg")]
    pub gantt: Option<PathBuf>,
    /// Write the schedule as trace events, for Perfetto and Chrome
    #[arg(long, value_name = "F.json")]
    pub trace: Option<PathBuf>,
}

/// The values of `--algorithm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// Heterogeneous earliest finish time, into gaps, too
    Heft,
    /// The critical path on one processor
    Cpop,
    /// Predicted earliest finish time
    Peft,
    /// HEFT that looks at what follows a task, too
    Lookahead,
    /// HEFT that lets transfers queue in the links' channels as it decides
    HeftLinks,
    /// Branch and bound, for small instances
    Exact,
    /// The best of the list schedules, improved by local search while the budget lasts
    Portfolio,
    /// A table of all
    All,
}

/// The values of `--mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ModeName {
    /// The least makespan: the time from the first start to the last end
    Latency,
    /// The least peak of --memory within --slo-us
    Memory,
}

impl Options {
    /// Options that nothing would read, and times that are none.
    fn check(&self) -> Result<(), Error> {
        let unread = "is for --mode memory";
        match (self.mode, &self.memory, self.slo_us) {
            (ModeName::Latency, Some(_), _) => Err(Error::Usage { option: "--memory", problem: unread }),
            (ModeName::Latency, _, Some(_)) => Err(Error::Usage { option: "--slo-us", problem: unread }),
            (ModeName::Memory, _, Some(slo)) if !slo.is_finite() || slo <= 0.0 => {
                Err(Error::Usage { option: "--slo-us", problem: "takes a finite number above 0" })
            }
            _ => self.check_search(),
        }
    }

    /// Options of the search where there is none.
    fn check_search(&self) -> Result<(), Error> {
        if self.mode == ModeName::Memory || matches!(self.algorithm, Choice::Portfolio | Choice::All) {
            return Ok(());
        }
        let given = [
            (self.seed.is_some(), "--seed"),
            (self.budget_ms.is_some(), "--budget-ms"),
            (self.evaluations.is_some(), "--evaluations"),
        ];
        match given.into_iter().find(|(given, _)| *given) {
            Some((_, option)) => {
                Err(Error::Usage { option, problem: "is for --algorithm portfolio and all, which search" })
            }
            None => Ok(()),
        }
    }
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

/// Time of the portfolio where neither time nor evaluations are given.
const BUDGET: Duration = Duration::from_millis(200);
/// Nodes of the exact search.
const NODES: u64 = 50_000_000;

/// Runs the command.
///
/// # Returns
/// The text for standard output.
///
/// # Example
/// ```
/// use clap::Parser;
/// use recurve_scheduler::command::{Options, run};
/// #[derive(Parser)]
/// struct Command {
///     #[command(flatten)]
///     options: Options,
/// }
/// let command = Command::parse_from(["schedule", "tests/data/i5.json", "--algorithm", "heft"]);
/// assert!(run(&command.options)?.starts_with("heft: makespan 19.000 us"));
/// # Ok::<(), recurve_scheduler::Error>(())
/// ```
pub fn run(options: &Options) -> Result<String, Error> {
    options.check()?;
    let instance = Instance::read(&options.file)?;
    let problem = Problem::new(&instance)?;
    let bound = Bounds::new(&problem).best();
    let plans = match options.mode {
        ModeName::Memory => vec![memory_mode(options, &problem, bound)?],
        ModeName::Latency if options.algorithm == Choice::All => all(options, &problem, bound),
        ModeName::Latency => vec![latency(options, &problem, bound, options.algorithm)?],
    };
    let (_, shown) = plans.first().ok_or(Error::DeadEnd)?;
    if let Some(path) = &options.gantt {
        write(path, &gantt(&problem, shown))?;
    }
    if let Some(path) = &options.trace {
        write(path, &serde_json::to_string(&trace(&problem, shown))?)?;
    }
    let answers: Vec<&Answer> = plans.iter().map(|p| &p.0).collect();
    Ok(match (options.json, options.algorithm) {
        (true, Choice::All) => serde_json::to_string_pretty(&Comparison { version: VERSION, answers })?,
        (true, _) => serde_json::to_string_pretty(&answers[0])?,
        (false, Choice::All) => table(&answers),
        (false, _) => listing(answers[0], &problem, shown),
    })
}

/// The plan of one algorithm.
fn latency(
    options: &Options,
    problem: &Problem,
    bound: f64,
    choice: Choice,
) -> Result<(Answer, Schedule), Error> {
    let list = Algorithm::ALL.into_iter().find(|a| a.name() == choice.name());
    let schedule = match (list, choice) {
        (Some(list), _) => {
            // What fits without looking is the classic answer; else the memory-aware variant.
            let schedule = list.schedule(problem).ok_or(Error::DeadEnd)?;
            match overflow(problem, &schedule) {
                None => schedule,
                Some((m, peak)) => {
                    list.schedule_within(problem).ok_or_else(|| too_small(problem, m, peak))?
                }
            }
        }
        (None, Choice::Exact) => problem.optimum(NODES)?.ok_or(Error::DeadEnd)?,
        _ => problem.least_makespan(search(options))?.schedule,
    };
    Ok((Answer::new(problem, choice.name(), &schedule, bound), schedule))
}

/// Every algorithm that has an answer, the shortest first.
fn all(options: &Options, problem: &Problem, bound: f64) -> Vec<(Answer, Schedule)> {
    let lists = [Choice::Heft, Choice::Cpop, Choice::Peft, Choice::Lookahead, Choice::HeftLinks];
    let mut plans: Vec<(Answer, Schedule)> = lists
        .into_iter()
        .chain([Choice::Portfolio, Choice::Exact])
        .filter_map(|choice| latency(options, problem, bound, choice).ok())
        .collect();
    plans.sort_by(|a, b| a.1.makespan.total_cmp(&b.1.makespan));
    plans
}

fn memory_mode(options: &Options, problem: &Problem, bound: f64) -> Result<(Answer, Schedule), Error> {
    if !matches!(options.algorithm, Choice::Portfolio | Choice::Exact) {
        return Err(Error::Usage {
            option: "--mode memory",
            problem: "needs --algorithm portfolio or exact",
        });
    }
    let unset = Error::Usage { option: "--mode memory", problem: "needs --memory and --slo-us" };
    let (Some(name), Some(slo)) = (&options.memory, options.slo_us) else { return Err(unset) };
    let unknown = || Error::NoSuchMemory { name: name.clone(), known: problem.names.memories.clone() };
    let memory = problem.memory(name).ok_or_else(unknown)?;
    let frugal = problem.least_memory(memory, slo, search(options))?;
    let (mut schedule, mut front) = (frugal.schedule, frugal.front);
    let exact = (options.algorithm == Choice::Exact).then(|| problem.optimal_peak(memory, slo, NODES));
    if let Some(optimum) = exact.transpose()?.flatten() {
        let point = Point { peak_bytes: peaks(problem, &optimum)[memory], makespan_us: optimum.makespan };
        front.retain(|p| p.peak_bytes < point.peak_bytes || p.makespan_us < point.makespan_us);
        if !front.iter().any(|p| p.peak_bytes <= point.peak_bytes && p.makespan_us <= point.makespan_us) {
            front.push(point);
        }
        front.sort_by_key(|p| p.peak_bytes);
        schedule = optimum;
    }
    let mut answer = Answer::new(problem, options.algorithm.name(), &schedule, bound);
    let point = |p: Point| Point { makespan_us: rounded(p.makespan_us), ..p };
    answer.front = Some(front.into_iter().map(point).collect());
    Ok((answer, schedule))
}

fn search(options: &Options) -> Search {
    let time = options.budget_ms.map_or(BUDGET, Duration::from_millis);
    let budget = options.evaluations.map_or(Budget::Time(time), Budget::Evaluations);
    Search { seed: options.seed.unwrap_or_default(), budget }
}

fn too_small(problem: &Problem, m: usize, peak: u64) -> Error {
    let capacity = problem.capacity[m].unwrap_or(u64::MAX);
    let bound = Some(least_peak(problem, m)).filter(|b| *b > capacity);
    Error::Capacity { memory: problem.names.memories[m].clone(), capacity, reachable: Some(peak), bound }
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
fn table(answers: &[&Answer]) -> String {
    let mut text = format!("{:<12} {:>14} {:>8}  peak of each memory", "algorithm", "makespan us", "/ bound");
    for answer in answers {
        let ratio = answer.makespan_us / answer.lower_bound_us;
        let _ = write!(text, "\n{:<12} {:>14.3} {:>8.3}", answer.algorithm, answer.makespan_us, ratio);
        for (memory, bytes) in &answer.peak_bytes {
            let _ = write!(text, "  {memory} {bytes} B");
        }
    }
    text + LEGEND
}

/// What is said under the table of algorithms.
const LEGEND: &str = "\nmakespan: from the first start to the last end, in microseconds; / bound: over what no schedule can beat, so that\n\
    1 is the best there can be; peak: the most bytes of tensors and weights that a memory holds at once.";

/// Replays with costs that differ from the instance's.
const REPLAYS: usize = 200;

/// Tasks and transfers in the order of their start.
fn listing(answer: &Answer, problem: &Problem, schedule: &Schedule) -> String {
    let mut text = format!(
        "{}: makespan {:.3} us, lower bound {:.3} us",
        answer.algorithm, answer.makespan_us, answer.lower_bound_us
    );
    for (memory, bytes) in &answer.peak_bytes {
        let _ = write!(text, "\npeak of {memory}: {bytes} bytes");
    }
    for spread in [0.1, 0.3] {
        let s = schedule.perturbed(problem, spread, REPLAYS, 0);
        let percent = spread * 100.0;
        let _ = write!(
            text,
            "\nmakespan with costs off by up to {percent:.0} %, in {REPLAYS} replays: half within {:.3} us, 19 in 20 within {:.3} us",
            s.p50, s.p95
        );
    }
    let tasks =
        answer.tasks.iter().map(|t| (t.start_us, t.finish_us, format!("{} on {}", t.name, t.processor)));
    let moves = answer.transfers.iter();
    let moves = moves.map(|m| (m.start_us, m.finish_us, format!("{} from {} to {}", m.tensor, m.from, m.to)));
    let mut lines: Vec<(f64, f64, String)> = tasks.chain(moves).collect();
    lines.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let _ = write!(text, "\n{:>12} {:>12}  task or transfer", "start us", "end us");
    for (start, finish, what) in lines {
        let _ = write!(text, "\n{start:>12.3} {finish:>12.3}  {what}");
    }
    if let Some(front) = &answer.front {
        text.push_str("\nof the schedules found, those that no other beats in peak and makespan:");
        for point in front {
            let _ = write!(text, "\n{:>12} bytes  {:>12.3} us", point.peak_bytes, point.makespan_us);
        }
    }
    text
}

/// Writes a file of the options.
fn write(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(|source| Error::Write { path: path.to_owned(), source })
}
