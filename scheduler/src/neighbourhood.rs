//! Moves that local search draws from, most of them at the critical path.
//!
//! The critical path runs back from the item that ends the schedule through items that finish exactly when the
//! next one starts, either an input or the item before on the same unit or channel. Only a change of some item on
//! it can shorten the schedule. Drawn are: another processor for a task, with or without another position;
//! another position within the window that dependencies leave; a run of tasks along a path to one processor; two
//! tasks trading processors; another position for a transfer.

use crate::incremental::{Eagerness, Move};
use crate::problem::NONE;
use crate::random::Random;
use crate::sequence::{GANG, Item, Sequence};

/// Draws moves; keeps the critical path of the present sequence.
#[derive(Debug, Clone)]
pub(crate) struct Neighbourhood {
    critical: Vec<Item>,
    /// Item before each item on its unit or channel.
    previous: Vec<Item>,
    /// Latest item of each unit and channel.
    latest: Vec<Item>,
    reassign: Vec<(u32, u32)>,
}

impl Neighbourhood {
    pub(crate) fn new() -> Self {
        Self { critical: Vec::new(), previous: Vec::new(), latest: Vec::new(), reassign: Vec::new() }
    }

    /// Finds a critical path, at random where several inputs bind. O(items + reads on the path).
    pub(crate) fn look(&mut self, s: &Sequence<'_>, random: &mut Random) {
        self.critical.clear();
        self.link(s);
        let mut at = last(s);
        while let Some(item) = at {
            self.critical.push(item as u32);
            let (ready, by) = binding_input(s, item, random);
            let before = self.previous[item];
            let free = if before == NONE { 0.0 } else { s.finish[before as usize] };
            at = if ready.max(free) == 0.0 {
                None
            } else if free > ready || (free == ready && random.below(2) == 0) {
                Some(before as usize)
            } else {
                by
            };
        }
    }

    /// Finds the item before each item on its unit or channel, the later one for gangs.
    fn link(&mut self, s: &Sequence<'_>) {
        self.previous.resize(s.position.len(), NONE);
        self.latest.clear();
        self.latest.resize(s.problem.unit_count + s.problem.channel_count, NONE);
        for &item in &s.order {
            let at = item as usize;
            let resource = s.steps[at].resource;
            self.previous[at] = if let Some(latest) = self.latest.get_mut(resource as usize) {
                std::mem::replace(latest, item)
            } else if resource == GANG {
                let mut before = NONE;
                for &u in s.problem.units.row(s.to[at] as usize) {
                    let other = std::mem::replace(&mut self.latest[u as usize], item);
                    let later = || other != NONE && s.finish[other as usize] > s.finish[before as usize];
                    if before == NONE || later() {
                        before = other;
                    }
                }
                before
            } else {
                NONE
            };
        }
    }

    /// Draws a move; `None` where the draw has none.
    pub(crate) fn draw(&mut self, s: &Sequence<'_>, random: &mut Random) -> Option<Move<'_>> {
        self.reassign.clear();
        let critical = !self.critical.is_empty() && random.below(8) > 0;
        let item = if critical {
            self.critical[random.below(self.critical.len())] as usize
        } else {
            s.order[random.below(s.order.len())] as usize
        };
        let eagerness = if random.below(3) == 0 { Eagerness::Lazy } else { Eagerness::Eager };
        let mut shift = None;
        if item >= s.tasks {
            let (x, m) = s.moves(item);
            // The path may be older than the latest move.
            if s.moved[x] >> m & 1 == 0 {
                return None;
            }
            if random.below(2) == 0 {
                let to = within(s, item, window_of_transfer(s, x, m), random)?;
                shift = Some((item as u32, to));
            } else {
                // The writer and a reader come together.
                let writer = s.problem.writer[x];
                let readers = s.problem.readers.row(x);
                let reader = *readers.get(random.below(readers.len()))?;
                if writer == NONE || random.below(2) == 0 {
                    let place = if writer == NONE {
                        any_lane(s, s.home[x] as usize, random)
                    } else {
                        s.to[writer as usize]
                    };
                    self.run(s, reader as usize, place, random);
                } else {
                    self.run(s, writer as usize, s.to[reader as usize], random);
                }
            }
        } else {
            match random.below(8) {
                0 | 1 => self.reassign.push((item as u32, other(s, item, random)?)),
                2 | 3 => {
                    let to = within(s, item, window_of_task(s, item), random)?;
                    shift = Some((item as u32, to));
                    self.reassign.push((item as u32, other(s, item, random)?));
                }
                4 => {
                    let to = within(s, item, window_of_task(s, item), random)?;
                    shift = Some((item as u32, to));
                }
                5 | 6 => self.run(s, item, other(s, item, random)?, random),
                _ => {
                    // Trade processors with a task nearby.
                    let at = s.position[item] as usize;
                    let near = (at + random.below(33)).checked_sub(16)?;
                    let partner = *s.order.get(near)? as usize;
                    if partner >= s.tasks || s.to[partner] == s.to[item] {
                        return None;
                    }
                    self.reassign.push((item as u32, s.to[partner]));
                    self.reassign.push((partner as u32, s.to[item]));
                }
            }
        }
        let able = |&(t, p): &(u32, u32)| s.problem.cost(t as usize, p as usize) < f64::INFINITY;
        if !self.reassign.iter().all(able) || (self.reassign.is_empty() && shift.is_none()) {
            return None;
        }
        Some(Move { reassign: &self.reassign, shift, eagerness })
    }

    /// Draws a move of a group of tasks to the processors of another memory, or to one processor.
    pub(crate) fn draw_group(
        &mut self,
        s: &Sequence<'_>,
        groups: &[Vec<u32>],
        random: &mut Random,
    ) -> Option<Move<'_>> {
        self.reassign.clear();
        let group = groups.get(random.below(groups.len()))?;
        let memory = random.below(s.problem.memory_count());
        let one = any_lane(s, memory, random);
        let spread = random.below(2) == 0;
        for &t in group {
            let p = if spread { any_lane(s, memory, random) } else { one };
            let stays = spread && s.memory(t as usize) == memory;
            if s.problem.cost(t as usize, p as usize) < f64::INFINITY && s.to[t as usize] != p && !stays {
                self.reassign.push((t, p));
            }
        }
        let eagerness = if random.below(2) == 0 { Eagerness::Lazy } else { Eagerness::Eager };
        (!self.reassign.is_empty()).then_some(Move { reassign: &self.reassign, shift: None, eagerness })
    }

