//! Plans for inputs of other shapes than those that were measured: by buckets of extents.
//!
//! Measuring takes tenths of a second, and an input of another length every time would be measured every time. Shapes whose
//! extents fall into the same buckets, two to an octave, take over what was found for the first of them: that nothing is
//! gained, or the rewrite, placed anew within [`AGAIN`] by times that are measured or estimated from those that were.

use super::Session;
use super::plans::{Choice, Followed, Unplanned};
use crate::cost::Profile;
use crate::cpu::RunContext;
use crate::error::Error;
use crate::plan::{Goal, PlannedInput};
use std::time::Duration;

/// What searches for a placement may take in all.
const AGAIN: Duration = Duration::from_millis(20);

/// Which shapes share what was measured for the first of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Buckets {
    /// Those whose extents are equal, or between the same two of …, 4, 6, 8, 12, 16, 24, 32, …
    #[default]
    HalfOctaves,
    /// None: operators are measured for inputs of every shape.
    Exact,
}

impl Buckets {
    fn of(self, extent: usize) -> usize {
        match (self, extent.checked_ilog2()) {
            // Two to an octave: which octave, and which half of it.
            (Self::HalfOctaves, Some(octave @ 2..)) => {
                (2 * octave as usize + (extent >> (octave - 1) & 1)) + 4
            }
            _ => extent,
        }
    }

    /// Whether inputs of shapes `a` and `b` are alike.
    pub(super) fn share(self, a: &[PlannedInput], b: &[PlannedInput]) -> bool {
        let alike = |(a, b): (&PlannedInput, &PlannedInput)| {
            let mut extents = a.shape.iter().zip(&b.shape);
            a.dtype == b.dtype
                && a.shape.len() == b.shape.len()
                && extents.all(|(a, b)| self.of(*a) == self.of(*b))
        };
        a.len() == b.len() && a.iter().zip(b).all(alike)
    }
}

impl Session {
    /// What is decided for `inputs` by what was for others of the same buckets; `None` where nothing was, or where it does
    /// not do for these.
    pub(super) fn plan_by_bucket(
        &self,
        inputs: &[PlannedInput],
        goal: Goal,
        context: RunContext<'_>,
    ) -> Option<Result<Followed, Unplanned>> {
        let rewrite = match self.plans.like(inputs)? {
            Choice::Together(_, why) => return Some(Err(why)),
            Choice::Follow(followed) => followed.rewrite.clone(),
        };
        let profile = self.plans.profile()?;
        let made = self.plan_again(inputs, &rewrite, &profile, goal, context);
        made.inspect_err(|error| tracing::info!(%error, "a plan of the same bucket does not do")).ok()?
    }

    /// A plan with this rewrite; `None` where none is predicted to gain anything.
    fn plan_again(
        &self,
        inputs: &[PlannedInput],
        rewrite: &str,
        profile: &Profile,
        goal: Goal,
        context: RunContext<'_>,
    ) -> Result<Option<Result<Followed, Unplanned>>, Error> {
        let variants = self.variants(&self.facts_of(inputs)?, |name| name == rewrite)?;
        let goal = Goal { budget: Some(AGAIN), ..goal };
        let plans = self.build_plans(&variants, inputs, (profile, goal), 1, context)?;
        let Some(best) = plans.made.into_iter().next().map(|planned| planned.plan) else { return Ok(None) };
        let wanted = goal.slo_us.is_some() || self.devices.wants_gpu();
        if !wanted && best.predicted_us >= best.together_us {
            return Ok(Some(Err(Unplanned::NotFaster)));
        }
        Ok(Some(Ok(self.check_plan(&variants, &best, context)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_halves_of_octaves() {
        let of = |extent| Buckets::HalfOctaves.of(extent);
        for (a, b) in [(4, 5), (6, 7), (8, 11), (12, 15), (48, 63), (64, 95)] {
            assert_eq!(of(a), of(b), "{a} and {b}");
        }
        for (a, b) in [(0, 1), (1, 2), (2, 3), (3, 4), (5, 6), (7, 8), (11, 12), (63, 64), (95, 96)] {
            assert_ne!(of(a), of(b), "{a} and {b}");
        }
        let all: Vec<usize> = (0..5000).map(of).collect();
        assert!(all.windows(2).all(|pair| pair[0] <= pair[1]), "larger extents are in later buckets");
        assert_ne!(Buckets::Exact.of(8), Buckets::Exact.of(9));
    }
}
