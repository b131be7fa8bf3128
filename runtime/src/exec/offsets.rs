//! Offsets in an arena: tenants that may be alive at the same time share no bytes, and all take as few as can be found.
//!
//! Largest first, each at the lowest offset where it fits, takes what is alive at once for most. Where it takes more, other
//! orders are tried: some arrangement that takes the least of all is what an order gives that way, so that orders are all
//! there is to search. Each next one differs from the best so far in the turn of a tenant on which the top of the arena
//! stands. The search ends when a bound is reached, or after so many looks at pairs of tenants.

use super::arena::STEP;

/// A tensor that lives in the arena: its bytes, and the first and last step at which it exists.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tenant {
    pub(crate) bytes: usize,
    pub(crate) first: usize,
    pub(crate) last: usize,
}

/// Offsets for `tenants` such that no two that exist at the same step overlap, and the bytes needed in all;
/// `None` when the sum overflows.
pub(crate) fn assign_offsets(tenants: &[Tenant]) -> Option<(Vec<usize>, usize)> {
    let bytes: Vec<usize> = tenants.iter().map(|t| t.bytes).collect();
    let conflict =
        |a: usize, b: usize| tenants[a].first <= tenants[b].last && tenants[b].first <= tenants[a].last;
    assign_where(&bytes, conflict, || alive_at_once(tenants))
}

/// The most bytes that exist at one step: no arena is smaller.
fn alive_at_once(tenants: &[Tenant]) -> usize {
    let end = tenants.iter().map(|t| t.last + 2).max().unwrap_or(0);
    let (mut begin, mut over) = (vec![0; end], vec![0; end]);
    for tenant in tenants {
        begin[tenant.first] += place_of(tenant.bytes);
        over[tenant.last + 1] += place_of(tenant.bytes);
    }
    let mut alive = 0;
    let at = begin.iter().zip(&over).map(|(more, less)| {
        alive = alive + more - less;
        alive
    });
    at.max().unwrap_or(0)
}

/// What a tenant of so many bytes takes in the arena.
pub(crate) fn place_of(bytes: usize) -> usize {
    bytes.next_multiple_of(STEP).max(STEP)
}

/// Pairs of tenants that a search looks at, at least: less than a millisecond.
const LOOKS: usize = 1 << 16;

/// Orders that are tried at least.
const ORDERS: usize = 8;

/// Most tenants that are searched over.
const MOST: usize = 1 << 10;

/// Offsets for tenants of `bytes` bytes such that no two that `conflict` overlap, and the bytes needed in all; `None`
/// when the sum overflows. No offsets take less than `bound`, which is asked for where the first order takes more than the
/// largest tenant.
pub(crate) fn assign_where(
    bytes: &[usize],
    conflict: impl Fn(usize, usize) -> bool,
    bound: impl FnOnce() -> usize,
) -> Option<(Vec<usize>, usize)> {
    bytes
        .iter()
        .try_fold(0usize, |sum, &bytes| sum.checked_add(bytes.checked_next_multiple_of(STEP)?.max(STEP)))?;
    let sizes: Vec<usize> = bytes.iter().map(|&bytes| place_of(bytes)).collect();
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(sizes[i]), i));
    if sizes.len() > MOST {
        let made = Arrangement::of(&sizes, &order, conflict);
        return Some((made.offsets, made.total));
    }
    let conflicts = Conflicts::new(sizes.len(), conflict);
    let made = Arrangement::of(&sizes, &order, |a, b| conflicts.are(a, b));
    let least = sizes.iter().copied().max().unwrap_or(0);
    if made.total > least {
        let bound = bound();
        if made.total > bound {
            let left = LOOKS.max(ORDERS * pairs(sizes.len()));
            let best = Search { sizes: &sizes, conflicts: &conflicts, bound, left }.from(order, made);
            return Some((best.offsets, best.total));
        }
    }
    Some((made.offsets, made.total))
}

/// Pairs of tenants that may be alive at once, a bit each.
struct Conflicts {
    words: usize,
    bits: Vec<u64>,
}

