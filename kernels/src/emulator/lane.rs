//! Lanes: the emulated threads, and which of them the calling code is.
//!
//! A lane is a coroutine. The scheduler notes which one it resumes, on the OS thread that it runs on; the device
//! library asks for it with [`with`]. All lanes of a group run on one OS thread, so nothing here is shared.

use super::clock::{Knowledge, View};
use super::copies::Copies;
use super::group::Group;
use super::proxy::AsyncFences;
use super::report::{Fault, Meeting, Party, Report};
use corosensei::Yielder;
use std::cell::{Cell, RefCell};
use std::panic::Location;
use std::ptr;

/// A place in the source.
pub(super) type Source = &'static Location<'static>;

thread_local! {
    static RUNNING: Cell<(*const Group, usize)> = const { Cell::new((ptr::null(), 0)) };
}

/// One emulated thread.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Where it is in its block and grid.
    pub(crate) position: Position,
    /// Its number among the lanes of its group.
    pub(super) number: usize,
    /// The block's number in the group.
    pub(super) member: usize,
    /// Its number in the block.
    pub(super) rank: u32,
    yielder: Cell<*const Yielder<(), ()>>,
    pub(super) view: RefCell<View>,
    pub(super) clock: Cell<u32>,
    /// What a meeting gave it.
    pub(super) mailbox: Cell<[u32; 4]>,
    /// What it waits at.
    pub(super) waiting: Cell<Option<Meeting>>,
    /// Where it was seen last.
    pub(super) last: Cell<Source>,
    pub(super) left: Cell<bool>,
    pub(super) copies: RefCell<Copies>,
    /// The phase of the cluster's barrier that it has arrived at and not waited for.
    pub(super) cluster_phase: Cell<Option<u64>>,
    /// What a fence has released for the atomic writes behind it.
    pub(super) fenced: RefCell<Option<Knowledge>>,
    /// Its fences between the proxies.
    pub(super) async_fences: AsyncFences,
    /// What atomic reads have seen and a fence will acquire.
    pub(super) seen: RefCell<Option<Knowledge>>,
}

/// Where a lane is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    pub(crate) thread: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) block_size: [u32; 3],
    pub(crate) grid_size: [u32; 3],
    /// In its warp.
    pub(crate) lane: u32,
    pub(crate) cluster_rank: u32,
    pub(crate) cluster_size: u32,
    pub(crate) cluster_index: u32,
}

impl Lane {
    pub(super) fn new(position: Position, number: usize, member: usize, rank: u32, view: View) -> Self {
        Self {
            position,
            number,
            member,
            rank,
            yielder: Cell::new(ptr::null()),
            view: RefCell::new(view),
            clock: Cell::new(1),
            mailbox: Cell::default(),
            waiting: Cell::default(),
            last: Cell::new(Location::caller()),
            left: Cell::new(false),
            copies: RefCell::default(),
            cluster_phase: Cell::default(),
            fenced: RefCell::default(),
            async_fences: AsyncFences::default(),
            seen: RefCell::default(),
        }
    }

    /// The lane and where it was seen last.
    pub(super) fn party(&self) -> Party {
        Party { block: self.position.block, thread: self.position.thread, location: self.last.get() }
    }

    /// What it publishes; its clock goes on.
    pub(super) fn release(&self) -> Knowledge {
        let clock = self.clock.replace(self.clock.get() + 1);
        self.view.borrow().release(self.rank as u16, clock)
    }

    pub(super) fn acquire(&self, knowledge: &Knowledge) {
        self.view.borrow_mut().acquire(knowledge);
    }

    /// Runs the lane's part of a kernel on the coroutine that `yielder` belongs to.
    pub(super) fn run(&self, yielder: &Yielder<(), ()>, body: impl FnOnce()) {
        self.yielder.set(ptr::from_ref(yielder));
        body();
        self.yielder.set(ptr::null());
    }
}

/// The running lane and its group.
#[derive(Clone, Copy)]
pub(crate) struct Here<'a> {
    pub(crate) lane: &'a Lane,
    pub(super) group: &'a Group,
}

/// Calls `f` with the running lane.
///
/// # Panics
///
/// Outside an emulated launch: the device library means nothing there.
pub(crate) fn with<R>(f: impl FnOnce(Here<'_>) -> R) -> R {
    let (group, number) = RUNNING.get();
    assert!(!group.is_null(), "the device library is for kernels that the emulator runs");
    // SAFETY: `enter` has set the pointer to a group that outlives the resumption it was set for, and this code runs
    // inside that resumption.
    let group = unsafe { &*group };
    f(Here { lane: &group.lanes[number], group })
}

/// Makes `number` of `group` the running lane during `resume`.
pub(super) fn enter<R>(group: &Group, number: usize, resume: impl FnOnce() -> R) -> R {
    let before = RUNNING.replace((ptr::from_ref(group), number));
    let result = resume();
    RUNNING.set(before);
    result
}

impl Here<'_> {
    /// Gives way to other lanes until the scheduler comes back to this one.
    pub(super) fn suspend(self) {
        let yielder = self.lane.yielder.get();
        assert!(!yielder.is_null(), "only a lane that runs can be suspended");
        // SAFETY: `Lane::run` has set the pointer, not null, to the yielder of the coroutine that this code runs on,
        // and takes it back before the coroutine ends.
        unsafe { (*yielder).suspend(()) };
    }

    /// Waits at `meeting` until another lane or the scheduler wakes this one.
    pub(super) fn wait(self, meeting: Meeting) {
        self.lane.waiting.set(Some(meeting));
        self.suspend();
        self.lane.waiting.set(None);
    }

    /// Lets all others that can go on do so.
    pub(crate) fn poll(self) {
        self.group.ready.borrow_mut().push_back(self.lane.number);
        self.wait(Meeting::Polling);
    }

    /// The kernel gives up.
    pub(crate) fn trap(self, at: Source) -> ! {
        self.lane.last.set(at);
        self.fail(Fault::Misuse { what: "the kernel called trap" })
    }

    /// Ends the launch with a report about this lane.
    pub(super) fn fail(self, fault: Fault) -> ! {
        self.fail_for(self.lane, fault)
    }

    /// Ends the launch with a report about another lane.
    pub(super) fn fail_for(self, lane: &Lane, fault: Fault) -> ! {
        let report = Report::new(self.group.run.kernel, Some(lane.party()), fault);
        self.group.fault.borrow_mut().get_or_insert(report);
        loop {
            self.suspend();
        }
    }
}
