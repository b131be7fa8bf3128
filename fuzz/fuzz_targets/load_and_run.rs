//! Loading and running: what loads gives an answer or a typed error on small random inputs, in time.

#![no_main]

use libfuzzer_sys::fuzz_target;
use recurve::settings::Pinning;
use recurve::{Engine, Error, ErrorKind, RunOptions, Session};
use recurve_tests::drawn_inputs::small_inputs;
use std::sync::LazyLock;
use std::time::Duration;

const MEMORY_LIMIT: usize = 64 << 20;
const DEADLINE: Duration = Duration::from_millis(200);

/// One for all inputs: starting threads takes longer than most runs.
static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    Engine::builder().with_threads(1).with_pinning(Pinning::None).build().expect("an engine of one thread")
});

fuzz_target!(|bytes: &[u8]| {
    if let Err(error) = run(bytes) {
        assert_ne!(error.kind(), ErrorKind::Internal, "{error:?}");
    }
});

fn run(bytes: &[u8]) -> Result<(), Error> {
    let builder = Session::builder().with_engine(&ENGINE).with_memory_limit(MEMORY_LIMIT);
    let session = builder.load_bytes(bytes.to_vec())?;
    let Some(inputs) = small_inputs(&session, bytes.len() as u64) else { return Ok(()) };
    let named = session.inputs().iter().map(|spec| &*spec.name).zip(&inputs);
    session.run_with(named, &RunOptions::default().with_timeout(DEADLINE)).map(|_| ())
}
