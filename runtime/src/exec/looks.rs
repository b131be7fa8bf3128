//! Looks at the deadline within one long piece of work.

use super::Interrupt;
use crate::error::OpError;

/// Looks at what may end a run early, once every so many elements, so that work on one long row or line ends soon and work on
/// short ones costs an addition.
#[derive(Debug)]
pub(crate) struct Looks<'a> {
    interrupt: &'a Interrupt,
    since: usize,
    /// What ended the work.
    ended: Option<OpError>,
}

impl<'a> Looks<'a> {
    /// Elements between two looks; in tests of this crate so few that what is long is quick to compute.
    pub(crate) const EVERY: usize = if cfg!(test) { 1 << 12 } else { 1 << 20 };

    /// Of which the first look is [`Looks::EVERY`] elements from here.
    pub(crate) fn new(interrupt: &'a Interrupt) -> Self {
        Self { interrupt, since: 0, ended: None }
    }

    /// That so many elements more are done. Errs once the deadline has passed or the token was cancelled.
    #[inline]
    pub(crate) fn past(&mut self, elements: usize) -> Result<(), OpError> {
        self.since = self.since.saturating_add(elements);
        if self.since < Self::EVERY {
            return Ok(());
        }
        self.since = 0;
        self.interrupt.check()
    }

    /// The same for loops that have no errors to hand on: whether the work is over. [`Looks::end`] has the error.
    #[inline]
    pub(crate) fn is_over(&mut self, elements: usize) -> bool {
        self.since = self.since.saturating_add(elements);
        self.since >= Self::EVERY && self.look()
    }

    #[cold]
    fn look(&mut self) -> bool {
        self.since = 0;
        if self.ended.is_none() {
            self.ended = self.interrupt.check().err();
        }
        self.ended.is_some()
    }

    /// Errs where a look found that the work is over.
    pub(crate) fn end(self) -> Result<(), OpError> {
        self.ended.map_or(Ok(()), Err)
    }

    /// Parts of a line of `length` elements between which to look where a step along it passes `width` of them.
    pub(crate) fn steps(length: usize, width: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
        let whole = length.saturating_mul(width) <= Self::EVERY;
        let many = if whole { length.max(1) } else { (Self::EVERY / width).max(1) };
        (0..length).step_by(many).map(move |from| from..length.min(from.saturating_add(many)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_so_many_elements_apart() {
        let interrupt = Interrupt::after(2);
        let mut looks = Looks::new(&interrupt);
        let mut past = 0;
        while looks.past(1 << 8).is_ok() {
            past += 1 << 8;
        }
        assert_eq!(past, 3 * Looks::EVERY - (1 << 8), "the third look ends it");
    }

    #[test]
    fn steps_are_all_of_a_line() {
        for (length, width) in
            [(0, 1), (1, 1), (5 * Looks::EVERY, 1), (7, 2 * Looks::EVERY), (1000, 1 << 7), (3, 0)]
        {
            let mut next = 0;
            for part in Looks::steps(length, width) {
                assert!(part.start == next && !part.is_empty(), "{part:?}");
                assert!(part.len() == 1 || part.len() * width <= Looks::EVERY, "{part:?} of {width}");
                next = part.end;
            }
            assert_eq!(next, length);
        }
    }
}
