//! From document to flat tables: every check that a schedule later relies on.

use std::collections::HashMap;

use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use crate::csr::Csr;
use crate::error::{Error, Kind};
use crate::instance::{Instance, VERSION, WeightBytes};
use crate::problem::{NONE, Names, Problem};
use crate::routes::{Direct, Routes};

/// Largest sum of all times and of all sizes: sums up to it are exact in `f64` and far from overflow in `u64`.
const SUM_LIMIT: u64 = 1 << 52;
/// Most tensors that one task may read or write, and most readers of one tensor.
const DEGREE_LIMIT: usize = 1 << 16;
/// Most tasks, tensors or weights.
const COUNT_LIMIT: usize = 1 << 22;
/// Most memories: sets of memories are bit masks.
const MEMORY_LIMIT: usize = 64;

type Index<'a> = HashMap<&'a str, u32>;

impl Problem {
    /// Checks an instance and lays it out in flat tables.
    ///
    /// # Returns
    /// The problem, or the first fault found: unknown and repeated names, numbers out of range, two writers, a
    /// cycle, a task that can run nowhere, sums that overflow.
    ///
    /// # Complexity
    /// O(tasks · processors + reads + writes + memories³).
    pub fn new(instance: &Instance) -> Result<Self, Error> {
        if instance.version != VERSION {
            return Err(Error::Version { found: instance.version, supported: VERSION });
        }
        let machine = &instance.machine;
        limit("memories", "machine", machine.memories.len(), MEMORY_LIMIT)?;
        limit("processors", "machine", machine.processors.len(), 1 << 12)?;
        for (quantity, count) in [
            ("tasks", instance.tasks.len()),
            ("tensors", instance.tensors.len()),
            ("weights", instance.weights.len()),
        ] {
            limit(quantity, "instance", count, COUNT_LIMIT)?;
        }
        let memory_index = index(Kind::Memory, machine.memories.iter().map(|m| &*m.name))?;
        let tensor_index = index(Kind::Tensor, instance.tensors.iter().map(|t| &*t.name))?;
        let weight_index = index(Kind::Weight, instance.weights.iter().map(|w| &*w.name))?;
        index(Kind::Task, instance.tasks.iter().map(|t| &*t.name))?;
        index(Kind::Processor, machine.processors.iter().map(|p| &*p.name))?;
        let (m, x, n) = (machine.memories.len(), instance.tensors.len(), instance.tasks.len());

        let mut units = Vec::new();
        let mut unit_names: Vec<String> = Vec::new();
        let mut unit_index: Index<'_> = HashMap::new();
        let mut memory_of = Vec::new();
        for (p, processor) in machine.processors.iter().enumerate() {
            memory_of.push(lookup(&memory_index, Kind::Memory, &processor.memory, &processor.name)?);
            let own = std::slice::from_ref(&processor.name);
            let listed = processor.units.as_deref().filter(|u| !u.is_empty()).unwrap_or(own);
            let mut seen = Vec::new();
            for unit in listed {
                let u = *unit_index.entry(unit).or_insert_with(|| {
                    unit_names.push(unit.clone());
                    unit_names.len() as u32 - 1
                });
                if !seen.contains(&u) {
                    seen.push(u);
                    units.push((p as u32, u));
                }
            }
        }
        let lanes: Vec<(u32, u32)> = memory_of.iter().enumerate().map(|(p, &m)| (m, p as u32)).collect();
        let mut channels = Vec::new();
        let routes = routes(instance, &memory_index, &mut channels)?;

        let mut writer = vec![NONE; x];
        let (mut reads, mut writes, mut readers, mut weights) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (t, task) in instance.tasks.iter().enumerate() {
            limit("tensors read", &task.name, task.reads.len(), DEGREE_LIMIT)?;
            limit("tensors written", &task.name, task.writes.len(), DEGREE_LIMIT)?;
            limit("weights", &task.name, task.weights.len(), DEGREE_LIMIT)?;
            let t = t as u32;
            for w in &task.writes {
                let w = lookup(&tensor_index, Kind::Tensor, w, &task.name)?;
                match writer[w as usize] {
                    NONE => writes.push((t, w)),
                    same if same == t => continue,
                    other => {
                        return Err(Error::TwoWriters {
                            tensor: instance.tensors[w as usize].name.clone(),
                            first: instance.tasks[other as usize].name.clone(),
                            second: task.name.clone(),
                        });
                    }
                }
                writer[w as usize] = t;
            }
            distinct(&tensor_index, Kind::Tensor, &task.reads, &task.name, |r| {
                reads.push((t, r));
                readers.push((r, t));
            })?;
            distinct(&weight_index, Kind::Weight, &task.weights, &task.name, |w| weights.push((t, w)))?;
        }
        let readers = Csr::from_pairs(x, &readers);
        for (r, tensor) in instance.tensors.iter().enumerate() {
            limit("readers", &tensor.name, readers.row(r).len(), DEGREE_LIMIT)?;
        }

        let mut storage_index: Index<'_> = HashMap::new();
        let mut storage_count = 0u32;
        let (mut home, mut storage, mut needed) = (Vec::new(), Vec::new(), Vec::new());
        for (i, tensor) in instance.tensors.iter().enumerate() {
            home.push(match &tensor.home {
                Some(name) => lookup(&memory_index, Kind::Memory, name, &tensor.name)?,
                None if m == 0 => {
                    let name = String::from("(first)");
                    return Err(Error::Unknown { kind: Kind::Memory, name, user: tensor.name.clone() });
                }
                None => 0,
            });
            distinct(&memory_index, Kind::Memory, &tensor.needed_in, &tensor.name, |m| {
                needed.push((i as u32, m));
            })?;
            let mut fresh = || {
                storage_count += 1;
                storage_count - 1
            };
            storage.push(match &tensor.storage {
                Some(name) => *storage_index.entry(name).or_insert_with(fresh),
                None => fresh(),
            });
        }
        let mut weight_bytes = vec![0; instance.weights.len() * m];
        for (w, weight) in instance.weights.iter().enumerate() {
            match &weight.bytes {
                WeightBytes::Same(b) => weight_bytes[w * m..(w + 1) * m].fill(*b),
                WeightBytes::PerMemory(map) => {
                    for (name, b) in map {
                        let at = lookup(&memory_index, Kind::Memory, name, &weight.name)? as usize;
                        weight_bytes[w * m + at] = *b;
                    }
                }
            }
        }
        let reads = Csr::from_pairs(n, &reads);
        let topological = topological(instance, &reads, &readers, &writer)?;
        let mut problem = Self {
            names: Names {
                memories: machine.memories.iter().map(|m| m.name.clone()).collect(),
                processors: machine.processors.iter().map(|p| p.name.clone()).collect(),
                channels,
                tensors: instance.tensors.iter().map(|t| t.name.clone()).collect(),
                weights: instance.weights.iter().map(|w| w.name.clone()).collect(),
                tasks: instance.tasks.iter().map(|t| t.name.clone()).collect(),
                units: Vec::new(),
            },
            cost: costs(instance)?,
            units: Csr::from_pairs(memory_of.len(), &units),
            lanes: Csr::from_pairs(m, &lanes),
            memory_of,
            unit_count: unit_names.len(),
            channel_count: 0,
            capacity: machine.memories.iter().map(|m| m.capacity).collect(),
            routes,
            reads,
            writes: Csr::from_pairs(n, &writes),
            readers,
            needed: Csr::from_pairs(x, &needed),
            writer,
            home,
            tensor_bytes: instance.tensors.iter().map(|t| t.bytes).collect(),
            transfer_us: instance.tensors.iter().map(|t| t.transfer_us.unwrap_or(f64::NAN)).collect(),
            storage,
            storage_count: storage_count as usize,
            weights: Csr::from_pairs(n, &weights),
            weight_bytes,
            workspace: instance.tasks.iter().map(|t| t.workspace_bytes).collect(),
            topological,
        };
        drop(unit_index);
        problem.names.units = unit_names;
        problem.channel_count = problem.names.channels.len();
        problem.check_sums(instance)?;
        problem.close_processors()?;
        Ok(problem)
    }

