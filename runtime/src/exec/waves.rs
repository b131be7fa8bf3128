//! Steps that run as a wavefront ([`Wavefront`]): recurrences right behind each other, of which each reads the sequence that
//! the one before it makes. Only runs that take the steps one after the other have them; where each step is measured, or a
//! plan says what runs where, steps stay apart.

use super::bind::{Action, Step};
use super::views::Views;
use crate::cpu::Wavefront;
use crate::graph::ValueId;

/// Most steps of a wave: what they read and write is held without a run allocating.
const MOST_LAYERS: usize = 4;

/// Steps that run at the same time.
#[derive(Debug)]
pub(super) struct Wave {
    /// The first step, and how many.
    pub(super) first: usize,
    pub(super) count: usize,
    /// Those of all steps, one behind the other; what one step makes and the next reads is no input.
    pub(super) inputs: Vec<Option<ValueId>>,
    pub(super) outputs: Vec<Option<ValueId>>,
    pub(super) layers: Wavefront,
}

/// The wavefronts of `steps` for `threads` threads, in their order.
pub(super) fn waves(steps: &[Step], views: &Views, threads: usize) -> Vec<Wave> {
    let mut waves: Vec<Wave> = Vec::new();
    let mut first = 0;
    while first < steps.len() {
        let mut count = 1;
        while count < threads.min(MOST_LAYERS)
            && first + count < steps.len()
            && joins(steps, (first, count), views)
        {
            count += 1;
        }
        waves.extend((count > 1).then(|| wave(steps, (first, count))).flatten());
        first += count;
    }
    waves
}

/// Whether the step behind `count` steps from `first` on can run beside them.
fn joins(steps: &[Step], (first, count): (usize, usize), views: &Views) -> bool {
    let (before, next) = (&steps[first..first + count], &steps[first + count]);
    let (Some(Step { action: Action::Kernel(last), outputs, .. }), Action::Kernel(kernel)) =
        (before.last(), &next.action)
    else {
        return false;
    };
    let root = |id: &ValueId| views.root(id.index());
    let handed = outputs.first().and_then(Option::as_ref).map(root);
    let read = next.inputs.first().and_then(Option::as_ref).map(root);
    let made: Vec<usize> =
        before.iter().flat_map(|step| &step.outputs).flatten().map(|id| root(id).0).collect();
    let mut others = next.inputs.iter().skip(1).flatten().map(|id| root(id).0);
    handed.is_some()
        && handed == read
        && !others.any(|other| made.contains(&other))
        && Wavefront::joins(last, kernel)
}

fn wave(steps: &[Step], (first, count): (usize, usize)) -> Option<Wave> {
    let members = &steps[first..first + count];
    let layers = members.iter().map(|step| match &step.action {
        Action::Kernel(kernel) => Some((kernel, [step.inputs.len(), step.outputs.len()])),
        Action::Late | Action::Copy => None,
    });
    let layers = Wavefront::new(layers.collect::<Option<Vec<_>>>()?.into_iter())?;
    let mut inputs = Vec::new();
    for (index, step) in members.iter().enumerate() {
        let handed = usize::from(index > 0).min(step.inputs.len());
        inputs.extend(std::iter::repeat_n(None, handed));
        inputs.extend(step.inputs.iter().skip(handed).copied());
    }
    let outputs = members.iter().flat_map(|step| step.outputs.iter().copied()).collect();
    Some(Wave { first, count, inputs, outputs, layers })
}

/// For each step the moment at which it runs: those of a wave at one.
pub(super) fn moments(steps: usize, waves: &[Wave]) -> Vec<usize> {
    let mut moments: Vec<usize> = (0..steps).collect();
    for wave in waves {
        moments[wave.first..wave.first + wave.count].fill(wave.first);
    }
    moments
}
