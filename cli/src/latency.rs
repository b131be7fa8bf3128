//! Latencies of repeated runs.

use crate::quantity;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What is said about the latencies of a model.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) min: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Latency {
    /// In microseconds, from one run or more. Percentiles are nearest ranks: the smallest time that so many
    /// per cent of the runs did not exceed, so each is a time that was measured.
    pub(crate) fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        let rank = |percent: usize| {
            let at = (percent * times.len()).div_ceil(100).checked_sub(1)?;
            Some(microseconds(*times.get(at)?))
        };
        Some(Self { min: microseconds(*times.first()?), p50: rank(50)?, p99: rank(99)? })
    }
}

/// Times scatter where one run in ten takes more than so many times the least.
pub(crate) const SCATTER: f64 = 3.0;
/// Fewer runs than these do not tell one in ten from the longest.
const SCATTERED_RUNS: usize = 20;
/// A run stalls where it takes more than this, and so many times what half of the runs take at most.
const STALL: Duration = Duration::from_millis(20);
const STALL_FACTOR: f64 = 50.0;

/// What is to be said of runs that did not have the cores for themselves. `times` are of runs that had others before them,
/// since the first one prepares what later ones use.
pub(crate) fn disturbance(times: &[Duration], threads: usize) -> Option<String> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let (least, most) = (*sorted.first()?, *sorted.last()?);
    let half = sorted[(sorted.len() - 1) / 2];
    if threads > 1 && most > STALL && most.as_secs_f64() > STALL_FACTOR * half.as_secs_f64() {
        let [most, half] = [most, half].map(quantity::time);
        return Some(format!(
            "note: one run took {most}, half of them at most {half}: something else used the cores, and threads waited for each \
             other; with --threads 1 none waits"
        ));
    }
    let p90 = sorted[(sorted.len() * 9).div_ceil(10) - 1];
    let scatters = sorted.len() >= SCATTERED_RUNS && p90.as_secs_f64() > SCATTER * least.as_secs_f64();
    scatters.then(|| {
        "note: the times of the runs scatter: something else used the cores; measure again while nothing does"
            .to_owned()
    })
}

/// Microseconds of whole nanoseconds: three decimals and no more.
pub(crate) fn microseconds(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(micros: impl IntoIterator<Item = u64>) -> Option<(f64, f64, f64)> {
        let latency = Latency::of(micros.into_iter().map(Duration::from_micros).collect())?;
        Some((latency.min, latency.p50, latency.p99))
    }

    #[test]
    fn runs_that_were_disturbed_are_told() {
        let micros = |times: &[u64]| times.iter().map(|&us| Duration::from_micros(us)).collect::<Vec<_>>();
        let told = |times: &[u64], threads| disturbance(&micros(times), threads);
        assert_eq!(told(&[], 2), None);
        assert_eq!(told(&[70, 60, 900_000], 1), None, "one thread waits for no other");
        let stalled = told(&[70, 60, 900_000], 2).expect("a note");
        assert!(stalled.contains("one run took 900.0 ms, half of them at most 70.0 µs"), "{stalled}");
        let with = |slow: usize| [vec![100; 20 - slow], vec![301; slow]].concat();
        assert_eq!(told(&with(2), 2), None, "one in ten");
        assert!(told(&with(3), 1).is_some_and(|note| note.contains("scatter")));
        assert_eq!(told(&with(3)[1..], 1), None, "too few to tell");
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        assert_eq!(of([]), None);
        assert_eq!(of([7]), Some((7.0, 7.0, 7.0)));
        assert_eq!(of([4, 1, 3, 2]), Some((1.0, 2.0, 4.0)));
        assert_eq!(of((1..=100).rev()), Some((1.0, 50.0, 99.0)));
        assert_eq!(of(1..=1000), Some((1.0, 500.0, 990.0)));
    }
}
