//! The report: counts per operator and group, and every case that is wrong.

use super::judge::{Outcome, Verdict};
use super::tolerance::Closeness;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

/// Version of the JSON document.
const VERSION: u32 = 1;

/// The verdicts of a run, counted. It displays as the printed report and serialises as its JSON form.
#[derive(Debug, Serialize)]
pub struct Report {
    version: u32,
    /// Version of the package that wrote the suite.
    pub onnx: String,
    /// Over all cases.
    pub total: Counts,
    groups: BTreeMap<String, Counts>,
    /// By operator, or group where a case is about a whole model.
    pub operators: BTreeMap<String, Counts>,
    cases: Vec<Row>,
    #[serde(skip)]
    verbose: bool,
}

/// How many cases came out how.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// As expected.
    pub pass: usize,
    /// Refused at load.
    pub refused: usize,
    /// Anything else.
    pub wrong: usize,
}

#[derive(Debug, Serialize)]
struct Row {
    path: String,
    operator: String,
    outcome: &'static str,
    detail: String,
    random: bool,
    /// Passed only by the rounding of the expected values.
    expected_rounding: bool,
    seconds: f64,
}

impl Report {
    /// Counts `verdicts` of the suite that version `onnx` wrote; `verbose` shows details in full.
    pub fn new(onnx: &str, verdicts: &[Verdict], verbose: bool) -> Self {
        let mut report = Self {
            version: VERSION,
            onnx: onnx.to_owned(),
            total: Counts::default(),
            groups: BTreeMap::new(),
            operators: BTreeMap::new(),
            cases: Vec::new(),
            verbose,
        };
        for Verdict { case, outcome, closeness, time } in verdicts {
            report.total.add(outcome);
            report.groups.entry(case.group.clone()).or_default().add(outcome);
            report.operators.entry(case.row()).or_default().add(outcome);
            let (outcome, detail) = match outcome {
                Outcome::Pass => ("pass", String::new()),
                Outcome::Refused { operator, reason } => ("refused", format!("{operator}: {reason}")),
                Outcome::Wrong { detail } => ("wrong", detail.clone()),
            };
            report.cases.push(Row {
                path: case.path.clone(),
                operator: case.row(),
                outcome,
                detail,
                random: case.random,
                expected_rounding: *closeness == Closeness::ExpectedRounding,
                seconds: time.as_secs_f64(),
            });
        }
        report
    }
}

impl Counts {
    fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Pass => self.pass += 1,
            Outcome::Refused { .. } => self.refused += 1,
            Outcome::Wrong { .. } => self.wrong += 1,
        }
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let line = |f: &mut Formatter<'_>, name: &str, c: &Counts| {
            writeln!(f, "{name:<40} {:>6} {:>8} {:>6}", c.pass, c.refused, c.wrong)
        };
        writeln!(f, "{:<40} {:>6} {:>8} {:>6}", "operator", "pass", "refused", "wrong")?;
        for (name, counts) in &self.operators {
            line(f, name, counts)?;
        }
        let random: Vec<&Row> = self.cases.iter().filter(|row| row.random).collect();
        if !random.is_empty() {
            writeln!(f, "\nrandom outputs, judged by dtype, shape, support and moments:")?;
            for row in random {
                writeln!(f, "  {}: {}", row.path, row.outcome)?;
            }
        }
        let rounding: Vec<&str> = self.passed_by_rounding().collect();
        if !rounding.is_empty() {
            writeln!(f, "\nwithin the rounding of the expected values, not within the suite's tolerance:")?;
            for path in rounding {
                writeln!(f, "  {path}")?;
            }
        }
        for outcome in ["refused", "wrong"] {
            let rows: Vec<&Row> = self.cases.iter().filter(|row| row.outcome == outcome).collect();
            if rows.is_empty() || (outcome == "refused" && !self.verbose) {
                continue;
            }
            writeln!(f, "\n{outcome}:")?;
            for row in rows {
                writeln!(f, "  {} ({}): {}", row.path, row.operator, self.shortened(&row.detail))?;
            }
        }
        writeln!(f, "\n{:<40} {:>6} {:>8} {:>6}", "group", "pass", "refused", "wrong")?;
        for (name, counts) in &self.groups {
            line(f, name, counts)?;
        }
        line(f, "all", &self.total)
    }
}

impl Report {
    /// Paths of the cases that pass only by the rounding of the expected values.
    pub fn passed_by_rounding(&self) -> impl Iterator<Item = &str> {
        let passed = |row: &&Row| row.expected_rounding && row.outcome == "pass";
        self.cases.iter().filter(passed).map(|row| row.path.as_str())
    }

    fn shortened(&self, detail: &str) -> String {
        const SHOWN: usize = 160;
        let detail = detail.replace('\n', " ");
        if self.verbose || detail.chars().count() <= SHOWN {
            return detail;
        }
        detail.chars().take(SHOWN).chain("…".chars()).collect()
    }
}