impl Conflicts {
    fn new(count: usize, conflict: impl Fn(usize, usize) -> bool) -> Self {
        let words = count.div_ceil(64);
        let mut bits = vec![0u64; words * count];
        for a in 0..count {
            for b in 0..a {
                if conflict(a, b) {
                    bits[a * words + b / 64] |= 1 << (b % 64);
                    bits[b * words + a / 64] |= 1 << (a % 64);
                }
            }
        }
        Self { words, bits }
    }

    fn are(&self, a: usize, b: usize) -> bool {
        self.bits[a * self.words + b / 64] >> (b % 64) & 1 == 1
    }
}

/// Where an order puts the tenants.
#[derive(Clone)]
struct Arrangement {
    offsets: Vec<usize>,
    total: usize,
}

impl Arrangement {
    /// One after the other at the lowest offset where it fits beside those before it. The sum of all sizes is a number.
    fn of(sizes: &[usize], order: &[usize], conflict: impl Fn(usize, usize) -> bool) -> Self {
        let mut offsets = vec![0; sizes.len()];
        // Placed tenants as (offset, end, index), sorted by offset.
        let mut placed: Vec<(usize, usize, usize)> = Vec::with_capacity(sizes.len());
        let mut total = 0;
        for &i in order {
            let mut at = 0usize;
            for &(offset, end, j) in &placed {
                if end <= at || !conflict(i, j) {
                    continue;
                }
                if at + sizes[i] <= offset {
                    break;
                }
                at = end;
            }
            offsets[i] = at;
            total = total.max(at + sizes[i]);
            placed.insert(placed.partition_point(|p| p.0 < at), (at, at + sizes[i], i));
        }
        Self { offsets, total }
    }
}

/// Pairs of so many tenants.
fn pairs(count: usize) -> usize {
    (count * count / 2).max(1)
}

struct Search<'a> {
    sizes: &'a [usize],
    conflicts: &'a Conflicts,
    bound: usize,
    /// Pairs that may still be looked at.
    left: usize,
}

/// After so many orders in a row that are no better, the search begins again at the best.
const PATIENCE: usize = 64;

impl Search<'_> {
    fn try_order(&mut self, order: &[usize]) -> Arrangement {
        self.left = self.left.saturating_sub(pairs(order.len()));
        Arrangement::of(self.sizes, order, |a, b| self.conflicts.are(a, b))
    }

    fn from(mut self, order: Vec<usize>, made: Arrangement) -> Arrangement {
        let count = order.len();
        let (mut best_order, mut best) = (order, made);
        // By how much of the others' bytes a tenant has to keep away from, by the sum of both, and as they come.
        let crowd = |i: usize| -> usize {
            (0..count).filter(|&j| self.conflicts.are(i, j)).map(|j| self.sizes[j]).sum()
        };
        let crowds: Vec<usize> = (0..count).map(crowd).collect();
        let keys: [&dyn Fn(usize) -> usize; 3] =
            [&|i| crowds[i], &|i| crowds[i] + self.sizes[i], &|i| count - i];
        let mut orders: Vec<Vec<usize>> = Vec::new();
        for key in keys {
            let mut order: Vec<usize> = (0..count).collect();
            order.sort_by_key(|&i| (std::cmp::Reverse(key(i)), i));
            orders.push(order);
        }
        for order in orders {
            let made = self.try_order(&order);
            if made.total < best.total {
                (best_order, best) = (order, made);
            }
        }
        let mut draw = Draw(0);
        let (mut order, mut current, mut idle) = (best_order.clone(), best.clone(), 0);
        while best.total > self.bound && self.left > 0 {
            let mut next = order.clone();
            let standing = self.standing(&current);
            let who = standing[draw.below(standing.len())];
            let turn = next.iter().position(|&i| i == who).unwrap_or(0);
            let to = draw.below(count);
            if draw.below(2) == 0 {
                next.swap(turn, to);
            } else {
                next.remove(turn);
                next.insert(to.min(turn), who);
            }
            let made = self.try_order(&next);
            if made.total <= current.total {
                idle = if made.total < current.total { 0 } else { idle + 1 };
                (order, current) = (next, made);
            } else {
                idle += 1;
            }
            if current.total < best.total {
                (best_order, best) = (order.clone(), current.clone());
            }
            if idle > PATIENCE {
                (order, current, idle) = (best_order.clone(), best.clone(), 0);
            }
        }
        best
    }

    /// The tenants at the top, and those on which they stand.
    fn standing(&self, made: &Arrangement) -> Vec<usize> {
        let end = |i: usize| made.offsets[i] + self.sizes[i];
        let count = self.sizes.len();
        let mut found: Vec<usize> = (0..count).filter(|&i| end(i) == made.total).collect();
        let mut seen = vec![false; count];
        found.iter().for_each(|&i| seen[i] = true);
        let mut at = 0;
        while let Some(&upper) = found.get(at) {
            for (i, seen) in seen.iter_mut().enumerate() {
                if !*seen && end(i) == made.offsets[upper] && self.conflicts.are(upper, i) {
                    *seen = true;
                    found.push(i);
                }
            }
            at += 1;
        }
        found
    }
}