    /// A run of tasks from `task` on along a path, forwards or backwards, to processor `p`.
    fn run(&mut self, s: &Sequence<'_>, task: usize, p: u32, random: &mut Random) {
        let forwards = random.below(2) == 0;
        let from = s.to[task];
        let mut length = 1 + random.below(3);
        if random.below(4) == 0 {
            length += random.below(16);
        }
        let mut at = task;
        for _ in 0..length {
            if s.to[at] != p && s.problem.cost(at, p as usize) < f64::INFINITY {
                self.reassign.push((at as u32, p));
            }
            let next = if forwards { successor(s, at, random) } else { predecessor(s, at, random) };
            match next {
                // The run ends where the tasks are already elsewhere.
                Some(next) if s.to[next] == from || random.below(4) == 0 => at = next,
                _ => break,
            }
        }
        self.reassign.sort_unstable();
        self.reassign.dedup();
    }
}

/// The item that ends the schedule.
fn last(s: &Sequence<'_>) -> Option<usize> {
    let ends = |item: &usize| s.finish[*item] == s.makespan;
    let needed = || s.sources[s.needed..].iter().map(|&item| item as usize).find(ends);
    (0..s.tasks).find(ends).or_else(needed).filter(|&item| item < s.position.len())
}

/// When the last input is there, and the item that brings it.
fn binding_input(s: &Sequence<'_>, item: usize, random: &mut Random) -> (f64, Option<usize>) {
    let sources = s.sources_of(item);
    let mut latest = (0.0, None);
    for &source in sources {
        let there = s.finish[source as usize];
        // A transfer has one source, and nothing is drawn for it.
        if item >= s.tasks || there > latest.0 || (there == latest.0 && random.below(2) == 0) {
            latest = (there, Some(source as usize).filter(|&source| source < s.position.len()));
        }
    }
    latest
}

/// A processor other than the present one that can run the task.
fn other(s: &Sequence<'_>, task: usize, random: &mut Random) -> Option<u32> {
    let count = s.problem.processor_count();
    if count < 2 {
        return None;
    }
    let p = (s.to[task] + 1 + random.below(count - 1) as u32) % count as u32;
    (s.problem.cost(task, p as usize) < f64::INFINITY).then_some(p)
}

/// Some processor of a memory, the first processor where it has none.
fn any_lane(s: &Sequence<'_>, memory: usize, random: &mut Random) -> u32 {
    let lanes = s.problem.lanes.row(memory);
    lanes.get(random.below(lanes.len())).copied().unwrap_or(0)
}

fn successor(s: &Sequence<'_>, task: usize, random: &mut Random) -> Option<usize> {
    let writes = s.problem.writes.row(task);
    let readers = s.problem.readers.row(*writes.get(random.below(writes.len()))? as usize);
    readers.get(random.below(readers.len())).map(|&r| r as usize)
}

fn predecessor(s: &Sequence<'_>, task: usize, random: &mut Random) -> Option<usize> {
    let reads = s.problem.reads.row(task);
    let x = *reads.get(random.below(reads.len()))? as usize;
    (s.problem.writer[x] != NONE).then(|| s.problem.writer[x] as usize)
}

/// Positions before which a task may go: behind its writers, before its readers.
fn window_of_task(s: &Sequence<'_>, task: usize) -> (u32, u32) {
    let writers = s.problem.reads.row(task).iter().map(|&x| s.problem.writer[x as usize]);
    let low = writers.filter(|&w| w != NONE).map(|w| s.position[w as usize] + 1).max().unwrap_or(0);
    let readers = s.problem.writes.row(task).iter().flat_map(|&x| s.problem.readers.row(x as usize));
    (low, readers.map(|&r| s.position[r as usize]).min().unwrap_or(s.order.len() as u32))
}

