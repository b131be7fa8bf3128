//! What this processor can do at most, as JSON: floating-point operations a second, and bytes a second read from sets of
//! the sizes that are asked for. `cargo xtask peers` makes floors of it.

use anyhow::Result;
use clap::Parser;
use recurve::testing::Limits;
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Debug, Parser)]
struct Arguments {
    /// Threads that compute and read together
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Bytes of a set that is read again and again
    bytes: Vec<usize>,
}

#[derive(Debug, Serialize)]
struct Document {
    threads: usize,
    flops: f64,
    /// Bytes a second, by the bytes of the set.
    bandwidth: BTreeMap<usize, f64>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let limits = Limits::new(arguments.threads);
    let mut bandwidth = BTreeMap::new();
    for bytes in arguments.bytes {
        bandwidth.insert(bytes, limits.bandwidth(bytes)?);
    }
    let document = Document { threads: arguments.threads, flops: limits.flops(), bandwidth };
    println!("{}", serde_json::to_string(&document)?);
    Ok(())
}
