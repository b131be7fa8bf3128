//! The command line.

use crate::commands::{bench, check, devices, env, inspect, ops, plan, profile, run, schedule};
use crate::dimensions::Binding;
use crate::environment;
use crate::failure::UsageError;
use crate::quantity::{parse_bytes, parse_some, parse_time, parse_whole, plural};
use crate::terminal::Terminal;
use anyhow::Result;
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use recurve::settings::{Fusion, Precision};
use recurve::{Device, Error, Fallback, RunOptions, Session, SessionBuilder};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// Runs, checks and inspects ONNX models.
#[derive(Debug, Parser)]
#[command(
    name = "recurve",
    version = environment::VERSION,
    max_term_width = 100,
    after_help = "Example:\n  recurve run model.onnx --dim batch=1,time=50 --runs 100"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) output: OutputArguments,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What the command's end means, told by the help of every subcommand.
const EXITS: &str = "Exit codes:\n    \
    0  done\n    \
    1  anything else: a memory limit, a full disk\n    \
    2  usage: arguments, files that cannot be opened, arrays that do not fit\n    \
    3  a model, plan, profile, measurement, trace or instance that is invalid, not supported, or of something else\n    \
    4  a GPU or its driver cannot be used\n    \
    5  outputs differ\n    \
    6  slower than `bench --assert` allows\n    \
    7  no plan or schedule meets what is asked\n  \
    124  the deadline of `--timeout` passed";

impl Arguments {
    /// Those of the process.
    pub(crate) fn of_process() -> Result<Self, clap::Error> {
        let told = |command: clap::Command| {
            let own = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            // One help, whichever of its two names it is asked for by.
            let help = Arg::new("help").short('h').long("help").help("Print help").help_heading("Output");
            let help = help.action(ArgAction::HelpLong);
            command.after_help(format!("{own}\n\n{EXITS}")).disable_help_flag(true).arg(help)
        };
        let command = told(Self::command()).mut_subcommands(told);
        let known = command.clone();
        let matches = command.try_get_matches().map_err(|error| with_takers(error, &known))?;
        Self::from_arg_matches(&matches)
    }
}

/// An option that the subcommand does not have, with the subcommands that do.
fn with_takers(mut error: clap::Error, command: &clap::Command) -> clap::Error {
    let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidArg) else { return error };
    if error.kind() != clap::error::ErrorKind::UnknownArgument {
        return error;
    }
    let name = unknown.trim_start_matches('-').split('=').next().unwrap_or_default().to_owned();
    let takes = |command: &&clap::Command| command.get_arguments().any(|a| a.get_long() == Some(&*name));
    let takers: Vec<String> =
        command.get_subcommands().filter(takes).map(|c| format!("`recurve {}`", c.get_name())).collect();
    // The one that was called may have an option for what plans use instead of one for a whole model.
    let called = std::env::args().skip(1).find_map(|word| command.find_subcommand(word));
    let several = format!("{name}s");
    let own = called.filter(|c| c.get_arguments().any(|a| a.get_long() == Some(&*several)));
    if !takers.is_empty() {
        let tip = match own {
            Some(own) => format!("`recurve {}` takes --{several}", own.get_name()),
            None => format!("--{name} is an option of {}", takers.join(", ")),
        };
        error.remove(ContextKind::SuggestedArg);
        // It shows the option that was suggested.
        error.remove(ContextKind::Usage);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// What is shown where.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArguments {
    /// Log more to stderr; twice for details, three times for everything; not with --quiet
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Say nothing on stderr but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// When to use colours: with `auto` on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: Color,
}

/// When to use colours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub(crate) enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a model, on given or random inputs, and print its outputs and latency
    Run(run::Arguments),
    /// Compare a model's outputs with expected ones
    Check(check::Arguments),
    /// Measure a model's latency, and compare it with an earlier measurement
    Bench(bench::Arguments),
    /// Print what a model consists of: inputs, outputs, operators, parameters, work per node
    Inspect(inspect::Arguments),
    /// List the operators that run
    Ops(ops::Arguments),
    /// Measure a model's operators on this machine
    Profile(profile::Arguments),
    /// Place a model's operators on threads and a GPU, for the least time or the least GPU memory
    Plan(plan::Arguments),
    /// Place a graph of tasks on the processors of a machine
    Schedule(schedule::Arguments),
    /// List where a model can run on this machine
    Devices(devices::Arguments),
    /// Print what the engine sees of this machine and its environment
    Env(env::Arguments),
}