    /// Sums of times and sizes stay where they are exact.
    fn check_sums(&self, instance: &Instance) -> Result<(), Error> {
        let mut time = 0.0;
        for task in &instance.tasks {
            time += task.cost_us.iter().flatten().copied().fold(0.0, f64::max);
        }
        let m = self.memory_count();
        for x in 0..self.tensor_count() {
            let mut longest = 0.0f64;
            for a in 0..m {
                for b in (0..m).filter(|&b| self.routes.direct(a, b).is_some()) {
                    longest = longest.max(self.hop(x, a, b));
                }
            }
            time += longest * m as f64;
        }
        if time.is_nan() || time > SUM_LIMIT as f64 {
            return Err(Error::Overflow { quantity: "times", limit: SUM_LIMIT });
        }
        let all = self.tensor_bytes.iter().chain(&self.weight_bytes).chain(&self.workspace);
        let bytes: u128 = all.map(|&b| u128::from(b)).sum();
        if bytes > u128::from(SUM_LIMIT) {
            return Err(Error::Overflow { quantity: "sizes", limit: SUM_LIMIT });
        }
        Ok(())
    }

    /// Strikes out processors from which a task could not reach its inputs or its readers, until none is left
    /// to strike (arc consistency), so that a list scheduler seldom meets a dead end.
    fn close_processors(&mut self) -> Result<(), Error> {
        let (n, m, p) = (self.task_count(), self.memory_count(), self.processor_count());
        let full = (0..m).all(|a| (0..m).all(|b| self.routes.reaches(a, b)));
        let memories = |problem: &Self, t: usize| -> u64 {
            (0..p).filter(|&q| problem.cost(t, q).is_finite()).fold(0, |s, q| s | 1 << problem.memory_of(q))
        };
        let mut possible: Vec<u64> = (0..n).map(|t| memories(self, t)).collect();
        let mut again = !full;
        while again {
            again = false;
            for t in 0..n {
                let keep = (0..m).filter(|&b| possible[t] >> b & 1 == 1 && self.is_open(t, b, &possible));
                let keep = keep.fold(0u64, |s, b| s | 1 << b);
                again |= keep != possible[t];
                possible[t] = keep;
            }
        }
        for (t, &set) in possible.iter().enumerate() {
            for q in 0..p {
                if set >> self.memory_of(q) & 1 == 0 {
                    self.cost[t * p + q] = f64::INFINITY;
                }
            }
            if set == 0 {
                return Err(Error::Nowhere { task: self.names.tasks[t].clone() });
            }
        }
        for x in (0..self.tensor_count()).filter(|&x| self.writer[x] == NONE) {
            for &b in self.needed.row(x) {
                if !self.routes.reaches(self.home[x] as usize, b as usize) {
                    let (tensor, memory) = (&self.names.tensors[x], &self.names.memories[b as usize]);
                    return Err(Error::Unreachable { tensor: tensor.clone(), memory: memory.clone() });
                }
            }
        }
        Ok(())
    }

