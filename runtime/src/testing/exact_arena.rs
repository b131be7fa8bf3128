//! The least that an arena can take, by search over all arrangements that could take less.
//!
//! What lies in an arena can be let down until each tenant stands on one that it has to keep away from, or on the ground, and
//! nothing takes more then. So tenants are placed in the order of their offsets, each on the highest of those before it
//! that it has to keep away from. A way is given up once something left cannot end low enough: by itself, or with others
//! which all have to keep away from each other.

/// The least that tenants of these sizes take where those that `conflict` share nothing, given that they take `taken`
/// somehow; `None` where so many looks do not tell.
pub(crate) fn least_arena(
    sizes: &[usize],
    conflict: impl Fn(usize, usize) -> bool,
    taken: usize,
    looks: usize,
) -> Option<usize> {
    let count = sizes.len();
    let kept_apart: Vec<Vec<usize>> =
        (0..count).map(|a| (0..count).filter(|&b| a != b && conflict(a, b)).collect()).collect();
    let mut search = Search { sizes, kept_apart: &kept_apart, offsets: vec![None; count], looks };
    let mut least = taken;
    while least > 0 {
        search.offsets.fill(None);
        match search.place(count, (0, 0), least - 1) {
            Some(true) => least = search.end(),
            Some(false) => break,
            None => return None,
        }
    }
    Some(least)
}

struct Search<'a> {
    sizes: &'a [usize],
    kept_apart: &'a [Vec<usize>],
    offsets: Vec<Option<usize>>,
    looks: usize,
}

impl Search<'_> {
    fn end(&self) -> usize {
        self.offsets.iter().zip(self.sizes).filter_map(|(at, size)| Some((*at)? + size)).max().unwrap_or(0)
    }

    /// On what of those placed `tenant` would stand.
    fn ground(&self, tenant: usize) -> usize {
        let below = self.kept_apart[tenant].iter().filter_map(|&i| Some(self.offsets[i]? + self.sizes[i]));
        below.max().unwrap_or(0)
    }

    /// Whether the `left` tenants that are not placed can be, behind the last one, with an end of at most `most`.
    fn place(&mut self, left: usize, last: (usize, usize), most: usize) -> Option<bool> {
        if left == 0 {
            return Some(true);
        }
        self.looks = self.looks.checked_sub(1)?;
        let mut free: Vec<(usize, usize)> = (0..self.sizes.len())
            .filter(|&i| self.offsets[i].is_none())
            .map(|i| (self.ground(i), i))
            .collect();
        if free.iter().any(|&(ground, i)| self.crowded(i, ground.max(last.0), last.0, most)) {
            return Some(false);
        }
        free.retain(|&next| next >= last);
        free.sort_by_key(|&(ground, i)| (ground, std::cmp::Reverse(self.sizes[i]), i));
        for (ground, i) in free {
            self.offsets[i] = Some(ground);
            if self.place(left - 1, (ground, i), most)? {
                return Some(true);
            }
            self.offsets[i] = None;
        }
        Some(false)
    }

    /// Whether `tenant`, or it and others that all have to keep away from each other, cannot end by `most`.
    fn crowded(&self, tenant: usize, ground: usize, last: usize, most: usize) -> bool {
        let mut others: Vec<usize> =
            self.kept_apart[tenant].iter().copied().filter(|&i| self.offsets[i].is_none()).collect();
        others.sort_by_key(|&i| std::cmp::Reverse(self.sizes[i]));
        let (mut all, mut lowest, mut sum) = (vec![tenant], ground, self.sizes[tenant]);
        for other in others {
            if all.iter().all(|i| self.kept_apart[other].contains(i) || *i == other) {
                lowest = lowest.min(self.ground(other).max(last));
                sum += self.sizes[other];
                all.push(other);
            }
        }
        ground + self.sizes[tenant] > most || lowest + sum > most
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Gen;

    /// The least by all offsets, up to `most`.
    fn by_all_offsets(sizes: &[usize], conflict: &dyn Fn(usize, usize) -> bool, most: usize) -> usize {
        fn fits(
            at: &mut Vec<usize>,
            sizes: &[usize],
            conflict: &dyn Fn(usize, usize) -> bool,
            end: usize,
        ) -> bool {
            let next = at.len();
            next == sizes.len()
                || (0..=end.saturating_sub(sizes[next])).filter(|o| o + sizes[next] <= end).any(|offset| {
                    let apart = |i: usize| {
                        !conflict(i, next) || at[i] + sizes[i] <= offset || offset + sizes[next] <= at[i]
                    };
                    (0..next).all(apart) && {
                        at.push(offset);
                        let found = fits(at, sizes, conflict, end);
                        at.pop();
                        found
                    }
                })
        }
        (0..most).find(|&end| fits(&mut Vec::new(), sizes, conflict, end)).unwrap_or(most)
    }

    #[test]
    fn it_is_the_least_of_all_offsets() {
        let mut g = Gen::new(9);
        for _ in 0..200 {
            let count = g.size(1, 7);
            let sizes: Vec<usize> = (0..count).map(|_| g.size(1, 4)).collect();
            let mut span = |_| {
                let first = g.size(0, 8);
                (first, first + g.size(0, 3))
            };
            let spans: Vec<(usize, usize)> = (0..count).map(&mut span).collect();
            let conflict = |a: usize, b: usize| spans[a].0 <= spans[b].1 && spans[b].0 <= spans[a].1;
            let most = sizes.iter().sum();
            let want = by_all_offsets(&sizes, &conflict, most);
            assert_eq!(least_arena(&sizes, conflict, most, 1 << 16), Some(want), "{sizes:?} {spans:?}");
        }
    }

    #[test]
    fn layers_whose_values_alternate_in_size_take_more_than_what_is_alive_at_once() {
        // Each value is alive beside the two before it and the two behind: at most 2 + 1 + 2 at once.
        let sizes = [2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1];
        let conflict =
            |a: usize, b: usize| a.abs_diff(b) <= 2 && !(a + b == 20 && a.abs_diff(b) == 2 && a % 2 == 1);
        let least = least_arena(&sizes, conflict, 7, 1 << 16);
        assert_eq!(least, Some(6));
        assert_eq!(by_all_offsets(&sizes, &conflict, 7), 6);
    }
}