impl Command {
    /// The model's file, where it runs one.
    fn model(&self) -> Option<&Path> {
        let arguments = match self {
            Self::Run(of) => &of.model,
            Self::Check(of) => &of.model,
            Self::Bench(of) => &of.model,
            Self::Profile(of) => &of.model,
            Self::Plan(of) => &of.model,
            Self::Inspect(_) | Self::Ops(_) | Self::Schedule(_) | Self::Devices(_) | Self::Env(_) => {
                return None;
            }
        };
        Some(&arguments.file.path)
    }

    /// `error` with the file of the model that is refused, where that happened after loading: the engine does not know it
    /// by then.
    pub(crate) fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        let first = error.chain().next().and_then(|first| first.downcast_ref::<Error>());
        match (first, self.model()) {
            (Some(Error::Unsupported { .. }), Some(path)) => {
                error.context(format!("`{}` cannot run", path.display()))
            }
            _ => error,
        }
    }
}

/// The model and what runs it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArguments {
    #[command(flatten)]
    pub(crate) file: FileArguments,
    /// Threads that an operator may use [default: one per core]
    #[arg(long, value_name = "N", value_parser = parse_some, allow_negative_numbers = true)]
    threads: Option<NonZeroUsize>,
}

/// The model and how it is loaded.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct FileArguments {
    /// The ONNX file
    #[arg(value_name = "MODEL", help_heading = None::<&str>)]
    pub(crate) path: PathBuf,
    /// Most bytes of tensors, weights and workspaces on the host, such as 512MiB [default: no limit]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, allow_negative_numbers = true)]
    pub(crate) memory_limit: Option<usize>,
    /// What weights of recurrences and of products of few rows are stored in: f32 (as in the model), f16, bf16, or int8
    /// with a factor for each output; on a GPU f16 or bf16, convolutions and all products included, or tf32: stored as in
    /// the model, and rounded to 11 bits by products and convolutions on tensor cores; along a plan over both, each where
    /// a step runs
    #[arg(long, value_name = "FORMAT", default_value = "f32", value_parser = parse_choice::<Precision>)]
    pub(crate) precision: Precision,
}

/// The inputs of a run.
#[derive(Debug, Args)]
#[command(next_help_heading = "Inputs")]
pub(crate) struct InputArguments {
    /// NPZ file with inputs by name; missing ones are drawn
    #[arg(long, value_name = "F.npz")]
    pub(crate) inputs: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) dimensions: DimensionArguments,
    /// Seed of the inputs that are drawn: floats from -1 to 1, 8-bit integers of any value, wider ones 0 or 1
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = parse_whole::<u64>)]
    #[arg(allow_negative_numbers = true)]
    pub(crate) seed: u64,
}

/// How a model is simplified.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct FusionArguments {
    /// Run every operator as a kernel of its own
    #[arg(long)]
    no_fusion: bool,
}

impl FusionArguments {
    /// A session's settings.
    pub(crate) fn builder(&self) -> SessionBuilder {
        Session::builder().with_fusion(if self.no_fusion { Fusion::Off } else { Fusion::On })
    }
}

/// How and where a model is executed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct ExecutionArguments {
    #[command(flatten)]
    fusion: FusionArguments,
    /// Where all operators run: cpu, cuda:0, cuda:1, …, cuda for the first GPU, or emulated
    #[arg(long, value_name = "DEVICE", default_value = "cpu", value_parser = parse_choice::<Device>)]
    pub(crate) device: Device,
    /// What becomes of operators without a kernel for the GPU: deny to refuse the model, or cpu to run them there and
    /// count it
    #[arg(long, value_name = "WHAT", default_value = "deny", value_parser = parse_choice::<Fallback>)]
    pub(crate) fallback: Fallback,
}

/// How long a command may take.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct TimeArguments {
    /// End with code 124 when one run, or the measuring for a plan or profile, takes longer than this, such as 500ms or 2s
    /// [default: no limit]
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_negative_numbers = true)]
    timeout: Option<Duration>,
}

