//! A vector of state that several threads compute together step by step: each writes its own columns of the
//! next state while all read the whole of the current one.
//!
//! Two buffers take turns. In epoch `e` every member reads buffer `e mod 2` and writes its columns of buffer
//! `(e + 1) mod 2`; [`Member::advance`] waits until all members have done so. Nobody reads a buffer that is
//! being written: a member in epoch `e + 1` has passed the barrier that all members reached after their last
//! access of epoch `e`. A member that stops waiting because the gang was stopped loses access for good.

use crate::exec::Stop;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Polls before a waiting thread offers its core to others: longer than the members of a balanced gang differ,
/// short beside a time slice, since the member that is waited for may need this very core.
const SPINS: usize = 1 << 9;

/// The state and its barrier.
#[derive(Debug)]
pub(crate) struct Relay<'a> {
    stop: &'a Stop,
    /// Members, set once they are made.
    count: usize,
    arrived: Padded,
    epoch: Padded,
}

/// A counter alone on its cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded(AtomicUsize);

/// One thread's hold on the state: `[rows, stride]` elements in each buffer.
#[derive(Debug)]
pub(crate) struct Member<'r, T> {
    relay: &'r Relay<'r>,
    buffers: [*mut T; 2],
    rows: usize,
    stride: usize,
    columns: Range<usize>,
    epoch: usize,
    /// Whether the member stopped waiting, and so lost its access.
    lost: bool,
    _buffers: PhantomData<&'r mut [T]>,
}

// SAFETY: a member reads shared elements and writes its own columns, by the protocol of the module.
unsafe impl<T: Send + Sync> Send for Member<'_, T> {}

/// The gang was stopped.
#[derive(Debug)]
pub(crate) struct Stopped;

/// Own columns of the next state.
#[derive(Debug)]
pub(crate) struct Next<'m, T> {
    base: *mut T,
    rows: usize,
    stride: usize,
    columns: Range<usize>,
    _own: PhantomData<&'m mut [T]>,
}

impl<'a> Relay<'a> {
    /// A relay of `count` members that end when `stop` is raised.
    pub(crate) fn new(count: usize, stop: &'a Stop) -> Self {
        Self { stop, count, arrived: Padded::default(), epoch: Padded::default() }
    }

    /// Calls `each` with one member per range of `columns`, which must be disjoint parts of a row and as many
    /// as the relay has members; `front` is the first state, of the size of `back`. `false` when that does not
    /// hold.
    pub(crate) fn members<'r, T>(
        &'r mut self,
        [front, back]: [&'r mut [T]; 2],
        stride: usize,
        columns: impl ExactSizeIterator<Item = Range<usize>>,
        mut each: impl FnMut(Member<'r, T>),
    ) -> bool {
        let relay: &'r Self = self;
        let rows = front.len().checked_div(stride).unwrap_or(0);
        if front.len() != back.len() || columns.len() != relay.count {
            return false;
        }
        let buffers = [front.as_mut_ptr(), back.as_mut_ptr()];
        let mut at = 0;
        for columns in columns {
            // Ascending and without overlap, so a later range never touches an earlier one.
            if columns.start < at || columns.end < columns.start || columns.end > stride {
                return false;
            }
            at = columns.end;
            each(Member {
                relay,
                buffers,
                rows,
                stride,
                columns,
                epoch: 0,
                lost: false,
                _buffers: PhantomData,
            });
        }
        true
    }

    fn wait(&self, epoch: usize) -> Result<(), Stopped> {
        if self.count <= 1 {
            return Ok(());
        }
        if self.arrived.0.fetch_add(1, Ordering::AcqRel) + 1 == self.count {
            self.arrived.0.store(0, Ordering::Relaxed);
            self.epoch.0.store(epoch + 1, Ordering::Release);
            return Ok(());
        }
        let mut polls = 0;
        while self.epoch.0.load(Ordering::Acquire) == epoch {
            if self.stop.is_raised() {
                return Err(Stopped);
            }
            polls += 1;
            if polls < SPINS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        Ok(())
    }
}

impl<T> Member<'_, T> {
    /// The whole current state, and the own columns of the next one. Both are empty after the gang was
    /// stopped.
    pub(crate) fn state(&mut self) -> (&[T], Next<'_, T>) {
        let rows = if self.lost { 0 } else { self.rows };
        let [front, back] =
            if self.epoch.is_multiple_of(2) { self.buffers } else { [self.buffers[1], self.buffers[0]] };
        // SAFETY: the pointer comes from a slice of `rows · stride` elements that is borrowed for the relay's
        // lifetime; in this epoch no member writes this buffer.
        let current = unsafe { std::slice::from_raw_parts(front, rows * self.stride) };
        let (stride, columns) = (self.stride, self.columns.clone());
        (current, Next { base: back, rows, stride, columns, _own: PhantomData })
    }

    /// Waits until every member has computed its part of the next state, which becomes the current one.
    pub(crate) fn advance(&mut self) -> Result<(), Stopped> {
        let passed = if self.lost { Err(Stopped) } else { self.relay.wait(self.epoch) };
        match passed {
            Ok(()) => self.epoch += 1,
            Err(Stopped) => self.lost = true,
        }
        passed
    }
}

impl<T> Next<'_, T> {
    /// Own columns of row `row`; what they hold at first is the state before the current one.
    pub(crate) fn row(&mut self, row: usize) -> &mut [T] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        let Range { start, end } = self.columns;
        // SAFETY: `row < rows` and `end ≤ stride`, so the range is inside the buffer; the columns of members
        // are disjoint, nobody reads this buffer in this epoch, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(row * self.stride + start), end - start) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::Team;

