//! Reading: any bytes are loaded or refused by a typed error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use recurve::{ErrorKind, Session};

const MEMORY_LIMIT: usize = 64 << 20;

fuzz_target!(|bytes: &[u8]| {
    let loaded = Session::builder().with_threads(1).with_memory_limit(MEMORY_LIMIT).load_bytes(bytes.to_vec());
    if let Err(error) = loaded {
        assert_ne!(error.kind(), ErrorKind::Internal, "{error:?}");
    }
});
