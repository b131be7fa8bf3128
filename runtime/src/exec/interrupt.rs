//! Deadline and cancellation of a run.

use crate::error::OpError;
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Cancels the runs that were given it, from any thread. Clones cancel together.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<State>);

#[derive(Debug, Default)]
struct State {
    cancelled: AtomicBool,
    /// After so many looks it is cancelled; 0 is never.
    #[cfg(test)]
    looks: AtomicUsize,
}

impl CancelToken {
    /// A token that has not been cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels. Runs end with [`crate::ErrorKind::Cancelled`] soon after; the session stays usable.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        #[cfg(test)]
        if self.0.looks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            == Ok(1)
        {
            self.cancel();
        }
        self.0.cancelled.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
impl CancelToken {
    /// A token that is cancelled at the look after the first `looks`.
    pub(crate) fn after(looks: usize) -> Self {
        let token = Self::new();
        token.0.looks.store(looks + 1, Ordering::Relaxed);
        token
    }

    /// How many looks more it stays what it is.
    pub(crate) fn left(&self) -> usize {
        self.0.looks.load(Ordering::Relaxed).saturating_sub(1)
    }
}

/// What may end a run early.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt {
    pub(crate) deadline: Option<Instant>,
    pub(crate) cancel: Option<CancelToken>,
}

impl Interrupt {
    /// Interrupts at the look after the first `looks`.
    #[cfg(test)]
    pub(crate) fn after(looks: usize) -> Self {
        Self { deadline: None, cancel: Some(CancelToken::after(looks)) }
    }

    /// Errs once the deadline has passed or the token was cancelled.
    pub(crate) fn check(&self) -> Result<(), OpError> {
        if self.cancel.as_ref().is_some_and(CancelToken::is_cancelled) {
            return Err(OpError::Cancelled);
        }
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(OpError::Deadline),
            _ => Ok(()),
        }
    }

    /// Copies `from` to `to`, which is as long, piece by piece, unless that is interrupted.
    pub(crate) fn copy(&self, to: &mut [u8], from: &[u8]) -> Result<(), OpError> {
        /// Bytes between two looks at the deadline.
        const PIECE: usize = 16 << 20;
        if to.len() <= PIECE {
            to.copy_from_slice(from);
            return Ok(());
        }
        for (to, from) in to.chunks_mut(PIECE).zip(from.chunks(PIECE)) {
            self.check()?;
            to.copy_from_slice(from);
        }
        Ok(())
    }
}
