//! Weights that steps on the device are brought in every run instead of keeping them: which steps, and how early.
//!
//! The scheduler is offered steps that take as long as their copies and they themselves. What comes of that is then varied:
//! copies may begin one step earlier, beside it, for a room more, at once or behind what that is brought between its
//! launches; parts may have theirs apart; and of the steps whose copies cost most for the bytes that they save, more and
//! more keep their weights.

use super::{Candidate, Parts, Seat, Times};
use crate::plan::PlanError;
use crate::plan::device::BroughtCost;
use crate::plan::document::BroughtWeights;
use std::collections::HashSet;

/// How early copies begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ahead {
    /// When the step before has ended.
    Behind,
    /// Beside the step before.
    Beside,
    /// Beside the step before, behind the last copy between its launches, where it has any and is in the same stream.
    Between,
}

impl Ahead {
    const ALL: [Self; 3] = [Self::Behind, Self::Beside, Self::Between];
}

/// How a step is brought its weights.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct How {
    /// Whether its parts have theirs apart.
    pub(super) apart: bool,
    /// The step behind which they are copied.
    pub(super) behind: Option<usize>,
    /// The step between whose launches they are.
    pub(super) beside: Option<usize>,
}

/// Most steps that are brought weights in a placement of which single ones are looked at.
const MOST_SINGLE: usize = 16;

/// Which steps are brought their weights.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Bringing {
    /// By step, where it is. Without any steps there is none.
    steps: Vec<Option<How>>,
}

impl Bringing {
    pub(super) fn of(&self, step: usize) -> Option<How> {
        self.steps.get(step).copied().flatten()
    }

    /// Whether the parts of a step that is brought weights have theirs apart.
    pub(super) fn apart(&self, step: usize) -> Option<bool> {
        self.of(step).map(|how| how.apart)
    }
}

impl Parts<'_> {
    /// What a step takes that is brought weights by the smallest room.
    pub(super) fn thriftiest(&self, step: usize) -> Option<(bool, &BroughtCost)> {
        let of = |apart: bool| Some((apart, self.device.brought(step, apart)?));
        of(true).or_else(|| of(false))
    }

    /// Every step on the device that can be is brought its weights, by the smallest rooms.
    pub(super) fn all_brought(&self, seats: &[Seat], times: &Times, ahead: Ahead) -> Bringing {
        let of = |step: usize| seats[step].is_device().then(|| self.thriftiest(step)).flatten();
        let apart: Vec<Option<bool>> =
            (0..seats.len()).map(|step| of(step).map(|(apart, _)| apart)).collect();
        bringing(&apart, (seats, times), ahead)
    }

    /// Adds what comes of bringing weights where `candidates` have steps.
    pub(super) fn vary(&self, candidates: &mut Vec<Candidate>) -> Result<(), PlanError> {
        let mut seen: HashSet<Vec<Seat>> = HashSet::new();
        let mut made = Vec::new();
        for base in candidates.iter().filter(|base| seen.insert(base.seats.clone())) {
            let thrifty = self.all_brought(&base.seats, &base.times, Ahead::Behind);
            if thrifty.steps.iter().all(Option::is_none) {
                continue;
            }
            let apart: Vec<Option<bool>> = (0..base.seats.len()).map(|step| thrifty.apart(step)).collect();
            let at_once: Vec<Option<bool>> = apart.iter().map(|apart| apart.map(|_| false)).collect();
            for ahead in Ahead::ALL {
                if ahead == Ahead::Between && at_once == apart {
                    continue;
                }
                self.keep_more(base, apart.clone(), ahead, &mut made)?;
                if at_once != apart && ahead != Ahead::Between {
                    self.keep_more(base, at_once.clone(), ahead, &mut made)?;
                }
            }
        }
        candidates.append(&mut made);
        Ok(())
    }

    /// Adds the placement of `base` with all of `apart` brought, and with fewer and fewer of them.
    fn keep_more(
        &self,
        base: &Candidate,
        mut apart: Vec<Option<bool>>,
        ahead: Ahead,
        made: &mut Vec<Candidate>,
    ) -> Result<(), PlanError> {
        let of = |apart: &[Option<bool>]| {
            let bringing = bringing(apart, (&base.seats, &base.times), ahead);
            self.candidate(base.seats.clone(), base.times.clone(), bringing)
        };
        let all = of(&apart)?;
        let (us, bytes) = (all.total_us(), all.device_bytes());
        made.push(all);
        let brought: Vec<usize> = (0..apart.len()).filter(|&step| apart[step].is_some()).collect();
        if brought.len() > MOST_SINGLE {
            return Ok(());
        }
        let mut gains = Vec::with_capacity(brought.len());
        for step in brought {
            let own = apart[step].take();
            let kept = of(&apart)?;
            apart[step] = own;
            let more = kept.device_bytes().saturating_sub(bytes).max(1);
            gains.push(((us - kept.total_us()) / more as f64, step));
        }
        gains.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        // With none left it is as without.
        gains.pop();
        for (_, step) in gains {
            apart[step] = None;
            made.push(of(&apart)?);
        }
        Ok(())
    }

    /// How the document tells of what steps are brought.
    pub(super) fn told(&self, of: &Candidate) -> Vec<BroughtWeights> {
        let told = (0..of.seats.len()).filter(|&step| of.seats[step].is_device()).filter_map(|step| {
            let How { apart, behind, beside } = of.bringing.of(step)?;
            let bytes = self.device.brought(step, apart)?.bytes;
            Some(BroughtWeights { step, apart, behind, beside, bytes })
        });
        told.collect()
    }
}

/// Weights of these steps, each copied so early in the order in which they begin.
fn bringing(apart: &[Option<bool>], (seats, times): (&[Seat], &Times), ahead: Ahead) -> Bringing {
    let mut order: Vec<usize> = (0..apart.len()).filter(|&step| apart[step].is_some()).collect();
    order.sort_by(|a, b| times.starts[*a].total_cmp(&times.starts[*b]).then(a.cmp(b)));
    let mut steps: Vec<Option<How>> = vec![None; apart.len()];
    for (at, &step) in order.iter().enumerate() {
        let before = |count: usize| at.checked_sub(count).map(|before| order[before]);
        let between = |other: &usize| apart[*other] == Some(true) && seats[*other] == seats[step];
        let (behind, beside) = match ahead {
            Ahead::Behind => (before(1), None),
            Ahead::Beside => (before(2), None),
            Ahead::Between => (before(2), before(1).filter(between)),
        };
        steps[step] = apart[step].map(|apart| How { apart, behind, beside });
    }
    Bringing { steps }
}
