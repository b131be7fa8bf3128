//! Worker threads that run one parallel loop at a time.
//!
//! A loop is published by raising an epoch; workers spin on it for a while after their last loop and then
//! park. The caller takes part, and returns when the last part is done. While one caller holds the team,
//! others run their loops on their own thread: sessions share cores without oversubscribing them.
//!
//! A [`Gang`] is a hold on the team whose members are guaranteed to run at the same time, each on its own
//! thread and always on the same one, so that they may wait for each other.

pub(crate) mod lent;
#[cfg(test)]
mod tests;

use super::cores::Cores;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a worker polls for the next loop before it parks, where nothing else is said. Longer than the gap between two
/// operators, short enough that an idle engine uses no CPU.
pub(crate) const SPIN: Duration = Duration::from_micros(50);

/// Polls of a caller for the last worker before it offers its core to others; the worker may need this very one.
const POLLS: usize = 1 << 10;

type Body<'a> = dyn Fn(usize) + Sync + 'a;

/// A fixed set of pinned worker threads, the calling thread being one more; or threads that others lend, see [`lent`].
#[derive(Debug)]
pub(crate) struct Team {
    /// Threads beside the caller's.
    helpers: usize,
    workers: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
    /// Held by the caller whose loop runs, who may move the workers.
    turn: Mutex<Cores>,
}

#[derive(Debug, Default)]
struct Shared {
    /// How long a worker polls before it parks.
    spin: Duration,
    post: Post,
    stop: AtomicBool,
    panic: Mutex<Option<Box<dyn std::any::Any + Send>>>,
    parked: Mutex<usize>,
    wake: Condvar,
}

/// How a loop goes from the caller to the workers and back: one line of the caches, which is what it costs.
///
/// **Invariant:** the job is written only while `busy` is 0, by whoever holds the turn, and read only by workers that have
/// seen the epoch raised and not yet taken themselves off `busy`.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Post {
    /// Raised once per loop, and once to stop.
    epoch: AtomicUsize,
    /// The next part to take.
    next: AtomicUsize,
    /// Workers that have not finished with the current loop.
    busy: AtomicUsize,
    job: UnsafeCell<Option<Job>>,
}

// SAFETY: all but the job are atomics, and by the invariant no thread writes it while another may read it.
unsafe impl Sync for Post {}

#[derive(Clone, Copy)]
struct Job {
    body: *const Body<'static>,
    parts: usize,
    deal: Deal,
}

/// Which thread runs which part.
#[derive(Clone, Copy, PartialEq)]
enum Deal {
    /// Whoever is free takes the next one.
    Free,
    /// Part `i` runs on thread `i`, the caller being thread 0.
    Fixed,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Job({} parts)", self.parts)
    }
}

// SAFETY: the body is `Sync`, and `Team::for_each` keeps it alive until every worker is done with it.
unsafe impl Send for Job {}

impl Team {
    /// `threads` in all: the caller and `threads − 1` workers, each pinned to a core of its own of those that the process
    /// may use when `pin` is set.
    pub(crate) fn new(threads: usize, pin: bool) -> Self {
        Self::spinning(threads, pin, SPIN)
    }

    /// The same with another time for which workers poll before they park.
    pub(crate) fn spinning(threads: usize, pin: bool, spin: Duration) -> Self {
        let shared = Arc::new(Shared { spin, ..Shared::default() });
        let (cores, pins) =
            if pin { Cores::choose(threads.saturating_sub(1)) } else { (Cores::default(), Vec::new()) };
        let mut pins = pins.into_iter();
        let workers: Vec<JoinHandle<()>> = (1..threads.max(1))
            .filter_map(|index| {
                let (shared, pin) = (shared.clone(), pins.next());
                let spawned = std::thread::Builder::new().name(format!("recurve-{index}")).spawn(move || {
                    if let Some(pin) = pin {
                        pin.take();
                    }
                    shared.serve(index, 0);
                });
                if let Err(error) = &spawned {
                    tracing::warn!(%error, "a worker thread could not be started; running with fewer");
                }
                spawned.ok()
            })
            .collect();
        Self { helpers: workers.len(), workers, shared, turn: Mutex::new(cores) }
    }