/// Positions before which a transfer may go: behind its source, before what uses the copy.
fn window_of_transfer(s: &Sequence<'_>, x: usize, m: usize) -> (u32, u32) {
    let from = s.source(x, m);
    let low = match s.problem.writer[x] {
        _ if s.home[x] as usize != from => s.position[s.transfer(x, from)] + 1,
        NONE => 0,
        w => s.position[w as usize] + 1,
    };
    let local = s.problem.readers.row(x).iter().filter(|&&r| s.memory(r as usize) == m);
    let mut high = local.map(|&r| s.position[r as usize]).min().unwrap_or(s.order.len() as u32);
    let mut copies = s.moved[x];
    while copies != 0 {
        let b = copies.trailing_zeros() as usize;
        copies &= copies - 1;
        if b != m && s.source(x, b) == m {
            high = high.min(s.position[s.transfer(x, b)]);
        }
    }
    (low, high)
}

/// A position of the window other than where the item is, near ones more often.
fn within(s: &Sequence<'_>, item: usize, (low, high): (u32, u32), random: &mut Random) -> Option<u32> {
    let at = s.position[item];
    let (low, high) =
        if random.below(2) == 0 { (low.max(at.saturating_sub(12)), high.min(at + 13)) } else { (low, high) };
    if high < low {
        return None;
    }
    let to = low + random.below((high - low) as usize + 1) as u32;
    (to != at && to != at + 1).then_some(to)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::Neighbourhood;
    use crate::generate::{Layered, layered, small};
    use crate::incremental::Move;
    use crate::random::Random;
    use crate::sequence::Sequence;
    use crate::{Algorithm, Instance, Problem};

    /// Thousands of moves, kept or undone at random: the incremental times are those of a full evaluation and of
    /// the discrete-event replay, and an undone move leaves no trace.
    fn walk(instance: &Instance, seed: u64, moves: usize) {
        let problem = Problem::new(instance).unwrap();
        let Some(start) = Algorithm::HeftLinks.schedule(&problem) else { return };
        let mut random = Random::new(seed);
        let mut s = Sequence::new(&problem, &start);
        assert_eq!(s.makespan, start.makespan);
        let mut n = Neighbourhood::new();
        for i in 0..moves {
            if i % 4 == 0 {
                n.look(&s, &mut random);
            }
            let before = (s.to.clone(), s.order.clone(), s.moved.clone(), s.home.clone(), s.makespan);
            let limit = if random.below(2) == 0 { f64::INFINITY } else { s.makespan * 1.05 };
            let Some(Move { reassign, shift, eagerness }) = n.draw(&s, &mut random) else { continue };
            match s.attempt(Move { reassign, shift, eagerness }, limit) {
                Some(makespan) if random.below(3) > 0 => {
                    s.keep();
                    assert_eq!(s.makespan, makespan);
                    let full = s.schedule();
                    assert_eq!(full.makespan, makespan, "move {i}");
                    full.runs.iter().zip(&s.finish).for_each(|(run, &f)| assert_eq!(run.finish, f));
                    if i % 16 == 0 {
                        full.validate(&uncapped(instance)).unwrap();
                        assert_eq!(full.replay(&problem), full);
                    }
                }
                _ => {
                    s.undo();
                    let after = (s.to.clone(), s.order.clone(), s.moved.clone(), s.home.clone(), s.makespan);
                    assert_eq!(before, after);
                    let full = s.schedule();
                    full.runs.iter().zip(&s.finish).for_each(|(run, &f)| assert_eq!(run.finish, f));
                }
            }
        }
    }

    fn uncapped(instance: &Instance) -> Instance {
        let mut instance = instance.clone();
        instance.machine.memories.iter_mut().for_each(|m| m.capacity = None);
        instance
    }

    #[test]
    fn incremental_equals_full_on_small_instances() {
        for seed in 0..60 {
            walk(&small(seed, 4 + seed as usize % 20), seed, 300);
        }
    }

    #[test]
    fn incremental_equals_full_with_relays() {
        // Three memories in a row: what goes from one end to the other is relayed.
        for seed in 0..20 {
            let mut instance = small(seed, 12);
            let machine = &mut instance.machine;
            machine.memories.push(crate::Memory { name: "gpu1".to_owned(), capacity: None });
            let processor =
                crate::Processor { name: "far".to_owned(), memory: "gpu1".to_owned(), units: None };
            machine.processors.push(processor);
            for (from, to) in [("gpu0", "gpu1"), ("gpu1", "gpu0")] {
                let mut link = machine.links[0].clone();
                (link.from, link.to) = (from.to_owned(), to.to_owned());
                link.channel = Some("peer".to_owned());
                machine.links.push(link);
            }
            for task in &mut instance.tasks {
                let last = task.cost_us.iter().flatten().copied().next();
                task.cost_us.push(last);
            }
            walk(&instance, seed, 400);
        }
    }

    #[test]
    fn incremental_equals_full_on_a_large_instance() {
        let spec = Layered { tasks: 300, edges: 900, cpus: 3, gpus: 1, seed: 5 };
        walk(&layered(spec), 1, 400);
    }
}
