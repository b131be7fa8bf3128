//! Loading and running: what loads gives an answer or a typed error on small random inputs, in time.

#![no_main]

use libfuzzer_sys::fuzz_target;
use recurve::{Error, ErrorKind, RunOptions, Session};
use recurve_tests::drawn_inputs::small_inputs;
use std::time::Duration;

const MEMORY_LIMIT: usize = 64 << 20;
const DEADLINE: Duration = Duration::from_millis(200);

fuzz_target!(|bytes: &[u8]| {
    if let Err(error) = run(bytes) {
        assert_ne!(error.kind(), ErrorKind::Internal, "{error:?}");
    }
});

fn run(bytes: &[u8]) -> Result<(), Error> {
    let builder = Session::builder().with_threads(1).with_memory_limit(MEMORY_LIMIT);
    let session = builder.load_bytes(bytes.to_vec())?;
    let Some(inputs) = small_inputs(&session, bytes.len() as u64) else { return Ok(()) };
    let named = session.inputs().iter().map(|spec| &*spec.name).zip(&inputs);
    session.run_with(named, &RunOptions::default().with_timeout(DEADLINE)).map(|_| ())
}