    /// Whether a task in memory `b` can reach its inputs, its readers and the memories that need its outputs.
    fn is_open(&self, t: usize, b: usize, possible: &[u64]) -> bool {
        let m = self.memory_count();
        let any = |set: u64, reach: &dyn Fn(usize) -> bool| (0..m).any(|a| set >> a & 1 == 1 && reach(a));
        self.reads.row(t).iter().all(|&x| match self.writer[x as usize] {
            NONE => self.routes.reaches(self.home[x as usize] as usize, b),
            w => any(possible[w as usize], &|a| self.routes.reaches(a, b)),
        }) && self.writes.row(t).iter().all(|&x| {
            let x = x as usize;
            self.needed.row(x).iter().all(|&a| self.routes.reaches(b, a as usize))
                && self
                    .readers
                    .row(x)
                    .iter()
                    .all(|&r| any(possible[r as usize], &|a| self.routes.reaches(b, a)))
        })
    }
}

fn limit(quantity: &'static str, name: &str, count: usize, limit: usize) -> Result<(), Error> {
    if count > limit {
        return Err(Error::TooMany { quantity, name: name.to_owned(), count, limit });
    }
    Ok(())
}

fn index<'a>(kind: Kind, names: impl Iterator<Item = &'a str>) -> Result<Index<'a>, Error> {
    let mut map = HashMap::new();
    for (i, name) in names.enumerate() {
        if map.insert(name, i as u32).is_some() {
            return Err(Error::Duplicate { kind, name: name.to_owned() });
        }
    }
    Ok(map)
}

fn lookup(map: &Index<'_>, kind: Kind, name: &str, user: &str) -> Result<u32, Error> {
    map.get(name).copied().ok_or_else(|| Error::Unknown {
        kind,
        name: name.to_owned(),
        user: user.to_owned(),
    })
}

/// Calls `f` once for every distinct name, in order.
fn distinct(
    map: &Index<'_>,
    kind: Kind,
    names: &[String],
    user: &str,
    mut f: impl FnMut(u32),
) -> Result<(), Error> {
    let mut seen = std::collections::HashSet::new();
    for name in names {
        let i = lookup(map, kind, name, user)?;
        if seen.insert(i) {
            f(i);
        }
    }
    Ok(())
}

