//! Offsets in the arena under the parallel order.
//!
//! Two tenants may share bytes only where every access to one has ended when the first access to the other begins. Largest
//! first, each at the lowest offset where it fits: O(n²) in the number of tenants.

use super::antichain::heaviest;
use super::causality::Causality;
use crate::exec::{Accesses, Space, assign_where, place_of};
use crate::testing::least_arena;

/// When the tenants of the arena are touched.
#[derive(Debug)]
pub(crate) struct Lifetimes<'a> {
    causality: &'a Causality,
    /// Steps that touch each tenant.
    touches: Vec<Vec<usize>>,
    /// The last phase of each tenant, and how many steps of each worker have to end in it before the tenant is free.
    ends: Vec<(usize, Vec<usize>)>,
}

impl<'a> Lifetimes<'a> {
    /// Of `tenants` tenants that the steps access so.
    pub(crate) fn new(
        causality: &'a Causality,
        accesses: &[Accesses],
        tenants: usize,
        workers: usize,
    ) -> Self {
        let mut touches: Vec<Vec<usize>> = vec![Vec::new(); tenants];
        for (step, access) in accesses.iter().enumerate() {
            for a in access.reads.iter().chain(&access.writes) {
                if let Space::Tenant(tenant) = a.space
                    && touches[tenant].last() != Some(&step)
                {
                    touches[tenant].push(step);
                }
            }
        }
        let end = |steps: &Vec<usize>| {
            let last = steps.iter().map(|&s| causality.moments[s].phase).max().unwrap_or(0);
            let mut done = vec![0; workers];
            for moment in steps.iter().map(|&s| &causality.moments[s]).filter(|m| m.phase == last) {
                done[moment.worker] = done[moment.worker].max(moment.place + 1);
            }
            (last, done)
        };
        let ends = touches.iter().map(end).collect();
        Self { causality, touches, ends }
    }

    /// Whether every access to `a` has ended when any access to `b` begins.
    fn precedes(&self, a: usize, b: usize) -> bool {
        let (last, done) = &self.ends[a];
        self.touches[b].iter().all(|&step| {
            let moment = &self.causality.moments[step];
            *last < moment.phase
                || *last == moment.phase
                    && done.iter().zip(&moment.clock).all(|(needed, ended)| needed <= ended)
        })
    }

    /// The most bytes that may all be alive at the same time, whatever the offsets are: no arena is smaller.
    pub(crate) fn least(&self, bytes: &[usize]) -> usize {
        let touched: Vec<usize> =
            (0..bytes.len()).filter(|&tenant| !self.touches[tenant].is_empty()).collect();
        let sizes: Vec<usize> = touched.iter().map(|&tenant| place_of(bytes[tenant])).collect();
        heaviest(&sizes, |a, b| self.precedes(touched[a], touched[b]))
    }

    /// The least that offsets take for tenants of `bytes` bytes which take `taken` somehow; `None` where a search of so many
    /// looks does not tell.
    pub(crate) fn least_of_all(&self, bytes: &[usize], taken: usize, looks: usize) -> Option<usize> {
        let sizes: Vec<usize> = bytes.iter().map(|&bytes| place_of(bytes)).collect();
        least_arena(&sizes, |a, b| self.conflict(a, b), taken, looks)
    }

    /// Whether two tenants may be alive at the same time.
    pub(crate) fn conflict(&self, a: usize, b: usize) -> bool {
        !(self.precedes(a, b) || self.precedes(b, a))
    }
}

/// Offsets for tenants of `bytes` bytes, and the bytes needed in all; `None` when the sum overflows.
pub(crate) fn assign(bytes: &[usize], lifetimes: &Lifetimes<'_>) -> Option<(Vec<usize>, usize)> {
    assign_where(bytes, |a, b| lifetimes.conflict(a, b), || lifetimes.least(bytes))
}
