//! Logs: the library's tracing events on stderr, between the progress bars.

use crate::arguments::OutputArguments;
use crate::terminal::Terminal;
use indicatif::MultiProgress;
use std::io::{self, Write};
use tracing_subscriber::filter::LevelFilter;

/// Shows warnings, with `-q` errors only, with `-v` more.
pub(crate) fn install(arguments: &OutputArguments, terminal: &Terminal) {
    let level = match (arguments.quiet, arguments.verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, 2) => LevelFilter::DEBUG,
        (false, _) => LevelFilter::TRACE,
    };
    let bars = terminal.bars().clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(move || BesideBars(bars.clone()))
        .with_ansi(false)
        .without_time()
        .finish();
    // Only fails where a subscriber is there already; then that one shows the logs.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

struct BesideBars(MultiProgress);

impl Write for BesideBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().lock().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
