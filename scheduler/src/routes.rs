//! Links between memories, and the cheapest route where there is no direct one.
//!
//! A tensor is brought from its first memory along one tree of routes, so that its copies have fixed sources
//! and a plan needs no second decision per transfer. A direct link is always taken where there is one;
//! otherwise the route of least time for a tensor of the reference size (Floyd and Warshall, O(memories³)).

use crate::problem::NONE;

/// One direct link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Direct {
    pub(crate) latency: f64,
    pub(crate) bytes_per_us: f64,
    pub(crate) channel: u32,
}

/// Direct links and routes, both by `from · memories + to`.
#[derive(Debug, Clone)]
pub(crate) struct Routes {
    memories: usize,
    direct: Vec<Option<Direct>>,
    before: Vec<u32>,
}

impl Routes {
    /// Finds the routes for tensors of `reference` bytes.
    pub(crate) fn new(memories: usize, direct: Vec<Option<Direct>>, reference: f64) -> Self {
        let at = |a: usize, b: usize| a * memories + b;
        let mut time = vec![f64::INFINITY; memories * memories];
        let mut before = vec![NONE; memories * memories];
        for a in 0..memories {
            time[at(a, a)] = 0.0;
            for b in 0..memories {
                if let (true, Some(l)) = (a != b, direct[at(a, b)]) {
                    time[at(a, b)] = l.latency + reference / l.bytes_per_us;
                    before[at(a, b)] = a as u32;
                }
            }
        }
        for k in 0..memories {
            for a in 0..memories {
                for b in 0..memories {
                    let through = time[at(a, k)] + time[at(k, b)];
                    if a != b && direct[at(a, b)].is_none() && through < time[at(a, b)] {
                        time[at(a, b)] = through;
                        before[at(a, b)] = before[at(k, b)];
                    }
                }
            }
        }
        Self { memories, direct, before }
    }

    /// The memory before `b` on the route from `a`.
    #[inline]
    pub(crate) fn before(&self, a: usize, b: usize) -> Option<usize> {
        match self.before[a * self.memories + b] {
            NONE => None,
            m => Some(m as usize),
        }
    }

    /// Whether a tensor in `a` can get to `b`.
    pub(crate) fn reaches(&self, a: usize, b: usize) -> bool {
        a == b || self.before(a, b).is_some()
    }

    /// The direct link between two memories.
    #[inline]
    pub(crate) fn direct(&self, a: usize, b: usize) -> Option<&Direct> {
        self.direct[a * self.memories + b].as_ref()
    }

    /// The channel of the direct link, or `NONE`.
    #[inline]
    pub(crate) fn channel(&self, a: usize, b: usize) -> u32 {
        self.direct(a, b).map_or(NONE, |l| l.channel)
    }

    /// Time of `bytes` over the direct link, `+∞` where there is none.
    #[inline]
    pub(crate) fn link_time(&self, a: usize, b: usize, bytes: u64) -> f64 {
        self.direct(a, b).map_or(f64::INFINITY, |l| l.latency + bytes as f64 / l.bytes_per_us)
    }
}
