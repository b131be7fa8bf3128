//! `schedule FILE`: schedules an instance document; the body is [`recurve_scheduler::command`].
#![forbid(unsafe_code)]

use std::error::Error as _;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use recurve_scheduler::command::{Options, exit_code, run};

/// Places a graph of tasks on the processors of a machine.
///
/// Exit codes: 0 done, 2 usage, 3 malformed instance, 4 a file cannot be read or written, 5 infeasible.
#[derive(Debug, Parser)]
#[command(name = "schedule", version)]
struct Command {
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    match run(&Command::parse().options) {
        Ok(text) => match writeln!(std::io::stdout(), "{text}") {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::from(4),
        },
        Err(error) => {
            let mut err = std::io::stderr();
            let _ = writeln!(err, "error: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                let _ = writeln!(err, "caused by: {cause}");
                source = cause.source();
            }
            ExitCode::from(exit_code(&error))
        }
    }
}
