//! How an error looks on a terminal: the error, its causes, and the flag that helps.

use crate::npz::ArchiveError;
use crate::quantity;
use crate::terminal::Terminal;
use recurve::errors::OpError;
use recurve::gpu::GpuError;
use recurve::plans::PlanError;
use recurve::profiles::ProfileError;
use recurve::{Error, ErrorKind};
use std::time::Duration;

/// The arguments do not fit the command or the model.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub(crate) struct UsageError {
    problem: String,
    hint: Option<&'static str>,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl UsageError {
    pub(crate) fn new(problem: impl Into<String>) -> Self {
        Self { problem: problem.into(), hint: None, source: None }
    }

    /// With what was seen of it.
    pub(crate) fn because(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// With what helps, a clause that names a flag.
    pub(crate) fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }
}

/// A file that the arguments name is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub(crate) struct InvalidFile {
    problem: String,
    hint: &'static str,
}

impl InvalidFile {
    pub(crate) fn new(problem: impl Into<String>, hint: &'static str) -> Self {
        Self { problem: problem.into(), hint }
    }
}

/// Writes `error: …`, `caused by: …` and `hint: …` lines to stderr.
pub(crate) fn report(error: &anyhow::Error, terminal: &Terminal) {
    let (first, causes) = lines(error);
    terminal.complain("error", &first);
    for cause in causes {
        terminal.complain("caused by", &cause);
    }
    let hint = |cause| named_hint(cause).or_else(|| hint(cause).map(str::to_owned));
    if let Some(hint) = error.chain().find_map(hint) {
        terminal.complain("hint", &hint);
    }
}

fn lines(error: &anyhow::Error) -> (String, Vec<String>) {
    let mut lines = Vec::new();
    for cause in error.chain() {
        match cause.downcast_ref::<Error>() {
            // One line for each node instead of one long line.
            Some(Error::Unsupported { refusals }) => {
                lines.push(format!("{} of the model's nodes cannot run", refusals.len()));
                for r in refusals {
                    lines.push(format!("node {r}"));
                }
            }
            Some(Error::Arguments { misfits }) => {
                lines.push(format!("{} arguments do not fit the model", misfits.len()));
                lines.extend(misfits.iter().map(ToString::to_string));
            }
            Some(Error::Plan { source: PlanError::Slo { slo_us, best_us, device_bytes } }) => {
                lines.push(cause.to_string());
                let [slo, best] =
                    [slo_us, best_us].map(|us| quantity::time(Duration::from_secs_f64(us / 1e6)));
                let memory = quantity::bytes(*device_bytes as f64);
                lines.push(format!(
                    "no plan was found that takes at most {slo}: the fastest takes {best}, with {memory} of GPU memory"
                ));
                break;
            }
            Some(Error::Plan { source: PlanError::NothingFits { device, limit, least_bytes } }) => {
                lines.push(cause.to_string());
                let [limit, least] = [*limit as f64, *least_bytes as f64].map(quantity::bytes);
                lines.push(format!(
                    "no plan was found that keeps within {limit} of the memory of {device}: the least takes {least}"
                ));
                break;
            }
            // Where the decoder gave up says nothing of a file that was never meant for it.
            Some(error @ Error::NotOnnx { .. }) => {
                lines.push(error.to_string());
                break;
            }
            // What it is about was named before.
            Some(Error::Plan { .. } | Error::Profile { .. }) if !lines.is_empty() => {}
            _ => {
                let line = cause.to_string();
                // Some tell their cause in their own words.
                if lines.last().is_none_or(|before| !before.ends_with(&line)) {
                    lines.push(line);
                }
            }
        }
    }
    let causes = lines.split_off(1);
    (lines.pop().unwrap_or_default(), causes)
}

