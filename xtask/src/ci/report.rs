//! The table that ends a CI run: one line per stage with its seconds and what came of it.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::test_count::TestCount;

#[derive(Debug, Default)]
pub(super) struct Report {
    stages: Vec<(String, Duration, Outcome)>,
}

/// What came of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    /// The tests passed, so many of them.
    Tested(TestCount),
    /// What the stage runs is not in this checkout: neither passed nor failed.
    Absent(&'static str),
    Failed,
    /// An earlier stage failed.
    NotRun,
}

impl Report {
    pub(super) fn push(&mut self, stage: String, took: Duration, outcome: Outcome) {
        self.stages.push((stage, took, outcome));
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<12} {:>8}  outcome", "stage", "seconds")?;
        let mut total = Duration::ZERO;
        for (stage, took, outcome) in &self.stages {
            total += *took;
            writeln!(f, "{stage:<12} {:>8.1}  {outcome}", took.as_secs_f64())?;
        }
        writeln!(f, "{:<12} {:>8.1}", "total", total.as_secs_f64())?;
        for (_, _, outcome) in &self.stages {
            if let Outcome::Tested(count) = outcome {
                writeln!(f, "tests: {count}")?;
            }
        }
        Ok(())
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed | Self::Tested(_) => f.write_str("passed"),
            Self::Absent(why) => write!(f, "absent: {why}"),
            Self::Failed => f.write_str("FAILED"),
            Self::NotRun => f.write_str("not run"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_has_a_line_and_the_count_stands_alone_on_the_last() {
        let mut report = Report::default();
        report.push("fmt".to_owned(), Duration::from_millis(1500), Outcome::Passed);
        let count = TestCount { passed: 12, failed: 0, ignored: 1 };
        report.push("tests".to_owned(), Duration::from_millis(2500), Outcome::Tested(count));
        report.push("tidy".to_owned(), Duration::ZERO, Outcome::NotRun);
        let text = report.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "fmt               1.5  passed");
        assert_eq!(lines[3], "tidy              0.0  not run");
        assert_eq!(lines[4], "total             4.0");
        assert_eq!(lines[5], "tests: 12 passed, 0 failed, 1 skipped");
    }
}