    #[test]
    fn members_see_each_others_state_every_step() {
        let (threads, width) = (3, 4);
        let team = Team::new(threads, false);
        let stop = Stop::default();
        let gang = team.gang(threads, &stop);
        assert_eq!(gang.size(), threads);
        let (mut front, mut back) = (vec![1u64; 2 * threads * width], vec![0; 2 * threads * width]);
        let mut relay = Relay::new(threads, &stop);
        let mut members = Vec::new();
        let columns = (0..threads).map(|i| i * width..(i + 1) * width);
        assert!(relay.members([&mut front, &mut back], threads * width, columns, |m| members.push(m)));
        gang.run(&mut members, &|member| {
            for _ in 0..20 {
                let (current, mut next) = member.state();
                for row in 0..2 {
                    let sum: u64 = current[row * threads * width..][..threads * width].iter().sum();
                    next.row(row).fill(sum % 1_000_003);
                }
                member.advance().expect("nobody stops");
            }
        });
        let want = (0..20).fold(1u64, |v, _| v * 12 % 1_000_003);
        assert!(front.iter().all(|&v| v == want), "{front:?} {want}");
    }

    #[test]
    fn a_stopped_gang_frees_waiting_members() {
        let team = Team::new(2, false);
        let stop = Stop::default();
        let gang = team.gang(2, &stop);
        let (mut front, mut back) = (vec![0u8; 2], vec![0; 2]);
        let mut relay = Relay::new(2, &stop);
        let mut members = Vec::new();
        let columns = (0..2).map(|i| i..i + 1);
        assert!(relay.members([&mut front, &mut back], 2, columns, |m| members.push((members.len(), m))));
        gang.run(&mut members, &|(index, member)| {
            if *index == 0 {
                stop.raise();
            } else {
                assert!(member.advance().is_err());
                assert!(member.advance().is_err());
                assert!(member.state().0.is_empty());
            }
        });
    }

    #[test]
    fn overlapping_columns_are_refused() {
        let stop = Stop::default();
        let (mut front, mut back) = (vec![0u8; 4], vec![0; 4]);
        let mut relay = Relay::new(2, &stop);
        let columns = [0..3, 2..4].into_iter();
        assert!(!relay.members([&mut front, &mut back], 4, columns, |_| ()));
    }
}
