//! The subcommands, one file each.

pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod devices;
pub(crate) mod env;
pub(crate) mod inspect;
pub(crate) mod ops;
pub(crate) mod plan;
pub(crate) mod profile;
pub(crate) mod run;
pub(crate) mod schedule;

use crate::arguments::Command;
use crate::exit::Exit;
use crate::terminal::Terminal;
use anyhow::Result;

/// Version of the documents that `--json` prints. A field that is added leaves it as it is.
const DOCUMENT_VERSION: u32 = 1;

/// Runs one subcommand.
pub(crate) fn run(command: &Command, terminal: &Terminal) -> Result<Exit> {
    let ended = match command {
        Command::Run(arguments) => run::run(arguments, terminal),
        Command::Check(arguments) => check::run(arguments, terminal),
        Command::Bench(arguments) => bench::run(arguments, terminal),
        Command::Devices(arguments) => devices::run(arguments, terminal),
        Command::Inspect(arguments) => inspect::run(arguments, terminal),
        Command::Ops(arguments) => ops::run(arguments, terminal),
        Command::Profile(arguments) => profile::run(arguments, terminal),
        Command::Plan(arguments) => plan::run(arguments, terminal),
        Command::Schedule(arguments) => schedule::run(arguments, terminal),
        Command::Env(arguments) => env::run(arguments, terminal),
    };
    ended.map_err(|error| command.explain(error))
}
