//! Reading: any bytes are loaded or refused by a typed error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use recurve::settings::Pinning;
use recurve::{Engine, ErrorKind, Session};
use std::sync::LazyLock;

const MEMORY_LIMIT: usize = 64 << 20;

/// One for all inputs: starting threads takes longer than reading.
static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    Engine::builder().with_threads(1).with_pinning(Pinning::None).build().expect("an engine of one thread")
});

fuzz_target!(|bytes: &[u8]| {
    let builder = Session::builder().with_engine(&ENGINE).with_memory_limit(MEMORY_LIMIT);
    if let Err(error) = builder.load_bytes(bytes.to_vec()) {
        assert_ne!(error.kind(), ErrorKind::Internal, "{error:?}");
    }
});
