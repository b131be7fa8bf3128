//! What a device's streams do side by side: who of one stream waits for whom of another, and what has ended when.
//!
//! A device is given its steps and copies in one order, in which a single stream could do them. Each stream does its part of
//! that in order; what needs something of another stream waits for an event behind it. Only what no earlier wait implies is
//! waited for.

use super::causality::{Causality, Moment};

/// Most streams of a plan for kernels.
pub(crate) const MOST_STREAMS: usize = 4;

/// One of the things that a device is given, in their order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Given {
    pub(crate) stream: usize,
    /// Whether the host waits for its end before it gives anything more.
    pub(crate) awaited: bool,
}

/// When it is its turn.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Turn {
    /// What it waits for, by position in the order.
    pub(crate) waits: Vec<usize>,
    /// How many come before it in its stream.
    pub(crate) place: usize,
    /// By stream, how many of its own have ended when this begins.
    pub(crate) clock: Vec<usize>,
}

/// The turns of what was given so far.
#[derive(Debug)]
pub(crate) struct Turns {
    given: Vec<Given>,
    turns: Vec<Turn>,
    /// By stream, what has ended behind the last of it.
    ends: Vec<Vec<usize>>,
    /// What has ended for whoever gives.
    host: Vec<usize>,
}

impl Turns {
    /// With so many streams.
    pub(crate) fn new(streams: usize) -> Self {
        let none = vec![0; streams];
        Self { given: Vec::new(), turns: Vec::new(), ends: vec![none.clone(); streams], host: none }
    }

    /// Whether whoever gives knows that what was given at a position has ended.
    pub(crate) fn has_ended(&self, at: usize) -> bool {
        self.host[self.given[at].stream] > self.turns[at].place
    }

    /// Gives one more, of which `needs` tells whether it needs what was given at a position.
    pub(crate) fn give(&mut self, of: Given, needs: impl Fn(usize) -> bool) {
        let Self { given, turns, ends, host } = self;
        let mut clock = ends[of.stream].clone();
        join(&mut clock, host);
        let mut settled = vec![false; ends.len()];
        settled[of.stream] = true;
        let mut left = ends.len() - 1;
        let mut needed: Vec<usize> = Vec::new();
        for earlier in (0..given.len()).rev() {
            if left == 0 {
                break;
            }
            let stream = given[earlier].stream;
            let known = clock[stream] > turns[earlier].place;
            if settled[stream] || !(known || needs(earlier)) {
                continue;
            }
            settled[stream] = true;
            left -= 1;
            if !known {
                needed.push(earlier);
            }
        }
        // What another of these waits for is not waited for again.
        let implied = |one: &usize| {
            let (stream, place) = (given[*one].stream, turns[*one].place);
            needed.iter().any(|other| other != one && turns[*other].clock[stream] > place)
        };
        let waits: Vec<usize> = needed.iter().copied().filter(|one| !implied(one)).collect();
        for &wait in &waits {
            let mut behind = turns[wait].clock.clone();
            behind[given[wait].stream] = turns[wait].place + 1;
            join(&mut clock, &behind);
        }
        let place = ends[of.stream][of.stream];
        let mut behind = clock.clone();
        behind[of.stream] = place + 1;
        if of.awaited {
            join(host, &behind);
        }
        ends[of.stream] = behind;
        given.push(of);
        turns.push(Turn { waits, place, clock });
    }

    /// What was given, and when it is its turn.
    pub(crate) fn into_parts(self) -> (Vec<Given>, Vec<Turn>) {
        (self.given, self.turns)
    }
}

/// The turns of what is given, where `needs` tells of a position and an earlier one whether it needs that.
pub(crate) fn turns(given: &[Given], needs: impl Fn(usize, usize) -> bool) -> Vec<Turn> {
    let streams = given.iter().map(|of| of.stream + 1).max().unwrap_or(0);
    let mut made = Turns::new(streams);
    for (at, of) in given.iter().enumerate() {
        made.give(*of, |earlier| needs(at, earlier));
    }
    made.into_parts().1
}

fn join(clock: &mut [usize], other: &[usize]) {
    for (own, theirs) in clock.iter_mut().zip(other) {
        *own = (*own).max(*theirs);
    }
}

