//! What each stream of a run along a plan does, and what it waits for.
//!
//! Whoever gives work gives it in an order in which one stream could do it. What touches common bytes of the device's memory,
//! and does not only read them, keeps that order: in one stream by itself, in two by an event. So a result depends on
//! nothing but the order, whatever streams the steps are given to and wherever their operands lie.
//!
//! - Copies have streams of their own, one for each direction, where there is something that they can go on beside: a copy
//!   to the device unless the host knows that the kernels of the stream which reads it have ended, a copy from it once its
//!   stream was given kernels behind the one that makes what is copied.
//! - Steps that the host gives without waiting for anything between are captured, those of each stream by themselves, with
//!   the copies to the device ahead of them in their stream; who waits for another stream begins a graph, and who is waited
//!   for by what follows ends one. A copy from the device right behind them is given along with them. So what the host does
//!   between a value that is there and one that comes back is to launch one graph.
//! - What a step that is brought weights in turns gives up to the last copy between its launches is its *head*, where copies
//!   begin behind that: they go on beside what is left of it.
//! - What comes behind something that the host waits for can be given before, held back until the host writes a word: then
//!   that is all it does between a value that comes back and one that is there again.

use crate::plan::{Given, Turns};
use std::collections::HashMap;
use std::ops::Range;

/// What a device is given.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Action {
    Step(usize),
    /// What a step gives up to the last copy between its launches, where something else begins behind that; what is left of
    /// the step is [`Self::Step`].
    Head(usize),
    Copy(usize),
}

impl Action {
    /// The step that it is, or is of.
    pub(super) fn step(self) -> Option<usize> {
        match self {
            Self::Step(step) | Self::Head(step) => Some(step),
            Self::Copy(_) => None,
        }
    }
}

/// What an action touches of the device's arena.
#[derive(Clone, Debug, Default)]
pub(super) struct Touched {
    pub(super) reads: Vec<Range<usize>>,
    pub(super) writes: Vec<Range<usize>>,
}

impl Touched {
    /// Whether both may not be done at the same time.
    fn conflicts(&self, other: &Self) -> bool {
        let meet = |a: &[Range<usize>], b: &[Range<usize>]| {
            a.iter().any(|a| b.iter().any(|b| a.start < b.end && b.start < a.end))
        };
        meet(&self.writes, &other.writes)
            || meet(&self.writes, &other.reads)
            || meet(&self.reads, &other.writes)
    }
}

/// An action in its stream. Events are numbered by the position of what they stand behind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Turn {
    pub(super) stream: usize,
    /// The events that it waits for.
    pub(super) waits: Vec<usize>,
    /// The event behind it, where it is waited for.
    pub(super) event: Option<usize>,
}

/// Steps of one stream that are given together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Stretch {
    pub(super) stream: usize,
    /// Copies to the device ahead of them.
    pub(super) ups: Vec<usize>,
    pub(super) steps: Vec<Action>,
    /// A copy from the device behind them.
    pub(super) down: Option<usize>,
    /// The events that the first waits for.
    pub(super) waits: Vec<usize>,
    /// The events that stand behind the last step.
    pub(super) events: Vec<usize>,
}

/// What a device is given in one go.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Unit {
    /// A stretch, by its number.
    Stretch(usize),
    /// A copy that belongs to none.
    Copy(usize),
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Order {
    pub(super) turns: HashMap<Action, Turn>,
    pub(super) stretches: Vec<Stretch>,
    /// Which of these steps and copies belong to.
    pub(super) stretch_of: HashMap<Action, usize>,
    /// By step with a head, the copies behind that.
    pub(super) heads: HashMap<usize, Vec<usize>>,
    /// In the order in which they are given.
    pub(super) units: Vec<Unit>,
    /// By unit, those behind the next thing that the host waits for, where it is the last before that.
    pub(super) behind: Vec<Range<usize>>,
    /// Streams for kernels; behind them are one for copies to the device and one for those from it.
    pub(super) kernels: usize,
    /// Numbers of events.
    pub(super) events: usize,
}

