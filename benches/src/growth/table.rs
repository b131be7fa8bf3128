//! What was measured, as text that can be committed.

use std::fmt::Write as _;
use std::path::Path;

/// What grows while all else stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Axis {
    /// Hidden units, `H`.
    Units,
    /// Steps, `T`.
    Steps,
    /// Rows of the batch.
    Batch,
}

impl Axis {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Units, Self::Steps, Self::Batch];

    /// What the table and the file of the drawing call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Units => "units",
            Self::Steps => "steps",
            Self::Batch => "batch",
        }
    }
}

/// One measured extent.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Point {
    /// What grows.
    pub axis: Axis,
    /// To what.
    pub value: usize,
    /// Threads that share a step.
    pub threads: usize,
    /// Median milliseconds.
    pub ms: f64,
    /// The least that they could be.
    pub floor_ms: f64,
}

/// Why a table cannot be read or drawn.
#[derive(Debug, thiserror::Error)]
pub enum GrowthError {
    /// A line is no point.
    #[error("line {line} of the table is not `axis,value,threads,ms,floor_ms`: {text}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What it says.
        text: String,
    },
    /// The table has no points of an axis.
    #[error("the table has nothing measured by `{0}`")]
    Empty(&'static str),
    /// A drawing cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// All points.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Growth {
    /// In the order of their measurement.
    pub points: Vec<Point>,
}

const HEAD: &str = "axis,value,threads,ms,floor_ms";

impl Growth {
    /// The table as text.
    pub fn to_csv(&self) -> String {
        let mut text = format!("{HEAD}\n");
        for Point { axis, value, threads, ms, floor_ms } in &self.points {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{},{value},{threads},{ms:.4},{floor_ms:.4}", axis.name());
        }
        text
    }

    /// The table that `text` is.
    pub fn from_csv(text: &str) -> Result<Self, GrowthError> {
        let mut points = Vec::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| *line != HEAD) {
            let wrong = || GrowthError::Line { line: index + 1, text: line.to_owned() };
            points.push(point(line).ok_or_else(wrong)?);
        }
        Ok(Self { points })
    }

    /// Points of an axis and a number of threads, by their value.
    pub fn line(&self, axis: Axis, threads: usize) -> Vec<Point> {
        let of = self.points.iter().filter(|p| p.axis == axis && p.threads == threads);
        let mut line: Vec<Point> = of.copied().collect();
        line.sort_by_key(|p| p.value);
        line
    }

    /// Numbers of threads that an axis was measured with.
    pub fn threads(&self, axis: Axis) -> Vec<usize> {
        let mut threads: Vec<usize> =
            self.points.iter().filter(|p| p.axis == axis).map(|p| p.threads).collect();
        threads.sort_unstable();
        threads.dedup();
        threads
    }

    /// Where the drawing of an axis lies in `folder`.
    pub fn drawing(folder: &Path, axis: Axis) -> std::path::PathBuf {
        folder.join(format!("growth-{}.svg", axis.name()))
    }
}

fn point(line: &str) -> Option<Point> {
    let cells: Vec<&str> = line.split(',').collect();
    let [axis, value, threads, ms, floor_ms] = cells.as_slice() else { return None };
    Some(Point {
        axis: Axis::ALL.into_iter().find(|known| known.name() == *axis)?,
        value: value.parse().ok().filter(|&value| value > 0)?,
        threads: threads.parse().ok()?,
        ms: time(ms)?,
        floor_ms: time(floor_ms)?,
    })
}

/// A time that a logarithm can be taken of.
fn time(text: &str) -> Option<f64> {
    text.parse().ok().filter(|time: &f64| time.is_finite() && *time > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_as_it_was_written() {
        let of = |axis, value, threads| Point { axis, value, threads, ms: 1.25, floor_ms: 0.5 };
        let points = vec![
            of(Axis::Units, 512, 2),
            of(Axis::Units, 64, 1),
            of(Axis::Units, 64, 2),
            of(Axis::Batch, 8, 1),
        ];
        let growth = Growth { points };
        assert_eq!(Growth::from_csv(&growth.to_csv()).expect("it is a table"), growth);
        assert_eq!(growth.threads(Axis::Units), [1, 2]);
        assert_eq!(growth.line(Axis::Units, 2).iter().map(|p| p.value).collect::<Vec<_>>(), [64, 512]);
    }

    #[test]
    fn lines_that_are_no_points_are_refused_with_their_number() {
        for line in ["units,64,1,1.0", "width,64,1,1.0,1.0", "units,0,1,1.0,1.0", "units,64,1,NaN,1.0"] {
            let error = Growth::from_csv(&format!("{HEAD}\n{line}\n")).expect_err("no point");
            assert!(matches!(error, GrowthError::Line { line: 2, .. }), "{error}");
        }
    }
}
