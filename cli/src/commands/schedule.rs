//! `recurve schedule`: schedules an instance document; the body is the scheduler's.

use crate::document::Document;
use crate::exit::Exit;
use crate::terminal::Terminal;
use anyhow::Result;
use recurve_scheduler::ErrorKind;
use recurve_scheduler::command::Options;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  recurve schedule instance.json --algorithm all")]
pub(crate) struct Arguments {
    #[command(flatten)]
    options: Options,
}

pub(crate) fn run(arguments: &Arguments, terminal: &Terminal) -> Result<Exit> {
    let options = &arguments.options;
    // A file that cannot be read is told by the scheduler.
    Document::Instance.expect(&options.file, &std::fs::read_to_string(&options.file).unwrap_or_default())?;
    let listing = recurve_scheduler::command::run(options).map_err(|error| match error.kind() {
        ErrorKind::Document => {
            anyhow::Error::new(error).context(format!("`{}` cannot be scheduled", options.file.display()))
        }
        _ => error.into(),
    })?;
    terminal.print(&format!("{}\n", listing.trim_end()))?;
    for path in [&options.gantt, &options.trace].into_iter().flatten() {
        terminal.narrate(format!("wrote {}", path.display()));
    }
    Ok(Exit::Success)
}
