//! What was decided for inputs of some shapes: which plan runs with them follow, or why none.

use super::Session;
use super::plans::{Choice, Unplanned};
use crate::graph::Fact;
use crate::plan::PlannedInput;
use std::collections::BTreeMap;
use std::time::Duration;

impl Session {
    /// The rewrite of the plan that runs with inputs of these shapes follow, `none` where it rewrites nothing; `None`
    /// where they follow no plan.
    pub fn followed<'a, S: AsRef<[usize]>>(
        &self,
        shapes: impl IntoIterator<Item = (&'a str, S)>,
    ) -> Option<String> {
        match self.choice(shapes)? {
            Choice::Together(..) => None,
            Choice::Follow(followed) => Some(followed.rewrite.clone()),
        }
    }

    /// What a run along the plan for inputs of these shapes took when it was tried, where neither it nor any other plan met
    /// the objective of [`Mode::Memory`](crate::settings::Mode::Memory).
    pub fn late<'a, S: AsRef<[usize]>>(
        &self,
        shapes: impl IntoIterator<Item = (&'a str, S)>,
    ) -> Option<Duration> {
        match self.choice(shapes)? {
            Choice::Together(..) => None,
            Choice::Follow(followed) => followed.late,
        }
    }

    /// What was decided for inputs of these shapes.
    fn choice<'a, S: AsRef<[usize]>>(
        &self,
        shapes: impl IntoIterator<Item = (&'a str, S)>,
    ) -> Option<Choice> {
        let given: BTreeMap<&str, S> = shapes.into_iter().collect();
        let fits = |input: &PlannedInput| given.get(&*input.name).is_some_and(|s| s.as_ref() == input.shape);
        self.plans.lock().iter().find(|choice| choice.inputs().iter().all(fits)).cloned()
    }

    /// Why runs with inputs of these shapes follow no plan, where that was decided by a run: see
    /// [`Mode`](crate::settings::Mode).
    pub fn unplanned<'a, S: AsRef<[usize]>>(
        &self,
        shapes: impl IntoIterator<Item = (&'a str, S)>,
    ) -> Option<Unplanned> {
        if self.inputs.iter().any(|spec| !matches!(spec.fact, Fact::Tensor(_))) {
            return Some(Unplanned::NoTensor);
        }
        match self.choice(shapes)? {
            Choice::Together(_, why) => Some(why),
            Choice::Follow(_) => None,
        }
    }
}
