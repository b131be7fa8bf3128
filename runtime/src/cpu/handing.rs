//! Rows that one thread makes, one behind the other, and another reads while the rest are being made.

use super::relay::Stopped;
use crate::exec::Stop;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Polls before a waiting thread offers its core to others: the thread that is waited for may need this very core.
const SPINS: usize = 1 << 9;

/// The rows, and how many of them are there.
///
/// **Invariant:** a row is written once, by the giver, before it is counted; whoever reads, reads rows that are counted.
#[derive(Debug)]
pub(crate) struct Handing<'a> {
    rows: *mut u8,
    /// Bytes of a row.
    width: usize,
    count: usize,
    made: Made,
    /// Raised when the giver ends early.
    stop: &'a Stop,
    _rows: PhantomData<&'a mut [u8]>,
}

/// Alone on its cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Made(AtomicUsize);

// SAFETY: by the invariant no thread writes bytes that another may read.
unsafe impl Sync for Handing<'_> {}

/// The end that makes rows.
#[derive(Debug)]
pub(crate) struct Giver<'h> {
    handing: &'h Handing<'h>,
    given: usize,
}

/// The end that reads them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taker<'h> {
    handing: &'h Handing<'h>,
}

impl<'a> Handing<'a> {
    /// Room for as many rows of `width` bytes as `memory` holds.
    pub(crate) fn new(memory: &'a mut [u8], width: usize, stop: &'a Stop) -> Self {
        let count = memory.len().checked_div(width).unwrap_or(0);
        let rows = memory.as_mut_ptr();
        Self { rows, width, count, made: Made::default(), stop, _rows: PhantomData }
    }

    /// Both ends.
    pub(crate) fn ends<'h>(&'h mut self) -> (Giver<'h>, Taker<'h>)
    where
        'a: 'h,
    {
        *self.made.0.get_mut() = 0;
        let handing: &'h Handing<'h> = self;
        (Giver { handing, given: 0 }, Taker { handing })
    }
}

impl Giver<'_> {
    /// Makes the next row.
    pub(crate) fn give(&mut self, row: &[u8]) {
        let Handing { rows, width, count, made, .. } = self.handing;
        assert!(row.len() == *width && self.given < *count, "row {} of {count}", self.given);
        // SAFETY: the row lies in the memory that is borrowed for the handing's lifetime; this is the only giver, and none
        // of its rows was counted before, so that nobody reads this one.
        unsafe { std::ptr::copy_nonoverlapping(row.as_ptr(), rows.add(self.given * width), *width) }
        self.given += 1;
        made.0.store(self.given, Ordering::Release);
    }
}

impl<'h> Taker<'h> {
    /// The first `rows` rows, once they are there.
    pub(crate) fn first(self, rows: usize) -> Result<&'h [u8], Stopped> {
        let Handing { rows: start, width, count, made, stop, .. } = self.handing;
        assert!(rows <= *count, "{rows} rows of {count}");
        let mut polls = 0;
        while made.0.load(Ordering::Acquire) < rows {
            if stop.is_raised() {
                return Err(Stopped);
            }
            polls += 1;
            if polls < SPINS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        // SAFETY: the rows lie in the memory that is borrowed for the handing's lifetime, and are counted: nobody writes them
        // any more.
        Ok(unsafe { std::slice::from_raw_parts(*start, rows * width) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::Team;

    #[test]
    fn rows_are_read_while_others_are_made() {
        let team = Team::new(2, false);
        let stop = Stop::default();
        let gang = team.gang(2, &stop);
        let mut memory = vec![0; 1000 * 3];
        let mut handing = Handing::new(&mut memory, 3, &stop);
        let (giver, taker) = handing.ends();
        let mut members = [(Some(giver), None), (None, Some(taker))];
        gang.run(&mut members, &|(giver, taker)| {
            if let Some(giver) = giver {
                (0..1000).for_each(|row| giver.give(&[row as u8, (row >> 8) as u8, 7]));
            }
            if let Some(taker) = taker {
                for count in (1..=1000).step_by(3) {
                    let rows = taker.first(count).expect("nobody stops");
                    let last = rows.as_chunks::<3>().0[count - 1];
                    assert_eq!(last, [(count - 1) as u8, ((count - 1) >> 8) as u8, 7]);
                }
            }
        });
    }

    #[test]
    fn who_waits_for_rows_that_never_come_is_stopped() {
        let stop = Stop::default();
        let mut memory = [0; 4];
        let mut handing = Handing::new(&mut memory, 2, &stop);
        let (mut giver, taker) = handing.ends();
        giver.give(&[1, 2]);
        stop.raise();
        assert_eq!(taker.first(1).expect("is there"), [1, 2]);
        assert!(taker.first(2).is_err());
    }
}