    /// The calling thread alone.
    pub(crate) fn serial() -> Self {
        Self::new(1, false)
    }

    /// A team of the calling thread alone that everybody may use at once.
    pub(crate) fn alone() -> &'static Self {
        static ALONE: OnceLock<Team> = OnceLock::new();
        ALONE.get_or_init(Self::serial)
    }

    /// How long a worker polls before it parks.
    pub(crate) fn spin(&self) -> Duration {
        self.shared.spin
    }

    /// Threads that a loop can run on.
    pub(crate) fn threads(&self) -> usize {
        self.helpers + 1
    }

    /// Runs `body(0)`, …, `body(parts − 1)`, each once, in any order, on any of the threads. A panic in one of
    /// them is raised again here after all have ended.
    pub(crate) fn for_each(&self, parts: usize, body: &Body<'_>) {
        match if parts > 1 { self.take_turn() } else { None } {
            Some(turn) => self.publish(turn, parts, Deal::Free, body),
            None => (0..parts).for_each(body),
        }
    }

    /// The same for at most as many parts as there are threads, part `i` on thread `i`, the caller being thread 0; all
    /// of them on the calling thread while another caller holds the team.
    pub(crate) fn for_each_own(&self, parts: usize, body: &Body<'_>) {
        assert!(parts <= self.threads(), "more parts than threads");
        match if parts > 1 { self.take_turn() } else { None } {
            Some(turn) => self.publish(turn, parts, Deal::Fixed, body),
            None => (0..parts).for_each(body),
        }
    }

    /// Holds the team for members that wait for each other: at most `most` of them, and only one while
    /// another caller holds the team. `stop` is raised when one of them panics.
    pub(crate) fn gang<'t>(&'t self, most: usize, stop: &'t Stop) -> Gang<'t> {
        let turn = if most > 1 { self.take_turn() } else { None };
        let size = if turn.is_some() { most.min(self.threads()) } else { 1 };
        Gang { team: self, turn, size, stop }
    }

    fn take_turn(&self) -> Option<MutexGuard<'_, Cores>> {
        if self.helpers == 0 {
            return None;
        }
        match self.turn.try_lock() {
            Ok(turn) => Some(turn),
            // A panic passed through the holder; the cores are as they were before it or after.
            Err(TryLockError::Poisoned(turn)) => Some(turn.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn publish(&self, mut turn: MutexGuard<'_, Cores>, parts: usize, deal: Deal, body: &Body<'_>) {
        let shared = &*self.shared;
        turn.make_room();
        // SAFETY: only the lifetime is erased. Workers use the pointer between the raise of the epoch and
        // their decrement of `busy`, and this function waits for `busy == 0` before it returns or unwinds.
        #[allow(clippy::transmute_ptr_to_ptr, reason = "a cast cannot lengthen a trait object's lifetime")]
        let body_static: *const Body<'static> = unsafe { std::mem::transmute(std::ptr::from_ref(body)) };
        let (job, post) = (Job { body: body_static, parts, deal }, &shared.post);
        // SAFETY: the turn is held, and the loop before ended with `busy` at 0.
        unsafe { *post.job.get() = Some(job) }
        post.next.store(0, Ordering::Relaxed);
        post.busy.store(self.helpers, Ordering::Relaxed);
        post.epoch.fetch_add(1, Ordering::Release);
        if *lock(&shared.parked) > 0 {
            shared.wake.notify_all();
        }
        shared.take_parts(body, job, 0);
        let mut polls = 0;
        while post.busy.load(Ordering::Acquire) > 0 {
            polls += 1;
            if polls < POLLS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        let panic = lock(&shared.panic).take();
        drop(turn);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

/// A hold on the team: as many members as [`Gang::size`] run at the same time.
#[derive(Debug)]
pub(crate) struct Gang<'t> {
    team: &'t Team,
    turn: Option<MutexGuard<'t, Cores>>,
    size: usize,
    stop: &'t Stop,
}

/// A flag that ends a gang early: whoever waits for another member stops waiting once it is raised.
#[derive(Debug, Default)]
pub(crate) struct Stop(AtomicBool);

impl Stop {
    /// Tells all members to end.
    pub(crate) fn raise(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether a member ended early.
    pub(crate) fn is_raised(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Gang<'_> {
    /// Number of members that run at the same time.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Runs `body` on each of `members`, of which there are at most [`Gang::size`], all at the same time. A
    /// panic in one of them is raised again here after all have ended.
    pub(crate) fn run<M: Send>(mut self, members: &mut [M], body: &(dyn Fn(&mut M) + Sync)) {
        assert!(members.len() <= self.size, "more members than threads");
        if let [member] = members {
            return body(member);
        }
        let Some(turn) = self.turn.take() else { return };
        let (count, each) = (members.len(), Each(members.as_mut_ptr()));
        self.team.publish(turn, count, Deal::Fixed, &|index| {
            let done = catch_unwind(AssertUnwindSafe(|| {
                // SAFETY: `index < count` is inside the slice, and the team runs each part once, so this is
                // the only reference to the member while `members` stays borrowed by this call.
                body(unsafe { each.member(index) });
            }));
            if let Err(panic) = done {
                self.stop.raise();
                resume_unwind(panic);
            }
        });
    }
}

/// The members of a gang.
struct Each<M>(*mut M);

// SAFETY: each member is used by one thread, and `M` is `Send`.
unsafe impl<M: Send> Sync for Each<M> {}

impl<M> Each<M> {
    /// Member `index`.
    ///
    /// # Safety
    /// - `index` is inside the slice that the pointer was taken from, which is still borrowed;
    /// - no other reference to that member exists.
    #[allow(clippy::mut_from_ref, reason = "each member is referenced once")]
    unsafe fn member(&self, index: usize) -> &mut M {
        // SAFETY: as required above.
        unsafe { &mut *self.0.add(index) }
    }
}

impl Shared {
    fn take_parts(&self, body: &Body<'_>, job: Job, thread: usize) {
        let done = catch_unwind(AssertUnwindSafe(|| {
            if job.deal == Deal::Fixed {
                if thread < job.parts {
                    body(thread);
                }
                return;
            }
            loop {
                let part = self.post.next.fetch_add(1, Ordering::Relaxed);
                if part >= job.parts {
                    return;
                }
                body(part);
            }
        }));
        if let Err(panic) = done {
            lock(&self.panic).get_or_insert(panic);
        }
    }

    /// Takes part in loops until there are no more, from the one behind epoch `seen` on.
    fn serve(&self, thread: usize, mut seen: usize) {
        loop {
            seen = self.await_epoch(seen);
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            // SAFETY: the epoch was seen raised, and this worker is on `busy` until below.
            let job = unsafe { *self.post.job.get() };
            if let Some(job) = job {
                // SAFETY: `for_each` waits for this worker's decrement of `busy` below, so the body lives.
                let body = unsafe { &*job.body };
                self.take_parts(body, job, thread);
            }
            self.post.busy.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits until the epoch differs from `seen`.
    fn await_epoch(&self, seen: usize) -> usize {
        let changed = || {
            let now = self.post.epoch.load(Ordering::Acquire);
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
            if start.elapsed() >= self.spin {
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
        self.shared.post.epoch.fetch_add(1, Ordering::Release);
        drop(lock(&self.shared.parked));
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of bodies, so it ends only by `stop`.
            let _ = worker.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
