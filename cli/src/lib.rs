//! The `recurve` command. Data goes to stdout, narration, progress and logs to stderr; with `--json` stdout is
//! exactly one versioned document. What the command's end means to a script is in [`Exit`].
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod arguments;
mod commands;
mod dimensions;
mod document;
mod drawing;
mod environment;
mod exit;
mod facts;
mod failure;
mod files;
mod gpu_memory;
mod host_trips;
mod inputs;
mod latency;
mod legend;
mod logging;
mod npy;
mod npz;
mod onnx_test;
#[cfg(test)]
mod option_tests;
mod peak_rss;
mod placement;
mod precision;
mod progress;
mod quantity;
mod rewrite;
mod run_trace;
mod summary;
mod table;
mod terminal;

pub use exit::Exit;

use arguments::Arguments;
use terminal::Terminal;

/// Reads the process's arguments, does what they ask, and says how it ended.
pub fn main() -> Exit {
    let arguments = match Arguments::of_process() {
        Ok(arguments) => arguments,
        Err(error) => {
            // `--help` and `--version` come this way too, and go to stdout. Where nobody reads, nobody is told.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Success };
        }
    };
    let terminal = Terminal::new(&arguments.output);
    logging::install(&arguments.output, &terminal);
    match commands::run(&arguments.command, &terminal) {
        Ok(exit) => exit,
        Err(error) => {
            failure::report(&error, &terminal);
            Exit::of_error(&error)
        }
    }
}