impl Order {
    /// `parts` in the order in which they are given: what stands in one of them is given with nothing between. `stream` is
    /// that of a step, and `up` tells of a copy whether it is to the device. Between a head and what is left of its step stand
    /// the copies that begin behind it.
    pub(super) fn new(
        parts: &[Vec<Action>],
        touched: &HashMap<Action, Touched>,
        stream: impl Fn(usize) -> usize,
        up: impl Fn(usize) -> bool,
    ) -> Self {
        let order: Vec<Action> = parts.iter().flatten().copied().collect();
        let nothing = Touched::default();
        let of = |at: usize| touched.get(&order[at]).unwrap_or(&nothing);
        let own = |at: usize| order[at].step().map(&stream);
        // By position of a copy, that of the head that it begins behind.
        let mut head: Vec<Option<usize>> = vec![None; order.len()];
        let mut heads: HashMap<usize, Vec<usize>> = HashMap::new();
        let mut open: Option<(usize, usize)> = None;
        for (at, action) in order.iter().enumerate() {
            match (*action, open) {
                (Action::Head(step), _) => open = Some((at, step)),
                (Action::Step(_), _) => open = None,
                (Action::Copy(copy), Some((of, step))) => {
                    head[at] = Some(of);
                    heads.entry(step).or_default().push(copy);
                }
                (Action::Copy(_), None) => {}
            }
        }
        let kernels = (0..order.len()).filter_map(own).max().map_or(1, |most| most + 1);
        let mut made = Turns::new(kernels + 2);
        for (at, action) in order.iter().enumerate() {
            let stream = match *action {
                Action::Step(step) | Action::Head(step) => stream(step),
                Action::Copy(copy) if up(copy) => {
                    let mut later = (at + 1..order.len()).filter(|&later| of(later).conflicts(of(at)));
                    let reader = later.find_map(own).unwrap_or(0);
                    let latest = (0..at).rev().find(|&earlier| own(earlier) == Some(reader));
                    if latest.is_none_or(|at| made.has_ended(at)) { reader } else { kernels }
                }
                Action::Copy(_) => {
                    let writer = (0..at).rev().find(|&e| own(e).is_some() && of(e).conflicts(of(at)));
                    let latest = |writer: &usize| (writer + 1..at).all(|later| own(later) != own(*writer));
                    writer.filter(latest).and_then(own).unwrap_or(kernels + 1)
                }
            };
            let awaited = matches!(*action, Action::Copy(copy) if !up(copy));
            let needs = |earlier: usize| head[at] == Some(earlier) || of(at).conflicts(of(earlier));
            made.give(Given { stream, awaited }, needs);
        }
        let (given, made) = made.into_parts();
        let mut awaited = vec![Vec::new(); order.len()];
        for (at, turn) in made.iter().enumerate() {
            turn.waits.iter().for_each(|&wait| awaited[wait].push(at));
        }
        let mut stretches: Vec<Stretch> = Vec::new();
        let mut at = 0;
        for part in parts {
            let end = at + part.len();
            // By stream, the stretch that goes on.
            let mut open: HashMap<usize, usize> = HashMap::new();
            for (at, action) in (at..end).zip(part) {
                let (stream, waits) = (given[at].stream, &made[at].waits);
                if stream >= kernels {
                    if given[at].awaited {
                        open.clear();
                    }
                    continue;
                }
                let goes_on = |which: &usize| {
                    let Stretch { steps, .. } = &stretches[*which];
                    match action {
                        Action::Step(_) | Action::Head(_) => waits.is_empty(),
                        Action::Copy(copy) if up(*copy) => waits.is_empty() && steps.is_empty(),
                        Action::Copy(_) => waits.is_empty() && !steps.is_empty(),
                    }
                };
                let which = open.get(&stream).copied().filter(goes_on).unwrap_or_else(|| {
                    stretches.push(Stretch { stream, waits: waits.clone(), ..Stretch::default() });
                    stretches.len() - 1
                });
                open.insert(stream, which);
                let own = &mut stretches[which];
                match *action {
                    Action::Step(_) | Action::Head(_) => own.steps.push(*action),
                    Action::Copy(copy) if up(copy) => own.ups.push(copy),
                    Action::Copy(copy) => own.down = Some(copy),
                }
                if !awaited[at].is_empty() {
                    own.events.push(at);
                    if awaited[at].iter().any(|&by| by < end) {
                        open.remove(&stream);
                    }
                }
                // What comes behind the end that the host waits for may rely on it, and is not given before.
                if given[at].awaited {
                    open.clear();
                }
            }
            at = end;
        }
        // Copies without steps are given by themselves.
        stretches.retain(|stretch| !stretch.steps.is_empty());
        let mut stretch_of = HashMap::new();
        for (which, stretch) in stretches.iter().enumerate() {
            let Stretch { ups, steps, down, .. } = stretch;
            let copies = ups.iter().chain(down).map(|&copy| Action::Copy(copy));
            let actions = steps.iter().copied().chain(copies);
            stretch_of.extend(actions.map(|action| (action, which)));
        }
        let (units, behind) = units(parts, &stretches, &stretch_of, up);
        let made = made.into_iter().enumerate().map(|(at, turn)| {
            let event = (!awaited[at].is_empty()).then_some(at);
            (order[at], Turn { stream: given[at].stream, waits: turn.waits, event })
        });
        let turns = made.collect();
        Self { turns, stretches, stretch_of, heads, units, behind, kernels, events: order.len() }
    }

