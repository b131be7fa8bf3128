//! A time, measured often enough to be believed.

use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Times of one thing differ by this factor only where something else used the cores.
const DISTURBED: f64 = 8.0;
/// Times below this are as long as reading the clock takes.
const SHORTEST_US: f64 = 0.05;

/// How much time a measurement may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Effort {
    /// Runs that are not counted.
    pub warm: usize,
    /// Fewest runs that are counted.
    pub least: usize,
    /// Most runs that are counted.
    pub most: usize,
    /// After this time no further run begins, once there are [`Effort::least`].
    pub time: Duration,
}

impl Default for Effort {
    /// Two warm runs, then 5 to 100 in 30 ms.
    fn default() -> Self {
        Self { warm: 2, least: 5, most: 100, time: Duration::from_millis(30) }
    }
}

/// Times of repeated runs in microseconds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Half of the runs took longer.
    pub median_us: f64,
    /// The shortest.
    pub min_us: f64,
    /// A tenth of the runs took longer.
    pub p90_us: f64,
    /// Runs that were counted.
    pub runs: usize,
}

impl Measured {
    /// Of these times; `None` of none.
    pub(crate) fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort();
        let last = times.len().checked_sub(1)?;
        // Of whole nanoseconds, so that it has three decimals and no more.
        let at = |share: f64| times[(last as f64 * share).round() as usize].as_nanos() as f64 / 1e3;
        Some(Self { median_us: at(0.5), min_us: at(0.0), p90_us: at(0.9), runs: times.len() })
    }

    /// Whether something else used the cores meanwhile, as far as the times differ among themselves.
    pub(crate) fn is_disturbed(&self) -> bool {
        self.p90_us > DISTURBED * self.min_us.max(SHORTEST_US)
    }

    /// Whether it can be a time at all: a file may say anything.
    pub(crate) fn is_sound(&self) -> bool {
        let ordered = self.min_us <= self.median_us && self.median_us <= self.p90_us;
        ordered && self.min_us >= 0.0 && self.p90_us.is_finite() && self.runs > 0
    }
}

/// Runs `once`, which tells how long it took, as often as `effort` says. It stops early where nine runs in ten are within
/// a twentieth of the median.
pub(crate) fn measure<E>(
    effort: Effort,
    mut once: impl FnMut() -> Result<Duration, E>,
) -> Result<Option<Measured>, E> {
    let began = Instant::now();
    let mut warm = 0;
    while warm < effort.warm && (warm == 0 || began.elapsed() < effort.time) {
        once()?;
        warm += 1;
    }
    let began = Instant::now();
    let mut times = Vec::new();
    while times.len() < effort.most.max(1) {
        times.push(once()?);
        if times.len() < effort.least.max(1) {
            continue;
        }
        let steady = times.len().is_multiple_of(10)
            && Measured::of(times.clone()).is_some_and(|m| m.p90_us <= 1.05 * m.median_us);
        if steady || began.elapsed() >= effort.time {
            break;
        }
    }
    Ok(Measured::of(times))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_times_end_a_measurement_early_and_outliers_do_not_move_the_median() {
        let mut count = 0;
        let effort = Effort { warm: 3, least: 5, most: 1000, time: Duration::from_mins(1) };
        let steady = measure(effort, || {
            count += 1;
            Ok::<_, ()>(Duration::from_micros(if count == 7 { 900 } else { 100 }))
        });
        let m = steady.expect("no failure").expect("some runs");
        assert_eq!((m.median_us, m.min_us, m.runs), (100.0, 100.0, 10));
        assert_eq!(count, 13, "three were warm");
        assert!(measure(effort, || Err::<Duration, _>(())).is_err());
    }

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let m = Measured::of((1..=11).rev().map(Duration::from_micros).collect()).expect("some");
        assert_eq!((m.min_us.round(), m.median_us.round(), m.p90_us.round(), m.runs), (1.0, 6.0, 10.0, 11));
        assert!(m.is_sound() && Measured::of(Vec::new()).is_none());
        assert!(!Measured { median_us: f64::NAN, ..m }.is_sound());
        assert!(!Measured { min_us: -1.0, ..m }.is_sound());
        assert!(
            !Measured { p90_us: 7.0, ..m }.is_disturbed() && Measured { p90_us: 9.0, ..m }.is_disturbed()
        );
    }
}
