//! Counts over a run.

use super::Verdict;
use std::collections::BTreeMap;
use std::fmt;

/// What came of all models of a run.
#[derive(Debug, Default)]
pub struct Tally {
    operators: BTreeMap<String, Counts>,
    /// Refusals by operator and reason.
    refused: BTreeMap<(String, String), u64>,
    /// Explained differences by reason.
    explained: BTreeMap<String, u64>,
    /// Unexplained differences and failures.
    pub wrong: Vec<String>,
}

#[derive(Debug, Default)]
struct Counts {
    agree: u64,
    rounding: u64,
    explained: u64,
    refused: u64,
    wrong: u64,
}

impl Tally {
    /// Adds a verdict; `explanation` is the reason of a known departure of ONNX Runtime.
    pub fn add(&mut self, operator: &str, verdict: Verdict, words: &str, explanation: Option<&str>) {
        let counts = self.operators.entry(operator.to_owned()).or_default();
        match (verdict, explanation) {
            (Verdict::Agree, _) => counts.agree += 1,
            (Verdict::Rounding, _) => counts.rounding += 1,
            (Verdict::Refused(reason), _) => {
                counts.refused += 1;
                *self.refused.entry((operator.to_owned(), reason)).or_default() += 1;
            }
            (Verdict::Differ(_), Some(reason)) => {
                counts.explained += 1;
                *self.explained.entry(reason.to_owned()).or_default() += 1;
            }
            (Verdict::Differ(detail) | Verdict::Failed(detail), _) => {
                counts.wrong += 1;
                self.wrong.push(format!("{words}\n    {detail}"));
            }
        }
    }

    /// How many models both ran.
    pub fn compared(&self) -> u64 {
        self.operators.values().map(|c| c.agree + c.rounding + c.explained + c.wrong).sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "refused by ONNX Runtime:")?;
        for ((operator, reason), count) in &self.refused {
            writeln!(f, "  {count:6} {operator}: {reason}")?;
        }
        writeln!(f, "departures of ONNX Runtime:")?;
        for (reason, count) in &self.explained {
            writeln!(f, "  {count:6} {reason}")?;
        }
        writeln!(f, "operator: agree, but for rounding, departures, refused, wrong")?;
        let mut sum = Counts::default();
        for (operator, c) in &self.operators {
            writeln!(
                f,
                "  {operator}: {}, {}, {}, {}, {}",
                c.agree, c.rounding, c.explained, c.refused, c.wrong
            )?;
            sum.agree += c.agree;
            sum.rounding += c.rounding;
            sum.explained += c.explained;
            sum.refused += c.refused;
            sum.wrong += c.wrong;
        }
        for wrong in &self.wrong {
            writeln!(f, "wrong: {wrong}")?;
        }
        write!(
            f,
            "{} models compared: {} agree, {} but for rounding, {} departures of ONNX Runtime, {} wrong; {} \
             refused by it",
            self.compared(),
            sum.agree,
            sum.rounding,
            sum.explained,
            sum.wrong,
            sum.refused
        )
    }
}