    /// Whether a copy begins behind the head of a step.
    pub(super) fn is_behind_head(&self, copy: usize) -> bool {
        self.heads.values().any(|copies| copies.contains(&copy))
    }

    /// The place of a unit among all.
    pub(super) fn unit(&self, unit: Unit) -> Option<usize> {
        self.units.iter().position(|other| *other == unit)
    }
}

/// What is given, a stretch where its first step stands, and by unit what is given behind the next thing that the host waits
/// for, where that comes before any other unit.
fn units(
    parts: &[Vec<Action>],
    stretches: &[Stretch],
    stretch_of: &HashMap<Action, usize>,
    up: impl Fn(usize) -> bool,
) -> (Vec<Unit>, Vec<Range<usize>>) {
    let unit = |action: &Action| match (stretch_of.get(action), *action) {
        (Some(&which), Action::Step(_) | Action::Head(_)) => {
            (stretches[which].steps.first() == Some(action)).then_some(Unit::Stretch(which))
        }
        (None, Action::Copy(copy)) => Some(Unit::Copy(copy)),
        (Some(_), Action::Copy(_)) | (None, Action::Step(_) | Action::Head(_)) => None,
    };
    // By unit, for how many things the host waits before it.
    let (mut units, mut before, mut waits) = (Vec::new(), Vec::new(), 0);
    for part in parts {
        for action in part {
            if let Some(unit) = unit(action) {
                units.push(unit);
                before.push(waits);
            }
            waits += usize::from(matches!(*action, Action::Copy(copy) if !up(copy)));
        }
        waits += 1;
    }
    let behind = (0..units.len()).map(|at| match before.get(at + 1) {
        Some(next) if *next != before[at] => at + 1..before.partition_point(|waits| waits <= next),
        _ => 0..0,
    });
    let behind = behind.collect();
    (units, behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps 0 to 3 and copy 0, which brings what step 3 reads. 1 and 2 read what 0 writes, 3 what they do.
    fn diamond(parts: &[Vec<Action>], streams: [usize; 4]) -> Order {
        let touched = |reads: &[usize], write: usize| Touched {
            reads: reads.iter().map(|&at| at..at + 1).collect(),
            writes: std::iter::once(write..write + 1).collect(),
        };
        let touched = [
            (Action::Step(0), touched(&[], 0)),
            (Action::Step(1), touched(&[0], 1)),
            (Action::Step(2), touched(&[0], 2)),
            (Action::Step(3), touched(&[1, 2, 4], 3)),
            (Action::Copy(0), touched(&[], 4)),
        ];
        Order::new(parts, &touched.into(), |step| streams[step], |_| true)
    }

    fn stretch(stream: usize, steps: &[usize], waits: &[usize], events: &[usize]) -> Stretch {
        let steps = steps.iter().map(|&step| Action::Step(step)).collect();
        let (waits, events) = (waits.to_vec(), events.to_vec());
        Stretch { stream, steps, waits, events, ..Stretch::default() }
    }

    #[test]
    fn branches_are_graphs_of_their_own_that_wait_for_each_other() {
        use Action::{Copy, Step};
        let parts = [vec![Copy(0), Step(0), Step(1), Step(2), Step(3)]];
        let order = diamond(&parts, [0, 0, 1, 0]);
        // Position 1 is step 0: the other stream waits for it, and step 3, at position 4, for step 2, at position 3.
        let first = Stretch { ups: vec![0], ..stretch(0, &[0], &[], &[1]) };
        let rest = [stretch(0, &[1], &[], &[]), stretch(1, &[2], &[1], &[3]), stretch(0, &[3], &[3], &[])];
        assert_eq!(order.stretches[0], first);
        assert_eq!(order.stretches[1..], rest);
        assert_eq!(order.turns[&Copy(0)], Turn { stream: 0, waits: vec![], event: None });
        assert_eq!((order.kernels, order.events), (2, 5));
        assert_eq!(order.units, [0, 1, 2, 3].map(Unit::Stretch));
        assert!(order.behind.iter().all(Range::is_empty), "there is one part");
        let order = diamond(&parts, [0; 4]);
        assert_eq!(order.stretches, [Stretch { ups: vec![0], ..stretch(0, &[0, 1, 2, 3], &[], &[]) }]);
        assert_eq!((order.stretch_of[&Copy(0)], order.stretch_of[&Step(3)]), (0, 0));
    }

    #[test]
    fn a_copy_behind_kernels_goes_on_beside_them_and_is_waited_for() {
        use Action::{Copy, Step};
        let parts = [vec![Step(0), Step(1)], vec![Copy(0), Step(2), Step(3)]];
        let order = diamond(&parts, [0; 4]);
        assert_eq!(order.turns[&Copy(0)], Turn { stream: 1, waits: vec![], event: Some(2) });
        let rest = [stretch(0, &[0, 1], &[], &[]), stretch(0, &[2], &[], &[]), stretch(0, &[3], &[2], &[])];
        assert_eq!(order.stretches, rest);
        assert!(!order.stretch_of.contains_key(&Copy(0)));
        assert_eq!(order.units, [Unit::Stretch(0), Unit::Copy(0), Unit::Stretch(1), Unit::Stretch(2)]);
        assert_eq!(
            order.behind,
            [1..4, 0..0, 0..0, 0..0],
            "the copy and what is behind it are given behind the first"
        );
    }

    #[test]
    fn a_copy_behind_a_head_goes_on_beside_what_is_left_of_the_step() {
        use Action::{Copy, Head, Step};
        let touched = |reads: &[usize], write: usize| Touched {
            reads: reads.iter().map(|&at| at..at + 1).collect(),
            writes: std::iter::once(write..write + 1).collect(),
        };
        // Copy 0 brings what step 2 reads, in a room that step 0 read, while step 1 is under way.
        let touched: [(Action, Touched); 5] = [
            (Step(0), touched(&[4], 0)),
            (Head(1), touched(&[0], 1)),
            (Step(1), touched(&[0], 1)),
            (Copy(0), touched(&[], 4)),
            (Step(2), touched(&[1, 4], 2)),
        ];
        let parts = [vec![Step(0), Head(1), Copy(0), Step(1), Step(2)]];
        let order = Order::new(&parts, &touched.into(), |_| 0, |_| true);
        assert_eq!(order.turns[&Copy(0)], Turn { stream: 1, waits: vec![1], event: Some(2) });
        assert_eq!(order.turns[&Step(1)], Turn { stream: 0, waits: vec![], event: None });
        let head = Stretch { steps: vec![Step(0), Head(1)], ..stretch(0, &[], &[], &[1]) };
        assert_eq!(order.stretches, [head, stretch(0, &[1], &[], &[]), stretch(0, &[2], &[2], &[])]);
        assert_eq!(order.units, [Unit::Stretch(0), Unit::Copy(0), Unit::Stretch(1), Unit::Stretch(2)]);
        assert!(order.heads == HashMap::from([(1, vec![0])]) && order.is_behind_head(0));
    }

    #[test]
    fn what_goes_to_an_idle_device_and_back_is_given_at_once() {
        use Action::{Copy, Step};
        let touched = |reads: &[usize], writes: &[usize]| {
            let ranges = |of: &[usize]| of.iter().map(|&at| at..at + 1).collect();
            Touched { reads: ranges(reads), writes: ranges(writes) }
        };
        // 0 and 2 to the device, 1 and 3 from it; the host makes what 2 brings of what 1 brought.
        let touched: [(Action, Touched); 6] = [
            (Copy(0), touched(&[], &[0])),
            (Step(0), touched(&[0], &[1])),
            (Copy(1), touched(&[1], &[])),
            (Copy(2), touched(&[], &[2])),
            (Step(1), touched(&[1, 2], &[3])),
            (Copy(3), touched(&[3], &[])),
        ];
        let parts = [vec![Copy(0), Step(0), Copy(1)], vec![Copy(2), Step(1), Copy(3)]];
        let order = Order::new(&parts, &touched.into(), |_| 0, |copy| copy % 2 == 0);
        let there = |up: usize, step: usize, down: usize| Stretch {
            ups: vec![up],
            down: Some(down),
            ..stretch(0, &[step], &[], &[])
        };
        assert_eq!(order.stretches, [there(0, 0, 1), there(2, 1, 3)]);
        assert_eq!((order.units, order.behind), (vec![Unit::Stretch(0), Unit::Stretch(1)], vec![1..2, 0..0]));
    }

    #[test]
    fn what_relies_on_the_end_of_a_copy_that_the_host_waits_for_is_not_given_before_it() {
        use Action::{Copy, Step};
        let touched = |reads: &[usize], writes: &[usize]| {
            let ranges = |of: &[usize]| of.iter().map(|&at| at..at + 1).collect();
            Touched { reads: ranges(reads), writes: ranges(writes) }
        };
        // Step 2 uses bytes of step 1 again, which is in another stream, once the host has what that made.
        let touched: [(Action, Touched); 4] = [
            (Step(0), touched(&[], &[0])),
            (Step(1), touched(&[], &[1])),
            (Copy(0), touched(&[1], &[])),
            (Step(2), touched(&[0], &[1])),
        ];
        let parts = [vec![Step(0), Step(1), Copy(0), Step(2)]];
        let order = Order::new(&parts, &touched.into(), |step| step % 2, |_| false);
        let behind = Stretch { down: Some(0), ..stretch(1, &[1], &[], &[]) };
        assert_eq!(order.stretches, [stretch(0, &[0], &[], &[]), behind, stretch(0, &[2], &[], &[])]);
        assert_eq!(
            order.behind,
            [0..0, 2..3, 0..0],
            "step 2 is given before the copy has ended, and held back"
        );
    }
}
