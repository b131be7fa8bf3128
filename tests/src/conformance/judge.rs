//! The judgement of one case: loaded, run and compared, with every panic caught.

use super::case::Case;
use super::random;
use super::tolerance::{self, Closeness};
use recurve::settings::Pinning;
use recurve::testing::compare;
use recurve::{Device, Engine, Error, ErrorKind, Outputs, RunOptions, Session, Value};
use std::cell::RefCell;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Time that one run may take. An image network counts billions of operations.
const DEADLINE: Duration = Duration::from_secs(10);
const DEADLINE_OF_NETWORKS: Duration = Duration::from_mins(4);
/// The same of a run on the emulated GPU, which looks at every access.
const DEADLINE_EMULATED: Duration = Duration::from_mins(4);

/// Bytes that one session may hold: the largest network has 575 MB of weights.
const MEMORY_LIMIT: usize = 4 << 30;

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All outputs are as expected.
    Pass,
    /// Refused at load by a typed error that names the operator; on a GPU also where shapes are bound.
    Refused {
        /// The first operator that is refused.
        operator: String,
        /// Why.
        reason: String,
    },
    /// Anything else: another answer, another error, a panic.
    Wrong {
        /// What happened.
        detail: String,
    },
}

/// A case with its outcome.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The case.
    pub case: Case,
    /// What came of it.
    pub outcome: Outcome,
    /// Which rule its outputs passed by, the widest of them.
    pub closeness: Closeness,
    /// How long it took.
    pub time: Duration,
}

/// Judges cases of one suite on the calling thread.
#[derive(Debug)]
pub struct Judge {
    suite: PathBuf,
    bfloat16_rtol: f64,
    engine: Engine,
    device: Device,
}

thread_local! {
    /// Where the last panic of this thread happened, and what it said.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps panics off stderr and remembers them for the verdict instead.
pub fn remember_panics() {
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string().replace('\n', " ");
        PANIC.with_borrow_mut(|last| *last = Some(text));
    }));
}

impl Judge {
    /// A judge of the cases in `suite` on `device`.
    pub fn new(suite: PathBuf, bfloat16_rtol: f64, device: Device) -> Result<Self, Error> {
        let engine = Engine::builder().with_threads(1).with_pinning(Pinning::None).build()?;
        Ok(Self { suite, bfloat16_rtol, engine, device })
    }

    /// Judges `case`.
    pub fn judge(&self, case: &Case) -> Verdict {
        let start = Instant::now();
        PANIC.take();
        let mut closeness = Closeness::Suite;
        let outcome = catch_unwind(AssertUnwindSafe(|| self.outcome(case, &mut closeness)));
        let outcome = outcome.unwrap_or_else(|_| Outcome::Wrong { detail: "a panic".into() });
        let outcome = match (outcome, PANIC.take()) {
            (_, Some(panic)) => Outcome::Wrong { detail: panic },
            (outcome, None) => outcome,
        };
        Verdict { case: case.clone(), outcome, closeness, time: start.elapsed() }
    }

    fn outcome(&self, case: &Case, closeness: &mut Closeness) -> Outcome {
        let builder = Session::builder().with_engine(&self.engine).with_memory_limit(MEMORY_LIMIT);
        let session = match builder.with_device(self.device).load(case.model(&self.suite)) {
            Ok(session) => session,
            Err(Error::Unsupported { refusals }) if !refusals.is_empty() => {
                let first = &refusals[0];
                return Outcome::Refused { operator: first.op.clone(), reason: chain(&first.reason) };
            }
            Err(Error::Prepare { op, source, .. })
                if matches!(
                    source,
                    recurve::errors::OpError::Unsupported(_) | recurve::errors::OpError::DType { .. }
                ) =>
            {
                return Outcome::Refused { operator: op, reason: chain(&source) };
            }
            Err(error) if self.lacks(&error) => return without_kernel(case, &error),
            Err(error) => return wrong("load", &error),
        };
        if case.data_sets == 0 {
            return Outcome::Wrong { detail: "the case has no data".into() };
        }
        let result = (0..case.data_sets).try_for_each(|set| {
            *closeness = self.data_set(case, set, &session)?.max(*closeness);
            Ok(())
        });
        result.map_or_else(|outcome| outcome, |()| Outcome::Pass)
    }

    /// Whether the device has no kernel for something.
    fn lacks(&self, error: &Error) -> bool {
        self.device != Device::Cpu && error.kind() == ErrorKind::Unsupported
    }

    fn data_set(&self, case: &Case, set: usize, session: &Session) -> Result<Closeness, Outcome> {
        let told = |detail| Outcome::Wrong { detail };
        let data = |role, specs| {
            let values = case.values(&self.suite, set, role, specs);
            values.map_err(|error| told(format!("test data: {error:#}")))
        };
        let inputs = data("input", session.inputs())?;
        let wanted = data("output", session.outputs())?;
        let timeout = match self.device {
            Device::Emulated => DEADLINE_EMULATED,
            _ if case.group == "light" => DEADLINE_OF_NETWORKS,
            _ => DEADLINE,
        };
        let options = RunOptions::default().with_timeout(timeout);
        let named = session.inputs().iter().map(|spec| &*spec.name).zip(&inputs);
        let got = session.run_with(named, &options).map_err(|error| {
            if self.lacks(&error) { without_kernel(case, &error) } else { told(stage("run", &error)) }
        })?;
        if case.random {
            return random::judge(case, &inputs, &got, &wanted).map(|()| Closeness::Suite).map_err(told);
        }
        self.compare(case, &got, &wanted).map_err(told)
    }

    fn compare(&self, case: &Case, got: &Outputs, wanted: &[Value]) -> Result<Closeness, String> {
        let mut closeness = Closeness::Suite;
        for ((name, got), want) in got.iter().zip(wanted) {
            let strict = tolerance::of_suite(case, self.bfloat16_rtol, want);
            let Err(mismatch) = compare(got, want, strict) else { continue };
            match tolerance::of_expected_rounding(case, want, self.device != Device::Cpu) {
                Some(wider) if compare(got, want, wider).is_ok() => closeness = Closeness::ExpectedRounding,
                _ => return Err(format!("output `{name}`: {mismatch}")),
            }
        }
        Ok(closeness)
    }
}

fn without_kernel(case: &Case, error: &Error) -> Outcome {
    let operator = case.operator.clone().unwrap_or_else(|| case.group.clone());
    Outcome::Refused { operator, reason: chain(error) }
}

fn wrong(at: &str, error: &Error) -> Outcome {
    Outcome::Wrong { detail: stage(at, error) }
}

fn stage(at: &str, error: &Error) -> String {
    let late =
        if error.kind() == ErrorKind::Unsupported { " (refused, but not by name at load)" } else { "" };
    format!("{at}: {}{late}: {}", error.kind().code(), chain(error))
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let _ = write!(text, ": {inner}");
        cause = inner.source();
    }
    text
}