/// Numbers that are the same in every search.
struct Draw(u64);

impl Draw {
    fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % count.max(1) as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Gen, least_arena};

    #[test]
    fn tenants_that_coexist_never_overlap() {
        let mut g = Gen::new(7);
        for _ in 0..200 {
            let tenants: Vec<Tenant> = (0..g.size(0, 40))
                .map(|_| {
                    let first = g.size(0, 30);
                    Tenant { bytes: g.size(0, 500), first, last: first + g.size(0, 8) }
                })
                .collect();
            let (offsets, total) = assign_offsets(&tenants).expect("small");
            for (i, a) in tenants.iter().enumerate() {
                assert!(offsets[i] % STEP == 0 && offsets[i] + a.bytes <= total);
                for (j, b) in tenants.iter().enumerate().skip(i + 1) {
                    let together = a.first <= b.last && b.first <= a.last;
                    let overlap = offsets[i] < offsets[j] + b.bytes && offsets[j] < offsets[i] + a.bytes;
                    assert!(!(together && overlap), "{i} and {j}");
                }
            }
        }
        let huge = Tenant { bytes: usize::MAX - 70, first: 0, last: 1 };
        assert!(assign_offsets(&[huge, huge]).is_none());
    }

    #[test]
    fn what_is_found_is_nearly_always_the_least_of_all() {
        let mut g = Gen::new(5);
        let (mut first_order, mut found, mut known) = (0, 0, 0);
        for _ in 0..300 {
            let tenants: Vec<Tenant> = (0..g.size(2, 14))
                .map(|_| {
                    let first = g.size(0, 20);
                    Tenant { bytes: STEP * g.size(1, 12), first, last: first + g.size(0, 6) }
                })
                .collect();
            let conflict = |a: usize, b: usize| {
                tenants[a].first <= tenants[b].last && tenants[b].first <= tenants[a].last
            };
            let sizes: Vec<usize> = tenants.iter().map(|t| t.bytes).collect();
            let (_, total) = assign_offsets(&tenants).expect("small");
            let Some(least) = least_arena(&sizes, conflict, total, 1 << 12) else { continue };
            let mut order: Vec<usize> = (0..sizes.len()).collect();
            order.sort_by_key(|&i| (std::cmp::Reverse(sizes[i]), i));
            known += 1;
            found += usize::from(total == least);
            first_order += usize::from(Arrangement::of(&sizes, &order, conflict).total == least);
            assert!(
                least >= alive_at_once(&tenants) && total * 20 <= least * 21,
                "{total} of {least}: {tenants:?}"
            );
        }
        assert!(known > 250 && found * 100 >= known * 99, "{found} of {known}");
        assert!(
            first_order * 10 < known * 9,
            "largest first finds {first_order} of {known}: nothing is searched"
        );
    }
}
