//! One process with a time limit, its output in the log.

use anyhow::{Context as _, Result};
use serde::Serialize;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How often a process is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum End {
    /// With 0.
    Passed,
    /// With another status.
    Failed,
    /// It was still at work when its time was over.
    TimedOut,
    /// It did not start, or what it needs is not there.
    NotRun,
}

/// Runs `command` for at most `limit`; what it writes goes to `output` and from there to the log.
pub(super) fn run(
    command: &mut Command,
    limit: Duration,
    output: &Path,
    log: &mut File,
) -> Result<(End, String)> {
    writeln!(log, "\n$ {command:?}")?;
    let file = File::create(output).with_context(|| format!("cannot write {}", output.display()))?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let start = Instant::now();
    let end = match command.spawn() {
        Err(error) => {
            writeln!(log, "{error}")?;
            return Ok((End::NotRun, error.to_string()));
        }
        Ok(mut child) => loop {
            if let Some(status) = child.try_wait()? {
                break if status.success() { End::Passed } else { End::Failed };
            }
            if start.elapsed() > limit {
                child.kill()?;
                child.wait()?;
                break End::TimedOut;
            }
            std::thread::sleep(LOOK);
        },
    };
    let written = String::from_utf8_lossy(&std::fs::read(output)?).into_owned();
    log.write_all(written.as_bytes())?;
    writeln!(log, "-- {end:?} after {:.1} s", start.elapsed().as_secs_f64())?;
    Ok((end, written))
}

/// Held by tests that start processes: a process that starts while a test writes its script keeps the script busy.
#[cfg(test)]
pub(super) static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_pass_fail_take_too_long_or_are_not_there() {
        let _alone = ALONE.lock();
        let folder = tempfile::tempdir().expect("a folder");
        let mut log = File::create(folder.path().join("log")).expect("a log");
        let mut end = |program: &str, arguments: &[&str], limit| {
            let mut command = Command::new(program);
            run(command.args(arguments), Duration::from_millis(limit), &folder.path().join("out"), &mut log)
                .expect("looked at")
        };
        assert_eq!(end("sh", &["-c", "echo right"], 10_000), (End::Passed, "right\n".to_owned()));
        assert_eq!(end("sh", &["-c", "echo wrong >&2; exit 3"], 10_000), (End::Failed, "wrong\n".to_owned()));
        assert_eq!(end("sleep", &["30"], 100).0, End::TimedOut);
        assert_eq!(end("no-such-program-here", &[], 100).0, End::NotRun);
        let log = std::fs::read_to_string(folder.path().join("log")).expect("the log");
        assert!(log.contains("right\n-- Passed") && log.contains("wrong\n-- Failed"), "{log}");
    }
}
