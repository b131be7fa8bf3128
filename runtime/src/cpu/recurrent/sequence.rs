//! The rows of a batch in the order in which they are computed: longest first, so that the rows that still run
//! at a step are the first ones, and where each of them lies in X, Y and the states.

use crate::cpu::relay::Next;
use crate::cpu::shards::Shard;
use crate::error::OpError;

/// The rows of a batch, and the sizes that say where they lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sequence<'a> {
    /// Batch index of each row; ascending lengths never follow.
    pub(super) order: &'a [usize],
    /// Steps of each row.
    pub(super) lengths: &'a [usize],
    pub(super) time: usize,
    pub(super) batch_first: bool,
    pub(super) reverse: bool,
    /// The direction, and how many there are.
    pub(super) plane: usize,
    pub(super) planes: usize,
}

impl Sequence<'_> {
    pub(super) fn batch(&self) -> usize {
        self.order.len()
    }

    /// Steps of the longest row.
    pub(super) fn steps(&self) -> usize {
        self.lengths.first().copied().unwrap_or(0)
    }

    /// Rows that are longer than `step`, of the first `among`.
    pub(super) fn active(&self, step: usize, among: usize) -> usize {
        self.lengths[..among].iter().rposition(|&length| length > step).map_or(0, |last| last + 1)
    }

    /// Index of `row`'s step `step` in time.
    fn moment(&self, row: usize, step: usize) -> usize {
        if self.reverse { self.lengths[row] - 1 - step } else { step }
    }

    /// Row of X that `row` reads at `step`.
    pub(super) fn x(&self, row: usize, step: usize) -> usize {
        let (b, t) = (self.order[row], self.moment(row, step));
        if self.batch_first { b * self.time + t } else { t * self.batch() + b }
    }

    /// Row of Y that holds moment `t` of `row`.
    fn y_at(&self, row: usize, t: usize) -> usize {
        let b = self.order[row];
        if self.batch_first {
            (b * self.time + t) * self.planes + self.plane
        } else {
            (t * self.planes + self.plane) * self.batch() + b
        }
    }

    /// Row of Y that `row` writes at `step`.
    pub(super) fn y(&self, row: usize, step: usize) -> usize {
        self.y_at(row, self.moment(row, step))
    }

    /// Rows of Y past the end of `row`.
    pub(super) fn y_past_end(&self, row: usize) -> impl Iterator<Item = usize> {
        (self.lengths[row]..self.time).map(move |t| self.y_at(row, t))
    }

    /// Row of a state tensor (initial or last) that belongs to `row`.
    pub(super) fn state(&self, row: usize) -> usize {
        let b = self.order[row];
        if self.batch_first { b * self.planes + self.plane } else { self.plane * self.batch() + b }
    }
}

/// Writes elements to bytes of the storage type; what does not fit is left out.
pub(super) type Store<F> = fn(&[F], &mut [u8]);

/// Where the hidden states of one step go.
pub(super) struct Emit<'s, F> {
    pub(super) y: Shard<'s>,
    pub(super) sequence: Sequence<'s>,
    pub(super) step: usize,
    /// The thread's units, those past the hidden size left out.
    pub(super) valid: usize,
    /// Bytes of an element of Y.
    pub(super) size: usize,
    pub(super) store: Store<F>,
}

impl<F> Emit<'_, F> {
    /// Writes the first `rows` rows of `states`, which are the thread's own.
    pub(super) fn write(&mut self, states: &mut Next<'_, F>, rows: usize) {
        for row in 0..rows {
            let to = self.y.row(self.sequence.y(row, self.step));
            if !to.is_empty() {
                (self.store)(&states.row(row)[..self.valid], &mut to[..self.valid * self.size]);
            }
        }
    }
}

/// Fills `order` and `lengths` from `sequence_lens`, whose values must lie in `0..=time`; without them every
/// row has all steps.
pub(super) fn arrange(
    given: Option<&[i32]>,
    time: usize,
    order: &mut [usize],
    lengths: &mut [usize],
) -> Result<(), OpError> {
    order.iter_mut().enumerate().for_each(|(i, o)| *o = i);
    lengths.fill(time);
    let Some(given) = given else { return Ok(()) };
    let length = |b: usize| given.get(b).and_then(|&l| usize::try_from(l).ok()).filter(|&l| l <= time);
    if let Some(b) = (0..order.len()).find(|&b| length(b).is_none()) {
        let value = given.get(b).copied().unwrap_or_default();
        return Err(OpError::value(format!("sequence_lens holds {value} for row {b} of {time} steps")));
    }
    let steps = |b: &usize| length(*b).unwrap_or(0);
    order.sort_unstable_by_key(|b| (std::cmp::Reverse(steps(b)), *b));
    for (to, b) in lengths.iter_mut().zip(&*order) {
        *to = steps(b);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_rows_come_first() {
        let (mut order, mut lengths) = ([0; 4], [0; 4]);
        arrange(Some(&[2, 0, 5, 2]), 5, &mut order, &mut lengths).expect("valid");
        assert_eq!((order, lengths), ([2, 0, 3, 1], [5, 2, 2, 0]));
        let sequence = Sequence {
            order: &order,
            lengths: &lengths,
            time: 5,
            batch_first: false,
            reverse: true,
            plane: 0,
            planes: 1,
        };
        assert_eq!((0..6).map(|s| sequence.active(s, 4)).collect::<Vec<_>>(), [3, 3, 1, 1, 1, 0]);
        assert_eq!((sequence.x(1, 0), sequence.x(0, 0)), (4, 4 * 4 + 2));
        assert!(arrange(Some(&[2, 0, 6, 2]), 5, &mut order, &mut lengths).is_err());
        assert!(arrange(Some(&[2, -1, 1, 2]), 5, &mut order, &mut lengths).is_err());
    }
}
