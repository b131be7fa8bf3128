//! The heaviest set of values that may all be alive at once.
//!
//! Of an order in which some things end before others begin, the heaviest set without two of which one ends before the other
//! begins: an antichain. By Dilworth's theorem with weights, that is what is left of the sum of all weights when as much as
//! possible of what comes before is matched to what comes behind: a flow from each thing, at most its weight, to things
//! behind it, at most their weight each. The flow is Dinic's.

/// The weight of the heaviest set of `weights.len()` things of which none `precedes` another; `precedes` is an order.
pub(crate) fn heaviest(weights: &[usize], precedes: impl Fn(usize, usize) -> bool) -> usize {
    let count = weights.len();
    let behind: Vec<Vec<usize>> =
        (0..count).map(|a| (0..count).filter(|&b| a != b && precedes(a, b)).collect()).collect();
    let mut flow = Flow {
        behind: &behind,
        from: weights.to_vec(),
        to: weights.to_vec(),
        moved: vec![vec![0; count]; count],
    };
    weights.iter().sum::<usize>() - flow.most()
}

struct Flow<'a> {
    behind: &'a [Vec<usize>],
    /// What may still leave each thing, and come to it.
    from: Vec<usize>,
    to: Vec<usize>,
    /// `moved[b][a]`: what comes to `b` from `a`.
    moved: Vec<Vec<usize>>,
}

impl Flow<'_> {
    fn most(&mut self) -> usize {
        let count = self.from.len();
        let mut sum = 0;
        while let Some((left, right)) = self.levels() {
            let mut next = (vec![0; count], vec![0; count]);
            for a in 0..count {
                while left[a] == Some(0) && self.from[a] > 0 {
                    let pushed = self.push(a, self.from[a], (&left, &right), &mut next);
                    if pushed == 0 {
                        break;
                    }
                    self.from[a] -= pushed;
                    sum += pushed;
                }
            }
        }
        sum
    }

    /// How far things are from one with something left, as what comes before and as what comes behind; `None` where nothing
    /// with room left can be reached.
    fn levels(&self) -> Option<(Vec<Option<usize>>, Vec<Option<usize>>)> {
        let count = self.from.len();
        let mut left: Vec<Option<usize>> = self.from.iter().map(|&w| (w > 0).then_some(0)).collect();
        let mut right = vec![None; count];
        let mut front: Vec<usize> = (0..count).filter(|&a| left[a].is_some()).collect();
        let (mut level, mut reached) = (0, false);
        while !front.is_empty() && !reached {
            let mut there = Vec::new();
            for &b in front.iter().flat_map(|&a| &self.behind[a]) {
                if right[b].is_none() {
                    right[b] = Some(level);
                    reached |= self.to[b] > 0;
                    there.push(b);
                }
            }
            level += 1;
            front.clear();
            for b in there {
                for a in 0..count {
                    if self.moved[b][a] > 0 && left[a].is_none() {
                        left[a] = Some(level);
                        front.push(a);
                    }
                }
            }
        }
        reached.then_some((left, right))
    }

    /// What of `amount` goes from `a` to where there is room, by ways that are as short as can be.
    fn push(
        &mut self,
        a: usize,
        amount: usize,
        (left, right): (&[Option<usize>], &[Option<usize>]),
        next: &mut (Vec<usize>, Vec<usize>),
    ) -> usize {
        let behind = self.behind;
        while let Some(&b) = behind[a].get(next.0[a]) {
            if right[b] == left[a] {
                let direct = amount.min(self.to[b]);
                if direct > 0 {
                    self.to[b] -= direct;
                    self.moved[b][a] += direct;
                    return direct;
                }
                while next.1[b] < left.len() {
                    let other = next.1[b];
                    let back = amount.min(self.moved[b][other]);
                    if back > 0 && left[other] == right[b].map(|level| level + 1) {
                        let pushed = self.push(other, back, (left, right), next);
                        if pushed > 0 {
                            self.moved[b][other] -= pushed;
                            self.moved[b][a] += pushed;
                            return pushed;
                        }
                    }
                    next.1[b] += 1;
                }
            }
            next.0[a] += 1;
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Gen;

    #[test]
    fn it_is_the_heaviest_of_all_sets() {
        let mut g = Gen::new(3);
        for _ in 0..300 {
            let count = g.size(0, 10);
            let weights: Vec<usize> = (0..count).map(|_| g.size(0, 9)).collect();
            // Things with two times each, by intervals on two lines.
            let spans: Vec<[(usize, usize); 2]> = (0..count)
                .map(|_| [0; 2].map(|_| g.size(0, 12)).map(|first| (first, first + g.size(0, 5))))
                .collect();
            let precedes = |a: usize, b: usize| spans[a].iter().zip(&spans[b]).all(|(a, b)| a.1 < b.0);
            let set_weight = |set: usize| -> usize {
                let own: Vec<usize> = (0..count).filter(|i| set >> i & 1 == 1).collect();
                let free = own.iter().all(|&a| own.iter().all(|&b| !precedes(a, b)));
                if free { own.iter().map(|&i| weights[i]).sum() } else { 0 }
            };
            let most = (0..1 << count).map(set_weight).max().unwrap_or(0);
            assert_eq!(heaviest(&weights, precedes), most, "{weights:?} {spans:?}");
        }
    }
}
