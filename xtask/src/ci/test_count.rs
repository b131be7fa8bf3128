//! The test stage: `cargo test` with its output passed on line by line, and its result lines added up.

use std::fmt::{self, Display, Formatter};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process::command_line;

/// The sum of cargo test's result lines over all test binaries.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct TestCount {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) ignored: usize,
}

/// Runs `command`, a `cargo test`, writes its output to `shown` as it comes and counts the tests.
pub(super) fn run(command: &mut Command, shown: &mut impl Write) -> Result<TestCount> {
    let line = command_line(command);
    eprintln!("$ {line}");
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start `{line}`"))?;
    let mut lines = BufReader::new(child.stdout.take().context("the child's output is piped")?);
    let mut count = TestCount::default();
    let mut text = Vec::new();
    while lines.read_until(b'\n', &mut text)? > 0 {
        shown.write_all(&text)?;
        shown.flush()?;
        count.add(&String::from_utf8_lossy(&text));
        text.clear();
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(count)
}

impl TestCount {
    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; …`; other lines add nothing.
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for part in counts.split(';') {
            let mut words = part.split_whitespace();
            let (Some(number), Some(what)) = (words.next(), words.next()) else { continue };
            let Ok(number) = number.parse::<usize>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

impl Display for TestCount {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.ignored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_add_up_and_others_do_not_count() {
        let mut count = TestCount::default();
        count.add("running 3 tests\n");
        count.add(
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.10s\n",
        );
        count.add("test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n");
        assert_eq!(count, TestCount { passed: 7, failed: 2, ignored: 1 });
    }

    #[test]
    fn output_is_passed_on_and_a_failing_command_is_an_error() {
        let mut shown = Vec::new();
        assert!(run(Command::new("sh").args(["-c", "exit 3"]), &mut shown).is_err());
        let line = "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured";
        let count = run(Command::new("echo").arg(line), &mut shown);
        assert_eq!(String::from_utf8_lossy(&shown).trim_end(), line);
        assert_eq!(count.ok(), Some(TestCount { passed: 2, failed: 0, ignored: 0 }));
    }
}
