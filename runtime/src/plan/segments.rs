//! Segments: runs of short steps of a lane that are timed together.
//!
//! What a step takes by itself has in it what beginning and ending it takes. Where launches overlap, steps that follow each
//! other take less than the sum of that. A segment is a run of steps in the order of the graph of which each reads what the
//! one before it writes, so that parting them gains nothing, and takes no more than some launches by itself. A plan finds
//! what was timed by the signatures of the steps.

use crate::cost::Profile;
use crate::exec::Accesses;
use std::ops::{Bound, Range};

/// A step that takes more launches than this is nearly all its own work.
const SHORT: f64 = 20.0;
/// Most steps of a segment: a longer run is several.
const MOST: usize = 16;

/// Whether a step reads what the one right before it writes.
fn follows(accesses: &[Accesses], step: usize) -> bool {
    let (before, own) = (&accesses[step - 1].writes, &accesses[step].reads);
    before.iter().any(|write| own.iter().any(|read| read.meets(write)))
}

/// The segments of steps that access so and take so long, by themselves, on a device that a launch takes `launch_us` on; `None`
/// where one does not run there.
pub(crate) fn segments(
    accesses: &[Accesses],
    us: impl Fn(usize) -> Option<f64>,
    launch_us: f64,
) -> Vec<Range<usize>> {
    let short = |step: usize| us(step).is_some_and(|us| us <= SHORT * launch_us);
    let mut found = Vec::new();
    let mut first = 0;
    for end in 1..=accesses.len() {
        let goes_on = end < accesses.len() && end - first < MOST && follows(accesses, end);
        if !(goes_on && short(end - 1) && short(end)) {
            found.extend((end - first > 1).then_some(first..end));
            first = end;
        }
    }
    found
}

/// What stands between signatures in the name of a segment.
pub(crate) const BETWEEN: &str = " then ";

/// The name of a segment in a profile.
pub(crate) fn name<'a>(signatures: impl Iterator<Item = &'a str>) -> String {
    signatures.collect::<Vec<_>>().join(BETWEEN)
}

/// A step of a segment that was timed.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Joined {
    /// The steps of the segment.
    pub(crate) steps: Range<usize>,
    /// What the step takes among them: its part of the whole is as large as of the sum of what each takes by itself.
    pub(crate) us: f64,
}

/// By step, what it takes in its segment, where that was timed on `lane` of `profile` and is another time than the sum by more
/// than the noise of the measurement. The longest segment from a step on is its own.
pub(crate) fn joined(
    accesses: &[Accesses],
    (signatures, us): (&[String], &dyn Fn(usize) -> Option<f64>),
    (profile, lane): (&Profile, &str),
) -> Vec<Option<Joined>> {
    let mut joined = vec![None; accesses.len()];
    if !profile.segments.values().any(|on| on.contains_key(lane)) {
        return joined;
    }
    let mut first = 0;
    while first < accesses.len() {
        let mut name = signatures[first].clone();
        let mut longest = None;
        for last in first + 1..accesses.len().min(first + MOST) {
            name += BETWEEN;
            name += &signatures[last];
            let from_here = (Bound::Included(&*name), Bound::Unbounded);
            let mut begin_so = profile.segments.range::<str, _>(from_here);
            if !follows(accesses, last) || begin_so.next().is_none_or(|(own, _)| !own.starts_with(&*name)) {
                break;
            }
            longest = profile.measured_together(&name, lane).map(|timed| (last + 1, timed)).or(longest);
        }
        let Some((end, timed)) = longest else {
            first += 1;
            continue;
        };
        let alone: Option<f64> = (first..end).map(us).sum();
        if let Some(alone) = alone.filter(|alone| !(timed.min_us..=timed.p90_us).contains(alone)) {
            for step in first..end {
                let part = |us: f64| Joined { steps: first..end, us: us * timed.median_us / alone };
                joined[step] = us(step).map(part);
            }
        }
        first = end;
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::Measured;
    use crate::exec::{Access, Space};
    use std::collections::BTreeMap;

    /// Step `i` writes tenant `i` and reads these.
    fn graph(reads: &[&[usize]]) -> Vec<Accesses> {
        let access = |tenant: usize| Access { space: Space::Tenant(tenant), bytes: 0..4 };
        let step = |(own, reads): (usize, &&[usize])| Accesses {
            reads: reads.iter().map(|&tenant| access(tenant)).collect(),
            writes: vec![access(own)],
        };
        reads.iter().enumerate().map(step).collect()
    }

    #[test]
    fn segments_are_short_steps_that_read_what_is_right_before_them() {
        let chain: Vec<Vec<usize>> =
            (0..40).map(|step: usize| step.checked_sub(1).into_iter().collect()).collect();
        let chain: Vec<&[usize]> = chain.iter().map(Vec::as_slice).collect();
        let chain = graph(&chain);
        assert_eq!(segments(&chain, |_| Some(2.0), 1.0), [0..16, 16..32, 32..40]);
        let slow = |step: usize| Some(if step == 3 { 400.0 } else { 2.0 });
        assert_eq!(segments(&chain[..8], slow, 1.0), [0..3, 4..8]);
        let elsewhere = |step: usize| (step != 1).then_some(2.0);
        assert_eq!(segments(&chain[..4], elsewhere, 1.0), vec![2..4], "one step is no segment");
        // 2 reads what 0 writes, and 3 what both 1 and 2 do.
        assert_eq!(segments(&graph(&[&[], &[0], &[0], &[1, 2]]), |_| Some(2.0), 1.0), [0..2, 2..4]);
        assert!(segments(&[], |_| Some(2.0), 1.0).is_empty());
    }

    #[test]
    fn a_step_has_its_part_of_a_segment_that_is_not_the_sum() {
        let accesses = graph(&[&[], &[0], &[1]]);
        let us = |step: usize| Some([2.0, 6.0, 4.0][step]);
        let signatures = ["A", "B", "C"].map(str::to_owned);
        let mut profile = Profile::empty();
        let of = |profile: &Profile| joined(&accesses, (&signatures, &us), (profile, "cuda:0"));
        assert_eq!(of(&profile), [None, None, None], "nothing was timed together");
        let mut time = |median_us: f64, lane: &str| {
            let timed = Measured { median_us, min_us: median_us - 1.0, p90_us: median_us + 1.0, runs: 9 };
            profile.segments =
                BTreeMap::from([("A then B then C".to_owned(), [(lane.to_owned(), timed)].into())]);
            profile.clone()
        };
        assert_eq!(of(&time(6.0, "cpu:1")), [None, None, None], "not on that lane");
        assert_eq!(of(&time(11.5, "cuda:0")), [None, None, None], "the sum is within the noise");
        let parts = of(&time(6.0, "cuda:0"));
        let parts: Vec<f64> =
            parts.into_iter().flatten().map(|j| if j.steps == (0..3) { j.us } else { -1.0 }).collect();
        assert_eq!(parts, [1.0, 3.0, 2.0]);
        // Of a longer run what is known is taken: B and C are timed together, A is not.
        let shorter = time(6.0, "cuda:0").segments.into_values();
        let shorter =
            Profile { segments: [("B then C".to_owned(), shorter.last().expect("one"))].into(), ..profile };
        let parts = of(&shorter);
        assert!(parts[0].is_none() && parts[1].as_ref().is_some_and(|joined| joined.steps == (1..3)));
    }
}
