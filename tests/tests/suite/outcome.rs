//! What a hostile model may come to: a typed error that names its cause, in time and within its memory.

use crate::allocations::peak_of;
use recurve::settings::Pinning;
use recurve::{Engine, Error, ErrorKind, RunOptions, Session, SessionBuilder, Tensor};
use recurve_tests::wire::Message;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The byte limit of the sessions here.
pub(crate) const LIMIT: usize = 64 << 20;
/// What a load or a run may hold beside what is charged: names, errors, lists of a few entries per node.
pub(crate) const SLACK: usize = 4 << 20;
/// Time that a load may take, a run before its deadline is noticed, or both.
pub(crate) const SOON: Duration = Duration::from_secs(5);

/// A builder whose sessions run on the caller's thread, within [`LIMIT`].
pub(crate) fn limited() -> SessionBuilder {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    let engine = ENGINE.get_or_init(|| {
        Engine::builder().with_threads(1).with_pinning(Pinning::None).build().expect("an engine")
    });
    Session::builder().with_engine(engine).with_memory_limit(LIMIT)
}

/// Calls `body` and asserts that it keeps to time and memory.
pub(crate) fn bounded<T>(what: &str, body: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let (answer, peak) = peak_of(body);
    assert!(peak <= LIMIT + SLACK, "{what} held {peak} bytes");
    assert!(start.elapsed() <= SOON, "{what} took {:?}", start.elapsed());
    answer
}

pub(crate) fn load(model: Message) -> Result<Session, Error> {
    load_bytes(model.into_bytes())
}

pub(crate) fn load_bytes(bytes: Vec<u8>) -> Result<Session, Error> {
    bounded("loading", || limited().load_bytes(bytes))
}

/// The error of loading `model`, which must be of `kind` and name each of `parts`.
#[track_caller]
pub(crate) fn refused(model: Message, kind: ErrorKind, parts: &[&str]) {
    match load(model) {
        Ok(_) => panic!("the model loads; {parts:?} was expected"),
        Err(error) => assert_error(&error, kind, parts),
    }
}

/// The error of loading `model`, which takes more work or more memory than there is.
#[track_caller]
pub(crate) fn exceeds(model: Message) {
    match load(model) {
        Ok(_) => panic!("the model loads"),
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::InvalidModel | ErrorKind::MemoryLimit), "{error:?}");
        }
    }
}

/// The error of running `model` on `inputs`, or of loading it, which must be of `kind` and name `parts`.
#[track_caller]
pub(crate) fn fails(model: Message, inputs: &[(&str, &Tensor)], kind: ErrorKind, parts: &[&str]) {
    let error = match load(model) {
        Err(error) => error,
        Ok(session) => bounded("running", || run(&session, inputs)).expect_err("a hostile model"),
    };
    assert_error(&error, kind, parts);
}

/// Runs under a deadline that only an endless run reaches.
pub(crate) fn run(session: &Session, inputs: &[(&str, &Tensor)]) -> Result<recurve::Outputs, Error> {
    let options = RunOptions::default().with_timeout(Duration::from_secs(2));
    session.run_with(inputs.iter().copied(), &options)
}

#[track_caller]
pub(crate) fn assert_error(error: &Error, kind: ErrorKind, parts: &[&str]) {
    let text = chain(error);
    assert_eq!(error.kind(), kind, "{text}");
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
