//! Worker threads that run one parallel loop at a time.
//!
//! A loop is published by raising an epoch; workers spin on it for a while after their last loop and then
//! park. The caller takes part, and returns when the last part is done. While one caller holds the team,
//! others run their loops on their own thread: sessions share cores without oversubscribing them.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a worker polls for the next loop before it parks. Longer than the gap between two operators,
/// short enough that an idle engine uses no CPU.
const SPIN: Duration = Duration::from_micros(50);

type Body<'a> = dyn Fn(usize) + Sync + 'a;

/// A fixed set of pinned worker threads, the calling thread being one more.
#[derive(Debug)]
pub(crate) struct Team {
    workers: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
    /// Held by the caller whose loop runs.
    turn: Mutex<()>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Raised once per loop, and once to stop.
    epoch: AtomicUsize,
    stop: AtomicBool,
    job: Mutex<Option<Job>>,
    /// The next part to take.
    next: AtomicUsize,
    /// Workers that have not finished with the current loop.
    busy: AtomicUsize,
    panic: Mutex<Option<Box<dyn std::any::Any + Send>>>,
    parked: Mutex<usize>,
    wake: Condvar,
}

#[derive(Clone, Copy)]
struct Job {
    body: *const Body<'static>,
    parts: usize,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Job({} parts)", self.parts)
    }
}

// SAFETY: the body is `Sync`, and `Team::for_each` keeps it alive until every worker is done with it.
unsafe impl Send for Job {}

impl Team {
    /// `threads` in all: the caller and `threads − 1` workers, pinned to cores 1, 2, … of those that the
    /// process may use when `pin` is set.
    pub(crate) fn new(threads: usize, pin: bool) -> Self {
        let shared = Arc::new(Shared::default());
        let cores = if pin { core_affinity::get_core_ids().unwrap_or_default() } else { Vec::new() };
        let workers = (1..threads.max(1))
            .filter_map(|index| {
                let shared = shared.clone();
                let core = (cores.len() >= threads).then(|| cores[index]);
                let spawned = std::thread::Builder::new().name(format!("recurve-{index}")).spawn(move || {
                    if let Some(core) = core {
                        core_affinity::set_for_current(core);
                    }
                    shared.serve();
                });
                if let Err(error) = &spawned {
                    tracing::warn!(%error, "a worker thread could not be started; running with fewer");
                }
                spawned.ok()
            })
            .collect();
        Self { workers, shared, turn: Mutex::new(()) }
    }

    /// The calling thread alone.
    pub(crate) fn serial() -> Self {
        Self::new(1, false)
    }

    /// Threads that a loop can run on.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `body(0)`, …, `body(parts − 1)`, each once, in any order, on any of the threads. A panic in one of
    /// them is raised again here after all have ended.
    pub(crate) fn for_each(&self, parts: usize, body: &Body<'_>) {
        let turn = if parts > 1 && !self.workers.is_empty() { self.turn.try_lock().ok() } else { None };
        if turn.is_none() {
            (0..parts).for_each(body);
            return;
        }
        let shared = &*self.shared;
        // SAFETY: only the lifetime is erased. Workers use the pointer between the raise of the epoch and
        // their decrement of `busy`, and this function waits for `busy == 0` before it returns or unwinds.
        let body_static: *const Body<'static> = unsafe { std::mem::transmute(std::ptr::from_ref(body)) };
        *lock(&shared.job) = Some(Job { body: body_static, parts });
        shared.next.store(0, Ordering::Relaxed);
        shared.busy.store(self.workers.len(), Ordering::Relaxed);
        shared.epoch.fetch_add(1, Ordering::Release);
        if *lock(&shared.parked) > 0 {
            shared.wake.notify_all();
        }
        shared.take_parts(body, parts);
        while shared.busy.load(Ordering::Acquire) > 0 {
            std::hint::spin_loop();
        }
        *lock(&shared.job) = None;
        let panic = lock(&shared.panic).take();
        drop(turn);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Shared {
    fn take_parts(&self, body: &Body<'_>, parts: usize) {
        let done = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let part = self.next.fetch_add(1, Ordering::Relaxed);
                if part >= parts {
                    return;
                }
                body(part);
            }
        }));
        if let Err(panic) = done {
            lock(&self.panic).get_or_insert(panic);
        }
    }

    fn serve(&self) {
        let mut seen = 0;
        loop {
            seen = self.await_epoch(seen);
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            let job = *lock(&self.job);
            if let Some(job) = job {
                // SAFETY: `for_each` waits for this worker's decrement of `busy` below, so the body lives.
                let body = unsafe { &*job.body };
                self.take_parts(body, job.parts);
            }
            self.busy.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits until the epoch differs from `seen`.
    fn await_epoch(&self, seen: usize) -> usize {
        let changed = || {
            let now = self.epoch.load(Ordering::Acquire);
            (now != seen).then_some(now)
        };
        let start = Instant::now();
        loop {
            for _ in 0..64 {
                if let Some(now) = changed() {
                    return now;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() > SPIN {
                break;
            }
        }
        // The epoch is read again under the lock that the publisher takes after raising it: either it sees
        // this worker counted as parked and wakes it, or this worker sees the new epoch.
        let mut parked = lock(&self.parked);
        *parked += 1;
        loop {
            if let Some(now) = changed() {
                *parked -= 1;
                return now;
            }
            parked = self.wake.wait(parked).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.epoch.fetch_add(1, Ordering::Release);
        drop(lock(&self.shared.parked));
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of bodies, so it ends only by `stop`.
            let _ = worker.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_every_part_once_from_several_callers() {
        let team = Team::new(3, false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for parts in 0..200 {
                        let hits: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
                        team.for_each(parts, &|i| {
                            hits[i].fetch_add(1, Ordering::Relaxed);
                        });
                        assert!(hits.iter().all(|h| h.load(Ordering::Relaxed) == 1));
                    }
                });
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_team_stays_usable() {
        let team = Team::new(2, false);
        for _ in 0..20 {
            let raised = catch_unwind(AssertUnwindSafe(|| team.for_each(8, &|i| assert!(i != 5, "planted"))));
            assert!(raised.is_err());
            let sum = AtomicUsize::new(0);
            team.for_each(8, &|i| {
                sum.fetch_add(i, Ordering::Relaxed);
            });
            assert_eq!(sum.load(Ordering::Relaxed), 28);
        }
    }

    #[test]
    fn wakes_after_parking() {
        let team = Team::new(2, false);
        for _ in 0..5 {
            std::thread::sleep(4 * SPIN);
            let sum = AtomicUsize::new(0);
            team.for_each(2, &|_| {
                sum.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(sum.load(Ordering::Relaxed), 2);
        }
    }
}
