//! Judges a schedule against the instance document, from the text of the format alone.
//!
//! Works on names' indices and plain vectors, and shares neither tables nor code with the planners, so that a
//! fault in a planner's bookkeeping cannot hide itself; only that the document is well formed is asked of
//! [`crate::Problem::new`]. O(n log n) in tasks, transfers and reads.

use std::collections::{BTreeMap, HashMap};

use crate::instance::{Instance, WeightBytes};
use crate::schedule::Schedule;

/// What a valid schedule amounts to.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// End of the last task or needed transfer.
    pub makespan: f64,
    /// Peak bytes of each memory, in the order of the document.
    pub peak_bytes: Vec<u64>,
}

/// Why a schedule is not valid.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Violation {
    /// The schedule is for another number of tasks, or names something that does not exist.
    #[error("the schedule does not belong to the instance")]
    Foreign,
    /// A task is on a processor that cannot run it.
    #[error("task {task:?} cannot run where it is")]
    Unable {
        /// The task.
        task: String,
    },
    /// An interval is not finite, negative or not as long as it must be.
    #[error("the interval of {what:?} is wrong")]
    Interval {
        /// Task or tensor.
        what: String,
    },
    /// Two things overlap in one place.
    #[error("{first:?} and {second:?} overlap on {place:?}")]
    Overlap {
        /// The earlier.
        first: String,
        /// The later.
        second: String,
        /// Unit or channel.
        place: String,
    },
    /// A transfer without a link, without a source, or of a tensor that is there already.
    #[error("the transfer of {tensor:?} is impossible")]
    Transfer {
        /// The tensor.
        tensor: String,
    },
    /// A task starts before an input is in its memory.
    #[error("task {task:?} starts before {tensor:?} is there")]
    Early {
        /// The task.
        task: String,
        /// The input.
        tensor: String,
    },
    /// A tensor is not where it is needed.
    #[error("tensor {tensor:?} does not reach {memory:?}")]
    Missing {
        /// The tensor.
        tensor: String,
        /// The memory.
        memory: String,
    },
    /// A memory overflows.
    #[error("memory {memory:?} needs {peak} bytes of {capacity}")]
    Overflow {
        /// The memory.
        memory: String,
        /// Its peak.
        peak: u64,
        /// Its capacity.
        capacity: u64,
    },
    /// The schedule states another makespan than it has.
    #[error("the makespan is {found}, not {stated}")]
    Makespan {
        /// What the intervals give.
        found: f64,
        /// What the schedule states.
        stated: f64,
    },
}

/// Begin and arrival of every copy, by tensor and memory.
type Copies = HashMap<(usize, usize), (f64, f64)>;

/// An interval of one thing in one place.
type Span<'a> = (f64, f64, &'a str);

impl Schedule {
    /// Judges this schedule, to the last bit: no tolerance.
    pub fn validate(&self, instance: &Instance) -> Result<Verdict, Violation> {
        let machine = &instance.machine;
        let memory: HashMap<&str, usize> =
            machine.memories.iter().enumerate().map(|(i, m)| (&*m.name, i)).collect();
        let tensor: HashMap<&str, usize> =
            instance.tensors.iter().enumerate().map(|(i, t)| (&*t.name, i)).collect();
        if self.runs.len() != instance.tasks.len() || crate::Problem::new(instance).is_err() {
            return Err(Violation::Foreign);
        }
        let place: Vec<usize> = self.places(instance, &memory)?;
        let mut first: Vec<(usize, f64, f64)> = Vec::new(); // memory, begin, ready
        for t in &instance.tensors {
            first.push((t.home.as_ref().map_or(0, |h| memory[&**h]), 0.0, 0.0));
        }
        let mut readers: Vec<Vec<usize>> = vec![Vec::new(); instance.tensors.len()];
        for (t, task) in instance.tasks.iter().enumerate() {
            for x in &task.writes {
                first[tensor[&**x]] = (place[t], self.runs[t].start, self.runs[t].finish);
            }
            for x in &task.reads {
                readers[tensor[&**x]].push(t);
            }
        }
        self.check_units(instance)?;
        let there = self.check_transfers(instance, &memory, &first)?;
        for (t, task) in instance.tasks.iter().enumerate() {
            for x in &task.reads {
                let ready = there.get(&(tensor[&**x], place[t])).map(|c| c.1);
                if ready.is_none_or(|r| self.runs[t].start < r) {
                    return Err(Violation::Early { task: task.name.clone(), tensor: x.clone() });
                }
            }
        }
        let mut makespan = self.runs.iter().map(|r| r.finish).fold(0.0, f64::max);
        for (x, t) in instance.tensors.iter().enumerate() {
            for m in &t.needed_in {
                let Some(copy) = there.get(&(x, memory[&**m])) else {
                    return Err(Violation::Missing { tensor: t.name.clone(), memory: m.clone() });
                };
                makespan = makespan.max(copy.1);
            }
        }
        if makespan != self.makespan {
            return Err(Violation::Makespan { found: makespan, stated: self.makespan });
        }
        let peak_bytes = self.peaks(instance, &place, &there, &readers, makespan);
        for (m, &peak) in machine.memories.iter().zip(&peak_bytes) {
            if let Some(capacity) = m.capacity.filter(|&c| peak > c) {
                return Err(Violation::Overflow { memory: m.name.clone(), peak, capacity });
            }
        }
        Ok(Verdict { makespan, peak_bytes })
    }

