//! Free time of one unit or channel, for scheduling by insertion.
//!
//! Kept as the sorted list of gaps between busy intervals, so that a long busy stretch costs one comparison
//! however many intervals it consists of. The last gap is endless.

/// The gaps `[from, to)` of one resource, sorted, disjoint, none empty.
#[derive(Debug, Clone)]
pub(crate) struct Timeline {
    gaps: Vec<(f64, f64)>,
}

impl Timeline {
    pub(crate) fn new() -> Self {
        Self { gaps: vec![(0.0, f64::INFINITY)] }
    }

    /// Least start `≥ ready` of an interval of `length > 0` within one gap.
    ///
    /// # Complexity
    /// O(log gaps + gaps passed over).
    #[inline]
    pub(crate) fn earliest(&self, ready: f64, length: f64) -> f64 {
        let last = self.gaps[self.gaps.len() - 1];
        if ready >= last.0 {
            return ready;
        }
        let first = self.gaps.partition_point(|g| g.1 <= ready);
        for &(from, to) in &self.gaps[first..] {
            let start = ready.max(from);
            if start + length <= to {
                return start;
            }
        }
        last.0.max(ready)
    }

    /// Marks `[start, finish)`, which lies in one gap, as busy.
    pub(crate) fn occupy(&mut self, start: f64, finish: f64) {
        if start >= finish {
            return;
        }
        let at = self.gaps.partition_point(|g| g.1 <= start);
        let (from, to) = self.gaps[at];
        debug_assert!(from <= start && finish <= to, "the interval is free");
        match (from < start, finish < to) {
            (true, true) => {
                self.gaps[at].1 = start;
                self.gaps.insert(at + 1, (finish, to));
            }
            (true, false) => self.gaps[at].1 = start,
            (false, true) => self.gaps[at].0 = finish,
            (false, false) => {
                self.gaps.remove(at);
            }
        }
    }

    /// Undoes the latest [`occupy`](Self::occupy) of `[start, finish)`.
    pub(crate) fn release(&mut self, start: f64, finish: f64) {
        if start >= finish {
            return;
        }
        // Gaps before `at` end at or before `start`.
        let at = self.gaps.partition_point(|g| g.1 <= start);
        let left = at > 0 && self.gaps[at - 1].1 == start;
        let right = at < self.gaps.len() && self.gaps[at].0 == finish;
        match (left, right) {
            (true, true) => {
                self.gaps[at - 1].1 = self.gaps[at].1;
                self.gaps.remove(at);
            }
            (true, false) => self.gaps[at - 1].1 = finish,
            (false, true) => self.gaps[at].0 = start,
            (false, false) => self.gaps.insert(at, (start, finish)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Timeline;

    #[test]
    fn gaps_are_found_filled_and_freed() {
        let mut t = Timeline::new();
        t.occupy(0.0, 5.0);
        t.occupy(9.0, 13.0);
        assert_eq!(t.earliest(2.0, 4.0), 5.0);
        assert_eq!(t.earliest(6.0, 3.0), 6.0);
        assert_eq!(t.earliest(6.0, 3.5), 13.0);
        assert_eq!(t.earliest(20.0, 3.5), 20.0);
        t.occupy(5.0, 9.0);
        assert_eq!(t.earliest(0.0, 1.0), 13.0);
        t.release(5.0, 9.0);
        assert_eq!(t.earliest(0.0, 4.0), 5.0);
        t.release(0.0, 5.0);
        t.release(9.0, 13.0);
        assert_eq!(t.earliest(0.0, 100.0), 0.0);
    }
}
