//! Sorting and selecting that can be interrupted.
//!
//! What is long is parted around a pivot, element by element, with looks at the deadline; parts that are short are left to the
//! standard library. Orders are total, so that no two elements are equal and what is made does not depend on the way to it.

use crate::error::OpError;
use crate::exec::{Interrupt, Looks};
use std::cmp::Ordering;

/// Elements of a short part that comparisons may read; what sorting it takes is some tens of milliseconds.
const SHORT: usize = Looks::EVERY >> 2;
/// Elements of which the middle is the pivot.
const SAMPLE: usize = 31;

/// Whether sorting `count` elements, of which comparisons read `each`, takes so little time that nobody need look in between.
pub(crate) fn is_short(count: usize, each: usize) -> bool {
    count <= 2 || count.saturating_mul(each) <= SHORT
}

/// A total order, and how many elements a comparison may read.
pub(crate) struct By<'a, F> {
    pub(crate) compare: F,
    pub(crate) each: usize,
    pub(crate) interrupt: &'a Interrupt,
}

impl<F: Fn(&u64, &u64) -> Ordering> By<'_, F> {
    /// Sorts `order`.
    pub(crate) fn sort(&self, order: &mut [u64]) -> Result<(), OpError> {
        let rounds = rounds(order.len());
        self.sort_within(order, rounds, &mut Looks::new(self.interrupt))
    }

    /// Puts the `k` first of `order` to its front, sorted.
    pub(crate) fn sort_first(&self, order: &mut [u64], k: usize) -> Result<(), OpError> {
        if k < order.len() {
            self.select(order, k)?;
        }
        self.sort(&mut order[..k])
    }

    /// Puts the `k` first of `order` to its front, where there are more.
    #[inline(never)]
    fn select(&self, order: &mut [u64], k: usize) -> Result<(), OpError> {
        let mut looks = Looks::new(self.interrupt);
        let (mut from, mut to) = (0, order.len());
        for _ in 0..rounds(order.len()) {
            let part = &mut order[from..to];
            if self.is_short(part.len()) {
                break;
            }
            let at = from + self.part(part, &mut looks)?;
            match at.cmp(&k) {
                Ordering::Equal => return Ok(()),
                Ordering::Less => from = at + 1,
                Ordering::Greater => to = at,
            }
        }
        order[from..to].select_nth_unstable_by(k - from, &self.compare);
        looks.past((to - from).saturating_mul(self.each))
    }

    #[inline(never)]
    fn sort_within(
        &self,
        mut order: &mut [u64],
        mut rounds: u32,
        looks: &mut Looks<'_>,
    ) -> Result<(), OpError> {
        while !self.is_short(order.len()) && rounds > 0 {
            rounds -= 1;
            let at = self.part(order, looks)?;
            let (before, rest) = order.split_at_mut(at);
            let behind = &mut rest[1..];
            // The longer part is next, so that calls within each other are few.
            let (shorter, longer) =
                if before.len() < behind.len() { (before, behind) } else { (behind, before) };
            self.sort_within(shorter, rounds, looks)?;
            order = longer;
        }
        order.sort_unstable_by(&self.compare);
        looks.past(order.len().saturating_mul(self.each))
    }

    fn is_short(&self, count: usize) -> bool {
        is_short(count, self.each)
    }

    /// Puts what comes before some element ahead of it and the others behind it; where it is then.
    fn part(&self, order: &mut [u64], looks: &mut Looks<'_>) -> Result<usize, OpError> {
        let last = order.len() - 1;
        let count = (SHORT / self.each.max(1)).clamp(3, SAMPLE).min(order.len());
        let mut sample: [usize; SAMPLE] = std::array::from_fn(|i| i * last / (count - 1).max(1));
        sample[..count].sort_unstable_by(|&a, &b| (self.compare)(&order[a], &order[b]));
        order.swap(sample[count / 2], last);
        let pivot = order[last];
        let mut at = 0;
        for i in 0..last {
            let value = order[i];
            let is_before = (self.compare)(&value, &pivot) == Ordering::Less;
            order[i] = order[at];
            order[at] = value;
            at += usize::from(is_before);
            looks.past(self.each)?;
        }
        order.swap(at, last);
        Ok(at)
    }
}

/// Partings after which pivots were so bad that the standard library, which has no bad ones, goes on without a look.
fn rounds(count: usize) -> u32 {
    4 * count.max(2).ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` numbers below `below`, each different where that is larger.
    fn numbers(count: u64, below: u64) -> Vec<u64> {
        (0..count).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20).map(|n| n % below).collect()
    }

    #[test]
    fn what_is_sorted_is_in_order_and_what_is_selected_is_first() {
        let interrupt = Interrupt::default();
        let long = 3 * SHORT as u64 + 5;
        for (count, below, each) in [
            (0, 9, 1),
            (1, 9, 1),
            (2, 9, SHORT),
            (1000, 7, 1),
            (1000, 7, SHORT),
            (4000, 3, 999),
            (long, 9, 1),
        ] {
            let keys = numbers(count, below);
            let compare = |&a: &u64, &b: &u64| keys[a as usize].cmp(&keys[b as usize]).then(a.cmp(&b));
            let by = By { compare, each, interrupt: &interrupt };
            for start in [(0..count).collect::<Vec<u64>>(), (0..count).rev().collect()] {
                let mut want = start.clone();
                want.sort_unstable_by(compare);
                let mut all = start.clone();
                by.sort(&mut all).expect("nobody interrupts it");
                assert!(all == want, "{count} below {below}, {each}");
                for k in [0, 1, count / 3, count.saturating_sub(1), count].map(|k| k.min(count) as usize) {
                    let mut some = start.clone();
                    by.sort_first(&mut some, k).expect("nobody interrupts it");
                    assert!(some[..k] == want[..k], "{k} of {count} below {below}, {each}");
                }
            }
        }
    }

    #[test]
    fn an_interrupted_sort_ends_within_what_it_parts() {
        for (count, each) in [(4 * Looks::EVERY, 1), (400, Looks::EVERY >> 6)] {
            for k in [count / 2, count] {
                let interrupt = Interrupt::after(1);
                let by = By { compare: |a: &u64, b: &u64| a.cmp(b), each, interrupt: &interrupt };
                let mut order = numbers(count as u64, u64::MAX);
                let ended = by.sort_first(&mut order, k);
                assert!(matches!(ended, Err(OpError::Cancelled)), "{k} of {count}, {each}: {ended:?}");
            }
        }
    }
}