fn time(quantity: &'static str, name: &str, value: f64) -> Result<f64, Error> {
    if value.is_finite() && value >= 0.0 {
        return Ok(value);
    }
    Err(Error::Number { quantity, name: name.to_owned(), value })
}

fn costs(instance: &Instance) -> Result<Vec<f64>, Error> {
    let expected = instance.machine.processors.len();
    let mut cost = Vec::with_capacity(expected * instance.tasks.len());
    for tensor in &instance.tensors {
        time("transfer_us", &tensor.name, tensor.transfer_us.unwrap_or(0.0))?;
    }
    for task in &instance.tasks {
        let found = task.cost_us.len();
        if found != expected {
            return Err(Error::CostCount { task: task.name.clone(), expected, found });
        }
        for c in &task.cost_us {
            cost.push(match c {
                Some(c) => time("cost_us", &task.name, *c)?,
                None => f64::INFINITY,
            });
        }
    }
    Ok(cost)
}

fn routes(instance: &Instance, memories: &Index<'_>, channels: &mut Vec<String>) -> Result<Routes, Error> {
    let m = memories.len();
    let mut direct: Vec<Option<Direct>> = vec![None; m * m];
    let mut channel_index: Index<'_> = HashMap::new();
    for link in &instance.machine.links {
        let name = format!("{} -> {}", link.from, link.to);
        let a = lookup(memories, Kind::Memory, &link.from, &name)? as usize;
        let b = lookup(memories, Kind::Memory, &link.to, &name)? as usize;
        if a == b || direct[a * m + b].is_some() {
            return Err(Error::Duplicate { kind: Kind::Link, name });
        }
        let latency = time("latency_us", &name, link.latency_us)?;
        let bytes_per_us = time("bytes_per_us", &name, link.bytes_per_us)?;
        if bytes_per_us == 0.0 {
            return Err(Error::Number { quantity: "bytes_per_us", name, value: 0.0 });
        }
        let channel = link.channel.as_deref().map_or(NONE, |c| {
            *channel_index.entry(c).or_insert_with(|| {
                channels.push(c.to_owned());
                channels.len() as u32 - 1
            })
        });
        direct[a * m + b] = Some(Direct { latency, bytes_per_us, channel });
    }
    let total: f64 = instance.tensors.iter().map(|t| t.bytes as f64).sum();
    Ok(Routes::new(m, direct, total / instance.tensors.len().max(1) as f64))
}

/// Kahn's order with the smallest index first; where a circle is left, petgraph's components name it.
fn topological(instance: &Instance, reads: &Csr, readers: &Csr, writer: &[u32]) -> Result<Vec<u32>, Error> {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;
    let n = instance.tasks.len();
    let mut waiting = vec![0usize; n];
    let mut graph = DiGraph::<(), (), u32>::with_capacity(n, 0);
    (0..n).for_each(|_| {
        graph.add_node(());
    });
    let mut written: Vec<Vec<u32>> = vec![Vec::new(); n];
    for (x, &w) in writer.iter().enumerate().filter(|&(_, &w)| w != NONE) {
        written[w as usize].push(x as u32);
        for &r in readers.row(x) {
            graph.add_edge(NodeIndex::new(w as usize), NodeIndex::new(r as usize), ());
        }
    }
    for (t, count) in waiting.iter_mut().enumerate() {
        *count = reads.row(t).iter().filter(|&&x| writer[x as usize] != NONE).count();
    }
    let mut ready: BinaryHeap<Reverse<u32>> =
        (0..n as u32).filter(|&t| waiting[t as usize] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(n);
    while let Some(Reverse(t)) = ready.pop() {
        order.push(t);
        for &x in &written[t as usize] {
            for &r in readers.row(x as usize) {
                waiting[r as usize] -= 1;
                if waiting[r as usize] == 0 {
                    ready.push(Reverse(r));
                }
            }
        }
    }
    if order.len() == n {
        return Ok(order);
    }
    let itself = |c: &[NodeIndex<u32>]| graph.contains_edge(c[0], c[0]);
    let circle = kosaraju_scc(&graph).into_iter().find(|c| c.len() > 1 || itself(c)).unwrap_or_default();
    let task = circle.iter().map(|t| t.index()).min().unwrap_or(0);
    Err(Error::Cycle { task: instance.tasks[task].name.clone(), length: circle.len() })
}
