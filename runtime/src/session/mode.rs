//! What plans are to be best at, and what planning gives.

use crate::plan::{Goal, Plan};
use std::time::Duration;

/// How operators are placed on the threads.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Mode {
    /// One after the other, each on all threads.
    #[default]
    Together,
    /// By a plan for the least time, made at the first run with inputs of some shapes: operators that are not in the
    /// profile cache are measured on those inputs, which takes some tenths of a second each. The plan is followed only
    /// where its measured time is below that of [`Mode::Together`], or where
    /// [`with_placements`](crate::SessionBuilder::with_placements) wants something on the GPU. Inputs of shapes like
    /// those, see [`Buckets`](crate::settings::Buckets), are planned by what was measured for the first, in some 20 ms
    /// and untried.
    Latency,
    /// By a plan for the least bytes of a GPU's memory among those that are predicted to take at most `slo`, made like
    /// those of [`Mode::Latency`]. [`PlanError::Slo`](crate::plans::PlanError::Slo) says so where there is none. The one of
    /// the least bytes that takes at most `slo` when it is tried is followed; where all take longer, the fastest of them,
    /// and [`Session::late`](crate::Session::late) tells what that took.
    Memory {
        /// The objective for the time.
        slo: Duration,
    },
}

impl Mode {
    pub(super) fn goal(self) -> Goal {
        match self {
            Self::Together | Self::Latency => Goal::default(),
            Self::Memory { slo } => Goal { slo_us: Some(slo.as_secs_f64() * 1e6), ..Goal::default() },
        }
    }
}

/// What a plan is to be: see [`Session::plan_with`](crate::Session::plan_with).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PlanOptions {
    mode: Mode,
    curve: bool,
    budget: Option<Duration>,
}

impl PlanOptions {
    /// What the plan is to be best at; the least time by default.
    pub fn with_mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Seeks [`Planning::front`], too, which takes a search for each of some points.
    pub fn with_front(mut self) -> Self {
        self.curve = true;
        self
    }

    /// Ends the search for placements after about this time. Without it the search ends after a number of evaluated
    /// placements, so that equal inputs give equal plans.
    pub fn with_budget(mut self, budget: Duration) -> Self {
        self.budget = Some(budget);
        self
    }

    pub(super) fn goal(self) -> Goal {
        Goal { curve: self.curve, budget: self.budget, ..self.mode.goal() }
    }
}

/// A plan that was found, by what it takes of a GPU's memory and of time; see [`Planning::front`].
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub struct FrontPoint {
    /// Weights, constants and the arena.
    pub device_bytes: usize,
    /// What a run is predicted to take.
    pub predicted_us: f64,
}

/// A plan with what it was made from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Planning {
    /// The plan.
    pub plan: Plan,
    /// The instance that the scheduler was given, as the text of its document, with all devices of the profile.
    pub instance: String,
    /// With a GPU: every plan that was met and that no other beats in both, by increasing bytes.
    pub front: Vec<FrontPoint>,
}
