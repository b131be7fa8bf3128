//! Latencies of repeated runs.

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
    fn percentiles_are_nearest_ranks() {
        assert_eq!(of([]), None);
        assert_eq!(of([7]), Some((7.0, 7.0, 7.0)));
        assert_eq!(of([4, 1, 3, 2]), Some((1.0, 2.0, 4.0)));
        assert_eq!(of((1..=100).rev()), Some((1.0, 50.0, 99.0)));
        assert_eq!(of(1..=1000), Some((1.0, 500.0, 990.0)));
    }
}
