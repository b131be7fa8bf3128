//! The plans that a session follows, by the shapes of its inputs.

use super::Session;
use super::arguments::ValueSpec;
use super::buckets::Buckets;
use super::measuring::ProfileOptions;
use super::mode::Mode;
use super::planning::forms_of;
use super::runner::{check, gpu_error};
use crate::cost::{Profile, ProfileCache};
use crate::cpu::{RunContext, Slot};
use crate::cuda::{Direct, GpuUse};
use crate::device::Device;
use crate::error::Error;
use crate::exec::{Bound, Course, Program};
use crate::plan::{PlanError, PlannedInput};
use crate::precision::StoredWeights;
use crate::tensor::ValueRef;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A plan that was checked against the model and is followed by runs with inputs of its shapes.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) rewrite: String,
    pub(super) inputs: Vec<PlannedInput>,
    pub(super) bound: Arc<Bound>,
    pub(super) course: Course,
    /// The rewritten program; the session's own where there is none.
    pub(super) program: Arc<Program>,
    /// The device that some steps run on.
    pub(super) device: Option<Device>,
    /// What a trial took, where no plan that was tried meets the objective for the time.
    pub(super) late: Option<Duration>,
}

impl Followed {
    /// Checks the slots against `outputs`, and runs.
    pub(super) fn run(
        &self,
        values: &[ValueRef<'_>],
        slots: &mut [Slot<'_>],
        outputs: &[ValueSpec],
        context: RunContext<'_>,
    ) -> Result<(), Error> {
        check(outputs, slots, |index| self.bound.output_form(index))?;
        self.follow((values, &Direct::default()), slots, context)
    }

    /// Runs with slots that fit, with what is `direct` on the device.
    pub(super) fn follow(
        &self,
        (values, direct): (&[ValueRef<'_>], &Direct),
        slots: &mut [Slot<'_>],
        context: RunContext<'_>,
    ) -> Result<(), Error> {
        let ran = self.bound.follow(&self.course, &self.program, (values, direct), slots, context);
        ran.map_err(|failure| gpu_error(failure, self.device.unwrap_or_default(), 0, context))
    }

    fn is_for(&self, values: &[ValueRef<'_>]) -> bool {
        fit(&self.inputs, values)
    }
}

fn fit(inputs: &[PlannedInput], values: &[ValueRef<'_>]) -> bool {
    inputs.len() == values.len()
        && inputs.iter().zip(values).all(|(input, value)| {
            value.tensor().is_some_and(|t| t.dtype().name() == input.dtype && t.shape() == input.shape)
        })
}

/// Why runs follow no plan although a [`Mode`] asks for one; see [`Session::unplanned`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Unplanned {
    /// No plan that was tried is faster than running each operator on all threads.
    NotFaster,
    /// There is one thread and no GPU: nothing can be placed in several ways.
    OneThread,
    /// An input is no tensor.
    NoTensor,
    /// No plan can be made.
    Failed(Arc<PlanError>),
}

impl fmt::Display for Unplanned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFaster => f.write_str("none is faster than running each operator on all threads"),
            Self::OneThread => f.write_str("none: one thread without a GPU leaves nothing to place"),
            Self::NoTensor => f.write_str("none: an input is no tensor"),
            Self::Failed(error) => write!(f, "none: {error}"),
        }
    }
}

/// What was decided for inputs of some shapes.
#[derive(Clone, Debug)]
pub(super) enum Choice {
    Together(Vec<PlannedInput>, Unplanned),
    Follow(Arc<Followed>),
}

impl Choice {
    pub(super) fn inputs(&self) -> &[PlannedInput] {
        match self {
            Self::Together(inputs, _) => inputs,
            Self::Follow(followed) => &followed.inputs,
        }
    }

    fn is_for(&self, values: &[ValueRef<'_>]) -> bool {
        match self {
            Self::Together(inputs, _) => fit(inputs, values),
            Self::Follow(followed) => followed.is_for(values),
        }
    }
}

/// Choices kept per session.
const CHOICES: usize = 8;

/// The plans of a session.
#[derive(Debug)]
pub(super) struct Plans {
    mode: Mode,
    cache: Option<ProfileCache>,
    /// Whether what the cache has is measured again.
    refresh: bool,
    buckets: Buckets,
    /// The latest used first.
    choices: Mutex<Vec<Choice>>,
    /// What was measured last, by which plans for other shapes are made.
    profile: Mutex<Option<Arc<Profile>>>,
}

impl Plans {
    pub(super) fn new(mode: Mode, cache: Option<ProfileCache>, refresh: bool, buckets: Buckets) -> Self {
        Self { mode, cache, refresh, buckets, choices: Mutex::default(), profile: Mutex::default() }
    }

    /// How operators are measured for a plan.
    pub(super) fn measuring(&self) -> ProfileOptions {
        ProfileOptions::of_cache(self.cache.clone(), self.refresh)
    }

    /// The latest choice for inputs of the same buckets.
    pub(super) fn like(&self, inputs: &[PlannedInput]) -> Option<Choice> {
        let choices = self.lock();
        choices.iter().find(|choice| self.buckets.share(choice.inputs(), inputs)).cloned()
    }

    /// What times are known by.
    pub(super) fn profile(&self) -> Option<Arc<Profile>> {
        let mut last = self.profile.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none() {
            // A plan that was kept was not measured for again.
            let kept = self.cache.as_ref().map(ProfileCache::load);
            *last = kept.filter(|profile| !profile.operators.is_empty()).map(Arc::new);
        }
        last.clone()
    }

    /// Keeps what was measured.
    pub(super) fn keep_profile(&self, profile: &Profile) {
        *self.profile.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(profile.clone()));
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<Choice>> {
        self.choices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, choice: Choice) {
        let mut choices = self.lock();
        // What was decided before for these shapes gives way.
        choices.retain(|other| other.inputs() != choice.inputs());
        choices.insert(0, choice);
        choices.truncate(CHOICES);
    }

    /// What the plan that was used last takes of the device that it uses.
    pub(super) fn gpu_use(&self) -> Option<GpuUse> {
        match self.lock().first()? {
            Choice::Follow(followed) => followed.course.gpu_use(),
            Choice::Together(..) => None,
        }
    }

    /// What steps on a GPU have weights in, along the plan of the latest run.
    pub(super) fn stored(&self) -> Vec<StoredWeights> {
        match self.lock().first() {
            Some(Choice::Follow(followed)) => followed.course.stored(),
            _ => Vec::new(),
        }
    }

    /// Forgets the plans that use a device.
    pub(super) fn forget_devices(&self) {
        let uses = |choice: &Choice| matches!(choice, Choice::Follow(followed) if followed.device.is_some());
        self.lock().retain(|choice| !uses(choice));
    }

    /// Whether it is decided what is followed for inputs of these forms, so that [`Self::choose`] measures nothing.
    pub(super) fn has_decided(&self, values: &[ValueRef<'_>]) -> bool {
        self.mode == Mode::Together || self.lock().iter().any(|choice| choice.is_for(values))
    }

    /// The plan for these inputs, if one is to be followed.
    pub(super) fn choose(
        &self,
        session: &Session,
        values: &[ValueRef<'_>],
        context: RunContext<'_>,
    ) -> Result<Option<Arc<Followed>>, Error> {
        {
            let mut choices = self.lock();
            if let Some(at) = choices.iter().position(|choice| choice.is_for(values)) {
                choices[..=at].rotate_right(1);
                return Ok(match &choices[0] {
                    Choice::Follow(followed) => Some(followed.clone()),
                    Choice::Together(..) => None,
                });
            }
        }
        if self.mode == Mode::Together {
            return Ok(None);
        }
        let Some(inputs) = forms_of(&session.inputs, values) else { return Ok(None) };
        let goal = self.mode.goal();
        let made = match session.plan_by_bucket(&inputs, goal, context) {
            Some(made) => Ok(made),
            None => session.plan_by_measuring(values, &inputs, (self.measuring(), goal), context),
        };
        let choice = match made {
            Ok(Ok(followed)) => Choice::Follow(Arc::new(followed)),
            Ok(Err(why)) => Choice::Together(inputs, why),
            // What was asked for cannot be had.
            Err(Error::Plan {
                source:
                    source @ (PlanError::Slo { .. }
                    | PlanError::NothingFits { .. }
                    | PlanError::Placement { .. }
                    | PlanError::Unplaceable { .. }),
            }) => return Err(source.into()),
            // Plans are made again, without the GPU, when the next run asks.
            Err(error) if session.devices.give_up(&error) => return Ok(None),
            Err(Error::Plan { source }) => {
                tracing::info!(%source, "the model runs without a plan");
                Choice::Together(inputs, Unplanned::Failed(Arc::new(source)))
            }
            Err(error) => return Err(error),
        };
        let followed = match &choice {
            Choice::Follow(followed) => Some(followed.clone()),
            Choice::Together(..) => None,
        };
        self.add(choice);
        Ok(followed)
    }
}
