//! The core that each worker of a team is pinned to, and the one that is left to the caller.
//!
//! A caller is a thread of the program that links Recurve: it is not pinned, and the system may move it onto the core of
//! a worker at any time. The two would then take turns on one core while another is idle, and every loop would last a
//! wait longer. Before a loop is published, the worker whose core the caller runs on is therefore moved to the core that
//! was left for him.

use std::sync::{Arc, OnceLock};

/// The cores of a team's workers; empty where they are not pinned.
#[derive(Debug, Default)]
pub(crate) struct Cores {
    workers: Vec<Seat>,
    /// The core that no worker is pinned to.
    left: usize,
}

/// A pinned worker.
#[derive(Debug)]
struct Seat {
    core: usize,
    /// Told by the worker when it starts.
    thread: Arc<OnceLock<Thread>>,
}

#[cfg(target_os = "linux")]
type Thread = rustix::thread::Pid;
#[cfg(not(target_os = "linux"))]
type Thread = ();

/// Pins a worker to the core that was chosen for it.
#[derive(Debug)]
pub(crate) struct Pin {
    core: core_affinity::CoreId,
    thread: Arc<OnceLock<Thread>>,
}

impl Cores {
    /// Cores for `workers` workers beside the caller, one each, and the pins that the workers take; no pins where the
    /// process may use fewer cores than there are threads.
    pub(crate) fn choose(workers: usize) -> (Self, Vec<Pin>) {
        let mut cores = core_affinity::get_core_ids().unwrap_or_default();
        if cores.len() <= workers {
            return (Self::default(), Vec::new());
        }
        if let Some(own) = cores.iter().position(|core| Some(core.id) == current()) {
            cores.swap(0, own);
        }
        let pins: Vec<Pin> =
            cores[1..=workers].iter().map(|&core| Pin { core, thread: Arc::default() }).collect();
        let seats = pins.iter().map(|pin| Seat { core: pin.core.id, thread: pin.thread.clone() }).collect();
        (Self { workers: seats, left: cores[0].id }, pins)
    }

    /// Moves the worker whose core the caller runs on to the core that was left for the caller. Where the system does not
    /// let it, everything stays as it is.
    #[inline]
    pub(crate) fn make_room(&mut self) {
        let Some(here) = current() else { return };
        let Self { workers, left } = self;
        if let Some(seat) = workers.iter_mut().find(|seat| seat.core == here)
            && seat.thread.get().is_some_and(|&thread| pin(thread, *left))
        {
            std::mem::swap(&mut seat.core, left);
        }
    }
}

impl Pin {
    /// Pins the calling thread, which is the worker.
    pub(crate) fn take(self) {
        core_affinity::set_for_current(self.core);
        #[cfg(target_os = "linux")]
        let thread = rustix::thread::gettid();
        #[cfg(not(target_os = "linux"))]
        let thread = ();
        let _ = self.thread.set(thread);
    }
}

/// The core that the calling thread runs on now, where the system tells.
pub(crate) fn current() -> Option<usize> {
    #[cfg(target_os = "linux")]
    return Some(rustix::thread::sched_getcpu());
    #[cfg(not(target_os = "linux"))]
    None
}

/// Lets `thread` run on `core` only; whether the system did so.
fn pin(thread: Thread, core: usize) -> bool {
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{CpuSet, sched_setaffinity};
        let mut set = CpuSet::new();
        if core >= CpuSet::MAX_CPU {
            return false;
        }
        set.set(core);
        sched_setaffinity(Some(thread), &set).is_ok()
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (thread, core);
        false
    }
}
