//! The checked, flat form of an instance: what every algorithm works on.
//!
//! Names become indices in document order; adjacency is in compressed rows; costs are one dense table with
//! `+∞` where a task cannot run. A `Problem` is immutable and can be shared between threads.

use crate::csr::Csr;
use crate::routes::Routes;

/// "No such index" in the flat tables.
pub(crate) const NONE: u32 = u32::MAX;

/// A checked instance in flat tables. Made by [`Problem::new`].
#[derive(Debug, Clone)]
pub struct Problem {
    pub(crate) names: Names,
    /// `cost[task · processors + processor]`, `+∞` where the task cannot run.
    pub(crate) cost: Vec<f64>,
    /// Memory of each processor.
    pub(crate) memory_of: Vec<u32>,
    /// Processor → units that it occupies.
    pub(crate) units: Csr,
    /// Memory → its processors.
    pub(crate) lanes: Csr,
    pub(crate) unit_count: usize,
    pub(crate) channel_count: usize,
    /// Capacity of each memory.
    pub(crate) capacity: Vec<Option<u64>>,
    pub(crate) routes: Routes,
    /// Task → tensors read, without repetition.
    pub(crate) reads: Csr,
    /// Task → tensors written.
    pub(crate) writes: Csr,
    /// Tensor → tasks that read it.
    pub(crate) readers: Csr,
    /// Tensor → memories in which it is needed at the end.
    pub(crate) needed: Csr,
    /// Writer of each tensor, or `NONE`.
    pub(crate) writer: Vec<u32>,
    /// Home of each tensor without a writer.
    pub(crate) home: Vec<u32>,
    pub(crate) tensor_bytes: Vec<u64>,
    /// Length of one transfer of each tensor, NaN where it follows from the link.
    pub(crate) transfer_us: Vec<f64>,
    /// Storage class of each tensor; classes are dense.
    pub(crate) storage: Vec<u32>,
    pub(crate) storage_count: usize,
    /// Task → weights, without repetition.
    pub(crate) weights: Csr,
    /// `weight_bytes[weight · memories + memory]`.
    pub(crate) weight_bytes: Vec<u64>,
    pub(crate) workspace: Vec<u64>,
    /// Tasks in a topological order, smallest index first among those that are ready.
    pub(crate) topological: Vec<u32>,
}

/// The names of a problem's things, in index order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    pub(crate) memories: Vec<String>,
    pub(crate) processors: Vec<String>,
    pub(crate) units: Vec<String>,
    pub(crate) channels: Vec<String>,
    pub(crate) tensors: Vec<String>,
    pub(crate) weights: Vec<String>,
    pub(crate) tasks: Vec<String>,
}

impl Problem {
    /// Number of tasks.
    pub fn task_count(&self) -> usize {
        self.names.tasks.len()
    }

    /// Number of processors.
    pub fn processor_count(&self) -> usize {
        self.names.processors.len()
    }

    /// Number of memories.
    pub fn memory_count(&self) -> usize {
        self.names.memories.len()
    }

    /// Number of tensors.
    pub fn tensor_count(&self) -> usize {
        self.names.tensors.len()
    }

    /// The memory of that name.
    pub fn memory(&self, name: &str) -> Option<usize> {
        self.names.memories.iter().position(|m| m == name)
    }

    /// Length of a task on a processor, `+∞` where it cannot run.
    #[inline]
    pub(crate) fn cost(&self, task: usize, processor: usize) -> f64 {
        self.cost[task * self.memory_of.len() + processor]
    }

    /// Costs of a task on every processor.
    #[inline]
    pub(crate) fn costs(&self, task: usize) -> &[f64] {
        let p = self.memory_of.len();
        &self.cost[task * p..(task + 1) * p]
    }

    /// Least cost of a task over its processors.
    pub(crate) fn least_cost(&self, task: usize) -> f64 {
        self.costs(task).iter().copied().fold(f64::INFINITY, f64::min)
    }

    #[inline]
    pub(crate) fn memory_of(&self, processor: usize) -> usize {
        self.memory_of[processor] as usize
    }

    /// Length of the transfer of a tensor over the direct link `a → b`.
    #[inline]
    pub(crate) fn hop(&self, tensor: usize, a: usize, b: usize) -> f64 {
        let fixed = self.transfer_us[tensor];
        if fixed.is_nan() { self.routes.link_time(a, b, self.tensor_bytes[tensor]) } else { fixed }
    }

    /// Length of all hops of a tensor on the route `a → b`; 0 within a memory, `+∞` without a route.
    pub(crate) fn haul(&self, tensor: usize, a: usize, b: usize) -> f64 {
        let (mut at, mut sum) = (b, 0.0);
        while at != a {
            let Some(before) = self.routes.before(a, at) else { return f64::INFINITY };
            sum += self.hop(tensor, before, at);
            at = before;
        }
        sum
    }

    /// The first memory of a tensor under an assignment of tasks to processors.
    #[inline]
    pub(crate) fn first_memory(&self, tensor: usize, processor_of: impl Fn(usize) -> usize) -> usize {
        match self.writer[tensor] {
            NONE => self.home[tensor] as usize,
            w => self.memory_of(processor_of(w as usize)),
        }
    }

    /// Whether some memory is too small for everything at once, so that capacities have to be watched.
    pub(crate) fn capacity_may_bind(&self) -> bool {
        (0..self.memory_count()).any(|m| self.memory_may_bind(m))
    }

    /// Whether one memory could overflow: the sum of all that could ever be there exceeds its capacity.
    pub(crate) fn memory_may_bind(&self, m: usize) -> bool {
        let Some(capacity) = self.capacity[m] else { return false };
        let tensors: u128 = self.tensor_bytes.iter().map(|&b| u128::from(b)).sum();
        let weights: u128 =
            self.weight_bytes.iter().skip(m).step_by(self.memory_count()).map(|&b| u128::from(b)).sum();
        let workspaces: u128 = self.workspace.iter().map(|&b| u128::from(b)).sum();
        tensors + weights + workspaces > u128::from(capacity)
    }
}