/// Reads what the engine knows by name; the option's own name stands before what is said of another.
pub(crate) fn parse_choice<T: FromStr<Err = Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error| match error {
        Error::Setting { problem, .. } => {
            let is = format!("is `{text}`");
            match problem.strip_prefix(&is).map(|rest| rest.trim_start_matches([',', ';', ' '])) {
                Some(rest) => {
                    rest.strip_prefix("which ").map_or(rest.to_owned(), |what| format!("it {what}"))
                }
                None => problem,
            }
        }
        error => error.to_string(),
    })
}

impl TimeArguments {
    /// The time, where there is a limit.
    pub(crate) fn limit(&self) -> Option<Duration> {
        self.timeout
    }

    /// What a run is to heed.
    pub(crate) fn options(&self) -> RunOptions {
        let options = RunOptions::default();
        self.limit().map_or(options.clone(), |limit| options.with_timeout(limit))
    }
}

impl ExecutionArguments {
    /// Whether operators are fused.
    pub(crate) fn fuses(&self) -> bool {
        !self.fusion.no_fusion
    }

    /// A session's settings.
    pub(crate) fn builder(&self) -> SessionBuilder {
        self.fusion.builder().with_device(self.device).with_fallback(self.fallback)
    }
}

/// Extents of symbolic dimensions.
#[derive(Debug, Args)]
#[command(next_help_heading = "Inputs")]
pub(crate) struct DimensionArguments {
    /// Extents of symbolic dimensions, such as batch=1,time=50 [default: 1 each]
    #[arg(long = "dim", value_name = "NAME=N", value_delimiter = ',')]
    pub(crate) bindings: Vec<Binding>,
}

impl ModelArguments {
    /// Loads the model as `builder` has it.
    pub(crate) fn load(&self, builder: SessionBuilder, terminal: &Terminal) -> Result<Session> {
        self.load_in(self.file.precision, builder, terminal)
    }

    /// The same with weights stored in another format.
    pub(crate) fn load_in(
        &self,
        precision: Precision,
        mut builder: SessionBuilder,
        terminal: &Terminal,
    ) -> Result<Session> {
        let threads = self.threads.map(NonZeroUsize::get);
        if let Some(threads) = threads {
            builder = builder.with_threads(threads);
        }
        let session = self.file.load_in(precision, builder, terminal)?;
        // Of a number that is refused there is nothing more to say.
        let cores = std::thread::available_parallelism().map_or(usize::MAX, usize::from);
        if let Some(threads) = threads.filter(|&threads| threads > cores) {
            terminal.narrate(format!(
                "note: {threads} threads share {}: they wait for each other, which takes longer than fewer threads",
                plural(cores, "core")
            ));
        }
        Ok(session)
    }
}

impl FileArguments {
    /// Loads the model as `builder` has it.
    pub(crate) fn load(&self, builder: SessionBuilder, terminal: &Terminal) -> Result<Session> {
        self.load_in(self.precision, builder, terminal)
    }

    fn load_in(&self, precision: Precision, builder: SessionBuilder, terminal: &Terminal) -> Result<Session> {
        let mut builder = builder.with_precision(precision);
        if let Some(bytes) = self.memory_limit {
            builder = builder.with_memory_limit(bytes);
        }
        if self.path.is_dir() {
            let problem = format!("`{}` is a folder", self.path.display());
            return Err(UsageError::new(problem).hint("name the .onnx file in it").into());
        }
        let spinner = terminal.progress(None, "loading");
        let session = builder.load(&self.path);
        spinner.finish_and_clear();
        let session = session.map_err(|error| match error {
            // The others name the file, or are no matter of the model.
            Error::NotOnnx { .. }
            | Error::Model { .. }
            | Error::Unsupported { .. }
            | Error::ExternalData { .. }
            | Error::Prepare { .. } => {
                anyhow::Error::new(error).context(format!("`{}` cannot be loaded", self.path.display()))
            }
            error => error.into(),
        })?;
        tracing::info!(
            model = %self.path.display(),
            load_ms = session.load_time().as_secs_f64() * 1e3,
            threads = session.engine().threads(),
            memory = session.memory_used(),
            "loaded"
        );
        Ok(session)
    }
}