/// The same as a promise of what has ended when an action begins; `order` has the action of each turn among `actions`. Of
/// actions that the device is not given it says nothing.
pub(crate) fn promise(
    given: &[Given],
    turns: &[Turn],
    order: &[usize],
    actions: usize,
) -> (Causality, usize) {
    let streams = given.iter().map(|of| of.stream + 1).max().unwrap_or(0).max(1);
    let absent = Moment { phase: 0, worker: 0, place: 0, clock: vec![0; streams] };
    let mut moments = vec![absent; actions];
    for ((of, turn), &action) in given.iter().zip(turns).zip(order) {
        let (worker, place, clock) = (of.stream, turn.place, turn.clock.clone());
        moments[action] = Moment { phase: 0, worker, place, clock };
    }
    (Causality { moments, serial: Vec::new(), flags: 0 }, streams)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Gen;

    fn kernel(stream: usize) -> Given {
        Given { stream, awaited: false }
    }

    #[test]
    fn what_an_earlier_wait_implies_is_not_waited_for() {
        // 1 needs 0, 2 needs both: the wait for 1 is enough; 3 is behind 2.
        let given = [kernel(0), kernel(1), kernel(2), kernel(2)];
        let made = turns(&given, |at, earlier| matches!((at, earlier), (1, 0) | (2, 0 | 1) | (3, 0)));
        let waits: Vec<_> = made.iter().map(|turn| turn.waits.clone()).collect();
        assert_eq!(waits, [vec![], vec![0], vec![1], vec![]]);
    }

    #[test]
    fn what_the_host_waited_for_has_ended_for_all_that_comes_later() {
        let down = Given { stream: 1, awaited: true };
        let made = turns(&[kernel(0), down, kernel(2)], |at, earlier| (at, earlier) == (1, 0) || at == 2);
        assert_eq!(made[1].waits, [0]);
        assert!(made[2].waits.is_empty() && made[2].clock == [1, 1, 0]);
    }

    /// Which have ended when each begins, by the waits alone and step by step.
    fn ended(given: &[Given], turns: &[Turn]) -> Vec<Vec<bool>> {
        let mut ended: Vec<Vec<bool>> = Vec::new();
        let mut host = vec![false; given.len()];
        for (at, turn) in turns.iter().enumerate() {
            let before = (0..at).rev().find(|&e| given[e].stream == given[at].stream);
            let mut known = host.clone();
            for behind in before.into_iter().chain(turn.waits.iter().copied()) {
                known[behind] = true;
                ended[behind].iter().enumerate().for_each(|(e, yes)| known[e] |= yes);
            }
            if given[at].awaited {
                known.iter().enumerate().for_each(|(e, yes)| host[e] |= yes);
                host[at] = true;
            }
            ended.push(known);
        }
        ended
    }

    #[test]
    fn every_need_is_kept_no_wait_is_spare_and_clocks_tell_what_has_ended() {
        let mut g = Gen::new(17);
        let mut waits = 0;
        for _ in 0..400 {
            let count = g.size(1, 20);
            let given: Vec<Given> =
                (0..count).map(|_| Given { stream: g.size(0, 3), awaited: g.chance(0.1) }).collect();
            let needs: Vec<Vec<usize>> =
                (0..count).map(|at| (0..g.size(0, 3).min(at)).map(|_| g.size(0, at - 1)).collect()).collect();
            let made = turns(&given, |at, earlier| needs[at].contains(&earlier));
            let kept = |turns: &[Turn]| {
                let ended = ended(&given, turns);
                needs.iter().enumerate().all(|(at, of)| of.iter().all(|&n| ended[at][n]))
            };
            assert!(kept(&made));
            for (at, known) in ended(&given, &made).iter().enumerate() {
                for (earlier, known) in known[..at].iter().enumerate() {
                    let told = made[at].clock[given[earlier].stream] > made[earlier].place;
                    assert_eq!(told, *known, "{earlier} before {at}");
                }
                for wait in 0..made[at].waits.len() {
                    let mut fewer = made.clone();
                    fewer[at].waits.remove(wait);
                    assert!(!kept(&fewer), "a wait too many");
                    waits += 1;
                }
            }
        }
        assert!(waits > 300, "{waits} waits were drawn");
    }
}