    /// The memory of each task, with its cost and interval checked.
    fn places(&self, instance: &Instance, memory: &HashMap<&str, usize>) -> Result<Vec<usize>, Violation> {
        let mut place = Vec::new();
        for (task, run) in instance.tasks.iter().zip(&self.runs) {
            let processor = instance.machine.processors.get(run.processor as usize);
            let processor = processor.ok_or(Violation::Foreign)?;
            let Some(Some(cost)) = task.cost_us.get(run.processor as usize) else {
                return Err(Violation::Unable { task: task.name.clone() });
            };
            if !(run.start >= 0.0 && run.finish.is_finite() && run.finish == run.start + cost) {
                return Err(Violation::Interval { what: task.name.clone() });
            }
            place.push(memory[&*processor.memory]);
        }
        Ok(place)
    }

    fn check_units(&self, instance: &Instance) -> Result<(), Violation> {
        let mut units: BTreeMap<&str, Vec<Span<'_>>> = BTreeMap::new();
        for (task, run) in instance.tasks.iter().zip(&self.runs) {
            let processor = &instance.machine.processors[run.processor as usize];
            let own = std::slice::from_ref(&processor.name);
            for unit in processor.units.as_deref().filter(|u| !u.is_empty()).unwrap_or(own) {
                units.entry(unit).or_default().push((run.start, run.finish, &task.name));
            }
        }
        units.into_iter().try_for_each(|(unit, spans)| apart(spans, unit))
    }

    /// Checks transfers in the order of their start; returns begin and arrival of every copy.
    fn check_transfers(
        &self,
        instance: &Instance,
        memory: &HashMap<&str, usize>,
        first: &[(usize, f64, f64)],
    ) -> Result<Copies, Violation> {
        let mut there: Copies =
            first.iter().enumerate().map(|(x, &(m, begin, ready))| ((x, m), (begin, ready))).collect();
        let mut channels: BTreeMap<&str, Vec<Span<'_>>> = BTreeMap::new();
        for m in &self.transfers {
            let (x, from, to) = (m.tensor as usize, m.from as usize, m.to as usize);
            let tensor = instance.tensors.get(x).ok_or(Violation::Foreign)?;
            let link =
                instance.machine.links.iter().find(|l| memory[&*l.from] == from && memory[&*l.to] == to);
            let source = there.get(&(x, from));
            let (Some(link), Some(source)) = (link, source) else {
                return Err(Violation::Transfer { tensor: tensor.name.clone() });
            };
            if there.contains_key(&(x, to)) || m.start < source.1 {
                return Err(Violation::Transfer { tensor: tensor.name.clone() });
            }
            let streamed = link.latency_us + tensor.bytes as f64 / link.bytes_per_us;
            let length = tensor.transfer_us.unwrap_or(streamed);
            if !(m.finish.is_finite() && m.finish == m.start + length) {
                return Err(Violation::Interval { what: tensor.name.clone() });
            }
            there.insert((x, to), (m.start, m.finish));
            if let Some(channel) = &link.channel {
                channels.entry(channel).or_default().push((m.start, m.finish, &tensor.name));
            }
        }
        channels.into_iter().try_for_each(|(channel, spans)| apart(spans, channel))?;
        Ok(there)
    }

