//! Estimates for signatures that were not measured.
//!
//! Of the measured operators of a lane that are of the same kind, or else of all of them, the best reached rates of
//! operations and of bytes, and the shortest time: `t = overhead + max(operations / F, bytes / B)`, with `F` and `B` the
//! upper quartiles, since most operators are bound by one of the two. A rate that nothing measured gives is absent, and
//! what needs it is not estimated.

use super::profile::Profile;
use std::cell::RefCell;
use std::collections::HashMap;

/// The rates of one lane.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Roofline {
    /// Operations per microsecond.
    pub(crate) flops_per_us: Option<f64>,
    /// Bytes per microsecond.
    pub(crate) bytes_per_us: Option<f64>,
    /// The shortest time of any operator.
    pub(crate) overhead_us: f64,
}

impl Roofline {
    /// Of what `profile` has of `lane`, operators of kind `kind` first; `None` where there is nothing.
    pub(crate) fn fit(profile: &Profile, lane: &str, kind: &str) -> Option<Self> {
        let measured = |only: Option<&str>| -> Vec<(f64, Option<f64>, Option<f64>)> {
            let of_kind = |signature: &str| only.is_none_or(|k| signature.split(' ').next() == Some(k));
            let entries = profile.operators.iter().filter(|(signature, _)| of_kind(signature));
            entries.filter_map(|(_, o)| Some((o.lanes.get(lane)?.median_us, o.flops, o.bytes))).collect()
        };
        let own = measured(Some(kind));
        let times = if own.is_empty() { measured(None) } else { own };
        let overhead_us = times.iter().map(|t| t.0).reduce(f64::min)?;
        let rate = |work: fn(&(f64, Option<f64>, Option<f64>)) -> Option<f64>| {
            let rates = times.iter().filter_map(|t| Some(work(t)? / t.0));
            let mut rates: Vec<f64> = rates.filter(|r| r.is_finite() && *r > 0.0).collect();
            rates.sort_by(f64::total_cmp);
            rates.get(rates.len().checked_sub(1)? * 3 / 4).copied()
        };
        Some(Self { flops_per_us: rate(|t| t.1), bytes_per_us: rate(|t| t.2), overhead_us })
    }

    /// The time of an operator that does so much.
    pub(crate) fn estimate(&self, flops: f64, bytes: f64) -> Option<f64> {
        let part = |work: f64, rate: Option<f64>| if work > 0.0 { Some(work / rate?) } else { Some(0.0) };
        Some(self.overhead_us + part(flops, self.flops_per_us)?.max(part(bytes, self.bytes_per_us)?))
    }
}

/// The rates of lanes and kinds, each found once.
#[derive(Debug)]
pub(crate) struct Rooflines<'a> {
    profile: &'a Profile,
    found: RefCell<HashMap<(String, String), Option<Roofline>>>,
}

impl<'a> Rooflines<'a> {
    pub(crate) fn new(profile: &'a Profile) -> Self {
        Self { profile, found: RefCell::default() }
    }

    /// What they are of.
    pub(crate) fn profile(&self) -> &'a Profile {
        self.profile
    }

    /// [`Roofline::fit`].
    pub(crate) fn of(&self, lane: &str, kind: &str) -> Option<Roofline> {
        let key = (lane.to_owned(), kind.to_owned());
        *self.found.borrow_mut().entry(key).or_insert_with(|| Roofline::fit(self.profile, lane, kind))
    }
}

#[cfg(test)]
mod tests {
    use super::super::measure::Measured;
    use super::super::profile::OperatorCost;
    use super::*;

    fn profile(entries: &[(&str, f64, Option<f64>, Option<f64>)]) -> Profile {
        let mut profile = Profile::empty();
        for (signature, us, flops, bytes) in entries {
            let m = Measured { median_us: *us, min_us: *us, p90_us: *us, runs: 5 };
            let lanes = [("cpu:1".to_owned(), m)].into();
            let cost = OperatorCost { flops: *flops, bytes: *bytes, lanes, ..OperatorCost::default() };
            profile.operators.insert((*signature).to_owned(), cost);
        }
        profile
    }

    #[test]
    fn an_estimate_is_of_the_operators_of_the_same_kind_where_there_are_some() {
        let p = profile(&[
            ("LSTM a #1", 10.0, Some(1000.0), Some(10.0)),
            ("LSTM b #2", 20.0, Some(2000.0), Some(20.0)),
            ("Add c #3", 1.0, Some(1.0), Some(100.0)),
        ]);
        let lstm = Roofline::fit(&p, "cpu:1", "LSTM").expect("two");
        assert_eq!(lstm.estimate(4000.0, 40.0), Some(10.0 + 40.0));
        let other = Roofline::fit(&p, "cpu:1", "Conv").expect("all");
        assert_eq!((other.overhead_us, other.flops_per_us), (1.0, Some(100.0)));
        assert_eq!(Roofline::fit(&p, "cpu:2", "LSTM"), None);
        let kept = Rooflines::new(&p);
        for _ in 0..2 {
            assert_eq!(kept.of("cpu:1", "LSTM"), Some(lstm));
            assert_eq!((kept.of("cpu:1", "Conv"), kept.of("cpu:2", "LSTM")), (Some(other), None));
        }
    }

    #[test]
    fn a_rate_that_was_never_measured_is_absent() {
        let p = profile(&[("Cast a #1", 2.0, Some(0.0), Some(100.0))]);
        let fit = Roofline::fit(&p, "cpu:1", "Cast").expect("one");
        assert_eq!(fit.flops_per_us, None);
        assert_eq!(fit.estimate(5.0, 1.0), None);
        assert_eq!(fit.estimate(0.0, 50.0), Some(3.0));
    }
}