/// What helps where that depends on names in the error.
fn named_hint(cause: &(dyn std::error::Error + 'static)) -> Option<String> {
    match cause.downcast_ref::<Error>()? {
        Error::Plan { source: PlanError::UnknownDevice { device } } => {
            Some(format!("`recurve profile MODEL --devices cpu,{device} --out F.json` measures it"))
        }
        _ => None,
    }
}

fn hint(cause: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    if let Some(error) = cause.downcast_ref::<UsageError>() {
        return error.hint;
    }
    if let Some(error) = cause.downcast_ref::<InvalidFile>() {
        return Some(error.hint);
    }
    if let Some(ArchiveError::Member { .. } | ArchiveError::Single { .. }) =
        cause.downcast_ref::<ArchiveError>()
    {
        return Some("`numpy.savez(file, name=array)` writes what --inputs and --expect read");
    }
    let error = cause.downcast_ref::<Error>()?;
    match error {
        Error::Setting { name: "threads", .. } => {
            return Some("without --threads there is one thread for each core");
        }
        Error::Setting { name: "precision", .. } => {
            return Some("on the CPU --precision takes f16, bf16 and int8, with a GPU f16, bf16 and tf32");
        }
        Error::NotOnnx { .. } => return Some("exporters such as torch.onnx.export write ONNX files"),
        Error::Setting { name: "devices", .. } => {
            return Some("`--devices cpu` takes all cores that are here; `recurve devices` lists GPUs");
        }
        Error::Setting { .. } => return None,
        Error::Unsupported { refusals } if refusals.iter().any(|r| matches!(r.reason, OpError::Gpu(_))) => {
            return Some("`--fallback cpu` runs such nodes on the CPU and tells what that cost");
        }
        Error::Plan { source } => return plan_hint(source),
        Error::Gpu { source: GpuError::Limit { .. }, .. } => {
            return Some("raise --gpu-memory-limit, or bind smaller dimensions with --dim");
        }
        Error::Profile { source: ProfileError::Malformed { .. } } => {
            return Some(
                "`recurve profile MODEL --out F.json` writes what --profile reads; --device-profile reads those of GPUs \
                 alone, such as runtime/profiles/h100-synthetic.json",
            );
        }
        Error::Gpu { source: GpuError::OutOfMemory { .. }, .. } => {
            return Some(
                "bind smaller dimensions with --dim, or let the CPU have a part of it with --devices",
            );
        }
        Error::Argument { .. } | Error::Arguments { .. } => {
            return Some(
                "`recurve inspect MODEL` lists names and shapes; give arrays with --inputs, bind symbols with --dim",
            );
        }
        _ => {}
    }
    match error.kind() {
        ErrorKind::Unsupported => {
            Some("`recurve ops` lists the operators that run, with versions and dtypes")
        }
        ErrorKind::Device => Some("`recurve devices` lists where models can run here, and why not elsewhere"),
        ErrorKind::MemoryLimit if matches!(error, Error::Memory { limit: usize::MAX, .. }) => Some(
            "--dim binds smaller dimensions, --inputs gives other values, where they are what takes the memory",
        ),
        ErrorKind::MemoryLimit => Some(
            "raise --memory-limit, or bind smaller dimensions with --dim where they are what takes the memory",
        ),
        ErrorKind::Deadline => Some("allow more time with --timeout"),
        ErrorKind::InvalidInput => {
            Some("other shapes can be bound with --dim, other values given with --inputs")
        }
        ErrorKind::Internal => Some("this is a bug of recurve; a report with the model is welcome"),
        _ => None,
    }
}

fn plan_hint(error: &PlanError) -> Option<&'static str> {
    match error {
        PlanError::Malformed { .. } => Some("`recurve plan MODEL --out F.json` writes what --plan reads"),
        PlanError::Invalid { .. } | PlanError::Other { .. } => Some(
            "`recurve plan MODEL --out F.json` makes one; give it the same --dim, --threads and --inputs as the run",
        ),
        PlanError::DependsOnData { .. } => {
            Some("`recurve run` without --plan and --mode runs it step by step")
        }
        PlanError::Slo { .. } => {
            Some("allow more time with --slo; `recurve plan --pareto` lists what can be had")
        }
        PlanError::NothingFits { .. } => Some("raise --gpu-memory-limit, or let nodes run on the CPU"),
        PlanError::Placement { .. } | PlanError::Unplaceable { .. } => Some(
            "`recurve inspect MODEL` lists the names of nodes, `recurve plan MODEL` without --place where they can run; a plan \
             that was made is followed with the --place that it was made with",
        ),
        PlanError::Unmeasured { .. } => {
            Some("`recurve profile MODEL --out F.json` measures all of its operators")
        }
        _ => None,
    }
}