    /// Peak bytes of every memory: weights placed there, plus the largest sum of storages and workspaces alive.
    fn peaks(
        &self,
        instance: &Instance,
        place: &[usize],
        there: &Copies,
        readers: &[Vec<usize>],
        makespan: f64,
    ) -> Vec<u64> {
        let memories = &instance.machine.memories;
        let mut live: Vec<Vec<(f64, f64, u64, String)>> = vec![Vec::new(); memories.len()];
        let mut moved: HashMap<usize, Vec<(usize, f64)>> = HashMap::new();
        for v in &self.transfers {
            moved.entry(v.tensor as usize).or_default().push((v.from as usize, v.finish));
        }
        for (&(x, m), &(begin, ready)) in there {
            let tensor = &instance.tensors[x];
            let local = readers[x].iter().filter(|&&t| place[t] == m).map(|&t| self.runs[t].finish);
            let moves = moved.get(&x).map_or(&[][..], Vec::as_slice);
            let out = moves.iter().filter(|v| v.0 == m).map(|v| v.1);
            let unused = readers[x].is_empty() && moves.is_empty();
            let end = if unused || tensor.needed_in.contains(&memories[m].name) {
                makespan
            } else {
                local.chain(out).fold(ready, f64::max)
            };
            let class = match &tensor.storage {
                Some(s) => format!("storage {s}"),
                None => format!("tensor {}", tensor.name),
            };
            live[m].push((begin, end, tensor.bytes, class));
        }
        for (t, task) in instance.tasks.iter().enumerate().filter(|(_, t)| t.workspace_bytes > 0) {
            let class = format!("workspace {}", task.name);
            live[place[t]].push((self.runs[t].start, self.runs[t].finish, task.workspace_bytes, class));
        }
        let weight: HashMap<&str, &WeightBytes> =
            instance.weights.iter().map(|w| (&*w.name, &w.bytes)).collect();
        let mut peaks = Vec::new();
        for (m, memory) in memories.iter().enumerate() {
            let used = instance.tasks.iter().zip(place).filter(|&(_, &p)| p == m);
            let used: std::collections::BTreeSet<&str> =
                used.flat_map(|(t, _)| t.weights.iter().map(|w| &**w)).collect();
            let constant: u64 = used
                .iter()
                .map(|w| match weight[w] {
                    WeightBytes::Same(b) => *b,
                    WeightBytes::PerMemory(map) => map.get(&memory.name).copied().unwrap_or(0),
                })
                .sum();
            peaks.push(constant + most_alive(&live[m]));
        }
        peaks
    }
}

/// Half-open intervals in one place must not overlap; those of no length take no place.
fn apart(mut spans: Vec<Span<'_>>, place: &str) -> Result<(), Violation> {
    spans.retain(|s| s.0 < s.1);
    spans.sort_by(|a, b| a.0.total_cmp(&b.0));
    match spans.windows(2).find(|w| w[1].0 < w[0].1) {
        None => Ok(()),
        Some(w) => Err(Violation::Overlap {
            first: w[0].2.to_owned(),
            second: w[1].2.to_owned(),
            place: place.to_owned(),
        }),
    }
}

/// The largest sum over instants of the largest interval alive of each class; an interval of no length counts at
/// its instant.
fn most_alive(live: &[(f64, f64, u64, String)]) -> u64 {
    // At one instant ends come first, then the intervals that last, then those of no length in and out.
    let mut events: Vec<(f64, u8, usize)> = Vec::new();
    for (i, l) in live.iter().enumerate() {
        if l.0 < l.1 {
            events.extend([(l.1, 0, i), (l.0, 1, i)]);
        } else {
            events.extend([(l.0, 2, i), (l.0, 3, i)]);
        }
    }
    events.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut alive: HashMap<&str, Vec<u64>> = HashMap::new();
    let (mut sum, mut top) = (0u64, 0u64);
    for (_, kind, i) in events {
        let class = alive.entry(&live[i].3).or_default();
        let before = class.iter().copied().max().unwrap_or(0);
        if kind == 1 || kind == 2 {
            class.push(live[i].2);
        } else if let Some(at) = class.iter().position(|&b| b == live[i].2) {
            class.swap_remove(at);
        }
        let after = class.iter().copied().max().unwrap_or(0);
        sum = sum - before + after;
        top = top.max(sum);
    }
    top
}
